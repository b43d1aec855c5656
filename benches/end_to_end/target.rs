//! What is written: one server, or a cluster of three masters that share the slots evenly.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redknot::cluster::{SLOTS, slot_of};

use crate::server::{Certificate, Content, Server};

/// Masters of a cluster. An odd number: the digests of their keys then add up to that of one server with all of them.
const MASTERS: u16 = 3;
/// How long the masters may take to agree.
const AGREED_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub struct Target {
    nodes: Vec<Server>,
}

impl Target {
    /// One server.
    pub fn single(folder: &Path, certificate: Option<&Certificate>) -> Result<Self> {
        Ok(Self {
            nodes: vec![Server::start(folder, certificate)?],
        })
    }

    /// A cluster that serves all slots.
    pub fn cluster(folder: &Path) -> Result<Self> {
        let mut nodes = Vec::new();
        for number in 0..MASTERS {
            let mut node = Server::start_node(folder)?;
            let epoch = (number + 1).to_string();
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            let (first, last) = (first_slot(number), first_slot(number + 1) - 1);
            node.ask(&[
                "CLUSTER",
                "ADDSLOTSRANGE",
                &first.to_string(),
                &last.to_string(),
            ])?;
            nodes.push(node);
        }
        let addresses: Vec<[String; 2]> = nodes
            .iter()
            .map(|node| [node.port.to_string(), node.bus_port.to_string()])
            .collect();
        for [port, bus_port] in &addresses[1..] {
            nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", port, bus_port])?;
        }
        let deadline = Instant::now() + AGREED_MAX;
        for node in &mut nodes {
            loop {
                let info = node.ask(&["CLUSTER", "INFO"])?;
                let size = format!("cluster_size:{MASTERS}");
                if info.contains("cluster_state:ok") && info.contains(&size) {
                    break;
                }
                if Instant::now() > deadline {
                    bail!("the nodes do not agree: {info}");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(Self { nodes })
    }

    /// Where it is, as redknot is told.
    pub fn url(&self, tls: bool) -> String {
        self.nodes[0].url(tls)
    }

    /// The ports of its nodes, in the order of their slots.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// The port at which a single server speaks TLS.
    pub fn tls_port(&self) -> u16 {
        self.nodes[0].tls_port
    }

    /// CPU seconds of all nodes so far.
    pub fn cpu_seconds(&mut self) -> Result<f64> {
        self.nodes.iter_mut().map(Server::cpu_seconds).sum()
    }

    pub fn empty(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Server::empty)
    }

    pub fn keys(&mut self) -> Result<String> {
        let mut keys = 0_u64;
        for node in &mut self.nodes {
            keys += node.keys()?.parse::<u64>()?;
        }
        Ok(keys.to_string())
    }

    /// Counts and digests everything.
    pub fn content(&mut self) -> Result<Content> {
        let keys = self.keys()?;
        let mut digest = [0; 20];
        for node in &mut self.nodes {
            let of_node = node.content()?.digest;
            for (at, byte) in digest.iter_mut().enumerate() {
                let digits = of_node
                    .get(2 * at..2 * at + 2)
                    .context("a digest of 20 bytes")?;
                *byte ^= u8::from_str_radix(digits, 16)?;
            }
        }
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Content { keys, digest })
    }
}

fn first_slot(master: u16) -> u16 {
    (u32::from(master) * u32::from(SLOTS) / u32::from(MASTERS)) as u16
}

/// Which of so many nodes has the key.
pub fn node_of(key: &[u8], nodes: usize) -> usize {
    match nodes {
        1 => 0,
        _ => {
            let slot = slot_of(key);
            (1..MASTERS)
                .filter(|master| first_slot(*master) <= slot)
                .count()
        }
    }
}
