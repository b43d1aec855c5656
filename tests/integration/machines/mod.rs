//! What other programs read and are told: events as JSON, metrics, hooks, the log; and what is made for them in `deploy/`.

/// Dashboard, rules and unit.
mod deploy;
/// Programs that are run when something happens.
mod hooks;
/// Events of `--json` and their contract.
mod json;
/// Lines on standard error as objects.
mod log;
/// The page that Prometheus reads.
mod metrics;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::dataset::{DataSet, fill};
use crate::support::redknot::{Redknot, Running};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

const NAME: &str = "watched";

/// Two servers and a folder for states.
struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    /// With so many keys on the source.
    fn with_keys(keys: u32) -> Option<Self> {
        let redis = require(REDIS_7_0)?;
        let pair = Self {
            source: Server::plain(&redis),
            target: Server::plain(&redis),
            state: tempfile::tempdir().unwrap(),
        };
        fill(&pair.source, 0, &DataSet::new(keys, 5));
        Some(pair)
    }

    fn state(&self) -> &Path {
        self.state.path()
    }

    fn migrate(&self, args: &[&str]) -> Redknot {
        let (from, to) = (self.source.address(), self.target.address());
        let (from, to) = (format!("redis://{from}"), format!("redis://{to}"));
        Redknot::migrate(&from, &to, self.state())
            .args(["--name", NAME])
            .args(args)
    }

    /// Waits until the target has a part of the source's keys, while a run goes on.
    fn wait_for_share(&self, share: f64, running: &mut Running) {
        let wanted = (self.source.keys(0) as f64 * share) as u64;
        wait_for("a part of the keys", Duration::from_secs(60), || {
            assert!(
                running.is_running(),
                "the run ended too early: {}",
                running.stderr_so_far()
            );
            (self.target.keys(0) >= wanted).then_some(())
        });
    }
}

/// A file of this project.
fn project_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {}", path.display()))
}

/// A folder with one hook: a script of the shell.
fn hook(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_hook(&folder.path().join(name), script);
    folder
}

fn write_hook(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Where a hook waits until the test has looked.
struct Gate(tempfile::TempDir);

impl Gate {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn reached(&self) -> PathBuf {
        self.0.path().join("reached")
    }

    /// A hook that waits here, but not forever.
    fn script(&self) -> String {
        let reached = self.reached();
        let reached = reached.display();
        format!(
            "touch {reached}; for i in $(seq 1000); do test -e {reached} || exit 0; sleep 0.02; done; exit 1"
        )
    }

    fn is_reached(&self) -> bool {
        self.reached().exists()
    }

    /// Waits for a hook and lets it through.
    fn open(&self) {
        wait_for("a hook at the gate", Duration::from_secs(60), || {
            self.is_reached().then_some(())
        });
        std::fs::remove_file(self.reached()).unwrap();
    }
}
