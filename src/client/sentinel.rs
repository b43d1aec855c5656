//! Who the master of a service is, as its sentinels say and as the server itself confirms.
//!
//! # Invariants
//!
//! - A connection that is handed out leads to a server that called itself a master on this very connection. A sentinel that
//!   has not heard of a failover yet names the old master: then the next sentinel is asked.
//! - Nothing is remembered: each connection begins with the question, so a failover needs no other notice than the
//!   connections that it ends.

use std::fmt;
use std::time::Duration;

use super::handshake::login;
use super::seeds::first_answering;
use super::wire::{LinkError, Reply, Wire, open};
use crate::endpoint::{Address, Endpoint, HostPort, Sentinels, Side};
use crate::error::{Class, Error};
use crate::key::Escaped;
use crate::resp::ErrorCode;

/// How long a sentinel may take, while there are others to be asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Names of services that are shown, of all that a sentinel knows.
const NAMES_SHOWN_MAX: usize = 8;

/// What is wrong between us and the sentinels. Nothing of it passes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentinelError {
    /// No sentinel has a service of this name; the names that the last one has.
    UnknownService(String, Vec<String>),
    /// What listens there is no sentinel.
    NotOne(HostPort),
    /// The sentinel wants another login; its words.
    Denied(HostPort, String),
}

impl SentinelError {
    /// What to make of it.
    pub fn explained(&self, side: Side) -> Error {
        let flag = match side {
            Side::Source => "from",
            Side::Target => "to",
        };
        let (class, hint) = match self {
            Self::UnknownService(..) => (
                Class::Usage,
                format!("--{flag} redis-sentinel://host:26379/SERVICE"),
            ),
            Self::NotOne(_) => (
                Class::Usage,
                format!(
                    "the address of a server itself is --{flag} redis://host:6379; sentinels usually listen at 26379"
                ),
            ),
            Self::Denied(..) => (
                Class::Denied,
                format!(
                    "the sentinels' password is not the servers': --{flag}-sentinel-pass-file FILE or REDKNOT_{upper}_SENTINEL_PASSWORD, and --{flag}-sentinel-user",
                    upper = flag.to_uppercase()
                ),
            ),
        };
        Error::new(class, "ask the sentinels", self.to_string())
            .hint(hint)
            .on(side)
    }
}

impl fmt::Display for SentinelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownService(service, known) if known.is_empty() => {
                write!(f, "they know no service \"{service}\", nor any other")
            }
            Self::UnknownService(service, known) => {
                let known = known.join(", ");
                write!(f, "they know no service \"{service}\"; they know {known}")
            }
            Self::NotOne(host) => write!(f, "what answers at {host} is a server and no sentinel"),
            Self::Denied(host, line) => write!(f, "the sentinel {host} answers \"{line}\""),
        }
    }
}

impl From<SentinelError> for LinkError {
    fn from(error: SentinelError) -> Self {
        Self::Sentinel(error)
    }
}

/// A connection to the server of `endpoint`, logged in: where it stands for a service, to the service's master; where for
/// a cluster, to one of its nodes.
///
/// # Errors
///
/// Why there is none, in the words of whoever said it.
pub(super) async fn open_logged_in(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<Wire, LinkError> {
    let sentinels = match &endpoint.address {
        Address::Sentinel(sentinels) => sentinels,
        Address::Cluster(seeds) => {
            let (mut wire, _) = first_answering(endpoint, seeds, timeout).await?;
            wire.set_silence_max(timeout);
            return Ok(wire);
        }
        Address::Tcp { .. } | Address::Unix { .. } => {
            let mut wire = open(endpoint, timeout).await?;
            login(&mut wire, endpoint).await?;
            return Ok(wire);
        }
    };
    let attempt = async |host: &HostPort, patience: Duration| {
        let master = master_at(endpoint, sentinels, host, patience).await?;
        let server = at(endpoint, &master);
        let mut wire = open(&server, timeout).await?;
        login(&mut wire, &server).await?;
        match is_master(&mut wire).await? {
            true => Ok(wire),
            false => Err(LinkError::Elsewhere(format!(
                "the sentinel {host} names {master} as the master of {}, and that is a replica by now",
                sentinels.service()
            ))),
        }
    };
    first_of(sentinels, timeout, attempt).await
}

/// Where the server of `endpoint` is at the moment.
///
/// # Errors
///
/// As [`open_logged_in`].
pub(super) async fn located(endpoint: &Endpoint, timeout: Duration) -> Result<Endpoint, LinkError> {
    let sentinels = match &endpoint.address {
        Address::Sentinel(sentinels) => sentinels,
        Address::Cluster(seeds) => {
            let (_, place) = first_answering(endpoint, seeds, timeout).await?;
            return Ok(at(endpoint, &place));
        }
        Address::Tcp { .. } | Address::Unix { .. } => return Ok(endpoint.clone()),
    };
    let attempt = async |host: &HostPort, patience: Duration| {
        master_at(endpoint, sentinels, host, patience).await
    };
    let master = first_of(sentinels, timeout, attempt).await?;
    Ok(at(endpoint, &master))
}

/// Nothing, unless one of the sentinels is about to make another server the master. Until it has, it names the old one,
/// and what that still acknowledges may be lost.
///
/// # Errors
///
/// [`LinkError::Elsewhere`], to be tried again; what went wrong, if no sentinel answers.
pub async fn settled(endpoint: &Endpoint, timeout: Duration) -> Result<(), LinkError> {
    let Address::Sentinel(sentinels) = &endpoint.address else {
        return Ok(());
    };
    let service = sentinels.service();
    let mut failure = None;
    let mut answers = 0;
    for host in sentinels.hosts() {
        match flags_at(endpoint, service, host, timeout.min(ANSWER_WITHIN)).await {
            Ok(flags) if flags.contains("failover_in_progress") => {
                let what = format!("the sentinel {host} is replacing the master of {service}");
                return Err(LinkError::Elsewhere(what));
            }
            Ok(_) => answers += 1,
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if answers == 0 => Err(error),
        _ => Ok(()),
    }
}

/// What a sentinel thinks of the master: words with commas between them.
async fn flags_at(
    endpoint: &Endpoint,
    service: &str,
    host: &HostPort,
    timeout: Duration,
) -> Result<String, LinkError> {
    let asked = async {
        let mut wire = open_sentinel(endpoint, host, timeout).await?;
        match wire
            .call(&[b"SENTINEL", b"MASTER", service.as_bytes()])
            .await?
        {
            Reply::Array(fields) => Ok(field(&fields, b"flags").unwrap_or_default()),
            // A sentinel that may not be asked, or has forgotten the service, replaces nobody that we know of.
            _ => Ok(String::new()),
        }
    };
    asked.await.map_err(|error| of_sentinel(error, host))
}

/// The services that a sentinel watches, as far as it says so.
pub(super) async fn services(wire: &mut Wire) -> Result<Vec<String>, LinkError> {
    let Reply::Array(masters) = wire.call(&[b"SENTINEL", b"MASTERS"]).await? else {
        return Ok(Vec::new());
    };
    let name = |master: Reply| match master {
        Reply::Array(fields) => field(&fields, b"name"),
        _ => None,
    };
    let names = masters.into_iter().filter_map(name);
    Ok(names.take(NAMES_SHOWN_MAX).collect())
}

/// `name, …, ip, …`: a table in pairs.
fn field(fields: &[Reply], name: &[u8]) -> Option<String> {
    fields.chunks(2).find_map(|pair| match pair {
        [Reply::Bulk(field), Reply::Bulk(value)] if field.as_ref() == name => {
            Some(Escaped(value).to_string())
        }
        _ => None,
    })
}

/// Asks one sentinel after the other until one attempt succeeds. What is said of a failure: whatever waiting can't mend,
/// else the first.
async fn first_of<T>(
    sentinels: &Sentinels,
    timeout: Duration,
    attempt: impl AsyncFn(&HostPort, Duration) -> Result<T, LinkError>,
) -> Result<T, LinkError> {
    let patience = match sentinels.hosts() {
        [_] => timeout,
        _ => timeout.min(ANSWER_WITHIN),
    };
    let mut failures = Vec::new();
    for host in sentinels.hosts() {
        match attempt(host, patience).await {
            Ok(found) => return Ok(found),
            Err(error) => failures.push(error),
        }
    }
    let passes = |error: &LinkError| !matches!(error, LinkError::Sentinel(_) | LinkError::Tls(_));
    let unknown = |error: &LinkError| {
        matches!(
            error,
            LinkError::Sentinel(SentinelError::UnknownService(..))
        )
    };
    // One that is away may know what the others do not.
    let some_are_away = failures.iter().any(passes);
    let last_word = failures
        .iter()
        .position(|error| !(passes(error) || unknown(error) && some_are_away));
    let shown = last_word.or_else(|| failures.iter().position(passes));
    match shown {
        Some(at) => Err(failures.swap_remove(at)),
        None => Err(LinkError::Connect("there is no sentinel to ask".to_owned())),
    }
}

/// A connection to one of the sentinels, logged in with their password and not the servers'.
async fn open_sentinel(
    endpoint: &Endpoint,
    host: &HostPort,
    timeout: Duration,
) -> Result<Wire, LinkError> {
    let mut itself = at(endpoint, host);
    itself.user = None;
    itself.forget_password();
    if let Some(login) = &endpoint.sentinel_login {
        itself.user.clone_from(&login.user);
        itself.set_password(login.password().to_vec());
    }
    let mut wire = open(&itself, timeout).await?;
    login(&mut wire, &itself).await?;
    Ok(wire)
}

/// Whom one sentinel names.
async fn master_at(
    endpoint: &Endpoint,
    sentinels: &Sentinels,
    host: &HostPort,
    timeout: Duration,
) -> Result<HostPort, LinkError> {
    let service = sentinels.service();
    let asked = async {
        let mut wire = open_sentinel(endpoint, host, timeout).await?;
        let question = [
            b"SENTINEL".as_slice(),
            b"GET-MASTER-ADDR-BY-NAME",
            service.as_bytes(),
        ];
        match wire.call(&question).await? {
            Reply::Array(parts) => address(&parts).ok_or_else(|| {
                LinkError::Unexpected("SENTINEL GET-MASTER-ADDR-BY-NAME", format!("{parts:?}"))
            }),
            Reply::Null => {
                let known = services(&mut wire).await?;
                Err(SentinelError::UnknownService(service.to_owned(), known).into())
            }
            Reply::Error(ErrorCode::UnknownCommand, _) => {
                Err(SentinelError::NotOne(host.clone()).into())
            }
            Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
            other => Err(LinkError::Unexpected(
                "SENTINEL GET-MASTER-ADDR-BY-NAME",
                format!("{other:?}"),
            )),
        }
    };
    asked.await.map_err(|error| of_sentinel(error, host))
}

/// The same error, said of a sentinel.
fn of_sentinel(error: LinkError, host: &HostPort) -> LinkError {
    use ErrorCode as Code;
    match error {
        LinkError::Connect(why) | LinkError::Io(why) => {
            LinkError::Connect(format!("the sentinel {host}: {why}"))
        }
        LinkError::Closed => {
            LinkError::Connect(format!("the sentinel {host} closed the connection"))
        }
        LinkError::Reply(
            Code::NoAuth | Code::WrongPass | Code::NoUsers | Code::NoPerm | Code::ProtectedMode,
            line,
        ) => SentinelError::Denied(host.clone(), line).into(),
        LinkError::Reply(_, line) => {
            LinkError::Connect(format!("the sentinel {host} answers \"{line}\""))
        }
        other => other,
    }
}

/// The same, at one place.
pub(super) fn at(endpoint: &Endpoint, place: &HostPort) -> Endpoint {
    let mut endpoint = endpoint.clone();
    endpoint.address = Address::Tcp {
        host: place.host.clone(),
        port: place.port,
    };
    endpoint
}

fn address(parts: &[Reply]) -> Option<HostPort> {
    let [Reply::Bulk(host), Reply::Bulk(port)] = parts else {
        return None;
    };
    Some(HostPort {
        host: std::str::from_utf8(host).ok()?.to_owned(),
        port: std::str::from_utf8(port).ok()?.parse().ok()?,
    })
}

/// By ROLE, else by INFO. A server that may be asked neither is taken for what the sentinel says.
async fn is_master(wire: &mut Wire) -> Result<bool, LinkError> {
    match wire.call(&[b"ROLE"]).await? {
        Reply::Array(parts) => {
            return Ok(
                matches!(parts.first(), Some(Reply::Bulk(role)) if role.as_ref() == b"master"),
            );
        }
        Reply::Error(ErrorCode::Loading, line) => {
            return Err(LinkError::Reply(ErrorCode::Loading, line));
        }
        _ => {}
    }
    match wire.call(&[b"INFO", b"replication"]).await? {
        Reply::Bulk(info) => Ok(!String::from_utf8_lossy(&info).contains("role:slave")),
        _ => Ok(true),
    }
}
