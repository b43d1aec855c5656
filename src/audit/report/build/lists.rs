//! Lists of keys, of which only the beginning is shown.

use crate::audit::report::model::{KeyList, ListedKey, Redaction};
use crate::audit::report::redact;
use crate::key::visible;
use crate::progress::Verdict as KeyVerdict;

/// Keys of a list that are shown.
pub const LISTED_MAX: usize = 100;

/// Lists that are too long for the journal, or change.
#[derive(Debug, Default)]
pub struct Lists {
    /// Keys that could not be copied.
    pub quarantined: RawList,
    /// Findings that are open.
    pub findings: RawList,
}

/// The beginning of a list, and how long it is.
#[derive(Debug, Default)]
pub struct RawList {
    /// All of them.
    pub total: u64,
    /// At most [`LISTED_MAX`].
    pub keys: Vec<RawKey>,
}

/// A key of a list, as it is stored.
#[derive(Debug)]
pub struct RawKey {
    /// Database on the source.
    pub db: u32,
    /// Its name, or the beginning of it.
    pub name: Vec<u8>,
    /// Length of its whole name.
    pub name_bytes: u64,
    /// What a comparison says of it.
    pub verdict: Option<KeyVerdict>,
    /// What it holds.
    pub key_type: String,
    /// Why it is in the list, in our words.
    pub reason: String,
    /// The same, in those of a server.
    pub error: Option<String>,
}

impl RawList {
    /// Adds a key; it is counted in any case.
    pub fn push(&mut self, key: impl FnOnce() -> RawKey) {
        self.total += 1;
        if self.keys.len() < LISTED_MAX {
            self.keys.push(key());
        }
    }
}

pub(super) fn list(redaction: Redaction, raw: Option<RawList>, command: String) -> KeyList {
    let total = raw.as_ref().map(|raw| raw.total);
    let keys = raw.map_or_else(Vec::new, |raw| raw.keys);
    KeyList {
        total,
        keys: keys.iter().map(|key| listed(redaction, key)).collect(),
        command,
    }
}

fn listed(redaction: Redaction, key: &RawKey) -> ListedKey {
    let reason = redact::message(redaction, &key.reason);
    ListedKey {
        db: key.db,
        key: redact::name(redaction, &key.name, key.name_bytes),
        verdict: key.verdict,
        key_type: visible(&key.key_type),
        reason: match &key.error {
            Some(line) => format!("{reason}: {}", redact::error(redaction, line)),
            None => reason,
        },
    }
}
