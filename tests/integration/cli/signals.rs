//! How a run ends that is asked to, and what it does where nobody listens or looks.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pair::{KEYS, Pair};
use super::{command, on_terminal};
use crate::support::proxy::Proxy;
use crate::support::redknot::{Redknot, Running};
use crate::support::wait_for;

impl Pair {
    fn migrate(&self) -> Redknot {
        self.migrate_to(&self.target.url(0)).args(["--batch", "2"])
    }

    fn migrate_to(&self, to: &str) -> Redknot {
        self.migrate_named("m", to)
    }

    /// A run that has written something.
    fn started(&self, redknot: &Redknot) -> Running {
        let before = self.target.keys(0);
        let mut running = redknot.start();
        wait_for("the first keys", Duration::from_secs(30), || {
            assert!(running.is_running(), "{}", running.stderr_so_far());
            (self.target.keys(0) > before).then_some(())
        });
        running
    }
}

#[test]
fn each_signal_saves_a_checkpoint_and_has_its_code() {
    let Some(pair) = Pair::new() else { return };
    for (signal, code, said) in [
        (Signal::INT, 130, "Ctrl-C"),
        (Signal::TERM, 143, "SIGTERM"),
        (Signal::HUP, 129, "SIGHUP"),
    ] {
        let running = pair.started(&pair.migrate());
        running.signal(signal);
        let finished = running.wait().expect_code(code);
        assert!(
            finished.stderr().contains(&format!(
                "stopping: {said}, saving a checkpoint (Ctrl-C again to stop now)"
            )),
            "{finished}"
        );
        assert!(
            finished
                .stdout()
                .contains("checkpoint saved. Run the same command to continue."),
            "{finished}"
        );
    }
    let finished = Redknot::migrate(&pair.source.url(0), &pair.target.url(0), pair.state.path())
        .args(["--name", "m"])
        .run()
        .expect_code(0);
    assert!(finished.stderr().contains("resumed at"), "{finished}");
    assert_eq!(pair.target.keys(0), KEYS);
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let Some(pair) = Pair::new() else { return };
    let proxy = Proxy::start(pair.target.port(), 1);
    let running = pair.started(&pair.migrate_to(&proxy.url(0)).args(["--batch", "2"]));
    // Nothing that is in flight comes to its end.
    proxy.replies().stall();
    running.signal(Signal::INT);
    wait_for("the first to be noticed", Duration::from_secs(10), || {
        running.stderr_so_far().contains("stopping").then_some(())
    });
    running.signal(Signal::INT);
    let began = Instant::now();
    let finished = running.wait().expect_code(130);
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}\n{finished}",
        began.elapsed()
    );
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let Some(pair) = Pair::new() else { return };
    let state = pair.state.path().display().to_string();
    let mut child = command("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" migrate --from \"$1\" --to \"$2\" --state-dir \"$3\" --name m --batch 2 -q"])
        .arg(env!("CARGO_BIN_EXE_redknot"))
        .args([pair.source.url(0), pair.target.url(0), state])
        .spawn()
        .unwrap();
    wait_for("the first keys", Duration::from_secs(30), || {
        (pair.target.keys(0) > 0).then_some(())
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::HUP).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(pair.target.keys(0), KEYS);
}

#[test]
fn nobody_who_reads_is_no_error() {
    let Some(pair) = Pair::new() else { return };
    for flags in [&["--json"][..], &[], &["-v"]] {
        let mut child = command(env!("CARGO_BIN_EXE_redknot"))
            .args([
                "migrate",
                "--from",
                &pair.source.url(0),
                "--to",
                &pair.target.url(0),
                "--restart",
                "--on-conflict",
                "replace",
                "--state-dir",
            ])
            .arg(pair.state.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{flags:?}");
    }
    assert_eq!(pair.target.keys(0), KEYS);
    // `redknot help | true`, and `status --watch`, which would otherwise go on for ever.
    for words in ["help exit-codes", "help", "--help"] {
        let mut child = command(env!("CARGO_BIN_EXE_redknot"))
            .args(words.split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{words}");
    }
}

#[test]
fn a_reader_that_stops_reading_does_not_stop_the_migration() {
    let Some(pair) = Pair::new() else { return };
    let mut child = command(env!("CARGO_BIN_EXE_redknot"))
        .args([
            "migrate",
            "--from",
            &pair.source.url(0),
            "--to",
            &pair.target.url(0),
            "--name",
            "m",
            "--json",
            "-vvv",
            "--state-dir",
        ])
        .arg(pair.state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("every key", Duration::from_secs(60), || {
        (pair.target.keys(0) == KEYS).then_some(())
    });
    let output = child.stdout.take().unwrap();
    let text = std::io::read_to_string(output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(
        text.lines().last().unwrap().contains("\"type\":\"exit\""),
        "{text}"
    );
}

#[test]
fn events_are_lines_of_json_up_to_the_exit_code() {
    let Some(pair) = Pair::new() else { return };
    let finished = pair
        .migrate_to(&pair.target.url(0))
        .arg("--json")
        .run()
        .expect_code(0);
    let lines = finished.json_lines();
    for line in &lines {
        assert_eq!(
            (&line["v"], &line["migration"]),
            (&1.into(), &"m".into()),
            "{line}"
        );
        let t = line["t"].as_str().unwrap_or_default();
        assert!(humantime::parse_rfc3339(t).is_ok(), "{line}");
    }
    let types: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["type"].as_str())
        .collect();
    assert_eq!(types.len(), lines.len());
    assert_eq!((types[0], types[1]), ("start", "lane"), "{types:?}");
    assert_eq!(types[types.len() - 2..], ["complete", "exit"]);
    let complete = &lines[lines.len() - 2];
    assert_eq!(
        (
            complete["keys_durable"].as_u64(),
            complete["counters"]["keys_scanned"].as_u64()
        ),
        (Some(KEYS), Some(KEYS))
    );
    assert!(lines.iter().all(|line| line["run"] == 1), "{finished}");
    // An end with an error is the last thing that is said.
    let finished = pair
        .migrate_named("n", "redis://127.0.0.1:1")
        .args(["--json", "--max-unavailable", "0s"])
        .run()
        .expect_code(11);
    let lines = finished.json_lines();
    let (error, exit) = (&lines[lines.len() - 2], &lines[lines.len() - 1]);
    assert_eq!(
        (
            &error["type"],
            &error["code"],
            &error["class"],
            &error["side"]
        ),
        (
            &"error".into(),
            &11.into(),
            &"target_unreachable".into(),
            &"target".into()
        )
    );
    assert!(error["hint"].is_string(), "{error}");
    assert_eq!((&exit["type"], &exit["code"]), (&"exit".into(), &11.into()));
}

#[test]
fn quiet_says_nothing_and_a_pipe_gets_plain_lines() {
    let Some(pair) = Pair::new() else { return };
    let finished = pair
        .migrate_to(&pair.target.url(0))
        .arg("-q")
        .run()
        .expect_code(0);
    assert_eq!(
        (finished.stdout(), finished.stderr()),
        (String::new(), String::new())
    );
    let finished = pair
        .migrate_to(&pair.target.url(0))
        .args(["--restart", "--on-conflict", "replace"])
        .run()
        .expect_code(0);
    let said = format!("{}{}", finished.stderr(), finished.stdout());
    assert!(!said.contains('\x1b') && !said.contains('\r'), "{said}");
    assert!(said.contains("  accounts  scanned 100 000 = written 100 000 + vanished 0 + kept 0 + quarantined 0 + filtered 0"), "{said}");
}

#[test]
fn a_terminal_gets_what_it_can_show() {
    let Some(pair) = Pair::new() else { return };
    // Slow enough at first that a second passes, and with it a frame of the bar.
    let proxy = Proxy::start(pair.target.port(), 0);
    proxy.requests().bandwidth(4_000_000);
    let (from, to, state) = (
        pair.source.url(0),
        proxy.url(0),
        pair.state.path().display().to_string(),
    );
    let migrate = |flags: &[&str], env: &[(&str, &str)], columns| {
        let fixed = [
            "migrate",
            "--from",
            &from,
            "--to",
            &to,
            "--state-dir",
            &state,
            "--name",
            "m",
            "--restart",
            "--on-conflict",
            "replace",
            "--batch",
            "20",
        ];
        let args: Vec<&str> = fixed.into_iter().chain(flags.iter().copied()).collect();
        let (code, shown) = on_terminal(&args, env, columns, None);
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("complete"), "{shown}");
        shown
    };
    // `\x1b[` with `m` is colour; with `A`, `K` it moves what was drawn.
    let coloured = |shown: &str| {
        shown.split("\x1b[").skip(1).any(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
                .starts_with('m')
        })
    };
    let moved = |shown: &str| shown.contains("\x1b[2K") || shown.contains("\x1b[1A");
    let full = migrate(&[], &[], 100);
    assert!(
        coloured(&full) && moved(&full) && full.contains('\u{2588}'),
        "{full}"
    );
    proxy.requests().calm();
    for (flags, env) in [
        (&["--color", "never"][..], &[][..]),
        (&[], &[("NO_COLOR", "1")]),
    ] {
        let shown = migrate(flags, env, 100);
        assert!(!coloured(&shown) && moved(&shown), "{shown}");
    }
    for (flags, env) in [
        (&["--no-progress"][..], &[][..]),
        (&[], &[("TERM", "dumb")]),
        (&[], &[("LC_ALL", "C")]),
    ] {
        let shown = migrate(flags, env, 100);
        assert!(!moved(&shown), "{shown}");
    }
    for (words, wanted) in [
        (["--help", "--color=never"], false),
        (["--help", "--color=always"], true),
        (["--color=never", "migarte"], false),
        (["--color=always", "migarte"], true),
    ] {
        let (_, shown) = on_terminal(&words, &[("NO_COLOR", "1")], 100, None);
        assert_eq!(coloured(&shown), wanted, "{shown}");
    }
    let ascii = migrate(&[], &[("LC_ALL", "C")], 100);
    assert!(ascii.is_ascii(), "{ascii}");
    let narrow = migrate(&[], &[], 20);
    assert!(narrow.contains("  copy  "), "{narrow}");
}

#[test]
fn a_command_line_that_can_not_be_read_is_an_event_too() {
    for words in [
        "migrate --json --batch 0",
        "migrate --json --bacth 5",
        "migrate --json",
        "rump --json -from x",
    ] {
        let finished = Redknot::new(words.split(' ')).run().expect_code(2);
        let types: Vec<String> = finished
            .json_lines()
            .iter()
            .map(|line| line["type"].to_string())
            .collect();
        assert_eq!(types, ["\"error\"", "\"exit\""], "{finished}");
        assert!(finished.stderr().starts_with("error: "), "{finished}");
    }
}
