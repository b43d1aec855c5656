//! TLS over an open connection, and what its failures mean.
//!
//! # Invariants
//!
//! - Where TLS was asked for, nothing is ever sent in the clear: a failure is final for the connection, and no other
//!   one is made without TLS in its place.
//! - A certificate that is not believed, ours or the server's, ends the run. A connection that breaks during the
//!   handshake is tried again like any other.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, ProtocolVersion};
use tokio::io::{
    AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::{LinkError, Stream};
use crate::endpoint::{Address, Side};
use crate::key::Escaped;
use crate::tls::{Flaw, Refused, Tls};

/// What is read from the socket at once. rustls asks for 4 KiB at a time, which would be four system calls a record.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// As much of a server's first words as is kept, to be recognised and shown.
const FIRST_BYTES_KEPT: usize = 48;
/// A server that has not answered a greeting for this long is suspected to wait for the end of a command. Far above a
/// round trip, and below what a node is given while there are others to be asked.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(500);
/// How long a server may think about our certificate before we go on without its word.
const VERDICT_MAX: Duration = Duration::from_millis(250);
/// More than Redis takes for a command without an end (`PROTO_INLINE_MAX_SIZE`, 64 KiB).
const NO_COMMAND_BYTES: usize = 66_000;

/// What is wrong with TLS between us and a server. Nothing of it passes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsError {
    /// The server's certificate is not believed; why, and what it says of itself.
    Certificate(Flaw, String),
    /// The server asks for a certificate, and we have none.
    CertificateWanted,
    /// The server does not believe our certificate; its alert.
    CertificateRefused(String),
    /// The server speaks without TLS; its words.
    NotSpoken(String),
    /// The server speaks TLS, and we did not.
    Wanted,
    /// Both sides have no way of speaking in common.
    NothingInCommon(String),
    /// No certificate can be for a host of this name.
    NoName(String),
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self, side: Side) -> String {
        let flag = match side {
            Side::Source => "from",
            Side::Target => "to",
        };
        match self {
            Self::Certificate(Flaw::Dates, _) => {
                "the certificate has to be renewed on the server, or a clock is wrong".to_owned()
            }
            Self::Certificate(Flaw::Name, _) => format!(
                "give the server by a name that it is for, or say with --{flag}-sni NAME which one to expect"
            ),
            Self::Certificate(Flaw::Authority, _) => format!(
                "--{flag}-cacert FILE names the authority that has signed it, if you know it"
            ),
            Self::Certificate(Flaw::Other, _) => {
                "the server has to be given another certificate".to_owned()
            }
            Self::CertificateWanted | Self::CertificateRefused(_) => format!(
                "--{flag}-cert FILE and --{flag}-key FILE give it one that an authority of the server has signed"
            ),
            Self::NotSpoken(_) => format!(
                "give the server's TLS port, or redis:// (without --{flag}-tls) to speak in the clear"
            ),
            Self::Wanted => format!("write rediss:// instead of redis://, or give --{flag}-tls"),
            Self::NothingInCommon(_) => {
                "redknot speaks TLS 1.2 and 1.3; look at the server's tls-protocols and tls-ciphers"
                    .to_owned()
            }
            Self::NoName(_) => format!("--{flag}-sni NAME says which name the certificate has"),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(_, why) => f.write_str(why),
            Self::CertificateWanted => {
                f.write_str("the server wants a certificate from us, and none was given")
            }
            Self::CertificateRefused(alert) => {
                write!(f, "the server does not take our certificate: {alert}")
            }
            Self::NotSpoken(answer) => {
                write!(f, "what listens there speaks without TLS: \"{answer}\"")
            }
            Self::Wanted => f.write_str("what listens there speaks TLS, and was spoken to without"),
            Self::NothingInCommon(why) => write!(f, "no common way of speaking TLS: {why}"),
            Self::NoName(host) => write!(f, "no certificate can be for \"{host}\""),
        }
    }
}

impl From<TlsError> for LinkError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// Encrypts a fresh connection to `host`, and returns it when the server is believed and, as far as it says so, we are.
///
/// # Errors
///
/// [`LinkError::Tls`] for what will be the same the next time, others for a connection that broke.
pub(super) async fn encrypt(
    tls: &Tls,
    host: &str,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, LinkError> {
    let name = tls
        .name_of(host)
        .ok_or_else(|| TlsError::NoName(Escaped(host.as_bytes()).to_string()))?;
    let peer = stream.peer_addr()?;
    let stream = BufReader::with_capacity(READ_AHEAD_BYTES, FirstBytes::of(stream));
    let greeting = TlsConnector::from(tls.config()).connect(name, stream);
    let greeted = tokio::select! {
        greeted = greeting.into_fallible() => greeted,
        answer = words_without_tls(peer) => return Err(TlsError::NotSpoken(answer).into()),
    };
    let mut stream = match greeted {
        Ok(stream) => stream,
        Err((error, stream)) => return Err(failed(tls, &error, &stream.get_ref().kept)),
    };
    if tls.was_asked_for_certificate() {
        verdict(&mut stream).await?;
    }
    Ok(Box::new(stream))
}

/// What a server without TLS says at `peer`, once it is suspected; never returns where none does.
///
/// Redis does not answer a greeting: it waits for the end of the command that it takes it for. So a second connection
/// is sent more than a command may have, of bytes that are neither TLS nor a command, until it complains.
async fn words_without_tls(peer: std::net::SocketAddr) -> String {
    tokio::time::sleep(SUSPICIOUS_SILENCE).await;
    let ask = async || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(peer).await?;
        stream.write_all(&vec![0; NO_COMMAND_BYTES]).await?;
        let mut answer = Vec::new();
        let kept = FIRST_BYTES_KEPT as u64;
        stream.take(kept).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    match ask().await {
        Ok(answer) if !answer.is_empty() && !is_tls(&answer) => first_line(&answer),
        // It has not said anything that proves something: the greeting may still be answered.
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

/// Whether TLS is spoken at an address where our plain words were not understood. Sends a greeting and nothing else.
pub(super) async fn is_spoken_at(address: &Address, timeout: Duration) -> bool {
    let Address::Tcp { host, port } = address else {
        return false;
    };
    let greet = async || -> Option<bool> {
        let stream = TcpStream::connect((host.as_str(), *port)).await.ok()?;
        let tls = Tls::to_ask_whether();
        let connector = TlsConnector::from(tls.config());
        let greeting = connector.connect(tls.name_of(host)?, FirstBytes::of(stream));
        match greeting.into_fallible().await {
            Ok(_) => Some(true),
            Err((_, stream)) => Some(is_tls(&stream.kept)),
        }
    };
    let greeted = tokio::time::timeout(timeout, greet()).await;
    matches!(greeted, Ok(Some(true)))
}

/// Whether a server's first bytes are a record of TLS 1.0 or newer: an alert, or an answer to a greeting.
pub(super) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..])
}

/// With TLS 1.3 our handshake is over before the server has seen our certificate. What it thinks of it comes behind,
/// and has to be read before anything is written: the reset that answers the writing could overtake it.
async fn verdict(stream: &mut TlsStream<BufReader<FirstBytes>>) -> Result<(), LinkError> {
    if stream.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(());
    }
    let heard = std::future::poll_fn(|context| {
        let polled = Pin::new(&mut *stream).poll_fill_buf(context);
        match polled.map_ok(<[u8]>::is_empty) {
            Poll::Ready(Ok(true)) => Poll::Ready(Err(LinkError::Closed)),
            Poll::Ready(Ok(false)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            // Tickets are sent to those who are let in.
            Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::time::timeout(VERDICT_MAX, heard)
        .await
        .unwrap_or(Ok(()))
}

/// Why a handshake failed. `first` are the server's first bytes.
fn failed(tls: &Tls, error: &io::Error, first: &[u8]) -> LinkError {
    if !first.is_empty() && !is_tls(first) {
        return TlsError::NotSpoken(first_line(first)).into();
    }
    let wanted = tls.was_asked_for_certificate() && !tls.has_certificate();
    match of_rustls(error) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
            let (flaw, why) = match other.0.downcast_ref::<Refused>() {
                Some(refused) => (refused.flaw, refused.to_string()),
                None => (
                    Flaw::Other,
                    format!("the certificate can't be believed: {}", other.0),
                ),
            };
            TlsError::Certificate(flaw, why).into()
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = format!("the certificate can't be believed: {why}");
            TlsError::Certificate(Flaw::Other, why).into()
        }
        // What TLS 1.2 says instead of "a certificate is required".
        Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)) if wanted => {
            TlsError::CertificateWanted.into()
        }
        Some(rustls::Error::AlertReceived(alert)) => match about_our_certificate(*alert) {
            Some(error) => error.into(),
            None => TlsError::NothingInCommon(format!("the server answers {alert:?}")).into(),
        },
        Some(rustls::Error::PeerIncompatible(why)) => {
            TlsError::NothingInCommon(format!("{why:?}")).into()
        }
        // Bytes that were changed on the way, or a connection that broke.
        Some(other) => LinkError::Connect(format!("the TLS handshake failed: {other}")),
        None if error.kind() == io::ErrorKind::UnexpectedEof => LinkError::Connect(
            "the server closed the connection during the TLS handshake".to_owned(),
        ),
        None => LinkError::Connect(format!("the TLS handshake failed: {error}")),
    }
}

/// What an error on an encrypted connection means, if it is about TLS and will be the same the next time.
pub(super) fn of_io(error: &io::Error) -> Option<TlsError> {
    match of_rustls(error) {
        Some(rustls::Error::AlertReceived(alert)) => about_our_certificate(*alert),
        _ => None,
    }
}

fn of_rustls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn about_our_certificate(alert: AlertDescription) -> Option<TlsError> {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => Some(TlsError::CertificateWanted),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => Some(TlsError::CertificateRefused(format!("{alert:?}"))),
        _ => None,
    }
}

fn first_line(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    Escaped(&bytes[..end.unwrap_or(bytes.len())]).to_string()
}

/// A connection that remembers the first bytes that came on it.
struct FirstBytes {
    stream: TcpStream,
    kept: Vec<u8>,
}

impl FirstBytes {
    fn of(stream: TcpStream) -> Self {
        Self {
            stream,
            kept: Vec::with_capacity(FIRST_BYTES_KEPT),
        }
    }
}

impl AsyncRead for FirstBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let room = FIRST_BYTES_KEPT - self.kept.len();
        let came = &buffer.filled()[before..];
        self.kept.extend_from_slice(&came[..came.len().min(room)]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FirstBytes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
