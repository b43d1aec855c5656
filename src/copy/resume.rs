//! Is the stored position still worth anything? The rules of resuming, each with the reason that is shown.
//!
//! A server takes any number for a cursor and answers; only we can know that it means nothing any more. What a cursor
//! means depends on the hash seed of the process that issued it, and that seed dies with the process.
//!
//! # Invariant
//!
//! A stored cursor is continued only if its process is proven to be the same (`run_id`), or the cursor itself is
//! proven to be alive (the canary), or the operator has taken it upon himself (`--trust-cursor`).

use crate::client::LinkError;
use crate::client::canary::{Canary, same_process};
use crate::client::cluster::SLOTS_IDENTITY;
use crate::plan::LanePlan;
use crate::progress::LaneDecision;
use crate::state::record::{LaneCheckpoint, Position, ServerIdentity};

/// Decides where a lane starts in this run and says why.
///
/// `canary` is asked only where `run_id` can't decide.
pub async fn decide<F>(
    lane: LanePlan,
    checkpoint: &LaneCheckpoint,
    source: &ServerIdentity,
    trust_cursor: bool,
    canary: F,
) -> Result<(LaneDecision, String), LinkError>
where
    F: AsyncFnOnce() -> Result<Canary, LinkError>,
{
    let db = lane.source_db;
    if checkpoint.pass == 0 {
        return Ok((
            LaneDecision::Begin,
            format!("database {db} has not been scanned yet"),
        ));
    }
    if checkpoint.position == Position::End {
        return Ok((
            LaneDecision::Finished,
            format!("database {db} was scanned to its end"),
        ));
    }
    let same = same_process(&checkpoint.source, source);
    if same == Some(true) {
        let reason = match source.run_id.as_deref() {
            Some(SLOTS_IDENTITY) => "the source is a cluster, whose slots outlive processes",
            _ => "the source is the same process, its cursor is alive",
        };
        return Ok((LaneDecision::Continue, reason.to_owned()));
    }
    if checkpoint.position == Position::Start {
        return Ok((
            LaneDecision::Continue,
            "nothing had been scanned yet, so no cursor is needed".to_owned(),
        ));
    }
    let changed = match same {
        Some(_) => "the source is another process than before (run_id changed)",
        None => "the source's process can't be identified (no run_id)",
    };
    if trust_cursor {
        let reason = format!("{changed}; continued on trust, keys may be missed (--trust-cursor)");
        return Ok((LaneDecision::Continue, reason));
    }
    Ok(match canary().await? {
        Canary::Alive { names } => {
            let reason =
                format!("{changed}, but all {names} canary keys came back: the cursor is alive");
            (LaneDecision::Continue, reason)
        }
        Canary::Dead { missing, names } => {
            let reason = format!(
                "{changed}, and {missing} of {names} canary keys did not come back: the cursor is dead"
            );
            (LaneDecision::NewPass, reason)
        }
        Canary::Undecided(why) => (
            LaneDecision::NewPass,
            format!("{changed}, and {why}: the cursor is not trusted"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn identity(run_id: Option<&str>) -> ServerIdentity {
        ServerIdentity {
            run_id: run_id.map(str::to_owned),
            version: "redis 7.0.15".into(),
        }
    }

    fn checkpoint(position: Position, run_id: Option<&str>) -> LaneCheckpoint {
        LaneCheckpoint {
            pass: 1,
            position,
            next_seq: 3,
            source: identity(run_id),
            target: identity(Some("t")),
            counters: Default::default(),
            makeup: Default::default(),
            canary: vec![],
            chain: [0; 32],
        }
    }

    async fn decided(
        checkpoint: &LaneCheckpoint,
        now: Option<&str>,
        trust: bool,
        canary: Option<Canary>,
    ) -> LaneDecision {
        let lane = LanePlan {
            source_db: 0,
            target_db: 0,
        };
        let now = identity(now);
        let ask = async || Ok(canary.expect("the canary is not asked where run_id decides"));
        decide(lane, checkpoint, &now, trust, ask)
            .await
            .expect("no link is involved")
            .0
    }

    #[tokio::test]
    async fn a_cursor_is_continued_only_with_proof() {
        let at = Position::At(NonZeroU64::MIN);
        let alive = || Some(Canary::Alive { names: 64 });
        let dead = || {
            Some(Canary::Dead {
                missing: 60,
                names: 64,
            })
        };
        let undecided = || Some(Canary::Undecided("too few".into()));
        let old = checkpoint(at, Some("a"));
        assert_eq!(
            decided(&old, Some("a"), false, None).await,
            LaneDecision::Continue
        );
        assert_eq!(
            decided(&old, Some("b"), false, alive()).await,
            LaneDecision::Continue
        );
        assert_eq!(
            decided(&old, Some("b"), false, dead()).await,
            LaneDecision::NewPass
        );
        assert_eq!(
            decided(&old, Some("b"), false, undecided()).await,
            LaneDecision::NewPass
        );
        assert_eq!(
            decided(&old, Some("b"), true, None).await,
            LaneDecision::Continue
        );
        let hidden = checkpoint(at, None);
        assert_eq!(
            decided(&hidden, None, false, alive()).await,
            LaneDecision::Continue
        );
        assert_eq!(
            decided(&hidden, None, false, dead()).await,
            LaneDecision::NewPass
        );
        assert_eq!(
            decided(&hidden, Some("a"), false, undecided()).await,
            LaneDecision::NewPass
        );
    }

    #[tokio::test]
    async fn a_slot_needs_no_proof_but_only_a_cluster_has_slots() {
        let at = Position::At(NonZeroU64::MIN);
        let slot = checkpoint(at, Some(SLOTS_IDENTITY));
        assert_eq!(
            decided(&slot, Some(SLOTS_IDENTITY), false, None).await,
            LaneDecision::Continue
        );
        let undecided = || Some(Canary::Undecided("there are none".into()));
        assert_eq!(
            decided(&slot, Some("a"), false, undecided()).await,
            LaneDecision::NewPass
        );
        let cursor = checkpoint(at, Some("a"));
        assert_eq!(
            decided(&cursor, Some(SLOTS_IDENTITY), false, undecided()).await,
            LaneDecision::NewPass
        );
    }

    #[tokio::test]
    async fn positions_without_a_cursor_need_no_proof() {
        assert_eq!(
            decided(
                &checkpoint(Position::Start, Some("a")),
                Some("b"),
                false,
                None
            )
            .await,
            LaneDecision::Continue
        );
        assert_eq!(
            decided(
                &checkpoint(Position::End, Some("a")),
                Some("b"),
                false,
                None
            )
            .await,
            LaneDecision::Finished
        );
    }
}
