//! A cluster as it may be found: by any of the nodes that were named, and by those that an earlier run has met.
//!
//! # Invariant
//!
//! What was named says where the cluster is. What was met only stands in: it is asked when nobody who was named answers, and
//! counts only if it still knows one of the nodes that were met with it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::HostPort;

/// A node of a cluster, by its identifier and as it was reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetNode {
    /// The forty digits that it is called by in its cluster, whatever its address.
    pub id: String,
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// 1–65535.
    pub port: u16,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seeds {
    named: Vec<HostPort>,
    met: Vec<MetNode>,
}

impl Seeds {
    /// The nodes that were named, at least one.
    pub fn new(mut named: Vec<HostPort>) -> Self {
        // In whichever order they are given, it is the same cluster.
        named.sort();
        named.dedup();
        Self {
            named,
            met: Vec::new(),
        }
    }

    /// The same, with the nodes that an earlier run has met.
    #[must_use]
    pub fn with_met(mut self, met: Vec<MetNode>) -> Self {
        self.met = met;
        self
    }

    /// The nodes that were named, sorted.
    pub fn named(&self) -> &[HostPort] {
        &self.named
    }

    /// Where else it may be found: the nodes that were met, but for those that were named.
    pub fn elsewhere(&self) -> impl Iterator<Item = HostPort> {
        let places = self.met.iter().map(|node| HostPort {
            host: node.host.clone(),
            port: node.port,
        });
        places.filter(|place| !self.named.contains(place))
    }

    /// Whether a cluster with nodes of these identifiers is the one that was met.
    pub fn have_met_one_of(&self, ids: &[String]) -> bool {
        self.met.iter().any(|node| ids.contains(&node.id))
    }
}

/// `host:port,host:port`: what was named.
impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, host) in self.named.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}
