//! What a plan means, kept by copy, compare and repair alike: databases, names, lists.
//!
//! What has to be on the target is worked out here, from the source's names and a rule written down in the test, by plain
//! commands; nothing of the code under test is asked.

/// All databases, some of them, several into one.
mod databases;
/// Patterns mean here what they mean to servers.
mod globs;
/// Keys that a list names, from servers that nobody may scan.
mod lists;
/// Selection and renaming.
mod names;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::comparing::{Compared, Listed, keys, listed, repair};
use crate::support::redknot::{Finished, Redknot};
use crate::support::server::Server;
use crate::support::version::{Kind, require};

const NAME: &str = "planned";

/// Names and what is under them, by plain commands.
type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

/// Two servers and a folder for states.
struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    fn new(kind: Kind) -> Option<Self> {
        let binary = require(kind)?;
        Some(Self {
            source: Server::plain(&binary),
            target: Server::plain(&binary),
            state: tempfile::tempdir().unwrap(),
        })
    }

    fn state(&self) -> &Path {
        self.state.path()
    }

    /// `redknot migrate` between both, with these arguments.
    fn migrate(&self, args: &[&str]) -> Redknot {
        migrate(&url(&self.source), &url(&self.target), self.state(), args)
    }

    /// A file with these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        // Beside the states, and hidden, as nothing else belongs there.
        let path = self.state().join(format!(".{name}"));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Forgets what was copied.
    fn clear(&mut self) {
        self.state = tempfile::tempdir().unwrap();
        redis::cmd("FLUSHALL")
            .exec(&mut self.target.connection())
            .unwrap();
    }
}

/// A URL without a database.
fn url(server: &Server) -> String {
    format!("redis://{}", server.address())
}

fn migrate(from: &str, to: &str, state: &Path, args: &[&str]) -> Redknot {
    Redknot::migrate(from, to, state)
        .args(["--name", NAME])
        .args(args)
}

/// `redknot compare` of the migration, which has to come to a result.
#[track_caller]
fn compare(state: &Path, code: i32) -> Compared {
    let command = Redknot::new(["compare", NAME, "--json", "--settle", "10ms", "--state-dir"]);
    Compared::of(command.arg(state).run().expect_code(code))
}

/// What the newest comparison found: database of the source, name, verdict.
#[track_caller]
fn found(state: &Path) -> Vec<(u64, String, String)> {
    let all = listed(NAME, "findings", state);
    let mut all: Vec<_> = all
        .into_iter()
        .map(
            |Listed {
                 db,
                 escaped,
                 verdict,
                 ..
             }| (db, escaped, verdict),
        )
        .collect();
    all.sort();
    all
}

/// Damages one key on the target, and has exactly that found, mended, and nothing found after it.
#[track_caller]
fn one_damage_is_found_and_mended(
    target: &mut redis::Connection,
    state: &Path,
    (db, name): (u64, &str),
    name_there: &str,
) {
    redis::cmd("SET")
        .arg(name_there)
        .arg("damaged")
        .exec(target)
        .unwrap();
    let compared = compare(state, 1);
    let verdict = found(state);
    assert_eq!(verdict.len(), 1, "{verdict:?}\n{}", compared.finished);
    assert_eq!((verdict[0].0, verdict[0].1.as_str()), (db, name));
    repair(NAME, state).arg("--apply").run().expect_code(0);
    compare(state, 0);
}

/// `NAME`'s strings of a database, read by plain commands. Every key is expected to be one.
fn strings(connection: &mut redis::Connection) -> Keys {
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(connection).unwrap();
    if names.is_empty() {
        return Keys::new();
    }
    let values: Vec<Vec<u8>> = redis::cmd("MGET").arg(&names).query(connection).unwrap();
    names.into_iter().zip(values).collect()
}

/// Sets strings.
fn set(connection: &mut redis::Connection, keys: impl IntoIterator<Item = (String, String)>) {
    let keys: Vec<(String, String)> = keys.into_iter().collect();
    for part in keys.chunks(5_000) {
        let mut pipe = redis::pipe();
        for (name, value) in part {
            pipe.cmd("SET").arg(name).arg(value).ignore();
        }
        pipe.exec(connection).unwrap();
    }
}

/// Every quarantined key: database, name, reason.
#[track_caller]
fn quarantined(state: &Path) -> Vec<(u64, String, String)> {
    let lines = keys(NAME, "quarantined", state)
        .arg("--json")
        .run()
        .expect_code(0)
        .json_lines();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let mut all: Vec<_> = lines
        .iter()
        .map(|line| {
            let db = line["db"].as_u64().unwrap();
            (db, text(line, "key"), text(line, "reason"))
        })
        .collect();
    all.sort();
    all
}

/// What a run said to the operator.
fn said(finished: &Finished) -> String {
    finished.stderr()
}
