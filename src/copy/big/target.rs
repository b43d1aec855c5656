//! The target of a big key: pieces under a temporary name, each in one step with its mark, and the renaming.
//!
//! # Invariants
//!
//! - Every value under a temporary name expires by itself, a day after it was last written, whatever becomes of us.
//! - Nothing is written on a connection before a transaction was served on it: where MULTI is refused, what should be one
//!   step would be executed command by command.
//! - After any failure the mark tells what was executed; nothing is concluded from an answer that did not come.

use redis::{Cmd, Value, cmd};

use super::mark::Mark;
use crate::client::LinkError;
use crate::client::control::{Control, all_well, first_error, text};
use crate::copy::pieces::Piece;
use crate::resp::ErrorCode;

/// How long what is left behind by a migration that nobody goes on with stays.
const ABANDONED_S: u64 = 24 * 3600;

/// What the target holds of a value that is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// What the mark says.
    pub mark: Option<Mark>,
    /// The value is there.
    pub value: bool,
}

/// The names of a value that is put together.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Of the value.
    pub value: Vec<u8>,
    /// Of its mark.
    pub mark: Vec<u8>,
    /// Of the value, when it is whole.
    pub there: Vec<u8>,
}

/// What became of a renaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renamed {
    Done,
    /// The target has a key of this name, which is to stay.
    Taken,
    /// There was nothing to be renamed.
    Nothing,
}

impl Names {
    /// What is there.
    pub async fn held(&self, target: &mut Control) -> Result<Held, LinkError> {
        let mut exists = cmd("EXISTS");
        exists.arg(&self.value);
        let mut get = cmd("GET");
        get.arg(&self.mark);
        let replies = all_well(target.ask_raw(vec![exists, get]).await?)?;
        match replies.as_slice() {
            [Value::Int(found), mark] => Ok(Held {
                mark: Mark::parse(&text(mark)),
                value: *found > 0,
            }),
            _ => Err(LinkError::Unexpected("EXISTS", "no number".to_owned())),
        }
    }

    /// Whether the name that it is to have is taken.
    pub async fn is_taken(&self, target: &mut Control) -> Result<bool, LinkError> {
        let mut exists = cmd("EXISTS");
        exists.arg(&self.there);
        Ok(target.ask(&exists).await? == Value::Int(1))
    }

    /// Appends a piece, after which the mark is `mark`.
    pub async fn append(
        &self,
        target: &mut Control,
        piece: &Piece,
        commands: Vec<Cmd>,
        mark: &Mark,
    ) -> Result<(), LinkError> {
        let mut transaction = commands;
        let mut expires = cmd("EXPIRE");
        expires.arg(&self.value).arg(ABANDONED_S);
        let mut marks = cmd("SET");
        marks.arg(&self.mark).arg(mark.text());
        marks.arg("EX").arg(ABANDONED_S);
        transaction.extend([expires, marks]);
        let is_known = |error: &LinkError| match error.bare() {
            LinkError::Reply(_, line) => piece.is_written(line),
            _ => false,
        };
        let answers = execute(target, transaction).await?;
        match answers
            .iter()
            .filter_map(first_error)
            .find(|error| !is_known(error))
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Gives the value its expiry, as RESTORE would be told it, and its name.
    pub async fn rename(
        &self,
        target: &mut Control,
        (ttl, is_instant): (u64, bool),
        replaces: bool,
    ) -> Result<Renamed, LinkError> {
        let mut expires = match (ttl, is_instant) {
            (0, _) => cmd("PERSIST"),
            (_, true) => cmd("PEXPIREAT"),
            (_, false) => cmd("PEXPIRE"),
        };
        expires.arg(&self.value);
        if ttl > 0 {
            expires.arg(ttl);
        }
        let mut rename = cmd(match replaces {
            true => "RENAME",
            false => "RENAMENX",
        });
        rename.arg(&self.value).arg(&self.there);
        let answers = execute(target, vec![expires, rename]).await?;
        if let Some(error) = answers.iter().find_map(first_error) {
            return match error.bare() {
                LinkError::Reply(_, line) if line.contains("no such key") => Ok(Renamed::Nothing),
                _ => Err(error),
            };
        }
        Ok(match answers.last() {
            Some(Value::Int(0)) => Renamed::Taken,
            _ => Renamed::Done,
        })
    }

    /// Takes both temporary names from the target.
    pub async fn clear(&self, target: &mut Control) -> Result<(), LinkError> {
        clear(target, [&self.value, &self.mark]).await
    }
}

/// Deletes temporary names; where that may not be done, they go by themselves.
pub(super) async fn clear(target: &mut Control, names: [&[u8]; 2]) -> Result<(), LinkError> {
    for command in ["UNLINK", "DEL"] {
        let mut delete = cmd(command);
        delete.arg(&names[..]);
        match target.ask(&delete).await {
            // Before Redis 4, or without the right to one of them.
            Err(LinkError::Reply(
                ErrorCode::UnknownCommand | ErrorCode::NoPerm | ErrorCode::NoPermKey,
                _,
            )) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Whether a transaction is served, shown by one without commands.
pub(super) async fn transacts(target: &mut Control) -> Result<(), LinkError> {
    execute(target, Vec::new()).await.map(drop)
}

/// Executes a transaction, and returns what its commands answered; an error, if it was not executed.
async fn execute(target: &mut Control, commands: Vec<Cmd>) -> Result<Vec<Value>, LinkError> {
    let mut all = vec![cmd("MULTI")];
    all.extend(commands);
    all.push(cmd("EXEC"));
    let mut replies = target.ask_raw(all).await?;
    let executed = replies.pop();
    // The reason stands at the command that was refused, and EXEC says only that there is one.
    if let Some(error) = replies.iter().find_map(first_error) {
        return Err(error);
    }
    match executed {
        Some(Value::Array(answers)) => Ok(answers),
        Some(Value::ServerError(error)) => Err(LinkError::of_server(&error)),
        _ => Err(LinkError::Unexpected("EXEC", "no array".to_owned())),
    }
}
