//! Whether two servers hold the same, asked of the servers themselves.
//!
//! # Invariant
//!
//! Shares no code with the copy: the servers digest their values (`DEBUG DIGEST-VALUE`) and name their expiries, and
//! here they are only compared. Consumer groups, which that digest leaves out, are compared through `XINFO`.

use std::collections::HashMap;

use redis::{Connection, Pipeline, RedisResult, Value};

/// Keys asked for together.
const BATCH_KEYS: usize = 1_000;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Keys that both sides were asked for.
    pub compared: u64,
    /// Keys whose time ran out while they were compared: on neither side any more.
    pub expired: u64,
    /// Value or expiry is not the same, or a side does not have the key. At most [`SHOWN_MAX`] of them by name.
    pub differing: u64,
    /// Names of keys that differ.
    pub shown: Vec<Vec<u8>>,
    /// Keys that have an expiry.
    pub with_expiry: u64,
}

/// Differing keys that are kept by name.
pub const SHOWN_MAX: usize = 5;

/// How a server names expiries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiries {
    /// As a point in time, to the millisecond (since Redis 7.0).
    Absolute,
    /// As what is left when the server is asked, which is not the same instant on both sides.
    Relative,
}

/// By how much two answers to PTTL may differ, in milliseconds, if they mean the same expiry.
const RELATIVE_TOLERANCE_MS: u64 = 1_000;

/// What PTTL and PEXPIRETIME say of a key that does not exist.
const ABSENT: i64 = -2;

/// One key as a server describes it.
#[derive(Debug)]
struct Description {
    digest: String,
    expires: i64,
    /// `XINFO STREAM … FULL`, of streams.
    groups: Option<Value>,
}

impl Description {
    fn is_same(&self, other: &Self, expiries: Expiries) -> bool {
        let same_expiry = match expiries {
            Expiries::Absolute => self.expires == other.expires,
            // Below zero stands whether there is an expiry, or a key, at all.
            Expiries::Relative if self.expires < 0 || other.expires < 0 => {
                self.expires == other.expires
            }
            Expiries::Relative => self.expires.abs_diff(other.expires) <= RELATIVE_TOLERANCE_MS,
        };
        same_expiry && self.digest == other.digest && self.groups == other.groups
    }

    fn is_absent(&self) -> bool {
        self.expires == ABSENT
    }
}

/// Compares every key of both sides. `go_on` is told how many were compared so far; it ends once that says no.
pub fn compare(
    source: &mut Connection,
    target: &mut Connection,
    expiries: Expiries,
    go_on: impl Fn(u64) -> bool,
) -> RedisResult<Findings> {
    let mut both = Both {
        source,
        target,
        expiries,
        findings: Findings::default(),
    };
    let mut cursor = 0_u64;
    loop {
        let (next, keys) = scan(both.source, cursor)?;
        both.compare(&keys)?;
        cursor = next;
        if cursor == 0 || !go_on(both.findings.compared) {
            break;
        }
    }
    // The other way round: keys that only the target has.
    cursor = 0;
    loop {
        let (next, keys) = scan(both.target, cursor)?;
        let mut on_source = Pipeline::new();
        for key in &keys {
            on_source.cmd("EXISTS").arg(key);
        }
        let exists: Vec<bool> = if keys.is_empty() {
            Vec::new()
        } else {
            on_source.query(both.source)?
        };
        let extra: Vec<Vec<u8>> = keys
            .into_iter()
            .zip(exists)
            .filter(|(_, exists)| !exists)
            .map(|(key, _)| key)
            .collect();
        both.compare(&extra)?;
        cursor = next;
        if cursor == 0 || !go_on(both.findings.compared) {
            return Ok(both.findings);
        }
    }
}

fn scan(connection: &mut Connection, cursor: u64) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    redis::cmd("SCAN")
        .arg(cursor)
        .arg("COUNT")
        .arg(BATCH_KEYS)
        .query(connection)
}

struct Both<'a> {
    source: &'a mut Connection,
    target: &'a mut Connection,
    expiries: Expiries,
    findings: Findings,
}

impl Both<'_> {
    fn compare(&mut self, keys: &[Vec<u8>]) -> RedisResult<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let streams = streams(self.source, keys)?;
        let (source, target, expiries) = (&mut *self.source, &mut *self.target, self.expiries);
        // Both servers at the same time: digests take them longer than anything else here.
        let (on_source, on_target) = std::thread::scope(|scope| {
            let on_source = scope.spawn(|| describe(source, keys, &streams, expiries));
            let on_target = describe(target, keys, &streams, expiries);
            (on_source.join(), on_target)
        });
        let on_source = on_source.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let on_target = on_target?;
        self.findings.compared += keys.len() as u64;
        for ((key, left), right) in keys.iter().zip(on_source).zip(on_target) {
            if left.is_same(&right, self.expiries) {
                self.findings.with_expiry += u64::from(left.expires > 0);
            } else {
                self.look_again(key)?;
            }
        }
        Ok(())
    }

    /// A key may have come to its end between the two questions.
    fn look_again(&mut self, key: &Vec<u8>) -> RedisResult<()> {
        let key_alone = std::slice::from_ref(key);
        let streams = streams(self.source, key_alone)?;
        let left = describe(self.source, key_alone, &streams, self.expiries)?;
        let right = describe(self.target, key_alone, &streams, self.expiries)?;
        let same = left
            .iter()
            .zip(&right)
            .all(|(left, right)| left.is_same(right, self.expiries));
        let findings = &mut self.findings;
        if !same {
            findings.differing += 1;
            if findings.shown.len() < SHOWN_MAX {
                findings.shown.push(key.clone());
            }
        } else if left.iter().all(Description::is_absent) {
            findings.expired += 1;
        }
        Ok(())
    }
}

/// What the server says of each key, in the order of `keys`. `streams` are the places of the streams among them.
fn describe(
    connection: &mut Connection,
    keys: &[Vec<u8>],
    streams: &[usize],
    expiries: Expiries,
) -> RedisResult<Vec<Description>> {
    let expiry = match expiries {
        Expiries::Absolute => "PEXPIRETIME",
        Expiries::Relative => "PTTL",
    };
    let digests: Vec<String> = redis::cmd("DEBUG")
        .arg("DIGEST-VALUE")
        .arg(keys)
        .query(connection)?;
    let mut commands = Pipeline::new();
    for key in keys {
        commands.cmd(expiry).arg(key);
    }
    let expiries: Vec<i64> = commands.query(connection)?;
    let mut all = Vec::with_capacity(keys.len());
    for (digest, expires) in digests.into_iter().zip(expiries) {
        // DEBUG also finds keys whose time is up and that are not removed yet.
        let digest = if expires == ABSENT {
            String::new()
        } else {
            digest
        };
        all.push(Description {
            digest,
            expires,
            groups: None,
        });
    }
    if streams.is_empty() {
        return Ok(all);
    }
    let mut commands = Pipeline::new();
    for index in streams {
        commands
            .cmd("XINFO")
            .arg("STREAM")
            .arg(&keys[*index])
            .arg("FULL")
            .arg("COUNT")
            .arg(0);
    }
    // A stream that expired meanwhile is an error of its own, not of all the others.
    commands.ignore_errors();
    let answers: Vec<RedisResult<Value>> = commands.query(connection)?;
    for (index, answer) in streams.iter().zip(answers) {
        all[*index].groups = answer.ok();
    }
    Ok(all)
}

/// The places of the streams among `keys`.
fn streams(connection: &mut Connection, keys: &[Vec<u8>]) -> RedisResult<Vec<usize>> {
    let types = types_of(connection, keys)?.into_iter().enumerate();
    Ok(types
        .filter(|(_, name)| name == "stream")
        .map(|(index, _)| index)
        .collect())
}

fn types_of(connection: &mut Connection, keys: &[Vec<u8>]) -> RedisResult<Vec<String>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut commands = Pipeline::new();
    for key in keys {
        commands.cmd("TYPE").arg(key);
    }
    commands.query(connection)
}

/// How often each type occurs.
pub fn types(connection: &mut Connection) -> RedisResult<Vec<(String, u64)>> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut cursor = 0_u64;
    loop {
        let (next, keys) = scan(connection, cursor)?;
        let types = types_of(connection, &keys)?;
        for key_type in types {
            *counts.entry(key_type).or_default() += 1;
        }
        cursor = next;
        if cursor == 0 {
            counts.remove("none");
            let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
            counts.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
            return Ok(counts);
        }
    }
}

/// How many RESTOREs the server has executed.
pub fn restores(connection: &mut Connection) -> RedisResult<u64> {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(connection)?;
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_restore:calls="));
    let calls = calls.and_then(|rest| rest.split(',').next()?.parse().ok());
    Ok(calls.unwrap_or(0))
}
