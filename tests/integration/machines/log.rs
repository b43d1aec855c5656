//! `--log-format json`: each line on standard error is an object, whoever says it and however the command ends.

use serde_json::Value;

use super::{Pair, hook};
use crate::support::redknot::{Finished, Redknot};

/// Every line of its standard error.
#[track_caller]
fn logged(finished: &Finished) -> Vec<Value> {
    let said = finished.stderr();
    let lines = said.lines().map(|line| {
        let line: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{error}: {line}\n{finished}"));
        let ts = line["ts"].as_str().unwrap_or_default();
        assert!(
            humantime::parse_rfc3339(ts).is_ok() && ts.ends_with('Z'),
            "{line}"
        );
        let level = line["level"].as_str().unwrap_or_default();
        let known = ["error", "warning", "note", "info", "debug", "trace"];
        assert!(known.contains(&level), "{line}");
        let message = line["message"].as_str().unwrap_or_default();
        assert!(
            !message.is_empty() && !message.contains(['\x1b', '\n']),
            "{line}"
        );
        line
    });
    lines.collect()
}

fn has(lines: &[Value], level: &str, message: &str) -> bool {
    lines.iter().any(|line| {
        let said = line["message"].as_str().unwrap_or_default();
        line["level"] == level && said.contains(message)
    })
}

#[test]
fn every_line_is_an_object_whoever_says_it() {
    let Some(pair) = Pair::with_keys(2_000) else {
        return;
    };
    let hooks = hook("on-start", "exit 3");
    let finished = pair
        .migrate(&[
            "--log-format",
            "json",
            "--color",
            "always",
            "-vvv",
            "--hook",
        ])
        .arg(hooks.path())
        .run()
        .expect_code(0);
    let lines = logged(&finished);
    assert!(
        has(&lines, "info", "migration watched begins"),
        "{finished}"
    );
    assert!(
        has(&lines, "warning", "the hook on-start failed"),
        "{finished}"
    );
    assert!(has(&lines, "info", "strings by"), "{finished}");
    assert!(
        has(&lines, "trace", "") || has(&lines, "debug", ""),
        "{finished}"
    );
    // Results stay what they are.
    assert!(
        finished.stdout().contains("  accounts  scanned 2 000 ="),
        "{finished}"
    );
    let variable = pair
        .migrate(&["--json"])
        .env("REDKNOT_LOG_FORMAT", "json")
        .run();
    assert!(
        has(&logged(&variable), "info", "already complete"),
        "{variable}"
    );
    assert!(!variable.json_lines().is_empty());
    let quiet = pair
        .migrate(&["-q", "--log-format=json"])
        .run()
        .expect_code(0);
    assert_eq!(quiet.stderr(), "");
}

#[test]
fn an_error_is_one_object_with_what_why_and_what_to_do() {
    let Some(pair) = Pair::with_keys(10) else {
        return;
    };
    let to = [
        "--to",
        "127.0.0.1:1",
        "--max-unavailable",
        "0s",
        "--log-format",
        "json",
    ];
    let migrate = Redknot::new(["migrate", "--from", &pair.source.url(0), "--state-dir"]);
    let finished = migrate.arg(pair.state()).args(to).run().expect_code(11);
    let lines = logged(&finished);
    let error = lines.last().unwrap();
    assert_eq!(error["level"], "error", "{finished}");
    assert_eq!(
        (&error["code"], &error["class"]),
        (&11.into(), &"target_unreachable".into())
    );
    assert_eq!(error["side"], "target");
    for field in ["message", "why", "hint"] {
        assert!(
            error[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {error}"
        );
    }
    // Also where the command line can't be read.
    for words in [
        "migrate --log-format json --batch 0",
        "status --log-format=json --bacth",
        "migrate --log-format json",
    ] {
        let finished = Redknot::new(words.split(' ')).run().expect_code(2);
        let lines = logged(&finished);
        assert!(
            lines.len() == 1 && lines[0]["hint"].is_string(),
            "{finished}"
        );
    }
    let finished = Redknot::new(["status", "--log-format", "xml"])
        .run()
        .expect_code(2);
    insta::assert_snapshot!(finished.stderr(), @r"
    error: --log-format can't be `xml`
      possible: text, json
    hint: redknot status --help
    ");
}

#[test]
fn what_goes_wrong_with_a_server_names_its_side() {
    let Some(pair) = Pair::with_keys(20_000) else {
        return;
    };
    let mut running = pair
        .migrate(&["--batch", "50", "--log-format", "json"])
        .start();
    pair.wait_for_share(0.3, &mut running);
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes");
    kill.exec(&mut pair.target.connection()).unwrap();
    let finished = running.wait().expect_code(0);
    let lines = logged(&finished);
    let mut of_target = lines.iter().filter(|line| line["side"] == "target");
    assert!(
        of_target.any(|line| line["level"] == "warning"),
        "{finished}"
    );
}
