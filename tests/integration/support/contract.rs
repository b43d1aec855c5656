//! What `--json` prints, held against the contract that the documentation makes of it: `docs/json-schema.json`.
//!
//! # Invariant
//!
//! Stricter than readers have to be: a field that the contract does not name breaks it, so that none is added without
//! being described.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// What a command prints with `--json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// Lines with a `type`: `migrate`, `compare`, `repair`.
    Events,
    /// A line a migration.
    Status,
    /// One line.
    AuditCheck,
}

impl Document {
    /// What the command line `words` prints, if the contract speaks of it.
    pub fn of(words: &[&str]) -> Option<Self> {
        match words {
            ["migrate" | "rump" | "compare" | "repair", ..] => Some(Self::Events),
            ["status", ..] => Some(Self::Status),
            ["audit", "check", ..] => Some(Self::AuditCheck),
            _ => None,
        }
    }
}

/// The contract as it stands in the documentation.
pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json-schema.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {path:?}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {path:?}"))
});

/// One for each definition.
static VALIDATORS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let mut definitions = SCHEMA["$defs"].clone();
    close(&mut definitions);
    let names = definitions.as_object().expect("$defs is an object").keys();
    names
        .map(|name| {
            let schema = json!({
                "$schema": SCHEMA["$schema"],
                "$ref": format!("#/$defs/{name}"),
                "$defs": definitions,
                "unevaluatedProperties": false,
            });
            let validator = jsonschema::validator_for(&schema);
            let validator = validator.unwrap_or_else(|error| panic!("{error} in {name}"));
            (name.clone(), validator)
        })
        .collect()
});

/// Lets no field stand that is not described, in whatever depth. Definitions themselves stay open, since others are made
/// of them.
fn close(definitions: &mut Value) {
    let definitions = definitions.as_object_mut().expect("$defs is an object");
    definitions.values_mut().for_each(close_fields);
}

fn close_fields(schema: &mut Value) {
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    let fields = fields.into_iter().flat_map(Map::values_mut);
    for field in fields {
        field["unevaluatedProperties"] = json!(false);
        if let Some(items) = field.get_mut("items") {
            items["unevaluatedProperties"] = json!(false);
        }
    }
}

/// The types of events, in the order of the contract.
pub fn event_types() -> Vec<&'static str> {
    let refs = SCHEMA["oneOf"].as_array().expect("oneOf is a list").iter();
    refs.map(|event| {
        let name = event["$ref"].as_str().expect("an event is a reference");
        name.strip_prefix("#/$defs/").expect("to a definition")
    })
    .collect()
}

/// What is wrong with the complete lines of an output; nothing, if they keep the contract.
pub fn breach(document: Document, output: &str) -> Option<String> {
    // A process that was killed may leave the beginning of a line.
    let lines = output.split_inclusive('\n');
    lines
        .filter_map(|line| line.strip_suffix('\n'))
        .find_map(|line| breach_in(document, line).map(|why| format!("{why}\nin {line}")))
}

fn breach_in(document: Document, line: &str) -> Option<String> {
    let value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => return Some(error.to_string()),
    };
    let name = match document {
        Document::Events => value["type"].as_str().unwrap_or_default(),
        Document::Status => "status_document",
        Document::AuditCheck => "check_document",
    };
    if document == Document::Events && !event_types().contains(&name) {
        return Some(format!("the contract has no event `{name}`"));
    }
    let errors = VALIDATORS[name].iter_errors(&value);
    let errors: Vec<String> = errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
}
