//! Is a key that the target already has our own write?
//!
//! Asked only where keys must not be overwritten and a run, or a connection, ended without telling what it had
//! written. If both sides hold the same value, it does not matter whose it is.
//!
//! # Invariant
//!
//! Nothing is written here.

use std::time::Duration;

use redis::Value;

use crate::client::LinkError;
use crate::client::control::{Control, text};
use crate::client::handshake::unix_ms;
use crate::client::sizes::SAMPLES;
use crate::digest::{Comparison, DigestRules, KeyDigest};
use crate::gentle::{Look, Read, Reader, is_change, unchanged, watch};
use crate::resp::ErrorCode;

/// Readings of a big key that changes each time, before it is left to DUMP.
const CHANGES_MAX: u32 = 5;
/// How long a reading is expected to take at most: fields that expire later are expected to be there at its end.
const READING: Duration = Duration::from_secs(600);

/// Whether the source holds the same value under the first of `names` as the target under the second, compared by what the type's own read command returns.
/// Keys from `big` bytes on are read in small answers on both sides, if they can be.
///
/// # Errors
///
/// Trouble with one of the connections: nothing is decided then.
pub async fn same_value(
    source: &mut Control,
    target: &mut Control,
    names: [&[u8]; 2],
    big: Option<u64>,
) -> Result<bool, LinkError> {
    let [here, there] = names;
    if let Some(big) = big
        && (is_big(source, here, big).await? || is_big(target, there, big).await?)
    {
        for _ in 0..CHANGES_MAX {
            match read_gently(source, target, names).await {
                Ok(Gently::Same(same)) => return Ok(same),
                Ok(Gently::Changed) => {}
                Ok(Gently::Whole) => break,
                // It became another one between two questions.
                Err(error) if is_change(&error) => {}
                Err(error) if is_refusal(&error) => break,
                Err(error) => return Err(error),
            }
        }
    }
    let dump =
        async |control: &mut Control, key: &[u8]| control.ask(redis::cmd("DUMP").arg(key)).await;
    // Equal bytes are equal values; unequal bytes say nothing, since tables are dumped in an order of their own.
    let (a, b) = (dump(source, here).await?, dump(target, there).await?);
    if a == b {
        return Ok(true);
    }
    let kind = text(&source.ask(redis::cmd("TYPE").arg(here)).await?);
    if kind != text(&target.ask(redis::cmd("TYPE").arg(there)).await?) {
        return Ok(false);
    }
    let (Some(read_here), Some(read_there)) =
        (read_command(&kind, here), read_command(&kind, there))
    else {
        return Ok(false);
    };
    let a = in_order(&kind, source.ask(&read_here).await?);
    let b = in_order(&kind, target.ask(&read_there).await?);
    Ok(a == b)
}

/// What a reading of a big key came to.
enum Gently {
    /// Whether both sides have the same.
    Same(bool),
    /// It changed meanwhile.
    Changed,
    /// It can't be read so.
    Whole,
}

async fn is_big(server: &mut Control, name: &[u8], big: u64) -> Result<bool, LinkError> {
    let mut usage = redis::cmd("MEMORY");
    usage.arg("USAGE").arg(name).arg("SAMPLES").arg(SAMPLES);
    match server.ask(&usage).await {
        Ok(Value::Int(bytes)) => Ok(u64::try_from(bytes).is_ok_and(|bytes| bytes >= big)),
        Ok(_) => Ok(false),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a server does not serve a command, or not to this user.
fn is_refusal(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::Reply(
            ErrorCode::NoPerm | ErrorCode::NoPermKey | ErrorCode::UnknownCommand,
            _
        )
    )
}

/// Reads both values under a WATCH of each and compares their digests, without the expiries of fields.
async fn read_gently(
    source: &mut Control,
    target: &mut Control,
    names: [&[u8]; 2],
) -> Result<Gently, LinkError> {
    let [here, there] = names;
    watch(source, here).await?;
    watch(target, there).await?;
    let looks = (
        Reader::look(source, here).await?,
        Reader::look(target, there).await?,
    );
    let (one, other) = match looks {
        (Look::Found(one), Look::Found(other)) => (one, other),
        (Look::Whole(_), _) | (_, Look::Whole(_)) => return Ok(Gently::Whole),
        (Look::Gone, Look::Gone) => return Ok(Gently::Same(true)),
        (Look::Gone, _) | (_, Look::Gone) => return Ok(Gently::Same(false)),
    };
    if one.kind() != other.kind() {
        return Ok(Gently::Same(false));
    }
    let now_ms = unix_ms() as i64;
    let rules = DigestRules {
        now_ms,
        field_expiries: false,
        stream_level: one.level().min(other.level()),
    };
    let horizon_ms = now_ms.saturating_add(READING.as_millis() as i64);
    let (one, other) = tokio::try_join!(
        one.read(source, rules, horizon_ms, None),
        other.read(target, rules, horizon_ms, None)
    )?;
    let (one, other) = match (one, other) {
        (Read::Value(one, _), Read::Value(other, _)) => (one, other),
        (Read::Whole(_), _) | (_, Read::Whole(_)) => return Ok(Gently::Whole),
        _ => return Ok(Gently::Changed),
    };
    let stood_still = (
        unchanged(source, None).await?,
        unchanged(target, None).await?,
    );
    let digests: (Option<KeyDigest>, Option<KeyDigest>) =
        (one.finish(unix_ms() as i64), other.finish(unix_ms() as i64));
    Ok(match (stood_still, digests) {
        ((Some(_), Some(_)), (Some(one), Some(other))) => {
            Gently::Same(one.compare(&other) == Comparison::Equal)
        }
        _ => Gently::Changed,
    })
}

/// What the target holds under a name, as DUMP tells it, and for how many milliseconds, if that is not for ever; `None` if it
/// has gone meanwhile.
///
/// # Errors
///
/// Trouble with the connection.
pub async fn held(
    target: &mut Control,
    name: &[u8],
) -> Result<Option<(Vec<u8>, Option<i64>)>, LinkError> {
    let dumped = target.ask(redis::cmd("DUMP").arg(name)).await?;
    let left = target.ask(redis::cmd("PTTL").arg(name)).await?;
    Ok(match (dumped, left) {
        (Value::BulkString(payload), Value::Int(-1)) => Some((payload, None)),
        (Value::BulkString(payload), Value::Int(left)) if left >= 0 => Some((payload, Some(left))),
        _ => None,
    })
}

fn read_command(kind: &str, key: &[u8]) -> Option<redis::Cmd> {
    let mut command = redis::Cmd::new();
    match kind {
        "string" => command.arg("GET").arg(key),
        "list" => command.arg("LRANGE").arg(key).arg(0).arg(-1),
        "set" => command.arg("SMEMBERS").arg(key),
        "zset" => command
            .arg("ZRANGE")
            .arg(key)
            .arg(0)
            .arg(-1)
            .arg("WITHSCORES"),
        "hash" => command.arg("HGETALL").arg(key),
        "stream" => command
            .arg("XINFO")
            .arg("STREAM")
            .arg(key)
            .arg("FULL")
            .arg("COUNT")
            .arg(0),
        _ => return None,
    };
    Some(command)
}

/// Brings what has no order of its own into one.
fn in_order(kind: &str, value: Value) -> Vec<String> {
    let Value::Array(elements) = value else {
        return vec![format!("{value:?}")];
    };
    let width = match kind {
        "hash" => 2,
        _ => 1,
    };
    let mut shown: Vec<String> = elements
        .chunks(width)
        .map(|chunk| format!("{chunk:?}"))
        .collect();
    if matches!(kind, "set" | "hash") {
        shown.sort_unstable();
    }
    shown
}
