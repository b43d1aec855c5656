//! Everything that is not the data path: questions to a server, through the `redis` crate.
//!
//! # Invariant
//!
//! Nothing here changes a server by itself: the commands are INFO, ROLE, DBSIZE, PING, CONFIG GET, CLUSTER SLOTS, EXISTS,
//! HPEXPIRETIME, and whatever the `ask` functions are given.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};

use super::handshake::{Clock, select};
use super::sentinel::open_logged_in;
use super::wire::LinkError;
use crate::cluster::{NodeAddress, SlotRange, Topology};
use crate::endpoint::{Endpoint, MetNode};
use crate::plan::KeyType;
use crate::resp::ErrorCode;

/// A connection for questions.
#[derive(Clone)]
pub struct Control {
    connection: MultiplexedConnection,
}

/// INFO as a table; fields that the server hides are absent.
pub type Info = BTreeMap<String, String>;

/// What ROLE or INFO says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Master,
    /// Follows another server.
    Replica,
    /// Watches other servers and has no data.
    Sentinel,
    /// Neither ROLE nor INFO may be asked.
    Unknown,
}

impl Control {
    /// Connects, logs in and selects `db`.
    ///
    /// # Errors
    ///
    /// What the server or the system said.
    pub async fn connect(
        endpoint: &Endpoint,
        db: u32,
        timeout: Duration,
    ) -> Result<Self, LinkError> {
        // Opened and logged in by the same code as the data path: there is one way to verify a server, and passwords
        // are bytes, which the crate would take as text only.
        let mut wire = open_logged_in(endpoint, timeout).await?;
        select(&mut wire, db).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeout));
        let nothing_more = RedisConnectionInfo::default().set_skip_set_lib_name();
        let stream = wire.into_stream()?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&nothing_more, stream, config)
                .await
                .map_err(link_error)?;
        // Ends with the last handle of the connection.
        tokio::spawn(driver);
        Ok(Self { connection })
    }

    /// Sends one command; error replies become [`LinkError::Reply`].
    pub async fn ask(&mut self, command: &redis::Cmd) -> Result<Value, LinkError> {
        let reply: Value = command
            .query_async(&mut self.connection)
            .await
            .map_err(link_error)?;
        Ok(reply)
    }

    /// Sends several commands at once; error replies stand among the answers.
    ///
    /// # Errors
    ///
    /// Only trouble with the connection.
    pub async fn ask_raw(&mut self, commands: Vec<redis::Cmd>) -> Result<Vec<Value>, LinkError> {
        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        pipeline.ignore_errors();
        for command in commands {
            pipeline.add_command(command);
        }
        pipeline
            .query_async(&mut self.connection)
            .await
            .map_err(link_error)
    }

    /// Sends several commands at once; the first error reply becomes [`LinkError::Reply`].
    pub async fn ask_all(&mut self, commands: &redis::Pipeline) -> Result<Vec<Value>, LinkError> {
        let replies: Vec<Value> = commands
            .query_async(&mut self.connection)
            .await
            .map_err(link_error)?;
        Ok(replies)
    }

    /// All of INFO; empty where it may not be asked.
    ///
    /// # Errors
    ///
    /// Only trouble with the connection: a refused INFO is an answer.
    pub async fn info(&mut self) -> Result<Info, LinkError> {
        match self.ask(&redis::cmd("INFO")).await {
            Ok(value) => Ok(parse_info(&text(&value))),
            Err(LinkError::Reply(ErrorCode::Loading, line)) => {
                Err(LinkError::Reply(ErrorCode::Loading, line))
            }
            Err(LinkError::Reply(ErrorCode::NoAuth, line)) => {
                Err(LinkError::Reply(ErrorCode::NoAuth, line))
            }
            Err(LinkError::Reply(..)) => Ok(Info::new()),
            Err(error) => Err(error),
        }
    }

    /// One section of INFO.
    ///
    /// # Errors
    ///
    /// Also a refusal.
    pub async fn info_section(&mut self, name: &str) -> Result<Info, LinkError> {
        let value = self.ask(redis::cmd("INFO").arg(name)).await?;
        Ok(parse_info(&text(&value)))
    }

    /// By ROLE, else by INFO's field, else unknown.
    pub async fn role(&mut self, info: &Info) -> Result<Role, LinkError> {
        let word = match self.ask(&redis::cmd("ROLE")).await {
            Ok(Value::Array(parts)) => parts.first().map(text).unwrap_or_default(),
            Ok(_) | Err(LinkError::Reply(..)) => info.get("role").cloned().unwrap_or_default(),
            Err(error) => return Err(error),
        };
        Ok(match word.as_str() {
            "master" => Role::Master,
            "slave" | "replica" => Role::Replica,
            "sentinel" => Role::Sentinel,
            _ => Role::Unknown,
        })
    }

    /// Number of keys in the selected database; `None` where it may not be asked.
    pub async fn dbsize(&mut self) -> Result<Option<u64>, LinkError> {
        match self.ask(&redis::cmd("DBSIZE")).await {
            Ok(Value::Int(keys)) => Ok(u64::try_from(keys).ok()),
            Ok(_) | Err(LinkError::Reply(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One configuration value; `None` where it may not be asked.
    pub async fn config(&mut self, name: &str) -> Result<Option<String>, LinkError> {
        match self.ask(redis::cmd("CONFIG").arg("GET").arg(name)).await {
            Ok(Value::Array(parts)) => Ok(parts.get(1).map(text)),
            Ok(_) | Err(LinkError::Reply(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who has which slots, as this node sees it. A node that does not say how it is reached is reached as `asked`.
    pub async fn cluster_slots(&mut self, asked: &NodeAddress) -> Result<Topology, LinkError> {
        let answer = self.ask(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let unexpected = |what: String| LinkError::Unexpected("CLUSTER SLOTS", what);
        let Value::Array(ranges) = answer else {
            return Err(unexpected(format!("{answer:?}")));
        };
        let ranges: Option<Vec<SlotRange>> = ranges
            .iter()
            .map(|range| slot_range(range, asked))
            .collect();
        let ranges = ranges.ok_or_else(|| unexpected("a range that is none".to_owned()))?;
        Topology::of(&ranges).map_err(|error| unexpected(error.to_string()))
    }

    /// The nodes that have slots, and their replicas, as this node sees them; nobody, where it may not be asked.
    pub async fn cluster_members(
        &mut self,
        asked: &NodeAddress,
    ) -> Result<Vec<MetNode>, LinkError> {
        let ranges = match self.ask(redis::cmd("CLUSTER").arg("SLOTS")).await {
            Ok(Value::Array(ranges)) => ranges,
            Ok(_) | Err(LinkError::Reply(..)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut members: Vec<MetNode> = Vec::new();
        for range in &ranges {
            let Value::Array(parts) = range else {
                continue;
            };
            for node in parts.iter().skip(2) {
                let (Some(address), Some(id)) = (node_address(node, asked), node_id(node)) else {
                    continue;
                };
                if members.iter().all(|known| known.id != id) {
                    members.push(MetNode {
                        id,
                        host: address.host,
                        port: address.port,
                    });
                }
            }
        }
        Ok(members)
    }

    /// Round trip of a PING.
    pub async fn ping(&mut self) -> Result<Duration, LinkError> {
        let asked = Instant::now();
        self.ask(&redis::cmd("PING")).await?;
        Ok(asked.elapsed())
    }

    /// The server's clock; `None` where TIME may not be asked.
    pub async fn clock(&mut self) -> Result<Option<Clock>, LinkError> {
        let asked = Instant::now();
        let reply = match self.ask(&redis::cmd("TIME")).await {
            Ok(reply) => reply,
            Err(LinkError::Reply(..)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Value::Array(parts) = reply else {
            return Ok(None);
        };
        let number = |index: usize| {
            parts
                .get(index)
                .and_then(|part| text(part).parse::<i64>().ok())
        };
        Ok(number(0)
            .zip(number(1))
            .map(|(seconds, microseconds)| Clock::read(asked, seconds, microseconds)))
    }

    /// For each of `keys` whether the selected database has it: with one of these types, if there are any.
    ///
    /// # Errors
    ///
    /// Trouble with the connection, or an error reply.
    pub async fn exist(
        &mut self,
        keys: &[&[u8]],
        types: &[KeyType],
    ) -> Result<Vec<bool>, LinkError> {
        let mut pipeline = redis::pipe();
        for key in keys {
            let command = match types.is_empty() {
                true => "EXISTS",
                false => "TYPE",
            };
            pipeline.cmd(command).arg(key);
        }
        let answers: Vec<Value> = pipeline
            .query_async(&mut self.connection)
            .await
            .map_err(link_error)?;
        let says_yes = |answer: &Value| match answer {
            Value::Int(count) => *count > 0,
            kind => types.iter().any(|wanted| wanted.name() == text(kind)),
        };
        Ok(answers.iter().map(says_yes).collect())
    }

    /// Whether the fields of hashes can expire there.
    ///
    /// # Errors
    ///
    /// Trouble with the connection, and that the command may not be asked.
    pub async fn knows_field_expiries(&mut self) -> Result<bool, LinkError> {
        // What counts is whether the command is known, not what it says. The name is none of the operator's: a server that
        // does not know a command repeats its arguments in the error, which has to be text.
        let mut question = redis::cmd("HPEXPIRETIME");
        question.arg("redknot").arg("FIELDS").arg(1).arg("field");
        match self.ask(&question).await {
            Ok(_) => Ok(true),
            Err(LinkError::Reply(ErrorCode::UnknownCommand, _)) => Ok(false),
            // Another node has that slot, it is no hash, or that key may not be asked about.
            Err(LinkError::Reply(code, _)) if code != ErrorCode::NoPerm => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// How many of `keys` exist in the selected database.
    pub async fn count_existing(&mut self, keys: &[Vec<u8>]) -> Result<usize, LinkError> {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("EXISTS").arg(key);
        }
        let found: Vec<i64> = pipeline
            .query_async(&mut self.connection)
            .await
            .map_err(link_error)?;
        Ok(found.iter().filter(|count| **count > 0).count())
    }
}

/// The replies, unless one of them is an error.
pub fn all_well(replies: Vec<Value>) -> Result<Vec<Value>, LinkError> {
    match replies.iter().find_map(first_error) {
        Some(error) => Err(error),
        None => Ok(replies),
    }
}

/// The first error in a reply.
pub fn first_error(reply: &Value) -> Option<LinkError> {
    match reply {
        Value::ServerError(error) => Some(LinkError::of_server(error)),
        Value::Array(parts) => parts.iter().find_map(first_error),
        _ => None,
    }
}

/// The words of a simple or bulk reply.
pub fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}

/// `first, last, [host, port, id, …], replica, replica …`
fn slot_range(range: &Value, asked: &NodeAddress) -> Option<SlotRange> {
    let Value::Array(parts) = range else {
        return None;
    };
    let [Value::Int(first), Value::Int(last), master, replicas @ ..] = parts.as_slice() else {
        return None;
    };
    let address = |node: &Value| node_address(node, asked);
    Some(SlotRange {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok()?,
        master: address(master)?,
        replicas: replicas.iter().filter_map(address).collect(),
    })
}

/// `host, port, id, …`; a node that does not say how it is reached is reached as `asked`.
fn node_address(node: &Value, asked: &NodeAddress) -> Option<NodeAddress> {
    let Value::Array(parts) = node else {
        return None;
    };
    let [host, Value::Int(port), ..] = parts.as_slice() else {
        return None;
    };
    let host = match text(host).as_str() {
        "" | "?" => asked.host.clone(),
        host => host.to_owned(),
    };
    let port = u16::try_from(*port).ok()?;
    Some(NodeAddress { host, port })
}

fn node_id(node: &Value) -> Option<String> {
    match node {
        Value::Array(parts) => parts.get(2).map(text).filter(|id| !id.is_empty()),
        _ => None,
    }
}

fn parse_info(info: &str) -> Info {
    info.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(field, value)| (field.to_owned(), value.trim().to_owned()))
        .collect()
}

impl LinkError {
    /// An error reply that stands among answers, in our terms.
    pub fn of_server(error: &redis::ServerError) -> Self {
        let line = match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        };
        Self::Reply(ErrorCode::of(line.as_bytes()), line)
    }
}

/// The crate's error in our terms: a reply of the server stays a reply, with its own code.
fn link_error(error: RedisError) -> LinkError {
    if let Some(code) = error.code() {
        let line = match error.detail() {
            Some(detail) => format!("{code} {detail}"),
            None => code.to_owned(),
        };
        if error.is_io_error() || error.is_timeout() {
            return LinkError::Io(error.to_string());
        }
        return LinkError::Reply(ErrorCode::of(line.as_bytes()), line);
    }
    LinkError::Io(error.to_string())
}
