//! From the text that names a server to an [`Endpoint`].
//!
//! `redis://[user[:password]@]host[:port][/db][?db=n]`, the same with `rediss://` for TLS, either with several hosts
//! (`host[:port],host[:port]`) that are nodes of one cluster,
//! `redis+unix://[user:password@]/path[?db=n]`, `redis-sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]`
//! (`rediss-sentinel://` for TLS), or a bare `host[:port][/db]`. User, password and path are percent-encoded; any byte can be written that way.
//!
//! # Invariants
//!
//! No error shows a byte of the password, nor of anything that could be one after a typing mistake (`redis://:secret`
//! has its secret where the port belongs). Any text gives an endpoint or an error, never a panic.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Address, Endpoint, HostPort, Seeds};

mod sentinel;
#[cfg(test)]
mod tests;

/// The port of a URL that names none.
pub const PORT_DEFAULT: u16 = 6379;

/// The same of a sentinel.
pub const SENTINEL_PORT_DEFAULT: u16 = 26379;

/// The highest database number that SELECT can take; a server usually has 16.
pub const DB_MAX: u32 = i32::MAX as u32;

/// What a URL said, and what it left unsaid.
pub struct ParsedUrl {
    /// The server. Its user is set only where the URL also has a password, or says that there is none (`user:@`).
    pub endpoint: Endpoint,
    /// Whether the URL names a database; without one `endpoint.db` is 0.
    pub db_given: bool,
    /// Whether the text began with a scheme, or only with a host.
    pub scheme_given: bool,
    /// Whether the scheme asks for TLS. The endpoint has none yet: the URL does not say whom to believe.
    pub tls: bool,
    /// The `name` of `redis://name@host`: by RFC 3986 a user, for redis-cli a password. Only whoever knows whether a
    /// password comes from elsewhere can tell, and until then it must not be shown.
    pub name_alone: Option<String>,
}

impl fmt::Debug for ParsedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.endpoint, f)
    }
}

/// Why a text does not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Nothing was given; often a variable of the shell that is not set.
    #[error("the address is empty")]
    Empty,
    /// A scheme that is none of ours.
    #[error("the scheme `{0}` is not known")]
    UnknownScheme(String),
    /// `redis-sentinel://host`: the sentinels of what?
    #[error("the name of the service is missing behind the sentinels")]
    NoService,
    /// A name that no sentinel knows a service by.
    #[error("the name of the service has a character that no service's name has")]
    ServiceCharacter,
    /// `redis:/host`, `unix:/path`.
    #[error("`{0}:` is not followed by `//`")]
    SlashesMissing(&'static str),
    /// A path where a URL belongs.
    #[error("this is a path, not an address")]
    PathWithoutScheme,
    /// One of `@ / ? #` inside the credentials, or a `#`, which has no meaning anywhere.
    #[error("there is an unescaped `{0}` in the user or password")]
    Unescaped(char),
    /// `%` that is not followed by two hexadecimal digits.
    #[error(
        "there is a `%` in the user, password or path that is not followed by two hexadecimal digits"
    )]
    Percent,
    /// The user decodes to bytes that are not UTF-8.
    #[error("the user is not UTF-8 text")]
    UserNotText,
    /// `redis://`, `redis://:6379`.
    #[error("there is no host")]
    NoHost,
    /// A character that no host name has. Not shown: it may stand in a password.
    #[error("the host has a character that no host name has")]
    HostCharacter,
    /// More than one colon after the credentials, and no IPv6 address either.
    #[error("there is more than one `:` between host and port")]
    Colons,
    /// `::1:6379`.
    #[error("an IPv6 address has to stand in brackets")]
    Ipv6WithoutBrackets(Ipv6Addr),
    /// `[` without `]`, or no IPv6 address between them.
    #[error("what stands in brackets is not an IPv6 address")]
    NotIpv6,
    /// A port that is no number, or out of range.
    #[error("the port has to be a number from 1 to 65535")]
    Port(Box<Mark>),
    /// `host:`, often a variable of the shell that is not set.
    #[error("there is no port after the `:`")]
    PortMissing,
    /// `/abc`, `/-1`, `?db=x`.
    #[error("the database has to be a number from 0 to {DB_MAX}")]
    Db,
    /// `/1?db=2`.
    #[error("the database is named twice, and differently")]
    DbTwice,
    /// A parameter other than `db`. Its value is not shown.
    #[error("the part after `?` can only be `db=NUMBER`")]
    Parameter,
    /// `unix://tmp/redis.sock`.
    #[error("the path of a socket has to be absolute")]
    SocketRelative,
    /// A path with a NUL byte.
    #[error("the path of a socket can't contain a NUL byte")]
    SocketNul,
}

/// A part of a text, to be underlined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The URL, with everything masked that could be secret.
    pub text: String,
    /// Which of its characters are meant.
    pub range: Range<usize>,
}

impl UrlError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        const FORMS: &str = "use redis://[user:password@]host[:port][/db], redis://host,host for nodes of a cluster, rediss:// for TLS, redis+unix:///path/to/socket, redis-sentinel://host,host/service, or host:port";
        match self {
            Self::Unescaped(character) => format!(
                "write it as %{:02X}, or keep the password out of the URL with --from-pass-file / --to-pass-file",
                u32::from(*character)
            ),
            Self::Percent => "write a `%` as %25, or keep the password out of the URL with --from-pass-file / --to-pass-file".into(),
            Self::NoService | Self::ServiceCharacter => {
                "for example redis-sentinel://host:26379,host:26379/mymaster".into()
            }
            Self::SlashesMissing(scheme @ ("unix" | "redis+unix")) => format!("{scheme}:///path/to/socket"),
            Self::SlashesMissing(scheme) => format!("{scheme}://host:port"),
            Self::PathWithoutScheme => "a socket is named by redis+unix:///path/to/socket".into(),
            Self::Ipv6WithoutBrackets(address) => format!("write [{address}]:6379"),
            Self::NotIpv6 => "for example [::1]:6379".into(),
            Self::Port(_) => "for example cache.example.com:6379; with a password, user:password@ stands before the host".into(),
            Self::PortMissing => "leave the `:` away to use port 6379".into(),
            Self::Db | Self::DbTwice | Self::Parameter => "for example redis://host:6379/3".into(),
            Self::SocketRelative => "redis+unix:///path/to/socket has three slashes".into(),
            Self::Empty
            | Self::UnknownScheme(_)
            | Self::UserNotText
            | Self::NoHost
            | Self::HostCharacter
            | Self::Colons
            | Self::SocketNul => FORMS.into(),
        }
    }

    /// The place in the URL, where it can be shown without showing a secret.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Port(mark) => Some(mark),
            _ => None,
        }
    }
}

/// What may stand before `://`.
const SCHEMES: [&str; 9] = [
    "redis",
    "valkey",
    "redis-cluster",
    "rediss",
    "valkeys",
    "unix",
    "redis+unix",
    "redis-sentinel",
    "rediss-sentinel",
];

/// Which kind of address a scheme announces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Tls,
    Unix,
    Sentinel,
    SentinelTls,
}

impl Scheme {
    fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::SentinelTls)
    }
}

/// Reads `text` as the address of a server.
///
/// # Errors
///
/// [`UrlError`], which shows nothing that could be secret.
pub fn parse(text: &[u8]) -> Result<ParsedUrl, UrlError> {
    if text.is_empty() {
        return Err(UrlError::Empty);
    }
    let (scheme, rest) = split_scheme(text)?;
    let scheme_given = scheme.is_some();
    let (authority, tail) = split_at(rest, |byte| matches!(byte, b'/' | b'?' | b'#'));
    let (userinfo, host) = split_userinfo(authority, tail)?;
    let credentials = match userinfo {
        Some(userinfo) => Credentials::parse(userinfo)?,
        None => Credentials::default(),
    };
    let (address, db) = match scheme.unwrap_or(Scheme::Tcp) {
        Scheme::Tcp | Scheme::Tls => {
            let shown = Shown {
                scheme,
                userinfo: userinfo.is_some(),
            };
            let (path, query) = split_at(tail, |byte| matches!(byte, b'?' | b'#'));
            let hosts: Vec<HostPort> = host
                .split(|byte| *byte == b',')
                .map(|host| host_port(host, PORT_DEFAULT, shown))
                .collect::<Result<_, _>>()?;
            let db = one_db(path_db(path)?, query_db(query)?)?;
            (tcp_or_cluster(hosts), db)
        }
        Scheme::Sentinel | Scheme::SentinelTls => {
            let shown = Shown {
                scheme,
                userinfo: userinfo.is_some(),
            };
            sentinel::address(host, tail, shown)?
        }
        Scheme::Unix if !host.is_empty() => return Err(UrlError::SocketRelative),
        Scheme::Unix => {
            let (path, query) = split_at(tail, |byte| byte == b'?');
            (unix_address(path)?, query_db(query)?)
        }
    };
    let mut endpoint = Endpoint::new(address);
    endpoint.db = db.unwrap_or(0);
    endpoint.user = credentials.user;
    if let Some(password) = credentials.password {
        endpoint.set_password(password);
    }
    Ok(ParsedUrl {
        endpoint,
        db_given: db.is_some(),
        scheme_given,
        tls: scheme.is_some_and(Scheme::has_tls),
        name_alone: credentials.name_alone,
    })
}

/// The scheme, if there is one, and what follows its `://`.
fn split_scheme(text: &[u8]) -> Result<(Option<Scheme>, &[u8]), UrlError> {
    let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let name_len = text.iter().take_while(|byte| is_scheme_byte(byte)).count();
    let (name, rest) = text.split_at(name_len);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let Some(rest) = rest.strip_prefix(b":/") else {
        let is_path = text.starts_with(b"/") || text.starts_with(b"./") || text.starts_with(b"../");
        return if is_path {
            Err(UrlError::PathWithoutScheme)
        } else {
            Ok((None, text))
        };
    };
    let Some(rest) = rest.strip_prefix(b"/") else {
        // `name:/` can be nothing else than a mistake: a port is never empty and a host never has a slash.
        return Err(match SCHEMES.into_iter().find(|known| *known == name) {
            Some(known) => UrlError::SlashesMissing(known),
            None => UrlError::PortMissing,
        });
    };
    match name.as_str() {
        // A cluster says itself that it is one.
        "redis" | "valkey" | "redis-cluster" => Ok((Some(Scheme::Tcp), rest)),
        "rediss" | "valkeys" => Ok((Some(Scheme::Tls), rest)),
        "unix" | "redis+unix" => Ok((Some(Scheme::Unix), rest)),
        "redis-sentinel" => Ok((Some(Scheme::Sentinel), rest)),
        "rediss-sentinel" => Ok((Some(Scheme::SentinelTls), rest)),
        _ => Err(UrlError::UnknownScheme(name)),
    }
}

/// Up to the first byte that `ends` says, and from there.
fn split_at(text: &[u8], ends: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| ends(*byte))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// What stands before and after the `@` of the authority.
///
/// An address has one `@`, after the credentials. A second one, or one behind the end of the authority, comes from a
/// password that is not percent-encoded, and guessing where it ends could send half a password to the wrong host.
fn split_userinfo<'a>(
    authority: &'a [u8],
    tail: &[u8],
) -> Result<(Option<&'a [u8]>, &'a [u8]), UrlError> {
    let at = authority.iter().position(|byte| *byte == b'@');
    let (userinfo, host) = match at {
        Some(at) => (Some(&authority[..at]), &authority[at + 1..]),
        None => (None, authority),
    };
    if host.contains(&b'@') {
        return Err(UrlError::Unescaped('@'));
    }
    // A socket's path may well contain an `@`, and then nothing stands before the path but the credentials.
    if !host.is_empty() {
        if let (Some(first), true) = (tail.first(), tail.contains(&b'@')) {
            return Err(UrlError::Unescaped(char::from(*first)));
        }
        if tail.contains(&b'#') {
            return Err(UrlError::Unescaped('#'));
        }
    }
    Ok((userinfo, host))
}

#[derive(Default)]
struct Credentials {
    user: Option<String>,
    password: Option<Vec<u8>>,
    name_alone: Option<String>,
}

impl Credentials {
    fn parse(userinfo: &[u8]) -> Result<Self, UrlError> {
        let (user, password) = split_at(userinfo, |byte| byte == b':');
        let user = String::from_utf8(decode(user)?).map_err(|_| UrlError::UserNotText)?;
        let user = Some(user).filter(|user| !user.is_empty());
        let Some(password) = password.strip_prefix(b":") else {
            return Ok(Self {
                name_alone: user,
                ..Self::default()
            });
        };
        let password = decode(password)?;
        // `:@host` says nothing at all, `user:@host` says that this user has no password.
        let password = Some(password).filter(|password| !password.is_empty() || user.is_some());
        Ok(Self {
            user,
            password,
            name_alone: None,
        })
    }
}

/// Undoes percent-encoding.
fn decode(text: &[u8]) -> Result<Vec<u8>, UrlError> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return Err(UrlError::Percent),
        }
    }
    Ok(percent_encoding::percent_decode(text).collect())
}

/// One server, or several nodes of a cluster.
fn tcp_or_cluster(hosts: Vec<HostPort>) -> Address {
    let seeds = Seeds::new(hosts);
    match seeds.named() {
        [HostPort { host, port }] => Address::Tcp {
            host: host.clone(),
            port: *port,
        },
        _ => Address::Cluster(seeds),
    }
}

/// What may be shown of the part before the host.
#[derive(Clone, Copy)]
struct Shown {
    scheme: Option<Scheme>,
    userinfo: bool,
}

/// `host`, `host:port`, `[ipv6]`, `[ipv6]:port`.
fn host_port(text: &[u8], port_default: u16, shown: Shown) -> Result<HostPort, UrlError> {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let (host, rest) = split_at(rest, |byte| byte == b']');
            let host: Option<Ipv6Addr> = std::str::from_utf8(host)
                .ok()
                .and_then(|host| host.parse().ok());
            let host = host
                .filter(|_| rest.starts_with(b"]"))
                .ok_or(UrlError::NotIpv6)?;
            (host.to_string(), &rest[1..])
        }
        None => {
            let (host, port) = split_at(text, |byte| byte == b':');
            if port.iter().filter(|byte| **byte == b':').count() > 1 {
                return Err(too_many_colons(text));
            }
            (host_name(host)?, port)
        }
    };
    let port = match port {
        b"" => port_default,
        b":" => return Err(UrlError::PortMissing),
        [b':', digits @ ..] => port_number(digits).ok_or_else(|| bad_port(&host, digits, shown))?,
        _ => return Err(UrlError::NotIpv6),
    };
    Ok(HostPort { host, port })
}

fn port_number(digits: &[u8]) -> Option<u16> {
    // `parse` alone would take `+6379`.
    let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|port| *port != 0)
}

/// A host name, which may be anything that a resolver could know.
fn host_name(host: &[u8]) -> Result<String, UrlError> {
    let host = std::str::from_utf8(host).map_err(|_| UrlError::HostCharacter)?;
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let belongs = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !host.chars().all(belongs) {
        return Err(UrlError::HostCharacter);
    }
    Ok(host.to_owned())
}

/// The error for `a:b:c`: an IPv6 address, with or without a port, if it can be read as one.
fn too_many_colons(text: &[u8]) -> UrlError {
    let Ok(text) = std::str::from_utf8(text) else {
        return UrlError::Colons;
    };
    // `::1:6379` is itself an address; that the last part is meant as a port is likelier if it has four or five digits.
    let before_port = text
        .rsplit_once(':')
        .filter(|(_, port)| port.len() >= 4 && port.parse::<u16>().is_ok());
    let address = before_port
        .and_then(|(address, _)| address.parse().ok())
        .or_else(|| text.parse().ok());
    address.map_or(UrlError::Colons, UrlError::Ipv6WithoutBrackets)
}

/// Marks the port. Only what looks like a number is shown, because a password may have slipped into its place.
fn bad_port(host: &str, port: &[u8], shown: Shown) -> UrlError {
    let digits = port.strip_prefix(b"-").unwrap_or(port);
    // With credentials before the host, what follows the host is no password. Without, only what is as short as a port
    // is taken for one.
    let harmless = shown.userinfo || port.len() <= 5;
    let port = match std::str::from_utf8(port) {
        Ok(port) if harmless && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => port,
        _ => "***",
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let scheme = match shown.scheme {
        Some(Scheme::Tls) => "rediss://",
        Some(Scheme::Tcp | Scheme::Unix) => "redis://",
        Some(Scheme::Sentinel) => "redis-sentinel://",
        Some(Scheme::SentinelTls) => "rediss-sentinel://",
        None => "",
    };
    let userinfo = if shown.userinfo { "***@" } else { "" };
    let before = format!("{scheme}{userinfo}{host}:");
    let begin = before.chars().count();
    UrlError::Port(Box::new(Mark {
        range: begin..begin + port.len(),
        text: format!("{before}{port}"),
    }))
}

/// `/`, `/3` or nothing.
fn path_db(path: &[u8]) -> Result<Option<u32>, UrlError> {
    match path {
        b"" | b"/" => Ok(None),
        [b'/', digits @ ..] => db_number(digits).map(Some),
        _ => Err(UrlError::Db),
    }
}

/// `?`, `?db=3` or nothing.
fn query_db(query: &[u8]) -> Result<Option<u32>, UrlError> {
    match query {
        b"" | b"?" => Ok(None),
        _ => {
            let digits = query.strip_prefix(b"?db=").ok_or(UrlError::Parameter)?;
            db_number(digits).map(Some)
        }
    }
}

fn db_number(digits: &[u8]) -> Result<u32, UrlError> {
    let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let db = digits.and_then(|digits| digits.parse().ok());
    db.filter(|db| *db <= DB_MAX).ok_or(UrlError::Db)
}

fn one_db(path: Option<u32>, query: Option<u32>) -> Result<Option<u32>, UrlError> {
    match (path, query) {
        (Some(path), Some(query)) if path != query => Err(UrlError::DbTwice),
        (path, query) => Ok(path.or(query)),
    }
}

fn unix_address(path: &[u8]) -> Result<Address, UrlError> {
    let path = decode(path)?;
    if !path.starts_with(b"/") || path.ends_with(b"/") {
        return Err(UrlError::SocketRelative);
    }
    if path.contains(&0) {
        return Err(UrlError::SocketNul);
    }
    Ok(Address::Unix {
        path: PathBuf::from(OsString::from_vec(path)),
    })
}
