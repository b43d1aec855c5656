//! What goes on around the reading of a big key: what the state is told, when the next piece may be read, what is shown.
//!
//! # Invariant
//!
//! A record is durable when it is returned from, and is forgotten only after the target has been cleared.

use std::time::{Duration, Instant};

use super::{Job, Work};
use crate::copy::big::mark::Mark;
use crate::copy::big::sweep::clear;
use crate::copy::link::Waited;
use crate::copy::lost_store;
use crate::copy::pieces::Reader;
use crate::error::Error;
use crate::key::Escaped;
use crate::pace::LOOK_AGAIN;
use crate::progress::BigKeyStatus;
use crate::state::record::{BigKeyId, BigRecord};

/// Finished keys whose names are taken away together.
const SWEPT_TOGETHER: usize = 16;

impl Work {
    // ---- the state

    /// Makes durable that the target may have these names from now on, and with `renaming` that the value may bear its own.
    pub(super) async fn record(&mut self, job: &Job<'_>, renaming: bool) -> Result<(), Error> {
        let record = BigRecord {
            pass: self.shared.lane.borrow().pass(),
            seq: job.big.key.seq,
            temporary: job.names.value.clone(),
            mark: job.names.mark.clone(),
            renaming,
        };
        if self.records.get(&job.id) == Some(&record) {
            return Ok(());
        }
        let (lane, id, stored) = (self.shared.index as u32, job.id, record.clone());
        let put = self
            .store()
            .with_store(move |store| store.put_big_key(lane, id, &stored));
        put.await.map_err(lost_store)??;
        self.records.insert(job.id, record);
        Ok(())
    }

    /// Forgets the keys whose batches are durable.
    pub(super) async fn forget_finished(&mut self) -> Result<Waited<()>, Error> {
        if self.finished.len() < SWEPT_TOGETHER {
            return Ok(Waited::Ready(()));
        }
        let next_seq = self.shared.durable.borrow().lanes[self.shared.index].next_seq;
        let mut old = Vec::new();
        self.finished.retain(|id| {
            let record = self.records.get(id);
            let is_old = record.is_none_or(|record| record.seq < next_seq);
            if let Some(record) = record.filter(|_| is_old) {
                old.push((*id, record.clone()));
            }
            !is_old
        });
        self.forget(old).await
    }

    pub(super) async fn forget(
        &mut self,
        records: Vec<(BigKeyId, BigRecord)>,
    ) -> Result<Waited<()>, Error> {
        if records.is_empty() {
            return Ok(Waited::Ready(()));
        }
        if let Waited::Stopped(reason) = clear(&mut self.target, &records).await? {
            return Ok(Waited::Stopped(reason));
        }
        let ids: Vec<BigKeyId> = records.into_iter().map(|(id, _)| id).collect();
        ids.iter().for_each(|id| drop(self.records.remove(id)));
        let lane = self.shared.index as u32;
        let forgotten = self
            .store()
            .with_store(move |store| store.forget_big_keys(lane, &ids));
        forgotten.await.map_err(lost_store)??;
        Ok(Waited::Ready(()))
    }

    // ---- pace

    /// Waits until the limits allow the next piece.
    pub(super) async fn pace(&self) {
        while !self.shared.lane.borrow_mut().may_read_piece(Instant::now()) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Leaves the source to others for as long as a guard says, after it was busy for so long.
    pub(super) async fn spare(&self, busy: Duration) {
        let pause = self.shared.env.pace.borrow().pause_after(busy);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) fn show(&self, job: &Job<'_>, reader: &Reader, mark: Mark) {
        let percent = match reader.length() {
            0 => 0.0,
            length => 100.0 * reader.done() as f64 / length as f64,
        };
        let plan = self.shared.env.request.plan.lanes[self.shared.index];
        self.shared.env.big_key.replace(Some(BigKeyStatus {
            db: plan.source_db,
            key: Escaped(&job.big.name).to_string(),
            bytes: job.big.bytes.max(mark.bytes),
            percent,
            readings: job.changed + 1,
        }));
    }
}
