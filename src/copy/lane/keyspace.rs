//! Whether any key of the source's database has an expiry, as INFO keyspace says it.
//!
//! Asking every string for its expiry costs the source more than all its other questions about a small one. Where no key
//! of the database has one, a single number says so: `expires=0`. What that number proves, and how it is asked for so that
//! it proves it, stands in `together.rs`; here is when it is asked for.
//!
//! # Invariants
//!
//! - This decides about speed alone: whatever is not understood, or does not fit what else the server says, ends in each
//!   key being asked.
//! - What one process said is not counted on with another.

use crate::progress::ExpiriesBy;

/// Keys that are asked one by one until the number is looked at again.
const LOOK_AGAIN_KEYS: u64 = 16 * 1024;
/// So often in a row it has to be 0 before it is counted on again: where expiries come and go, every change costs a
/// window of keys that are read twice.
const LOOKS_WITHOUT_EXPIRIES: u8 = 3;
/// A connection that ends before it has answered the look is no reason not to look again; the second one is. There are
/// proxies that close it at a command that they do not know.
const LOST_LOOKS_MAX: u8 = 2;
/// Fewer keys are asked one by one: a transaction around their MGET costs the source as much.
const KEYS_MIN: usize = 8;

/// See the module.
pub(super) struct Expiries {
    stands: Stands,
    lost_looks: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stands {
    /// Nothing is known on this connection.
    Unknown,
    /// A look is on its way, the first on this connection or not.
    Looking { zeros: u8 },
    /// When it was looked last, no key had one.
    None,
    /// Some had; so many keys were asked since the last look, and before it the number was 0 so often in a row.
    Some { keys: u64, zeros: u8 },
    /// It can't be asked here, or the answer is of no use.
    Never,
}

/// What INFO keyspace says of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// How many keys it has, and how many of them have an expiry. A database that is not listed has none of either.
    Keys { keys: u64, expires: u64 },
    /// Something that no Redis and no Valkey says.
    Odd,
}

impl Expiries {
    /// `may`: the number may be asked for at all.
    pub fn new(may: bool) -> Self {
        let stands = match may {
            true => Stands::Unknown,
            false => Stands::Never,
        };
        Self {
            stands,
            lost_looks: 0,
        }
    }

    /// How expiries are asked for at present.
    pub fn by(&self) -> ExpiriesBy {
        match self.stands {
            Stands::None => ExpiriesBy::Count,
            _ => ExpiriesBy::Key,
        }
    }

    /// Whether the number is asked for in place of the expiries of so many keys.
    pub fn counts(&self, keys: usize) -> bool {
        self.stands == Stands::None && keys >= KEYS_MIN
    }

    /// Whether it should be looked at now; a look that is begun has to be answered by [`Self::looked`].
    pub fn begin_look(&mut self) -> bool {
        let zeros = match self.stands {
            Stands::Unknown => LOOKS_WITHOUT_EXPIRIES - 1,
            Stands::Some { keys, zeros } if keys >= LOOK_AGAIN_KEYS => zeros,
            _ => return false,
        };
        self.stands = Stands::Looking { zeros };
        true
    }

    /// So many keys were asked for one by one.
    pub fn asked_each(&mut self, asked: usize) {
        if let Stands::Some { keys, .. } = &mut self.stands {
            *keys += asked as u64;
        }
    }

    /// A look has been answered: by what INFO said, and DBSIZE of the same moment.
    pub fn looked(&mut self, said: Said, dbsize: u64) {
        let Stands::Looking { zeros } = self.stands else {
            return;
        };
        self.lost_looks = 0;
        self.stands = match said {
            // Another server than the one whose keys are read, or an estimate.
            Said::Keys { keys, .. } if keys != dbsize => Stands::Never,
            Said::Keys { expires: 0, .. } => match zeros + 1 {
                LOOKS_WITHOUT_EXPIRIES => Stands::None,
                zeros => Stands::Some { keys: 0, zeros },
            },
            Said::Keys { .. } => Stands::Some { keys: 0, zeros: 0 },
            Said::Odd => Stands::Never,
        };
    }

    /// Some key has an expiry by now.
    pub fn found(&mut self) {
        if self.stands == Stands::None {
            self.stands = Stands::Some { keys: 0, zeros: 0 };
        }
    }

    /// It can't be asked for here.
    pub fn refuse(&mut self) {
        self.stands = Stands::Never;
    }

    /// The connection is lost; the next one may lead to another process.
    pub fn lost(&mut self) {
        if matches!(self.stands, Stands::Looking { .. }) {
            self.lost_looks += 1;
        }
        self.stands = match self.stands {
            Stands::Never => Stands::Never,
            _ if self.lost_looks >= LOST_LOOKS_MAX => Stands::Never,
            _ => Stands::Unknown,
        };
    }
}

impl Said {
    /// Of database `db`.
    pub fn of(info: &[u8], db: u32) -> Self {
        let Some(mut lines) = std::str::from_utf8(info).ok().map(str::lines) else {
            return Self::Odd;
        };
        if lines.next() != Some("# Keyspace") {
            return Self::Odd;
        }
        let mut said = Self::Keys {
            keys: 0,
            expires: 0,
        };
        for line in lines.filter(|line| !line.is_empty()) {
            match database(line) {
                Some((number, of_it)) if number == db => said = of_it,
                Some(_) => {}
                None => return Self::Odd,
            }
        }
        said
    }
}

/// `db0:keys=2,expires=1,avg_ttl=0`, perhaps followed by more of the kind: fields of hashes that expire are counted apart,
/// and travel within their values. Servers that estimate say so by other lines, or by numbers below 0.
fn database(line: &str) -> Option<(u32, Said)> {
    let (number, fields) = line.strip_prefix("db")?.split_once(':')?;
    let numbers = fields.split(',').map(|field| {
        let (name, digits) = field.split_once('=')?;
        Some((name, digits.parse::<u64>().ok()?))
    });
    match numbers.collect::<Option<Vec<_>>>()?.as_slice() {
        [("keys", keys), ("expires", expires), ("avg_ttl", _), ..] => {
            let said = Said::Keys {
                keys: *keys,
                expires: *expires,
            };
            Some((number.parse().ok()?, said))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: u64, expires: u64) -> Said {
        Said::Keys { keys, expires }
    }

    /// As servers say it, from 6.0 to valkey 9.1.
    #[test]
    fn the_lines_of_real_servers_are_understood() {
        let check = |info: &str, db: u32, wanted: Said| {
            assert_eq!(Said::of(info.as_bytes(), db), wanted, "{info:?}");
        };
        check(
            "# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=99\r\n",
            0,
            keys(3, 1),
        );
        check(
            "# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=99,subexpiry=7\r\ndb12:keys=4,expires=0,avg_ttl=0,subexpiry=2\r\n",
            12,
            keys(4, 0),
        );
        check(
            "# Keyspace\r\ndb1:keys=3,expires=2,avg_ttl=0,keys_with_volatile_items=1\r\n",
            0,
            keys(0, 0),
        );
        check("# Keyspace\r\n", 0, keys(0, 0));
    }

    #[test]
    fn whatever_else_is_said_is_not_counted_on() {
        for info in [
            "",
            "$-1",
            "# Server\r\nredis_version:7.0.0\r\n",
            "# Keyspace\r\n# Last DBSIZE SCAN time: Thu Jan  1 00:00:00 1970\r\ndb0:keys=0,expires=0,avg_ttl=0,expired=0\r\n",
            "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=-1\r\n",
            "# Keyspace\r\ndb0:keys=3,avg_ttl=0,expires=0\r\n",
            "# Keyspace\r\ndb0:keys=3,expires=\r\n",
            "# Keyspace\r\ndb0 Strings_keys=3, expires=0, invalid_keys=0\r\n",
        ] {
            assert_eq!(Said::of(info.as_bytes(), 0), Said::Odd, "{info:?}");
        }
        assert_eq!(Said::of(b"# Keyspace\r\n\xff", 0), Said::Odd);
    }

    fn looked(expiries: &mut Expiries, said: Said, dbsize: u64) -> ExpiriesBy {
        assert!(expiries.begin_look());
        assert!(!expiries.begin_look(), "one look at a time");
        assert_eq!(expiries.by(), ExpiriesBy::Key, "nothing is known yet");
        expiries.looked(said, dbsize);
        expiries.by()
    }

    #[test]
    fn one_look_is_enough_at_first_and_several_after_an_expiry_was_seen() {
        let mut expiries = Expiries::new(true);
        assert_eq!(looked(&mut expiries, keys(5, 0), 5), ExpiriesBy::Count);
        assert!(expiries.counts(KEYS_MIN) && !expiries.counts(KEYS_MIN - 1));
        assert!(!expiries.begin_look());
        expiries.found();
        for (expires, wanted) in [
            (0, ExpiriesBy::Key),
            (1, ExpiriesBy::Key),
            (0, ExpiriesBy::Key),
            (0, ExpiriesBy::Key),
            (0, ExpiriesBy::Count),
        ] {
            assert!(!expiries.begin_look(), "not so soon");
            expiries.asked_each(LOOK_AGAIN_KEYS as usize);
            assert_eq!(looked(&mut expiries, keys(5, expires), 5), wanted);
        }
    }

    #[test]
    fn what_does_not_fit_is_never_asked_again() {
        let check = |spoil: fn(&mut Expiries)| {
            let mut expiries = Expiries::new(true);
            spoil(&mut expiries);
            expiries.lost();
            expiries.asked_each(10 * LOOK_AGAIN_KEYS as usize);
            assert!(!expiries.begin_look());
            assert_eq!(expiries.by(), ExpiriesBy::Key);
        };
        check(|expiries| {
            looked(expiries, Said::Odd, 5);
        });
        check(|expiries| {
            looked(expiries, keys(3, 0), 5);
        });
        check(Expiries::refuse);
        check(|expiries| {
            assert!(expiries.begin_look());
            expiries.lost();
            assert!(expiries.begin_look(), "once may be chance");
            expiries.lost();
        });
        check(|expiries| *expiries = Expiries::new(false));
    }

    #[test]
    fn another_connection_is_looked_at_anew() {
        let mut expiries = Expiries::new(true);
        looked(&mut expiries, keys(5, 0), 5);
        expiries.lost();
        assert_eq!(expiries.by(), ExpiriesBy::Key);
        assert_eq!(looked(&mut expiries, keys(9, 2), 9), ExpiriesBy::Key);
    }
}
