//! What a lane does differently where a side is a cluster.
//!
//! # Invariants
//!
//! - A key that a node refuses because it is elsewhere by now is read again, at whoever has it; what was read before is
//!   never written. So a slot may move as often as it likes, and no older value lands after a newer one.
//! - A key has one connection to the target at a time: that of its slot's node, or of the node that ASK named.

use std::time::Instant;

use bytes::Bytes;

use super::source::Dumped;
use super::{Lane, Sent, Trouble};
use crate::client::LinkError;
use crate::cluster::{NodeAddress, Redirect, Slot, Topology, slot_of};
use crate::copy::batch::KeyRef;
use crate::copy::scan::Walk;
use crate::key::Escaped;
use crate::resp::ErrorCode;

/// Redirections of a key that are followed without a pause. More of them are no way but a circle.
const REDIRECTIONS_MAX: u8 = 8;

impl Lane {
    // ---- a cluster as source

    /// The slot that the source's connection should have next: of a key that has to be read, else of the walk.
    pub fn source_slot(&self) -> Slot {
        let unread = self.first_to_read();
        match (unread, &self.scan) {
            (Some(key), _) => slot_of(self.batch(*key).name(key.index)),
            (None, Walk::Slots(slots)) => slots.next_slot().unwrap_or_default(),
            (None, Walk::Keyspace(_) | Walk::List(_)) => 0,
        }
    }

    /// The source's connection is to this node of `topology` from now on.
    pub fn source_serves(&mut self, topology: &Topology, node: usize) {
        if let Walk::Slots(slots) = &mut self.scan {
            let next = slots.next_slot();
            let here = next.filter(|slot| topology.owner(*slot) == Some(node));
            slots.serve_to(here.map(|slot| topology.run_end(slot)));
        }
    }

    /// Whether this node of the source has given all it has, and the walk goes on at another.
    pub fn must_change_node(&self) -> bool {
        let Walk::Slots(slots) = &self.scan else {
            return false;
        };
        slots.is_served_out() && self.asked.is_empty() && self.keys_to_read() == 0 && !self.stopping
    }

    /// Whether a key may be asked for together with those that `slot` is of: anywhere but in a cluster it may.
    pub(super) fn shares_slot(&self, key: KeyRef, slot: &mut Option<Slot>) -> bool {
        if self.rules.by_slot.is_none() {
            return true;
        }
        let its = slot_of(self.batch(key).name(key.index));
        *slot.get_or_insert(its) == its
    }

    /// Whether an error is about where the key is, and the source is a cluster.
    pub(super) fn is_elsewhere(&self, line: &[u8]) -> bool {
        self.rules.by_slot.is_some()
            && matches!(ErrorCode::of(line), ErrorCode::Moved | ErrorCode::Ask)
    }

    /// The next key that has to be looked for at another node.
    pub fn take_stray(&mut self) -> Option<(KeyRef, Vec<u8>)> {
        let key = self.strays.pop_front()?;
        Some((key, self.batch(key).name(key.index).to_vec()))
    }

    /// A stray was found, or is gone: what TYPE said if it is asked for, the payload, and the expiry as it was asked for.
    pub fn stray_read(
        &mut self,
        key: KeyRef,
        kind: Option<&[u8]>,
        payload: Option<Bytes>,
        expiry: i64,
        now: Instant,
    ) {
        let mut asked_for = self.rules.ask_types.iter();
        let wanted = kind.map(|kind| asked_for.any(|wanted| wanted.name().as_bytes() == kind));
        let dumped = payload.map_or(Dumped::Gone, Dumped::Payload);
        if let Some(payload) = self.payload(key, dumped, wanted) {
            self.key_read(key, payload, expiry, now, now);
        }
    }

    /// Whoever has the stray does not give it.
    pub fn stray_refused(&mut self, key: KeyRef, line: String) {
        self.try_again_or_quarantine(key, "the source refuses to dump it", Some(line), None);
    }

    // ---- a cluster as target

    /// The connection for a key, if the target is a cluster.
    pub(super) fn routed(&self, key: KeyRef) -> Option<usize> {
        let routes = self.rules.routes.as_ref()?;
        if let Some(connection) = self.asking.get(&key) {
            return Some(*connection);
        }
        let name = self.batch(key).name(key.index);
        let slot = match self.rules.renaming.keeps_names() {
            true => slot_of(name),
            false => slot_of(&self.rules.renaming.to_target(name)),
        };
        // A slot at nobody: any node says so, and it is waited for.
        let node = routes.owner(slot).unwrap_or_default();
        Some(self.connection_to(routes, node, slot))
    }

    fn connection_to(&self, routes: &Topology, node: usize, slot: Slot) -> usize {
        let of_each = self.ready.len() / routes.nodes().len();
        node * of_each + usize::from(slot) % of_each
    }

    /// The node of `routes` to which this connection leads.
    fn node_of(&self, routes: &Topology, connection: usize) -> usize {
        connection / (self.ready.len() / routes.nodes().len())
    }

    /// The node of the target to which this connection leads.
    ///
    /// # Panics
    ///
    /// If the target is no cluster.
    pub fn target_node(&self, connection: usize) -> NodeAddress {
        let routes = self.rules.routes.as_ref().expect("a cluster has routes");
        let node = self.node_of(routes, connection);
        routes.nodes()[node].address.clone()
    }

    /// Whether the masters of `topology` are those to which there are connections.
    pub fn has_nodes_of(&self, topology: &Topology) -> bool {
        let routes = self.rules.routes.as_ref();
        routes.is_some_and(|routes| routes.has_same_nodes(topology))
    }

    /// Who has which slots by now; the nodes are the same as before.
    pub fn set_routes(&mut self, topology: Topology) {
        self.rules.routes = Some(topology);
    }

    /// A node of the target says where the key is to be written instead. It is read again for it.
    pub(super) fn redirected(
        &mut self,
        connection: usize,
        sent: Sent,
        line: &[u8],
    ) -> Result<(), Trouble> {
        let Some(mut routes) = self.rules.routes.take() else {
            return Err(LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string()).into());
        };
        let node = self.node_of(&routes, connection);
        let asked = routes.nodes()[node].address.clone();
        let Some(redirect) = Redirect::parse(line, &asked) else {
            self.rules.routes = Some(routes);
            self.sent[connection].push_front(sent);
            return Err(LinkError::Unexpected("RESTORE", Escaped(line).to_string()).into());
        };
        let redirections = self.redirections.entry(sent.key).or_default();
        *redirections += 1;
        if *redirections > REDIRECTIONS_MAX {
            self.redirections.remove(&sent.key);
            self.rules.routes = Some(routes);
            self.sent[connection].push_front(sent);
            let what = format!("the nodes do not agree who has slot {}", redirect.slot);
            return Err(LinkError::Elsewhere(what).into());
        }
        let moved = ErrorCode::of(line) == ErrorCode::Moved;
        let found = match moved {
            true => routes.moved(redirect.slot, &redirect.to),
            false => routes.number_of(&redirect.to),
        };
        let there = found.map(|node| self.connection_to(&routes, node, redirect.slot));
        self.rules.routes = Some(routes);
        match there {
            None => {
                self.sent[connection].push_front(sent);
                return Err(Trouble::UnknownNode(redirect.to));
            }
            Some(there) if !moved => {
                self.asking.insert(sent.key, there);
            }
            Some(_) => {}
        }
        self.unread.push_back(sent.key);
        Ok(())
    }
}
