//! What is moved in the demonstration: every type, small and large, names that no terminal likes, and expiries.
//!
//! The same number of keys is the same data every time, but for the times of expiry.

use redis::{Connection, Pipeline, RedisResult};

/// Commands sent together.
const PIPELINE_COMMANDS: usize = 2_000;

/// Keys whose time runs out during the demonstration, so that something vanishes on the way.
const SHORT_LIVED_EVERY: u64 = 500;

/// Fills the server behind `connection` with `keys` keys. Ends early, without an error, once `stop` says so.
pub fn fill(connection: &mut Connection, keys: u32, stop: impl Fn() -> bool) -> RedisResult<()> {
    let mut commands = Pipeline::new();
    for index in 0..u64::from(keys) {
        one(&mut commands, index);
        if commands.len() >= PIPELINE_COMMANDS {
            commands.query::<()>(connection)?;
            commands.clear();
            if stop() {
                return Ok(());
            }
        }
    }
    commands.query::<()>(connection)
}

/// The key with this number.
fn one(commands: &mut Pipeline, index: u64) {
    let mut dice = Dice(index);
    let name = name(index, &mut dice);
    match index % 20 {
        0..6 => set(commands, &name, &document(&mut dice, 120, 500)),
        6 => set(commands, &name, &document(&mut dice, 2_000, 9_000)),
        7 => set(commands, &name, dice.below(1 << 40).to_string().as_bytes()),
        8 => set(commands, &name, &dice.bytes(300)),
        9 => bitmap_or_sketch(commands, &name, index, &mut dice),
        10..13 => hash(commands, &name, index, &mut dice),
        13 | 14 => list(commands, &name, index, &mut dice),
        15 | 16 => set_of(commands, &name, index, &mut dice),
        17 | 18 => sorted_set(commands, &name, index, &mut dice),
        _ => stream(commands, &name, index, &mut dice),
    }
    if index.is_multiple_of(SHORT_LIVED_EVERY) {
        commands
            .cmd("PEXPIRE")
            .arg(&name)
            .arg(1_500 + dice.below(20_000))
            .ignore();
    } else if dice.below(3) == 0 {
        commands
            .cmd("PEXPIRE")
            .arg(&name)
            .arg(3_600_000 + dice.below(30 * 86_400_000))
            .ignore();
    }
}

/// Mostly names as applications choose them; now and then one that shows whether bytes stay bytes.
fn name(index: u64, dice: &mut Dice) -> Vec<u8> {
    const KINDS: [&str; 8] = [
        "session", "user", "cart", "page", "feed", "rank", "job", "{shop:7}",
    ];
    let odd: &[u8] = match index % 1_000 {
        0 if index == 0 => return Vec::new(),
        1 => b"zero\0byte",
        2 => b"new\nline",
        3 => b"\x1b[31mred\x1b[0m",
        4 => b"\xff\xfe not text",
        5 => "\u{1f426} calidris canutus".as_bytes(),
        _ => return format!("{}:{index}", KINDS[dice.below(8) as usize]).into_bytes(),
    };
    [odd, b":", index.to_string().as_bytes()].concat()
}

fn set(commands: &mut Pipeline, name: &[u8], value: &[u8]) {
    commands.cmd("SET").arg(name).arg(value).ignore();
}

fn bitmap_or_sketch(commands: &mut Pipeline, name: &[u8], index: u64, dice: &mut Dice) {
    if (index / 20).is_multiple_of(2) {
        let bytes = dice.bytes(64);
        commands
            .cmd("SETRANGE")
            .arg(name)
            .arg(dice.below(100))
            .arg(bytes)
            .ignore();
    } else {
        let command = commands.cmd("PFADD").arg(name);
        for _ in 0..30 {
            command.arg(dice.next());
        }
        command.ignore();
    }
}

/// Now and then large enough for the encoding of large values.
fn length(index: u64, dice: &mut Dice) -> u64 {
    match index / 20 % 100 {
        0 => 600,
        _ => 3 + dice.below(12),
    }
}

fn hash(commands: &mut Pipeline, name: &[u8], index: u64, dice: &mut Dice) {
    let length = length(index, dice);
    let command = commands.cmd("HSET").arg(name);
    for field in 0..length {
        command
            .arg(format!("field:{field}"))
            .arg(dice.below(1 << 50));
    }
    command.ignore();
}

fn list(commands: &mut Pipeline, name: &[u8], index: u64, dice: &mut Dice) {
    let length = length(index, dice);
    let command = commands.cmd("RPUSH").arg(name);
    for item in 0..length {
        command.arg(format!("{item}:{:x}", dice.next()));
    }
    command.ignore();
}

fn set_of(commands: &mut Pipeline, name: &[u8], index: u64, dice: &mut Dice) {
    let length = length(index, dice);
    let command = commands.cmd("SADD").arg(name);
    for _ in 0..length {
        match index % 2 {
            0 => command.arg(dice.below(100_000)),
            _ => command.arg(format!("member:{:x}", dice.next())),
        };
    }
    command.ignore();
}

fn sorted_set(commands: &mut Pipeline, name: &[u8], index: u64, dice: &mut Dice) {
    let length = length(index, dice);
    if index.is_multiple_of(2) {
        let command = commands.cmd("GEOADD").arg(name);
        for place in 0..length.min(20) {
            command
                .arg(dice.below(170) as f64 + 0.123)
                .arg(dice.below(80) as f64 + 0.456)
                .arg(format!("place:{place}"));
        }
        command.ignore();
    } else {
        let command = commands.cmd("ZADD").arg(name);
        for member in 0..length {
            // A third is no finite binary fraction: every bit of the score has to arrive.
            command
                .arg(dice.below(1 << 30) as f64 / 3.0)
                .arg(format!("member:{member}"));
        }
        command.ignore();
    }
}

/// With a group, two consumers, entries that were delivered and not acknowledged, and one that was deleted.
fn stream(commands: &mut Pipeline, name: &[u8], index: u64, dice: &mut Dice) {
    let entries = 4 + dice.below(8);
    for entry in 1..=entries {
        let id = format!("{}-{entry}", 1_700_000_000_000 + index);
        commands
            .cmd("XADD")
            .arg(name)
            .arg(id)
            .arg("event")
            .arg(dice.below(1 << 40))
            .arg("n")
            .arg(entry)
            .ignore();
    }
    if (index / 20).is_multiple_of(4) {
        commands
            .cmd("XGROUP")
            .arg("CREATE")
            .arg(name)
            .arg("workers")
            .arg("0")
            .ignore();
        for consumer in ["anna", "ben"] {
            commands
                .cmd("XREADGROUP")
                .arg("GROUP")
                .arg("workers")
                .arg(consumer)
                .arg("COUNT")
                .arg(2)
                .arg("STREAMS")
                .arg(name)
                .arg(">")
                .ignore();
        }
        commands
            .cmd("XACK")
            .arg(name)
            .arg("workers")
            .arg(format!("{}-1", 1_700_000_000_000 + index))
            .ignore();
        commands
            .cmd("XDEL")
            .arg(name)
            .arg(format!("{}-4", 1_700_000_000_000 + index))
            .ignore();
    }
}

/// A text that compresses about as well as what is in real caches.
fn document(dice: &mut Dice, bytes_min: u64, bytes_max: u64) -> Vec<u8> {
    let bytes = bytes_min + dice.below(bytes_max - bytes_min);
    let mut text = String::from("{");
    while (text.len() as u64) < bytes {
        text.push_str(&format!(
            "\"attribute_{}\":\"{:016x}\",",
            dice.below(50),
            dice.next()
        ));
    }
    text.push_str("\"end\":true}");
    text.into_bytes()
}

/// Numbers that look random and are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
