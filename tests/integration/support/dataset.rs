//! Seeded keys of every type, every encoding, every kind of name and every shape of expiry.
//!
//! # Invariant
//!
//! The same [`DataSet`] makes the same keys on every server that knows the commands: nothing comes from a clock or from
//! the server's own randomness, but for expiry moments and the delivery times of pending stream entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::server::Server;

/// What to fill a database with.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// How many keys.
    pub keys: u32,
    /// Decides everything that is random about them.
    pub seed: u64,
    /// In front of every key's name; with a prefix there is no key with the empty name.
    pub prefix: String,
    /// One more key: a string of 64 MiB that does not compress.
    pub big_string: bool,
    /// Lets fields of some hashes expire, on servers that can (redis 7.4, valkey 9).
    pub field_ttls: bool,
    /// Consumer groups, pending entries, deleted entries, empty streams.
    pub streams: bool,
    /// So many elements in each of a list, a hash, a set, a sorted set and a stream more; 0 for none of them.
    pub big_collections: u32,
}

impl DataSet {
    /// `keys` keys of all kinds in database 0, without the 64 MiB string and without fields that expire.
    pub fn new(keys: u32, seed: u64) -> Self {
        Self {
            keys,
            seed,
            prefix: String::new(),
            big_string: false,
            field_ttls: false,
            streams: true,
            big_collections: 0,
        }
    }
}

/// Bytes of the option `big_string`.
pub const BIG_STRING_BYTES: usize = 64 * 1024 * 1024;

/// Commands sent before their answers are read.
const PIPELINE_COMMANDS: usize = 2_000;

/// Keys whose randomness comes from one seed; large data sets are made of such parts, by several threads.
const PART_KEYS: u32 = 50_000;

/// Threads that make parts. The server needs a processor too.
const THREADS: u32 = 3;

/// Elements at least this long get a node of their own in a quicklist (redis 7.0 and later, by a DEBUG command).
const PLAIN_NODE_BYTES: usize = 1_200;

/// Adds the keys of `set` to database `db`. Returns how many they are, which the server has confirmed.
///
/// # Panics
///
/// If the server refuses a command, or has another number of new keys afterwards.
pub fn fill(server: &Server, db: u32, set: &DataSet) -> u64 {
    let before = server.keys(db);
    let mut connection = server.connection_to(db);
    let plain_nodes = server.kind().knows_pexpiretime;
    if plain_nodes {
        packed_threshold(&mut connection, &format!("{PLAIN_NODE_BYTES}B"));
    }
    std::thread::scope(|scope| {
        let parts = set.keys.div_ceil(PART_KEYS);
        for thread in 0..THREADS.min(parts) {
            scope.spawn(move || {
                for part in (thread..parts).step_by(THREADS as usize) {
                    fill_part(server, db, set, part);
                }
            });
        }
    });
    let mut made = u64::from(set.keys);
    let mut maker = Maker::new(server, set, u32::MAX);
    if set.big_string {
        let key = format!("{}big:64MiB", set.prefix);
        let value = noise(&mut maker.random, BIG_STRING_BYTES);
        maker.cmd("SET", key.as_bytes()).arg(value).ignore();
        made += 1;
    }
    if set.big_collections > 0 {
        made += maker.big_collections(set, &mut connection);
    }
    maker.send(&mut connection);
    if plain_nodes {
        packed_threshold(&mut connection, "0");
    }
    assert_eq!(server.keys(db) - before, made, "keys that were to be made");
    made
}

fn fill_part(server: &Server, db: u32, set: &DataSet, part: u32) {
    let mut connection = server.connection_to(db);
    let mut maker = Maker::new(server, set, part);
    for index in (0..set.keys)
        .skip((part * PART_KEYS) as usize)
        .take(PART_KEYS as usize)
    {
        let name = name(index, &set.prefix, &mut maker.random);
        maker.key(index, &name, set.streams);
        if maker.pipe.len() >= PIPELINE_COMMANDS {
            maker.send(&mut connection);
        }
    }
    maker.send(&mut connection);
}

/// Lets PFCOUNT write the cardinality into every HyperLogLog of the data set that has none cached: other bytes, the same
/// value. Returns how many were asked for.
pub fn count_hyperloglogs(server: &Server, db: u32) -> u64 {
    let mut connection = server.connection_to(db);
    let names: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut connection)
        .expect("KEYS");
    let mut asked = 0;
    for names in names.chunks(PIPELINE_COMMANDS) {
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for name in names {
            pipe.cmd("GETRANGE").arg(name).arg(0).arg(3);
        }
        let heads: Vec<redis::Value> = pipe.query(&mut connection).expect("GETRANGE");
        for (name, head) in names.iter().zip(heads) {
            if head == redis::Value::BulkString(b"HYLL".to_vec()) {
                let counted: u64 = redis::cmd("PFCOUNT")
                    .arg(name)
                    .query(&mut connection)
                    .expect("PFCOUNT of a HyperLogLog");
                assert!(counted > 0, "the data set has no empty HyperLogLogs");
                asked += 1;
            }
        }
    }
    asked
}

fn packed_threshold(connection: &mut redis::Connection, bytes: &str) {
    redis::cmd("DEBUG")
        .arg("QUICKLIST-PACKED-THRESHOLD")
        .arg(bytes)
        .exec(connection)
        .expect("DEBUG QUICKLIST-PACKED-THRESHOLD");
}

/// The name of the key number `index`: most as people choose them, some as nobody expects them.
fn name(index: u32, prefix: &str, random: &mut StdRng) -> Vec<u8> {
    if index == 7 && prefix.is_empty() {
        return Vec::new();
    }
    let mut name = prefix.as_bytes().to_vec();
    let tail: Vec<u8> = match index % 20 {
        1 => [b"nul\0in:".as_slice(), index.to_string().as_bytes()].concat(),
        2 => format!("line\r\nbreak:{index}").into_bytes(),
        3 => [b"\xff\xfe\x80invalid:".as_slice(), &index.to_be_bytes()].concat(),
        4 => format!("\x1b[31mred\x1b[0m:{index}").into_bytes(),
        5 => format!("{{tag{}}}:cart:{index}", random.random_range(0..100)).into_bytes(),
        6 => format!("schlüssel:ключ:鍵:{index}").into_bytes(),
        7 => format!("with \"quotes\" and spaces {index}").into_bytes(),
        8 if index % 1_000 == 8 => format!("long:{index}:{}", "x".repeat(10 * 1024)).into_bytes(),
        _ => format!("user:{index}:profile").into_bytes(),
    };
    name.extend(tail);
    name
}

/// Pseudo-random bytes that no compressor shortens.
fn noise(random: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    random.fill(noise.as_mut_slice());
    noise
}

/// Scores that a decimal notation, a 32-bit float or a careless parser would damage.
const SCORES: [f64; 16] = [
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    0.0,
    1.0,
    -1.0,
    0.1 + 0.2,
    1.0 + f64::EPSILON,
    f64::MAX,
    f64::MIN_POSITIVE,
    5e-324,
    -1e-300,
    9_007_199_254_740_993.0,
    4_294_967_296.0,
    std::f64::consts::PI,
    -273.15,
];

/// Collects the commands that make keys.
struct Maker {
    pipe: redis::Pipeline,
    random: StdRng,
    field_ttls: bool,
    /// The server keeps the greatest deleted id of a stream, and XSETID sets it.
    stream_counts: bool,
}

impl Maker {
    fn new(server: &Server, set: &DataSet, part: u32) -> Self {
        // Part 0 has the seed that was asked for.
        let seed = set.seed ^ u64::from(part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            pipe: redis::pipe(),
            random: StdRng::seed_from_u64(seed),
            field_ttls: set.field_ttls && server.kind().knows_field_ttl,
            stream_counts: server.kind().knows_pexpiretime,
        }
    }

    fn send(&mut self, connection: &mut redis::Connection) {
        if self.pipe.is_empty() {
            return;
        }
        self.pipe
            .exec(connection)
            .expect("the server takes every command of the data set");
        self.pipe.clear();
    }

    /// Begins a command whose first argument is the key.
    fn cmd(&mut self, command: &str, key: &[u8]) -> &mut redis::Pipeline {
        self.pipe.cmd(command).arg(key)
    }

    /// One key: its kind follows from its number, so that small data sets have every kind too.
    fn key(&mut self, index: u32, key: &[u8], streams: bool) {
        match index % 25 {
            0..=6 => self.string(index / 25 * 7 + index % 25, key),
            7..=10 => self.hash(index, key),
            11..=14 => self.list(index, key),
            15..=18 => self.set(index, key),
            19..=22 => self.sorted_set(index, key),
            _ if streams => self.stream(index, key),
            _ => self.string(index, key),
        }
        self.expiry(key);
    }

    fn string(&mut self, nth: u32, key: &[u8]) {
        let number: i64 = self.random.random();
        let value: Vec<u8> = match nth % 12 {
            0 => Vec::new(),
            1 => (number % 100).to_string().into_bytes(),
            2 => (number % 100_000).to_string().into_bytes(),
            3 => (number % 3_000_000_000).to_string().into_bytes(),
            4 => number.to_string().into_bytes(),
            // Looks like a number and is none that the server would store as one.
            5 => format!("+{}", number.unsigned_abs()).into_bytes(),
            6 => format!("short and embedded {number}").into_bytes(),
            7 => format!("{{\"id\":{number},{}}}", "\"tag\":\"same\",".repeat(30)).into_bytes(),
            8 => noise(&mut self.random, 300),
            9 => {
                for _ in 0..4 {
                    let bit = self.random.random_range(0..4_000_u32);
                    self.cmd("SETBIT", key).arg(bit).arg(1).ignore();
                }
                return;
            }
            10 => {
                // Few elements stay sparse, many make it dense.
                let elements = if nth % 120 == 10 { 2_000 } else { 8 };
                let elements: Vec<u64> = (0..elements).map(|_| self.random.random()).collect();
                self.cmd("PFADD", key).arg(elements).ignore();
                return;
            }
            _ => b"z".repeat(5_000),
        };
        self.cmd("SET", key).arg(value).ignore();
    }

    fn hash(&mut self, index: u32, key: &[u8]) {
        let fields = match index % 100 {
            7 => 200,
            _ => self.random.random_range(1..8),
        };
        // One long value is enough to leave the compact encoding.
        let long_value = index % 4 == 1;
        self.cmd("HSET", key);
        for field in 0..fields {
            let value = match (field, long_value) {
                (0, true) => "v".repeat(100),
                _ => self.random.random_range(0..1_000_000_u32).to_string(),
            };
            self.pipe.arg(format!("field:{field}")).arg(value);
        }
        self.pipe.arg(b"\0binary\xff").arg("").ignore();
        if self.field_ttls && index % 2 == 1 {
            let ttl_ms = self.random.random_range(3_600_000..90_000_000_u64);
            self.cmd("HPEXPIRE", key)
                .arg(ttl_ms)
                .arg("FIELDS")
                .arg(1)
                .arg("field:0")
                .ignore();
        }
    }

    fn list(&mut self, index: u32, key: &[u8]) {
        let (elements, bytes) = match index % 100 {
            // Several nodes.
            11 => (400, 40),
            36 => (300, 1),
            _ => (self.random.random_range(1..8), 10),
        };
        self.cmd(
            if index.is_multiple_of(2) {
                "RPUSH"
            } else {
                "LPUSH"
            },
            key,
        );
        for element in 0..elements {
            let number: u32 = self.random.random();
            self.pipe.arg(if element % 3 == 0 {
                number.to_string()
            } else {
                format!("{number:0bytes$}")
            });
        }
        if index % 50 == 12 {
            let plain = noise(&mut self.random, PLAIN_NODE_BYTES + 100);
            self.pipe.arg(plain);
        }
        self.pipe.arg("").ignore();
    }

    fn set(&mut self, index: u32, key: &[u8]) {
        self.cmd("SADD", key);
        match index % 4 {
            // Numbers of 16, 32 and 64 bits.
            3 => {
                let shift = [50, 34, 2][index as usize / 4 % 3];
                for _ in 0..self.random.random_range(1..20) {
                    let number: i64 = self.random.random();
                    self.pipe.arg(number >> shift);
                }
            }
            0 => {
                for member in 0..self.random.random_range(1..10) {
                    self.pipe.arg(format!("member:{member}"));
                }
            }
            1 => {
                for member in 0..self.random.random_range(1..10) {
                    self.pipe.arg(format!("{member}{}", "m".repeat(70)));
                }
            }
            // Grew to a table and shrank: encodings never go back.
            _ if index % 100 == 18 => {
                for member in 0..600 {
                    self.pipe.arg(member);
                }
                self.pipe.ignore();
                self.cmd("SREM", key);
                for member in 5..600 {
                    self.pipe.arg(member);
                }
            }
            _ => {
                self.pipe.arg("").arg(b"\0\xff\r\n").arg(index);
            }
        }
        self.pipe.ignore();
    }

    fn sorted_set(&mut self, index: u32, key: &[u8]) {
        let members = match index % 100 {
            19 => 200,
            _ => self.random.random_range(1..10),
        };
        let long_member = index.is_multiple_of(4);
        self.cmd("ZADD", key);
        for member in 0..members {
            let score = match member % 2 {
                0 => SCORES[self.random.random_range(0..SCORES.len())],
                _ => f64::from(self.random.random_range(-1_000_000..1_000_000)) / 7.0,
            };
            let tail = if long_member {
                "m".repeat(70)
            } else {
                String::new()
            };
            self.pipe
                .arg(format!("{score:e}"))
                .arg(format!("member:{member}{tail}"));
        }
        self.pipe.ignore();
    }

    fn stream(&mut self, index: u32, key: &[u8]) {
        let kind = index / 25 * 2 + index % 25 - 23;
        let entries = if kind % 6 == 1 {
            250
        } else {
            self.random.random_range(4..12)
        };
        for entry in 0..entries {
            let same_fields = entry % 5 != 4;
            self.cmd("XADD", key)
                .arg(format!("{}-{}", 1_000 + entry / 3, entry % 3 + 1))
                .arg(if same_fields { "temperature" } else { "event" })
                .arg(entry)
                .ignore();
        }
        match kind % 6 {
            // More was added and deleted than the entries show.
            0 if self.stream_counts => {
                self.cmd("XSETID", key)
                    .arg("2000-0")
                    .arg("ENTRIESADDED")
                    .arg(entries + 7)
                    .arg("MAXDELETEDID")
                    .arg("1500-5")
                    .ignore();
            }
            // Deleted in the middle, at the front and at the end, where the last id stays.
            2 => self.delete_entries(key, &["1000-1", "1000-3", "1001-1"]),
            3 => self.groups(key, entries),
            4 => {
                self.groups(key, entries);
                // Pending, and no longer there.
                self.delete_entries(key, &["1000-1", "1000-2"]);
            }
            // Nothing left but the ids and a group.
            5 => {
                self.cmd("XTRIM", key).arg("MAXLEN").arg(0).ignore();
                self.pipe
                    .cmd("XGROUP")
                    .arg("CREATE")
                    .arg(key)
                    .arg("idle")
                    .arg("$")
                    .ignore();
            }
            _ => {}
        }
    }

    /// One key of each type with many elements. Returns how many keys these are.
    fn big_collections(&mut self, set: &DataSet, connection: &mut redis::Connection) -> u64 {
        for element in 0..set.big_collections {
            let name = format!("{}big:", set.prefix);
            let text = format!("element {element} {}", self.random.random::<u64>());
            let (list, hash) = (name.clone() + "list", name.clone() + "hash");
            self.cmd("RPUSH", list.as_bytes()).arg(&text).ignore();
            self.cmd("HSET", hash.as_bytes())
                .arg(&text)
                .arg(element)
                .ignore();
            let (members, scores) = (name.clone() + "set", name.clone() + "zset");
            self.cmd("SADD", members.as_bytes()).arg(&text).ignore();
            let score = f64::from(element) / 3.0;
            self.cmd("ZADD", scores.as_bytes())
                .arg(format!("{score:e}"))
                .arg(&text)
                .ignore();
            let stream = name + "stream";
            self.cmd("XADD", stream.as_bytes())
                .arg(format!("{}-1", element + 1))
                .arg("field")
                .arg(&text)
                .ignore();
            if self.pipe.len() >= PIPELINE_COMMANDS {
                self.send(connection);
            }
        }
        5
    }

    fn delete_entries(&mut self, key: &[u8], ids: &[&str]) {
        self.cmd("XDEL", key).arg(ids).ignore();
    }

    /// Two groups at different places, two consumers with pending entries and one without.
    fn groups(&mut self, key: &[u8], entries: u32) {
        for (group, from) in [("workers", "0"), ("späte\0", "1000-2")] {
            self.pipe
                .cmd("XGROUP")
                .arg("CREATE")
                .arg(key)
                .arg(group)
                .arg(from)
                .ignore();
            for (consumer, count) in [("alice", 2), ("bob\r\n", 1), ("idle", entries)] {
                self.pipe
                    .cmd("XREADGROUP")
                    .arg("GROUP")
                    .arg(group)
                    .arg(consumer);
                self.pipe
                    .arg("COUNT")
                    .arg(count)
                    .arg("STREAMS")
                    .arg(key)
                    .arg(">")
                    .ignore();
            }
        }
        // What "idle" read is acknowledged, so that it stays as a consumer that has nothing pending.
        self.pipe.cmd("XACK").arg(key).arg("workers");
        for entry in 3..entries {
            self.pipe
                .arg(format!("{}-{}", 1_000 + entry / 3, entry % 3 + 1));
        }
        self.pipe.ignore();
        // Delivered a second time: the count of deliveries is 2.
        self.pipe
            .cmd("XCLAIM")
            .arg(key)
            .arg("workers")
            .arg("bob\r\n")
            .arg(0)
            .arg("1000-1")
            .ignore();
    }

    /// Most keys stay for ever; nothing expires within the hour, so that comparisons stand still.
    fn expiry(&mut self, key: &[u8]) {
        const HOUR_MS: u64 = 3_600_000;
        let ttl_ms = match self.random.random_range(0..20) {
            0..=3 => self.random.random_range(HOUR_MS..24 * HOUR_MS),
            4..=6 => self.random.random_range(24 * HOUR_MS..400 * 24 * HOUR_MS),
            // The year 9999.
            7 => {
                self.cmd("PEXPIREAT", key)
                    .arg(253_402_300_799_123_u64)
                    .ignore();
                return;
            }
            _ => return,
        };
        self.cmd("PEXPIRE", key).arg(ttl_ms).ignore();
    }
}

/// Keys with 0–3 ms to live, made again and again by a thread of its own until this is dropped: whoever scans meets some
/// in the last millisecond of their lives, when PTTL says 0.
pub struct NearExpiry {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl NearExpiry {
    /// Keeps up to `keys` keys named `volatile:<n>` alive and dying on `server`, database `db`.
    pub fn begin(server: &Server, db: u32, keys: u32, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut connection = server.connection_to(db);
        let mut random = StdRng::seed_from_u64(seed);
        let thread = std::thread::spawn(move || {
            let mut made = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut pipe = redis::pipe();
                for _ in 0..keys.min(200) {
                    let key = format!("volatile:{}", random.random_range(0..keys));
                    pipe.cmd("SET")
                        .arg(key)
                        .arg("dying")
                        .arg("PX")
                        .arg(random.random_range(1..4))
                        .ignore();
                    made += 1;
                }
                pipe.exec(&mut connection).expect("SET with a short life");
            }
            made
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops making keys, and says how many were made.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("ended only once");
        thread.join().expect("the thread that makes dying keys")
    }
}

impl Drop for NearExpiry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
