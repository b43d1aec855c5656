//! `redknot compare`, `repair` and `keys` on real servers, judged by an oracle that shares no code with them.
//!
//! A comparison is wrong in two ways: it is silent where the sides differ, or it finds what is not there. So each test
//! knows, from the damage that was done or from the oracle, exactly which keys must be found, and as what.

/// Every damage is found as well where keys are compared in pieces.
mod big;
/// Memory, what the servers are asked for, and what is printed of hostile names.
mod bounds;
/// Nothing is found on pairs that redknot has copied, between all versions.
mod clean;
/// A thousand damages are found, each with its verdict, and nothing else.
mod findings;
/// Killed, cut off, or left by a source that restarts: it goes on, and the result is the same.
mod interrupted;
/// Sources that do not stand still.
mod live;
/// Parts of the keys, other databases, other tolerances, wrong names.
mod options;
/// The source is gone: what was recorded of each key proves the target.
mod recorded;
/// What was found is made right, and nothing else is touched.
mod repair;

use crate::support::comparing::{self, Compared, Findings};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::server::Server;
use crate::support::version::{Kind, require};

const NAME: &str = "compared";

/// Two servers, and the state of what was done between them.
struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    /// Two empty servers, or nothing where a binary is missing.
    fn empty(from: Kind, to: Kind) -> Option<Self> {
        let (from, to) = (require(from)?, require(to)?);
        Some(Self {
            source: Server::plain(&from),
            target: Server::plain(&to),
            state: tempfile::tempdir().unwrap(),
        })
    }

    /// A source with the keys of `set`, and a target that redknot has filled.
    fn migrated(from: Kind, to: Kind, set: &DataSet) -> Option<Self> {
        let pair = Self::empty(from, to)?;
        fill(&pair.source, 0, set);
        pair.migrate();
        Some(pair)
    }

    /// Copies all keys, of which none may be left out.
    fn migrate(&self) -> Finished {
        let finished = self.migration().run().expect_code(0);
        let counters = status(NAME, self.state.path()).counters;
        assert_eq!(counters.keys_quarantined, 0, "{finished}");
        assert!(counters.balance(), "{finished}");
        finished
    }

    fn migration(&self) -> Redknot {
        Redknot::migrate(&self.source.url(0), &self.target.url(0), self.state.path())
            .args(["--name", NAME])
    }

    /// Nobody writes, so what differs differs for good: there is nothing to wait for.
    fn compare(&self) -> Redknot {
        self.compare_settling("50ms")
    }

    fn compare_settling(&self, time: &str) -> Redknot {
        comparing::compare(NAME, self.state.path()).args(["--settle", time])
    }

    /// A comparison from its begin to its end, with this exit code.
    #[track_caller]
    fn compared(&self, code: i32) -> Compared {
        let compared = Compared::of(self.compare().run().expect_code(code));
        comparing::assert_status_agrees(&compared, NAME, self.state.path());
        compared
    }

    fn repair(&self) -> Redknot {
        comparing::repair(NAME, self.state.path())
    }

    #[track_caller]
    fn findings(&self) -> Findings {
        comparing::findings(NAME, self.state.path())
    }

    fn oracle(&self) -> Oracle<'_> {
        Oracle::between(&self.source, &self.target)
    }

    /// What the oracle finds.
    fn differences(&self) -> Findings {
        comparing::of_oracle(&self.oracle().compare().differences)
    }
}
