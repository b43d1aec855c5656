//! One connection: bytes in buffers on our side, tokens out.
//!
//! # Invariants
//!
//! - A read that finds nothing for `silence_max` fails; a server that owes an answer can't hold a run for ever.
//! - The input buffer returns to its small size after a big payload, so that memory follows what is in flight and not
//!   the largest value ever met.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};

use super::sentinel::SentinelError;
use super::tls::{self, TlsError};
use crate::cluster::NodeAddress;
use crate::endpoint::{Address, Endpoint};
use crate::resp::{DecodeError, Decoder, ErrorCode, Token, encode_command};

/// Free space that a read is offered. Large enough that a busy source is read in few calls, small enough to be
/// recycled: the buffer is shared with the payloads cut from it.
const READ_BYTES: usize = 128 * 1024;

/// Anything that bytes can be read from and written to: TCP, TLS, Unix sockets, a test's duplex pipe.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why a connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkError {
    /// Could not be opened.
    Connect(String),
    /// TLS can't be spoken, or not with somebody to be believed.
    Tls(TlsError),
    /// The sentinels name no master, and will not the next time.
    Sentinel(SentinelError),
    /// The operating system's words about a read or a write.
    Io(String),
    /// The server closed it.
    Closed,
    /// No byte for this long although an answer was due.
    Silent(Duration),
    /// The bytes are not RESP.
    NotResp(String),
    /// The node does not have a slot that was asked for, or not all of it.
    Elsewhere(String),
    /// An error reply that concerns the whole side, for example `-LOADING`.
    Reply(ErrorCode, String),
    /// An answer of a form that the command never has.
    Unexpected(&'static str, String),
    /// Any of these, of one node of a cluster.
    AtNode(NodeAddress, Box<LinkError>),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) | Self::Io(why) => f.write_str(why),
            Self::Tls(error) => error.fmt(f),
            Self::Sentinel(error) => error.fmt(f),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Silent(time) => write!(f, "no answer for {}", humantime::format_duration(*time)),
            Self::NotResp(why) => write!(f, "what answers is not a Redis server: {why}"),
            Self::Elsewhere(why) => f.write_str(why),
            Self::Reply(_, line) => write!(f, "the server answers \"{line}\""),
            Self::Unexpected(command, got) => write!(f, "unexpected answer to {command}: {got}"),
            Self::AtNode(node, error) => write!(f, "node {node}: {error}"),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        if let Some(error) = tls::of_io(&error) {
            return Self::Tls(error);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<DecodeError> for LinkError {
    fn from(error: DecodeError) -> Self {
        match &error {
            DecodeError::UnknownType(first) if tls::is_tls(first) => TlsError::Wanted.into(),
            _ => Self::NotResp(error.to_string()),
        }
    }
}

impl LinkError {
    /// For a node of a cluster: that a slot is elsewhere, or on its way, is no reason to give up.
    #[must_use]
    pub fn of_node(self) -> Self {
        match self {
            Self::Reply(ErrorCode::Moved | ErrorCode::Ask, line) => {
                Self::Elsewhere(format!("a slot is moving: the node answers \"{line}\""))
            }
            Self::AtNode(node, error) => Self::AtNode(node, Box::new(error.of_node())),
            other => other,
        }
    }

    /// The same, said of one node of a cluster; what is said of a node stays so.
    #[must_use]
    pub fn at(self, node: &NodeAddress) -> Self {
        match self.of_node() {
            said @ Self::AtNode(..) => said,
            other => Self::AtNode(node.clone(), Box::new(other)),
        }
    }

    /// What is wrong, wherever.
    pub fn bare(&self) -> &Self {
        match self {
            Self::AtNode(_, error) => error.bare(),
            other => other,
        }
    }
}

/// A whole reply, for the few commands of the handshake and the canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+…`
    Simple(Bytes),
    /// `-…`
    Error(ErrorCode, String),
    /// `:…`
    Integer(i64),
    /// `$…`
    Bulk(Bytes),
    /// `$-1` or `*-1`
    Null,
    /// `*…`
    Array(Vec<Reply>),
}

/// Both halves of a connection, before it is split for the pipelines.
pub struct Wire {
    reader: WireReader,
    writer: WireWriter,
}

/// The half that tokens come from.
pub struct WireReader {
    stream: ReadHalf<Box<dyn Stream>>,
    input: BytesMut,
    decoder: Decoder,
    silence_max: Duration,
}

/// The half that commands go into.
pub struct WireWriter {
    stream: WriteHalf<Box<dyn Stream>>,
}

/// Opens a connection and sends nothing on it.
///
/// # Errors
///
/// [`LinkError::Connect`] with the resolver's or the system's words; [`LinkError::Tls`].
pub async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<Wire, LinkError> {
    let connected = tokio::time::timeout(timeout, open_stream(endpoint)).await;
    match connected {
        Ok(opened) => Ok(Wire::over(opened?, timeout)),
        Err(_) => Err(LinkError::Connect(format!(
            "no connection within {}",
            humantime::format_duration(timeout)
        ))),
    }
}

/// The only place where sockets are opened to be spoken on.
async fn open_stream(endpoint: &Endpoint) -> Result<Box<dyn Stream>, LinkError> {
    let failed = |error: io::Error| LinkError::Connect(error.to_string());
    match &endpoint.address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match &endpoint.tls {
                Some(tls) => tls::encrypt(tls, host, stream).await,
                None => Ok(Box::new(stream)),
            }
        }
        Address::Unix { path } => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            Ok(Box::new(stream))
        }
        // Whoever opens a connection has chosen one of them before.
        Address::Cluster(seeds) => Err(LinkError::Connect(format!(
            "{seeds} is a cluster and no server"
        ))),
        // Whoever opens a connection has asked the sentinels before.
        Address::Sentinel(sentinels) => Err(LinkError::Connect(format!(
            "{sentinels} is a service and no server"
        ))),
    }
}

impl Wire {
    /// A connection over any stream; `silence_max` bounds each wait for an answer.
    pub fn over(stream: Box<dyn Stream>, silence_max: Duration) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: WireReader {
                stream: read,
                input: BytesMut::with_capacity(READ_BYTES),
                decoder: Decoder::new(),
                silence_max,
            },
            writer: WireWriter { stream: write },
        }
    }

    /// Sends one command and returns its reply, error replies included.
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, LinkError> {
        let mut replies = self.call_all(&[args]).await?;
        Ok(replies.remove(0))
    }

    /// Sends commands in one pipeline and returns their replies in order.
    pub async fn call_all(&mut self, commands: &[&[&[u8]]]) -> Result<Vec<Reply>, LinkError> {
        let mut out = BytesMut::new();
        for args in commands {
            encode_command(&mut out, args);
        }
        self.writer.write_all(&out).await?;
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(self.reader.reply().await?);
        }
        Ok(replies)
    }

    /// The halves, to be driven independently.
    pub fn split(self) -> (WireReader, WireWriter) {
        (self.reader, self.writer)
    }

    /// The stream alone, for somebody who decodes by himself.
    ///
    /// # Errors
    ///
    /// If the server has said something that was not asked for, and that would be lost.
    pub fn into_stream(self) -> Result<Box<dyn Stream>, LinkError> {
        let Self { reader, writer } = self;
        if !reader.input.is_empty() {
            let first = crate::key::Escaped(&reader.input).to_string();
            return Err(LinkError::Unexpected("nothing", first));
        }
        Ok(reader.stream.unsplit(writer.stream))
    }

    /// Bounds each later wait for an answer.
    pub fn set_silence_max(&mut self, silence_max: Duration) {
        self.reader.silence_max = silence_max;
    }
}

impl WireReader {
    /// The next token that is already in the buffer, without touching the socket.
    ///
    /// # Errors
    ///
    /// [`LinkError::NotResp`]; the connection is of no more use.
    pub fn buffered(&mut self) -> Result<Option<Token>, LinkError> {
        Ok(self.decoder.next(&mut self.input)?)
    }

    /// Longer strings that begin from now on are not kept; `None`: all are.
    #[inline]
    pub fn skip_above(&mut self, bytes: Option<usize>) {
        self.decoder.skip_above(bytes);
    }

    /// Reads once from the socket; at least one byte has come when it returns.
    ///
    /// # Cancel safety
    ///
    /// Safe: bytes are either in the buffer or still in the socket.
    pub async fn fill(&mut self) -> Result<(), LinkError> {
        self.make_room();
        let silence_max = self.silence_max;
        match tokio::time::timeout(silence_max, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(LinkError::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(LinkError::Silent(silence_max)),
        }
    }

    /// Waits for the connection's end although nothing is owed: keeps a dead idle connection from being taken for a live one.
    pub async fn fill_idle(&mut self) -> Result<(), LinkError> {
        self.make_room();
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_room(&mut self) {
        let wanted = self.decoder.bytes_wanted();
        let free = self.input.capacity() - self.input.len();
        if self.input.len() + wanted > READ_BYTES {
            // Within a big bulk: exactly what it still needs, in the buffer where it lies. It must not double on its
            // way, and not be moved either: that would be a second copy of it in memory.
            self.input.reserve(wanted);
        } else if free < READ_BYTES / 4 || self.input.capacity() > 4 * READ_BYTES {
            // A fresh buffer instead of `reserve`: the old one belongs to the payloads cut from it, and a big one goes
            // with them.
            let mut fresh = BytesMut::with_capacity(READ_BYTES);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
    }

    async fn token(&mut self) -> Result<Token, LinkError> {
        loop {
            if let Some(token) = self.buffered()? {
                return Ok(token);
            }
            self.fill().await?;
        }
    }

    /// The next whole reply.
    pub async fn reply(&mut self) -> Result<Reply, LinkError> {
        let mut open: Vec<(usize, Vec<Reply>)> = Vec::new();
        loop {
            let mut reply = match self.token().await? {
                Token::Simple(line) => Reply::Simple(line),
                Token::Error(line) => {
                    Reply::Error(ErrorCode::of(&line), crate::key::Escaped(&line).to_string())
                }
                Token::Integer(number) => Reply::Integer(number),
                Token::Bulk(bytes) => Reply::Bulk(bytes),
                Token::Null => Reply::Null,
                Token::Skipped(bytes) => {
                    let what = format!("a string of {bytes} bytes");
                    return Err(LinkError::Unexpected("a question", what));
                }
                Token::Array(0) => Reply::Array(Vec::new()),
                Token::Array(length) => {
                    open.push((length, Vec::new()));
                    continue;
                }
            };
            loop {
                let Some((length, elements)) = open.last_mut() else {
                    return Ok(reply);
                };
                elements.push(reply);
                if elements.len() < *length {
                    break;
                }
                let (_, elements) = open.pop().expect("just looked at it");
                reply = Reply::Array(elements);
            }
        }
    }
}

impl WireWriter {
    /// Sends all of `bytes`.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.stream.write_all(bytes).await?;
        // Encrypted bytes may still wait in a buffer; without TLS there is none.
        Ok(self.stream.flush().await?)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    /// A second copy of a payload on its way would break the bound on memory.
    #[tokio::test]
    async fn a_big_payload_stays_where_it_was_begun() {
        const LENGTH: usize = 4 * 1024 * 1024;
        let (ours, mut server) = tokio::io::duplex(64 * 1024);
        let mut wire = Wire::over(Box::new(ours), Duration::from_secs(5));
        let sent = tokio::spawn(async move {
            server
                .write_all(format!("${LENGTH}\r\n").as_bytes())
                .await
                .unwrap();
            server.write_all(&vec![7; LENGTH]).await.unwrap();
            server.write_all(b"\r\n+OK\r\n").await.unwrap();
            server
        });
        let mut begun_at = None;
        let payload = loop {
            if let Some(Token::Bulk(payload)) = wire.reader.buffered().unwrap() {
                break payload;
            }
            wire.reader.fill().await.unwrap();
            if wire.reader.input.len() > READ_BYTES {
                let at = wire.reader.input.as_ptr();
                assert_eq!(*begun_at.get_or_insert(at), at, "the payload was moved");
            }
        };
        assert_eq!(payload.len(), LENGTH);
        assert!(begun_at.is_some());
        assert_eq!(
            wire.reader.reply().await.unwrap(),
            Reply::Simple(Bytes::from_static(b"OK"))
        );
        sent.await.unwrap();
        wire.reader.make_room();
        assert!(
            wire.reader.input.capacity() <= 4 * READ_BYTES,
            "the big buffer is kept"
        );
    }
}
