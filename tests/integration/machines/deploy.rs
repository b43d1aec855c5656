//! What lies in `deploy/`: a dashboard, alert rules and a unit, all about things that there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::project_file;
use crate::support::redknot::Redknot;

const DASHBOARD: &str = "deploy/grafana/redknot.json";
const RULES: &str = "deploy/prometheus/redknot.rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/redknot.rules.test.yml";
const UNIT: &str = "deploy/systemd/redknot@.service";

/// Panics if the dashboard, the rules or their tests name a metric that is not among `names`.
pub fn assert_only_known_names(names: &BTreeSet<String>) {
    for path in [DASHBOARD, RULES, RULE_TESTS] {
        let text = project_file(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: BTreeSet<&str> = words.filter(|word| word.starts_with("redknot_")).collect();
        let unknown: Vec<_> = metrics
            .iter()
            .filter(|name| !names.contains(**name))
            .collect();
        assert!(unknown.is_empty(), "{path}: there is no {unknown:?}");
        assert!(metrics.len() > 5, "{path}: only {metrics:?}");
    }
}

#[test]
fn every_panel_of_the_dashboard_asks_for_something_and_says_what_it_means() {
    let dashboard: Value = serde_json::from_str(&project_file(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(
            !panel["description"].as_str().unwrap().is_empty(),
            "{panel}"
        );
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("migration=~\"$migration\""), "{query}");
        }
    }
    assert!(panels.len() >= 10);
}

#[test]
fn the_rules_say_what_their_tests_want() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    for args in [["check", "rules", RULES], ["test", "rules", RULE_TESTS]] {
        let file = Path::new(args[2]).file_name().unwrap();
        let mut promtool = Command::new("promtool");
        promtool.args(&args[..2]).arg(file).current_dir(&folder);
        let Ok(said) = promtool.output() else {
            return eprintln!("skipped: promtool is not installed");
        };
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&[said.stdout, said.stderr].concat())
        );
    }
}

#[test]
fn the_unit_gives_flags_that_there_are_and_starts_again_only_what_can_become_better() {
    let unit = project_file(UNIT);
    let setting = |name: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(name));
        lines.collect::<Vec<_>>().join(" ")
    };
    let command = setting("ExecStart=/usr/bin/redknot ");
    let command = command
        .replace("%i", "shop")
        .replace("/etc/redknot/shop.toml", "/nonexistent");
    let finished = Redknot::new(command.split(' '))
        .unaudited()
        .run()
        .expect_code(2);
    assert!(
        finished
            .stderr()
            .contains("--config /nonexistent: it can't be read"),
        "{finished}"
    );

    let help = Redknot::new(["help", "exit-codes"])
        .run()
        .expect_code(0)
        .stdout();
    let lines: Vec<&str> = help.lines().collect();
    let never = setting("RestartPreventExitStatus=");
    let never: BTreeSet<&str> = never.split(' ').collect();
    let mut codes = 0;
    for pair in lines.windows(2) {
        let code = pair[0].split_whitespace().next().unwrap_or_default();
        let Some(again) = pair[1].trim().strip_prefix("run again: ") else {
            continue;
        };
        codes += 1;
        // Code 1 is no failure to systemd.
        let human = !again.starts_with("yes") && again != "later" && code != "1";
        assert_eq!(never.contains(code), human, "{code}: {again}");
    }
    assert!(codes > 15, "{help}");
    let systemd = Command::new("systemd-analyze")
        .arg("verify")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT))
        .output();
    match systemd {
        // It complains about a program that is not installed, too.
        Ok(said) => {
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            let bad: Vec<&str> = said
                .lines()
                .filter(|line| line.contains("redknot@") && !line.contains("/usr/bin/redknot"))
                .collect();
            assert!(bad.is_empty(), "{bad:?}");
        }
        Err(_) => eprintln!("skipped: systemd-analyze is not installed"),
    }
}
