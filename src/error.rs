//! Trouble that ends a run: which side, doing what, why, what to do, and whether the same command may be run again.
//!
//! Trouble with one key is not an error but an outcome ([`crate::progress::Counters`]).

use std::fmt;

use serde::Serialize;

use crate::endpoint::Side;

/// Why a run ended without reaching its goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What a script or an operator should make of it; decides the exit code.
    pub class: Class,
    /// The server concerned, where it is one.
    pub side: Option<Side>,
    /// Completes the sentence "failed to …".
    pub doing: String,
    /// Why, in the words of whoever said it.
    pub cause: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What kind of trouble ended a run. One class, one exit code (`cli::exit_code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The command line, the environment or a file it names can't be used.
    Usage,
    /// A check before the start found that this can't work.
    NoGo,
    /// A server can't be reached, is loading, or stopped answering, longer than `--max-unavailable`.
    Unreachable,
    /// The target refuses writes for now: OOM, READONLY, MISCONF, too many clients.
    RefusesWrites,
    /// The state store has no space, can't be written, or gave an I/O error.
    StateIo,
    /// Another live process works on this migration.
    StateLocked,
    /// Wrong password, missing user, or a command that the user may not run.
    Denied,
    /// TLS: certificate, name or protocol.
    Tls,
    /// Same server on both sides, or a target that is a replica.
    Topology,
    /// The source is not the server process it was, and `--on-source-change fail` was given.
    SourceChanged,
    /// The servers or the data do not fit: unknown errors in numbers, payloads that the target can't read.
    Incompatible,
    /// The state on disk is damaged, or emptied.
    StateDamaged,
    /// The state on disk belongs to another migration or to a newer redknot.
    StateForeign,
    /// The target has keys and no `--on-conflict` was given, or `--on-conflict fail` met one.
    TargetNotEmpty,
}

impl Error {
    /// An error without a side or a hint.
    pub fn new(class: Class, doing: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            class,
            side: None,
            doing: doing.into(),
            cause: cause.into(),
            hint: None,
        }
    }

    /// The same error, said of one server.
    #[must_use]
    pub fn on(mut self, side: Side) -> Self {
        self.side = Some(side);
        self
    }

    /// The same error with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = self.side {
            write!(f, "{side}: ")?;
        }
        write!(f, "failed to {}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for Error {}
