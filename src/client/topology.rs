//! What two servers are to each other: what must hold before anything is written.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::rc::Rc;
use std::time::Duration;

use super::cluster::Nodes;
use super::control::{Control, Info, Role};
use super::handshake::speaks_resp;
use super::wire::LinkError;
use crate::cluster::SLOTS;
use crate::endpoint::{Address, Endpoint, Seeds, Side};
use crate::error::{Class, Error};
use crate::plan::LanePlan;
use crate::resp::ErrorCode;

/// Redis takes no argument above this, unless its operator has raised the limit.
const PROTO_MAX_BULK_LEN: u64 = 512 * 1024 * 1024;

/// What to give instead of a sentinel's address.
pub const SENTINEL_HINT: &str =
    "redis-sentinel://host:26379/SERVICE is the master that it watches by that name";

/// Why it is not begun.
#[derive(Debug)]
pub enum Refusal {
    /// Trouble with one side; may be tried again.
    Link(Side, LinkError),
    /// This can't be done.
    Error(Box<Error>),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

/// One side and what it says of itself.
pub struct Asked {
    /// Which one.
    pub side: Side,
    /// To ask more.
    pub control: Control,
    /// INFO; empty where it may not be asked.
    pub info: Info,
    /// What it is to others.
    pub role: Role,
}

impl Asked {
    /// Connects and asks.
    ///
    /// # Errors
    ///
    /// [`Refusal::Link`] with what the server or the system said.
    pub async fn connect(
        side: Side,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Self, Refusal> {
        let failed = |error| Refusal::Link(side, error);
        // Our own codec shows what a server said that is none of Redis; the crate's parser would not.
        speaks_resp(endpoint, timeout).await.map_err(failed)?;
        let mut control = Control::connect(endpoint, 0, timeout)
            .await
            .map_err(failed)?;
        let info = control.info().await.map_err(failed)?;
        let role = control.role(&info).await.map_err(failed)?;
        Ok(Self {
            side,
            control,
            info,
            role,
        })
    }

    /// No sentinel.
    ///
    /// # Errors
    ///
    /// If it is one.
    pub fn must_have_keys(&self) -> Result<(), Refusal> {
        if mode(&self.info) == "sentinel" || self.role == Role::Sentinel {
            return Err(Error::new(
                Class::Usage,
                format!("use the {}", self.side),
                "it is a sentinel: it watches servers and has no keys",
            )
            .on(self.side)
            .hint(SENTINEL_HINT)
            .into());
        }
        Ok(())
    }

    /// The cluster that it is a node of, if it is.
    ///
    /// # Errors
    ///
    /// A database that it does not have, slots that nobody has, and trouble with the connection.
    pub async fn nodes(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
        dbs: impl Iterator<Item = u32>,
    ) -> Result<Option<Rc<Nodes>>, Refusal> {
        let side = self.side;
        let named = match &endpoint.address {
            Address::Cluster(seeds) => Some(seeds),
            Address::Tcp { .. } | Address::Unix { .. } | Address::Sentinel(_) => None,
        };
        if let Some(seeds) = named {
            if !self.info.is_empty() && !is_cluster(&self.info) {
                return Err(no_cluster(side, seeds).into());
            }
        } else {
            // A user who may not ask INFO may still ask this; a single server then says that it is one.
            let barred = self.info.is_empty() && Nodes::discover(endpoint, timeout).await.is_ok();
            if !is_cluster(&self.info) && !barred {
                return Ok(None);
            }
        }
        for db in dbs.filter(|db| *db != 0) {
            // Valkey 9 has more databases in a cluster where it is told to.
            let selected = Control::connect(endpoint, db, timeout).await;
            if let Err(LinkError::Reply(ErrorCode::DbIndex, line)) = selected {
                let cause = format!("it is a node of a cluster, and answers \"{line}\"");
                return Err(
                    Error::new(Class::Usage, format!("use database {db} of the {side}"), cause)
                        .on(side)
                        .hint(match side {
                            Side::Source => "leave the number of the database away; clusters have several since Valkey 9 (cluster-databases)",
                            Side::Target => {
                                "leave the number of the database away; --db-map '*:0' puts the keys of several there, and --db-prefix keeps them apart"
                            }
                        })
                        .into(),
                );
            }
            selected.map_err(|error| Refusal::Link(side, error))?;
        }
        let nodes = Nodes::discover(endpoint, timeout)
            .await
            .map_err(|error| Refusal::Link(side, error))?;
        let hole = nodes.topology().hole();
        if let Some((slots, first)) = hole {
            let cause = format!(
                "it is a cluster in which {slots} of {SLOTS} slots are at no node, the first of them {first}"
            );
            return Err(Error::new(Class::Topology, format!("use the {side}"), cause)
                .on(side)
                .hint("give every slot to a node (redis-cli --cluster fix), then run the same command")
                .into());
        }
        Ok(Some(Rc::new(nodes)))
    }

    /// No replica, as far as it tells.
    ///
    /// # Errors
    ///
    /// If it is one.
    pub fn must_take_writes(&self) -> Result<(), Refusal> {
        match self.role {
            Role::Replica => Err(Error::new(
                Class::Topology,
                format!("use the {}", self.side),
                "it is a replica, and replicas refuse writes",
            )
            .on(self.side)
            .hint("give --to the address of its master (INFO replication, master_host)")
            .into()),
            Role::Master | Role::Unknown | Role::Sentinel => Ok(()),
        }
    }

    /// That it, as target, has the databases that are written.
    ///
    /// # Errors
    ///
    /// If it has fewer.
    pub async fn must_have_databases(&mut self, lanes: &[LanePlan]) -> Result<(), Refusal> {
        let side = self.side;
        let failed = |error| Refusal::Link(side, error);
        // They are numbered without a gap.
        let highest = lanes.iter().max_by_key(|lane| lane.target_db);
        let Some(&LanePlan {
            source_db,
            target_db: db @ 1..,
        }) = highest
        else {
            return Ok(());
        };
        match self.why_without(db).await.map_err(failed)? {
            None => Ok(()),
            Some(cause) => Err(Error::new(Class::NoGo, format!("use database {db}"), cause)
                .on(self.side)
                .hint(format!("another database takes its keys (--db-map {source_db}:0, --to-db); or raise `databases` in the configuration of the {}", self.side))
                .into()),
        }
    }

    /// That it, as source, has the databases that are read.
    ///
    /// # Errors
    ///
    /// If it has fewer.
    pub async fn must_have_databases_to_read(&mut self, lanes: &[LanePlan]) -> Result<(), Refusal> {
        let side = self.side;
        let failed = |error| Refusal::Link(side, error);
        let highest = lanes.iter().map(|lane| lane.source_db).max();
        let Some(db @ 1..) = highest else {
            return Ok(());
        };
        match self.why_without(db).await.map_err(failed)? {
            None => Ok(()),
            Some(cause) => Err(Error::new(Class::Usage, format!("use database {db}"), cause)
                .on(self.side)
                .hint("--db N, or the number behind the host, has to be one of them; --all-dbs finds those that have keys")
                .into()),
        }
    }

    /// Why it can't be asked about database `db`, if it does not have it.
    async fn why_without(&mut self, db: u32) -> Result<Option<String>, LinkError> {
        let why = match self.control.ask(redis::cmd("SELECT").arg(db)).await {
            Ok(_) => None,
            Err(LinkError::Reply(ErrorCode::DbIndex, line)) => {
                let databases = self.control.config("databases").await?;
                Some(match databases {
                    Some(one) if one == "1" => "it has database 0 only".to_owned(),
                    Some(several) => format!("it has {several} databases, from 0 on"),
                    None => format!("it has fewer databases: \"{line}\""),
                })
            }
            Err(error) => return Err(error),
        };
        self.control.ask(redis::cmd("SELECT").arg(0)).await?;
        Ok(why)
    }

    /// The largest argument that it takes.
    ///
    /// # Errors
    ///
    /// Trouble with the connection.
    pub async fn payload_bytes_max(&mut self) -> Result<u64, Refusal> {
        let limit = self.control.config("proto-max-bulk-len").await;
        let limit = limit.map_err(|error| Refusal::Link(self.side, error))?;
        Ok(limit
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(PROTO_MAX_BULK_LEN))
    }
}

/// The same process under two names would copy keys onto themselves, or databases over each other.
///
/// # Errors
///
/// If a database is both read and written.
pub fn different_servers(source: &Info, target: &Info, lanes: &[LanePlan]) -> Result<(), Refusal> {
    let run_id = |info: &Info| info.get("run_id").filter(|id| !id.is_empty()).cloned();
    let (Some(source), Some(target)) = (run_id(source), run_id(target)) else {
        return Ok(());
    };
    let read: Vec<u32> = lanes.iter().map(|lane| lane.source_db).collect();
    let onto_itself = lanes.iter().find(|lane| read.contains(&lane.target_db));
    match onto_itself {
        Some(lane) if source == target => {
            let cause = format!(
                "source and target are the same server (run_id {}), and database {} is both read and written",
                source.get(..12).unwrap_or(&source),
                lane.target_db
            );
            Err(Error::new(Class::Topology, "begin", cause)
                .hint("give another server, or another database of it (--to redis://…/1)")
                .into())
        }
        _ => Ok(()),
    }
}

/// What is to be said of a server that is both read and written, which [`different_servers`] has allowed.
pub fn same_server(source: &Info, target: &Info, lanes: &[LanePlan]) -> Option<String> {
    let run_id = source.get("run_id").filter(|id| !id.is_empty())?;
    let same = target.get("run_id") == Some(run_id);
    let moves: Vec<String> = lanes.iter().map(ToString::to_string).collect();
    same.then(|| {
        format!(
            "source and target are databases of the same server (run_id {}): its keys are copied from one to the other ({})",
            run_id.get(..12).unwrap_or(run_id),
            moves.join(",")
        )
    })
}

/// Servers that replicate each other have the same data already, or will lose what is written.
///
/// # Errors
///
/// If one of them is the other's replica, or both are of one master.
pub fn not_replicated(source: &Asked, target: &Asked) -> Result<(), Refusal> {
    // Shared by a master and all that is in step with it. It outlives restarts, so it counts only with a role.
    let history = |asked: &Asked| asked.info.get("master_replid").cloned();
    if history(source).is_none() || history(source) != history(target) {
        return Ok(());
    }
    let (side, cause, hint) = match (source.role, target.role) {
        (_, Role::Replica) => (
            Side::Target,
            "it is a replica of the source, or of the same master: replication overwrites what is written to it",
            "the target has to be a server that replicates nobody; if it is to have the source's data, it has them already",
        ),
        (Role::Replica, _) => (
            Side::Source,
            "it is a replica of the target: it has what the target has, and what is written to the target comes back to it",
            "give the address of another server on one of both sides",
        ),
        _ => return Ok(()),
    };
    Err(
        Error::new(Class::Topology, format!("use the {side}"), cause)
            .on(side)
            .hint(hint)
            .into(),
    )
}

/// Two nodes of one cluster would copy keys onto themselves.
///
/// # Errors
///
/// If a node is one of both, and a database is both read and written.
pub fn different_clusters(
    source: Option<&Nodes>,
    target: Option<&Nodes>,
    lanes: &[LanePlan],
) -> Result<(), Refusal> {
    let (Some(source), Some(target)) = (source, target) else {
        return Ok(());
    };
    let read: Vec<u32> = lanes.iter().map(|lane| lane.source_db).collect();
    if lanes.iter().all(|lane| !read.contains(&lane.target_db)) {
        return Ok(());
    }
    let written = target.masters();
    match source.masters().iter().find(|node| written.contains(node)) {
        Some(node) => {
            let cause = format!("source and target are the same cluster, {node} is a node of both");
            Err(Error::new(Class::Topology, "begin", cause)
                .hint("give the address of another cluster")
                .into())
        }
        None => Ok(()),
    }
}

/// Which of several servers would be meant, nobody could tell.
fn no_cluster(side: Side, seeds: &Seeds) -> Error {
    let error = match seeds.named() {
        [one] => Error::new(
            Class::Topology,
            format!("use the {side}"),
            format!("{one} was a node of a cluster when this migration last met it, and is a single server now"),
        )
        .hint("give the address of a node of that cluster, or another --name for another migration"),
        _ => Error::new(
            Class::Usage,
            format!("use the {side}"),
            format!("several hosts are named ({seeds}), and what answers is no node of a cluster"),
        )
        .hint("name one server; a service that sentinels watch is redis-sentinel://host,host/service"),
    };
    error.on(side)
}

/// What kind of server it says it is.
fn mode(info: &Info) -> &str {
    info.get("redis_mode").map_or("", String::as_str)
}

/// Whether it is a node of a cluster.
pub fn is_cluster(info: &Info) -> bool {
    mode(info) == "cluster" || info.get("cluster_enabled").is_some_and(|on| on == "1")
}
