//! What the journal tells of a server that a run has met.

use std::time::{Duration, Instant};

use super::cluster::Nodes;
use super::control::Role;
use super::handshake::unix_ms;
use super::topology::{Asked, Refusal};
use crate::audit::entry::{ServerSeen, hex};
use crate::endpoint::Endpoint;
use crate::progress::TlsUse;
use crate::tls::Tls;

impl Asked {
    /// Who it is, for the journal. `keys`: how many it has, if that was asked.
    ///
    /// # Errors
    ///
    /// Trouble with the connection.
    pub async fn seen(
        &mut self,
        endpoint: &Endpoint,
        timeout: Duration,
        nodes: Option<&Nodes>,
        keys: Option<u64>,
    ) -> Result<ServerSeen, Refusal> {
        let side = self.side;
        let failed = |error| Refusal::Link(side, error);
        let clock = self.control.clock().await.map_err(failed)?;
        let ours = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
        let members = match nodes {
            Some(nodes) => nodes.members(timeout).await.map_err(failed)?,
            None => Vec::new(),
        };
        let info = |name: &str| self.info.get(name).filter(|value| !value.is_empty());
        let version = match (info("valkey_version"), info("redis_version")) {
            (Some(version), _) => format!("valkey {version}"),
            (None, Some(version)) => format!("redis {version}"),
            (None, None) => String::new(),
        };
        let certificate = endpoint.tls.as_ref().and_then(Tls::certificate_sha256);
        Ok(ServerSeen {
            address: endpoint.to_string(),
            version,
            run_id: info("run_id").cloned(),
            role: match self.role {
                Role::Master => Some("master".to_owned()),
                Role::Replica => Some("slave".to_owned()),
                Role::Sentinel | Role::Unknown => None,
            },
            masters: nodes.map(|nodes| nodes.masters().len()),
            nodes: members,
            tls: TlsUse::of(endpoint),
            certificate_sha256: certificate.map(|sha| hex(&sha)),
            clock_ahead_ms: clock.map(|clock| clock.at(Instant::now()) - ours),
            clock_uncertainty_ms: clock.map(|clock| clock.uncertainty_ms),
            keys,
        })
    }
}
