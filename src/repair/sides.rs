//! The connections of a repair: made when they are needed, made anew when they break, given up when that takes too long.

use std::time::{Duration, Instant};

use super::Request;
use super::again::Again;
use super::convert::ConvertRules;
use super::ends::{Broken, End};
use super::expiry::Expiries;
use super::write::WriteRules;
use crate::client::retry::{Budget, Verdict};
use crate::client::topology::{Asked, Refusal, different_servers};
use crate::client::{Takes, connect_source, connect_target};
use crate::endpoint::Side;
use crate::plan::LanePlan;
use crate::rdb::dialect::Dialect;

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
    /// Compares what was written.
    pub again: Again,
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

impl Sides {
    /// Connects to both sides of a lane.
    ///
    /// # Errors
    ///
    /// The side that can't be reached or does not serve.
    pub async fn connect(
        request: &Request,
        patience: &Patience,
        name: &str,
        lane: u32,
        plan: LanePlan,
        permits: Permits,
    ) -> Result<Self, Broken> {
        let on = |side| move |error| Broken { side, error };
        let silence = |side| patience.silence_max(side);
        let source = connect_source(&request.source, plan.source_db, name, silence(Side::Source))
            .await
            .map_err(on(Side::Source))?;
        let target = connect_target(&request.target, plan.target_db, name, silence(Side::Target))
            .await
            .map_err(on(Side::Target))?;
        let rules = WriteRules {
            expiries: Expiries::between(&source, &target),
            ttl: request.plan.ttl,
            types: request.plan.types.clone(),
            replace: permits.replace,
            convert: ConvertRules {
                // Always there on a connection that writes.
                takes: target.takes.clone().unwrap_or_else(|| Takes {
                    dialect: Dialect::of_server(&target.identity.version),
                    modules: Vec::new(),
                }),
                field_ttl: request.plan.field_ttl,
                bytes_max: permits.payload_bytes_max,
            },
        };
        let tolerance = permits.ttl_tolerance;
        let again = Again::connect(request, patience, name, plan, tolerance).await?;
        Ok(Self {
            lane,
            source: End::new(Side::Source, source, silence(Side::Source)),
            target: End::new(Side::Target, target, silence(Side::Target)),
            rules,
            again,
        })
    }
}

/// Looks at both servers before anything is sent because of it. Returns the largest argument that the target takes.
///
/// # Errors
///
/// What `migrate` would not begin with either.
pub async fn check(request: &Request) -> Result<u64, Refusal> {
    let timeout = request.options.timeout;
    let source = Asked::connect(Side::Source, &request.source, timeout).await?;
    let mut target = Asked::connect(Side::Target, &request.target, timeout).await?;
    source.must_be_single()?;
    target.must_be_single()?;
    different_servers(&source.info, &target.info, &request.plan.lanes)?;
    target.must_take_writes()?;
    target.payload_bytes_max().await
}
