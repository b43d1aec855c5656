//! A blocking connection that can throw replies away by their length.
//!
//! It decodes with code of its own, so that a floor does not become slower or faster with the product.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;

use redknot::resp::encode_command;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// As much as one read takes at most; a SCAN reply's key name must fit in as well.
const BUFFER_BYTES: usize = 256 * 1024;

/// Where a server listens, and whom to believe about it where it speaks TLS.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub port: u16,
    pub authority: Option<&'a Path>,
}

impl From<u16> for Place<'_> {
    fn from(port: u16) -> Self {
        Self {
            port,
            authority: None,
        }
    }
}

/// TCP, or TLS over it.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
    /// What of the buffer has been received and not been used.
    unread: Range<usize>,
}

impl Connection {
    pub fn open<'a>(place: impl Into<Place<'a>>) -> Result<Self> {
        let Place { port, authority } = place.into();
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: match authority {
                None => Box::new(stream),
                Some(authority) => Box::new(encrypted(stream, authority)?),
            },
            buffer: vec![0; BUFFER_BYTES].into(),
            unread: 0..0,
        })
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// The text of a reply that is a line or a string.
    pub fn ask(&mut self, args: &[&str]) -> Result<String> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let mut out = BytesMut::new();
        encode_command(&mut out, &args);
        self.send(&out)?;
        let line = self.line()?;
        match &self.buffer[line.clone()] {
            [b'+' | b':', text @ ..] => Ok(String::from_utf8(text.to_vec())?),
            [b'$', ..] => {
                let mut text = Vec::new();
                self.read_string(line, &mut text)?;
                Ok(String::from_utf8(text)?)
            }
            other => bail!("a server answered {}", other.escape_ascii()),
        }
    }

    /// Throws a string or a number away.
    pub fn skip_reply(&mut self) -> Result<()> {
        let line = self.line()?;
        match self.buffer[line.start] {
            b':' | b'+' => Ok(()),
            b'$' => {
                let len = self.length(line)?;
                self.skip(len + 2)
            }
            _ => bail!("a server answered {}", self.buffer[line].escape_ascii()),
        }
    }

    /// Appends a string's bytes to `into`.
    pub fn read_bulk(&mut self, into: &mut Vec<u8>) -> Result<()> {
        let line = self.line()?;
        self.read_string(line, into)
    }

    pub fn read_integer(&mut self) -> Result<i64> {
        let line = self.line()?;
        ensure!(self.buffer[line.start] == b':', "not a number");
        Ok(std::str::from_utf8(&self.buffer[line.start + 1..line.end])?.parse()?)
    }

    /// Reads a SCAN reply; returns the next cursor and how many keys `each` was given.
    pub fn read_scan(&mut self, mut each: impl FnMut(&[u8])) -> Result<(u64, usize)> {
        let line = self.line()?;
        ensure!(
            &self.buffer[line.clone()] == b"*2",
            "not a SCAN reply: {}",
            self.buffer[line].escape_ascii()
        );
        let mut cursor = Vec::new();
        self.read_bulk(&mut cursor)?;
        let cursor = std::str::from_utf8(&cursor)?.parse()?;
        let line = self.line()?;
        let keys = self.length(line)?;
        for _ in 0..keys {
            let line = self.line()?;
            let len = self.length(line)?;
            while self.unread.len() < len + 2 {
                self.fill()?;
            }
            each(&self.buffer[self.unread.start..][..len]);
            self.unread.start += len + 2;
        }
        Ok((cursor, keys))
    }

    /// The next line without its CRLF, as a place in the buffer that is valid until the next call.
    fn line(&mut self) -> Result<Range<usize>> {
        let mut searched = 0;
        loop {
            let unsearched = &self.buffer[self.unread.clone()][searched..];
            if let Some(at) = unsearched.iter().position(|&byte| byte == b'\n') {
                let start = self.unread.start;
                self.unread.start += searched + at + 1;
                return Ok(start..self.unread.start - 2);
            }
            searched = self.unread.len();
            self.fill()?;
        }
    }

    /// The number behind a line's type byte.
    fn length(&self, line: Range<usize>) -> Result<usize> {
        let text = std::str::from_utf8(&self.buffer[line.start + 1..line.end])?;
        text.parse()
            .with_context(|| format!("a length is \"{text}\""))
    }

    fn read_string(&mut self, line: Range<usize>, into: &mut Vec<u8>) -> Result<()> {
        ensure!(self.buffer[line.start] == b'$', "not a string");
        let len = self.length(line)?;
        let from_buffer = len.min(self.unread.len());
        into.extend_from_slice(&self.buffer[self.unread.start..][..from_buffer]);
        self.unread.start += from_buffer;
        let missing = len - from_buffer;
        if missing > 0 {
            let start = into.len();
            into.resize(start + missing, 0);
            self.stream.read_exact(&mut into[start..])?;
        }
        self.skip(2)
    }

    fn skip(&mut self, mut len: usize) -> Result<()> {
        while len > self.unread.len() {
            len -= self.unread.len();
            self.unread = 0..0;
            self.fill()?;
        }
        self.unread.start += len;
        Ok(())
    }

    /// Receives more, behind what has not been used.
    fn fill(&mut self) -> Result<()> {
        if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        ensure!(
            self.unread.end < self.buffer.len(),
            "a line or a key does not fit the buffer"
        );
        let received = self.stream.read(&mut self.buffer[self.unread.end..])?;
        ensure!(received > 0, "a server closed the connection");
        self.unread.end += received;
        Ok(())
    }
}

fn encrypted(
    stream: TcpStream,
    authority: &Path,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1")?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(connection, stream))
}
