//! The servers of a migration that there is already: their addresses stand in its plan, their passwords nowhere.
//!
//! # Invariant
//!
//! What comes out of here is a server that the plan names. An address that is given again has to be the same one. A server
//! that the migration spoke to over TLS is not spoken to without, unless an address is given that says so.

use std::ffi::{OsStr, OsString};

use redknot::endpoint::{Endpoint, Side};
use redknot::plan::Plan;
use redknot::progress::TlsUse;
use redknot::state::status;

use super::args::Common;
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::passwords;
use super::server_args::{SourceArgs, TargetArgs};
use super::servers::{self, Said, Server};
use super::settings::{OnCommandLine, refuse_pairs};

/// What a command line says about the two servers of a migration.
pub struct Logins<'a> {
    /// Of the migration.
    pub name: &'a str,
    pub from: Option<&'a OsStr>,
    pub to: Option<&'a OsStr>,
    pub source: &'a SourceArgs,
    pub target: &'a TargetArgs,
    pub visible: OnCommandLine,
    pub require_tls: bool,
}

/// Source and target of `plan`, with their logins.
///
/// # Errors
///
/// If a server is named that the plan does not name, or a password can't be had.
pub fn endpoints(
    plan: &Plan,
    logins: &Logins<'_>,
    common: &Common,
    console: &Console,
) -> Result<(Endpoint, Endpoint), Failure> {
    refuse_pairs(
        passwords::contradictions(logins.source, logins.target, common.no_input).into_iter(),
    )?;
    // The plan holds where a server is, not how it was spoken to; the last status does.
    let last = status::read(&common.state_dir(), logins.name).ok();
    let [source_tls, target_tls] = last.map_or([TlsUse::None; 2], |file| {
        [file.status.source_tls, file.status.target_tls]
    });
    let source_url = url(&plan.source, source_tls);
    let source = servers::server(
        &Said {
            url_on_command_line: logins.visible.from,
            no_input: common.no_input,
            require_tls: logins.require_tls,
            ..Said::source(Some(logins.from.unwrap_or(&source_url)), logins.source)
        },
        console,
    )?;
    let dbs: Vec<u32> = plan.lanes.iter().map(|lane| lane.source_db).collect();
    must_be_planned(Side::Source, &source, &plan.source, &dbs)?;
    let target_url = url(&plan.target, target_tls);
    let target = servers::server(
        &Said {
            url_on_command_line: logins.visible.to,
            no_input: common.no_input,
            require_tls: logins.require_tls,
            ..Said::target(Some(logins.to.unwrap_or(&target_url)), logins.target)
        },
        console,
    )?;
    let dbs: Vec<u32> = plan.lanes.iter().map(|lane| lane.target_db).collect();
    must_be_planned(Side::Target, &target, &plan.target, &dbs)?;
    Ok((source.endpoint, target.endpoint))
}

/// The URL of an address as a plan holds it. Whoever was believed without proof has to be believed anew.
fn url(address: &str, tls: TlsUse) -> OsString {
    let secure = match tls {
        TlsUse::None => "",
        TlsUse::Verified | TlsUse::Unverified => "s",
    };
    // Behind the address of a server stands nothing, behind those of sentinels the service that they watch.
    let kind = match address.contains('/') {
        true => "-sentinel",
        false => "",
    };
    match address.starts_with('/') {
        true => format!("redis+unix://{}", percent_encoded(address)).into(),
        false => format!("redis{secure}{kind}://{address}").into(),
    }
}

/// A socket's path as a URL takes it. What the plan shows escaped is not the path any more, and will not be found there.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn must_be_planned(side: Side, server: &Server, address: &str, dbs: &[u32]) -> Result<(), Failure> {
    let now = server.endpoint.address.to_string();
    let flag = match side {
        Side::Source => "--from",
        Side::Target => "--to",
    };
    if now != address {
        return Err(other(
            format!("{flag} names another server than the migration has"),
            format!("{side}: previous {address}, now {now}"),
            flag,
        ));
    }
    if server.db_given && dbs != [server.endpoint.db] {
        let planned: Vec<String> = dbs.iter().map(ToString::to_string).collect();
        return Err(other(
            format!("{flag} names another database than the migration has"),
            format!(
                "databases of the {side}: previous {}, now {}",
                planned.join(","),
                server.endpoint.db
            ),
            flag,
        ));
    }
    Ok(())
}

fn other(what: String, why: String, flag: &str) -> Failure {
    Failure::new(ExitCode::StateForeign, what, why).hint(format!(
        "{flag} can be left away: the address is stored, and a password can come from {flag}-pass-file"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_plan_is_found_again_by_its_url() {
        for address in [
            "cache.prod:6379",
            "[2001:db8::7]:6380",
            "/run/redis 1/a#b.sock",
        ] {
            let url = url(address, TlsUse::None);
            let parsed = redknot::endpoint::url::parse(url.as_encoded_bytes());
            let parsed = parsed.expect("an address of a plan has a URL");
            assert_eq!(parsed.endpoint.address.to_string(), address);
            assert!(!parsed.db_given && parsed.scheme_given);
        }
    }
}
