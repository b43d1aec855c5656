//! Big keys, read from one server and written to another in pieces.
//!
//! # Invariant
//!
//! Whether a value has arrived is said by the digests of both servers' DUMPs, which share no code with the reading and
//! writing of pieces.

use std::time::Duration;

use redis::Value;
use redknot::client::LinkError;
use redknot::client::control::Control;
use redknot::client::handshake::connect_target;
use redknot::copy::pieces::{Begun, Limits, Next, Obstacle, Piece, Reader, Target};
use redknot::digest::{Comparison, DigestRules, StreamLevel, of_payload};
use redknot::endpoint::{Address, Endpoint};
use redknot::plan::{FieldTtl, KeyType};

use crate::support::server::Server;

/// Keys that change while they are read.
mod changes;
/// The same arrives, between versions.
mod pairs;
/// What can't arrive in pieces, and why.
mod reasons;
/// Values of every type, with whatever is unusual about them.
mod values;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Small, so that there are many of them.
const SMALL: Limits = Limits {
    piece_bytes: 4096,
    answer_bytes: 1024,
    answer_elements: 50,
};

/// A source and a target, and the connections that a copy of a key has.
struct Sides {
    source: Control,
    target: Control,
    abilities: Target,
    /// For what others do meanwhile.
    servers: [redis::Connection; 2],
}

/// How a key came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// All of it was written, in so many pieces, and EXEC says that nothing had changed.
    Written(usize),
    /// EXEC, or the reader, says that it has changed.
    Changed,
    /// There is no such key.
    Gone,
    /// It can't be read in pieces.
    Whole(String),
    /// The target can't hold it.
    Impossible(Obstacle),
}

impl Sides {
    async fn between(source: &Server, target: &Server) -> Self {
        let link = connect_target(&endpoint(target), 0, "redknot:test", TIMEOUT).await;
        let takes = link.unwrap().takes.unwrap();
        Self {
            source: control(source).await,
            target: control(target).await,
            abilities: Target {
                dialect: takes.dialect,
                field_ttl: FieldTtl::Quarantine,
                bulk_bytes_max: 512 << 20,
            },
            servers: [source.connection(), target.connection()],
        }
    }

    /// Copies a key, as it is on the source, under the same name. What every piece's commands write is there already, in
    /// part, when they are sent.
    async fn carry(&mut self, key: &[u8], limits: Limits) -> Ended {
        self.carry_while(key, limits, |_, _| {}).await
    }

    /// As [`Self::carry`]; `meanwhile` is called before each piece is written, with its number and a connection to the source.
    async fn carry_while(
        &mut self,
        key: &[u8],
        limits: Limits,
        mut meanwhile: impl FnMut(usize, &mut redis::Connection),
    ) -> Ended {
        self.source.ask(redis::cmd("WATCH").arg(key)).await.unwrap();
        let mut reader = match Reader::begin(&mut self.source, key, limits).await.unwrap() {
            Begun::Reader(reader) => reader,
            Begun::Gone => return Ended::Gone,
            Begun::Whole(why) => return Ended::Whole(why),
        };
        if let Some(obstacle) = reader.obstacle(&self.abilities) {
            return Ended::Impossible(obstacle);
        }
        let mut pieces = 0;
        loop {
            let piece = match reader.next(&mut self.source).await.unwrap() {
                Next::Piece(piece) => piece,
                Next::End => break,
                Next::Changed => return Ended::Changed,
                Next::Whole(why) => return Ended::Whole(why),
            };
            meanwhile(pieces, &mut self.servers[0]);
            if let Err(obstacle) = self.write_twice(&piece, key, pieces).await {
                return Ended::Impossible(obstacle);
            }
            pieces += 1;
        }
        self.source.ask(&redis::cmd("MULTI")).await.unwrap();
        match self.source.ask(&redis::cmd("EXEC")).await.unwrap() {
            Value::Nil => Ended::Changed,
            Value::Array(answers) if answers.is_empty() => {
                // Fields that have expired are counted, and not told.
                let all = reader.done() == reader.length() || reader.kind() == KeyType::Hash;
                assert!(all, "{} of {}", reader.done(), reader.length());
                Ended::Written(pieces)
            }
            other => panic!("EXEC of nothing answers {other:?}"),
        }
    }

    /// First a part of a piece's commands, as if the connection had been lost then, and all of them afterwards.
    async fn write_twice(
        &mut self,
        piece: &Piece,
        key: &[u8],
        number: usize,
    ) -> Result<(), Obstacle> {
        let commands = piece.commands(key, &self.abilities)?;
        let part = number % (commands.len() + 1);
        for command in commands.iter().take(part).chain(&commands) {
            match self.target.ask(command).await {
                Err(LinkError::Reply(_, line)) if piece.is_written(&line) => {}
                answer => drop(answer.unwrap()),
            }
        }
        Ok(())
    }

    fn dumps(&mut self, key: &[u8]) -> [Option<Vec<u8>>; 2] {
        self.servers
            .each_mut()
            .map(|server| redis::cmd("DUMP").arg(key).query(server).unwrap())
    }

    /// Whether both sides hold the same.
    fn assert_equal(&mut self, key: &[u8]) {
        self.assert_equal_with(key, true);
    }

    fn assert_equal_with(&mut self, key: &[u8], field_expiries: bool) {
        let shown = key.escape_ascii();
        let [here, there] = self
            .dumps(key)
            .map(|dump| dump.unwrap_or_else(|| panic!("{shown} is missing")));
        let rules = DigestRules {
            now_ms: 0,
            field_expiries,
            stream_level: StreamLevel::of_type(here[0]).min(StreamLevel::of_type(there[0])),
        };
        let [one, other] = [here, there].map(|dump| of_payload(&dump, rules).unwrap());
        assert_eq!(one.compare(&other), Comparison::Equal, "{shown}");
    }
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::new(Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
    })
}

async fn control(server: &Server) -> Control {
    Control::connect(&endpoint(server), 0, TIMEOUT)
        .await
        .unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// A command with its words, for what tests do on servers.
fn tell(connection: &mut redis::Connection, words: &[&[u8]]) -> Value {
    let mut command = redis::Cmd::new();
    words.iter().for_each(|word| {
        command.arg(*word);
    });
    command
        .query(connection)
        .unwrap_or_else(|error| panic!("{}: {error}", words[0].escape_ascii()))
}
