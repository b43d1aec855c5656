//! Connections to each side, with pipelines that are written and read in turn: one to a single server, one to each master
//! of a cluster.
//!
//! # Invariants
//!
//! - Every wait ends: for an answer by the connection's own limit, for a peer that takes nothing by the same.
//! - Answers are read in the order of the commands, whichever node each goes to. A node that does not have the key's slot
//!   is of no use for now, as one that is gone: who has it is asked for anew.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

use crate::client::{Link, LinkError, Reply, WireReader, WireWriter};
use crate::cluster::{Topology, slot_of};
use crate::endpoint::Side;
use crate::pace;
use crate::resp::{ErrorCode, Retry};

/// Written at once; within it, a peer that takes nothing is noticed.
const WRITE_BYTES: usize = 64 * 1024;

/// One side's connections.
pub struct End {
    side: Side,
    nodes: Vec<Node>,
    /// Which node has which slot, if it is a cluster.
    routes: Option<Topology>,
    /// The nodes that owe the answers, in the order of the commands.
    owing: VecDeque<NodeIndex>,
    silence_max: Duration,
    /// Where the bytes of values are counted that come, if they count.
    pace: Option<pace::Shared>,
}

/// Which of a side's connections.
pub type NodeIndex = usize;

struct Node {
    reader: WireReader,
    writer: WireWriter,
    /// Commands that have not been sent.
    out: BytesMut,
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
    /// Over an open connection, or over one to each node of `routes`.
    pub fn new(
        side: Side,
        links: Vec<Link>,
        routes: Option<Topology>,
        silence_max: Duration,
    ) -> Self {
        let nodes = links.into_iter().map(|link| {
            let (reader, writer) = link.wire.split();
            Node {
                reader,
                writer,
                out: BytesMut::new(),
            }
        });
        Self {
            side,
            nodes: nodes.collect(),
            routes,
            owing: VecDeque::new(),
            silence_max,
            pace: None,
        }
    }

    /// The same, whose values count for these limits.
    pub fn counted(self, pace: &pace::Shared) -> Self {
        Self {
            pace: Some(Rc::clone(pace)),
            ..self
        }
    }

    /// The connection for a key of this name.
    pub fn node_of(&self, name: &[u8]) -> NodeIndex {
        match &self.routes {
            None => 0,
            // A slot at nobody: any node says so.
            Some(routes) => routes.owner(slot_of(name)).unwrap_or_default(),
        }
    }

    /// Appends one command about a key of this name, or the beginning of one. It is sent by [`Self::send`].
    pub fn ask(&mut self, name: &[u8], encode: impl FnOnce(&mut BytesMut)) {
        let node = self.node_of(name);
        self.owing.push_back(node);
        self.append(node, encode);
    }

    /// Appends to the command that was asked of a node last.
    pub fn append(&mut self, node: NodeIndex, encode: impl FnOnce(&mut BytesMut)) {
        encode(&mut self.nodes[node].out);
    }

    /// Sends everything that was asked.
    pub async fn send(&mut self) -> Result<(), Broken> {
        for node in 0..self.nodes.len() {
            self.send_to(node).await?;
        }
        Ok(())
    }

    /// Sends what was asked of one node.
    pub async fn send_to(&mut self, node: NodeIndex) -> Result<(), Broken> {
        let mut out = std::mem::take(&mut self.nodes[node].out);
        self.send_bytes(node, &out).await?;
        out.clear();
        self.nodes[node].out = out;
        Ok(())
    }

    /// Sends what was asked of one node, if it is much.
    pub async fn send_if_much(&mut self, node: NodeIndex) -> Result<(), Broken> {
        match self.nodes[node].out.len() < WRITE_BYTES {
            true => Ok(()),
            false => self.send_to(node).await,
        }
    }

    /// Sends bytes from where they lie.
    pub async fn send_bytes(&mut self, node: NodeIndex, bytes: &[u8]) -> Result<(), Broken> {
        for piece in bytes.chunks(WRITE_BYTES) {
            let written = self.nodes[node].writer.write_all(piece);
            match tokio::time::timeout(self.silence_max, written).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.broken(node, error)),
                Err(_) => return Err(self.broken(node, LinkError::Silent(self.silence_max))),
            }
        }
        Ok(())
    }

    /// The next answer. A refusal that is not about the key ends the use of the connection.
    pub async fn answer(&mut self) -> Result<Answer, Broken> {
        let node = self.owing.front().copied();
        match self.answer_or_unknown().await? {
            Answer::Refused(code @ ErrorCode::UnknownCommand, line) => {
                let error = LinkError::Reply(code, line);
                Err(self.broken(node.unwrap_or_default(), error))
            }
            answer => Ok(answer),
        }
    }

    /// The next answer to a command that the server may not have.
    pub async fn answer_or_unknown(&mut self) -> Result<Answer, Broken> {
        let node = self
            .owing
            .pop_front()
            .expect("answers are read to commands that were asked");
        let reply = self.nodes[node].reader.reply().await;
        match reply.map_err(|error| self.broken(node, error))? {
            Reply::Error(code @ ErrorCode::UnknownCommand, line) => Ok(Answer::Refused(code, line)),
            Reply::Error(code, line) => match code.retry() {
                Retry::Key | Retry::Unknown => Ok(Answer::Refused(code, line)),
                Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => {
                    Err(self.broken(node, LinkError::Reply(code, line)))
                }
            },
            reply => {
                if let (Some(pace), Reply::Bulk(value)) = (&self.pace, &reply) {
                    pace.borrow_mut().came(value.len());
                }
                Ok(Answer::Reply(reply))
            }
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
        self.of_side(LinkError::Reply(code, line))
    }

    /// The error of an answer of a form that the command never has.
    pub fn unexpected(&self, command: &'static str, reply: &Reply) -> Broken {
        self.of_side(LinkError::Unexpected(command, format!("{reply:?}")))
    }

    fn of_side(&self, error: LinkError) -> Broken {
        Broken {
            side: self.side,
            error,
        }
    }

    fn broken(&self, node: NodeIndex, error: LinkError) -> Broken {
        self.of_side(match &self.routes {
            None => error,
            Some(routes) => error.at(&routes.nodes()[node].address),
        })
    }
}
