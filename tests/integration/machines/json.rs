//! The events of `--json`: each type is really printed, each is described, and nothing else is printed.
//!
//! That every line of every run of every test keeps the contract is seen to by the support that runs the binary.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{NAME, Pair, project_file};
use crate::support::cluster::Cluster;
use crate::support::comparing::{compare, repair};
use crate::support::contract::{Document, SCHEMA, breach, event_types};
use crate::support::dataset::DataSet;
use crate::support::proxy::Proxy;
use crate::support::redknot::{Finished, Redknot, wait_for_status};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};

/// Enough that a repair of all of them is told of before its end.
const KEYS: u32 = 20_000;

/// The reference of the documentation stands between these lines, and is made of the contract.
const REFERENCE: [&str; 2] = [
    "<!-- made of json-schema.json, from here -->\n",
    "<!-- to here -->\n",
];

#[test]
fn every_event_of_the_contract_is_really_printed() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let Some(mut pair) = Pair::with_keys(KEYS) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let mut see = |finished: Finished| {
        let lines = finished.json_lines();
        let ended = lines.last().unwrap()["type"] == "exit";
        assert_ne!(ended, finished.was_killed(), "{finished}");
        seen.extend(
            lines
                .iter()
                .map(|line| line["type"].as_str().unwrap().to_owned()),
        );
        finished
    };

    // A name in two databases that become one: the second of them has no place.
    for db in [0, 1] {
        run("SET twin x", &pair.source, db);
    }
    load_library("shop", &pair.source);
    let proxy = Proxy::start(pair.target.port(), 5);
    let to = format!("redis://127.0.0.1:{}", proxy.port());
    let migrate = |pair: &Pair| {
        let from = format!("redis://{}", pair.source.address());
        Redknot::migrate(&from, &to, pair.state())
            .args(["--name", NAME, "--json", "--functions", "--batch", "50"])
            .args(["--db", "0,1", "--db-map", "*:0"])
    };
    let mut running = migrate(&pair).start();
    pair.wait_for_share(0.2, &mut running);
    running.signal(Signal::INT);
    see(running.wait()).expect_code(130);
    pair.target.restart();
    let mut running = migrate(&pair).start();
    pair.wait_for_share(0.4, &mut running);
    assert!(see(running.kill_9()).was_killed());
    let mut running = migrate(&pair).start();
    pair.wait_for_share(0.6, &mut running);
    pair.source.restart();
    see(running.wait()).expect_code(1);

    // All is lost on the target, which got something else instead.
    run("FLUSHALL", &pair.target, 0);
    run("SET other x", &pair.target, 0);
    load_library("other", &pair.target);
    see(compare(NAME, pair.state())
        .arg("--settle")
        .arg("10ms")
        .run())
    .expect_code(1);
    see(repair(NAME, pair.state()).arg("--json").run()).expect_code(1);
    proxy
        .replies()
        .latency(Duration::from_millis(20), Duration::ZERO);
    let apply = repair(NAME, pair.state()).args(["--json", "--apply"]);
    see(apply.run()).expect_code(1);

    let cluster = Cluster::start(&redis, 3, 0);
    cluster.fill(&DataSet::new(100, 5));
    let (target, state) = (Server::plain(&redis), tempfile::tempdir().unwrap());
    let migrate = |to: &str| Redknot::migrate(&cluster.url(), to, state.path()).arg("--json");
    see(migrate(&target.url(0)).run()).expect_code(0);
    see(migrate("127.0.0.1:1")
        .args(["--max-unavailable", "0s"])
        .run())
    .expect_code(11);

    let (target, state) = (Server::plain(&redis), tempfile::tempdir().unwrap());
    let running = Redknot::migrate(&pair.source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--json", "--rate", "2000/s"])
        .start();
    wait_for_status(NAME, state.path(), "the first keys", |status| {
        status.counters.keys_written > 0
    });
    Redknot::new(["throttle", NAME, "--rate", "none", "--state-dir"])
        .arg(state.path())
        .run()
        .expect_code(0);
    see(running.wait()).expect_code(0);

    let all: BTreeSet<String> = event_types().into_iter().map(str::to_owned).collect();
    let never: Vec<&String> = all.difference(&seen).collect();
    assert!(never.is_empty(), "never printed: {never:?}");
}

fn run(command: &str, server: &Server, db: u32) {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.exec(&mut server.connection_to(db)).unwrap();
}

fn load_library(name: &str, server: &Server) {
    let code = format!("#!lua name={name}\nredis.register_function('{name}_f', function() end)\n");
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg(code);
    load.exec(&mut server.connection()).unwrap();
}

#[test]
fn what_the_contract_does_not_describe_breaks_it() {
    let line = |change: fn(&mut Value)| {
        let mut event = json!({
            "v": 1, "t": "2026-11-22T14:03:11.201Z", "migration": "shop", "run": 3, "type": "lane",
            "lane": { "source_db": 0, "target_db": 0 }, "pass": 1, "decision": "begin", "reason": "",
        });
        change(&mut event);
        format!("{event}\n")
    };
    let breach = |line: String| breach(Document::Events, &line);
    assert_eq!(breach(line(|_| ())), None);
    let broken: [fn(&mut Value); 6] = [
        |event| event["more"] = json!(1),
        |event| event["lane"]["more"] = json!(1),
        |event| event["decision"] = json!("perhaps"),
        |event| event["pass"] = json!("1"),
        |event| event["type"] = json!("nothing"),
        |event| drop(event.as_object_mut().unwrap().remove("reason")),
    ];
    for change in broken {
        let line = line(change);
        assert!(breach(line.clone()).is_some(), "{line}");
    }
    assert!(breach("no JSON\n".into()).is_some());
    assert_eq!(breach("{\"v\":1,".into()), None, "a line that was cut off");
}

#[test]
fn the_documentation_describes_every_event_and_every_field() {
    let path = "docs/json.md";
    let text = project_file(path);
    let [from, to] = REFERENCE;
    let (before, rest) = text
        .split_once(from)
        .expect("the line before the reference");
    let (_, after) = rest.split_once(to).expect("the line after the reference");
    let made = format!("{before}{from}{}{to}{after}", reference());
    if std::env::var_os("REDKNOT_RECORD").is_some_and(|record| record == "1") {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &made).unwrap();
    }
    assert!(
        made == text,
        "{path} does not say what json-schema.json says; REDKNOT_RECORD=1 with this test mends it"
    );
    for event in event_types() {
        let example = format!("\"type\":\"{event}\"");
        let described = made.contains(&format!("### `{event}`\n"));
        assert!(described || made.contains(&example), "{event}");
    }
}

/// The contract as a document: the events in their order, then what they are made of.
fn reference() -> String {
    let events = event_types();
    let definitions = SCHEMA["$defs"].as_object().unwrap();
    let mut text = String::from("\n## Events\n");
    for event in &events {
        write_definition(&mut text, event, &definitions[*event]);
    }
    text.push_str("\n## What they are made of\n");
    for (name, definition) in definitions {
        if !events.contains(&name.as_str()) {
            write_definition(&mut text, name, definition);
        }
    }
    text.push('\n');
    text
}

fn write_definition(text: &mut String, name: &str, definition: &Value) {
    let description = description(definition);
    let _ = write!(text, "\n### `{name}`\n\n{description}\n");
    let mixed = definition["allOf"].as_array().into_iter().flatten();
    let mixed: Vec<String> = mixed.map(|part| link(part).unwrap()).collect();
    if !mixed.is_empty() {
        let _ = write!(text, "\nThe fields of {}.\n", mixed.join(" and "));
    }
    let required = definition["required"].as_array().unwrap();
    let fields = definition["properties"].as_object().unwrap();
    let fields: Vec<_> = fields
        .iter()
        .filter(|(name, _)| *name != "type" || fields["type"]["const"].is_null())
        .collect();
    if fields.is_empty() {
        return;
    }
    text.push_str("\n| Field | Is | Means |\n|---|---|---|\n");
    for (name, field) in fields {
        let absent = match required.contains(&json!(name)) {
            true => "",
            false => ", may be absent",
        };
        let _ = writeln!(
            text,
            "| `{name}` | {}{absent} | {} |",
            kind(field),
            self::description(field)
        );
    }
}

fn description(schema: &Value) -> &str {
    schema["description"]
        .as_str()
        .expect("everything is described")
}

/// What a field holds, in a word or two.
fn kind(field: &Value) -> String {
    let or_null = |kind: &Value| match kind.as_str() {
        Some("null") => "null".to_owned(),
        Some(kind) => kind.to_owned(),
        None => link(kind).unwrap_or_else(|| "null".to_owned()),
    };
    if let Some(link) = link(field) {
        return link;
    }
    let several = ["enum", "anyOf"]
        .iter()
        .find_map(|kind| field[kind].as_array());
    match (several, &field["const"], &field["type"]) {
        (Some(any), ..) if field["enum"].is_array() => {
            let values: Vec<String> = any
                .iter()
                .map(|value| format!("`{value}`").replace('"', ""))
                .collect();
            values.join(" ")
        }
        (Some(any), ..) => any.iter().map(or_null).collect::<Vec<_>>().join(" or "),
        (_, Value::Null, Value::Array(kinds)) => {
            kinds.iter().map(or_null).collect::<Vec<_>>().join(" or ")
        }
        (_, Value::Null, kind) if kind == "array" => {
            let items = &field["items"];
            let item = link(items).unwrap_or_else(|| or_null(&items["type"]));
            format!("list of {item}")
        }
        (_, Value::Null, kind) => or_null(kind),
        (_, constant, _) => format!("`{constant}`").replace('"', ""),
    }
}

fn link(schema: &Value) -> Option<String> {
    let name = schema["$ref"].as_str()?.strip_prefix("#/$defs/")?;
    Some(format!("[{name}](#{name})"))
}

#[test]
fn an_event_comes_at_once_and_not_when_the_pipe_is_full() {
    let Some(pair) = Pair::with_keys(2_000) else {
        return;
    };
    let mut running = pair.migrate(&["--json", "--batch", "10"]).start();
    crate::support::wait_for("the first event", Duration::from_secs(20), || {
        let said = running.stdout_so_far();
        assert!(running.is_running() || !said.is_empty());
        said.contains("\"type\":\"start\"").then_some(())
    });
    running.wait().expect_code(0);
}
