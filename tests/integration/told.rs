//! What commands were told, whom they met and what was served for them stands in the journal and in the report.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::comparing::{compare, repair};
use crate::support::dataset::{DataSet, fill};
use crate::support::redknot::Redknot;
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};

const NAME: &str = "told";

/// The lines of the journal about the newest run.
fn newest_run(name: &str, state_dir: &Path) -> Vec<Value> {
    let journal = fs::read_to_string(state_dir.join(name).join("audit.ndjson")).unwrap();
    let lines: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let began = lines.iter().rposition(|line| line["event"] == "run_began");
    lines[began.unwrap()..].to_vec()
}

fn of_kind<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// Value and origin of a setting of the newest run.
fn setting(lines: &[Value], name: &str) -> (String, String) {
    let told = of_kind(lines, "settings");
    assert_eq!(told.len(), 1, "{lines:?}");
    let settings = told[0]["settings"].as_array().unwrap();
    let found = settings.iter().find(|setting| setting["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {settings:?}"));
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

fn said(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

/// How often a side has served a command in the newest run.
fn served(lines: &[Value], side: &str, command: &str) -> u64 {
    let told = of_kind(lines, "served").into_iter();
    let of_side = told.filter(|line| line["side"] == side);
    of_side
        .filter_map(|line| line["calls"][command].as_u64())
        .sum()
}

#[test]
fn one_file_serves_migrate_compare_and_repair_and_the_journal_has_what_each_was_told() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let keys = fill(&source, 0, &DataSet::new(500, seed()));
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("shop.toml");
    let content = format!(
        "from = \"{}\"\nto = \"{}\"\nname = \"{NAME}\"\nbatch = 70\ntimeout = \"9s\"\nsettle = \"10ms\"\nttl-tolerance = \"3s\"\ndb = 0\n",
        source.url(0).trim_end_matches("/0"),
        target.url(0).trim_end_matches("/0")
    );
    fs::write(&config, content).unwrap();
    let command = |words: &[&str]| {
        Redknot::new(words)
            .arg("--config")
            .arg(&config)
            .arg("--state-dir")
            .arg(state.path())
    };
    command(&["migrate"]).run().expect_code(0);
    let lines = newest_run(NAME, state.path());
    assert_eq!(setting(&lines, "batch"), said("70", "file"));

    let gone = source.any_key(0);
    redis::cmd("DEL")
        .arg(&gone)
        .exec(&mut target.connection())
        .unwrap();
    // The name comes from the file as well; what is said outranks it.
    command(&["compare", "--settle", "20ms", "--json"])
        .env("REDKNOT_TTL_TOLERANCE", "2s")
        .run()
        .expect_code(1);
    let lines = newest_run(NAME, state.path());
    assert_eq!(lines[0]["command"], "redknot compare");
    assert_eq!(setting(&lines, "from"), said(&source.url(0), "file"));
    assert_eq!(setting(&lines, "batch"), said("70", "file"));
    assert_eq!(setting(&lines, "settle"), said("20ms", "flag"));
    assert_eq!(setting(&lines, "ttl-tolerance"), said("2s", "environment"));
    assert_eq!(setting(&lines, "max-memory"), said("32MiB", "default"));
    let servers = of_kind(&lines, "server");
    assert_eq!(servers[0]["run_id"], source.run_id().as_str());
    assert_eq!(servers[1]["run_id"], target.run_id().as_str());
    assert!(served(&lines, "source", "dump") > 0, "{lines:?}");

    command(&["repair", "--apply", "--timeout", "8s"])
        .run()
        .expect_code(0);
    let lines = newest_run(NAME, state.path());
    assert_eq!(lines[0]["command"], "redknot repair");
    assert_eq!(setting(&lines, "timeout"), said("8s", "flag"));
    assert_eq!(setting(&lines, "apply"), said("true", "flag"));
    assert_eq!(of_kind(&lines, "server").len(), 2);
    assert!(served(&lines, "target", "restore") > 0, "{lines:?}");
    assert_eq!(target.keys(0), source.keys(0));
    assert!(keys > 0);

    let report = |form: &str| {
        Redknot::new(["audit", "report", NAME, form, "--state-dir"])
            .arg(state.path())
            .run()
            .expect_code(0)
            .stdout()
    };
    for form in ["--md", "--html"] {
        let report = report(form);
        for told in ["redknot compare", "redknot repair", "--settle", "--apply"] {
            assert!(report.contains(told), "{form} has no {told}:\n{report}");
        }
    }
}

#[test]
fn a_file_of_compare_is_refused_at_line_and_column_as_one_of_migrate() {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("shop.toml");
    let refused = |command: &str, content: &str, told: &str| {
        fs::write(&config, content).unwrap();
        let finished = Redknot::new([command, "x", "--config"])
            .arg(&config)
            .arg("--state-dir")
            .arg(state.path())
            .run()
            .expect_code(2);
        assert!(finished.stderr().contains(told), "{told}\n{finished}");
    };
    refused(
        "compare",
        "settle = \"5s\"\nsettel = 1\n",
        ":2:1: unknown key `settel`",
    );
    refused("compare", "settle = 5\n", ":1:10: ");
    refused("repair", "apply = 3\n", ":1:9: `apply` has the wrong type");
    refused("repair", "timeout =\n", "this is no TOML");
}

#[test]
fn rump_tells_the_journal_what_it_was_told_and_what_it_does_otherwise() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(50, seed()));
    let state = tempfile::tempdir().unwrap();
    let (from, to) = (source.url(0), target.url(0));
    Redknot::new(["--state-dir"])
        .arg(state.path())
        .args(["rump", "-from", &from, "-to", &to, "-ttl"])
        .run()
        .expect_code(0);
    let folders = fs::read_dir(state.path()).unwrap();
    let name = folders.map(|entry| entry.unwrap().file_name()).next();
    let lines = newest_run(name.unwrap().to_str().unwrap(), state.path());
    assert_eq!(setting(&lines, "from"), said(&from, "flag"));
    assert_eq!(setting(&lines, "ttl"), said("keep", "flag"));
    assert_eq!(setting(&lines, "on-conflict"), said("replace", "default"));
}

#[test]
fn what_the_nodes_of_a_cluster_served_is_told_node_by_node() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source = Cluster::start(&redis, 3, 0);
    let keys = source.fill(&DataSet::new(2_000, seed()));
    let target = Cluster::start(&redis, 2, 0);
    let state = tempfile::tempdir().unwrap();
    let migrate = Redknot::migrate(&source.url(), &target.url(), state.path());
    migrate.args(["--name", NAME]).run().expect_code(0);
    let check = |lines: &[Value], source_command: &str, at_least: u64| {
        let told = of_kind(lines, "served");
        let nodes: Vec<&str> = told
            .iter()
            .map(|line| line["node"].as_str().unwrap())
            .collect();
        let of = |cluster: &Cluster| -> Vec<String> {
            let nodes = cluster.nodes().iter();
            nodes.map(|node| node.address().to_string()).collect()
        };
        assert_eq!(nodes.len(), 5, "{told:?}");
        assert!(
            of(&source)
                .iter()
                .chain(&of(&target))
                .all(|node| nodes.contains(&node.as_str())),
            "{told:?}"
        );
        assert!(
            served(lines, "source", source_command) >= at_least,
            "{told:?}"
        );
    };
    let lines = newest_run(NAME, state.path());
    check(&lines, "mget", 1);
    let written = ["restore", "set"].map(|command| served(&lines, "target", command));
    assert!(written.iter().sum::<u64>() >= keys);
    assert_eq!(
        of_kind(&lines, "server")[0]["nodes"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    compare(NAME, state.path()).run().expect_code(0);
    check(&newest_run(NAME, state.path()), "dump", 1);
    let gone = target.any_key(0);
    target.delete(&gone, 0);
    compare(NAME, state.path()).run().expect_code(1);
    repair(NAME, state.path())
        .arg("--apply")
        .run()
        .expect_code(0);
    check(&newest_run(NAME, state.path()), "dump", 1);
    let report = Redknot::new(["audit", "report", NAME, "--html", "--state-dir"])
        .arg(state.path())
        .run()
        .expect_code(0);
    let node = target.nodes()[1].address().to_string();
    assert!(report.stdout().contains(&node), "{report}");
}
