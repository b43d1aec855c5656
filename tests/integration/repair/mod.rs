//! Repairing what a comparison found: each verdict, what is deleted and what is not, bad days, and deaths.
//!
//! # Invariant
//!
//! What was repaired is judged by the oracle, which shares no code with redknot.

/// What may be deleted, and what has to be said for it.
mod confirm;
/// Kills, lost connections, full memories, signals.
mod faults;
/// What is done about each verdict, and what is said of it.
mod verdicts;

use std::path::Path;

use ::redknot::progress::Status;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Difference, Oracle};
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{Binary, REDIS_7_0, require};

const NAME: &str = "shop";

/// Two servers with the same keys, which redknot has copied, and its state.
struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
    /// What the target is called by: itself, or a proxy in front of it.
    to: String,
}

impl Pair {
    /// Of `keys` keys of all kinds.
    fn new(keys: u32) -> Option<Self> {
        let redis = require(REDIS_7_0)?;
        Some(Self::of(&redis, &redis, keys))
    }

    fn of(source: &Binary, target: &Binary, keys: u32) -> Self {
        let (source, target) = (Server::plain(source), Server::plain(target));
        if keys > 0 {
            fill(&source, 0, &DataSet::new(keys, seed()));
        }
        let to = target.url(0);
        let pair = Self {
            source,
            target,
            state: tempfile::tempdir().unwrap(),
            to,
        };
        pair.migrate(&[]);
        pair
    }

    fn migrate(&self, args: &[&str]) {
        Redknot::migrate(&self.source.url(0), &self.to, self.state.path())
            .args(["--name", NAME, "-q"])
            .args(args)
            .run()
            .expect_code(0);
    }

    /// Runs commands, one a line, on a server.
    fn on(server: &Server, commands: &[&str]) {
        let mut connection = server.connection();
        for command in commands {
            let mut words = command.split(' ');
            let mut sent = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                sent.arg(word);
            });
            sent.exec(&mut connection).unwrap();
        }
    }

    /// Compares both sides.
    fn compare(&self) {
        let differences = self.differences();
        plant::findings(self.state.path(), &differences);
    }

    fn differences(&self) -> Vec<Difference> {
        Oracle::between(&self.source, &self.target)
            .compare()
            .differences
    }

    /// `redknot repair shop ARGS…`.
    fn repair(&self, args: &[&str]) -> Redknot {
        self.redknot("repair", args)
    }

    fn redknot(&self, command: &str, args: &[&str]) -> Redknot {
        Redknot::new([command, NAME, "--state-dir"])
            .arg(self.state.path())
            .args(args)
    }

    /// How many findings `redknot keys` lists.
    fn findings(&self) -> usize {
        let keys = self.redknot("keys", &["--class", "findings", "--json"]);
        keys.run().expect_code(0).json_lines().len()
    }

    fn status(&self) -> Status {
        status(NAME, self.state.path())
    }

    /// Lines of the journal of one kind.
    fn journal(&self, event: &str) -> Vec<serde_json::Value> {
        let path = self.state.path().join(NAME).join("audit.ndjson");
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &serde_json::Value| line["event"] == event)
            .collect()
    }
}

/// The last event of a kind that a run with `--json` told.
fn last_event(finished: &Finished, kind: &str) -> serde_json::Value {
    let mut lines = finished.json_lines().into_iter();
    let last = lines.rfind(|line| line["type"] == kind);
    last.unwrap_or_else(|| panic!("no event {kind}\n{finished}"))
}

/// Findings in a state, without a comparison.
mod plant {
    use ::redknot::progress::Verdict;
    use ::redknot::state::record::*;
    use ::redknot::state::{self, CompareCommit, Durability, OpenRequest, Reader};

    use super::*;
    use crate::support::oracle;

    pub fn findings(state_dir: &Path, differences: &[Difference]) {
        let plan = Reader::open(state_dir, NAME, "test")
            .unwrap()
            .meta()
            .plan
            .clone();
        let mut store = state::open(&OpenRequest {
            state_dir,
            name: NAME,
            plan: &plan,
            restart: false,
            durability: Durability::Fsync,
            command: "test",
        })
        .unwrap();
        store
            .begin_compare(CompareRules {
                sample: None,
                one_way: false,
                ttl_tolerance_ms: Some(1000),
                recorded: false,
            })
            .unwrap();
        let mut checkpoint = store.compare_lanes()[0].clone();
        let candidates = |difference: &Difference| {
            let record = CandidateRecord {
                verdict: verdict(difference),
                source_seen: [0; 16],
                target_seen: [0; 16],
                first_ms: 1,
                read_ms: 1,
                rounds: 1,
                unchanged: 1,
                payload_bytes: 100,
                from_target: false,
            };
            (difference.key.clone(), record)
        };
        let commit = |checkpoint: &CompareLane| CompareCommit {
            lane: 0,
            checkpoint: checkpoint.clone(),
            canary: false,
            candidates: vec![],
            reread: vec![],
            settled: vec![],
            findings: vec![],
        };
        for difference in differences {
            checkpoint.counters.count(verdict(difference));
        }
        checkpoint.counters.keys_scanned = checkpoint.counters.keys_compared;
        checkpoint = store
            .commit_compare(CompareCommit {
                candidates: differences.iter().map(candidates).collect(),
                ..commit(&checkpoint)
            })
            .unwrap();
        checkpoint.stage = CompareStage::Done;
        let findings = differences.iter().map(|difference| {
            let record = FindingRecord {
                verdict: verdict(difference),
                key_type: "some".into(),
                detail: difference.detail.clone(),
                source_digest: None,
                target_digest: None,
                payload_bytes: 100,
                found_ms: 1,
                state: FindingState::Open,
            };
            (difference.key.clone(), record)
        });
        store
            .commit_compare(CompareCommit {
                findings: findings.collect(),
                ..commit(&checkpoint)
            })
            .unwrap();
        let run = store.run();
        store
            .end_compare(CompareEnded {
                run,
                at_ms: 1,
                counters: checkpoint.counters,
                source_digest: String::new(),
                target_digest: String::new(),
                not_compared: vec![],
            })
            .unwrap();
        store.end_run("compared").unwrap();
    }

    fn verdict(difference: &Difference) -> Verdict {
        match difference.verdict {
            oracle::Verdict::Missing => Verdict::Missing,
            oracle::Verdict::Extra => Verdict::Extra,
            oracle::Verdict::Type => Verdict::Type,
            oracle::Verdict::Value => Verdict::Value,
            oracle::Verdict::Expiry => Verdict::Ttl,
            oracle::Verdict::NotCompared => Verdict::Undecided,
        }
    }
}
