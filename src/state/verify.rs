//! Whether a checkpoint may be believed: its batches must lead to it, and the journal must know of nothing later.

use std::ops::ControlFlow;
use std::path::Path;

use super::chain::chain;
use super::engine::Engine;
use super::error::StoreError;
use super::layout;
use super::record::{BatchRecord, Foundation, LaneCheckpoint, Meta, Position};
use crate::audit::journal::{Known, Milestone, hex};
use crate::progress::Counters;

/// Refuses a store that holds less than the journal knows of.
pub(super) fn against_journal(
    dir: &Path,
    meta: &Meta,
    lanes: &[LaneCheckpoint],
    known: &Known,
) -> Result<(), StoreError> {
    let amnesia = |what: String| {
        Err(StoreError::Amnesia {
            what,
            kept: dir.to_owned(),
        })
    };
    if known.runs > meta.runs {
        return amnesia(format!(
            "the journal knows of run {}, the store of {}",
            known.runs, meta.runs
        ));
    }
    for (lane, milestone) in &known.lanes {
        let Some(checkpoint) = lanes.get(*lane as usize) else {
            let what = format!("the journal knows of lane {lane}, which the plan has not");
            return Err(StoreError::damaged(what, dir));
        };
        if (milestone.pass, milestone.next_seq) > (checkpoint.pass, checkpoint.next_seq) {
            return amnesia(format!(
                "lane {lane}: the journal knows of {}, the store of {}",
                standing(milestone.pass, milestone.next_seq),
                standing(checkpoint.pass, checkpoint.next_seq)
            ));
        }
    }
    Ok(())
}

/// Walks all batches of a lane; refuses a checkpoint that they do not lead to, or batches that are not those of the
/// journal's milestone. Returns the sums over all passes.
pub(super) fn against_batches(
    engine: &Engine,
    dir: &Path,
    lane: u32,
    checkpoint: &LaneCheckpoint,
    milestone: Option<&Milestone>,
    foundation: Option<&Foundation>,
) -> Result<Counters, StoreError> {
    let mut walk = Walk::new(lane, milestone);
    if let Some(foundation) = foundation {
        walk.stand_on(foundation);
    }
    let mut broken = None;
    let range = (layout::batches(lane, 0, 0), layout::batches(lane + 1, 0, 0));
    engine.visit(range, |key, value| match walk.step(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(what) => {
            broken = Some(what);
            ControlFlow::Break(())
        }
    })?;
    let total = walk.total;
    match broken.or_else(|| walk.end(checkpoint)) {
        None => Ok(total),
        Some(what) => Err(StoreError::damaged(format!("lane {lane}: {what}"), dir)),
    }
}

/// What is known after the batches so far.
struct Walk<'a> {
    lane: u32,
    /// What the journal knows of this lane.
    milestone: Option<&'a Milestone>,
    pass: u32,
    next_seq: u64,
    position: Position,
    counters: Counters,
    /// Over all passes.
    total: Counters,
    chain: [u8; 32],
}

impl<'a> Walk<'a> {
    fn new(lane: u32, milestone: Option<&'a Milestone>) -> Self {
        Self {
            lane,
            milestone: milestone.filter(|milestone| milestone.next_seq > 0),
            pass: 0,
            next_seq: 0,
            position: Position::Start,
            counters: Counters::default(),
            total: Counters::default(),
            chain: [0; 32],
        }
    }

    /// The batches before it are gone; it takes their place.
    fn stand_on(&mut self, foundation: &Foundation) {
        self.pass = foundation.pass;
        self.next_seq = foundation.next_seq;
        self.position = foundation.position;
        self.counters = foundation.counters;
        self.total = foundation.total;
        self.chain = foundation.chain;
    }

    /// Takes the batches of one record; says what is wrong with them.
    fn step(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (_, pass, first) = layout::parse_batches(key).ok_or("a batch has no number")?;
        let records: Vec<BatchRecord> = layout::decode(value)
            .ok_or_else(|| format!("batch {first} of pass {pass} can't be read"))?;
        if pass != self.pass {
            self.begin(pass);
        }
        if first != self.next_seq {
            return Err(format!("batch {} of pass {pass} is missing", self.next_seq));
        }
        records.iter().try_for_each(|record| self.take(record))
    }

    /// The batches of another pass follow; the chain goes on.
    fn begin(&mut self, pass: u32) {
        *self = Self {
            pass,
            total: self.total,
            chain: self.chain,
            ..Self::new(self.lane, self.milestone)
        };
    }

    fn take(&mut self, record: &BatchRecord) -> Result<(), String> {
        let (pass, seq) = (self.pass, self.next_seq);
        if self.position.cursor() != Some(record.cursor_in) {
            return Err(format!(
                "batch {seq} of pass {pass} does not begin where the one before it ends"
            ));
        }
        if record.chain != chain(&self.chain, self.lane, pass, seq, record) {
            return Err(format!("batch {seq} of pass {pass} breaks the chain"));
        }
        self.next_seq += 1;
        self.position = Position::after(record.cursor_out);
        self.counters.add(&record.counters);
        self.total.add(&record.counters);
        self.chain = record.chain;
        match self.milestone {
            Some(milestone)
                if (milestone.pass, milestone.next_seq) == (pass, self.next_seq)
                    && milestone.chain != hex(&self.chain) =>
            {
                Err(format!(
                    "batch {seq} of pass {pass} is not the one that the journal knows"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Says what in `checkpoint` is not what the batches lead to.
    fn end(mut self, checkpoint: &LaneCheckpoint) -> Option<String> {
        let newest = standing(self.pass, self.next_seq);
        if self.pass < checkpoint.pass {
            // That pass has no batches yet.
            self.begin(checkpoint.pass);
        }
        let fits = self.pass == checkpoint.pass
            && self.next_seq == checkpoint.next_seq
            && self.position == checkpoint.position
            && self.counters == checkpoint.counters
            && self.chain == checkpoint.chain;
        (!fits).then(|| {
            format!(
                "its checkpoint says {}, its batches lead to {newest}",
                standing(checkpoint.pass, checkpoint.next_seq),
            )
        })
    }
}

/// Where a lane stands, for messages: `batch 1041 of pass 2`.
fn standing(pass: u32, next_seq: u64) -> String {
    match next_seq.checked_sub(1) {
        Some(last) => format!("batch {last} of pass {pass}"),
        None => format!("the beginning of pass {pass}"),
    }
}
