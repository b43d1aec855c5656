//! What may lie where the state belongs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::Said;
use crate::support::redknot::{Finished, Redknot};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

struct Pair {
    source: Server,
    target: Server,
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(keys: u32) -> Option<Self> {
        let binary = require(REDIS_7_0)?;
        let pair = Self {
            source: Server::plain(&binary),
            target: Server::plain(&binary),
            folder: tempfile::tempdir().unwrap(),
        };
        redis::cmd("DEBUG")
            .arg("POPULATE")
            .arg(keys)
            .query::<()>(&mut pair.source.connection())
            .unwrap();
        Some(pair)
    }

    fn migrate_in(&self, state: &Path) -> Redknot {
        Redknot::migrate(&self.source.url(0), &self.target.url(0), state).args(["--name", "m"])
    }

    fn migrate(&self) -> Redknot {
        self.migrate_in(&self.folder.path().join("state"))
    }

    fn said(&self, finished: &Finished) -> Said {
        Said::of(finished)
            .hide_path(self.folder.path(), "FOLDER")
            .hide(&format!(":{}", self.source.port()), ":SOURCE")
            .hide(&format!(":{}", self.target.port()), ":TARGET")
    }
}

#[test]
fn a_missing_folder_is_made_for_its_owner_alone() {
    let Some(pair) = Pair::new(10) else { return };
    pair.migrate().run().expect_code(0);
    for path in ["state", "state/m"] {
        let mode = fs::metadata(pair.folder.path().join(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{path}");
    }
}

#[test]
fn what_is_no_folder_of_states_is_refused_and_left_alone() {
    let Some(pair) = Pair::new(10) else { return };
    let folder = pair.folder.path();
    fs::write(folder.join("file"), "mine").unwrap();
    fs::create_dir(folder.join("strange")).unwrap();
    fs::write(folder.join("strange/passwd"), "mine").unwrap();
    fs::create_dir(folder.join("open")).unwrap();
    fs::set_permissions(folder.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(folder.join("elsewhere")).unwrap();
    symlink(folder.join("elsewhere"), folder.join("link")).unwrap();
    let mut said = String::new();
    for name in ["file", "file/below", "strange", "open", "link"] {
        let finished = pair.migrate_in(&folder.join(name)).arg("-q").run();
        said += &format!("{name}: {}\n\n", pair.said(&finished));
    }
    let finished = pair.migrate_in(Path::new("/proc/redknot")).arg("-q").run();
    said += &format!("unwritable: {}\n\n", pair.said(&finished));
    insta::assert_snapshot!(said, @r"
    file: exit 13
    error: failed to open the state
      FOLDER/file is not a folder
    hint: use a folder of your own that only you can write to

    file/below: exit 13
    error: failed to open the state
      FOLDER/file/below is below a file
    hint: use a folder of your own that only you can write to

    strange: exit 2
    error: failed to open the state
      FOLDER/strange holds other files and no migration; nothing was written to it
    hint: name an empty or a new folder with `--state-dir`

    open: exit 13
    error: failed to open the state
      FOLDER/open can be written by everybody (mode 0777)
    hint: use a folder of your own that only you can write to

    link: exit 13
    error: failed to open the state
      FOLDER/link is a symbolic link
    hint: use a folder of your own that only you can write to

    unwritable: exit 13
    error: failed to create the folder /proc/redknot
      No such file or directory (os error 2)
    hint: what was acknowledged before is safe; look after the disk and run the same command again
    ");
    assert_eq!(fs::read_dir(folder.join("strange")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(folder.join("elsewhere")).unwrap().count(), 0);
    assert_eq!(pair.target.keys(0), 0);
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let Some(pair) = Pair::new(10) else { return };
    let mut said = String::new();
    for name in ["../m", "", ".hidden", "a b"] {
        let state = pair.folder.path().join("state");
        let finished = Redknot::migrate("redis://h", "redis://g", &state)
            .args(["-q", "--name", name])
            .run();
        said += &format!("{}\n\n", pair.said(&finished));
    }
    insta::assert_snapshot!(said, @r#"
    exit 2
    error: failed to name the migration
      "../m" can't be the name of a folder
    hint: use up to 128 letters, digits, `.`, `_` and `-`, and begin with a letter or digit

    exit 2
    error: failed to name the migration
      "" can't be the name of a folder
    hint: use up to 128 letters, digits, `.`, `_` and `-`, and begin with a letter or digit

    exit 2
    error: failed to name the migration
      ".hidden" can't be the name of a folder
    hint: use up to 128 letters, digits, `.`, `_` and `-`, and begin with a letter or digit

    exit 2
    error: failed to name the migration
      "a b" can't be the name of a folder
    hint: use up to 128 letters, digits, `.`, `_` and `-`, and begin with a letter or digit
    "#);
    assert!(!pair.folder.path().join("m").exists());
}

#[test]
fn a_migration_that_is_worked_on_is_locked() {
    let Some(pair) = Pair::new(200_000) else {
        return;
    };
    let running = pair.migrate().args(["--batch", "1"]).start();
    wait_for("the first run", Duration::from_secs(30), || {
        (pair.target.keys(0) > 0).then_some(())
    });
    let finished = pair.migrate().run();
    let said = pair.said(&finished).hide(&running.pid().to_string(), "PID");
    assert!(
        said.to_string()
            .starts_with("exit 14\nerror: failed to open the state\n  `"),
        "{said}"
    );
    assert!(said.to_string().contains("with pid PID on "), "{said}");
    assert!(finished.wall < Duration::from_secs(5), "{finished}");
    running.kill_9();
    // The lock of a dead process is taken over, and that is said.
    let finished = pair.migrate().run().expect_code(0);
    assert!(finished.stderr().contains("taken over"), "{finished}");
    assert_eq!(pair.target.keys(0), 200_000);
}

#[test]
fn a_state_of_another_plan_is_refused_with_both_values() {
    let Some(pair) = Pair::new(10) else { return };
    pair.migrate().run().expect_code(0);
    let finished = pair
        .migrate()
        .args(["--match", "key:*", "--ttl", "drop", "--on-conflict", "skip"])
        .run();
    insta::assert_snapshot!(pair.said(&finished), @r"
    exit 26
    error: failed to resume migration m
      the plan differs
        --match: previous (none), now key:*
        --on-conflict: previous (not given), now skip
        --ttl: previous keep, now drop
    hint: use the previous values to continue it, another `--name` to begin another migration, or `--restart` to set the old state aside and begin anew
    ");
}

#[test]
fn a_complete_migration_sends_nothing_when_it_is_started_again() {
    let Some(pair) = Pair::new(1_000) else { return };
    pair.migrate().run().expect_code(0);
    let restores = pair.target.writes();
    let finished = pair.migrate().run().expect_code(0);
    assert!(
        finished.stdout().contains("already complete since "),
        "{finished}"
    );
    assert!(
        finished.stdout().contains("; nothing was sent"),
        "{finished}"
    );
    assert_eq!(pair.target.writes(), restores);
    let finished = pair.migrate().arg("--new-pass").run().expect_code(0);
    assert!(finished.stderr().contains("--new-pass"), "{finished}");
    assert_eq!(pair.target.writes(), restores * 2);
}

#[test]
fn a_damaged_state_is_refused_kept_and_set_aside_on_request() {
    let Some(pair) = Pair::new(2_000) else { return };
    let state = pair.folder.path().join("state");
    for damage in [truncate as fn(&Path), scramble] {
        pair.migrate()
            .args(["--batch", "10", "--restart", "--on-conflict", "replace"])
            // Looking at the state would let the engine move what is to be damaged.
            .unaudited()
            .run()
            .expect_code(0);
        damage(&state.join("m/db/db"));
        let finished = pair
            .migrate()
            .args(["--on-conflict", "replace"])
            .run()
            .expect_code(25);
        let said = finished.stderr();
        assert!(
            said.contains("error: failed to open the state"),
            "{finished}"
        );
        assert!(
            said.contains("hint: `--restart` sets the old state aside, deletes nothing"),
            "{finished}"
        );
    }
    let finished = pair
        .migrate()
        .args(["--on-conflict", "replace", "--restart"])
        .run()
        .expect_code(0);
    assert!(finished.stdout().contains("complete"), "{finished}");
}

fn truncate(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length / 3)
        .unwrap();
}

fn scramble(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    for byte in bytes.iter_mut().step_by(7) {
        *byte ^= 0x55;
    }
    fs::write(path, bytes).unwrap();
}
