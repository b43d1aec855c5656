//! Deleting keys that only the target has: the only code of redknot that deletes anything.
//!
//! # Invariant
//!
//! A key is deleted only after the source has said, right before, that it does not have it (promise P8).

use super::ends::{Answer, Broken, End};
use crate::client::Reply;
use crate::renaming::Renaming;
use crate::resp::{ErrorCode, encode_command};

/// What became of a key that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// The target does not have it any more, or did not have it.
    Gone,
    /// The source has it by now, so it stays.
    OnSource,
    /// It can't be deleted, and why.
    Refused(String),
}

/// Deletes those of `names` on the target that the source does not have, and says what became of each.
///
/// # Errors
///
/// A side that is of no use for now. What was deleted until then is asked for once more by the next try.
pub async fn delete(
    renaming: &Renaming,
    names: &[&[u8]],
    source: &mut End,
    target: &mut End,
) -> Result<Vec<Deleted>, Broken> {
    let mut fates = Vec::with_capacity(names.len());
    for name in names {
        source.ask(name, |out| encode_command(out, &[b"EXISTS", name]));
    }
    source.send().await?;
    for _ in names {
        fates.push(match source.number("EXISTS").await? {
            0 => Deleted::Gone,
            _ => Deleted::OnSource,
        });
    }
    crate::crash_point!("repair_before_delete");
    let there: Vec<Vec<u8>> = names.iter().map(|name| renaming.to_target(name)).collect();
    let unknown = remove("UNLINK", &there, &mut fates, target).await?;
    if unknown {
        // Before Redis 4.
        remove("DEL", &there, &mut fates, target).await?;
    }
    Ok(fates)
}

/// Sends `command` for every key that is to go. Returns whether the target does not know the command.
async fn remove(
    command: &'static str,
    names: &[Vec<u8>],
    fates: &mut [Deleted],
    target: &mut End,
) -> Result<bool, Broken> {
    let going = || {
        names
            .iter()
            .zip(&*fates)
            .filter(|(_, fate)| **fate == Deleted::Gone)
    };
    for (name, _) in going() {
        target.ask(name, |out| encode_command(out, &[command.as_bytes(), name]));
    }
    target.send().await?;
    let mut unknown = false;
    for fate in fates.iter_mut().filter(|fate| **fate == Deleted::Gone) {
        match target.answer_or_unknown().await? {
            Answer::Reply(Reply::Integer(_)) => {}
            Answer::Reply(other) => return Err(target.unexpected(command, &other)),
            Answer::Refused(ErrorCode::UnknownCommand, _) => unknown = true,
            Answer::Refused(_, line) => {
                *fate = Deleted::Refused(format!("the target refuses to delete it: {line}"));
            }
        }
    }
    Ok(unknown)
}
