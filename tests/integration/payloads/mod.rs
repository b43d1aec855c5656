//! DUMP payloads of real servers under `tests/payloads/`, and what they mean.
//!
//! `tests/payloads/<server>/<case>.payload` is what DUMP answered; `index.json` beside it says what made the value and
//! what the server itself read from it with ordinary commands. `REDKNOT_RECORD=1 cargo test --test integration
//! record_payloads -- --ignored` records them anew, with the servers that the tests have.

/// What a server answers to typed reads.
mod asked;
/// What was recorded: configurations and commands.
mod cases;
/// What the decoder says.
mod described;

use std::path::{Path, PathBuf};

use redknot::rdb::decode::{Decoder, walk};
use redknot::rdb::footer;
use serde_json::{Value, json};

use crate::support::server::{Server, ServerSpec};
use crate::support::version::{self, Kind, require};

use cases::{CASES, Case};
use described::Described;

/// The key that every case makes.
const KEY: &str = "k";

/// Longer values are recorded as their digest.
const VALUE_CHARS_MAX: usize = 1_500;

/// All payloads together.
const CORPUS_BYTES_MAX: u64 = 400_000;

fn folder(kind: Kind) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/payloads")
        .join(kind.name)
}

/// The value itself, or its digest if it is long.
fn shortened(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= VALUE_CHARS_MAX {
        return value.clone();
    }
    json!({ "chars": text.len(), "blake3": blake3::hash(text.as_bytes()).to_hex().as_str() })
}

fn index(kind: Kind) -> Vec<Value> {
    let path = folder(kind).join("index.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).expect("the index is JSON")
}

#[test]
fn recorded_payloads_mean_what_the_server_read() {
    let mut types = std::collections::BTreeSet::new();
    let mut decoder = Decoder::new();
    for kind in version::ALL {
        let index = index(kind);
        assert!(index.len() > 30, "{}", kind.name);
        for entry in index {
            let name = entry["case"].as_str().unwrap();
            let path = folder(kind).join(format!("{name}.payload"));
            let payload = std::fs::read(&path).unwrap();
            let footer = footer::check(&payload).unwrap();
            let mut described = Described::default();
            let walked = decoder.walk(&payload, &mut described);
            let walked = walked.unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert_eq!(walked.version, footer.version, "{path:?}");
            assert_eq!(json!(walked.type_byte), entry["type"], "{path:?}");
            assert_eq!(walked.trailing_bytes, 0, "{path:?}");
            assert!(!walked.has_key_metadata, "{path:?}");
            let value = described.value();
            assert_eq!(shortened(&value), entry["value"], "{path:?}: {value}");
            types.insert(walked.type_byte);
        }
    }
    let expected = [
        0, 2, 4, 5, 7, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25,
    ];
    assert_eq!(types.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_recorded_is_small_and_all_of_it_is_in_the_index() {
    let mut bytes = 0;
    for kind in version::ALL {
        let mut files = index(kind).len() + 1;
        for file in std::fs::read_dir(folder(kind)).unwrap() {
            bytes += file.unwrap().metadata().unwrap().len();
            files -= 1;
        }
        assert_eq!(files, 0, "{}", kind.name);
    }
    assert!(bytes < CORPUS_BYTES_MAX, "{bytes} bytes");
}

/// Real servers, now: the recorded ones may have been others.
#[test]
fn the_decoder_reads_what_the_servers_read() {
    for kind in version::ALL {
        let Some(binary) = require(kind) else {
            continue;
        };
        let server = Server::start(ServerSpec::new(binary));
        let mut cases = 0;
        for case in CASES.iter().filter(|case| case.is_for(kind)) {
            let (payload, value) = make(&server, case);
            let mut described = Described::default();
            let walked = walk(&payload, &mut described);
            walked.unwrap_or_else(|error| panic!("{} {}: {error}", kind.name, case.name));
            assert_eq!(described.value(), value, "{} {}", kind.name, case.name);
            cases += 1;
        }
        assert!(cases > 30, "{}", kind.name);
    }
}

#[test]
#[ignore = "writes into the project: it is run to record payloads of other servers"]
fn record_payloads() {
    assert!(
        std::env::var_os("REDKNOT_RECORD").is_some(),
        "REDKNOT_RECORD=1 says that the files under tests/payloads are to be replaced"
    );
    for kind in version::ALL {
        let binary = require(kind).expect("every server is needed");
        let server = Server::start(ServerSpec::new(binary));
        let folder = folder(kind);
        // Not there the first time.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut index = Vec::new();
        for case in CASES.iter().filter(|case| case.is_for(kind)) {
            let (payload, value) = make(&server, case);
            let file = folder.join(format!("{}.payload", case.name));
            std::fs::write(file, &payload).unwrap();
            index.push(json!({
                "case": case.name,
                "server": server.version(),
                "type": footer::payload_type(&payload),
                "made_by": case.made_by(),
                "value": shortened(&value),
            }));
        }
        let lines: Vec<String> = index.iter().map(Value::to_string).collect();
        let text = format!("[\n{}\n]\n", lines.join(",\n"));
        std::fs::write(folder.join("index.json"), text).unwrap();
    }
}

/// Makes a case's value; its payload, and what the server reads of it.
fn make(server: &Server, case: &Case) -> (Vec<u8>, Value) {
    let mut connection = server.connection();
    let run = |connection: &mut redis::Connection, command: &str| {
        let words = cases::words(command);
        let mut run = redis::cmd(std::str::from_utf8(&words[0]).expect("a command's name"));
        run.arg(&words[1..]);
        let result: redis::RedisResult<redis::Value> = run.query(connection);
        result.unwrap_or_else(|error| panic!("{} {command}: {error}", server.kind().name));
    };
    let before: Vec<String> = case
        .changed_config()
        .map(|name| {
            let config = redis::cmd("CONFIG")
                .arg("GET")
                .arg(name)
                .query(&mut connection);
            let (name, value): (String, String) = config.expect("a configuration");
            format!("CONFIG SET {name} {value}")
        })
        .collect();
    for command in case.commands() {
        run(&mut connection, &command);
    }
    let payload = redis::cmd("DUMP").arg(KEY).query(&mut connection);
    let payload: Vec<u8> = payload.expect("the case makes the key");
    let value = asked::value(&mut connection, KEY);
    run(&mut connection, &format!("DEL {KEY}"));
    // Configurations are those of the case alone.
    for command in before {
        run(&mut connection, &command);
    }
    (payload, value)
}
