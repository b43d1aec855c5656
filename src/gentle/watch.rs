//! The proof that a key did not change while it was read.
//!
//! # Invariant
//!
//! Nothing here changes a server: a transaction has at most the question for an expiry.

use redis::{Cmd, Value, cmd};

use crate::client::LinkError;
use crate::client::control::{Control, all_well};

/// Begins to watch a key, and no other.
///
/// # Errors
///
/// Trouble with the connection, and refusals.
pub async fn watch(server: &mut Control, name: &[u8]) -> Result<(), LinkError> {
    let mut watch = cmd("WATCH");
    watch.arg(name);
    let replies = server.ask_raw(vec![cmd("UNWATCH"), watch]).await?;
    all_well(replies).map(drop)
}

/// What the server says of the expiry of a key that was watched, if it has not changed meanwhile; it is not watched any
/// more. Without a `question` it is not asked for, and -1.
///
/// # Errors
///
/// Trouble with the connection, and refusals.
pub async fn unchanged(
    server: &mut Control,
    question: Option<&Cmd>,
) -> Result<Option<i64>, LinkError> {
    let mut commands = vec![cmd("MULTI")];
    commands.extend(question.cloned());
    commands.push(cmd("EXEC"));
    let mut replies = all_well(server.ask_raw(commands).await?)?;
    match replies.pop() {
        Some(Value::Nil) => Ok(None),
        Some(Value::Array(answers)) => match answers.as_slice() {
            [] if question.is_none() => Ok(Some(-1)),
            [Value::Int(expiry)] => Ok(Some(*expiry)),
            _ => Err(no_answer()),
        },
        _ => Err(no_answer()),
    }
}

fn no_answer() -> LinkError {
    LinkError::Unexpected("EXEC", "neither nil nor what was asked for".to_owned())
}
