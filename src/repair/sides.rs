//! The connections of a repair: made when they are needed, made anew when they break, given up when that takes too long.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Request;
use super::again::Again;
use super::convert::ConvertRules;
use super::ends::{Broken, End};
use super::expiry::Expiries;
use super::rivals::Others;
use super::write::WriteRules;
use crate::audit::entry::ServerSeen;
use crate::client::master::is_another;
use crate::client::retry::{Budget, Verdict};
use crate::client::seeds::stand_in;
use crate::client::topology::{Asked, Refusal, different_clusters, different_servers};
use crate::client::{Clock, Link, LinkError, Nodes, Takes, connect_source, connect_target};
use crate::cluster::{NodeAddress, Topology};
use crate::endpoint::{Endpoint, Side};
use crate::pace;
use crate::plan::LanePlan;
use crate::rdb::dialect::Dialect;
use crate::renaming::Renaming;

/// Both sides of one lane.
pub struct Sides {
    /// Index of the lane in the plan.
    pub lane: u32,
    /// Reads.
    pub source: End,
    /// Writes.
    pub target: End,
    /// How keys are written between these two.
    pub rules: WriteRules,
    /// Other databases that may have a name.
    pub others: Others,
    /// Compares what was written.
    pub again: Again,
    /// The processes that are read and written, where they say so and are no clusters.
    pub processes: [Option<String>; 2],
}

/// What may be sent to the target, and what is looked at afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Permits {
    /// Whether keys are written over.
    pub replace: bool,
    /// Largest argument that it takes.
    pub payload_bytes_max: u64,
    /// By so much may instants of expiry differ afterwards; they are not looked at without it.
    pub ttl_tolerance: Option<Duration>,
}

/// Patience with both sides.
pub struct Patience {
    budgets: [Budget; 2],
}

impl Patience {
    /// With all of its budget.
    pub fn new(request: &Request) -> Self {
        let options = &request.options;
        let budget = |side| Budget::new(side, options.max_unavailable, options.timeout);
        Self {
            budgets: [budget(Side::Source), budget(Side::Target)],
        }
    }

    /// How long a due answer of this side may take.
    pub fn silence_max(&self, side: Side) -> Duration {
        self.budgets[side as usize].silence_max()
    }

    /// Both sides have answered: an address at which nothing listens later is an outage and no slip.
    pub fn contact(&mut self) {
        self.budgets.iter_mut().for_each(Budget::contact);
    }

    /// So many findings were tried: both sides serve.
    pub fn progress(&mut self, findings: u64) {
        for budget in &mut self.budgets {
            budget.progress(findings);
        }
    }

    /// What to do about a side that broke.
    pub fn failed(&mut self, broken: &Broken) -> Verdict {
        self.budgets[broken.side as usize].failed(&broken.error, Instant::now())
    }
}

/// How both sides are reached.
#[derive(Clone, Copy)]
pub struct Connections<'a> {
    /// The addresses, with credentials.
    pub request: &'a Request,
    /// The nodes of source and target, where these are clusters.
    pub clusters: &'a [Option<Rc<Nodes>>; 2],
    /// How they are called on the servers.
    pub name: &'a str,
    /// What counts the values that the source sends.
    pub pace: &'a pace::Shared,
}

/// Connections to a side: one to a single server, one to each master of a cluster.
pub struct Connected {
    links: Vec<Link>,
    topology: Option<Topology>,
}

impl Connections<'_> {
    /// That only read.
    pub async fn reading(
        &self,
        side: Side,
        db: u32,
        silence: Duration,
    ) -> Result<Connected, Broken> {
        let name = self.name;
        let connected = match &self.clusters[side as usize] {
            None => connect_source(self.endpoint(side), db, name, silence)
                .await
                .map(Connected::single),
            Some(nodes) => {
                let connect =
                    async |node: &NodeAddress| nodes.connect_source(node, db, name, silence).await;
                Connected::to_all(nodes, silence, connect).await
            }
        };
        connected.map_err(|error| Broken { side, error })
    }

    /// That write.
    pub async fn writing(&self, db: u32, silence: Duration) -> Result<Connected, Broken> {
        let (side, name) = (Side::Target, self.name);
        let connected = match &self.clusters[side as usize] {
            None => connect_target(self.endpoint(side), db, name, silence)
                .await
                .map(Connected::single),
            Some(nodes) => {
                let connect =
                    async |node: &NodeAddress| nodes.connect_target(node, db, name, silence).await;
                Connected::to_all(nodes, silence, connect).await
            }
        };
        connected.map_err(|error| Broken { side, error })
    }

    fn endpoint(&self, side: Side) -> &Endpoint {
        match side {
            Side::Source => &self.request.source,
            Side::Target => &self.request.target,
        }
    }
}

impl Connected {
    fn single(link: Link) -> Self {
        Self {
            links: vec![link],
            topology: None,
        }
    }

    /// To all masters that a cluster has by now.
    async fn to_all(
        nodes: &Nodes,
        silence: Duration,
        connect: impl AsyncFn(&NodeAddress) -> Result<Link, LinkError>,
    ) -> Result<Self, LinkError> {
        nodes.refresh(silence).await?;
        let topology = nodes.topology().clone();
        let mut links = Vec::new();
        for node in topology.nodes() {
            links.push(connect(&node.address).await?);
        }
        Ok(Self {
            links,
            topology: Some(topology),
        })
    }

    /// The process of a single server, if it says so.
    fn process(&self) -> Option<String> {
        match self.links.as_slice() {
            [one] if self.topology.is_none() => one.identity.run_id.clone(),
            _ => None,
        }
    }

    /// Whether all of them know instants of expiry.
    pub fn absolute_expiry(&self) -> bool {
        self.links.iter().all(|link| link.absolute_expiry)
    }

    /// The clock, if all of them tell one. Of several it is the first: those of one cluster are taken to agree.
    pub fn clock(&self) -> Option<Clock> {
        let clocks: Option<Vec<Clock>> = self.links.iter().map(|link| link.clock).collect();
        clocks?.first().copied()
    }

    /// What the target takes; always known on connections that write.
    fn takes(&self) -> Takes {
        let takes = self.links.iter().find_map(|link| link.takes.clone());
        takes.unwrap_or_else(|| {
            let version = self
                .links
                .first()
                .map(|link| link.identity.version.as_str());
            Takes {
                dialect: Dialect::of_server(version.unwrap_or_default()),
                modules: Vec::new(),
            }
        })
    }

    /// Ready to be asked.
    pub fn end(self, side: Side, silence: Duration) -> End {
        End::new(side, self.links, self.topology, silence)
    }
}

impl Sides {
    /// Connects to both sides of a lane.
    ///
    /// # Errors
    ///
    /// The side that can't be reached or does not serve.
    pub async fn connect(
        connections: Connections<'_>,
        patience: &Patience,
        lane: u32,
        plan: LanePlan,
        permits: Permits,
    ) -> Result<Self, Broken> {
        let request = connections.request;
        let silence = |side| patience.silence_max(side);
        let source = connections.reading(Side::Source, plan.source_db, silence(Side::Source));
        let source = source.await?;
        let target = connections.writing(plan.target_db, silence(Side::Target));
        let target = target.await?;
        let rules = WriteRules {
            expiries: Expiries::between(&source, &target),
            ttl: request.plan.ttl,
            types: request.plan.types.clone(),
            replace: permits.replace,
            renaming: Renaming::of(&request.plan, plan.source_db),
            convert: ConvertRules {
                takes: target.takes(),
                field_ttl: request.plan.field_ttl,
                bytes_max: permits.payload_bytes_max,
            },
        };
        let processes = [source.process(), target.process()];
        let tolerance = permits.ttl_tolerance;
        let again = Again::connect(request, &connections, patience, plan, tolerance).await?;
        Ok(Self {
            lane,
            source: source
                .end(Side::Source, silence(Side::Source))
                .counted(connections.pace),
            target: target.end(Side::Target, silence(Side::Target)),
            others: Others::of(&connections, lane, silence(Side::Source)),
            rules,
            again,
            processes,
        })
    }
}

impl Sides {
    /// That the sentinels, where there are any, still name the masters that were read and written.
    ///
    /// # Errors
    ///
    /// The side that has another by now.
    pub async fn must_be_masters(
        &self,
        request: &Request,
        silence: Duration,
    ) -> Result<(), Broken> {
        let endpoints = [
            (Side::Source, &request.source),
            (Side::Target, &request.target),
        ];
        for ((side, endpoint), known) in endpoints.into_iter().zip(&self.processes) {
            let error = match is_another(endpoint, known.as_deref(), silence).await {
                Ok(false) => continue,
                Ok(true) => LinkError::Elsewhere(format!(
                    "the sentinels name another master of {} by now",
                    endpoint.address
                )),
                Err(error) => error,
            };
            return Err(Broken { side, error });
        }
        Ok(())
    }
}

/// What was found out about both sides.
pub struct Facts {
    /// Largest argument that the target takes.
    pub payload_bytes_max: u64,
    /// The nodes of source and target, where these are clusters.
    pub clusters: [Option<Rc<Nodes>>; 2],
    /// Who source and target are, for the journal.
    pub servers: [(Side, Box<ServerSeen>); 2],
    /// What is to be said of who answers.
    pub warnings: Vec<String>,
}

/// Looks at both servers before anything is sent because of it.
///
/// # Errors
///
/// What `migrate` would not begin with either.
pub async fn check(request: &Request) -> Result<Facts, Refusal> {
    let timeout = request.options.timeout;
    let lanes = &request.plan.lanes;
    let mut source = Asked::connect(Side::Source, &request.source, timeout).await?;
    let mut target = Asked::connect(Side::Target, &request.target, timeout).await?;
    source.must_have_keys()?;
    target.must_have_keys()?;
    let dbs = lanes.iter().map(|lane| lane.source_db);
    let source_nodes = source.nodes(&request.source, timeout, dbs).await?;
    let dbs = lanes.iter().map(|lane| lane.target_db);
    let target_nodes = target.nodes(&request.target, timeout, dbs).await?;
    different_servers(&source.info, &target.info, lanes)?;
    different_clusters(source_nodes.as_deref(), target_nodes.as_deref(), lanes)?;
    // Whichever node of a cluster was named, the masters are written.
    if target_nodes.is_none() {
        target.must_take_writes()?;
    }
    let mut warnings = Vec::new();
    warnings.extend(stand_in(&request.source, Side::Source, timeout).await);
    warnings.extend(stand_in(&request.target, Side::Target, timeout).await);
    let of_source = source.seen(&request.source, timeout, source_nodes.as_deref(), None);
    let of_source = of_source.await?;
    let of_target = target.seen(&request.target, timeout, target_nodes.as_deref(), None);
    let of_target = of_target.await?;
    Ok(Facts {
        payload_bytes_max: target.payload_bytes_max().await?,
        servers: [
            (Side::Source, Box::new(of_source)),
            (Side::Target, Box::new(of_target)),
        ],
        warnings,
        clusters: [source_nodes, target_nodes],
    })
}
