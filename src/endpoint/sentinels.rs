//! A service that sentinels watch: who they are, and how the service is called.
//!
//! # Invariant
//!
//! It stands for the service and for no server. Whoever is its master has to be asked for at every connect.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};

use crate::key::Escaped;

/// A name or an IP address (IPv6 without brackets), and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Resolved anew at every connect.
    pub host: String,
    /// 1–65535.
    pub port: u16,
}

/// A service and its sentinels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sentinels {
    hosts: Vec<HostPort>,
    service: String,
}

impl Sentinels {
    /// Of the service that these sentinels know by this name.
    pub fn new(mut hosts: Vec<HostPort>, service: String) -> Self {
        // In whichever order they are given, it is the same service.
        hosts.sort();
        hosts.dedup();
        Self { hosts, service }
    }

    /// Where the sentinels listen, sorted.
    pub fn hosts(&self) -> &[HostPort] {
        &self.hosts
    }

    /// What they call the service.
    pub fn service(&self) -> &str {
        &self.service
    }
}

/// Who we are to the sentinels; to the servers behind them we may be somebody else.
#[derive(Clone)]
pub struct SentinelLogin {
    /// The ACL user; `None` logs in as the default user.
    pub user: Option<String>,
    password: SecretSlice<u8>,
}

impl SentinelLogin {
    /// A login with this password: any bytes, none of which is ever shown.
    pub fn new(user: Option<String>, password: Vec<u8>) -> Self {
        Self {
            user,
            password: SecretSlice::from(password),
        }
    }

    /// The password's bytes, to be written to a socket and nowhere else.
    pub fn password(&self) -> &[u8] {
        self.password.expose_secret()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// `host:port,host:port/service`
impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, host) in self.hosts.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        write!(f, "/{}", Escaped(self.service.as_bytes()))
    }
}
