//! The batches of one lane, walked as far as the journal's milestones go and added up on the way.

use std::ops::RangeInclusive;

use super::{Checked, LaneChecked, Place};
use crate::audit::entry::{Milestone, hex};
use crate::progress::Counters;
use crate::state::StoreError;
use crate::state::inspect::{Batches, Inspection, Numbered, Unreadable};
use crate::state::record::{Foundation, LaneCheckpoint, Position};

/// What is known of a lane after the batches so far.
pub(super) struct Walk {
    lane: u32,
    batches: Batches,
    pub pass: u32,
    pub next_seq: u64,
    position: Position,
    pub counters: Counters,
    /// Over all passes.
    pub total: Counters,
    chain: [u8; 32],
    walked: u64,
    /// A misfit was met: what follows it would only repeat that.
    broken: bool,
    /// Lines about quarantined keys since the last milestone.
    pub quarantined_told: u64,
    /// Lines about quarantined keys over all milestones.
    pub told_quarantined: u64,
    /// The batches up to here were lost; milestones before it have to be believed. Empty once they are behind us.
    lost: Option<Foundation>,
}

impl Walk {
    pub(super) fn new(state: &Inspection, lane: u32, foundation: Option<Foundation>) -> Self {
        Self {
            lane,
            batches: state.batches(lane),
            pass: 0,
            next_seq: 0,
            position: Position::Start,
            counters: Counters::default(),
            total: Counters::default(),
            chain: [0; 32],
            walked: 0,
            broken: false,
            quarantined_told: 0,
            told_quarantined: 0,
            lost: foundation,
        }
    }

    /// Whether a misfit was met.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The run of the next batch, if there is one.
    pub(super) fn next_run(&mut self, state: &Inspection) -> Result<Option<u32>, StoreError> {
        if self.broken || self.lost.is_some() {
            return Ok(None);
        }
        Ok(match self.batches.peek(state)? {
            Ok(Some(next)) => Some(next.record.run),
            // It is met again when it is taken.
            Ok(None) | Err(_) => None,
        })
    }

    /// Walks up to, without, batch `to` of its pass. The batches must be of one of `runs`.
    pub(super) fn advance(
        &mut self,
        state: &Inspection,
        to: (u32, u64),
        runs: &RangeInclusive<u32>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        self.walk(state, to, runs, checked)?;
        if !self.broken && self.pass < to.0 {
            self.begin(to.0);
        }
        Ok(())
    }

    fn walk(
        &mut self,
        state: &Inspection,
        to: (u32, u64),
        runs: &RangeInclusive<u32>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let recorded_from = state.recorded_from(self.lane)?;
        while !self.broken && self.lost.is_none() {
            match self.batches.peek(state)? {
                Ok(Some(next)) if (next.pass, next.seq) < to => {}
                Ok(_) => break,
                Err(Unreadable(what)) => {
                    let place = self.place();
                    self.fail(place, what, checked);
                    return Ok(());
                }
            }
            if let Ok(Some(next)) = self.batches.next(state)? {
                let kept = next.pass < recorded_from || state.recorded_fits(self.lane, &next)?;
                self.take(&next, kept, runs, checked);
            }
        }
        Ok(())
    }

    /// Walks to the end.
    pub(super) fn finish(
        &mut self,
        state: &Inspection,
        runs: &RangeInclusive<u32>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        self.stand();
        self.walk(state, (u32::MAX, u64::MAX), runs, checked)
    }

    /// The lost batches are behind us, if some were: what was told of the last of them stands for all.
    fn stand(&mut self) {
        if let Some(foundation) = self.lost.take() {
            self.pass = foundation.pass;
            self.next_seq = foundation.next_seq;
            self.position = foundation.position;
            self.counters = foundation.counters;
            self.total = foundation.total;
            self.chain = foundation.chain;
        }
    }

    /// The journal says that the state was made anew from this milestone.
    pub(super) fn rebuilt(&mut self, milestone: &Milestone, number: u64, checked: &mut Checked) {
        self.quarantined_told = 0;
        let at = (milestone.pass, milestone.next_seq);
        if self
            .lost
            .is_some_and(|lost| (lost.pass, lost.next_seq) == at)
        {
            self.stand();
        }
        self.compare(milestone, number, checked);
    }

    /// Compares with what the journal tells on line `number`.
    pub(super) fn compare(&mut self, milestone: &Milestone, number: u64, checked: &mut Checked) {
        if self.broken {
            return;
        }
        let here = Place::Line(number);
        if self.lost.is_some() {
            return self.believe(milestone, here, checked);
        }
        if (self.pass, self.next_seq) != (milestone.pass, milestone.next_seq) {
            let what = format!(
                "it knows of {} batches of pass {} of lane {}, the state has {} of pass {}",
                milestone.next_seq, milestone.pass, self.lane, self.next_seq, self.pass
            );
            return self.fail(here, what, checked);
        }
        let cursor = match self.position {
            Position::Start => None,
            Position::At(cursor) => Some(cursor.get()),
            Position::End => Some(0),
        };
        let fields = [
            ("chain hash", milestone.chain == hex(&self.chain)),
            ("cursor", milestone.cursor == cursor),
            ("counters", milestone.counters == self.counters),
            (
                "counters of all passes",
                milestone.counters_of_all_passes == self.total,
            ),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, fits)| !fits) {
            let what = format!(
                "its {field} of lane {} are not those of the {} batches before it",
                self.lane, self.next_seq
            );
            self.fail(here, what, checked);
        }
    }

    /// Takes a milestone whose batches are gone as it is; it can only be behind the one before it by mistake.
    fn believe(&mut self, milestone: &Milestone, here: Place, checked: &mut Checked) {
        let before = (self.pass, self.next_seq);
        if (milestone.pass, milestone.next_seq) < before {
            let what = format!("lane {} was further on before it", self.lane);
            return self.fail(here, what, checked);
        }
        self.pass = milestone.pass;
        self.next_seq = milestone.next_seq;
        self.position = milestone.cursor.map_or(Position::Start, Position::after);
        self.counters = milestone.counters;
        self.total = milestone.counters_of_all_passes;
    }

    /// Compares with what the state says of the lane.
    pub(super) fn compare_checkpoint(
        &mut self,
        checkpoint: &LaneCheckpoint,
        checked: &mut Checked,
    ) {
        if self.broken {
            return;
        }
        if self.pass < checkpoint.pass {
            self.begin(checkpoint.pass);
        }
        let fields = [
            ("pass", checkpoint.pass == self.pass),
            ("number of batches", checkpoint.next_seq == self.next_seq),
            ("position", checkpoint.position == self.position),
            ("counters", checkpoint.counters == self.counters),
            ("chain hash", checkpoint.chain == self.chain),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, fits)| !fits) {
            let place = Place::Record(format!("the checkpoint of lane {}", self.lane));
            let what = format!("its {field} is not what its batches lead to");
            self.fail(place, what, checked);
        }
    }

    pub(super) fn checked(&self) -> LaneChecked {
        LaneChecked {
            pass: self.pass,
            batches: self.walked,
            counters: self.counters,
            chain: hex(&self.chain),
        }
    }

    /// Whether the lane is at the end of its pass.
    pub(super) fn is_at_end(&self) -> bool {
        self.position == Position::End
    }

    /// The batches of another pass follow; the chain goes on.
    pub(super) fn begin(&mut self, pass: u32) {
        self.pass = pass;
        self.next_seq = 0;
        self.position = Position::Start;
        self.counters = Counters::default();
    }

    /// Takes the next batch; `kept` says whether what is kept of its keys is what it is bound to.
    fn take(
        &mut self,
        batch: &Numbered,
        kept: bool,
        runs: &RangeInclusive<u32>,
        checked: &mut Checked,
    ) {
        if batch.pass != self.pass {
            self.begin(batch.pass);
        }
        let record = &batch.record;
        let wrong = if batch.seq != self.next_seq {
            Some(format!(
                "it is missing: batch {} follows instead",
                batch.seq
            ))
        } else if self.position.cursor() != Some(record.cursor_in) {
            Some("it does not begin where the one before it ends".to_owned())
        } else if record.chain != batch.chain_after(&self.chain, self.lane) {
            Some("its chain hash is not that of its fields and the batch before it".to_owned())
        } else if !kept {
            Some("the digests of its keys are not those that it was recorded with".to_owned())
        } else if !record.counters.balance() {
            Some("its accounts do not add up".to_owned())
        } else if !runs.contains(&record.run) {
            Some(format!(
                "it is of run {}, and the journal counts it to run {}",
                record.run,
                runs.end()
            ))
        } else {
            None
        };
        if let Some(what) = wrong {
            let place = self.place();
            return self.fail(place, what, checked);
        }
        self.next_seq += 1;
        self.walked += 1;
        self.position = Position::after(record.cursor_out);
        self.counters.add(&record.counters);
        self.total.add(&record.counters);
        self.chain = record.chain;
    }

    /// The batch that is expected next.
    fn place(&self) -> Place {
        Place::Batch {
            lane: self.lane,
            pass: self.pass,
            seq: self.next_seq,
        }
    }

    fn fail(&mut self, place: Place, what: impl Into<String>, checked: &mut Checked) {
        self.broken = true;
        checked.misfit(place, what);
    }
}
