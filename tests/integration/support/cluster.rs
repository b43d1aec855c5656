//! A real cluster: masters with their slots, each with its replicas, on loopback.
//!
//! # Invariants
//!
//! - Everything here is asked of the servers or done by their own tools: slots of keys by CLUSTER KEYSLOT, resharding by
//!   `redis-cli`. No code under test takes part.
//! - A method that changes the cluster returns when all nodes agree on the change.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::Value;

use super::dataset::{DataSet, fill};
use super::server::{Server, ServerSpec, free_port};
use super::version::Binary;
use super::wait_for;

/// Every cluster has as many.
const SLOTS: usize = 16_384;

/// Longest wait until nodes agree; elections take some node timeouts.
const AGREED_DEADLINE: Duration = Duration::from_secs(60);

/// How long a node may be silent until the others take it for dead. Short, so that a failover is soon; long enough that
/// a busy machine does not cause one.
const NODE_TIMEOUT_MS: u32 = 3_000;

/// When a failover that was asked for is asked for again.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(7);

/// Keys carried in one pipeline.
const CHUNK_KEYS: usize = 500;

/// A cluster in which every slot is served.
pub struct Cluster {
    /// The masters first, then their replicas in the same order, as it was at the start.
    nodes: Vec<Server>,
    binary: Binary,
}

impl Cluster {
    /// `masters` nodes that share the slots evenly, each with `replicas` replicas.
    pub fn start(binary: &Binary, masters: usize, replicas: usize) -> Self {
        Self::of(binary, masters, replicas, |spec| spec)
    }

    /// As [`Self::start`], with every node as `change` makes it.
    pub fn of(
        binary: &Binary,
        masters: usize,
        replicas: usize,
        change: impl Fn(ServerSpec) -> ServerSpec,
    ) -> Self {
        let nodes = (0..masters * (1 + replicas)).map(|_| Server::start(change(spec(binary))));
        let cluster = Self {
            nodes: nodes.collect(),
            binary: binary.clone(),
        };
        cluster.meet();
        for (number, node) in cluster.nodes[..masters].iter().enumerate() {
            let (first, last) = (number * SLOTS / masters, (number + 1) * SLOTS / masters - 1);
            ask(
                node,
                &[
                    "CLUSTER",
                    "ADDSLOTSRANGE",
                    &first.to_string(),
                    &last.to_string(),
                ],
            );
        }
        for (number, replica) in cluster.nodes[masters..].iter().enumerate() {
            let master = id(&cluster.nodes[number % masters]);
            wait_for("the replica to know its master", AGREED_DEADLINE, || {
                try_ask(replica, &["CLUSTER", "REPLICATE", &master]).ok()
            });
        }
        cluster.wait_until_agreed();
        if replicas > 0 {
            cluster.wait_until_replicated();
        }
        cluster
    }

    /// Makes every node know every other.
    fn meet(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            // Nodes that begin with the same epoch would have to sort that out first.
            ask(
                node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()],
            );
        }
        let first = &self.nodes[0];
        for node in &self.nodes[1..] {
            let bus = bus_port(node).to_string();
            ask(
                first,
                &[
                    "CLUSTER",
                    "MEET",
                    "127.0.0.1",
                    &node.port().to_string(),
                    &bus,
                ],
            );
        }
        let known = self.nodes.len().to_string();
        for node in &self.nodes {
            wait_for("every node to know every other", AGREED_DEADLINE, || {
                (cluster_info(node)["cluster_known_nodes"] == known).then_some(())
            });
        }
    }

    /// All nodes, in the order in which they were started: the first masters, then the first replicas.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// One of them, to be restarted or killed.
    pub fn node_mut(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number]
    }

    /// Address of the first node, as a URL.
    pub fn url(&self) -> String {
        self.nodes[0].url(0)
    }

    /// The same, with a database.
    pub fn url_of(&self, db: u32) -> String {
        self.nodes[0].url(db)
    }

    /// The nodes that have slots at present, by the view of the first that answers.
    pub fn masters(&self) -> Vec<&Server> {
        let owners = self.owners();
        let mut masters: Vec<&Server> = self.nodes.iter().collect();
        masters.retain(|node| owners.contains(&Some(node.port())));
        masters
    }

    /// Number of keys at all masters.
    pub fn keys(&self) -> u64 {
        self.masters().iter().map(|node| node.keys(0)).sum()
    }

    /// How often all nodes together have executed `command`.
    pub fn calls(&self, command: &str) -> u64 {
        self.nodes.iter().map(|node| node.calls(command)).sum()
    }

    /// How many commands that write a key all nodes together have executed.
    pub fn writes(&self) -> u64 {
        self.nodes.iter().map(Server::writes).sum()
    }

    /// How often all nodes together have answered MOVED or ASK.
    pub fn redirections(&self) -> u64 {
        let of_node = |node: &Server| -> u64 {
            let stats = node.info("errorstats");
            ["errorstat_MOVED", "errorstat_ASK"]
                .iter()
                .filter_map(|name| {
                    stats
                        .get(*name)?
                        .trim()
                        .strip_prefix("count=")?
                        .parse::<u64>()
                        .ok()
                })
                .sum()
        };
        self.nodes.iter().map(of_node).sum()
    }

    /// Adds the keys of `set`: made on a server of the same version, and carried over. Returns how many they are.
    pub fn fill(&self, set: &DataSet) -> u64 {
        let scratch = Server::plain(&self.binary);
        fill(&scratch, 0, set);
        self.carry_from(&scratch)
    }

    /// Adds the keys of `scratch`, as they are there. Returns how many they are, which the nodes have confirmed.
    pub fn carry_from(&self, scratch: &Server) -> u64 {
        let made = scratch.keys(0);
        let before = self.keys();
        let mut from = scratch.connection();
        let owners = self.owners();
        let mut connections: HashMap<u16, redis::Connection> = self
            .masters()
            .into_iter()
            .map(|node| (node.port(), node.connection()))
            .collect();
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut from).expect("KEYS");
        for names in names.chunks(CHUNK_KEYS) {
            let slots = key_slots(&mut connections, names);
            let mut pipe = redis::pipe();
            for name in names {
                pipe.cmd("DUMP").arg(name).cmd("PEXPIRETIME").arg(name);
            }
            let replies: Vec<Value> = pipe.query(&mut from).expect("DUMP");
            let mut pipes: HashMap<u16, redis::Pipeline> = HashMap::new();
            for ((name, slot), reply) in names.iter().zip(slots).zip(replies.chunks(2)) {
                let owner = owners[slot].expect("every slot is served");
                let payload: Vec<u8> =
                    redis::from_redis_value(reply[0].clone()).expect("a payload");
                let expiry: i64 = redis::from_redis_value(reply[1].clone()).expect("a number");
                let pipe = pipes.entry(owner).or_default();
                pipe.cmd("RESTORE")
                    .arg(name)
                    .arg(expiry.max(0))
                    .arg(payload);
                pipe.arg("ABSTTL").ignore();
            }
            for (owner, pipe) in pipes {
                let to = connections.get_mut(&owner).expect("a master");
                pipe.exec(to).expect("RESTORE");
            }
        }
        assert_eq!(self.keys() - before, made, "keys that were to be carried");
        made
    }

    /// The port of the owner of each slot.
    fn owners(&self) -> Vec<Option<u16>> {
        let answer = self
            .nodes
            .iter()
            .find_map(|node| try_ask(node, &["CLUSTER", "SLOTS"]).ok())
            .expect("a node that answers");
        owners(answer)
    }

    /// How many slots `node` has.
    pub fn slots_of(&self, node: &Server) -> usize {
        let owners = self.owners();
        let owned = owners.iter().filter(|owner| **owner == Some(node.port()));
        owned.count()
    }

    /// Moves so many slots from one node to another, as operators do: `redis-cli --cluster reshard`.
    pub fn reshard(&self, from: usize, to: usize, slots: usize) {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        let before = self.slots_of(to);
        let output = Command::new("redis-cli")
            .args(["--cluster", "reshard", &from.address().to_string()])
            .args(["--cluster-from", &id(from), "--cluster-to", &id(to)])
            .args(["--cluster-slots", &slots.to_string(), "--cluster-yes"])
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli, of the Debian package redis-tools");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "redis-cli: {said}");
        self.wait_until_agreed();
        assert_eq!(self.slots_of(to), before + slots, "{said}");
    }

    /// Moves the first so many slots of one node to another in one step of both nodes, as Valkey 9 can.
    pub fn move_at_once(&self, from: usize, to: usize, slots: usize) {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        let before = self.slots_of(to);
        let owned = self.owners();
        let first = owned.iter().position(|owner| *owner == Some(from.port()));
        let first = first.expect("a node with slots");
        let last = first + slots - 1;
        assert_eq!(
            owned[last],
            Some(from.port()),
            "slots that follow each other"
        );
        let range = [first.to_string(), last.to_string()];
        ask(
            from,
            &[
                "CLUSTER",
                "MIGRATESLOTS",
                "SLOTSRANGE",
                &range[0],
                &range[1],
                "NODE",
                &id(to),
            ],
        );
        wait_for("the slots to be moved", AGREED_DEADLINE, || {
            (self.slots_of(to) == before + slots).then_some(())
        });
        self.wait_until_agreed();
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &[u8]) -> usize {
        let mut connection = self.masters()[0].connection();
        let slot = redis::cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(key)
            .query(&mut connection);
        slot.expect("CLUSTER KEYSLOT")
    }

    /// The node that has a slot.
    pub fn owner_of(&self, slot: usize) -> &Server {
        self.owner_and_next(slot).0
    }

    /// The node that has a slot, and the one after it.
    fn owner_and_next(&self, slot: usize) -> (&Server, &Server) {
        let masters = self.masters();
        let owner = self.owners()[slot].expect("every slot is served");
        let at = masters.iter().position(|node| node.port() == owner);
        let at = at.expect("the owner is a master");
        (masters[at], masters[(at + 1) % masters.len()])
    }

    /// Declares a slot to be on its way to another node, as tools do before they move its keys.
    pub fn begin_to_move(&self, slot: usize) {
        let (owner, next) = self.owner_and_next(slot);
        let slot = slot.to_string();
        ask(
            next,
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(owner)],
        );
        ask(
            owner,
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(next)],
        );
    }

    /// Takes back that the other node expects the slot.
    pub fn forget_to_import(&self, slot: usize) {
        let (_, next) = self.owner_and_next(slot);
        ask(next, &["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]);
    }

    /// Moves the keys of such a slot that are still there, and tells everybody who has it.
    pub fn end_to_move(&self, slot: usize) {
        let (owner, next) = self.owner_and_next(slot);
        let slot = slot.to_string();
        ask(
            next,
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(owner)],
        );
        let names: Vec<Vec<u8>> =
            redis::from_redis_value(ask(owner, &["CLUSTER", "GETKEYSINSLOT", &slot, "1000000"]))
                .expect("names");
        for name in names {
            redis::cmd("MIGRATE")
                .arg(&["127.0.0.1", &next.port().to_string()])
                .arg(name)
                .arg(&["0", "5000"])
                .exec(&mut owner.connection())
                .expect("MIGRATE");
        }
        let new = id(next);
        for node in [next, owner] {
            ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &new]);
        }
        self.wait_until_agreed();
    }

    /// Takes a slot from its node, and gives it to nobody.
    pub fn give_to_nobody(&self, slot: usize) {
        for node in &self.nodes {
            ask(node, &["CLUSTER", "DELSLOTS", &slot.to_string()]);
        }
    }

    /// A key that some node has.
    pub fn any_key(&self, db: u32) -> Vec<u8> {
        self.masters()[0].any_key(db)
    }

    /// Deletes a key where it is.
    pub fn delete(&self, key: &[u8], db: u32) {
        let (owner, _) = self.owner_and_next(self.slot_of(key));
        let deleted = redis::cmd("DEL")
            .arg(key)
            .query(&mut owner.connection_to(db));
        assert_eq!(deleted, Ok(1), "DEL");
    }

    /// Makes this replica the master of its master's slots, in agreement with the master.
    pub fn fail_over_to(&self, replica: usize) {
        let replica = &self.nodes[replica];
        let mut asked: Option<Instant> = None;
        wait_for("the replica to become a master", AGREED_DEADLINE, || {
            if replica.info("replication")["role"] == "master" {
                return Some(());
            }
            // The two give up where they do not agree within some seconds.
            if asked.is_none_or(|asked| asked.elapsed() > FAILOVER_PATIENCE) {
                asked = Some(Instant::now());
                let _ = try_ask(replica, &["CLUSTER", "FAILOVER"]);
            }
            None
        });
        self.wait_until_master(replica);
        self.wait_until_agreed();
    }

    /// Waits until every replica has what its master has.
    pub fn wait_until_replicated(&self) {
        for node in self.masters() {
            let mut connection = node.connection();
            wait_for("the replicas to catch up", AGREED_DEADLINE, || {
                let replicas: usize = redis::cmd("WAIT")
                    .arg(1)
                    .arg(100)
                    .query(&mut connection)
                    .expect("WAIT");
                let synced = node.info("replication");
                let online = synced
                    .get("slave0")
                    .is_some_and(|one| one.contains("online"));
                (replicas >= 1 && online).then_some(())
            });
        }
        for node in &self.nodes {
            wait_for("the replica to be synchronised", AGREED_DEADLINE, || {
                let info = node.info("replication");
                (info["role"] == "master" || info["master_link_status"] == "up").then_some(())
            });
        }
    }

    /// Kills a master, and waits until its replica has taken over.
    pub fn kill_master(&mut self, master: usize, replica: usize) {
        self.nodes[master].kill_9();
        self.wait_until_master(&self.nodes[replica]);
        self.wait_until_agreed();
    }

    fn wait_until_master(&self, node: &Server) {
        wait_for("the replica to become a master", AGREED_DEADLINE, || {
            (node.info("replication")["role"] == "master").then_some(())
        });
        wait_for("the cluster to be served", AGREED_DEADLINE, || {
            (cluster_info(node)["cluster_state"] == "ok").then_some(())
        });
    }

    /// Waits until every node that is alive says that all slots are served, and by whom, in one voice.
    pub fn wait_until_agreed(&self) {
        wait_for("the nodes to agree", AGREED_DEADLINE, || {
            let alive = self.nodes.iter().filter(|node| node.is_alive());
            let mut views: Vec<Vec<Option<u16>>> = Vec::new();
            for node in alive {
                if cluster_info(node)["cluster_state"] != "ok" {
                    return None;
                }
                views.push(owners(try_ask(node, &["CLUSTER", "SLOTS"]).ok()?));
            }
            let first = views.first()?;
            let agreed = views.iter().all(|view| view == first);
            (agreed && first.iter().all(Option::is_some)).then_some(())
        });
    }
}

fn spec(binary: &Binary) -> ServerSpec {
    ServerSpec::new(binary.clone())
        .config("cluster-enabled", "yes")
        .config("cluster-node-timeout", &NODE_TIMEOUT_MS.to_string())
        // By default the port and 10 000 more, which is more than there are.
        .config("cluster-port", &free_port().to_string())
}

fn bus_port(node: &Server) -> u16 {
    let (_, port): (String, u16) = redis::cmd("CONFIG")
        .arg("GET")
        .arg("cluster-port")
        .query(&mut node.connection())
        .expect("CONFIG GET cluster-port");
    port
}

/// The identity of a node in its cluster.
pub fn id(node: &Server) -> String {
    redis::from_redis_value(ask(node, &["CLUSTER", "MYID"])).expect("an id")
}

fn cluster_info(node: &Server) -> HashMap<String, String> {
    let text: String = redis::from_redis_value(ask(node, &["CLUSTER", "INFO"])).expect("a text");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn key_slots(connections: &mut HashMap<u16, redis::Connection>, names: &[Vec<u8>]) -> Vec<usize> {
    let any = connections.values_mut().next().expect("a master");
    let mut pipe = redis::pipe();
    for name in names {
        pipe.cmd("CLUSTER").arg("KEYSLOT").arg(name);
    }
    pipe.query(any).expect("CLUSTER KEYSLOT")
}

/// Reads CLUSTER SLOTS: the port of each slot's owner.
fn owners(answer: Value) -> Vec<Option<u16>> {
    let mut owners = vec![None; SLOTS];
    let Value::Array(ranges) = answer else {
        panic!("not a list: {answer:?}");
    };
    for range in ranges {
        let Value::Array(parts) = range else {
            panic!("not a range: {range:?}");
        };
        let (Value::Int(first), Value::Int(last), Value::Array(master)) =
            (&parts[0], &parts[1], &parts[2])
        else {
            panic!("not a range: {parts:?}");
        };
        let Value::Int(port) = master[1] else {
            panic!("not a port: {master:?}");
        };
        owners[*first as usize..=*last as usize].fill(Some(port as u16));
    }
    owners
}

fn ask(node: &Server, command: &[&str]) -> Value {
    try_ask(node, command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn try_ask(node: &Server, command: &[&str]) -> redis::RedisResult<Value> {
    let mut cmd = redis::cmd(command[0]);
    cmd.arg(&command[1..]);
    cmd.query(&mut node.try_connection()?)
}
