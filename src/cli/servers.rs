//! From the flags that name a server, its login and its TLS to an [`Endpoint`].

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use redknot::endpoint::url::{self, UrlError};
use redknot::endpoint::{Address, Endpoint, HostPort, SentinelLogin, Side};

use super::argv;
use super::console::Console;
use super::failure::Failure;
use super::passwords;
use super::server_args::{SourceArgs, TargetArgs};
use super::tls_flags::{self, TlsSaid};

/// What was said about one server.
pub struct Said<'a> {
    pub side: Side,
    pub url: Option<&'a OsStr>,
    /// Whether others can see the URL in the list of processes.
    pub url_on_command_line: bool,
    pub user: Option<&'a str>,
    pub pass_file: Option<&'a Path>,
    pub askpass: bool,
    pub db: Option<u32>,
    pub tls: TlsSaid<'a>,
    pub sentinel_user: Option<&'a str>,
    pub sentinel_pass_file: Option<&'a Path>,
    pub no_input: bool,
    /// Whether nothing may be said in the clear to another machine.
    pub require_tls: bool,
}

impl<'a> Said<'a> {
    /// What `--from…` said.
    pub fn source(url: Option<&'a OsStr>, flags: &'a SourceArgs) -> Self {
        Self {
            side: Side::Source,
            url,
            url_on_command_line: false,
            user: flags.from_user.as_deref(),
            pass_file: flags.from_pass_file.as_deref(),
            askpass: flags.from_askpass,
            db: flags.from_db,
            tls: TlsSaid {
                tls: flags.from_tls,
                cacert: flags.from_cacert.as_deref(),
                cert: flags.from_cert.as_deref(),
                key: flags.from_key.as_deref(),
                sni: flags.from_sni.as_deref(),
                insecure: flags.from_insecure,
            },
            sentinel_user: flags.from_sentinel_user.as_deref(),
            sentinel_pass_file: flags.from_sentinel_pass_file.as_deref(),
            no_input: false,
            require_tls: false,
        }
    }

    /// What `--to…` said.
    pub fn target(url: Option<&'a OsStr>, flags: &'a TargetArgs) -> Self {
        Self {
            side: Side::Target,
            url,
            url_on_command_line: false,
            user: flags.to_user.as_deref(),
            pass_file: flags.to_pass_file.as_deref(),
            askpass: flags.to_askpass,
            db: flags.to_db,
            tls: TlsSaid {
                tls: flags.to_tls,
                cacert: flags.to_cacert.as_deref(),
                cert: flags.to_cert.as_deref(),
                key: flags.to_key.as_deref(),
                sni: flags.to_sni.as_deref(),
                insecure: flags.to_insecure,
            },
            sentinel_user: flags.to_sentinel_user.as_deref(),
            sentinel_pass_file: flags.to_sentinel_pass_file.as_deref(),
            no_input: false,
            require_tls: false,
        }
    }
}

/// A server, and whether its database was said or assumed.
pub struct Server {
    pub endpoint: Endpoint,
    pub db_given: bool,
}

/// The server that `said` describes. Asks for the password if it has to; warns of what is unsafe.
///
/// # Errors
///
/// If the address is missing or can't be read, two flags contradict each other, or the password can't be had.
pub fn server(said: &Said<'_>, console: &Console) -> Result<Server, Failure> {
    let name = flag(said.side, "");
    let Some(text) = said.url else {
        let variable = variable(said.side, "");
        return Err(Failure::usage(
            format!("{name} is missing"),
            format!("the {} has to be named", said.side),
            format!(
                "{name} redis://host:6379, or {variable} in the environment, or `{}` in --config",
                &name[2..]
            ),
        ));
    };
    let parsed = url::parse(text.as_bytes()).map_err(|error| bad_url(&name, &error))?;
    let mut endpoint = parsed.endpoint;
    if let Some(db) = said.db {
        if parsed.db_given && endpoint.db != db {
            return Err(twice(&name, "database", &flag(said.side, "-db")));
        }
        endpoint.db = db;
    }
    endpoint.tls = tls_flags::tls(said.side, &said.tls, parsed.tls, &endpoint.address, console)?;
    if said.require_tls {
        require_tls(said.side, &endpoint)?;
    }
    let url_has_password = endpoint
        .password()
        .is_some_and(|password| !password.is_empty());
    let password = password(said, &endpoint, console)?;
    match (parsed.name_alone, &password) {
        (Some(user), Some(_)) => endpoint.user = Some(user),
        (Some(_), None) => return Err(name_alone(said.side)),
        (None, _) => {}
    }
    if let Some(user) = said.user {
        if password.is_none() && endpoint.password().is_none() {
            return Err(user_alone(said.side));
        }
        if endpoint.user.as_deref().is_some_and(|named| named != user) {
            return Err(twice(&name, "user", &flag(said.side, "-user")));
        }
        endpoint.user = Some(user.to_owned());
    }
    if !parsed.scheme_given {
        console.note(&format!("{name} means {endpoint}"));
    }
    if url_has_password && said.url_on_command_line {
        let (file, variable) = (
            flag(said.side, "-pass-file"),
            variable(said.side, "_PASSWORD"),
        );
        let seen = match argv::is_masked() {
            true => "stays in the shell's history, and was in the list of processes for a moment",
            false => "may be seen by other users of this machine",
        };
        console.warn(&format!(
            "a password in {name} {seen}; {file} and {variable} are safer"
        ));
    }
    if let Some(password) = password {
        endpoint.set_password(password);
    }
    endpoint.sentinel_login = sentinel_login(said, &endpoint.address, console)?;
    if endpoint.tls.is_none()
        && endpoint
            .password()
            .is_some_and(|password| !password.is_empty())
        && crosses_public_networks(&endpoint.address)
    {
        console.warn(&format!(
            "W-PLAINTEXT: the password and all data travel unencrypted to {}, which is not a private address; rediss:// or {} speaks TLS",
            endpoint.address,
            flag(said.side, "-tls")
        ));
    }
    let db_given = parsed.db_given || said.db.is_some();
    Ok(Server { endpoint, db_given })
}

/// The password from the best place other than the URL.
fn password(
    said: &Said<'_>,
    endpoint: &Endpoint,
    console: &Console,
) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(path) = said.pass_file {
        return passwords::from_file(path, &flag(said.side, "-pass-file"), console).map(Some);
    }
    if let Some(password) = passwords::from_env(&variable(said.side, "_PASSWORD")) {
        return Ok(Some(password));
    }
    if said.askpass {
        let question = format!("Password of the {} {}: ", said.side, endpoint.address);
        return passwords::from_prompt(&question, &flag(said.side, "-askpass"), said.no_input)
            .map(Some);
    }
    Ok(None)
}

/// How to log in to the sentinels, if they want that.
fn sentinel_login(
    said: &Said<'_>,
    address: &Address,
    console: &Console,
) -> Result<Option<SentinelLogin>, Failure> {
    let (user, file) = (
        flag(said.side, "-sentinel-user"),
        flag(said.side, "-sentinel-pass-file"),
    );
    let from_env = passwords::from_env(&variable(said.side, "_SENTINEL_PASSWORD"));
    if !matches!(address, Address::Sentinel(_)) {
        let first = [
            (said.sentinel_user.is_some(), user),
            (said.sentinel_pass_file.is_some(), file),
        ];
        // A variable may be there for another command.
        return match first.into_iter().find(|(given, _)| *given) {
            None => Ok(None),
            Some((_, given)) => Err(Failure::usage(
                format!("{given} has no effect without sentinels"),
                format!("{} names a server itself", flag(said.side, "")),
                format!("write redis-sentinel://host:26379/SERVICE, or leave {given} away"),
            )),
        };
    }
    let password = match said.sentinel_pass_file {
        Some(path) => Some(passwords::from_file(path, &file, console)?),
        None => from_env,
    };
    match (password, said.sentinel_user) {
        (Some(password), user) => {
            let user = user.map(str::to_owned);
            Ok(Some(SentinelLogin::new(user, password)))
        }
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Failure::usage(
            format!("{user} needs a password"),
            "a user without one can't log in",
            format!(
                "give it with {file} or {}",
                variable(said.side, "_SENTINEL_PASSWORD")
            ),
        )),
    }
}

/// Everything that leaves this machine is to be encrypted, for somebody whom we know.
fn require_tls(side: Side, endpoint: &Endpoint) -> Result<(), Failure> {
    let name = flag(side, "");
    let refuse = |why: String, hint: String| {
        Err(Failure::usage(
            format!("{name} is refused because of --require-tls"),
            why,
            hint,
        ))
    };
    match &endpoint.tls {
        Some(tls) if tls.is_verified() => Ok(()),
        _ if stays_here(&endpoint.address) => Ok(()),
        Some(_) => refuse(
            format!(
                "with {name}-insecure anybody could answer for {}",
                endpoint.address
            ),
            format!("leave {name}-insecure away; {name}-cacert FILE names an authority to believe"),
        ),
        None => refuse(
            format!(
                "{} is another machine, and would be spoken to in the clear",
                endpoint.address
            ),
            format!("write rediss:// or give {name}-tls"),
        ),
    }
}

/// Whether what is said to this address does not leave this machine, by its very name.
fn stays_here(address: &Address) -> bool {
    match address {
        Address::Unix { .. } => true,
        Address::Tcp { host, .. } => is_this_machine(host),
        Address::Cluster(seeds) => {
            let mut hosts = seeds.named().iter();
            hosts.all(|place| is_this_machine(&place.host))
        }
        // Whom the sentinels name is known only when they are asked.
        Address::Sentinel(_) => false,
    }
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        // By RFC 6761 this name means nothing else.
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Without a password nobody is logged in, and the user would be somebody else than was said.
fn user_alone(side: Side) -> Failure {
    let user = flag(side, "-user");
    Failure::usage(
        format!("{user} needs a password"),
        "a user without one can't log in",
        format!(
            "give it with {} or {}; for a user that has none, write {} redis://USER:@host",
            flag(side, "-pass-file"),
            variable(side, "_PASSWORD"),
            flag(side, "")
        ),
    )
}

pub(super) fn flag(side: Side, end: &str) -> String {
    match side {
        Side::Source => format!("--from{end}"),
        Side::Target => format!("--to{end}"),
    }
}

fn variable(side: Side, end: &str) -> String {
    match side {
        Side::Source => format!("REDKNOT_FROM{end}"),
        Side::Target => format!("REDKNOT_TO{end}"),
    }
}

fn bad_url(name: &str, error: &UrlError) -> Failure {
    let mut why = error.to_string();
    if let Some(mark) = error.mark() {
        let carets = "^".repeat(mark.range.len());
        why.push_str(&format!(
            "\n  {}\n  {:indent$}{carets}",
            mark.text,
            "",
            indent = mark.range.start
        ));
    }
    Failure::usage(format!("{name} is not an address"), why, error.hint())
}

fn twice(url: &str, what: &str, flag: &str) -> Failure {
    Failure::usage(
        format!("{url} and {flag} contradict each other"),
        format!("the URL names another {what} than {flag}"),
        format!("leave the {what} out of one of them"),
    )
}

fn name_alone(side: Side) -> Failure {
    let name = flag(side, "");
    Failure::usage(
        format!("{name} is not an address"),
        "what stands before the `@` could be a user or a password",
        format!(
            "write redis://:PASSWORD@host for a password, redis://USER:@host for a user without one, or give the password with {}",
            flag(side, "-pass-file")
        ),
    )
}

/// Whether a server is neither on this machine nor in a private network. A name that can't be resolved at once is not
/// held against anybody: the connection will say what is wrong with it.
fn crosses_public_networks(address: &Address) -> bool {
    let (host, port) = match address {
        Address::Tcp { host, port } => (host, port),
        Address::Unix { .. } => return false,
        Address::Cluster(seeds) => {
            let mut hosts = seeds.named().iter();
            return hosts.any(|HostPort { host, port }| is_out_in_the_world(host, *port));
        }
        // Where they are, their servers are.
        Address::Sentinel(sentinels) => {
            let mut hosts = sentinels.hosts().iter();
            return hosts.any(|HostPort { host, port }| is_out_in_the_world(host, *port));
        }
    };
    is_out_in_the_world(host, *port)
}

fn is_out_in_the_world(host: &str, port: u16) -> bool {
    if let Ok(ip) = host.parse() {
        return is_public(ip);
    }
    // Resolvers may take many seconds to fail, and a warning is not worth them.
    let (sender, receiver) = std::sync::mpsc::channel();
    let name = (host.to_owned(), port);
    let resolver = std::thread::Builder::new().spawn(move || {
        let ips = name
            .to_socket_addrs()
            .map(|all| all.map(|address| address.ip()).collect::<Vec<_>>());
        let _ = sender.send(ips.unwrap_or_default());
    });
    let ips = resolver
        .ok()
        .and_then(|_| receiver.recv_timeout(Duration::from_millis(300)).ok());
    ips.unwrap_or_default().into_iter().any(is_public)
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_public_v4(ip),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared by carriers and by overlay networks; it does not cross the internet.
    let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || is_shared)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_out_in_the_world_are_public() {
        let check = |ip: &str, public| assert_eq!(is_public(ip.parse().expect(ip)), public, "{ip}");
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.7.7",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            check(ip, false);
        }
        for ip in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
        ] {
            check(ip, true);
        }
        assert!(!crosses_public_networks(&Address::Unix {
            path: "/run/x".into()
        }));
    }
}
