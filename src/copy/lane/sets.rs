//! Which strings are written by SET, and which by RESTORE.
//!
//! RESTORE makes the target check a checksum and, where the source has compressed, unpack; SET keeps the bytes that came
//! (`benches/README.md`).
//! Both leave the same key: a server reads numbers back out of either, and either takes the place of whatever was there,
//! its expiry too, unless it must not (`NX`, or no `REPLACE`).
//!
//! # Invariants
//!
//! - This decides about speed alone: what SET is refused for is tried by RESTORE, whose word then counts.
//! - A key with an expiry is written together with it, in one command, either way.

use super::{Lane, Sent};
use crate::copy::WriteWith;
use crate::copy::batch::Payload;
use crate::key::Escaped;
use crate::progress::{StringsBy, StringsWrittenBy};
use crate::resp::{ErrorCode, SetExpiry, SetOptions};

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Restored,
    /// By SET, with an expiry or without.
    Set {
        expires: bool,
    },
}

/// See the module.
pub(super) struct Sets {
    may: bool,
    /// Redis 6.2 and newer know PXAT.
    may_expire: bool,
}

impl Sets {
    pub fn new(write_with: WriteWith) -> Self {
        let may = write_with == WriteWith::Auto;
        Self {
            may,
            may_expire: may,
        }
    }

    /// How strings that are read in this way are written at present.
    pub fn by(&self, read: StringsBy) -> StringsWrittenBy {
        match read {
            StringsBy::Mget if self.may => StringsWrittenBy::Set,
            StringsBy::Mget | StringsBy::Dump => StringsWrittenBy::Restore,
        }
    }

    /// How this value is written, that expires or does not.
    pub fn way_of(&self, payload: &Payload, expires: bool) -> Written {
        match payload {
            Payload::String(_) => match expires {
                false if self.may => Written::Set { expires },
                true if self.may_expire => Written::Set { expires },
                _ => Written::Restored,
            },
            Payload::Dumped(_) | Payload::Reencoded(_) => Written::Restored,
        }
    }
}

/// SET's options for RESTORE's ttl argument, and whether that is an instant.
pub(super) fn options((ttl, absttl): (u64, bool), replace: bool) -> SetOptions {
    SetOptions {
        only_if_absent: !replace,
        expiry: match (ttl, absttl) {
            (0, _) => SetExpiry::Never,
            (at, true) => SetExpiry::At(at),
            (left, false) => SetExpiry::In(left),
        },
    }
}

impl Lane {
    /// Whether a refusal is about SET: then the key is read again, and written by RESTORE.
    pub(super) fn refuses_set(&mut self, sent: &Sent, line: &[u8]) -> bool {
        let Written::Set { expires } = sent.written else {
            return false;
        };
        if !is_about_the_command(ErrorCode::of(line)) {
            return false;
        }
        let unknown_option = line.windows(12).any(|text| text == b"syntax error");
        self.sets.may_expire = false;
        if !(expires && unknown_option) && std::mem::take(&mut self.sets.may) {
            self.notes.push(format!(
                "the target does not serve SET (it answers \"{}\"): strings are written by RESTORE, which costs it more",
                Escaped(line)
            ));
        }
        true
    }
}

/// Whether an error may be about the command, and not about the key, the server or the login.
fn is_about_the_command(code: ErrorCode) -> bool {
    match code {
        ErrorCode::NoPerm
        | ErrorCode::UnknownCommand
        | ErrorCode::BadPayloadVersion
        | ErrorCode::BadDataFormat
        | ErrorCode::InvalidCursor
        | ErrorCode::Other => true,
        ErrorCode::Busy
        | ErrorCode::BusyKey
        | ErrorCode::Loading
        | ErrorCode::MasterDown
        | ErrorCode::Oom
        | ErrorCode::MisConf
        | ErrorCode::NoReplicas
        | ErrorCode::ReadOnly
        | ErrorCode::ClusterDown
        | ErrorCode::TryAgain
        | ErrorCode::Moved
        | ErrorCode::Ask
        | ErrorCode::NoAuth
        | ErrorCode::WrongPass
        | ErrorCode::NoUsers
        | ErrorCode::NoPermKey
        | ErrorCode::ProtectedMode
        | ErrorCode::MaxClients
        | ErrorCode::NoProto
        | ErrorCode::InvalidBulkLength
        | ErrorCode::DbIndex => false,
    }
}
