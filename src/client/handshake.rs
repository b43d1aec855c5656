//! From an open socket to a server whose process, abilities and clock are known.
//!
//! Everything here is *tried*, never read off a command table: proxies and managed services answer `COMMAND INFO`
//! as they please. Only what the copy can't do without may fail the handshake.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::sentinel::{located, open_logged_in};
use super::takes::{self, Takes};
use super::tls::{self, TlsError};
use super::wire::{LinkError, Reply, Wire, open};
use crate::endpoint::Endpoint;
use crate::resp::ErrorCode;
use crate::state::record::ServerIdentity;

/// A key name that is only ever asked about. No command of ours creates it.
const PROBE_KEY: &[u8] = b"redknot:probe";

/// A connection and what is known of the server behind it.
pub struct Link {
    /// Ready for the database that it was opened for.
    pub wire: Wire,
    /// The process that answers on this connection.
    pub identity: ServerIdentity,
    /// CLIENT ID, where it may be asked: lets a later connection end this one.
    pub client_id: Option<i64>,
    /// The server's clock against ours.
    pub clock: Option<Clock>,
    /// Source: PEXPIRETIME is known (Redis 7.0). Target: RESTORE … ABSTTL is known (Redis 5.0).
    pub absolute_expiry: bool,
    /// SCAN … TYPE is known (Redis 6.0).
    pub scan_type: bool,
    /// Target: what it takes.
    pub takes: Option<Takes>,
}

/// A server's wall clock, as seen from our monotonic one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When it was read.
    pub read_at: Instant,
    /// What it showed then, Unix milliseconds.
    pub unix_ms: i64,
    /// Half of the round trip: it may be wrong by this much, milliseconds.
    pub uncertainty_ms: i64,
}

impl Clock {
    /// From TIME's answer to a question asked at `asked` and answered just now.
    pub fn read(asked: Instant, seconds: i64, microseconds: i64) -> Self {
        let half = asked.elapsed() / 2;
        Self {
            read_at: asked + half,
            unix_ms: seconds
                .saturating_mul(1000)
                .saturating_add(microseconds / 1000),
            uncertainty_ms: half.as_millis() as i64 + 1,
        }
    }

    /// What it shows at `instant`, Unix milliseconds.
    pub fn at(&self, instant: Instant) -> i64 {
        let since = match instant.checked_duration_since(self.read_at) {
            Some(later) => later.as_millis() as i64,
            None => -(self.read_at.duration_since(instant).as_millis() as i64),
        };
        self.unix_ms.saturating_add(since)
    }

    /// How far it is ahead of `other`, milliseconds.
    pub fn ahead_of(&self, other: &Self) -> i64 {
        self.unix_ms - other.at(self.read_at)
    }
}

/// Our own wall clock, Unix milliseconds.
pub fn unix_ms() -> u64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as u64,
        Err(_) => 0,
    }
}

/// Opens a connection that reads database `db` of the source.
///
/// The server answers PING, so it is not loading; it spares the keys' LRU and LFU where it can.
///
/// # Errors
///
/// Everything that keeps the connection from serving, as the server or the system said it.
pub async fn connect_source(
    endpoint: &Endpoint,
    db: u32,
    name: &str,
    timeout: Duration,
) -> Result<Link, LinkError> {
    let mut link = connect(endpoint, db, name, timeout).await?;
    // Before 7.2 there is no such subcommand, and without it a DUMP counts as a use of the key.
    link.wire.call(&[b"CLIENT", b"NO-TOUCH", b"ON"]).await?;
    let expiry = link.wire.call(&[b"PEXPIRETIME", PROBE_KEY]).await?;
    link.absolute_expiry = match expiry {
        // A node that does not have the slot knows the command: it would have said so first.
        Reply::Integer(_) | Reply::Error(ErrorCode::Moved | ErrorCode::Ask, _) => true,
        // A user who may read only some keys: the version must tell.
        Reply::Error(ErrorCode::NoPermKey, _) => at_least(&link.identity.version, 7),
        _ => false,
    };
    link.scan_type = at_least(&link.identity.version, 6);
    Ok(link)
}

/// Opens a connection that writes database `db` of the target; nothing has been written when it returns.
///
/// # Errors
///
/// As [`connect_source`]; also what the server answers to RESTORE: OOM, READONLY, MISCONF, NOPERM.
pub async fn connect_target(
    endpoint: &Endpoint,
    db: u32,
    name: &str,
    timeout: Duration,
) -> Result<Link, LinkError> {
    let link = connect(endpoint, db, name, timeout).await?;
    probe_target(link, PROBE_KEY).await
}

/// As [`connect_target`], to a node of a cluster that has the slot of the unused name `probe`.
///
/// # Errors
///
/// As [`connect_target`]; MOVED or ASK if it does not have that slot, or not all of it.
pub async fn connect_target_node(
    endpoint: &Endpoint,
    db: u32,
    probe: &str,
    name: &str,
    timeout: Duration,
) -> Result<Link, LinkError> {
    let link = connect(endpoint, db, name, timeout).await?;
    probe_target(link, probe.as_bytes()).await
}

/// Asks what RESTORE of `key` would do.
async fn probe_target(mut link: Link, key: &[u8]) -> Result<Link, LinkError> {
    // An empty payload: options are checked before payloads, so the answer tells whether ABSTTL is known and whether
    // RESTORE would be served, and no version of the server goes on to create a key.
    let probe = link
        .wire
        .call(&[b"RESTORE", key, b"1", b"", b"REPLACE", b"ABSTTL"])
        .await?;
    link.absolute_expiry = match probe {
        Reply::Error(ErrorCode::BadPayloadVersion | ErrorCode::BadDataFormat, _) => true,
        // A user who may write only some keys: whether ABSTTL is known must be told by the version.
        Reply::Error(ErrorCode::NoPermKey, _) => at_least(&link.identity.version, 5),
        Reply::Error(ErrorCode::Other, line) if line.contains("syntax error") => false,
        Reply::Error(code, line) => return Err(LinkError::Reply(code, line)),
        other => return Err(LinkError::Unexpected("RESTORE", format!("{other:?}"))),
    };
    link.takes = Some(takes::ask(&mut link.wire, key, &link.identity.version).await?);
    Ok(link)
}

async fn connect(
    endpoint: &Endpoint,
    db: u32,
    name: &str,
    timeout: Duration,
) -> Result<Link, LinkError> {
    let mut wire = open_logged_in(endpoint, timeout).await?;
    expect_ok(wire.call(&[b"PING"]).await?, "PING")?;
    let replies = wire
        .call_all(&[
            &[b"CLIENT", b"SETNAME", name.as_bytes()],
            &[b"CLIENT", b"ID"],
            &[b"INFO", b"server"],
        ])
        .await?;
    let client_id = match replies.get(1) {
        Some(Reply::Integer(id)) => Some(*id),
        _ => None,
    };
    let identity = match replies.get(2) {
        Some(Reply::Bulk(info)) => identity_of(&String::from_utf8_lossy(info)),
        _ => ServerIdentity::default(),
    };
    select(&mut wire, db).await?;
    let clock = read_clock(&mut wire).await?;
    Ok(Link {
        wire,
        identity,
        client_id,
        clock,
        absolute_expiry: false,
        scan_type: false,
        takes: None,
    })
}

/// Logs in, if there is a password to log in with.
///
/// # Errors
///
/// The server's refusal. Passwords are not in it, since no server repeats one.
pub(super) async fn login(wire: &mut Wire, endpoint: &Endpoint) -> Result<(), LinkError> {
    let Some(password) = endpoint.password() else {
        return Ok(());
    };
    let alone: &[&[u8]] = &[b"AUTH", password];
    let reply = match endpoint.user.as_deref() {
        Some(user) => match wire.call(&[b"AUTH", user.as_bytes(), password]).await? {
            // Before 6.0 there is one user, who had no name yet.
            Reply::Error(ErrorCode::NoUsers, _) if user == "default" => wire.call(alone).await?,
            reply => reply,
        },
        None => wire.call(alone).await?,
    };
    match reply {
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        _ => Ok(()),
    }
}

/// Selects a database; the first one is selected anyway.
pub(super) async fn select(wire: &mut Wire, db: u32) -> Result<(), LinkError> {
    if db == 0 {
        return Ok(());
    }
    let number = db.to_string();
    expect_ok(wire.call(&[b"SELECT", number.as_bytes()]).await?, "SELECT")
}

/// Whether a Redis server listens there at all: any reply to PING will do, also a refusal.
///
/// # Errors
///
/// [`LinkError::NotResp`] with what came instead, [`LinkError::Tls`] if TLS is spoken there and we did not, or what
/// keeps the connection from being made.
pub async fn speaks_resp(endpoint: &Endpoint, timeout: Duration) -> Result<(), LinkError> {
    let endpoint = &located(endpoint, timeout).await?;
    let mut wire = open(endpoint, timeout).await?;
    match wire.call(&[b"PING"]).await {
        Ok(_) => Ok(()),
        // With Redis' own TLS port it is a reset: it says nothing to those who do not greet it.
        Err(LinkError::Closed | LinkError::Io(_) | LinkError::Silent(_))
            if endpoint.tls.is_none() && tls::is_spoken_at(&endpoint.address, timeout).await =>
        {
            Err(TlsError::Wanted.into())
        }
        Err(error) => Err(error),
    }
}

/// Ends an earlier connection of ours on the same server, with whatever it had been sent and had not executed.
///
/// Without the right to CLIENT KILL nothing happens: the server ends it by itself when it sees it closed.
pub async fn end_earlier(link: &mut Link, client_id: i64) -> Result<(), LinkError> {
    link.wire
        .call(&[b"CLIENT", b"KILL", b"ID", client_id.to_string().as_bytes()])
        .await?;
    Ok(())
}

fn expect_ok(reply: Reply, command: &'static str) -> Result<(), LinkError> {
    match reply {
        Reply::Simple(_) | Reply::Bulk(_) => Ok(()),
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        other => Err(LinkError::Unexpected(command, format!("{other:?}"))),
    }
}

/// TIME, with the round trip as its uncertainty; `None` where it may not be asked.
async fn read_clock(wire: &mut Wire) -> Result<Option<Clock>, LinkError> {
    let asked = Instant::now();
    let reply = wire.call(&[b"TIME"]).await?;
    let Reply::Array(parts) = reply else {
        return Ok(None);
    };
    let number = |index: usize| match parts.get(index) {
        Some(Reply::Bulk(digits)) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
        _ => None,
    };
    Ok(number(0)
        .zip(number(1))
        .map(|(seconds, microseconds)| Clock::read(asked, seconds, microseconds)))
}

/// What INFO tells of the process. A field that is missing or empty is unknown, never a value of its own.
pub fn identity_of(info: &str) -> ServerIdentity {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    };
    let version = match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => format!("valkey {version}"),
        (None, Some(version)) => format!("redis {version}"),
        (None, None) => String::new(),
    };
    ServerIdentity {
        run_id: field("run_id"),
        version,
    }
}

/// Whether the server is at least this major version. An unknown version is taken for a modern one: the probes tell.
fn at_least(version: &str, major: u32) -> bool {
    let number = version
        .split(' ')
        .nth(1)
        .and_then(|number| number.split('.').next());
    match number.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(known) => known >= major,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_read_from_info_and_absence_stays_absence() {
        let check = |info: &str, run_id: Option<&str>, version: &str| {
            let identity = identity_of(info);
            assert_eq!(identity.run_id.as_deref(), run_id, "{info:?}");
            assert_eq!(identity.version, version, "{info:?}");
        };
        check(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:ab12\r\n",
            Some("ab12"),
            "redis 7.0.15",
        );
        check(
            "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrun_id:cd\r\n",
            Some("cd"),
            "valkey 9.1.2",
        );
        check("redis_version:7.0.15\r\nrun_id:\r\n", None, "redis 7.0.15");
        check("", None, "");
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("redis 6.0.9", 6));
        assert!(!at_least("redis 5.0.14", 6));
        assert!(at_least("redis 10.1", 6));
        assert!(at_least("", 6));
    }

    #[test]
    fn a_clock_goes_on_with_ours_in_both_directions() {
        let now = Instant::now();
        let clock = Clock {
            read_at: now,
            unix_ms: 1_000_000,
            uncertainty_ms: 1,
        };
        let other = Clock {
            read_at: now + Duration::from_millis(250),
            unix_ms: 1_000_250,
            uncertainty_ms: 1,
        };
        assert_eq!(clock.at(now + Duration::from_millis(40)), 1_000_040);
        assert_eq!(clock.ahead_of(&other), 0);
        assert_eq!(other.ahead_of(&clock), 0);
    }
}
