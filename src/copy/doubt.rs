//! Is a key that the target already has our own write?
//!
//! Asked only where keys must not be overwritten and a run, or a connection, ended without telling what it had
//! written. If both sides hold the same value, it does not matter whose it is.
//!
//! # Invariant
//!
//! Nothing is written here.

use redis::Value;

use crate::client::LinkError;
use crate::client::control::{Control, text};

/// Whether the source holds the same value under the first of `names` as the target under the second, compared by what the type's own read command returns.
///
/// # Errors
///
/// Trouble with one of the connections: nothing is decided then.
pub async fn same_value(
    source: &mut Control,
    target: &mut Control,
    names: [&[u8]; 2],
) -> Result<bool, LinkError> {
    let [here, there] = names;
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
