//! One entry, group, consumer or pending entry of a stream.

use std::collections::HashMap;

use redis::Value;

use super::{Hand, Of, Way, always};
use crate::support::oracle::Verdict;
use crate::support::version::Kind;

const fn way(
    what: &'static str,
    possible: fn(Kind) -> bool,
    damage: fn(&mut Hand, &[u8]) -> bool,
) -> Way {
    Way {
        what,
        of: Of::Type("stream"),
        verdict: Verdict::Value,
        possible,
        damage,
    }
}

/// XGROUP CREATECONSUMER came with 6.2.
fn creates_consumers(kind: Kind) -> bool {
    !kind.version.starts_with("6.0")
}

pub(super) const WAYS: &[Way] = &[
    way("one entry's id", always, entry_id),
    way("one entry's field", always, entry_field),
    way("one entry less in a stream", always, entry_deleted),
    way("the last id of a stream", always, last_id),
    way(
        "the greatest deleted id of a stream",
        |kind| kind.knows_pexpiretime,
        deleted_id,
    ),
    way("where a group stands", always, group_position),
    way("one group less", always, group_removed),
    way("one consumer more", creates_consumers, consumer_added),
    way("one pending entry less", always, acknowledged),
    way("who has a pending entry", always, claimed),
    way("how often an entry was delivered", always, delivered),
];

/// An id as two numbers, so that it can be counted on.
type Id = (u64, u64);

type Entry = (String, Vec<Vec<u8>>);

fn parsed(id: &str) -> Id {
    let (ms, seq) = id.split_once('-').expect("an id has two parts");
    let number = |text: &str| text.parse().expect("the parts of an id are numbers");
    (number(ms), number(seq))
}

fn text((ms, seq): Id) -> String {
    format!("{ms}-{seq}")
}

/// What XINFO STREAM FULL says.
struct Stream {
    fields: HashMap<String, Value>,
}

impl Stream {
    fn of(hand: &mut Hand, key: &[u8]) -> Self {
        let mut ask = redis::cmd("XINFO");
        ask.arg("STREAM").arg(key).arg("FULL").arg("COUNT").arg(0);
        Self {
            fields: hand.ask(&ask),
        }
    }

    fn get<T: redis::FromRedisValue>(&self, name: &str) -> T {
        field(&self.fields, name)
    }

    fn groups(&self) -> Vec<Group> {
        let groups: Vec<HashMap<String, Value>> = self.get("groups");
        groups
            .into_iter()
            .map(|fields| Group {
                name: field(&fields, "name"),
                last_id: field(&fields, "last-delivered-id"),
                pending: field(&fields, "pending"),
                consumers: field::<Vec<HashMap<String, Value>>>(&fields, "consumers")
                    .iter()
                    .map(|consumer| field(consumer, "name"))
                    .collect(),
            })
            .collect()
    }

    /// Pending entries, with their group, that are still in the stream: others can't be claimed.
    fn pending(&self) -> Vec<(Group, Pending)> {
        let entries: Vec<Entry> = self.get("entries");
        let mut pending = Vec::new();
        for group in self.groups() {
            for one in &group.pending {
                if entries.iter().any(|(id, _)| *id == one.0) {
                    pending.push((group.clone(), one.clone()));
                }
            }
        }
        pending
    }
}

fn field<T: redis::FromRedisValue>(fields: &HashMap<String, Value>, name: &str) -> T {
    redis::from_redis_value(fields[name].clone()).expect("a reply of the documented form")
}

#[derive(Clone)]
struct Group {
    name: Vec<u8>,
    last_id: String,
    pending: Vec<Pending>,
    consumers: Vec<Vec<u8>>,
}

/// Id, consumer, when it was delivered, and how often.
type Pending = (String, Vec<u8>, i64, u64);

/// Writes a stream without groups again, with other entries and everything else as it was.
fn rewrite(hand: &mut Hand, key: &[u8], stream: &Stream, entries: &[Entry]) {
    let expiry = hand.expiry_ms(key);
    hand.run(&hand.cmd("DEL", key));
    for (id, fields) in entries {
        hand.run(hand.cmd("XADD", key).arg(id).arg(fields));
    }
    let mut set_id = hand.cmd("XSETID", key);
    set_id.arg(stream.get::<String>("last-generated-id"));
    if hand.kind.knows_pexpiretime {
        set_id
            .arg("ENTRIESADDED")
            .arg(stream.get::<u64>("entries-added"))
            .arg("MAXDELETEDID")
            .arg(stream.get::<String>("max-deleted-entry-id"));
    }
    hand.run(&set_id);
    if let Some(expiry) = expiry {
        hand.run(hand.cmd("PEXPIREAT", key).arg(expiry));
    }
}

/// A stream that can be written again, and its entries.
fn without_groups(hand: &mut Hand, key: &[u8]) -> Option<(Stream, Vec<Entry>)> {
    let stream = Stream::of(hand, key);
    let entries: Vec<Entry> = stream.get("entries");
    (stream.groups().is_empty() && entries.len() > 1).then_some((stream, entries))
}

fn entry_id(hand: &mut Hand, key: &[u8]) -> bool {
    let Some((stream, mut entries)) = without_groups(hand, key) else {
        return false;
    };
    // Between two entries there has to be an id that is free.
    let free: Vec<usize> = (0..entries.len() - 1)
        .filter(|&at| {
            let (ms, seq) = parsed(&entries[at].0);
            (ms, seq + 1) < parsed(&entries[at + 1].0)
        })
        .collect();
    let Some(at) = hand.choose(free) else {
        return false;
    };
    let (ms, seq) = parsed(&entries[at].0);
    entries[at].0 = text((ms, seq + 1));
    rewrite(hand, key, &stream, &entries);
    true
}

fn entry_field(hand: &mut Hand, key: &[u8]) -> bool {
    let Some((stream, mut entries)) = without_groups(hand, key) else {
        return false;
    };
    let Some(at) = hand.choose((0..entries.len()).collect()) else {
        return false;
    };
    entries[at].1[1].push(b'0');
    rewrite(hand, key, &stream, &entries);
    true
}

fn entry_deleted(hand: &mut Hand, key: &[u8]) -> bool {
    let entries: Vec<Entry> = Stream::of(hand, key).get("entries");
    let Some((id, _)) = hand.choose(entries) else {
        return false;
    };
    hand.run(hand.cmd("XDEL", key).arg(id));
    true
}

fn last_id(hand: &mut Hand, key: &[u8]) -> bool {
    let (ms, seq) = parsed(&Stream::of(hand, key).get::<String>("last-generated-id"));
    hand.run(hand.cmd("XSETID", key).arg(text((ms, seq + 1))));
    true
}

fn deleted_id(hand: &mut Hand, key: &[u8]) -> bool {
    let stream = Stream::of(hand, key);
    let (ms, seq) = parsed(&stream.get::<String>("max-deleted-entry-id"));
    let last: String = stream.get("last-generated-id");
    if (ms, seq + 1) > parsed(&last) {
        return false;
    }
    let added: u64 = stream.get("entries-added");
    let mut set_id = hand.cmd("XSETID", key);
    set_id.arg(last).arg("ENTRIESADDED").arg(added);
    hand.run(set_id.arg("MAXDELETEDID").arg(text((ms, seq + 1))));
    true
}

fn group_position(hand: &mut Hand, key: &[u8]) -> bool {
    let groups = Stream::of(hand, key).groups();
    let Some(group) = hand.choose(groups) else {
        return false;
    };
    let (ms, seq) = parsed(&group.last_id);
    let mut set_id = redis::cmd("XGROUP");
    set_id.arg("SETID").arg(key).arg(group.name);
    hand.run(set_id.arg(text((ms, seq + 1))));
    true
}

fn group_removed(hand: &mut Hand, key: &[u8]) -> bool {
    let groups = Stream::of(hand, key).groups();
    let Some(group) = hand.choose(groups) else {
        return false;
    };
    hand.run(redis::cmd("XGROUP").arg("DESTROY").arg(key).arg(group.name));
    true
}

fn consumer_added(hand: &mut Hand, key: &[u8]) -> bool {
    let groups = Stream::of(hand, key).groups();
    let Some(group) = hand.choose(groups) else {
        return false;
    };
    let name = hand.novelty();
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATECONSUMER").arg(key).arg(group.name);
    hand.run(create.arg(name));
    true
}

fn acknowledged(hand: &mut Hand, key: &[u8]) -> bool {
    let pending = Stream::of(hand, key).pending();
    let Some((group, (id, ..))) = hand.choose(pending) else {
        return false;
    };
    hand.run(hand.cmd("XACK", key).arg(group.name).arg(id));
    true
}

/// XCLAIM that leaves the time of the delivery alone, as JUSTID leaves the count.
fn claim(hand: &Hand, key: &[u8], group: &Group, pending: &Pending, consumer: &[u8]) -> redis::Cmd {
    let mut claim = hand.cmd("XCLAIM", key);
    claim
        .arg(&group.name)
        .arg(consumer)
        .arg(0)
        .arg(&pending.0)
        .arg("TIME")
        .arg(pending.2)
        .arg("JUSTID");
    claim
}

fn claimed(hand: &mut Hand, key: &[u8]) -> bool {
    let pending = Stream::of(hand, key).pending();
    let Some((group, one)) = hand.choose(pending) else {
        return false;
    };
    // One that is there already, so that nothing else changes.
    let others: Vec<Vec<u8>> = group
        .consumers
        .iter()
        .filter(|consumer| **consumer != one.1)
        .cloned()
        .collect();
    let Some(other) = hand.choose(others) else {
        return false;
    };
    hand.run(&claim(hand, key, &group, &one, &other));
    true
}

fn delivered(hand: &mut Hand, key: &[u8]) -> bool {
    let pending = Stream::of(hand, key).pending();
    let Some((group, one)) = hand.choose(pending) else {
        return false;
    };
    let mut claim = claim(hand, key, &group, &one, &one.1);
    hand.run(claim.arg("RETRYCOUNT").arg(one.3 + 1));
    true
}
