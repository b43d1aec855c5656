//! What is said where the digests of a pass are kept in part only (`--record-digests`).
//!
//! They are no part of the plan: they change nothing of what arrives. So a run may begin or cease to keep them, and is told what
//! can't be proven then.

use super::Request;
use crate::error::Error;
use crate::state::Store;
use crate::state::record::{Phase, Position};

/// What the operator should know about the digests of the pass that goes on.
pub fn note(store: &Store, request: &Request) -> Result<Option<String>, Error> {
    let options = &request.options;
    let phase = store.meta().phase;
    let is_complete = phase == Phase::Copied;
    if is_complete && options.new_pass {
        return Ok(None);
    }
    let (mut batches, mut without) = (0, 0);
    for (lane, checkpoint) in (0..).zip(store.lanes()) {
        // One that has not begun its pass has nothing to be missed.
        if checkpoint.position != Position::Start {
            let coverage = store.recorded(lane)?;
            batches += coverage.batches;
            without += coverage.without;
        }
    }
    let kept = batches - without;
    Ok(match (options.record_digests, is_complete) {
        (true, true) if without > 0 => Some(
            "this migration was copied without --record-digests, and is complete: --new-pass copies it again and records"
                .to_owned(),
        ),
        (true, false) if without > 0 => Some(format!(
            "of {without} of the {batches} batches so far no digests were kept: redknot compare --recorded needs a whole pass with --record-digests (--new-pass, when this one is complete)"
        )),
        (false, false) if kept > 0 => Some(format!(
            "digests were kept of {kept} batches so far, and this run goes on without: redknot compare --recorded will refuse this pass (--record-digests keeps them)"
        )),
        _ => None,
    })
}
