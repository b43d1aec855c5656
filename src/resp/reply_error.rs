//! What an error reply means, and what may be done about it.
//!
//! # Invariant
//!
//! Only [`ErrorCode::of`] looks at the text of an error, because old servers and some of RESTORE's errors say nothing
//! but `ERR` in front of it. Everybody else decides by [`ErrorCode`] or [`Retry`].

use std::fmt;

use bytes::Bytes;

use crate::key::Escaped;

/// The most of an error line that is kept for people.
const LINE_BYTES_SHOWN_MAX: usize = 300;

/// Redis quotes a command that it does not know with its arguments, among which there may be a password (`HELLO 3 AUTH
/// user password` sent to Redis 5) or a value.
const QUOTED_ARGUMENTS: &[u8] = b", with args beginning with";

/// An error that a server answered.
///
/// Holds no argument of the command, and shows as one line of visible characters.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyError {
    /// What it means.
    pub code: ErrorCode,
    line: Box<[u8]>,
}

impl ReplyError {
    /// Reads an error line ([`crate::resp::Token::Error`]), and keeps what may be shown of it.
    pub fn new(line: &Bytes) -> Self {
        let end = line
            .windows(QUOTED_ARGUMENTS.len())
            .position(|window| window == QUOTED_ARGUMENTS)
            .unwrap_or(line.len())
            .min(LINE_BYTES_SHOWN_MAX);
        Self {
            code: ErrorCode::of(line),
            line: line.get(..end).unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.line).fmt(f)
    }
}

impl fmt::Debug for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.code)
    }
}

impl std::error::Error for ReplyError {}

/// What a server's error reply means, whatever the server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A script or a function has been running for too long.
    Busy,
    /// RESTORE without REPLACE met a key.
    BusyKey,
    /// The server is reading its data set from disk.
    Loading,
    /// A replica has lost its master and may not serve stale data.
    MasterDown,
    /// The server is at `maxmemory` and refuses what needs more.
    Oom,
    /// The server can't save its data set and therefore refuses writes.
    MisConf,
    /// Fewer replicas than `min-replicas-to-write`.
    NoReplicas,
    /// The node is a replica.
    ReadOnly,
    /// The cluster does not serve all its slots.
    ClusterDown,
    /// The keys of one command are on two nodes, during resharding.
    TryAgain,
    /// The slot is on another node.
    Moved,
    /// The slot is on its way to another node.
    Ask,
    /// The server wants a password.
    NoAuth,
    /// The password or the user is wrong, or there is no password to be given.
    WrongPass,
    /// The server is older than 6.0 and knows no users, but was given one.
    NoUsers,
    /// The user may not run the command.
    NoPerm,
    /// The user may not use this key.
    NoPermKey,
    /// The server is in protected mode and serves only its own machine.
    ProtectedMode,
    /// The server has as many clients as it may have, and closes the connection.
    MaxClients,
    /// RESTORE does not read payloads of this version, or found a checksum wrong; the text is the same.
    BadPayloadVersion,
    /// RESTORE does not read this payload.
    BadDataFormat,
    /// The server does not have the command or the subcommand.
    UnknownCommand,
    /// The server does not speak the protocol version that HELLO asked for.
    NoProto,
    /// An argument was longer than `proto-max-bulk-len`; the server closes the connection.
    InvalidBulkLength,
    /// The server has no such database, or only database 0.
    DbIndex,
    /// SCAN was given a cursor that this server, or the proxy in front of it, can't have issued.
    InvalidCursor,
    /// Anything else.
    Other,
}

/// What may be done about an error reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same command may succeed on the same server later.
    AfterBackoff,
    /// The endpoint may lead to a server that can, once it is resolved again.
    AfterReconnect,
    /// It concerns this key only: the others may be sent on.
    Key,
    /// It will be the same until somebody changes an account, a setting or the command line.
    Human,
    /// Nothing is known about it.
    Unknown,
}

impl ErrorCode {
    /// What an error line means. The line has no `-` and no CRLF.
    pub fn of(error_line: &[u8]) -> Self {
        let word_end = error_line.iter().position(|&byte| byte == b' ');
        let (word, rest) = match word_end.and_then(|end| error_line.split_at_checked(end)) {
            Some((word, rest)) => (word, rest.trim_ascii_start()),
            None => (error_line, &[][..]),
        };
        match word {
            b"ERR" => Self::of_plain(rest),
            b"BUSY" => Self::Busy,
            b"BUSYKEY" => Self::BusyKey,
            b"LOADING" => Self::Loading,
            b"MASTERDOWN" => Self::MasterDown,
            b"OOM" => Self::Oom,
            b"MISCONF" => Self::MisConf,
            b"NOREPLICAS" => Self::NoReplicas,
            b"READONLY" => Self::ReadOnly,
            b"CLUSTERDOWN" => Self::ClusterDown,
            b"TRYAGAIN" => Self::TryAgain,
            b"MOVED" => Self::Moved,
            b"ASK" => Self::Ask,
            b"NOAUTH" => Self::NoAuth,
            b"WRONGPASS" => Self::WrongPass,
            b"NOPERM" => Self::of_no_permission(rest),
            b"DENIED" => Self::ProtectedMode,
            b"NOPROTO" => Self::NoProto,
            _ => Self::Other,
        }
    }

    /// What the text after a plain `ERR` means.
    fn of_plain(text: &[u8]) -> Self {
        const BEGINNINGS: &[(&[u8], ErrorCode)] = &[
            (
                b"DUMP payload version or checksum are wrong",
                ErrorCode::BadPayloadVersion,
            ),
            // Valkey 9 with `rdb-version-check relaxed`, and a type that only others have.
            (
                b"Unsupported foreign data type",
                ErrorCode::BadPayloadVersion,
            ),
            (b"Bad data format", ErrorCode::BadDataFormat),
            // Redis 2.6 and 2.8.
            (b"Target key name is busy", ErrorCode::BusyKey),
            (b"unknown command", ErrorCode::UnknownCommand),
            // Redis 7.0 and newer; before it `Unknown subcommand or wrong number of arguments for 'x'`.
            (b"unknown subcommand", ErrorCode::UnknownCommand),
            (b"Unknown subcommand", ErrorCode::UnknownCommand),
            // Redis 7.0 and newer may go on with "+ cluster connections".
            (b"max number of clients", ErrorCode::MaxClients),
            (
                b"Protocol error: invalid bulk length",
                ErrorCode::InvalidBulkLength,
            ),
            (b"DB index is out of range", ErrorCode::DbIndex),
            (b"invalid DB index", ErrorCode::DbIndex),
            (b"SELECT is not allowed in cluster mode", ErrorCode::DbIndex),
            (b"invalid cursor", ErrorCode::InvalidCursor),
            // Redis 2.6, before there was NOAUTH.
            (b"operation not permitted", ErrorCode::NoAuth),
            // Redis 5 and older, before there was WRONGPASS.
            (b"invalid password", ErrorCode::WrongPass),
            (
                b"Client sent AUTH, but no password is set",
                ErrorCode::WrongPass,
            ),
            (
                b"wrong number of arguments for 'auth' command",
                ErrorCode::NoUsers,
            ),
            // Redis 6 and newer.
            (
                b"AUTH <password> called without any password configured",
                ErrorCode::WrongPass,
            ),
        ];
        BEGINNINGS
            .iter()
            .find(|(beginning, _)| text.starts_with(beginning))
            .map_or(Self::Other, |&(_, code)| code)
    }

    /// Whether NOPERM speaks of a key or of the command.
    fn of_no_permission(text: &[u8]) -> Self {
        // 6.x and 7.0 quote the first; 7.0 and newer say the second.
        let of_key: [&[u8]; 2] = [
            b"this user has no permissions to access one of the keys",
            b"No permissions to access a key",
        ];
        if of_key.iter().any(|beginning| text.starts_with(beginning)) {
            Self::NoPermKey
        } else {
            Self::NoPerm
        }
    }

    /// What may be done about it. There is no `_` arm, so a new code does not compile until it is classified.
    pub fn retry(self) -> Retry {
        match self {
            // The server will serve this command once it is done with something else.
            Self::Busy
            | Self::Loading
            | Self::MasterDown
            | Self::ClusterDown
            | Self::TryAgain
            | Self::MaxClients => Retry::AfterBackoff,
            // The target refuses writes until memory, disk or replicas recover.
            Self::Oom | Self::MisConf | Self::NoReplicas => Retry::AfterBackoff,
            // A failover demoted the node that we are connected to.
            Self::ReadOnly => Retry::AfterReconnect,
            Self::BusyKey
            | Self::NoPermKey
            | Self::BadPayloadVersion
            | Self::BadDataFormat
            | Self::InvalidBulkLength => Retry::Key,
            Self::NoAuth
            | Self::WrongPass
            | Self::NoUsers
            | Self::NoPerm
            | Self::ProtectedMode
            | Self::UnknownCommand
            | Self::NoProto
            | Self::DbIndex => Retry::Human,
            // A plan that speaks of one server met a cluster.
            Self::Moved | Self::Ask => Retry::Human,
            // The cursor may be right and the proxy wrong; who scans must decide.
            Self::InvalidCursor | Self::Other => Retry::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of real servers, or of their source where no server says them on request.
    #[test]
    fn real_error_lines_have_their_codes() {
        let check = |line: &str, code: ErrorCode, retry: Retry| {
            assert_eq!(ErrorCode::of(line.as_bytes()), code, "{line}");
            assert_eq!(code.retry(), retry, "{line}");
        };
        use ErrorCode::*;
        use Retry::*;

        check(
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            Busy,
            AfterBackoff,
        );
        check(
            "LOADING Redis is loading the dataset in memory",
            Loading,
            AfterBackoff,
        );
        check(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            MasterDown,
            AfterBackoff,
        );
        check(
            "TRYAGAIN Multiple keys request during rehashing of slot",
            TryAgain,
            AfterBackoff,
        );
        check("CLUSTERDOWN The cluster is down", ClusterDown, AfterBackoff);
        check(
            "CLUSTERDOWN Hash slot not served",
            ClusterDown,
            AfterBackoff,
        );
        check(
            "NOREPLICAS Not enough good replicas to write.",
            NoReplicas,
            AfterBackoff,
        );
        check(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            MisConf,
            AfterBackoff,
        );
        check(
            "OOM command not allowed when used memory > 'maxmemory'.",
            Oom,
            AfterBackoff,
        );
        check(
            "ERR max number of clients reached",
            MaxClients,
            AfterBackoff,
        );
        check(
            "ERR max number of clients + cluster connections reached",
            MaxClients,
            AfterBackoff,
        );

        check(
            "READONLY You can't write against a read only replica.",
            ReadOnly,
            AfterReconnect,
        );
        check("MOVED 3999 127.0.0.1:6381", Moved, Human);
        check("ASK 3999 127.0.0.1:6381", Ask, Human);

        check("NOAUTH Authentication required.", NoAuth, Human);
        check("ERR operation not permitted", NoAuth, Human);
        check(
            "WRONGPASS invalid username-password pair or user is disabled.",
            WrongPass,
            Human,
        );
        check("ERR invalid password", WrongPass, Human);
        check(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            WrongPass,
            Human,
        );
        check(
            "ERR wrong number of arguments for 'auth' command",
            NoUsers,
            Human,
        );
        check(
            "ERR Client sent AUTH, but no password is set",
            WrongPass,
            Human,
        );
        check(
            "NOPERM this user has no permissions to run the 'restore' command",
            NoPerm,
            Human,
        );
        check(
            "NOPERM User u has no permissions to run the 'restore' command",
            NoPerm,
            Human,
        );
        check(
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            NoPermKey,
            Key,
        );
        check("NOPERM No permissions to access a key", NoPermKey, Key);
        check(
            "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user.",
            ProtectedMode,
            Human,
        );

        check("BUSYKEY Target key name already exists.", BusyKey, Key);
        check("ERR Target key name is busy.", BusyKey, Key);
        check(
            "ERR DUMP payload version or checksum are wrong",
            BadPayloadVersion,
            Key,
        );
        check(
            "ERR Unsupported foreign data type: 24",
            BadPayloadVersion,
            Key,
        );
        check("ERR Bad data format", BadDataFormat, Key);
        check(
            "ERR Protocol error: invalid bulk length",
            InvalidBulkLength,
            Key,
        );

        check("ERR DB index is out of range", DbIndex, Human);
        check("ERR invalid DB index", DbIndex, Human);
        check("ERR SELECT is not allowed in cluster mode", DbIndex, Human);
        check(
            "ERR unknown command 'FOO', with args beginning with: 'a' 'b' ",
            UnknownCommand,
            Human,
        );
        check("ERR unknown command 'PEXPIRETIME'", UnknownCommand, Human);
        check(
            "ERR unknown command `DUMP`, with args beginning with: `k`, ",
            UnknownCommand,
            Human,
        );
        check(
            "ERR unknown subcommand 'FOO'. Try CLIENT HELP.",
            UnknownCommand,
            Human,
        );
        check(
            "ERR Unknown subcommand or wrong number of arguments for 'NO-TOUCH'. Try CLIENT HELP.",
            UnknownCommand,
            Human,
        );
        check("NOPROTO unsupported protocol version", NoProto, Human);

        check("ERR invalid cursor", InvalidCursor, Unknown);
        check("ERR Invalid TTL value, must be >= 0", Other, Unknown);
        check(
            "EXECABORT Transaction discarded because of previous errors.",
            Other,
            Unknown,
        );
        check(
            "UNKILLABLE Sorry the script already executed write commands against the dataset.",
            Other,
            Unknown,
        );
        check("BUSYKEYS", Other, Unknown);
        check("ERR", Other, Unknown);
        check("", Other, Unknown);
        check(" ", Other, Unknown);
    }

    #[test]
    fn what_is_shown_holds_no_argument_and_is_one_line() {
        let check = |line: &'static str, shown: &str| {
            let error = ReplyError::new(&Bytes::from_static(line.as_bytes()));
            assert_eq!(error.to_string(), shown);
            assert_eq!(format!("{error:?}"), format!("{:?}({shown})", error.code));
        };
        check("ERR Bad data format", "ERR Bad data format");
        check(
            "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `u`, `secret`, ",
            "ERR unknown command `HELLO`",
        );
        check("ERR \x1b[2Jgone", "ERR \\x1b[2Jgone");
        let long = ReplyError::new(&Bytes::from(vec![b'x'; 5000]));
        assert_eq!(long.to_string().len(), LINE_BYTES_SHOWN_MAX);
    }
}
