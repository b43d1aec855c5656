//! Whether strings are asked for by MGET, and what is no string by DUMP afterwards, or everything by DUMP.
//!
//! MGET answers nil for keys of other types, so it costs the source something for each of them and saves much for each
//! string, the more the larger: DUMP compresses and makes a checksum. Which of both is more is learned from the keys
//! that were read last, however they were read.
//!
//! # Invariant
//!
//! This decides about speed alone: either way every key is read.

use super::Rules;
use crate::copy::ReadWith;
use crate::plan::KeyType;
use crate::progress::StringsBy;
use crate::resp::ErrorCode;

/// What DUMP of a string and its expiry cost the source more than their places in an MGET and the expiries behind it, in
/// nanoseconds on the machine where it was measured. Only the ratios to each other count: see `benches/README.md`.
const SAVED_NS: f64 = 900.0;
/// See [`SAVED_NS`]; for each byte of the string.
const SAVED_NS_PER_BYTE: f64 = 2.2;
/// Bytes from which on a string counts no more: one alone must not decide for thousands of keys.
const COUNTED_BYTES_MAX: usize = 64 * 1024;
/// What a key that is no string costs the source there, before it is asked for as what it is.
const SPENT_NS: f64 = 1000.0;
/// MGET is begun above this gain a key, and given up below its opposite. In between, whichever is in use stays so.
const CHANGE_NS: f64 = 80.0;
/// The gain is the average over about so many keys.
const KEYS_AVERAGED: f64 = 1024.0;
/// So many keys have to be seen first: of fewer, chance would decide.
const KEYS_SAMPLED: f64 = 64.0;

/// See the module.
pub struct Strings {
    may: May,
    in_use: bool,
    gain_ns: f64,
    keys_seen: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    Never,
    Always,
    IfItPays,
}

impl Strings {
    /// For the keys that these rules let through.
    pub fn new(rules: &Rules) -> Self {
        let asked_for = |wanted| rules.ask_types.is_empty() || rules.ask_types.contains(&wanted);
        let may = match (rules.read_with, rules.scan_type) {
            (ReadWith::Dump, _) => May::Never,
            (ReadWith::Auto, Some(KeyType::String)) => May::Always,
            (ReadWith::Auto, Some(_)) => May::Never,
            (ReadWith::Auto, None) if asked_for(KeyType::String) => May::IfItPays,
            (ReadWith::Auto, None) => May::Never,
        };
        Self {
            may,
            in_use: may != May::Never,
            gain_ns: 0.0,
            keys_seen: 0.0,
        }
    }

    /// How strings are read at present.
    pub fn by(&self) -> StringsBy {
        match self.in_use {
            true => StringsBy::Mget,
            false => StringsBy::Dump,
        }
    }

    /// Whether MGET is asked first.
    pub fn in_use(&self) -> bool {
        self.in_use
    }

    /// MGET does not work on this source. Returns whether that is news.
    pub fn refuse(&mut self) -> bool {
        self.in_use = false;
        std::mem::replace(&mut self.may, May::Never) != May::Never
    }

    /// A key was read: a string of so many bytes, or something else.
    pub fn observe(&mut self, string_bytes: Option<usize>) {
        if self.may != May::IfItPays {
            return;
        }
        let gain = match string_bytes {
            Some(bytes) => SAVED_NS + SAVED_NS_PER_BYTE * bytes.min(COUNTED_BYTES_MAX) as f64,
            None => -SPENT_NS,
        };
        self.keys_seen = (self.keys_seen + 1.0).min(KEYS_AVERAGED);
        // The first keys count for as much as there are of them.
        self.gain_ns += (gain - self.gain_ns) / self.keys_seen;
        let pays = match self.in_use {
            true => self.gain_ns > -CHANGE_NS,
            false => self.gain_ns > CHANGE_NS,
        };
        // A handful of keys is no sample.
        if self.keys_seen >= KEYS_SAMPLED {
            self.in_use = pays;
        }
    }
}

/// Whether an error in the place of MGET's answer is about MGET. The others are about the server or the login.
pub fn refuses(code: ErrorCode) -> bool {
    match code {
        // A user without the command or without one of the keys; keys of several slots; a proxy that knows better.
        ErrorCode::NoPerm
        | ErrorCode::NoPermKey
        | ErrorCode::UnknownCommand
        | ErrorCode::Moved
        | ErrorCode::Ask
        | ErrorCode::TryAgain
        | ErrorCode::BusyKey
        | ErrorCode::BadPayloadVersion
        | ErrorCode::BadDataFormat
        | ErrorCode::InvalidBulkLength
        | ErrorCode::InvalidCursor
        | ErrorCode::Other => true,
        ErrorCode::Busy
        | ErrorCode::Loading
        | ErrorCode::MasterDown
        | ErrorCode::Oom
        | ErrorCode::MisConf
        | ErrorCode::NoReplicas
        | ErrorCode::ReadOnly
        | ErrorCode::ClusterDown
        | ErrorCode::NoAuth
        | ErrorCode::WrongPass
        | ErrorCode::NoUsers
        | ErrorCode::ProtectedMode
        | ErrorCode::MaxClients
        | ErrorCode::NoProto
        | ErrorCode::DbIndex => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::lane::tests::rules;

    fn after(string_bytes: usize, one_of: usize, keys: usize) -> Strings {
        let mut strings = Strings::new(&rules());
        for key in 0..keys {
            strings.observe((key % one_of == 0).then_some(string_bytes));
        }
        strings
    }

    #[test]
    fn mget_is_asked_where_there_are_enough_strings_or_large_ones() {
        let check = |string_bytes: usize, one_of: usize, wanted: StringsBy| {
            assert_eq!(
                after(string_bytes, one_of, 20_000).by(),
                wanted,
                "1 of {one_of} is a string of {string_bytes} bytes"
            );
        };
        check(100, 1, StringsBy::Mget);
        check(100, 2, StringsBy::Mget);
        check(100, 10, StringsBy::Dump);
        check(16 * 1024, 10, StringsBy::Mget);
        check(16 * 1024, 1000, StringsBy::Dump);
    }

    #[test]
    fn it_follows_the_keys_and_does_not_flutter() {
        let mut strings = after(100, 1, 5000);
        let mut changes = 0;
        let mut feed = |strings: &mut Strings, keys: usize, one_of: usize| {
            for key in 0..keys {
                let before = strings.in_use();
                strings.observe((key % one_of == 0).then_some(100));
                changes += usize::from(before != strings.in_use());
            }
            changes
        };
        assert_eq!(feed(&mut strings, 5000, 100), 1, "hardly any strings");
        assert!(!strings.in_use());
        assert_eq!(feed(&mut strings, 5000, 1), 2, "strings again");
        assert!(strings.in_use());
        // Close to where it costs as much as it saves.
        assert!(feed(&mut strings, 100_000, 2) <= 3);
    }

    #[test]
    fn the_types_that_are_asked_for_decide_where_they_can() {
        let check = |read_with, scan_type, ask_types: &[KeyType], wanted: [bool; 2]| {
            let rules = Rules {
                read_with,
                scan_type,
                ask_types: ask_types.to_vec(),
                ..rules()
            };
            let mut strings = Strings::new(&rules);
            let before = strings.in_use();
            (0..100).for_each(|_| strings.observe(None));
            assert_eq!(
                [before, strings.in_use()],
                wanted,
                "{scan_type:?} {ask_types:?}"
            );
        };
        use ReadWith::*;
        check(Auto, None, &[], [true, false]);
        check(Auto, Some(KeyType::String), &[], [true, true]);
        check(Auto, Some(KeyType::Hash), &[], [false, false]);
        check(Auto, None, &[KeyType::Set, KeyType::Hash], [false, false]);
        check(Auto, None, &[KeyType::Set, KeyType::String], [true, false]);
        check(Dump, None, &[], [false, false]);
        check(Dump, Some(KeyType::String), &[], [false, false]);
    }

    #[test]
    fn what_was_refused_is_not_asked_again_and_told_once() {
        let mut strings = Strings::new(&rules());
        assert!(strings.refuse());
        assert!(!strings.refuse());
        (0..10_000).for_each(|_| strings.observe(Some(1000)));
        assert!(!strings.in_use());
    }
}
