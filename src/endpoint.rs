//! One side of a migration: where it is and how to log in.
//!
//! # Invariant
//!
//! A password can't be printed, logged or stored: no field shows it, `Debug` and `Display` leave it out.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretSlice};

use crate::key::Escaped;
use crate::tls::Tls;

mod seeds;
mod sentinels;
pub mod url;

pub use seeds::{MetNode, Seeds};
pub use sentinels::{HostPort, SentinelLogin, Sentinels};

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The server that is read.
    Source,
    /// The server that is written.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name or an IP address (IPv6 without brackets), and a port.
    Tcp {
        /// Resolved anew at every connect, since the name may come to mean another server.
        host: String,
        /// 1–65535.
        port: u16,
    },
    /// A socket in the file system.
    Unix {
        /// Absolute.
        path: PathBuf,
    },
    /// At any of the nodes of a cluster, of which several are known.
    Cluster(Seeds),
    /// Wherever the master of a service is at the moment.
    Sentinel(Sentinels),
}

/// A server as the command line names it.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// The database that the URL names; 0 without one.
    pub db: u32,
    /// The ACL user; `None` logs in as the default user.
    pub user: Option<String>,
    /// How TLS is spoken to it; `None` speaks without.
    pub tls: Option<Tls>,
    /// How to log in to the sentinels, where these ask who we are.
    pub sentinel_login: Option<SentinelLogin>,
    password: Option<SecretSlice<u8>>,
}

impl Endpoint {
    /// An endpoint without credentials and without TLS, database 0.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            db: 0,
            user: None,
            tls: None,
            sentinel_login: None,
            password: None,
        }
    }

    /// Sets the password: any bytes, none of which is ever shown again.
    pub fn set_password(&mut self, password: Vec<u8>) {
        self.password = Some(SecretSlice::from(password));
    }

    /// For a server to which this password does not belong.
    pub fn forget_password(&mut self) {
        self.password = None;
    }

    /// The same cluster, which may also be found by nodes that an earlier run has met. Sentinels, and sockets, say
    /// themselves where to go.
    pub fn also_at(&mut self, met: &[MetNode]) {
        if met.is_empty() {
            return;
        }
        let seeds = match &self.address {
            Address::Tcp { host, port } => Seeds::new(vec![HostPort {
                host: host.clone(),
                port: *port,
            }]),
            Address::Cluster(seeds) => seeds.clone(),
            Address::Unix { .. } | Address::Sentinel(_) => return,
        };
        self.address = Address::Cluster(seeds.with_met(met.to_vec()));
    }

    /// The password's bytes, to be written to the socket and nowhere else.
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_ref().map(|secret| secret.expose_secret())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", Escaped(path.as_os_str().as_bytes())),
            Self::Cluster(seeds) => seeds.fmt(f),
            Self::Sentinel(sentinels) => sentinels.fmt(f),
        }
    }
}

/// `redis://user@host:port/db`, with TLS `rediss://…`; as it would be given again, but never with a password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = match &self.user {
            Some(user) => format!("{}@", Escaped(user.as_bytes())),
            None => String::new(),
        };
        let (address, db) = (&self.address, self.db);
        let secure = if self.tls.is_some() { "s" } else { "" };
        match address {
            Address::Tcp { .. } | Address::Cluster(_) => {
                write!(f, "redis{secure}://{user}{address}/{db}")
            }
            Address::Unix { .. } => write!(f, "redis+unix://{user}{address}?db={db}"),
            Address::Sentinel(_) => write!(f, "redis{secure}-sentinel://{user}{address}/{db}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
