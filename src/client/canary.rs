//! Is a stored cursor alive? Asked of the server itself, where its identity can't decide.
//!
//! A server takes any number for a cursor and answers. What a cursor means depends on the hash seed of the process that
//! issued it; so some names that a SCAN returned are kept, and if they come back from the same cursor, the seed is the same.
//!
//! # Invariant
//!
//! Names that came back by accident, in a keyspace so small that everything comes back, are no proof.

use bytes::Bytes;

use super::cluster::still_there;
use super::wire::{LinkError, Reply, Wire};
use crate::plan::KeyType;
use crate::state::record::{CanaryBatch, ServerIdentity};

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

/// Whether two answers come from the same server process, or the later one from all processes of the earlier; `None` where one of them can't be known.
pub fn same_process(before: &ServerIdentity, now: &ServerIdentity) -> Option<bool> {
    match (&before.run_id, &now.run_id) {
        (Some(before), Some(now)) => match still_there(before, now) {
            Some(still_there) => Some(still_there),
            None => Some(before == now),
        },
        _ => None,
    }
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
