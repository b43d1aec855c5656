//! What is refused, with which words, and that refusing changes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::error::{Class, Error};
use crate::state::engine::{Engine, Writes};
use crate::state::layout;
use crate::state::record::FORMAT_VERSION;

fn refused(result: Result<Store, StoreError>) -> Error {
    match result {
        Ok(store) => panic!("opened {store:?}"),
        Err(error) => error.into(),
    }
}

/// Class and what the message and the hint must say.
fn check(error: &Error, class: Class, says: &[&str]) {
    let text = format!(
        "{error}\nhint: {}",
        error.hint.as_deref().unwrap_or("(none)")
    );
    assert_eq!(error.class, class, "{text}");
    for words in says {
        assert!(text.contains(words), "\"{words}\" is not in: {text}");
    }
}

#[test]
fn a_second_process_is_told_who_works_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(folder.path(), &plan(1)).unwrap();
    let began = std::time::Instant::now();
    let error = refused(open_in(folder.path(), &plan(1)));
    assert!(began.elapsed().as_millis() < 1_000, "{:?}", began.elapsed());
    let pid = format!("pid {}", std::process::id());
    check(
        &error,
        Class::StateLocked,
        &[&pid, "redknot migrate", "redknot status"],
    );
    check(
        &refused(restart_in(folder.path(), &plan(1))),
        Class::StateLocked,
        &[],
    );
    drop(store);
    open_in(folder.path(), &plan(1)).unwrap();
}

#[test]
fn looking_at_the_status_does_not_keep_a_run_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let dir = folder.path().join("shop");
    let looking = fs::File::open(dir.join("lock")).unwrap();
    looking.try_lock_shared().unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(looking);
    });
    open_in(folder.path(), &plan(1)).unwrap();
    release.join().unwrap();
}

#[test]
fn a_lock_left_by_a_dead_process_is_taken_over_and_said() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let holder = r#"{"pid":4711,"host":"vm-7","since_ms":1,"command":"redknot migrate"}"#;
    fs::write(folder.path().join("shop/lock"), holder).unwrap();
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.notes().len(), 1, "{:?}", store.notes());
    assert!(
        store.notes()[0].contains("4711 on vm-7"),
        "{:?}",
        store.notes()
    );
}

#[test]
fn another_plan_is_refused_with_both_values_and_three_ways_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let other = Plan {
        target: "elsewhere:6380".into(),
        match_glob: Some(b"user:*".to_vec()),
        ..plan(1)
    };
    let error = refused(open_in(folder.path(), &other));
    check(
        &error,
        Class::StateForeign,
        &[
            "resume migration shop",
            "target: previous target:6379, now elsewhere:6380",
            "--match: previous (none), now user:*",
            "previous values",
            "--name",
            "--restart",
        ],
    );
    // Refusing counted no run.
    assert_eq!(open_in(folder.path(), &plan(1)).unwrap().run(), 2);
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    store.meta.format += 1;
    let mut writes = Writes::default();
    // A newer redknot also has fields that we do not know.
    writes.put(
        layout::meta(),
        [layout::encode(&store.meta), vec![1, 2, 3]].concat(),
    );
    store.write_through(writes).unwrap();
    drop(store);
    let error = refused(open_in(folder.path(), &plan(1)));
    let newer = format!("format {}", FORMAT_VERSION + 1);
    let ours = format!("reads up to {FORMAT_VERSION}");
    check(&error, Class::StateForeign, &[&newer, &ours]);
}

#[test]
fn an_older_format_is_refused_and_can_be_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let journal = folder.path().join("shop").join("audit.ndjson");
    let lines = fs::read_to_string(&journal).unwrap();
    let created = lines.lines().next().unwrap();
    let ours = format!("\"format\":{FORMAT_VERSION}");
    let older = created.replace(&ours, "\"format\":1");
    assert_ne!(older, created);
    fs::write(&journal, older + "\n").unwrap();
    let error = refused(open_in(folder.path(), &plan(1)));
    check(
        &error,
        Class::StateForeign,
        &[
            "format 1",
            &format!("reads format {FORMAT_VERSION}"),
            "--restart",
        ],
    );
    assert!(restart_in(folder.path(), &plan(1)).is_ok());
}

#[test]
fn a_newer_format_in_the_journal_is_refused_before_the_engine_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let dir = folder.path().join("shop");
    let journal = fs::read_to_string(dir.join("audit.ndjson")).unwrap();
    let created = journal.lines().next().unwrap();
    let ours = format!("\"format\":{FORMAT_VERSION}");
    let newer = created.replace(&ours, "\"format\":99").replace(
        &format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION")),
        "\"version\":\"7.3.1\"",
    );
    fs::write(dir.join("audit.ndjson"), newer + "\n").unwrap();
    fs::write(dir.join("db/conf"), "another engine").unwrap();
    let error = refused(open_in(folder.path(), &plan(1)));
    check(&error, Class::StateForeign, &["format 99", "redknot 7.3.1"]);
}

#[test]
fn a_folder_of_somebody_else_is_refused_and_nothing_is_written_to_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("passwd"), "root:x:0:0").unwrap();
    let error = refused(open_in(folder.path(), &plan(1)));
    check(
        &error,
        Class::Usage,
        &["no migration", "nothing was written", "--state-dir"],
    );
    let inner = folder.path().join("new/shop");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("precious"), "data").unwrap();
    let error = refused(open_in(&folder.path().join("new"), &plan(1)));
    check(&error, Class::Usage, &["nothing was written"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(inner).unwrap().count(), 1);
}

#[test]
fn a_folder_with_a_readme_and_other_migrations_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["README.md", ".gitignore"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    drop(open_in(folder.path(), &plan(1)).unwrap());
    fs::write(folder.path().join("notes.txt"), "").unwrap();
    let request = OpenRequest {
        state_dir: folder.path(),
        name: "second",
        plan: &plan(1),
        restart: false,
        durability: Durability::Fsync,
        command: "test",
    };
    drop(open(&request).unwrap());
    assert_eq!(status::list(folder.path()), ["second", "shop"]);
}

#[test]
fn an_unsafe_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "").unwrap();
    let check = |state_dir: &str, says: &str| {
        let error = refused(open_in(&path(state_dir), &plan(1)));
        super::refusals::check(&error, Class::StateIo, &[says]);
    };
    check("file", "is not a folder");
    check("file/below", "is below a file");

    fs::create_dir(path("real")).unwrap();
    symlink(path("real"), path("link")).unwrap();
    check("link", "is a symbolic link");
    fs::create_dir(path("parent")).unwrap();
    symlink(path("real"), path("parent/shop")).unwrap();
    check("parent", "is a symbolic link");

    fs::create_dir(path("open")).unwrap();
    fs::set_permissions(path("open"), Permissions::from_mode(0o777)).unwrap();
    check("open", "can be written by everybody (mode 0777)");
    assert_eq!(fs::read_dir(path("open")).unwrap().count(), 0);
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that can't run says why")]
fn a_folder_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a folder to another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("foreign");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(65534), Some(65534)).unwrap();
    check(
        &refused(open_in(&dir, &plan(1))),
        Class::StateIo,
        &["belongs to user 65534"],
    );
}

#[test]
fn our_files_are_not_opened_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let state_dir = folder.path().join("state");
    for file in ["lock", "audit.ndjson"] {
        drop(open_in(&state_dir, &plan(1)).unwrap());
        let path = state_dir.join("shop").join(file);
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        refused(open_in(&state_dir, &plan(1)));
        fs::remove_dir_all(&state_dir).unwrap();
    }
    let store = open_in(&state_dir, &plan(1)).unwrap();
    symlink(&victim, state_dir.join("shop/status.json.new")).unwrap();
    store.write_status(&status(&store)).unwrap_err();
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_name_that_could_leave_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        ".hidden",
        "-rf",
        "a b",
        "x\n",
        &"x".repeat(129),
        "a.set-aside-1",
    ] {
        let request = OpenRequest {
            state_dir: folder.path(),
            name,
            plan: &plan(1),
            restart: false,
            durability: Durability::Fsync,
            command: "test",
        };
        check(&refused(open(&request)), Class::Usage, &["letters, digits"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let long = Plan {
        match_glob: Some(vec![b'x'; 100_000]),
        ..plan(1)
    };
    check(
        &refused(open_in(folder.path(), &long)),
        Class::Usage,
        &["--match"],
    );
}

#[test]
fn folders_and_files_are_ours_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("a/b");
    let mut store = open_in(&state_dir, &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit_some(&mut store, 0, 3).unwrap();
    store.write_status(&status(&store)).unwrap();
    drop(store);
    let store = open_in(&state_dir, &plan(1)).unwrap();
    let mut files = 0;
    let mut folders = vec![state_dir];
    while let Some(folder) = folders.pop() {
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder:?} {mode:o}");
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{path:?} {mode:o}");
            files += 1;
        }
    }
    assert!(
        files >= 6,
        "{files}: db, conf, snap, lock, audit.ndjson, status.json"
    );
    drop(store);
}

#[test]
fn restart_sets_everything_aside_and_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit_some(&mut store, 0, 3).unwrap();
    drop(store);
    // Also where nothing can be read any more, and for another plan.
    fs::write(folder.path().join("shop/db/conf"), "no configuration").unwrap();
    refused(open_in(folder.path(), &plan(2)));
    let store = restart_in(folder.path(), &plan(2)).unwrap();
    assert_eq!(store.run(), 1);
    assert_eq!(store.lanes(), vec![LaneCheckpoint::new(); 2]);
    drop(store);
    drop(restart_in(folder.path(), &plan(2)).unwrap());
    let mut asides: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("shop.set-aside-2"))
        .collect();
    asides.sort();
    assert_eq!(asides.len(), 2);
    assert_eq!(
        fs::read_to_string(asides[0].join("db/conf")).unwrap(),
        "no configuration"
    );
    assert!(fs::metadata(asides[0].join("db/db")).unwrap().len() > 0);
    let journal = fs::read_to_string(asides[0].join("audit.ndjson")).unwrap();
    assert_eq!(
        journal.lines().count(),
        3,
        "created, run began, pass began: {journal}"
    );
    let journal = fs::read_to_string(folder.path().join("shop/audit.ndjson")).unwrap();
    let aside = asides[1]
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert!(journal.contains(&aside), "{journal}");
    assert_eq!(status::list(folder.path()), ["shop"]);
}

#[test]
fn an_emptied_engine_is_amnesia() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    fs::remove_dir_all(folder.path().join("shop/db")).unwrap();
    for _ in 0..2 {
        let error = refused(open_in(folder.path(), &plan(1)));
        check(
            &error,
            Class::StateDamaged,
            &[
                "the journal knows of 1 runs, the store is empty",
                "--restart",
            ],
        );
    }
}

#[test]
fn an_engine_from_yesterday_is_amnesia() {
    let folder = tempfile::tempdir().unwrap();
    let yesterday = tempfile::tempdir().unwrap();
    let dir = folder.path().join("shop");
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit_some(&mut store, 0, 10).unwrap();
    store.end_run("stopped").unwrap();
    drop(store);
    copy_folder(&dir.join("db"), yesterday.path());
    let put_back = || {
        fs::remove_dir_all(dir.join("db")).unwrap();
        copy_folder(yesterday.path(), &dir.join("db"));
    };

    // A whole run is missing.
    drop(open_in(folder.path(), &plan(1)).unwrap());
    put_back();
    let error = refused(open_in(folder.path(), &plan(1)));
    check(
        &error,
        Class::StateDamaged,
        &["the journal knows of run 2, the store of 1"],
    );
}

#[test]
fn batches_that_the_engine_lost_are_amnesia() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = tempfile::tempdir().unwrap();
    let dir = folder.path().join("shop");
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit_some(&mut store, 0, 10).unwrap();
    copy_folder(&dir.join("db"), earlier.path());
    commit_some(&mut store, 0, 10).unwrap();
    store.end_run("stopped").unwrap();
    drop(store);
    fs::remove_dir_all(dir.join("db")).unwrap();
    copy_folder(earlier.path(), &dir.join("db"));
    let error = refused(open_in(folder.path(), &plan(1)));
    check(
        &error,
        Class::StateDamaged,
        &["the journal knows of batch 19 of pass 1, the store of batch 9 of pass 1"],
    );
}

#[test]
fn an_engine_of_another_migration_is_damage() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, other) in [(&ours, false), (&theirs, true)] {
        let mut store = open_in(folder.path(), &plan(1)).unwrap();
        begin_pass(&mut store, 0);
        let mut first = batch(1, 0, 0, 1);
        first.scanned_ms += u64::from(other);
        store
            .commit(&Commit {
                lane: 0,
                batches: vec![first],
            })
            .unwrap();
        store.end_run("stopped").unwrap();
    }
    fs::remove_dir_all(ours.path().join("shop/db")).unwrap();
    copy_folder(&theirs.path().join("shop/db"), &ours.path().join("shop/db"));
    let error = refused(open_in(ours.path(), &plan(1)));
    check(
        &error,
        Class::StateDamaged,
        &["batch 0 of pass 1 is not the one that the journal knows"],
    );
}

#[test]
fn a_missing_journal_is_said_and_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit_some(&mut store, 0, 3).unwrap();
    drop(store);
    fs::remove_file(folder.path().join("shop/audit.ndjson")).unwrap();
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.lanes()[0].next_seq, 3);
    assert_eq!(store.notes(), ["the journal was missing; it begins anew"]);
    drop(store);
    assert!(open_in(folder.path(), &plan(1)).unwrap().notes().is_empty());
}

#[test]
fn a_process_that_died_while_it_created_the_state_leaves_a_usable_one() {
    // After the folder.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("shop");
    fs::create_dir(&dir).unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    fs::remove_dir_all(&dir).unwrap();
    // While the engine wrote its configuration.
    fs::create_dir_all(dir.join("db/blobs")).unwrap();
    fs::write(dir.join("lock"), "").unwrap();
    fs::write(dir.join("db/conf"), "segment_size: 524288\nuse_compre").unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    fs::remove_dir_all(&dir).unwrap();
    // After the engine's files, before its first record.
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("lock"), "").unwrap();
    drop(Engine::open(&dir).unwrap());
    drop(open_in(folder.path(), &plan(1)).unwrap());
    // After its first record, before the journal.
    fs::remove_file(dir.join("audit.ndjson")).unwrap();
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.run(), 2);
    assert!(store.notes().is_empty(), "{:?}", store.notes());
}
