//! The source of a big key: one connection, because a WATCH belongs to one.
//!
//! # Invariant
//!
//! Nothing here changes the source: a transaction has at most the question for an expiry.

use redis::{Cmd, Value, cmd};

use super::rights::Broken;
use crate::client::LinkError;
use crate::client::control::{Control, all_well};
use crate::endpoint::Side;

/// Begins to watch a key, and no other.
pub(super) async fn watch(source: &mut Control, name: &[u8]) -> Result<(), Broken> {
    let mut watch = cmd("WATCH");
    watch.arg(name);
    let replies = source.ask_raw(vec![cmd("UNWATCH"), watch]).await;
    replies.and_then(all_well).map_err(broken).map(drop)
}

/// What the source says of the expiry of a key that was watched, if it has not changed meanwhile; it is not watched any
/// more. Without a `question` it is not asked for, and -1.
pub(super) async fn unchanged(
    source: &mut Control,
    question: Option<&Cmd>,
) -> Result<Option<i64>, Broken> {
    let mut commands = vec![cmd("MULTI")];
    commands.extend(question.cloned());
    commands.push(cmd("EXEC"));
    let replies = source.ask_raw(commands).await.and_then(all_well);
    match replies.map_err(broken)?.pop() {
        Some(Value::Nil) => Ok(None),
        Some(Value::Array(answers)) => match answers.as_slice() {
            [] if question.is_none() => Ok(Some(-1)),
            [Value::Int(expiry)] => Ok(Some(*expiry)),
            _ => Err(no_answer()),
        },
        _ => Err(no_answer()),
    }
}

fn no_answer() -> Broken {
    broken(LinkError::Unexpected(
        "EXEC",
        "neither nil nor what was asked for".to_owned(),
    ))
}

pub(super) fn broken(error: LinkError) -> Broken {
    Broken {
        side: Side::Source,
        error,
    }
}
