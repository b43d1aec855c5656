//! `redknot compare`, `repair` and `keys`: their command lines, and what they print as JSON.
//!
//! # Invariant
//!
//! Only this file knows where a figure stands in the JSON. A figure that is not there ends the test.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::corrupt::Damage;
use super::oracle::{Difference, Verdict};
use super::redknot::{Finished, Redknot};

/// The counters of verdicts on keys of the source, in whose sum every compared key is found once.
const OF_COMPARED_KEYS: [&str; 6] = ["equal", "missing", "value", "type", "ttl", "undecided"];

/// The counters that stand beside them in the sum of all names that SCAN returned.
const OF_SCANNED_KEYS: [&str; 7] = [
    "keys_compared",
    "vanished",
    "not_compared",
    "filtered",
    "collided",
    "unsampled",
    "doubled",
];

/// `redknot compare NAME --json`.
pub fn compare(name: &str, state_dir: &Path) -> Redknot {
    with_state(["compare", name], state_dir).arg("--json")
}

/// `redknot compare --from FROM --to TO --json`.
pub fn compare_urls(from: &str, to: &str, state_dir: &Path) -> Redknot {
    with_state(["compare", "--from", from, "--to", to], state_dir).arg("--json")
}

/// `redknot repair NAME`.
pub fn repair(name: &str, state_dir: &Path) -> Redknot {
    with_state(["repair", name], state_dir)
}

/// `redknot keys NAME --class CLASS`.
pub fn keys(name: &str, class: &str, state_dir: &Path) -> Redknot {
    with_state(["keys", name, "--class", class], state_dir)
}

fn with_state<'a>(args: impl IntoIterator<Item = &'a str>, state_dir: &Path) -> Redknot {
    Redknot::new(args).arg("--state-dir").arg(state_dir)
}

/// What a comparison said at its end.
pub struct Compared {
    /// The process.
    pub finished: Finished,
    /// Its last event.
    event: Value,
}

impl Compared {
    /// What `finished` said.
    ///
    /// # Panics
    ///
    /// If it did not come to a result, or the accounts do not add up (promise P5).
    #[track_caller]
    pub fn of(finished: Finished) -> Self {
        let event = finished
            .json_lines()
            .into_iter()
            .rfind(|line| line["type"] == "compared")
            .unwrap_or_else(|| panic!("no event says that it has compared\n{finished}"));
        let compared = Self { finished, event };
        assert_balance(&compared.event);
        compared
    }

    /// What its state is called, which says whose findings they are.
    #[track_caller]
    pub fn name(&self) -> &str {
        let name = self.event["migration"].as_str();
        name.unwrap_or_else(|| panic!("no name in {}", self.event))
    }

    /// One counter.
    #[track_caller]
    pub fn count(&self, counter: &str) -> u64 {
        count(&self.event, counter)
    }

    /// All counters of verdicts that are findings.
    pub fn findings(&self) -> u64 {
        ["missing", "extra", "type", "value", "ttl", "undecided"]
            .iter()
            .map(|verdict| self.count(verdict))
            .sum()
    }

    /// The digests of both keyspaces.
    #[track_caller]
    pub fn digests(&self) -> (String, String) {
        let digest = |of: &str| -> String {
            let digest = self.event[of].as_str();
            digest
                .unwrap_or_else(|| panic!("no {of} in {}", self.event))
                .to_owned()
        };
        (digest("source_digest"), digest("target_digest"))
    }

    /// Panics unless it looked at `keys` keys at least and found each of them equal.
    #[track_caller]
    pub fn assert_equal(&self, keys: u64) {
        let finished = &self.finished;
        assert_eq!(self.findings(), 0, "{}\n{finished}", self.event);
        assert_eq!(self.count("not_compared"), 0, "{}\n{finished}", self.event);
        assert!(self.count("equal") >= keys, "{}\n{finished}", self.event);
    }
}

/// Panics unless every name that SCAN returned is in the accounts of an event or of a status.
#[track_caller]
fn assert_balance(of: &Value) {
    let sum = |counters: &[&str]| -> u64 { counters.iter().map(|name| count(of, name)).sum() };
    assert_eq!(
        count(of, "keys_compared"),
        sum(&OF_COMPARED_KEYS),
        "compared keys without a verdict: {of}"
    );
    assert_eq!(
        count(of, "keys_scanned"),
        sum(&OF_SCANNED_KEYS),
        "scanned keys that are not accounted for: {of}"
    );
}

#[track_caller]
fn count(of: &Value, counter: &str) -> u64 {
    of["counters"][counter]
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {counter} in {of}"))
}

/// What `redknot status NAME --json` says.
#[track_caller]
pub fn status_json(name: &str, state_dir: &Path) -> Value {
    let finished = with_state(["status", name, "--json"], state_dir)
        .run()
        .expect_code(0);
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}\n{finished}"))
}

/// What `redknot status NAME --json` says of the newest comparison.
#[track_caller]
pub fn compare_status(name: &str, state_dir: &Path) -> Value {
    let status = status_json(name, state_dir);
    let compare = status["compare"].clone();
    assert!(compare.is_object(), "no comparison in {status}");
    compare
}

/// Panics unless `status` shows what the comparison itself said.
#[track_caller]
pub fn assert_status_agrees(compared: &Compared, name: &str, state_dir: &Path) {
    let status = compare_status(name, state_dir);
    assert_balance(&status);
    assert_eq!(status["counters"], compared.event["counters"], "{status}");
    assert_eq!(status["source_digest"], compared.event["source_digest"]);
}

/// One line of `redknot keys --json`.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The name, from its hexadecimal digits.
    pub key: Vec<u8>,
    /// The name, escaped.
    pub escaped: String,
    /// Database on the source.
    pub db: u64,
    /// What was found, for findings; else empty.
    pub verdict: String,
    /// Why.
    pub detail: String,
}

/// The keys of one class, in the order in which they are printed.
#[track_caller]
pub fn listed(name: &str, class: &str, state_dir: &Path) -> Vec<Listed> {
    let finished = keys(name, class, state_dir)
        .arg("--json")
        .run()
        .expect_code(0);
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    finished
        .json_lines()
        .iter()
        .map(|line| Listed {
            key: from_hex(&text(line, "key_hex")),
            escaped: text(line, "key"),
            db: line["db"].as_u64().expect("a database"),
            verdict: text(line, "verdict"),
            detail: text(line, "detail"),
        })
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

/// Verdicts by name, as redknot writes them.
pub type Findings = BTreeMap<Vec<u8>, &'static str>;

/// What `redknot keys --class findings` lists.
#[track_caller]
pub fn findings(name: &str, state_dir: &Path) -> Findings {
    let listed = listed(name, "findings", state_dir);
    let words = ["missing", "extra", "type", "value", "ttl", "undecided"];
    let found: Findings = listed
        .iter()
        .map(|one| {
            let word = words.into_iter().find(|word| *word == one.verdict);
            (
                one.key.clone(),
                word.unwrap_or_else(|| panic!("what is {one:?}?")),
            )
        })
        .collect();
    assert_eq!(found.len(), listed.len(), "a key is listed twice");
    found
}

/// What must be found of the damages.
pub fn expected(damages: &[Damage]) -> Findings {
    let verdicts = Damage::expected(damages).into_iter();
    verdicts
        .map(|(key, verdict)| (key, word(verdict)))
        .collect()
}

/// What the oracle found.
pub fn of_oracle(differences: &[Difference]) -> Findings {
    differences
        .iter()
        .map(|difference| (difference.key.clone(), word(difference.verdict)))
        .collect()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Missing => "missing",
        Verdict::Extra => "extra",
        Verdict::Type => "type",
        Verdict::Value => "value",
        Verdict::Expiry => "ttl",
        Verdict::NotCompared => "not compared",
    }
}

/// Panics with the first differences unless both are the same. `damages` say what was done to a key.
#[track_caller]
pub fn assert_findings(found: &Findings, wanted: &Findings, damages: &[Damage]) {
    let what = |key: &[u8]| {
        let damage = damages.iter().find(|damage| damage.key == key);
        damage.map_or("nobody damaged it", |damage| damage.what)
    };
    let mut wrong: Vec<String> = Vec::new();
    for key in found
        .keys()
        .chain(wanted.keys().filter(|key| !found.contains_key(*key)))
    {
        if found.get(key) != wanted.get(key) {
            wrong.push(format!(
                "\"{}\": {:?} is found, {:?} is wanted ({})",
                key.escape_ascii(),
                found.get(key),
                wanted.get(key),
                what(key)
            ));
        }
    }
    let shown = wrong[..wrong.len().min(20)].join("\n");
    assert!(
        wrong.is_empty(),
        "{} of {} verdicts are wrong:\n{shown}",
        wrong.len(),
        wanted.len()
    );
}
