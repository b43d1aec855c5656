//! How much more the target's memory takes, as far as looks at it can tell.
//!
//! Near its limit, each look allows only what fits until the next one, and a little stays free for the target's other
//! clients. What a payload takes in memory is learned from what the target grew by.
//!
//! # Invariants
//!
//! - What is on its way counts as if it were there already, and all of it as if it went to the node with the least room.
//! - Whoever waits goes on as soon as there is room, whatever made it wait; and then there is room for more than a moment.

use crate::client::control::Info;

/// So much of the memory stays free.
const FREE: f64 = 0.01;
/// And so many bytes, if they are not too much of it: what the target has in the buffers of connections comes and goes.
const FREE_BYTES: f64 = 1024.0 * 1024.0;
/// What too much of it is.
const FREE_MOST: f64 = 1.0 / 16.0;
/// So many times as much has to be free before a copy that waits goes on.
const FREE_AGAIN: f64 = 2.0;
/// Bytes of memory that a payload byte takes, before anything is known.
const GROWS_FIRST: f64 = 4.0;
/// Fewest: what is stored has overhead.
const GROWS_MIN: f64 = 1.5;
/// Most: small keys, and values that travel compressed.
const GROWS_MAX: f64 = 40.0;
/// What was learned is forgotten at this rate, a look: keys that take more may come again.
const FORGOTTEN: f64 = 0.95;
/// Too few payload bytes to learn from.
const LEARNED_BYTES_MIN: u64 = 16 * 1024;

/// What INFO says of a server's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub used: u64,
    pub max: u64,
}

impl Memory {
    /// `None` if there is no limit, or keys are evicted at it.
    pub fn of(info: &Info) -> Option<Self> {
        let max = max(info)?;
        let evicts = evicts(info).is_some() || !info.contains_key("maxmemory_policy");
        let used = number(info, "used_memory")?;
        // Buffers of replicas and of the append-only file: the limit is not about them.
        let not_counted = number(info, "mem_not_counted_for_evict").unwrap_or(0);
        let used = used.saturating_sub(not_counted);
        (!evicts).then_some(Self { used, max })
    }

    /// What is left.
    pub fn left(self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// The limit of a server's memory, if it has one.
pub fn max(info: &Info) -> Option<u64> {
    number(info, "maxmemory").filter(|max| *max > 0)
}

/// By what a server chooses the keys that it evicts when it is full, if it evicts any.
pub fn evicts(info: &Info) -> Option<&str> {
    max(info)?;
    let policy = info.get("maxmemory_policy")?;
    (policy != "noeviction").then_some(policy)
}

/// A field that is a number.
pub fn number(info: &Info, name: &str) -> Option<u64> {
    info.get(name)?.parse().ok()
}

/// What the newest looks say together.
pub struct Room {
    /// Bytes of memory that a payload byte takes.
    grows: f64,
    /// Bytes used and payload bytes acknowledged, when it was looked at before.
    before: Option<(u64, u64)>,
    is_full: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            grows: GROWS_FIRST,
            before: None,
            is_full: false,
        }
    }
}

impl Room {
    /// All nodes together use so much, when so many payload bytes have been acknowledged, ever.
    pub fn learn(&mut self, used: u64, acknowledged: u64) {
        let Some((used_before, acknowledged_before)) = self.before else {
            self.before = Some((used, acknowledged));
            return;
        };
        let arrived = acknowledged.saturating_sub(acknowledged_before);
        if arrived < LEARNED_BYTES_MIN {
            return;
        }
        self.before = Some((used, acknowledged));
        let grows = used.saturating_sub(used_before) as f64 / arrived as f64;
        self.grows = grows
            .max(self.grows * FORGOTTEN)
            .clamp(GROWS_MIN, GROWS_MAX);
    }

    /// Payload bytes that may be asked for altogether until the next look, if the node with the least room has this memory,
    /// `read` bytes were read and have not arrived, and `asked` were asked for; `None`: nothing may.
    pub fn payload_bytes(&mut self, memory: Memory, read: u64, asked: u64) -> Option<u64> {
        let max = memory.max as f64;
        let stays = (max * FREE).max(FREE_BYTES.min(max * FREE_MOST));
        let free = memory.left() as f64 - read as f64 * self.grows;
        let free_then = free - asked as f64 * self.grows;
        self.is_full = match self.is_full {
            true => read + asked > 0 || free < stays * FREE_AGAIN,
            false => free_then < stays,
        };
        // Half of what is to stay free may be used up, so that it does come to an end.
        let fits = (free - stays / 2.0) / self.grows;
        (!self.is_full).then_some(fits as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1_000_000_000;

    fn info(fields: &[(&str, &str)]) -> Info {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn left(left: u64) -> Memory {
        Memory {
            used: MAX - left,
            max: MAX,
        }
    }

    #[test]
    fn only_a_limit_at_which_nothing_is_evicted_is_waited_for() {
        let of = |max, policy| {
            Memory::of(&info(&[
                ("used_memory", "90"),
                ("maxmemory", max),
                ("maxmemory_policy", policy),
                ("mem_not_counted_for_evict", "7"),
            ]))
        };
        assert_eq!(of("100", "noeviction"), Some(Memory { used: 83, max: 100 }));
        assert_eq!(of("0", "noeviction"), None);
        assert_eq!(of("100", "allkeys-lru"), None);
        assert_eq!(Memory::of(&Info::new()), None);
    }

    #[test]
    fn what_is_on_its_way_counts_with_what_it_will_take() {
        let mut room = Room::default();
        room.learn(0, 0);
        let mut fits = |free, read, asked| room.payload_bytes(left(free), read, asked);
        assert_eq!(fits(505_000_000, 0, 0), Some(125_000_000));
        assert_eq!(fits(505_000_000, 50_000_000, 0), Some(75_000_000));
        assert_eq!(fits(505_000_000, 0, 100_000_000), Some(125_000_000));
        assert_eq!(fits(505_000_000, 0, 125_000_000), None);
        let mut room = Room::default();
        room.learn(0, 0);
        room.learn(80_000_000, 10_000_000);
        let grows = |room: &mut Room| room.payload_bytes(left(505_000_000), 0, 0);
        assert_eq!(grows(&mut room), Some(62_500_000));
        // Keys that take less are believed slowly.
        (2..100).for_each(|look| room.learn(80_000_000 + look, look * 10_000_000));
        assert_eq!(room.grows, GROWS_MIN);
    }

    #[test]
    fn who_waits_goes_on_once_there_is_room_whatever_it_waited_for() {
        let mut room = Room::default();
        room.learn(0, 0);
        // A leap: a moment ago there was room for it all.
        room.learn(600_000_000, 20_000_000);
        let mut goes_on = |free, read, asked| room.payload_bytes(left(free), read, asked).is_some();
        assert!(!goes_on(240_000_000, 10_000_000, 0));
        assert!(!goes_on(240_000_000, 0, 1), "it is not there yet");
        assert!(goes_on(230_000_000, 0, 0));
        // Near the end it is not turned on and off by every key.
        assert!(!goes_on(9_000_000, 0, 0));
        assert!(!goes_on(19_000_000, 0, 0));
        assert!(goes_on(21_000_000, 0, 0));
        assert!(goes_on(11_000_000, 0, 0));
    }

    #[test]
    fn it_comes_to_an_end_when_everything_allowed_is_asked_for() {
        let mut room = Room::default();
        let (mut free, mut looks, mut acknowledged) = (MAX, 0, 0);
        room.learn(0, 0);
        while let Some(bytes) = room.payload_bytes(left(free), 0, 0) {
            looks += 1;
            assert!(looks < 100, "{free} left");
            acknowledged += bytes;
            free -= bytes * 2;
            room.learn(MAX - free, acknowledged);
        }
        assert!((MAX / 200..=MAX / 100).contains(&free), "{free}");
    }
}
