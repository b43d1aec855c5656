//! Replicas: as sources with what that means, promoted and cut off while they are read; as targets not at all.

use std::time::Duration;

use ::redknot::progress::RunState;
use rustix::process::Signal;

use crate::cluster::Slowed;
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::assert_equal;
use crate::support::redknot::{Redknot, Running, status, status_file};
use crate::support::sentinel::follow;
use crate::support::server::{Server, ServerSpec, free_port};
use crate::support::version::{Kind, REDIS_7_0, VALKEY_9_1, require};
use crate::support::{seed, wait_for};

const NAME: &str = "replica";
const KINDS: [Kind; 2] = [REDIS_7_0, VALKEY_9_1];
/// Enough for a run to be met in its middle.
const KEYS: u32 = 30_000;

/// Each kind of server at the same time.
fn with_each_kind(test: impl Fn(Setting) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for kind in KINDS {
            scope.spawn(move || Setting::new(kind).map(test));
        }
    });
}

struct Setting {
    master: Server,
    replica: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Setting {
    /// A master with keys, a replica that answers only while it has its master, and an empty target.
    fn new(kind: Kind) -> Option<Self> {
        let binary = require(kind)?;
        let strict = ServerSpec::new(binary.clone()).config("replica-serve-stale-data", "no");
        let setting = Self {
            master: Server::plain(&binary),
            replica: Server::start(strict),
            target: Server::plain(&binary),
            state: tempfile::tempdir().unwrap(),
        };
        fill(&setting.master, 0, &DataSet::new(KEYS, seed()));
        follow(&setting.replica, &setting.master);
        Some(setting)
    }

    fn migrate(&self, from: &Server, to: &Server) -> Redknot {
        Redknot::migrate(&from.url(0), &to.url(0), self.state.path()).args([
            "--name",
            NAME,
            "--no-progress",
            "--batch",
            "100",
        ])
    }

    /// A run that reads the replica and stands still in its middle.
    fn held(&self) -> Running {
        let running = Slowed::new(self.migrate(&self.replica, &self.target).start());
        wait_for(
            "the run to be in its middle",
            Duration::from_secs(60),
            || {
                assert!(running.is_running(), "the run ended too early");
                status_file(NAME, self.state.path()).filter(|status| status.batches_durable > 0)
            },
        );
        let mut running = running.release();
        running.signal(Signal::STOP);
        assert!(running.is_running(), "the run ended too early");
        running
    }

    fn follows(&self, port: &str) {
        let words: [&str; 2] = match port {
            "nobody" => ["NO", "ONE"],
            port => ["127.0.0.1", port],
        };
        redis::cmd("REPLICAOF")
            .arg(&words)
            .query::<()>(&mut self.replica.connection())
            .unwrap();
    }
}

#[test]
fn a_replica_that_is_promoted_while_it_is_read_is_read_to_its_end() {
    with_each_kind(|setting| {
        let running = setting.held();
        setting.follows("nobody");
        running.signal(Signal::CONT);
        let finished = running.wait().expect_code(0);
        assert!(
            finished.stderr().contains("the source is a replica"),
            "{finished}"
        );
        assert_equal(&setting.replica, &setting.target);
        let status = status(NAME, setting.state.path());
        assert_eq!(status.state, RunState::Complete);
        // The same process, the same hash seed: its cursor lives.
        assert_eq!(status.passes.len(), 1, "{:?}", status.passes);
    });
}

#[test]
fn a_replica_that_loses_its_master_is_waited_for() {
    with_each_kind(|setting| {
        let running = setting.held();
        setting.follows(&free_port().to_string());
        running.signal(Signal::CONT);
        wait_for("the run to be refused", Duration::from_secs(30), || {
            let said = running.stderr_so_far();
            said.contains("MASTERDOWN").then_some(())
        });
        setting.follows(&setting.master.port().to_string());
        let finished = running.wait().expect_code(0);
        assert!(
            finished.stderr().contains("source answers again"),
            "{finished}"
        );
        assert_equal(&setting.master, &setting.target);
        let status = status(NAME, setting.state.path());
        assert_eq!(status.passes.len(), 1, "{:?}", status.passes);
    });
}

#[test]
fn servers_that_replicate_each_other_are_no_two_sides() {
    let Some(setting) = Setting::new(REDIS_7_0) else {
        return;
    };
    let second = Server::plain(&require(REDIS_7_0).unwrap());
    follow(&second, &setting.master);
    let said = |from: &Server, to: &Server| {
        let refused = setting.migrate(from, to).args(["--restart", "-q"]).run();
        format!("exit {}\n{}\n", refused.code().unwrap(), refused.stderr())
    };
    let mut all = said(&setting.master, &setting.replica);
    all += &said(&second, &setting.replica);
    all += &said(&setting.replica, &setting.master);
    all += &said(&setting.target, &setting.replica);
    insta::assert_snapshot!(all, @r"
    exit 22
    error: target: failed to use the target
      it is a replica of the source, or of the same master: replication overwrites what is written to it
    hint: the target has to be a server that replicates nobody; if it is to have the source's data, it has them already

    exit 22
    error: target: failed to use the target
      it is a replica of the source, or of the same master: replication overwrites what is written to it
    hint: the target has to be a server that replicates nobody; if it is to have the source's data, it has them already

    exit 22
    error: source: failed to use the source
      it is a replica of the target: it has what the target has, and what is written to the target comes back to it
    hint: give the address of another server on one of both sides

    exit 22
    error: target: failed to use the target
      it is a replica, and replicas refuse writes
    hint: give --to the address of its master (INFO replication, master_host)
    ");
}

#[test]
fn what_a_replica_means_for_a_source_is_said() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let (master, replica) = (Server::plain(&binary), Server::plain(&binary));
    fill(&master, 0, &DataSet::new(100, seed()));
    follow(&replica, &master);
    let target = Server::plain(&binary);
    let state = tempfile::tempdir().unwrap();
    let said = || {
        Redknot::migrate(&replica.url(0), &target.url(0), state.path())
            .args(["--name", NAME, "--restart", "--on-conflict", "replace"])
            .run()
            .expect_code(0)
            .stderr()
    };
    let with_its_master = said();
    assert!(
        with_its_master.contains("it lags behind its master"),
        "{with_its_master}"
    );
    assert!(!with_its_master.contains("has lost"), "{with_its_master}");
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(free_port())
        .query::<()>(&mut replica.connection())
        .unwrap();
    let alone = said();
    assert!(
        alone.contains("it has lost its master, so what it has may be old"),
        "{alone}"
    );
}
