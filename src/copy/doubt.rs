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

/// Whether both sides hold the same value under `key`, compared by what the type's own read command returns.
///
/// # Errors
///
/// Trouble with one of the connections: nothing is decided then.
pub async fn same_value(
    source: &mut Control,
    target: &mut Control,
    key: &[u8],
) -> Result<bool, LinkError> {
    let dump = |mut control: Control| async move { control.ask(redis::cmd("DUMP").arg(key)).await };
    // Equal bytes are equal values; unequal bytes say nothing, since tables are dumped in an order of their own.
    let (a, b) = (dump(source.clone()).await?, dump(target.clone()).await?);
    if a == b {
        return Ok(true);
    }
    let kind = text(&source.ask(redis::cmd("TYPE").arg(key)).await?);
    if kind != text(&target.ask(redis::cmd("TYPE").arg(key)).await?) {
        return Ok(false);
    }
    let Some(read) = read_command(&kind, key) else {
        return Ok(false);
    };
    let a = in_order(&kind, source.ask(&read).await?);
    let b = in_order(&kind, target.ask(&read).await?);
    Ok(a == b)
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
