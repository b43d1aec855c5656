//! `--hook`: every event has its hook, which is told what happened and nothing secret, and which can harm nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{NAME, Pair, hook, write_hook};
use crate::support::comparing::{compare, repair};
use crate::support::proxy::Proxy;
use crate::support::redknot::{Redknot, status};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

/// A program for every event that writes down what it is told, and where it does so.
struct Told(tempfile::TempDir);

/// The event and the variables of one call.
type Call = (String, BTreeMap<String, String>);

impl Told {
    fn new() -> Self {
        let told = Self(tempfile::tempdir().unwrap());
        let folder = told.0.path().display();
        // Moved when it is whole.
        let script = format!(
            "n=$(ls {folder} | wc -l); printf 'ARG=%s\\0' \"$1\" > {folder}/part; env --null >> {folder}/part; mv {folder}/part {folder}/call-$(printf %05d $n)"
        );
        write_hook(&told.program(), &script);
        told
    }

    fn program(&self) -> std::path::PathBuf {
        self.0.path().join("hook")
    }

    fn watch(&self, command: Redknot) -> Redknot {
        command.arg("--hook").arg(self.program())
    }

    /// All calls so far, in their order.
    fn calls(&self) -> Vec<Call> {
        let files = std::fs::read_dir(self.0.path()).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.display().to_string().contains("/call-"));
        files.sort();
        let read = |file: &std::path::PathBuf| {
            let text = String::from_utf8(std::fs::read(file).unwrap()).unwrap();
            let lines = text.split_terminator('\0');
            let mut variables: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            (variables.remove("ARG").unwrap(), variables)
        };
        files.iter().map(read).collect()
    }

    fn names(&self) -> Vec<String> {
        self.calls().into_iter().map(|(name, _)| name).collect()
    }

    /// What the calls of this event were told by this variable.
    fn all(&self, event: &str, variable: &str) -> Vec<String> {
        let of_event = self.calls().into_iter().filter(|(name, _)| name == event);
        let variable = format!("REDKNOT_HOOK_{variable}");
        of_event
            .map(|(_, variables)| variables.get(&variable).cloned().unwrap_or_default())
            .collect()
    }
}

#[test]
fn every_event_has_its_hook_with_what_happened() {
    let Some(mut pair) = Pair::with_keys(20_000) else {
        return;
    };
    let told = Told::new();
    let mut running = told.watch(pair.migrate(&["--batch", "50"])).start();
    pair.wait_for_share(0.3, &mut running);
    pair.source.restart();
    running.wait().expect_code(0);
    let wanted = [
        "on-start",
        "on-pass",
        "on-source-changed",
        "on-pass",
        "on-complete",
    ];
    assert_eq!(told.names(), wanted);
    let of = |event: &str, variable: &str, values: &[&str]| {
        assert_eq!(told.all(event, variable), values, "{variable} of {event}");
    };
    of("on-start", "TYPE", &["start"]);
    of("on-start", "MIGRATION", &[NAME]);
    of("on-start", "RUN", &["1"]);
    of("on-pass", "PASS", &["1", "2"]);
    of("on-pass", "DECISION", &["begin", "new_pass"]);
    of("on-pass", "SOURCE_DB", &["0", "0"]);
    let run_id = pair.source.run_id();
    of("on-source-changed", "RUN_ID", &[&run_id]);
    let stored = status(NAME, pair.state());
    of("on-complete", "EVENT", &["complete"]);
    of(
        "on-complete",
        "KEYS_WRITTEN",
        &[&stored.counters.keys_written.to_string()],
    );
    of(
        "on-complete",
        "STATE",
        &[&pair.state().join(NAME).display().to_string()],
    );

    let told = Told::new();
    let names = [
        "; touch pwned",
        "$(touch pwned)",
        "`touch pwned`\n",
        "a\0b",
        "\x1b[31m",
    ];
    for name in names {
        let mut set = redis::cmd("SET");
        set.arg(name)
            .arg("x")
            .exec(&mut pair.source.connection())
            .unwrap();
    }
    told.watch(compare(NAME, pair.state())).run().expect_code(1);
    let findings = told.all("on-finding", "FINDINGS");
    let findings: Vec<u64> = findings
        .iter()
        .map(|count| count.parse().unwrap())
        .collect();
    assert_eq!(
        findings.iter().sum::<u64>(),
        names.len() as u64,
        "{findings:?}"
    );
    let escaped = names.map(|name| ::redknot::key::Escaped(name.as_bytes()).to_string());
    for key in told.all("on-finding", "KEY") {
        assert!(escaped.contains(&key), "{key}");
    }
    assert_eq!(told.all("on-complete", "FINDINGS"), ["5"]);
    assert_eq!(told.all("on-complete", "TYPE"), ["compared"]);
    assert!(!Path::new("pwned").exists() && !pair.state().join("pwned").exists());

    let told = Told::new();
    let apply = repair(NAME, pair.state()).arg("--apply");
    told.watch(apply).run().expect_code(0);
    assert_eq!(told.names(), ["on-start", "on-complete"]);
    assert_eq!(told.all("on-complete", "KEYS_REPAIRED"), ["5"]);
}

#[test]
fn a_run_that_stalls_is_told_of_once_until_it_moves() {
    let Some(pair) = Pair::with_keys(20_000) else {
        return;
    };
    let proxy = Proxy::start(pair.target.port(), 5);
    let told = Told::new();
    let to = format!("redis://127.0.0.1:{}", proxy.port());
    let from = format!("redis://{}", pair.source.address());
    let migrate =
        Redknot::migrate(&from, &to, pair.state()).args(["--name", NAME, "--batch", "50"]);
    let mut running = told.watch(migrate.args(["--stall-after", "1s"])).start();
    for stalls in [1, 2] {
        pair.wait_for_share(0.3 * f64::from(stalls), &mut running);
        proxy.replies().stall();
        let seen = || told.all("on-stall", "STALLED_S").len() as u32;
        wait_for("the hook on-stall", Duration::from_secs(20), || {
            (seen() >= stalls).then_some(())
        });
        // Once is enough, however long it lasts.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(seen(), stalls);
        proxy.replies().flow();
    }
    running.wait().expect_code(0);
    assert_eq!(told.all("on-stall", "STALLED_S"), ["1", "1"]);
    assert_eq!(told.all("on-stall", "MIGRATION"), [NAME, NAME]);
    assert_eq!(told.names().last().unwrap(), "on-complete");
}

#[test]
fn a_hook_has_no_passwords_in_its_environment() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    const SECRETS: [&str; 3] = [
        "of-the-source-7f3a",
        "of-the-target-91bc",
        "of-somebody-else-55",
    ];
    let source = Server::start(ServerSpec::new(redis.clone()).password(SECRETS[0]));
    let target = Server::start(ServerSpec::new(redis).password(SECRETS[1]));
    let (told, state) = (Told::new(), tempfile::tempdir().unwrap());
    let url = |server: &Server| format!("redis://{}", server.address());
    let to = format!("redis://:{}@{}", SECRETS[1], target.address());
    let finished = told
        .watch(Redknot::migrate(&url(&source), &url(&target), state.path()))
        .env("REDKNOT_FROM_PASSWORD", SECRETS[0])
        .env("REDKNOT_TO_PASSWORD", SECRETS[1])
        .env("REDKNOT_TO", to)
        .env("REDISCLI_AUTH", SECRETS[2])
        .env("OF_THE_OPERATOR", "is kept")
        .run()
        .expect_code(0);
    let calls = told.calls();
    assert_eq!(calls.len(), 3, "{finished}");
    for (name, variables) in calls {
        for (variable, value) in &variables {
            let secret = SECRETS.iter().any(|secret| value.contains(secret));
            assert!(!secret, "{variable} of {name} has a password");
            let known = !variable.starts_with("REDKNOT_") || variable.starts_with("REDKNOT_HOOK_");
            assert!(known, "{variable} of {name}");
        }
        assert_eq!(variables["OF_THE_OPERATOR"], "is kept");
    }
}

#[test]
fn a_hook_that_fails_or_hangs_is_warned_about_and_harms_nothing() {
    let Some(pair) = Pair::with_keys(1_000) else {
        return;
    };
    let hooks = hook("on-start", "echo no luck today >&2; exit 3");
    // A child that would outlive it, and hold its standard error.
    write_hook(&hooks.path().join("on-pass"), "sleep 60 & sleep 60");
    write_hook(&hooks.path().join("on-complete"), "kill -9 $$");
    let began = Instant::now();
    let finished = pair
        .migrate(&["--json", "--hook-timeout", "300ms", "--hook"])
        .arg(hooks.path())
        .run()
        .expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(30), "{finished}");
    let lines = finished.json_lines();
    let warnings = lines.iter().filter(|line| line["type"] == "warning");
    let warnings: Vec<&str> = warnings
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
    the hook on-start failed (exit status: 3): no luck today
    the hook on-pass took longer than 0.3 s and was killed (--hook-timeout)
    the hook on-complete failed (signal: 9 (SIGKILL))
    ");
    assert_eq!(pair.target.keys(0), 1_000);
}

#[test]
fn a_path_without_a_hook_ends_the_command_before_it_begins() {
    let Some(pair) = Pair::with_keys(10) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| {
        let finished = pair.migrate(&["--hook"]).arg(path).run().expect_code(2);
        finished
            .stderr()
            .replace(&folder.path().display().to_string(), "FOLDER")
    };
    insta::assert_snapshot!(said(&folder.path().join("none")), @r"
    error: --hook FOLDER/none can't be used
      No such file or directory (os error 2)
    hint: a folder with hooks, or a program
    ");
    insta::assert_snapshot!(said(folder.path()), @r"
    error: --hook FOLDER can't be used
      there is no hook in this folder
    hint: hooks are called on-start, on-pass, on-source-changed, on-stall, on-complete, on-finding
    ");
    std::fs::write(folder.path().join("on-finding"), "echo").unwrap();
    insta::assert_snapshot!(said(folder.path()), @r"
    error: --hook FOLDER can't be used
      FOLDER/on-finding may not be run
    hint: chmod +x FOLDER/on-finding
    ");
    std::fs::remove_file(folder.path().join("on-finding")).unwrap();
    std::fs::create_dir(folder.path().join("on-pass")).unwrap();
    insta::assert_snapshot!(said(folder.path()), @r"
    error: --hook FOLDER can't be used
      FOLDER/on-pass is no program
    hint: a folder with hooks, or a program
    ");
    assert_eq!(std::fs::read_dir(pair.state()).unwrap().count(), 0);
}
