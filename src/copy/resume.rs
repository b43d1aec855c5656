//! Is the stored position still worth anything? The rules of resuming, each with the reason that is shown.
//!
//! A server takes any number for a cursor and answers; only we can know that it means nothing any more. What a cursor
//! means depends on the hash seed of the process that issued it, and that seed dies with the process.
//!
//! # Invariant
//!
//! A stored cursor is continued only if its process is proven to be the same (`run_id`), or the cursor itself is
//! proven to be alive (the canary), or the operator has taken it upon himself (`--trust-cursor`).

use bytes::Bytes;

use crate::client::{LinkError, Reply, Wire};
use crate::plan::{KeyType, LanePlan};
use crate::progress::LaneDecision;
use crate::state::record::{CanaryBatch, LaneCheckpoint, Position, ServerIdentity};

/// Fewest names that may decide.
const NAMES_MIN: usize = 8;
/// Most SCAN calls of one canary, before growth is taken into account.
const CALLS_MAX: u64 = 4;
/// Chance of taking a dead cursor for a live one that is not accepted.
const FALSE_ACCEPT_MAX: f64 = 1e-6;

/// What the canary says of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canary {
    /// The names came back: same hash seed.
    Alive {
        /// How many names came back.
        names: usize,
    },
    /// Names that still exist did not come back.
    Dead {
        /// How many of them.
        missing: usize,
        /// Out of how many.
        names: usize,
    },
    /// Too few names, or too small a keyspace, to tell.
    Undecided(String),
}

/// Whether two answers come from the same server process; `None` where one of them can't be known.
pub fn same_process(before: &ServerIdentity, now: &ServerIdentity) -> Option<bool> {
    match (&before.run_id, &now.run_id) {
        (Some(before), Some(now)) => Some(before == now),
        _ => None,
    }
}

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
        return Ok((
            LaneDecision::Continue,
            "the source is the same process, its cursor is alive".to_owned(),
        ));
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

/// The filter that the stored names came through.
pub struct CanaryFilter<'a> {
    /// MATCH of the plan.
    pub match_glob: Option<&'a [u8]>,
    /// TYPE that the server filters by.
    pub scan_type: Option<KeyType>,
}

/// Scans once more from where the newest stored batches began and looks whether their names come back.
///
/// # Errors
///
/// Trouble with the connection, or an error reply: nothing is decided then.
pub async fn ask_canary(
    wire: &mut Wire,
    stored: &[CanaryBatch],
    filter: &CanaryFilter<'_>,
) -> Result<Canary, LinkError> {
    let keyspace = match wire.call(&[b"DBSIZE"]).await? {
        Reply::Integer(keys) => u64::try_from(keys).ok(),
        _ => None,
    };
    let mut why = "no keys were kept to try it with".to_owned();
    for batch in stored.iter().rev() {
        let alive = existing(wire, &batch.keys).await?;
        if alive.len() < NAMES_MIN {
            why = format!(
                "only {} of the keys kept to try it with still exist",
                alive.len()
            );
            continue;
        }
        return try_batch(wire, batch, alive, keyspace, filter).await;
    }
    Ok(Canary::Undecided(why))
}

/// PTTL rather than EXISTS: the copy needs the right to it anyway.
async fn existing(wire: &mut Wire, names: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, LinkError> {
    let commands: Vec<[&[u8]; 2]> = names
        .iter()
        .map(|name| [b"PTTL".as_slice(), name.as_slice()])
        .collect();
    let commands: Vec<&[&[u8]]> = commands.iter().map(|command| command.as_slice()).collect();
    let replies = wire.call_all(&commands).await?;
    Ok(names
        .iter()
        .zip(replies)
        .filter(|(_, reply)| matches!(reply, Reply::Integer(ms) if *ms != -2))
        .map(|(name, _)| name.clone())
        .collect())
}

async fn try_batch(
    wire: &mut Wire,
    batch: &CanaryBatch,
    mut missing: Vec<Vec<u8>>,
    keyspace: Option<u64>,
    filter: &CanaryFilter<'_>,
) -> Result<Canary, LinkError> {
    let names = missing.len();
    // A keyspace that has grown has more keys in the same range of hashes.
    let growth = match (keyspace, batch.keyspace) {
        (Some(now), Some(then)) => now.div_ceil(then.max(1)).max(1),
        _ => 2,
    };
    let mut cursor = batch.cursor_in;
    let mut returned = 0_u64;
    for _ in 0..CALLS_MAX.saturating_mul(growth) {
        let (next, keys) = scan(wire, cursor, batch.count, filter).await?;
        returned += keys.len() as u64;
        missing.retain(|name| !keys.iter().any(|key| key[..] == name[..]));
        cursor = next;
        if missing.is_empty() || cursor == 0 {
            break;
        }
    }
    if !missing.is_empty() {
        return Ok(Canary::Dead {
            missing: missing.len(),
            names,
        });
    }
    // Had the seed changed, each name would have come back with the share of the keyspace that was returned.
    let share = match keyspace {
        Some(keyspace) if keyspace > 0 => (returned as f64 / keyspace as f64).min(1.0),
        _ => 0.5,
    };
    if share.powf(names as f64) > FALSE_ACCEPT_MAX {
        return Ok(Canary::Undecided(format!(
            "{names} canary keys in a keyspace this small prove nothing"
        )));
    }
    Ok(Canary::Alive { names })
}

async fn scan(
    wire: &mut Wire,
    cursor: u64,
    count: u32,
    filter: &CanaryFilter<'_>,
) -> Result<(u64, Vec<Bytes>), LinkError> {
    let (cursor, count) = (cursor.to_string(), count.to_string());
    let mut args: Vec<&[u8]> = vec![b"SCAN", cursor.as_bytes(), b"COUNT", count.as_bytes()];
    if let Some(glob) = filter.match_glob {
        args.extend([b"MATCH".as_slice(), glob]);
    }
    if let Some(key_type) = filter.scan_type {
        args.extend([b"TYPE".as_slice(), key_type.name().as_bytes()]);
    }
    let reply = wire.call(&args).await?;
    let Reply::Array(parts) = reply else {
        return match reply {
            Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
            other => Err(LinkError::Unexpected("SCAN", format!("{other:?}"))),
        };
    };
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Reply::Bulk(digits)), Some(Reply::Array(names))) => {
            let next = std::str::from_utf8(&digits)
                .ok()
                .and_then(|digits| digits.parse().ok());
            let next = next.ok_or_else(|| {
                LinkError::Unexpected("SCAN", "a cursor that is no number".into())
            })?;
            let names = names.into_iter().filter_map(|name| match name {
                Reply::Bulk(name) => Some(name),
                _ => None,
            });
            Ok((next, names.collect()))
        }
        other => Err(LinkError::Unexpected("SCAN", format!("{other:?}"))),
    }
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
