//! The entries of a part of all names, to be found by name.
//!
//! All of them would be 32 MiB for a million keys, so a larger migration is looked at in parts, by the names' digests,
//! which are spread evenly.
//!
//! # Invariants
//!
//! - Memory: an entry's 32 bytes, and half as much again while they are sorted.
//! - Of several entries of a name the newest counts; the order in which they are given is their age. A key that was kept is
//!   what an older entry says of it, a key that could not be copied is what was written in the same pass. A name of which only
//!   earlier passes know is none that the target should have.

use super::entry::{Entry, NameDigest, Outcome};

/// One of several equal parts of all names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: u64,
    /// How many there are.
    pub of: u64,
}

impl Part {
    /// So many parts that each has about `entries_max` of `entries`.
    pub fn count(entries: u64, entries_max: u64) -> u64 {
        // Parts are equal but for chance.
        entries
            .div_ceil((entries_max - entries_max / 16).max(1))
            .max(1)
    }

    /// Whether a name is in it.
    pub fn contains(&self, name: &NameDigest) -> bool {
        if self.of == 1 {
            return true;
        }
        let first = name
            .first_chunk()
            .map_or(0, |first| u64::from_be_bytes(*first));
        (u128::from(first) * u128::from(self.of)) >> 64 == u128::from(self.index)
    }
}

/// See the module.
#[derive(Default)]
pub struct Table {
    entries: Vec<Entry>,
    /// A bit for each: whether the target has a key of that name.
    met: Vec<u64>,
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// This should be there, and it is met for the first time.
    Entry(Outcome),
    /// It was met already.
    Again,
    /// Nothing: no key of that name should be there.
    Nothing,
}

impl Table {
    /// Takes the entries of a part, the oldest first.
    pub fn of(mut entries: Vec<Entry>) -> Self {
        // Stable: those of one name stay in their order.
        entries.sort_by_key(Entry::name);
        let mut kept = 0;
        let mut from = 0;
        while from < entries.len() {
            let name = entries[from].name();
            let same = entries[from..]
                .iter()
                .take_while(|entry| entry.name() == name);
            let to = from + same.count();
            if let Some(entry) = newest(&entries[from..to]) {
                entries[kept] = entry;
                kept += 1;
            }
            from = to;
        }
        entries.truncate(kept);
        Self {
            met: vec![0; kept.div_ceil(64)],
            entries,
        }
    }

    /// Names that the target should have.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known of a name that the target has, by its digest.
    pub fn meet(&mut self, name: &NameDigest) -> Lookup {
        let Ok(at) = self.entries.binary_search_by_key(name, Entry::name) else {
            return Lookup::Nothing;
        };
        let (word, bit) = (at / 64, 1 << (at % 64));
        if self.met[word] & bit != 0 {
            return Lookup::Again;
        }
        self.met[word] |= bit;
        Lookup::Entry(self.entries[at].outcome())
    }

    /// Those that were not met: the digests of their names and what should be there.
    pub fn unmet(&self) -> impl Iterator<Item = (NameDigest, Outcome)> {
        let unmet = |at: &usize| self.met[at / 64] & (1 << (at % 64)) == 0;
        (0..self.entries.len())
            .filter(unmet)
            .map(|at| (self.entries[at].name(), self.entries[at].outcome()))
    }
}

/// What counts of the entries of one name, the oldest first; `None`: no such key should be there.
fn newest(entries: &[Entry]) -> Option<Entry> {
    let mut counts: Option<Entry> = None;
    let mut is_of_this_pass = false;
    for entry in entries {
        if entry.is_earlier() {
            // What an earlier pass of another database says is no younger than what this pass says.
            if !is_of_this_pass {
                counts = Some(later(counts, *entry));
            }
            continue;
        }
        counts = match (entry.outcome(), counts) {
            // Nothing of an earlier pass is as good as what could not be copied in this one.
            (Outcome::Quarantined, Some(before)) if is_of_this_pass => Some(before),
            (Outcome::Quarantined, _) => Some(*entry),
            _ => Some(later(counts, *entry)),
        };
        is_of_this_pass = true;
    }
    counts
        .filter(|entry| is_of_this_pass && entry.outcome() != Outcome::Gone)
        .map(Entry::of_this_pass)
}

/// What counts after `entry`.
fn later(before: Option<Entry>, entry: Entry) -> Entry {
    match (entry.outcome(), before) {
        (Outcome::Kept, Some(before))
            if matches!(before.outcome(), Outcome::Value(_) | Outcome::Unseen) =>
        {
            before
        }
        _ => entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::entry::name_digest;
    use crate::recorded::{Digesting, Value};

    fn value(name: &[u8], value: &[u8]) -> Entry {
        Digesting::new().entry(name, Value::String(value), None, 0)
    }

    fn of(name: &[u8], outcome: Outcome) -> Entry {
        Entry::new(name, outcome)
    }

    #[test]
    fn each_name_is_found_once_and_what_was_not_met_is_left() {
        let names: Vec<Vec<u8>> = (0..200_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let mut table = Table::of(names.iter().map(|name| value(name, b"v")).collect());
        assert_eq!(table.len(), 200);
        for name in &names[..150] {
            assert!(matches!(
                table.meet(&name_digest(name)),
                Lookup::Entry(Outcome::Value(_))
            ));
            assert_eq!(table.meet(&name_digest(name)), Lookup::Again);
        }
        assert_eq!(table.meet(&name_digest(b"nobody")), Lookup::Nothing);
        let unmet: Vec<NameDigest> = table.unmet().map(|(name, _)| name).collect();
        let mut wanted: Vec<NameDigest> =
            names[150..].iter().map(|name| name_digest(name)).collect();
        wanted.sort_unstable();
        assert_eq!(unmet, wanted);
    }

    #[test]
    fn parts_have_every_name_once() {
        let count = Part::count(1_000, 100);
        assert_eq!(count, 11);
        for name in (0..1_000_u32).map(|n| name_digest(&n.to_le_bytes())) {
            let parts = (0..count).filter(|index| {
                let part = Part {
                    index: *index,
                    of: count,
                };
                part.contains(&name)
            });
            assert_eq!(parts.count(), 1);
        }
        assert_eq!(Part::count(0, 100), 1);
        assert!(Part { index: 0, of: 1 }.contains(&name_digest(b"")));
    }

    #[test]
    fn the_newest_entry_of_a_name_counts() {
        let check = |entries: &[Entry], wanted: Option<Outcome>| {
            let mut table = Table::of(entries.to_vec());
            let wanted = wanted.map_or(Lookup::Nothing, Lookup::Entry);
            assert_eq!(table.meet(&name_digest(b"k")), wanted, "{entries:?}");
        };
        let (one, two) = (value(b"k", b"1"), value(b"k", b"2"));
        let [kept, gone, bad, unseen] = [
            Outcome::Kept,
            Outcome::Gone,
            Outcome::Quarantined,
            Outcome::Unseen,
        ]
        .map(|outcome| of(b"k", outcome));
        let earlier = Entry::of_earlier_pass;
        check(&[one, two], Some(two.outcome()));
        check(&[one, gone], None);
        check(&[gone, two], Some(two.outcome()));
        check(&[earlier(one)], None);
        check(&[earlier(one), two], Some(two.outcome()));
        check(&[earlier(one), kept], Some(one.outcome()));
        check(&[earlier(one), earlier(kept), kept], Some(one.outcome()));
        check(&[earlier(unseen), kept], Some(Outcome::Unseen));
        check(&[earlier(gone), kept], Some(Outcome::Kept));
        check(&[earlier(one), bad], Some(Outcome::Quarantined));
        check(&[one, bad], Some(one.outcome()));
        // Another database's keys, of which one may be called the same.
        check(&[one, earlier(two), bad], Some(one.outcome()));
    }
}
