//! The last stage of a lane: what differed is read again, in rounds, until each key has its verdict.
//!
//! # Invariant
//!
//! Of the candidates only a page is in memory, and of their values those of few at a time.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::engine::{End, Shared, Traffic};
use super::judge::Judged;
use super::link::Env;
use super::names::Names;
use super::recheck::{Next, decide, due_ms, finding};
use super::rivals::Others;
use super::walk::next_stage;
use super::{Context, FoundKey, lost_store};
use crate::client::handshake::unix_ms;
use crate::digest::KeyspaceDigest;
use crate::error::Error;
use crate::key::Escaped;
use crate::progress::Verdict;
use crate::state::record::CompareLane;
use crate::state::{Candidate, CompareCommit};

/// Candidates that are read from the disk at once.
const PAGE_KEYS: usize = 256;
/// Bytes of values that are asked for together, as far as they are known; one larger value is asked for alone.
const PAGE_BYTES: u64 = 1024 * 1024;
/// What a value of unknown size is taken for.
const UNKNOWN_BYTES: u64 = 16 * 1024;
/// How often progress is told while nothing is due.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Reads candidates again until none waits; the checkpoint is at the next stage then, durably.
pub async fn recheck(
    context: &mut Context,
    shared: &Rc<Shared>,
    traffic: &mut Traffic,
    checkpoint: &mut CompareLane,
) -> Result<(), End> {
    let settle = context.env.request.options.settle;
    let others = Others::of(&context.env, shared.index);
    let mut after = None;
    let mut next_due = u64::MAX;
    let mut told = std::time::Instant::now();
    context.tell();
    loop {
        let lane = shared.index as u32;
        let page = context
            .recorder
            .with_store(move |store| store.candidates(lane, after, PAGE_KEYS))
            .await
            .map_err(lost_store)
            .map_err(End::from)?
            .map_err(Error::from)?;
        let last = page.len() < PAGE_KEYS;
        after = page.last().map(|candidate| candidate.id);
        let now = unix_ms();
        let (due, later): (Vec<Candidate>, Vec<Candidate>) = page
            .into_iter()
            .partition(|candidate| due_ms(&candidate.record, settle) <= now);
        for candidate in later {
            next_due = next_due.min(due_ms(&candidate.record, settle));
        }
        for part in parts(due) {
            let settled = read(context, shared, traffic, &part).await?;
            let taken = taken(&context.env, &others, &part, &settled).await?;
            book(context, shared, checkpoint, part, settled, &taken).await?;
            if told.elapsed() >= TELL_EVERY {
                told = std::time::Instant::now();
                context.tell();
            }
        }
        if !last {
            continue;
        }
        // The end of a round.
        after = None;
        if checkpoint.counters.candidates == 0 {
            return next_stage(context, shared.index, checkpoint)
                .await
                .map_err(End::from);
        }
        wait(context, traffic, next_due).await?;
        next_due = u64::MAX;
    }
}

/// Cuts a page so that each part's values have a bounded number of bytes.
fn parts(page: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut parts: Vec<Vec<Candidate>> = Vec::new();
    let mut bytes = u64::MAX;
    for candidate in page {
        let expected = match candidate.record.payload_bytes {
            0 => UNKNOWN_BYTES,
            known => known,
        };
        bytes = bytes.saturating_add(expected);
        match parts.last_mut() {
            Some(part) if bytes <= PAGE_BYTES => part.push(candidate),
            _ => {
                bytes = expected;
                parts.push(vec![candidate]);
            }
        }
    }
    parts
}

/// Waits until the next candidate is due; at most as long as progress may go untold.
async fn wait(context: &mut Context, traffic: &mut Traffic, next_due: u64) -> Result<(), End> {
    let mut shutdown = context.env.shutdown.clone();
    let mut left = Duration::from_millis(next_due.saturating_sub(unix_ms()));
    // Candidates that were just read again have not been looked at for when they are due.
    left = left
        .min(context.env.request.options.settle)
        .max(Duration::from_millis(5));
    while !left.is_zero() {
        let step = left.min(TELL_EVERY);
        left -= step;
        tokio::select! {
            () = tokio::time::sleep(step) => {}
            ended = traffic.ended() => return Err(ended),
            reason = shutdown.wait() => return Err(End::Stopped(reason)),
        }
        context.tell();
    }
    Ok(())
}

/// What reading a part of the candidates again has shown.
struct Read {
    judged: Vec<(u32, Judged)>,
    details: HashMap<u32, String>,
}

async fn read(
    context: &mut Context,
    shared: &Shared,
    traffic: &mut Traffic,
    part: &[Candidate],
) -> Result<Read, End> {
    let mut names = Names::default();
    for candidate in part {
        names.push(&candidate.name);
    }
    shared.lane.borrow_mut().push_page(names);
    shared.wake();
    let mut shutdown = context.env.shutdown.clone();
    // Limits may let it last.
    let mut told = tokio::time::interval_at(tokio::time::Instant::now() + TELL_EVERY, TELL_EVERY);
    loop {
        let finished = shared.lane.borrow_mut().take_finished();
        if let Some(batch) = finished {
            let mut lane = shared.lane.borrow_mut();
            lane.durable(1);
            let details = lane.take_details();
            return Ok(Read {
                judged: batch.judged,
                details: details.into_iter().collect(),
            });
        }
        tokio::select! {
            () = shared.settled.notified() => {}
            _ = told.tick() => context.tell(),
            ended = traffic.ended() => return Err(ended),
            // What was asked is forgotten: the candidates stay what they are.
            reason = shutdown.wait() => return Err(End::Stopped(reason)),
        }
    }
}

/// For each candidate that still differs the database to which its name belongs instead of this lane's, if there is one.
async fn taken(
    env: &Env,
    others: &Others,
    part: &[Candidate],
    read: &Read,
) -> Result<HashMap<u32, u32>, End> {
    let mut taken = HashMap::new();
    for extra in [false, true] {
        let differ: Vec<u32> = read
            .judged
            .iter()
            .filter(|(_, judged)| match judged {
                Judged::Differs(difference) => (difference.verdict == Verdict::Extra) == extra,
                _ => false,
            })
            .map(|(index, _)| *index)
            .collect();
        let name = |index: &u32| part[*index as usize].name.clone();
        let names: Vec<Vec<u8>> = differ.iter().map(name).collect();
        let found = match extra {
            true => others.elsewhere(env, &names).await?,
            false => others.in_the_way(env, &names).await?,
        };
        let found = differ.into_iter().zip(found);
        taken.extend(found.filter_map(|(index, db)| Some((index, db?))));
    }
    Ok(taken)
}

/// Makes durable what became of each candidate, and tells what was found.
async fn book(
    context: &mut Context,
    shared: &Rc<Shared>,
    checkpoint: &mut CompareLane,
    part: Vec<Candidate>,
    read: Read,
    taken: &HashMap<u32, u32>,
) -> Result<(), End> {
    let mut commit = CompareCommit {
        lane: shared.index as u32,
        checkpoint: checkpoint.clone(),
        canary: false,
        candidates: Vec::new(),
        reread: Vec::new(),
        settled: Vec::new(),
        findings: Vec::new(),
    };
    for (index, judged) in read.judged {
        let candidate = &part[index as usize];
        if taken.contains_key(&index) {
            book_taken(&mut commit, candidate, &judged);
            continue;
        }
        let detail = read.details.get(&index).map(String::as_str);
        book_one(&mut commit, candidate, judged, detail);
    }
    let db = context.env.request.plan.lanes[shared.index].source_db;
    let found: Vec<FoundKey> = commit
        .findings
        .iter()
        .map(|(name, record)| FoundKey {
            db,
            key: Escaped(name).to_string(),
            verdict: record.verdict,
            key_type: record.key_type.clone(),
            detail: record.detail.clone(),
        })
        .collect();
    *checkpoint = commit.checkpoint.clone();
    crate::crash_point!("rechecked_before_state_write");
    let durable = context
        .recorder
        .with_store(move |store| store.commit_compare(commit))
        .await
        .map_err(lost_store)
        .map_err(End::from)?
        .map_err(Error::from)?;
    context.durable(shared.index, durable);
    for found in found {
        context.found(found);
    }
    Ok(())
}

/// What the target has under this name is another database's.
fn book_taken(commit: &mut CompareCommit, candidate: &Candidate, judged: &Judged) {
    let counters = &mut commit.checkpoint.counters;
    let scanned = u64::from(candidate.record.from_target);
    counters.candidates -= 1;
    commit.settled.push(candidate.name.clone());
    match judged {
        // This lane's database does not have it, or not any more.
        Judged::Differs(difference) if difference.verdict == Verdict::Extra => {
            counters.vanished += 1 - scanned;
        }
        _ => {
            counters.keys_scanned += scanned;
            counters.collided += 1;
        }
    }
}

fn book_one(
    commit: &mut CompareCommit,
    candidate: &Candidate,
    judged: Judged,
    detail: Option<&str>,
) {
    let Candidate { id, name, record } = candidate;
    let lane = &mut commit.checkpoint;
    let counters = &mut lane.counters;
    // A key that only the walk of the target met, and that turns out to be the source's as well, counts as scanned.
    let scanned = u64::from(record.from_target);
    if let Judged::Differs(difference) = &judged {
        let verdict = match decide(record, difference) {
            Next::Wait(record) => {
                commit.reread.push((*id, record));
                return;
            }
            Next::Found(verdict) => verdict,
        };
        counters.candidates -= 1;
        match verdict {
            Verdict::Extra => counters.vanished += 1 - scanned,
            _ => counters.keys_scanned += scanned,
        }
        counters.count(verdict);
        if let Some(both) = difference.lives {
            lane.lives.count(both);
        }
        for (side, keys) in [(0, &mut lane.source_keys), (1, &mut lane.target_keys)] {
            if let Some(seen) = &difference.sides[side] {
                keys.add(name, &seen.digest);
            }
        }
        let finding = finding(verdict, difference, detail);
        commit.findings.push((name.clone(), finding));
        return;
    }
    counters.candidates -= 1;
    commit.settled.push(name.clone());
    match judged {
        Judged::Equal {
            digest,
            other_bytes,
            lives,
        } => {
            if let Some(both) = lives {
                lane.lives.count(both);
            }
            counters.keys_scanned += scanned;
            counters.keys_compared += 1;
            counters.equal += 1;
            counters.settled += 1;
            counters.equal_other_bytes += u64::from(other_bytes);
            let since = unix_ms().saturating_sub(record.first_ms);
            counters.settled_ms_max = counters.settled_ms_max.max(since);
            let mut one = KeyspaceDigest::default();
            one.add(name, &digest);
            lane.source_keys.merge(&one);
            lane.target_keys.merge(&one);
        }
        Judged::Gone => counters.vanished += 1 - scanned,
        Judged::Filtered => counters.filtered += 1 - scanned,
        Judged::NotCompared => {
            counters.keys_scanned += scanned;
            counters.not_compared += 1;
        }
        Judged::Differs(_) => unreachable!("handled above"),
    }
}
