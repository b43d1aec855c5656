//! `--functions`: libraries arrive at every master, are treated as was said where there is another one of that name, and are
//! never removed; without the flag they stay behind, and that is said.

use crate::acl::{self, PASSWORD};
use crate::support::cluster::Cluster;
use crate::support::comparing::{compare, compare_urls};
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::server::Server;
use crate::support::version::{Kind, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

const NAME: &str = "with-functions";

/// A library whose one function answers with `answer`. Long enough to be compressed.
fn code(library: &str, answer: &str) -> String {
    let comment = "-- what is said here is said often\n".repeat(50);
    format!(
        "#!lua name={library}\n{comment}redis.register_function('{library}_says', function() return '{answer}' end)\n"
    )
}

fn load(server: &Server, library: &str, answer: &str) {
    redis::cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(code(library, answer))
        .query::<()>(&mut server.connection())
        .unwrap();
}

/// What the library's function answers; nothing if it is not there.
fn says(server: &Server, library: &str) -> Option<String> {
    redis::cmd("FCALL")
        .arg(format!("{library}_says"))
        .arg(0)
        .query(&mut server.connection())
        .ok()
}

fn key_on(server: &Server) {
    redis::cmd("SET")
        .arg("key")
        .arg("value")
        .query::<()>(&mut server.connection())
        .unwrap();
}

struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    fn new(source: Kind, target: Kind) -> Option<Self> {
        let pair = Self {
            source: Server::plain(&require(source)?),
            target: Server::plain(&require(target)?),
            state: tempfile::tempdir().unwrap(),
        };
        key_on(&pair.source);
        Some(pair)
    }

    fn migrate(&self) -> Redknot {
        Redknot::migrate(&self.source.url(0), &self.target.url(0), self.state.path()).args([
            "--name",
            NAME,
            "--no-progress",
        ])
    }

    fn with_functions(&self, args: &[&str]) -> Finished {
        self.migrate().arg("--functions").args(args).run()
    }

    /// The lines of the journal that say what became of the functions.
    fn journalled(&self) -> usize {
        let journal = std::fs::read_to_string(self.state.path().join(NAME).join("audit.ndjson"));
        let functions = "\"event\":\"functions\"";
        journal.unwrap().matches(functions).count()
    }
}

#[test]
fn libraries_arrive_between_versions_and_a_second_time_changes_nothing() {
    for (source, target) in [
        (REDIS_7_0, REDIS_7_0),
        (REDIS_7_0, REDIS_8_2),
        (REDIS_8_2, VALKEY_9_1),
        (VALKEY_9_1, REDIS_7_0),
    ] {
        let Some(pair) = Pair::new(source, target) else {
            continue;
        };
        load(&pair.source, "shop", "hello");
        load(&pair.source, "till", "bye");
        load(&pair.target, "own", "mine");
        let finished = pair.with_functions(&[]).expect_code(0);
        assert!(
            finished
                .stderr()
                .contains("functions 2 libraries: 2 written\n"),
            "{finished}"
        );
        assert_eq!(says(&pair.target, "shop").as_deref(), Some("hello"));
        assert_eq!(says(&pair.target, "till").as_deref(), Some("bye"));
        assert_eq!(says(&pair.target, "own").as_deref(), Some("mine"));
        assert_eq!(pair.journalled(), 1);
        // Complete or not: what is there, and the same, is left alone.
        let finished = pair.with_functions(&[]).expect_code(0);
        assert!(
            finished.stderr().contains("2 libraries: 2 there already"),
            "{finished}"
        );
        assert!(finished.stdout().contains("already complete"), "{finished}");
        let functions = status(NAME, pair.state.path()).functions.unwrap();
        assert_eq!((functions.libraries, functions.written), (2, 0));
        let shown = Redknot::new(["status", NAME, "--state-dir"])
            .arg(pair.state.path())
            .run()
            .expect_code(0);
        assert!(shown.stdout().contains("2 there already"), "{shown}");
        // The next run without the flag forgets nothing.
        pair.migrate().run().expect_code(0);
        assert!(status(NAME, pair.state.path()).functions.is_some());
    }
}

#[test]
fn another_library_of_the_same_name_is_treated_as_keys_are() {
    let Some(pair) = Pair::new(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    load(&pair.source, "shop", "new");
    load(&pair.source, "till", "bye");
    load(&pair.target, "shop", "old");
    for policy in [&["--restart"][..], &["--restart", "--on-conflict", "fail"]] {
        let finished = pair.with_functions(policy).expect_code(27);
        let said = finished.stderr();
        assert!(
            said.contains("another library of functions that is called \"shop\""),
            "{finished}"
        );
        assert_eq!(
            pair.target.keys(0),
            0,
            "a key was sent before it was refused"
        );
        assert_eq!(says(&pair.target, "till"), None);
    }
    let finished = pair
        .with_functions(&["--restart", "--on-conflict", "skip"])
        .expect_code(0);
    let said = finished.stderr();
    assert!(
        said.contains("2 libraries: 1 written, 1 kept as the target has them"),
        "{finished}"
    );
    assert_eq!(says(&pair.target, "shop").as_deref(), Some("old"));
    assert_eq!(says(&pair.target, "till").as_deref(), Some("bye"));
    pair.with_functions(&["--restart", "--on-conflict", "replace"])
        .expect_code(0);
    assert_eq!(says(&pair.target, "shop").as_deref(), Some("new"));
}

#[test]
fn what_stays_behind_and_what_differs_is_said() {
    let Some(pair) = Pair::new(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    load(&pair.source, "shop", "hello");
    let finished = pair.migrate().run().expect_code(0);
    assert!(
        finished
            .stderr()
            .contains("libraries of functions (1), which are no keys and stay behind"),
        "{finished}"
    );
    assert_eq!(says(&pair.target, "shop"), None);
    assert!(status(NAME, pair.state.path()).functions.is_none());

    load(&pair.target, "other", "x");
    let said = |finished: Finished| {
        let compared = finished.expect_code(0).json_lines();
        let line = compared
            .into_iter()
            .find(|line| line["type"] == "functions_compared");
        line.expect("a word about the functions")
    };
    let differ = said(compare(NAME, pair.state.path()).run());
    assert_eq!(differ["missing"], serde_json::json!(["shop"]));
    assert_eq!(differ["extra"], serde_json::json!(["other"]));
    load(&pair.target, "shop", "something else");
    let (from, to) = (pair.source.url(0), pair.target.url(0));
    let differ = said(compare_urls(&from, &to, pair.state.path()).run());
    assert_eq!(differ["different"], serde_json::json!(["shop"]));
    assert_eq!(differ["equal"], 0);
    let shown = Redknot::new(["compare", NAME, "--state-dir"])
        .arg(pair.state.path())
        .run()
        .expect_code(0);
    assert!(
        shown
            .stderr()
            .contains("libraries of functions differ (different: shop; only on the target: other)"),
        "{shown}"
    );
    load(&pair.target, "shop", "hello");
    let equal = said(compare(NAME, pair.state.path()).run());
    assert_eq!(equal["equal"], 1);
}

#[test]
fn servers_before_7_0_know_no_functions_and_that_is_said() {
    if let Some(pair) = Pair::new(REDIS_6_2, REDIS_7_0) {
        let finished = pair.with_functions(&[]).expect_code(0);
        assert!(
            finished.stderr().contains("the source knows no functions"),
            "{finished}"
        );
        assert_eq!(pair.target.keys(0), 1);
    }
    if let Some(pair) = Pair::new(REDIS_7_0, REDIS_6_2) {
        pair.with_functions(&[]).expect_code(0);
        load(&pair.source, "shop", "hello");
        let finished = pair.with_functions(&["--restart", "--on-conflict", "replace"]);
        let finished = finished.expect_code(24);
        let said = finished.stderr();
        assert!(said.contains("it knows no functions"), "{finished}");
    }
}

#[test]
fn every_master_of_a_cluster_is_given_them_by_users_with_the_rights_that_are_printed() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&binary);
    key_on(&source);
    load(&source, "shop", "hello");
    let target = Cluster::start(&binary, 3, 0);
    let printed = Redknot::new(["acl", "--functions"]).run().expect_code(0);
    let lines = printed.stdout();
    let paste = |server: &Server, user: &str| {
        // The old servers' line is not for this one.
        let lines = lines.lines().filter(|line| {
            line.starts_with(&format!("ACL SETUSER {user} "))
                && [" +pexpiretime", "+function", "+cluster"]
                    .iter()
                    .any(|right| line.contains(right))
        });
        let mut pasted = 0;
        for line in lines {
            acl::paste(server, line);
            pasted += 1;
        }
        assert_eq!(pasted, 3, "{user}");
    };
    paste(&source, "redknot-source");
    for node in target.masters() {
        paste(node, "redknot-target");
    }
    let state = tempfile::tempdir().unwrap();
    let as_user = |url: String, user: &str| url.replace("redis://", &format!("redis://{user}@"));
    let from = as_user(source.url(0), "redknot-source");
    let to = as_user(target.url(), "redknot-target");
    let migrate = |to: &str| {
        Redknot::migrate(&from, to, state.path())
            .args(["--name", NAME, "--functions"])
            .env("REDKNOT_FROM_PASSWORD", PASSWORD)
            .env("REDKNOT_TO_PASSWORD", PASSWORD)
            .run()
    };
    migrate(&to).expect_code(0);
    for node in target.masters() {
        assert_eq!(says(node, "shop").as_deref(), Some("hello"));
    }
    // Without the right to it, nothing is sent.
    let single = Server::plain(&binary);
    paste(&single, "redknot-target");
    redis::cmd("ACL")
        .arg(&["SETUSER", "redknot-target", "-function|restore"])
        .query::<()>(&mut single.connection())
        .unwrap();
    let to = as_user(single.url(0), "redknot-target");
    let refused = Redknot::migrate(&from, &to, state.path())
        .args(["--name", "refused", "--functions"])
        .env("REDKNOT_FROM_PASSWORD", PASSWORD)
        .env("REDKNOT_TO_PASSWORD", PASSWORD)
        .run()
        .expect_code(20);
    assert!(refused.stderr().contains("+function|restore"), "{refused}");
    assert_eq!(single.keys(0), 0);
}
