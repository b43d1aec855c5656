//! Names on the target under which the pieces of big keys are put together.
//!
//! # Invariants
//!
//! - A name is made of the migration and of the key alone: whoever opens the state of the migration knows it again,
//!   whichever run made it, also after the state was made anew from the journal.
//! - It belongs to the slot of the key's own name, so that it can be renamed to it on a cluster, and behind a proxy that
//!   looks at hash tags.

use crate::audit::entry::hex;
use crate::cluster::{hashed_part, slot_of};

/// What all of them begin with.
const PREFIX: &str = "redknot:piece:";
/// Longest part of a key's own name that is taken into its temporary one, so that it can be told whose it is.
const TAG_BYTES_MAX: usize = 128;

/// The names of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    prefix: String,
}

impl Temporary {
    /// The names of the migration `name` of this plan's fingerprint that was created at this instant.
    pub fn of(name: &str, fingerprint: &[u8; 32], created_ms: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(fingerprint);
        hasher.update(&created_ms.to_le_bytes());
        hasher.update(name.as_bytes());
        let id = hex(&hasher.finalize().as_bytes()[..8]);
        Self {
            prefix: format!("{PREFIX}{id}:"),
        }
    }

    /// Where the value of the key that is to be called `there` is put together.
    pub fn of_value(&self, there: &[u8]) -> Vec<u8> {
        self.with(there, "")
    }

    /// Where it stands how much of that value is there.
    pub fn of_mark(&self, there: &[u8]) -> Vec<u8> {
        self.with(there, "mark:")
    }

    fn with(&self, there: &[u8], what: &str) -> Vec<u8> {
        let digest = blake3::hash(there);
        let mut name = format!("{}{}:{what}{{", self.prefix, hex(&digest.as_bytes()[..8]));
        match tag(there) {
            Some(tag) => [name.as_bytes(), tag, b"}"].concat(),
            None => {
                name.push_str(&found_tag(there));
                name.push('}');
                name.into_bytes()
            }
        }
    }

    /// Whether it is one of them.
    pub fn is_one(&self, name: &[u8]) -> bool {
        name.starts_with(self.prefix.as_bytes())
    }
}

/// The part of a name that decides about its slot, if it can be put between braces.
fn tag(there: &[u8]) -> Option<&[u8]> {
    let part = hashed_part(there);
    let fits = !part.is_empty() && part.len() <= TAG_BYTES_MAX && !part.contains(&b'}');
    fits.then_some(part)
}

/// A short tag that belongs to the slot of `there`.
fn found_tag(there: &[u8]) -> String {
    let slot = slot_of(there);
    (0_u64..)
        .map(|number| number.to_string())
        .find(|tag| slot_of(tag.as_bytes()) == slot)
        .expect("every slot has numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_has_the_slot_of_the_key() {
        let names = Temporary::of("m", &[7; 32], 1);
        let long = vec![b'x'; 5000];
        for there in [
            &b"plain"[..],
            b"",
            b"}",
            b"a}b",
            b"{tag}rest",
            b"{}empty",
            b"{open",
            b"x{}{y}",
            b"\xff\x00\r\n",
            &long,
        ] {
            for name in [names.of_value(there), names.of_mark(there)] {
                assert_eq!(slot_of(&name), slot_of(there), "{there:?}");
                assert!(names.is_one(&name));
                assert!(name.len() < 200, "{}", name.len());
            }
            assert_ne!(names.of_value(there), names.of_mark(there));
        }
    }

    #[test]
    fn names_of_other_keys_and_of_other_migrations_are_others() {
        let names = Temporary::of("m", &[7; 32], 1);
        assert_ne!(names.of_value(b"{a}1"), names.of_value(b"{a}2"));
        for other in [
            Temporary::of("n", &[7; 32], 1),
            Temporary::of("m", &[8; 32], 1),
            Temporary::of("m", &[7; 32], 2),
        ] {
            assert!(!names.is_one(&other.of_value(b"a")));
        }
        assert!(!names.is_one(b"redknot:piece:"));
    }
}
