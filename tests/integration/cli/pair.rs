//! Two servers, the first of them with keys, and a place for the state.

use crate::support::redknot::Redknot;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};

/// Keys of the source.
pub const KEYS: u64 = 100_000;

/// See the module.
pub struct Pair {
    pub source: Server,
    pub target: Server,
    pub state: tempfile::TempDir,
}

impl Pair {
    /// `None` where a binary is missing.
    pub fn new() -> Option<Self> {
        let binary = require(REDIS_7_0)?;
        let pair = Self {
            source: Server::plain(&binary),
            target: Server::plain(&binary),
            state: tempfile::tempdir().unwrap(),
        };
        redis::cmd("DEBUG")
            .arg("POPULATE")
            .arg(KEYS)
            .query::<()>(&mut pair.source.connection())
            .unwrap();
        Some(pair)
    }

    pub fn migrate_named(&self, name: &str, to: &str) -> Redknot {
        Redknot::migrate(&self.source.url(0), to, self.state.path()).args(["--name", name])
    }
}
