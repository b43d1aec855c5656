//! A connection to each side, with pipelines that are written and read in turn.
//!
//! # Invariant
//!
//! Every wait ends: for an answer by the connection's own limit, for a peer that takes nothing by the same.

use std::time::Duration;

use bytes::BytesMut;

use crate::client::{Link, LinkError, Reply, WireReader, WireWriter};
use crate::endpoint::Side;
use crate::resp::{ErrorCode, Retry};

/// Written at once; within it, a peer that takes nothing is noticed.
const WRITE_BYTES: usize = 64 * 1024;

/// One side's connection.
pub struct End {
    side: Side,
    reader: WireReader,
    writer: WireWriter,
    silence_max: Duration,
}

/// A side that is of no use for now, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// Which one.
    pub side: Side,
    /// Why.
    pub error: LinkError,
}

/// What a server said to one command about one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It did what it was asked.
    Reply(Reply),
    /// It refuses, and that is about this key.
    Refused(ErrorCode, String),
}

impl End {
    /// Over an open connection.
    pub fn new(side: Side, link: Link, silence_max: Duration) -> Self {
        let (reader, writer) = link.wire.split();
        Self {
            side,
            reader,
            writer,
            silence_max,
        }
    }

    /// Sends what has been encoded, and empties the buffer.
    pub async fn send(&mut self, out: &mut BytesMut) -> Result<(), Broken> {
        self.send_bytes(out).await?;
        out.clear();
        Ok(())
    }

    /// Sends bytes from where they lie.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        for piece in bytes.chunks(WRITE_BYTES) {
            match tokio::time::timeout(self.silence_max, self.writer.write_all(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.broken(error)),
                Err(_) => return Err(self.broken(LinkError::Silent(self.silence_max))),
            }
        }
        Ok(())
    }

    /// The next answer. A refusal that is not about the key ends the use of the connection.
    pub async fn answer(&mut self) -> Result<Answer, Broken> {
        match self.answer_or_unknown().await? {
            Answer::Refused(code @ ErrorCode::UnknownCommand, line) => {
                Err(self.broken(LinkError::Reply(code, line)))
            }
            answer => Ok(answer),
        }
    }

    /// The next answer to a command that the server may not have.
    pub async fn answer_or_unknown(&mut self) -> Result<Answer, Broken> {
        let reply = self.reader.reply().await;
        match reply.map_err(|error| self.broken(error))? {
            Reply::Error(code @ ErrorCode::UnknownCommand, line) => Ok(Answer::Refused(code, line)),
            Reply::Error(code, line) => match code.retry() {
                Retry::Key | Retry::Unknown => Ok(Answer::Refused(code, line)),
                Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => {
                    Err(self.broken(LinkError::Reply(code, line)))
                }
            },
            reply => Ok(Answer::Reply(reply)),
        }
    }

    /// The next answer, which has to be a number.
    pub async fn number(&mut self, command: &'static str) -> Result<i64, Broken> {
        match self.answer().await? {
            Answer::Reply(Reply::Integer(number)) => Ok(number),
            Answer::Reply(other) => Err(self.unexpected(command, &other)),
            Answer::Refused(code, line) => Err(self.refused(code, line)),
        }
    }

    /// The error of a refusal that is not expected of this command.
    pub fn refused(&self, code: ErrorCode, line: String) -> Broken {
        self.broken(LinkError::Reply(code, line))
    }

    /// The error of an answer of a form that the command never has.
    pub fn unexpected(&self, command: &'static str, reply: &Reply) -> Broken {
        self.broken(LinkError::Unexpected(command, format!("{reply:?}")))
    }

    fn broken(&self, error: LinkError) -> Broken {
        Broken {
            side: self.side,
            error,
        }
    }
}
