//! The nodes of a cluster: who has which slot as far as is known, and how each is reached.
//!
//! # Invariants
//!
//! - Every node is spoken to as the endpoint says: same user, same password.
//! - What is known of the topology is a hint about where to ask. It is asked for anew, of another node each time, when a
//!   node is gone or says that it does not have a slot.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::control::{Control, Info};
use super::handshake::{Link, connect_source, connect_target_node};
use super::sentinel::located;
use super::wire::LinkError;
use crate::cluster::{NodeAddress, Probes, Slot, Topology, slot_of};
use crate::endpoint::{Address, Endpoint, MetNode};
use crate::plan::KeyType;
use crate::state::record::ServerIdentity;

/// `run_id` of a source that is a cluster: its positions are slots, which no process issues and none takes with it.
pub const SLOTS_IDENTITY: &str = "slots";

/// In front of the `run_id`s of a target that is a cluster.
const NODES_IDENTITY: &str = "nodes ";

/// Hexadecimal digits of each `run_id` that are kept: enough to tell the processes of one cluster apart, and few enough
/// for a cluster of hundreds of nodes in one record.
const RUN_ID_KEPT: usize = 8;

/// More processes than this are none that can be told apart: they would not fit into one record.
const PROCESSES_MAX: usize = 300;

/// How long a node may take to say what it knows, while there are others to be asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
pub struct Nodes {
    endpoint: Endpoint,
    topology: RefCell<Topology>,
    probes: Rc<Probes>,
    /// For questions, kept from one to the next.
    controls: RefCell<HashMap<(NodeAddress, u32), Control>>,
    /// Whom to ask first the next time.
    turn: Cell<usize>,
    /// The node that is read at present.
    reading: RefCell<Option<NodeAddress>>,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes")
            .field("endpoint", &self.endpoint)
            .field("masters", &self.topology.borrow().nodes().len())
            .finish_non_exhaustive()
    }
}

impl Nodes {
    /// The cluster that the server at `endpoint` belongs to, whichever of its nodes that is.
    ///
    /// # Errors
    ///
    /// What the server or the system said.
    pub async fn discover(endpoint: &Endpoint, timeout: Duration) -> Result<Self, LinkError> {
        let topology = view(endpoint, timeout).await?;
        Ok(Self {
            endpoint: endpoint.clone(),
            topology: RefCell::new(topology),
            probes: Rc::new(Probes::find()),
            controls: RefCell::default(),
            turn: Cell::new(0),
            reading: RefCell::default(),
        })
    }

    /// Who has which slots, as far as is known.
    pub fn topology(&self) -> Ref<'_, Topology> {
        self.topology.borrow()
    }

    /// How a node is spoken to.
    pub fn endpoint_of(&self, node: &NodeAddress) -> Endpoint {
        let mut endpoint = self.endpoint.clone();
        endpoint.db = 0;
        endpoint.address = Address::Tcp {
            host: node.host.clone(),
            port: node.port,
        };
        endpoint
    }

    /// Number and address of the node that should have `slot`.
    ///
    /// # Errors
    ///
    /// If nobody has it.
    pub fn owner(&self, slot: Slot) -> Result<(usize, NodeAddress), LinkError> {
        let topology = self.topology.borrow();
        match topology.owner(slot) {
            Some(number) => Ok((number, topology.nodes()[number].address.clone())),
            None => Err(LinkError::Elsewhere(format!("slot {slot} is at no node"))),
        }
    }

    /// A connection for questions to the node that has a key's slot, which is asked for anew; and which node that is.
    ///
    /// # Errors
    ///
    /// Trouble with the connections, and if nobody has the slot.
    pub async fn control_at(
        &self,
        name: &[u8],
        db: u32,
        timeout: Duration,
    ) -> Result<(NodeAddress, Control), LinkError> {
        // What is known may be what was wrong the last time.
        self.refresh(timeout).await?;
        let (_, node) = self.owner(slot_of(name))?;
        let control = Control::connect(&self.endpoint_of(&node), db, timeout)
            .await
            .map_err(|error| error.at(&node))?;
        Ok((node, control))
    }

    /// Names that nobody uses, one a slot.
    pub fn probes(&self) -> Rc<Probes> {
        Rc::clone(&self.probes)
    }

    /// A connection that writes database `db` of the node that had slots when they were last asked for; nothing has been
    /// written.
    ///
    /// # Errors
    ///
    /// As [`connect_target_node`]; a slot that is on its way is no reason to give up.
    pub async fn connect_target(
        &self,
        node: &NodeAddress,
        db: u32,
        name: &str,
        timeout: Duration,
    ) -> Result<Link, LinkError> {
        let slot = {
            let topology = self.topology.borrow();
            // The last one: resharding begins with the first.
            let number = topology.number_of(node);
            number.and_then(|number| topology.last_slot_of(number))
        };
        let Some(slot) = slot else {
            return Err(LinkError::Elsewhere(format!(
                "{node} has no slots any more"
            )));
        };
        let probe = self.probes.name(slot);
        connect_target_node(&self.endpoint_of(node), db, &probe, name, timeout)
            .await
            .map_err(|error| error.at(node))
    }

    /// A connection that reads database `db` of a node.
    ///
    /// # Errors
    ///
    /// As [`connect_source`].
    pub async fn connect_source(
        &self,
        node: &NodeAddress,
        db: u32,
        name: &str,
        timeout: Duration,
    ) -> Result<Link, LinkError> {
        connect_source(&self.endpoint_of(node), db, name, timeout)
            .await
            .map_err(|error| error.at(node))
    }

    /// Addresses of all masters, in the order of their numbers.
    pub fn masters(&self) -> Vec<NodeAddress> {
        let topology = self.topology.borrow();
        let nodes = topology.nodes().iter();
        nodes.map(|node| node.address.clone()).collect()
    }

    /// Remembers which node is read, so that its latency is measured and not another's.
    pub fn set_reading(&self, node: NodeAddress) {
        self.reading.replace(Some(node));
    }

    /// The node that is read at present.
    pub fn reading(&self) -> Option<NodeAddress> {
        self.reading.borrow().clone()
    }

    /// Asks one of the nodes who has which slots by now: another one each time, and the next ones if it does not answer.
    ///
    /// # Errors
    ///
    /// What the last of them said, if none answers.
    pub async fn refresh(&self, timeout: Duration) -> Result<(), LinkError> {
        self.controls.borrow_mut().clear();
        let mut candidates: Vec<Endpoint> = self
            .topology
            .borrow()
            .everybody()
            .map(|node| self.endpoint_of(node))
            .collect();
        // Its name may lead to nodes that are newer than all that are known.
        candidates.push(self.endpoint.clone());
        let turn = self.turn.get() % candidates.len();
        self.turn.set(turn + 1);
        candidates.rotate_left(turn);
        let mut failure = None;
        for candidate in candidates {
            match view(&candidate, timeout.min(ANSWER_WITHIN)).await {
                Ok(topology) if !topology.nodes().is_empty() => {
                    self.topology.replace(topology);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| LinkError::Elsewhere("no node has a slot".to_owned())))
    }

    /// A connection for questions about database `db` to the node that has `slot`.
    pub async fn control(
        &self,
        slot: Slot,
        db: u32,
        timeout: Duration,
    ) -> Result<Control, LinkError> {
        let (_, node) = self.owner(slot)?;
        self.control_of(&node, db, timeout).await
    }

    async fn control_of(
        &self,
        node: &NodeAddress,
        db: u32,
        timeout: Duration,
    ) -> Result<Control, LinkError> {
        let key = (node.clone(), db);
        if let Some(control) = self.controls.borrow().get(&key) {
            return Ok(control.clone());
        }
        let control = Control::connect(&self.endpoint_of(node), db, timeout)
            .await
            .map_err(|error| error.at(node))?;
        let mut controls = self.controls.borrow_mut();
        controls.insert(key, control.clone());
        Ok(control)
    }

    /// One section of a node's INFO.
    ///
    /// # Errors
    ///
    /// Also a refusal.
    pub async fn info(
        &self,
        node: &NodeAddress,
        section: &str,
        timeout: Duration,
    ) -> Result<Info, LinkError> {
        let mut control = self.control_of(node, 0, timeout).await?;
        let info = control.info_section(section).await;
        info.map_err(|error| error.at(node))
    }

    /// How many keys all masters have together in database `db`; `None` where one of them may not be asked.
    pub async fn dbsize(&self, db: u32, timeout: Duration) -> Result<Option<u64>, LinkError> {
        let mut keys = Some(0);
        for node in self.masters() {
            let mut control = self.control_of(&node, db, timeout).await?;
            let here = control.dbsize().await.map_err(|error| error.at(&node))?;
            keys = keys.zip(here).map(|(sum, here)| sum + here);
        }
        Ok(keys)
    }

    /// How many of `keys` exist in database `db`.
    pub async fn count_existing(
        &self,
        keys: &[Vec<u8>],
        db: u32,
        timeout: Duration,
    ) -> Result<usize, LinkError> {
        let mut by_node: HashMap<NodeAddress, Vec<Vec<u8>>> = HashMap::new();
        for key in keys {
            let (_, node) = self.owner(slot_of(key))?;
            by_node.entry(node).or_default().push(key.clone());
        }
        let mut existing = 0;
        for (node, keys) in by_node {
            let mut control = self.control_of(&node, db, timeout).await?;
            existing += control
                .count_existing(&keys)
                .await
                .map_err(|error| error.at(&node))?;
        }
        Ok(existing)
    }

    /// For each of `keys` whether database `db` has it: with one of these types, if there are any.
    ///
    /// # Errors
    ///
    /// Trouble with a node, or a key that it sends elsewhere.
    pub async fn exist(
        &self,
        keys: &[&[u8]],
        types: &[KeyType],
        db: u32,
        timeout: Duration,
    ) -> Result<Vec<bool>, LinkError> {
        let mut by_node: HashMap<NodeAddress, Vec<usize>> = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            let (_, node) = self.owner(slot_of(key))?;
            by_node.entry(node).or_default().push(index);
        }
        let mut exist = vec![false; keys.len()];
        for (node, indices) in by_node {
            let here: Vec<&[u8]> = indices.iter().map(|index| keys[*index]).collect();
            let mut control = self.control_of(&node, db, timeout).await?;
            let found = control.exist(&here, types).await;
            let found = found.map_err(|error| error.at(&node))?;
            for (index, found) in indices.into_iter().zip(found) {
                exist[index] = found;
            }
        }
        Ok(exist)
    }

    /// Everybody who belongs to it, as one of them says; nobody, where that may not be asked.
    ///
    /// # Errors
    ///
    /// Trouble with the node.
    pub async fn members(&self, timeout: Duration) -> Result<Vec<MetNode>, LinkError> {
        let (_, node) = self.owner(0)?;
        let mut control = self.control_of(&node, 0, timeout).await?;
        control
            .cluster_members(&node)
            .await
            .map_err(|error| error.at(&node))
    }

    /// The processes of all masters, asked one by one.
    pub async fn identity(&self, timeout: Duration) -> Result<ServerIdentity, LinkError> {
        let mut identities = Vec::new();
        for node in self.masters() {
            let mut control = self.control_of(&node, 0, timeout).await?;
            let info = control.info().await.map_err(|error| error.at(&node))?;
            identities.push(ServerIdentity {
                run_id: info.get("run_id").cloned(),
                version: String::new(),
            });
        }
        Ok(identity_of_all(&identities))
    }
}

/// Who has which slots, as the node at `endpoint` sees it.
async fn view(endpoint: &Endpoint, timeout: Duration) -> Result<Topology, LinkError> {
    let endpoint = &located(endpoint, timeout).await?;
    let asked = match &endpoint.address {
        Address::Tcp { host, port } => NodeAddress {
            host: host.clone(),
            port: *port,
        },
        // Whoever is reached through a socket is on this machine. Sentinels watch no cluster.
        Address::Unix { .. } | Address::Sentinel(_) | Address::Cluster(_) => NodeAddress {
            host: "127.0.0.1".to_owned(),
            port: 0,
        },
    };
    let mut control = Control::connect(endpoint, 0, timeout).await?;
    control.cluster_slots(&asked).await
}

/// One identity for all masters of a target: it holds those of its processes. Unknown if one of them is.
pub fn identity_of_all(nodes: &[ServerIdentity]) -> ServerIdentity {
    let mut kept: Option<Vec<&str>> = nodes
        .iter()
        .map(|node| node.run_id.as_deref()?.get(..RUN_ID_KEPT))
        .collect();
    if let Some(kept) = &mut kept {
        kept.sort_unstable();
        kept.dedup();
    }
    kept = kept.filter(|kept| kept.len() <= PROCESSES_MAX);
    ServerIdentity {
        run_id: kept.map(|kept| format!("{NODES_IDENTITY}{}", kept.join(" "))),
        version: nodes
            .first()
            .map_or_else(String::new, |node| node.version.clone()),
    }
}

/// Whether all processes of `before` are among those of `now`; `None` if they are not both those of clusters.
pub fn still_there(before: &str, now: &str) -> Option<bool> {
    let before = before.strip_prefix(NODES_IDENTITY)?;
    let now = now.strip_prefix(NODES_IDENTITY)?;
    let mut before = before.split(' ');
    Some(before.all(|process| now.split(' ').any(|other| other == process)))
}

/// Whether the process `run_id` is one of those of `all`.
pub fn is_among(all: &ServerIdentity, run_id: &str) -> bool {
    let kept = run_id.get(..RUN_ID_KEPT);
    let all = all.run_id.as_deref().unwrap_or_default();
    all.split(' ').any(|process| Some(process) == kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(run_id: &str) -> ServerIdentity {
        ServerIdentity {
            run_id: Some(run_id.to_owned()),
            version: "redis 7.0.15".to_owned(),
        }
    }

    #[test]
    fn processes_of_a_cluster_may_join_but_not_leave() {
        let (a, b, c) = (
            process("aaaaaaaa11"),
            process("bbbbbbbb22"),
            process("cccccccc33"),
        );
        let ours = identity_of_all(&[b.clone(), a.clone()]);
        assert_eq!(ours.run_id.as_deref(), Some("nodes aaaaaaaa bbbbbbbb"));
        let check = |now: &[ServerIdentity], wanted| {
            let now = identity_of_all(now);
            let before = ours.run_id.as_deref().unwrap_or_default();
            let now = now.run_id.unwrap_or_default();
            assert_eq!(still_there(before, &now), wanted, "{now}");
        };
        check(&[a.clone(), b.clone()], Some(true));
        check(&[a.clone(), b, c.clone()], Some(true));
        check(&[a.clone(), c.clone()], Some(false));
        assert!(is_among(&ours, "aaaaaaaa11"));
        assert!(!is_among(&ours, "cccccccc33"));
        assert_eq!(still_there("aaaaaaaa11", "nodes aaaaaaaa"), None);
        let unknown = identity_of_all(&[a, ServerIdentity::default()]);
        assert_eq!(unknown.run_id, None);
    }
}
