//! What is recorded: a value of each type, in each encoding that a server can be made to use.
//!
//! The notation of commands: words between single spaces; `""` is the empty word, `\xff` a byte, `{z*50}` fifty times z,
//! `{noise*50}` fifty bytes that can't be compressed, and a word with `{1..50}` is fifty words. `9x XADD k #-1 f v` is
//! nine commands with `#` from 1 to 9.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::support::version::{Kind, REDIS_8_2};

/// One value.
pub struct Case {
    /// The name of its file.
    pub name: &'static str,
    servers: Servers,
    commands: &'static [&'static str],
}

/// Who can make it.
#[derive(PartialEq)]
enum Servers {
    All,
    Since7_0,
    WithFieldExpiry,
    WithVectorSets,
}

use Servers::{All, Since7_0, WithFieldExpiry, WithVectorSets};

const fn case(name: &'static str, servers: Servers, commands: &'static [&'static str]) -> Case {
    Case {
        name,
        servers,
        commands,
    }
}

impl Case {
    /// Whether `kind` knows the commands.
    pub fn is_for(&self, kind: Kind) -> bool {
        match self.servers {
            All => true,
            Since7_0 => kind.knows_pexpiretime,
            WithFieldExpiry => kind.knows_field_ttl,
            WithVectorSets => kind.name == REDIS_8_2.name,
        }
    }

    /// Its commands, one by one.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        for &command in self.commands {
            let repeated = command
                .split_once("x ")
                .and_then(|(times, command)| Some((times.parse::<u32>().ok()?, command)));
            match repeated {
                Some((times, command)) => {
                    let numbers = 1..=times;
                    commands
                        .extend(numbers.map(|number| command.replace('#', &number.to_string())));
                }
                None => commands.push(command.to_owned()),
            }
        }
        commands
    }

    /// Its commands as they are written here.
    pub fn made_by(&self) -> &[&str] {
        self.commands
    }

    /// The names of configurations that it changes.
    pub fn changed_config(&self) -> impl Iterator<Item = &str> {
        self.commands
            .iter()
            .filter_map(|command| command.strip_prefix("CONFIG SET ")?.split(' ').next())
    }
}

/// The words of a command.
pub fn words(command: &str) -> Vec<Vec<u8>> {
    command.split(' ').flat_map(word).collect()
}

fn word(word: &str) -> Vec<Vec<u8>> {
    if word == "\"\"" {
        return vec![Vec::new()];
    }
    let Some((before, rest)) = word.split_once('{').filter(|_| !word.contains('"')) else {
        return vec![unescaped(word)];
    };
    let (inside, after) = rest.split_once('}').expect("a closing brace");
    if let Some((from, to)) = inside.split_once("..") {
        let numbers = from.parse::<u32>().unwrap()..=to.parse().unwrap();
        return numbers
            .map(|number| format!("{before}{number}{after}").into_bytes())
            .collect();
    }
    let (what, times) = inside.split_once('*').expect("a number of times");
    let times: usize = times.parse().expect("a number of times");
    let made = match what {
        "noise" => {
            let mut noise = vec![0; times];
            StdRng::seed_from_u64(1).fill_bytes(&mut noise);
            noise
        }
        what => what.repeat(times).into_bytes(),
    };
    vec![[before.as_bytes(), &made, after.as_bytes()].concat()]
}

fn unescaped(word: &str) -> Vec<u8> {
    let mut parts = word.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(byte, 16).expect("two hexadecimal digits"));
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// All cases.
pub const CASES: &[Case] = &[
    case("string_empty", All, &["SET k \"\""]),
    case("string_int8", All, &["SET k -100"]),
    case("string_int16", All, &["SET k 12345"]),
    case("string_int32", All, &["SET k -1234567890"]),
    case("string_int64", All, &["SET k 9223372036854775807"]),
    case("string_almost_integer", All, &["SET k 007"]),
    case("string_text", All, &["SET k hello"]),
    case("string_binary", All, &["SET k \\x00\\xff\\x0d\\x0a\\x22"]),
    case("string_run", All, &["SET k {z*5000}"]),
    case("string_repetitive", All, &["SET k {tag:same,*90}end"]),
    case("string_noise", All, &["SET k {noise*300}"]),
    case("string_hyperloglog", All, &["PFADD k a b c d e"]),
    case(
        "string_hyperloglog_dense",
        All,
        &["CONFIG SET hll-sparse-max-bytes 0", "PFADD k a b c d e"],
    ),
    case("string_bits", All, &["SETBIT k 4000 1"]),
    case("list_small", All, &["RPUSH k a b \"\" \\x00\\xff"]),
    case(
        "list_integers",
        All,
        &[
            "RPUSH k 0 1 12 13 127 128 -1 -2 4095 4096 -4096 -4097 32767 32768 -32768 -32769 8388607 8388608 -8388608 2147483647 2147483648 -2147483648 -2147483649 9223372036854775807 -9223372036854775808 -0 01 +1 1.0",
        ],
    ),
    case(
        "list_lengths",
        All,
        &[
            "RPUSH k {a*63} {b*64} {c*122} {d*123} {e*124} {f*125} {g*126} {h*127} {i*128} {j*250} {k*251} {l*252} {m*253} {n*254} {o*255} {p*4095} {q*4096} {r*16383} {s*16384} x",
        ],
    ),
    case(
        "list_nodes",
        All,
        &[
            "CONFIG SET list-max-ziplist-size 4",
            "RPUSH k {1..50}",
            "LPUSH k m{1..9}",
        ],
    ),
    case(
        "list_compressed_nodes",
        All,
        &[
            "CONFIG SET list-max-ziplist-size 8",
            "CONFIG SET list-compress-depth 1",
            "RPUSH k value:aaaaaaaaaaaaaaaaaaaa:{1..60}",
        ],
    ),
    case(
        "list_plain_nodes",
        Since7_0,
        &[
            "DEBUG QUICKLIST-PACKED-THRESHOLD 100B",
            "RPUSH k a {b*200} {noise*150} c",
            "DEBUG QUICKLIST-PACKED-THRESHOLD 0",
        ],
    ),
    case(
        "list_after_deletions",
        All,
        &[
            "CONFIG SET list-max-ziplist-size 4",
            "RPUSH k {1..20}",
            "LREM k 0 3",
            "LINSERT k BEFORE 10 between",
            "LTRIM k 2 -3",
        ],
    ),
    case("set_intset16", All, &["SADD k 1 -2 300"]),
    case("set_intset32", All, &["SADD k 1 -2 70000"]),
    case(
        "set_intset64",
        All,
        &["SADD k 1 -2 9223372036854775807 -9223372036854775808"],
    ),
    case("set_small", All, &["SADD k a b 17 -5 \"\" \\x00\\xff"]),
    case("set_long_member", All, &["SADD k a {m*70} {n*70}"]),
    case("set_table", All, &["SADD k m{1..300}"]),
    case(
        "set_table_of_integers",
        All,
        &[
            "CONFIG SET set-max-intset-entries 0",
            "SADD k 1 -2 300 70000 9223372036854775807",
        ],
    ),
    case("set_shrunk", All, &["SADD k {1..600}", "SREM k {6..600}"]),
    case(
        "zset_small",
        All,
        &[
            "ZADD k inf a -inf b -0 c 0 d 1.5 e 0.30000000000000004 f 5e-324 g 1.7976931348623157e308 h 9007199254740993 i -273.15 j 4294967296 l 1e-300 m 3 12 3 \"\"",
        ],
    ),
    case(
        "zset_table",
        All,
        &[
            "CONFIG SET zset-max-ziplist-entries 0",
            "ZADD k inf a -inf b -0 c 0 d 1.5 e 0.30000000000000004 f 5e-324 g 1.7976931348623157e308 h 9007199254740993 i -273.15 j 4294967296 l 1e-300 m 3 12 3 \"\"",
        ],
    ),
    case("zset_long_member", All, &["ZADD k 1 {m*70} 2 {n*70}"]),
    case("zset_many", All, &["ZADD k {1..400}"]),
    case(
        "hash_small",
        All,
        &["HSET k f v g 42 \"\" \"\" \\x00 \\xff"],
    ),
    case(
        "hash_integers",
        All,
        &[
            "HSET k 1 0 12 127 128 -1 4095 -4096 -4097 32767 32768 -32768 8388607 8388608 2147483647 2147483648 9223372036854775807 -9223372036854775808",
        ],
    ),
    case(
        "hash_compressed",
        All,
        &["HSET k a {x*60} b {x*60} c {y*60}"],
    ),
    case(
        "hash_table",
        All,
        &[
            "CONFIG SET hash-max-ziplist-entries 0",
            "HSET k f v g 42 \"\" \"\" \\x00 \\xff",
        ],
    ),
    case(
        "hash_long_value",
        All,
        &["HSET k f v g {v*600} {f*100} {w*100}"],
    ),
    case("hash_many", All, &["HSET k {1..1200}"]),
    case(
        "hash_expiring",
        WithFieldExpiry,
        &[
            "HSET k a 1 b 2 c 3",
            "HPEXPIREAT k 4102444800555 FIELDS 1 a",
            "HPEXPIREAT k 4102444800000 FIELDS 1 c",
        ],
    ),
    case(
        "hash_all_expiring",
        WithFieldExpiry,
        &[
            "HSET k a {x*60} b {y*60}",
            "HPEXPIREAT k 4102444800001 FIELDS 2 a b",
        ],
    ),
    case(
        "hash_expiring_no_more",
        WithFieldExpiry,
        &[
            "HSET k a 1 b 2",
            "HPEXPIREAT k 4102444800001 FIELDS 1 a",
            "HPERSIST k FIELDS 1 a",
        ],
    ),
    case(
        "hash_expiring_table",
        WithFieldExpiry,
        &[
            "CONFIG SET hash-max-ziplist-entries 0",
            "HSET k a 1 b 2 c {x*60} d {y*60}",
            "HPEXPIREAT k 4102444800555 FIELDS 1 a",
            "HPEXPIREAT k 4102444800000 FIELDS 1 c",
        ],
    ),
    case(
        "hash_expiring_many",
        WithFieldExpiry,
        &[
            "HSET k {1..1200}",
            "HPEXPIREAT k 4102444800000 FIELDS 3 1 3 5",
            "HPEXPIREAT k 4133980800000 FIELDS 2 7 1199",
        ],
    ),
    case("stream_one", All, &["XADD k 1-1 f v"]),
    case(
        "stream_fields",
        All,
        &[
            "XADD k 1-5 a 1 b 2",
            "XADD k 1-6 a x b \"\"",
            "XADD k 2-0 c {z*300}",
            "XADD k 2-1 b 1 a 2",
            "XADD k 3-18446744073709551615 a -5 b 123456789012",
            "XADD k 18446744073709551614-1 a y b z",
        ],
    ),
    case(
        "stream_integers",
        All,
        &[
            "XADD k 5-5 1 2 3 4",
            "XADD k 5-6 1 -100000 3 9223372036854775807",
            "XADD k 5-7 7 8",
        ],
    ),
    case(
        "stream_nodes",
        All,
        &[
            "CONFIG SET stream-node-max-entries 3",
            "10x XADD k #-1 n # text aaaaaaaaaaaaaaaaaaaaaaaa",
        ],
    ),
    case(
        "stream_many",
        All,
        &["120x XADD k 1700000000000-# number #"],
    ),
    case(
        "stream_tombstones",
        All,
        &["8x XADD k #-1 n #", "XDEL k 3-1 5-1", "XDEL k 8-1"],
    ),
    case("stream_emptied", All, &["XADD k 7-1 f v", "XDEL k 7-1"]),
    case(
        "stream_trimmed",
        All,
        &[
            "CONFIG SET stream-node-max-entries 4",
            "10x XADD k #-1 n #",
            "XTRIM k MAXLEN 3",
        ],
    ),
    case(
        "stream_group_unread",
        All,
        &[
            "XADD k 1-1 f v",
            "XGROUP CREATE k g $",
            "XGROUP CREATE k another\\x00 0",
        ],
    ),
    case(
        "stream_empty_with_group",
        All,
        &["XGROUP CREATE k g $ MKSTREAM"],
    ),
    case(
        "stream_pending",
        All,
        &[
            "6x XADD k #-1 n #",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g one COUNT 2 STREAMS k >",
            "XREADGROUP GROUP g two COUNT 2 STREAMS k >",
            "XREADGROUP GROUP g one COUNT 1 STREAMS k >",
            "XACK k g 2-1",
        ],
    ),
    case(
        "stream_pending_deleted",
        All,
        &[
            "4x XADD k #-1 n #",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g one STREAMS k >",
            "XDEL k 2-1 4-1",
        ],
    ),
    case(
        "stream_claimed",
        All,
        &[
            "3x XADD k #-1 n #",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g one STREAMS k >",
            "XCLAIM k g two 0 2-1 TIME 1700000000000 RETRYCOUNT 300",
        ],
    ),
    case(
        "stream_idle_consumers",
        All,
        &[
            "XADD k 1-1 f v",
            "XGROUP CREATE k g $",
            "XREADGROUP GROUP g idle STREAMS k >",
            "XREADGROUP GROUP g {a*60} STREAMS k >",
        ],
    ),
    case(
        "stream_many_pending",
        All,
        &[
            "CONFIG SET stream-node-max-entries 20",
            "70x XADD k 1700000000000-# n #",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g one COUNT 40 STREAMS k >",
            "XREADGROUP GROUP g two STREAMS k >",
        ],
    ),
    case(
        "stream_counters",
        Since7_0,
        &[
            "XADD k 5-5 f v",
            "XSETID k 9-9 ENTRIESADDED 100 MAXDELETEDID 7-7",
            "XGROUP CREATE k g 5-5 ENTRIESREAD 42",
        ],
    ),
    case(
        "vectors_f32",
        WithVectorSets,
        &[
            "VADD k VALUES 3 1 2 3 a NOQUANT",
            "VADD k VALUES 3 -1 0.5 9 b NOQUANT SETATTR {\"year\":1984}",
        ],
    ),
    case(
        "vectors_int8",
        WithVectorSets,
        &["30x VADD k VALUES 3 # 1.5 -2 element:#"],
    ),
    case(
        "vectors_binary",
        WithVectorSets,
        &[
            "VADD k VALUES 70 {1..70} a BIN",
            "VADD k VALUES 70 {2..71} {b*60} BIN",
        ],
    ),
    case(
        "vectors_reduced",
        WithVectorSets,
        &["VADD k REDUCE 2 VALUES 3 1 2 3 a NOQUANT"],
    ),
];
