//! The data sets: the same bytes in every run, whatever the machine.

use anyhow::Result;
use bytes::BytesMut;

use redknot::resp::encode_command;

use crate::connection::Connection;

/// How many commands are sent before their replies are read.
const LOAD_PIPELINE_KEYS: u64 = 1000;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dataset {
    /// 80 % strings of about 100 bytes, the rest small hashes, lists, sets and sorted sets; one in ten expires.
    Small,
    /// JSON strings of 1 KiB.
    Json1,
    /// JSON strings of 4 KiB.
    Json4,
    /// JSON strings of 16 KiB.
    Json16,
    /// Strings of 100 KiB: every other one JSON, the rest of random letters, which can't be compressed.
    Big,
}

impl Dataset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Json1 => "json1",
            Self::Json4 => "json4",
            Self::Json16 => "json16",
            Self::Big => "big",
        }
    }

    /// How many keys are measured.
    pub fn keys(self) -> u64 {
        match self {
            Self::Small => 1_000_000,
            Self::Json1 | Self::Json4 => 100_000,
            Self::Json16 => 30_000,
            Self::Big => 10_000,
        }
    }

    /// How many keys suffice to see that the benchmark works.
    pub fn keys_in_a_test(self) -> u64 {
        match self {
            Self::Small => 3000,
            Self::Json1 | Self::Json4 => 300,
            Self::Json16 => 100,
            Self::Big => 20,
        }
    }

    /// The batch with which the source floor is lowest; see `benches/README.md`.
    pub fn floor_batch(self) -> u32 {
        match self {
            Self::Small => 300,
            Self::Json1 => 100,
            Self::Json4 | Self::Json16 => 50,
            Self::Big => 16,
        }
    }

    /// Writes the first `keys` keys of the set.
    pub fn load(self, connection: &mut Connection, keys: u64) -> Result<()> {
        let mut out = BytesMut::new();
        let mut first = 0;
        while first < keys {
            let after = keys.min(first + LOAD_PIPELINE_KEYS);
            let mut commands = 0;
            for number in first..after {
                commands += self.put_key(number, &mut out);
                if out.len() > 1 << 20 {
                    connection.send(&out.split())?;
                }
            }
            connection.send(&out.split())?;
            for _ in 0..commands {
                connection.skip_reply()?;
            }
            first = after;
        }
        Ok(())
    }

    /// Appends the commands that make key `number`, and returns how many they are.
    fn put_key(self, number: u64, out: &mut BytesMut) -> usize {
        let mut random = Random::new(number);
        let key = format!("{}:{number:08}", self.name());
        let value = match self {
            Self::Small => return put_small(&mut random, &key, out),
            Self::Json1 => json(&mut random, 1 << 10),
            Self::Json4 => json(&mut random, 4 << 10),
            Self::Json16 => json(&mut random, 16 << 10),
            Self::Big if number.is_multiple_of(2) => json(&mut random, 100 << 10),
            Self::Big => random.letters(100 << 10),
        };
        put(out, &["SET", &key, &value]);
        1
    }
}

/// A key of the mixed set, and perhaps its expiry.
fn put_small(random: &mut Random, key: &str, out: &mut BytesMut) -> usize {
    let elements: [String; 5] = std::array::from_fn(|at| format!("{at}{}", random.letters(9)));
    let [a, b, c, d, e] = elements.each_ref().map(String::as_str);
    match random.below(100) {
        0..80 => {
            let len = 80 + random.below(41);
            put(out, &["SET", key, &random.letters(len as usize)]);
        }
        80..86 => put(
            out,
            &["HSET", key, "name", a, "mail", b, "city", c, "plan", d],
        ),
        86..92 => put(out, &["RPUSH", key, a, b, c, d, e]),
        92..96 => put(out, &["SADD", key, a, b, c, d, e]),
        _ => put(out, &["ZADD", key, "1", a, "2.5", b, "-3", c, "1e9", d]),
    }
    if random.below(10) == 0 {
        let ttl_ms = DAY_MS + random.below(10 * DAY_MS);
        put(out, &["PEXPIRE", key, &ttl_ms.to_string()]);
        return 2;
    }
    1
}

/// A document of `len` bytes that compresses about as well as documents do.
fn json(random: &mut Random, len: usize) -> String {
    let mut text = String::with_capacity(len + 200);
    text.push_str("{\"events\":[");
    while text.len() < len {
        let (id, at, price) = (random.next(), random.below(1 << 40), random.below(100_000));
        let name = random.letters(8);
        text.push_str(&format!(
            "{{\"id\":\"{id:016x}\",\"name\":\"{name}\",\"at\":{at},\"price\":{price},\"currency\":\"EUR\",\"active\":true}},"
        ));
    }
    text.truncate(len - 2);
    text.push_str("]}");
    text
}

fn put(out: &mut BytesMut, args: &[&str]) {
    let mut bytes = [&b""[..]; 10];
    for (to, from) in bytes.iter_mut().zip(args) {
        *to = from.as_bytes();
    }
    encode_command(out, &bytes[..args.len()]);
}

/// SplitMix64: small, fast, and the same in every version of every crate.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; its tiny bias does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Random letters and digits, 6 bits a byte.
    fn letters(&mut self, len: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::with_capacity(len + 10);
        while text.len() < len {
            let bits = self.next();
            text.extend((0..10).map(|at| char::from(ALPHABET[(bits >> (6 * at)) as usize % 64])));
        }
        text.truncate(len);
        text
    }
}
