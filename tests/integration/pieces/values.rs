//! Values of every type, with whatever is unusual about them, made of a seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::tell;
use crate::support::server::Server;

/// Elements of a value that has many pieces.
const MANY: usize = 700;

/// Scores that are easily lost.
const SCORES: [&str; 12] = [
    "inf",
    "-inf",
    "-0",
    "0",
    "4.9406564584124654e-324",
    "-2.2250738585072009e-308",
    "1.7976931348623157e+308",
    "0.1",
    "0.30000000000000004",
    "9007199254740993",
    "-1e-7",
    "3.0000000000000004e+17",
];

/// Makes keys on a server, and returns their names.
pub fn fill(server: &Server, seed: u64) -> Vec<Vec<u8>> {
    let mut maker = Maker {
        random: StdRng::seed_from_u64(seed),
        connection: server.connection(),
        names: Vec::new(),
    };
    maker.strings();
    maker.lists();
    maker.sets();
    maker.sorted_sets();
    maker.hashes();
    if server.kind().knows_field_ttl {
        maker.expiring_fields();
    }
    maker.streams();
    maker.empty_streams(server.kind().knows_pexpiretime);
    maker.names
}

struct Maker {
    random: StdRng,
    connection: redis::Connection,
    names: Vec<Vec<u8>>,
}

impl Maker {
    /// A name for a new key, not always text.
    fn name(&mut self, what: &str) -> Vec<u8> {
        let name = [what.as_bytes(), b"\0\xff {x}\r\n"].concat();
        self.names.push(name.clone());
        name
    }

    fn tell(&mut self, words: &[&[u8]]) {
        tell(&mut self.connection, words);
    }

    /// Any bytes, none, a number, or more than a piece.
    fn bytes(&mut self) -> Vec<u8> {
        let len = match self.random.random_range(0..100) {
            0..2 => 0,
            2..10 => return self.random.random::<i32>().to_string().into_bytes(),
            10..98 => self.random.random_range(1..40),
            _ => self.random.random_range(2000..6000),
        };
        (0..len).map(|_| self.random.random()).collect()
    }

    fn strings(&mut self) {
        for (what, len) in [("empty", 0), ("byte", 1), ("piece", 4096), ("long", 50_001)] {
            let name = self.name(&format!("string {what}"));
            let value: Vec<u8> = (0..len).map(|_| self.random.random()).collect();
            self.tell(&[b"SET", &name, &value]);
        }
        let name = self.name("string of digits");
        self.tell(&[b"SET", &name, b"-12345"]);
        let name = self.name("hyperloglog");
        for _ in 0..200 {
            let element = self.bytes();
            self.tell(&[b"PFADD", &name, &element]);
        }
    }

    fn lists(&mut self) {
        for len in [1, 10, MANY] {
            let name = self.name(&format!("list {len}"));
            for _ in 0..len {
                let element = self.bytes();
                self.tell(&[b"LPUSH", &name, &element]);
            }
            self.tell(&[b"RPUSH", &name, b"twice", b"twice", b""]);
        }
    }

    fn sets(&mut self) {
        for len in [1, 10, MANY] {
            let name = self.name(&format!("set {len}"));
            self.tell(&[b"SADD", &name, b""]);
            for _ in 0..len {
                let member = self.bytes();
                self.tell(&[b"SADD", &name, &member]);
            }
        }
        let name = self.name("set of numbers");
        for _ in 0..300 {
            let member = self.random.random::<i64>().to_string();
            self.tell(&[b"SADD", &name, member.as_bytes()]);
        }
        // A table that is nearly empty.
        let name = self.name("set that was larger");
        let member = |number: usize| format!("m{number}").into_bytes();
        for number in 0..MANY {
            self.tell(&[b"SADD", &name, &member(number)]);
        }
        for number in 3..MANY {
            self.tell(&[b"SREM", &name, &member(number)]);
        }
    }

    fn sorted_sets(&mut self) {
        for len in [1, 20, MANY] {
            let name = self.name(&format!("zset {len}"));
            self.tell(&[b"ZADD", &name, b"1.5", b""]);
            for number in 0..len {
                let member = self.bytes();
                // Every bit pattern that is a number may be a score.
                let any = f64::from_bits(self.random.random());
                let score = match SCORES.get(number) {
                    Some(score) => (*score).to_owned(),
                    None if any.is_nan() => "7".to_owned(),
                    None => format!("{any:e}"),
                };
                self.tell(&[b"ZADD", &name, score.as_bytes(), &member]);
            }
        }
    }

    fn hash(&mut self, what: &str, len: usize) -> Vec<u8> {
        let name = self.name(what);
        self.tell(&[b"HSET", &name, b"", b"nameless"]);
        for number in 0..len {
            let (field, value) = (format!("f{number}").into_bytes(), self.bytes());
            let field = [field, self.bytes()].concat();
            self.tell(&[b"HSET", &name, &field, &value]);
        }
        name
    }

    fn hashes(&mut self) {
        for len in [1, 10, MANY] {
            self.hash(&format!("hash {len}"), len);
        }
    }

    /// Some fields expire, many of them together, in an hour and later.
    fn expiring_fields(&mut self) {
        for len in [3, 100, MANY] {
            let name = self.hash(&format!("hash {len} that expires"), len);
            let fields: Vec<Vec<u8>> = redis::cmd("HKEYS")
                .arg(&name)
                .query(&mut self.connection)
                .unwrap();
            for field in &fields {
                let ms = match self.random.random_range(0..3) {
                    0 => continue,
                    1 => 3_600_000,
                    _ => self.random.random_range(3_600_000..1_u64 << 40),
                };
                let at = 1_900_000_000_000 + ms;
                let at = at.to_string().into_bytes();
                self.tell(&[b"HPEXPIREAT", &name, &at, b"FIELDS", b"1", field]);
            }
        }
    }

    fn entries(&mut self, name: &[u8], len: usize) {
        for number in 1..=len {
            let id = format!("{}-{}", 1 + number / 7, number % 7);
            let mut words = vec![b"XADD".to_vec(), name.to_vec(), id.into_bytes()];
            for _ in 0..self.random.random_range(1..4) {
                words.push(match self.random.random_range(0..2) {
                    0 => b"same".to_vec(),
                    _ => self.bytes(),
                });
                words.push(self.bytes());
            }
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            self.tell(&words);
        }
    }

    fn streams(&mut self) {
        for len in [1, MANY] {
            let name = self.name(&format!("stream {len}"));
            self.entries(&name, len);
        }
        let name = self.name("stream trimmed");
        self.entries(&name, MANY);
        self.tell(&[b"XTRIM", &name, b"MAXLEN", b"300"]);
        self.tell(&[b"XDEL", &name, b"90-1", b"100-6", b"101-0"]);
        self.groups(&name);
        let name = self.name("stream with groups");
        self.entries(&name, MANY);
        self.groups(&name);
        let name = self.name("stream that ends with the last id there is");
        self.entries(&name, 3);
        let last = b"18446744073709551615-18446744073709551615";
        self.tell(&[b"XADD", &name, last, b"f", b"v"]);
    }

    /// Groups with and without consumers, consumers with and without entries, acknowledged and claimed ones.
    fn groups(&mut self, name: &[u8]) {
        self.tell(&[b"XGROUP", b"CREATE", name, b"untouched", b"$"]);
        self.tell(&[b"XGROUP", b"CREATE", name, b"\xff\0binary", b"0"]);
        self.tell(&[b"XGROUP", b"CREATE", name, b"redknot", b"0"]);
        self.tell(&[b"XGROUP", b"CREATE", name, b"early", b"60-3"]);
        for (group, rounds) in [(&b"\xff\0binary"[..], 6), (b"redknot", 1), (b"early", 2)] {
            for round in 0..rounds {
                let consumer = format!("consumer {}", round % 3).into_bytes();
                let count = self.random.random_range(1..60).to_string();
                let count = count.as_bytes();
                self.tell(&[
                    b"XREADGROUP",
                    b"GROUP",
                    group,
                    &consumer,
                    b"COUNT",
                    count,
                    b"STREAMS",
                    name,
                    b">",
                ]);
            }
            // Makes a consumer that has nothing.
            self.tell(&[
                b"XREADGROUP",
                b"GROUP",
                group,
                b"idle",
                b"STREAMS",
                name,
                b"0",
            ]);
        }
        let pending: Vec<(Vec<u8>, Vec<u8>, u64, u64)> = redis::cmd("XPENDING")
            .arg(name)
            .arg(b"\xff\0binary")
            .arg("-")
            .arg("+")
            .arg(1000)
            .query(&mut self.connection)
            .unwrap();
        for (id, _, _, _) in &pending {
            match self.random.random_range(0..4) {
                0 => self.tell(&[b"XACK", name, b"\xff\0binary", id]),
                1 => self.tell(&[
                    b"XCLAIM",
                    name,
                    b"\xff\0binary",
                    b"\0other",
                    b"0",
                    id,
                    b"TIME",
                    b"1700000000123",
                    b"RETRYCOUNT",
                    b"9",
                ]),
                _ => {}
            }
        }
    }

    fn empty_streams(&mut self, knows_counters: bool) {
        let name = self.name("stream that was never added to");
        self.tell(&[b"XGROUP", b"CREATE", &name, b"g", b"0", b"MKSTREAM"]);
        let name = self.name("stream of which all is deleted");
        self.entries(&name, 20);
        self.tell(&[b"XTRIM", &name, b"MAXLEN", b"0"]);
        let name = self.name("stream whose last id is far ahead");
        self.entries(&name, 20);
        self.tell(&[b"XDEL", &name, b"2-1", b"3-6"]);
        match knows_counters {
            true => self.tell(&[
                b"XSETID",
                &name,
                b"77-7",
                b"ENTRIESADDED",
                b"1000",
                b"MAXDELETEDID",
                b"50-5",
            ]),
            false => self.tell(&[b"XSETID", &name, b"77-7"]),
        }
        self.tell(&[b"XGROUP", b"CREATE", &name, b"g", b"3-0"]);
    }
}
