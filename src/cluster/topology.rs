//! Who has which slots, as one node of the cluster told it at some moment.

use std::fmt;

use super::slot::{SLOTS, Slot};

/// Mark of a slot that nobody has.
const NOBODY: u16 = u16::MAX;

/// Most nodes: their numbers must stay below [`NOBODY`]. A cluster can't have as many masters as slots.
const NODES_MAX: usize = SLOTS as usize;

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddress {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// 1–65535.
    pub port: u16,
}

/// A master that has slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// How it is reached.
    pub address: NodeAddress,
    /// Its replicas, any of which may be the master of its slots tomorrow.
    pub replicas: Vec<NodeAddress>,
}

/// Slots that follow each other and are at the same node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRange {
    /// The first of them.
    pub first: Slot,
    /// The last of them.
    pub last: Slot,
    /// Who has them.
    pub master: NodeAddress,
    /// See [`Node::replicas`].
    pub replicas: Vec<NodeAddress>,
}

/// Why an answer is no topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologyError {
    /// A range that ends before it begins, or behind the last slot.
    Range(Slot, Slot),
    /// More nodes than slots.
    TooManyNodes,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    nodes: Vec<Node>,
    /// For each slot the number of its node.
    owners: Vec<u16>,
}

impl Topology {
    /// From what CLUSTER SLOTS lists. Nodes are numbered in the order of their addresses.
    ///
    /// # Errors
    ///
    /// If it makes no sense. Slots that are in no range are no error: they are at nobody.
    pub fn of(ranges: &[SlotRange]) -> Result<Self, TopologyError> {
        let mut nodes: Vec<Node> = Vec::new();
        for range in ranges {
            if range.first > range.last || range.last >= SLOTS {
                return Err(TopologyError::Range(range.first, range.last));
            }
            if nodes.iter().all(|node| node.address != range.master) {
                nodes.push(Node {
                    address: range.master.clone(),
                    replicas: range.replicas.clone(),
                });
            }
        }
        if nodes.len() > NODES_MAX {
            return Err(TopologyError::TooManyNodes);
        }
        nodes.sort_by(|a, b| a.address.cmp(&b.address));
        let mut owners = vec![NOBODY; usize::from(SLOTS)];
        for range in ranges {
            let owner = nodes.iter().position(|node| node.address == range.master);
            let owner = owner.expect("every master was made a node") as u16;
            owners[usize::from(range.first)..=usize::from(range.last)].fill(owner);
        }
        Ok(Self { nodes, owners })
    }

    /// The masters that have slots.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of the node at `address`.
    pub fn number_of(&self, address: &NodeAddress) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == *address)
    }

    /// The number of the node that has `slot`.
    pub fn owner(&self, slot: Slot) -> Option<usize> {
        match self.owners[usize::from(slot)] {
            NOBODY => None,
            owner => Some(usize::from(owner)),
        }
    }

    /// The last of the slots from `slot` on that are at the same node without a gap.
    pub fn run_end(&self, slot: Slot) -> Slot {
        let owner = self.owners[usize::from(slot)];
        let run = self.owners[usize::from(slot)..]
            .iter()
            .take_while(|other| **other == owner);
        slot + (run.count() as Slot - 1)
    }

    /// How many slots are at nobody, and the first of them.
    pub fn hole(&self) -> Option<(usize, Slot)> {
        let first = self.owners.iter().position(|owner| *owner == NOBODY)?;
        let holes = self.owners.iter().filter(|owner| **owner == NOBODY);
        Some((holes.count(), first as Slot))
    }

    /// The last slot of the node with this number.
    pub fn last_slot_of(&self, number: usize) -> Option<Slot> {
        let last = self
            .owners
            .iter()
            .rposition(|owner| usize::from(*owner) == number)?;
        Some(last as Slot)
    }

    /// How many slots the node with this number has.
    pub fn slots_of(&self, number: usize) -> usize {
        let owned = self
            .owners
            .iter()
            .filter(|owner| usize::from(**owner) == number);
        owned.count()
    }

    /// Notes that `slot` is at another node by now, as MOVED said. Returns that node's number; `None`, and nothing is
    /// noted, if it is none of the known ones: then the whole topology has to be asked for again.
    pub fn moved(&mut self, slot: Slot, to: &NodeAddress) -> Option<usize> {
        let number = self.number_of(to)?;
        self.owners[usize::from(slot)] = number as u16;
        Some(number)
    }

    /// Whether the same masters have slots as in `other`, whichever slots these are.
    pub fn has_same_nodes(&self, other: &Self) -> bool {
        let addresses = |topology: &Self| -> Vec<NodeAddress> {
            let nodes = topology.nodes.iter();
            nodes.map(|node| node.address.clone()).collect()
        };
        addresses(self) == addresses(other)
    }

    /// Everybody who can be asked about the cluster: masters, then replicas.
    pub fn everybody(&self) -> impl Iterator<Item = &NodeAddress> {
        let masters = self.nodes.iter().map(|node| &node.address);
        masters.chain(self.nodes.iter().flat_map(|node| &node.replicas))
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(first, last) => write!(f, "slots from {first} to {last} are none"),
            Self::TooManyNodes => write!(f, "more than {NODES_MAX} nodes"),
        }
    }
}

impl std::error::Error for TopologyError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> NodeAddress {
        NodeAddress {
            host: "10.0.0.1".into(),
            port,
        }
    }

    fn range(first: Slot, last: Slot, port: u16) -> SlotRange {
        SlotRange {
            first,
            last,
            master: address(port),
            replicas: vec![address(port + 1000)],
        }
    }

    fn three() -> Topology {
        let ranges = [
            range(5461, 10_922, 2),
            range(0, 5460, 1),
            range(10_923, 16_383, 3),
        ];
        Topology::of(&ranges).expect("a topology")
    }

    #[test]
    fn a_slot_is_found_at_the_node_that_was_named() {
        let topology = three();
        assert_eq!(topology.nodes().len(), 3);
        assert_eq!(topology.owner(0), Some(0));
        assert_eq!(topology.owner(5461), Some(1));
        assert_eq!(topology.owner(16_383), Some(2));
        assert_eq!(topology.run_end(0), 5460);
        assert_eq!(topology.run_end(5460), 5460);
        assert_eq!(topology.run_end(10_923), 16_383);
        assert_eq!(topology.hole(), None);
        let slots: usize = (0..3).map(|node| topology.slots_of(node)).sum();
        assert_eq!(slots, usize::from(SLOTS));
        assert_eq!(topology.everybody().count(), 6);
        assert_eq!(topology.last_slot_of(1), Some(10_922));
        assert_eq!(topology.last_slot_of(3), None);
    }

    #[test]
    fn slots_at_nobody_are_seen() {
        let topology = Topology::of(&[range(0, 99, 1), range(200, 16_383, 1)]).expect("a topology");
        assert_eq!(topology.hole(), Some((100, 100)));
        assert_eq!(topology.owner(100), None);
        assert_eq!(topology.run_end(0), 99);
        assert_eq!(topology.run_end(150), 199);
    }

    #[test]
    fn a_moved_slot_is_found_where_it_went_if_that_is_known() {
        let mut topology = three();
        assert_eq!(topology.moved(7, &address(3)), Some(2));
        assert_eq!(topology.owner(7), Some(2));
        assert_eq!(topology.run_end(0), 6);
        assert_eq!(topology.moved(8, &address(9)), None);
        assert_eq!(topology.owner(8), Some(0));
        assert!(topology.has_same_nodes(&three()));
        let failed_over = [range(0, 5460, 4), range(5461, 16_383, 2)];
        let failed_over = Topology::of(&failed_over).expect("a topology");
        assert!(!topology.has_same_nodes(&failed_over));
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        let check = |first, last| {
            assert_eq!(
                Topology::of(&[range(first, last, 1)]),
                Err(TopologyError::Range(first, last))
            );
        };
        check(5, 4);
        check(0, SLOTS);
        assert_eq!(
            Topology::of(&[]).map(|topology| topology.hole()),
            Ok(Some((16_384, 0)))
        );
    }
}
