//! Whether both servers let big keys be copied in pieces, and what the operator is told where one does not.
//!
//! # Invariant
//!
//! A refusal of rights never ends a run: the key goes the way of all others.

use crate::client::LinkError;
use crate::endpoint::Side;
use crate::resp::ErrorCode;

/// Trouble with one of the servers.
#[derive(Debug)]
pub(super) struct Broken {
    /// Which.
    pub side: Side,
    /// What it said or did.
    pub error: LinkError,
}

impl Broken {
    /// Whether the server does not serve a command, or not to this user: not for any key, or not for this one.
    pub fn refusal(&self) -> Option<Refusal> {
        let LinkError::Reply(code, line) = self.error.bare() else {
            return None;
        };
        let of_all = match code {
            ErrorCode::NoPerm | ErrorCode::UnknownCommand => true,
            ErrorCode::NoPermKey => false,
            _ => return None,
        };
        Some(Refusal {
            side: self.side,
            line: line.clone(),
            of_all,
        })
    }
}

/// What a server does not serve.
#[derive(Debug)]
pub(super) struct Refusal {
    side: Side,
    line: String,
    /// It is the same for every key.
    pub of_all: bool,
}

impl Refusal {
    /// What the operator is told.
    pub fn note(&self) -> String {
        format!(
            "big keys can't be copied in pieces: the {} answers \"{}\"; they are read and written whole, and each keeps both servers busy meanwhile (redknot acl lists the rights)",
            self.side, self.line
        )
    }
}
