//! Damages keys of a server, one element each, and says what a comparison with the undamaged side must find.
//!
//! # Invariants
//!
//! - No key is damaged twice, and the same seed damages the same keys in the same way.
//! - Typed reads before and after show that each key is really another one: a damage that did nothing ends the test.
//! - Every kind of damage that the server's version can do is done at least once.

/// Single elements of strings, lists, sets, sorted sets and hashes.
mod elements;
/// Entries, groups and pending entries of streams.
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::oracle::{Reader, Reading, Verdict};
use super::server::Server;
use super::version::Kind;

/// What was done to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The key's name.
    pub key: Vec<u8>,
    /// What a comparison must say.
    pub verdict: Verdict,
    /// In words.
    pub what: &'static str,
}

impl Damage {
    /// What a comparison must find of all of them, in the order of names.
    pub fn expected(damages: &[Self]) -> BTreeMap<Vec<u8>, Verdict> {
        damages
            .iter()
            .map(|damage| (damage.key.clone(), damage.verdict))
            .collect()
    }
}

/// A way to damage a key. It says `false`, and has done nothing, where the key has not what it damages.
struct Way {
    what: &'static str,
    /// The type of the keys that it is for.
    of: Of,
    verdict: Verdict,
    /// Whether a server of that version knows what is damaged.
    possible: fn(Kind) -> bool,
    damage: fn(&mut Hand, &[u8]) -> bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Type(&'static str),
    AnyType,
    NoKey,
}

const TYPES: [&str; 6] = ["string", "list", "set", "zset", "hash", "stream"];

const fn always(_: Kind) -> bool {
    true
}

/// Ways that are the same for every type.
const COMMON: &[Way] = &[
    Way {
        what: "the expiry by two seconds",
        of: Of::AnyType,
        verdict: Verdict::Expiry,
        possible: always,
        damage: |hand, key| {
            let Some(expiry) = hand.expiry_ms(key) else {
                return false;
            };
            let by = if hand.random.random() { 2_000 } else { -2_000 };
            hand.run(hand.cmd("PEXPIREAT", key).arg(expiry + by));
            true
        },
    },
    Way {
        what: "no expiry where there was one",
        of: Of::AnyType,
        verdict: Verdict::Expiry,
        possible: always,
        damage: |hand, key| {
            hand.expiry_ms(key).is_some() && {
                hand.run(&hand.cmd("PERSIST", key));
                true
            }
        },
    },
    Way {
        what: "an expiry where there was none",
        of: Of::AnyType,
        verdict: Verdict::Expiry,
        possible: always,
        damage: |hand, key| {
            hand.expiry_ms(key).is_none() && {
                let ttl_ms = hand.random.random_range(3_600_000..360_000_000);
                hand.run(hand.cmd("PEXPIRE", key).arg(ttl_ms));
                true
            }
        },
    },
    Way {
        what: "another type",
        of: Of::AnyType,
        verdict: Verdict::Type,
        possible: always,
        damage: |hand, key| {
            let now = hand.kind_of(key);
            let others: Vec<&str> = TYPES.into_iter().filter(|other| *other != now).collect();
            let other = others[hand.random.random_range(0..others.len())];
            hand.run(&hand.cmd("DEL", key));
            hand.make(other, key);
            true
        },
    },
    Way {
        what: "missing",
        of: Of::AnyType,
        verdict: Verdict::Missing,
        possible: always,
        damage: |hand, key| {
            hand.run(&hand.cmd("DEL", key));
            true
        },
    },
    Way {
        what: "extra",
        of: Of::NoKey,
        verdict: Verdict::Extra,
        possible: always,
        damage: |hand, key| {
            let kind = TYPES[hand.random.random_range(0..TYPES.len())];
            hand.make(kind, key);
            true
        },
    },
];

/// Damages so many keys in database `db` of the target that a comparison with the source has `count` findings. A renamed
/// key makes two of them. What one of both versions does not know is left alone.
///
/// # Panics
///
/// If there are not enough keys, or a damage did not change its key.
pub fn corrupt(source: &Server, target: &Server, db: u32, count: usize, seed: u64) -> Vec<Damage> {
    let mut hand = Hand::new(target, db, seed);
    let ways: Vec<&Way> = [COMMON, elements::WAYS, streams::WAYS]
        .into_iter()
        .flatten()
        .filter(|way| (way.possible)(source.kind()) && (way.possible)(target.kind()))
        .collect();
    assert!(
        count >= ways.len() + 2,
        "too few to do each of {} things",
        ways.len()
    );
    let mut done = Vec::new();
    done.extend(hand.rename());
    let mut exhausted = BTreeSet::new();
    while done.len() < count {
        assert!(exhausted.len() < ways.len(), "no keys are left to damage");
        for way in &ways {
            if done.len() == count || exhausted.contains(way.what) {
                continue;
            }
            match hand.damage_one(way) {
                Some(damage) => done.push(damage),
                None => {
                    let was_done = done.iter().any(|damage: &Damage| damage.what == way.what);
                    assert!(was_done, "no key is fit for: {}", way.what);
                    exhausted.insert(way.what);
                }
            }
        }
    }
    done
}

/// What does the damage.
struct Hand {
    connection: redis::Connection,
    reader: Reader,
    kind: Kind,
    random: StdRng,
    /// Names of undamaged keys by type, in random order.
    unharmed: BTreeMap<&'static str, Vec<Vec<u8>>>,
    /// Counts what was added, so that no two additions are alike.
    additions: u32,
}

impl Hand {
    fn new(server: &Server, db: u32, seed: u64) -> Self {
        let mut reader = Reader::alone(server, db);
        let mut random = StdRng::seed_from_u64(seed);
        let mut connection = server.connection_to(db);
        let mut names: Vec<Vec<u8>> = reader.names().into_iter().collect();
        names.shuffle(&mut random);
        let mut unharmed: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
        for names in names.chunks(1_000) {
            let mut pipe = redis::pipe();
            for name in names {
                pipe.cmd("TYPE").arg(name);
            }
            let kinds: Vec<String> = pipe.query(&mut connection).expect("TYPE");
            for (name, kind) in names.iter().zip(kinds) {
                if let Some(kind) = TYPES.into_iter().find(|known| *known == kind) {
                    unharmed.entry(kind).or_default().push(name.clone());
                }
            }
        }
        Self {
            connection,
            reader,
            kind: server.kind(),
            random,
            unharmed,
            additions: 0,
        }
    }

    /// Tries one key after the other until one is fit for it.
    fn damage_one(&mut self, way: &Way) -> Option<Damage> {
        let done = |key| {
            Some(Damage {
                key,
                verdict: way.verdict,
                what: way.what,
            })
        };
        let of = match way.of {
            Of::Type(of) => of,
            Of::AnyType => TYPES[self.random.random_range(0..TYPES.len())],
            Of::NoKey => {
                let key = self.new_name();
                self.do_damage(way, &key);
                return done(key);
            }
        };
        for at in (0..self.unharmed.get(of)?.len()).rev() {
            let key = self.unharmed[of][at].clone();
            if self.do_damage(way, &key) {
                self.unharmed.get_mut(of)?.swap_remove(at);
                return done(key);
            }
        }
        None
    }

    fn do_damage(&mut self, way: &Way, key: &[u8]) -> bool {
        let before = self.read(key);
        if !(way.damage)(self, key) {
            return false;
        }
        let after = self.read(key);
        let changed = match way.verdict {
            Verdict::Missing => after.kind == "none",
            Verdict::Extra => before.kind == "none" && after.kind != "none",
            Verdict::Type => before.kind != after.kind && after.kind != "none",
            Verdict::Value => before.kind == after.kind && before.value != after.value,
            Verdict::Expiry => before.value == after.value && before.expiry != after.expiry,
            Verdict::NotCompared => false,
        };
        assert!(
            changed,
            "{} did nothing of the kind to \"{}\":\n{before:?}\n{after:?}",
            way.what,
            key.escape_ascii()
        );
        true
    }

    /// Renames one key: it is missing under one name, and there is another that nobody knows.
    fn rename(&mut self) -> [Damage; 2] {
        let old = self
            .unharmed
            .values_mut()
            .find_map(Vec::pop)
            .expect("a key to be renamed");
        let new = self.new_name();
        self.run(self.cmd("RENAME", &old).arg(&new));
        [(old, Verdict::Missing), (new, Verdict::Extra)].map(|(key, verdict)| Damage {
            key,
            verdict,
            what: "renamed",
        })
    }

    /// A name that no data set has, often one that is hard to print.
    fn new_name(&mut self) -> Vec<u8> {
        self.additions += 1;
        let number = self.additions;
        match number % 4 {
            0 => format!("added\0\r\n\x1b[2J:{number}").into_bytes(),
            1 => [b"added\xff\xfe:".as_slice(), &number.to_be_bytes()].concat(),
            _ => format!("added:{number}").into_bytes(),
        }
    }

    /// A small key of a type.
    fn make(&mut self, kind: &str, key: &[u8]) {
        let mut command = match kind {
            "string" => self.cmd("SET", key),
            "list" => self.cmd("RPUSH", key),
            "set" => self.cmd("SADD", key),
            "zset" => self.cmd("ZADD", key),
            "hash" => self.cmd("HSET", key),
            _ => self.cmd("XADD", key),
        };
        match kind {
            "zset" => command.arg("1.5"),
            "hash" => command.arg("field"),
            "stream" => command.arg("1-1").arg("field"),
            _ => &mut command,
        };
        self.run(command.arg("added"));
    }

    fn cmd(&self, command: &str, key: &[u8]) -> redis::Cmd {
        let mut command = redis::cmd(command);
        command.arg(key);
        command
    }

    fn run(&mut self, command: &redis::Cmd) {
        command
            .exec(&mut self.connection)
            .unwrap_or_else(|error| panic!("{error} to {}", shown(command)));
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        command
            .query(&mut self.connection)
            .unwrap_or_else(|error| panic!("{error} to {}", shown(command)))
    }

    fn kind_of(&mut self, key: &[u8]) -> String {
        self.ask(&self.cmd("TYPE", key))
    }

    fn read(&mut self, key: &[u8]) -> Reading {
        let mut readings = self.reader.read(&[key.to_vec()]);
        readings.pop().expect("one reading a key")
    }

    /// When the key expires, as a Unix time.
    fn expiry_ms(&mut self, key: &[u8]) -> Option<i64> {
        let (earliest, _) = self.read(key).expiry?;
        Some(earliest)
    }

    /// One of several things, at random.
    fn choose<T>(&mut self, mut from: Vec<T>) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..from.len());
        Some(from.swap_remove(at))
    }

    /// Text that is not in any data set.
    fn novelty(&mut self) -> String {
        self.additions += 1;
        format!("damaged {}", self.additions)
    }
}

fn shown(command: &redis::Cmd) -> String {
    command.get_packed_command().escape_ascii().to_string()
}
