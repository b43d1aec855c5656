//! The flags of every command that works on servers: who else is told how it goes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use redknot::config::{limits, units};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Who is told")]
pub struct WatchArgs {
    /// Show metrics to Prometheus at this port of this machine, or at IP:PORT
    #[arg(long, env = "REDKNOT_METRICS", value_name = "ADDR", value_parser = metrics)]
    pub metrics: Option<SocketAddr>,
    /// Run programs when something happens: on-start and others in this folder, or this one with that word
    #[arg(long, env = "REDKNOT_HOOK", value_name = "PATH")]
    pub hook: Option<PathBuf>,
    /// How long a hook may run until it is killed [default: 30s]
    #[arg(long, env = "REDKNOT_HOOK_TIMEOUT", value_name = "TIME", value_parser = hook_timeout)]
    pub hook_timeout: Option<Duration>,
    /// How long a run may make no progress until the hook on-stall is run [default: 1m]
    #[arg(long, env = "REDKNOT_STALL_AFTER", value_name = "TIME", value_parser = stall_after)]
    pub stall_after: Option<Duration>,
}

impl WatchArgs {
    /// Every flag as said here, or else as said in `other`.
    pub fn or(self, other: Self) -> Self {
        // Taken apart, so that a new flag does not compile until it is merged.
        let Self {
            metrics,
            hook,
            hook_timeout,
            stall_after,
        } = self;
        Self {
            metrics: metrics.or(other.metrics),
            hook: hook.or(other.hook),
            hook_timeout: hook_timeout.or(other.hook_timeout),
            stall_after: stall_after.or(other.stall_after),
        }
    }
}

/// Who names no address means this machine alone.
fn metrics(text: &str) -> Result<SocketAddr, &'static str> {
    let port = text.strip_prefix("localhost:").or(text.strip_prefix(':'));
    let port = port.unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse()
        .map_err(|_| "neither a port, which is one of this machine alone, nor IP:PORT; IPv6 stands in brackets")
}

fn hook_timeout(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::HOOK_TIMEOUT)
}

fn stall_after(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::STALL_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine_alone() {
        let check = |text: &str, wanted: &str| {
            let address = metrics(text).expect(text);
            assert_eq!(address.to_string(), wanted, "{text}");
        };
        for text in ["9187", ":9187", "localhost:9187", "127.0.0.1:9187"] {
            check(text, "127.0.0.1:9187");
        }
        check("0", "127.0.0.1:0");
        check("[::1]:9187", "[::1]:9187");
        check("0.0.0.0:9187", "0.0.0.0:9187");
        for text in [
            "",
            ":",
            "65536",
            "-1",
            "10.0.0.1",
            "::1:9187",
            "host:9187",
            "http://127.0.0.1:1",
        ] {
            assert!(metrics(text).is_err(), "{text}");
        }
    }
}
