//! Takes temporary names from the target once they are not needed any more.
//!
//! # Invariant
//!
//! A name is forgotten only after the target has said that it does not have it.

use std::rc::Rc;

use super::ends::End;
use super::target;
use crate::copy::engine::Context;
use crate::copy::link::Waited;
use crate::copy::lost_store;
use crate::endpoint::Side;
use crate::error::Error;
use crate::shutdown::StopReason;
use crate::state::record::{BigKeyId, BigRecord};

/// Takes all temporary names of a lane away: it is at its end.
pub async fn sweep(context: &Context, index: usize) -> Result<Option<StopReason>, Error> {
    let lane = index as u32;
    let recorder = context.recorder.handle();
    let found = recorder.with_store(move |store| store.big_keys(lane));
    let records = found.await.map_err(lost_store)??;
    if records.is_empty() {
        return Ok(None);
    }
    let db = context.request.plan.lanes[index].target_db;
    let mut target = End::new(&Rc::clone(&context.env), Side::Target, db);
    if let Waited::Stopped(reason) = clear(&mut target, &records).await? {
        return Ok(Some(reason));
    }
    let ids: Vec<BigKeyId> = records.into_iter().map(|(id, _)| id).collect();
    let forgotten = recorder.with_store(move |store| store.forget_big_keys(lane, &ids));
    forgotten.await.map_err(lost_store)??;
    Ok(None)
}

/// Takes the names of these records away.
pub(super) async fn clear(
    target: &mut End,
    records: &[(BigKeyId, BigRecord)],
) -> Result<Waited<()>, Error> {
    for (_, record) in records {
        loop {
            if let Waited::Stopped(reason) = target.connect(&record.mark).await? {
                return Ok(Waited::Stopped(reason));
            }
            let names = [&record.temporary[..], &record.mark[..]];
            let cleared = match target.control() {
                Ok(control) => target::clear(control, names).await,
                Err(broken) => Err(broken.error),
            };
            match cleared {
                Ok(()) => break,
                Err(error) => target.lost(error),
            }
        }
    }
    Ok(Waited::Ready(()))
}
