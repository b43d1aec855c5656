//! Disks that refuse: full and read-only. They are small file systems in memory, which only root can mount.

#![expect(clippy::print_stderr, reason = "a test that can't run says why")]

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::error::{Class, Error};

/// A mounted file system in memory; unmounted when dropped.
struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    /// `None`, with the reason on stderr, where mounting is not allowed.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .output();
        match output {
            Ok(output) if output.status.success() => return Some(Self { folder }),
            Ok(output) => eprintln!(
                "skipped: mount says {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => eprintln!("skipped: mount can't be run: {error}"),
        }
        None
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.folder.path())
            .status();
        assert!(status.unwrap().success());
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.path().join("migrations-state")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since the engine closes its files some time after it was dropped.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

fn check(error: &StoreError, says: &[&str]) {
    let error = Error::from(error.clone());
    let text = format!(
        "{error}\nhint: {}",
        error.hint.as_deref().unwrap_or("(none)")
    );
    assert_eq!(error.class, Class::StateIo, "{text}");
    for words in says {
        assert!(text.contains(words), "\"{words}\" is not in: {text}");
    }
}

#[test]
fn a_full_disk_stops_the_store_and_room_lets_it_go_on() {
    let Some(tmpfs) = Tmpfs::mount("size=2m") else {
        return;
    };
    let state_dir = tmpfs.state_dir();
    let mut store = open_in(&state_dir, &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    let error = loop {
        if let Err(error) = commit_some(&mut store, 0, 1) {
            break error;
        }
        assert!(store.lanes()[0].next_seq < 100_000, "2 MiB hold everything");
    };
    check(
        &error,
        &[
            "no space left on device",
            "bytes are free there",
            "run the same command again",
        ],
    );
    let acknowledged = store.lanes()[0].clone();
    assert!(
        acknowledged.next_seq > 10,
        "full after {} batches",
        acknowledged.next_seq
    );
    // Final for this process, even if there is room again.
    tmpfs.remount("size=64m");
    assert_eq!(commit_some(&mut store, 0, 1), Err(error.clone()));
    assert_eq!(store.end_run("disk full"), Err(error));
    drop(store);

    let mut store = open_in(&state_dir, &plan(1)).unwrap();
    let found = store.lanes()[0].next_seq;
    // The commit that failed may have reached the disk all the same; nothing that was acknowledged is missing.
    assert!(
        found >= acknowledged.next_seq,
        "{found} of {}",
        acknowledged.next_seq
    );
    commit_some(&mut store, 0, 100).unwrap();
    store.end_run("stopped").unwrap();
    drop(store);
    assert_eq!(
        open_in(&state_dir, &plan(1)).unwrap().lanes()[0].next_seq,
        found + 100
    );
}

#[tokio::test]
async fn a_recorder_tells_of_a_full_disk_and_writes_nothing_more() {
    let Some(tmpfs) = Tmpfs::mount("size=2m") else {
        return;
    };
    let mut store = open_in(&tmpfs.state_dir(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    let recorder = Recorder::start(store);
    let mut durable = recorder.durable();
    for seq in 0..50_000 {
        recorder.submit(0, batch(1, seq, seq, seq + 1));
    }
    let told = durable
        .wait_for(|durable| durable.error.is_some())
        .await
        .unwrap()
        .clone();
    let error = told.error.unwrap();
    check(&error, &["no space left on device"]);
    let ended = recorder
        .with_store(|store| store.end_run("disk full"))
        .await
        .unwrap();
    assert_eq!(ended, Err(error.clone()));
    assert_eq!(recorder.finish().unwrap_err(), error);
    tmpfs.remount("size=64m");
    let store = open_in(&tmpfs.state_dir(), &plan(1)).unwrap();
    assert!(store.lanes()[0].next_seq >= told.batches_durable_total);
}

#[test]
fn a_disk_too_small_to_begin_on_is_told() {
    let Some(tmpfs) = Tmpfs::mount("size=12k") else {
        return;
    };
    let error = open_in(&tmpfs.state_dir(), &plan(1)).unwrap_err();
    check(&error, &["no space left on device"]);
    // The same command works once there is room.
    tmpfs.remount("size=64m");
    open_in(&tmpfs.state_dir(), &plan(1)).unwrap();
}

#[test]
fn a_read_only_disk_is_told() {
    let Some(tmpfs) = Tmpfs::mount("size=8m") else {
        return;
    };
    tmpfs.remount("ro");
    let error = open_in(&tmpfs.state_dir(), &plan(1)).unwrap_err();
    check(&error, &["read-only file system", "--state-dir"]);
    tmpfs.remount("rw");
    drop(open_in(&tmpfs.state_dir(), &plan(1)).unwrap());
    tmpfs.remount("ro");
    let error = open_in(&tmpfs.state_dir(), &plan(1)).unwrap_err();
    check(&error, &["read-only file system"]);
}
