//! How often a server has served which command, for the audit.
//!
//! # Invariant
//!
//! What two tallies differ by is told only where the same process made both: another one counts from zero.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Nodes;
use super::control::Control;
use crate::cluster::NodeAddress;
use crate::endpoint::{Endpoint, Side};

/// How long the servers are given to tell. Nothing depends on their answer, and at the end of a run somebody waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server had counted at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tally {
    run_id: Option<String>,
    calls: BTreeMap<String, u64>,
}

/// A server that is asked: a side, or a node of it.
struct Place {
    side: Side,
    node: Option<String>,
    endpoint: Endpoint,
    before: Result<Tally, String>,
}

/// What all servers had counted when a run began.
pub struct Served {
    places: Vec<Place>,
}

/// What a server has served since; why that is not known, if it is not.
pub struct Calls {
    /// Of which side it is.
    pub side: Side,
    /// Which node, if that side is a cluster.
    pub node: Option<String>,
    /// How often each command.
    pub calls: Result<BTreeMap<String, u64>, String>,
}

impl Served {
    /// Asks source and target; of a cluster, each master.
    pub async fn begin(sides: [(&Endpoint, Option<&Nodes>); 2]) -> Self {
        let mut places = Vec::new();
        for (side, (endpoint, nodes)) in [Side::Source, Side::Target].into_iter().zip(sides) {
            let of_nodes = nodes.map(|nodes| {
                let masters = nodes.masters();
                let of_node =
                    |node: &NodeAddress| (Some(node.to_string()), nodes.endpoint_of(node));
                masters.iter().map(of_node).collect::<Vec<_>>()
            });
            let all = of_nodes.unwrap_or_else(|| vec![(None, endpoint.clone())]);
            places.extend(
                all.into_iter()
                    .map(|(node, endpoint)| (side, node, endpoint)),
            );
        }
        let tallies = tallies(places.iter().map(|(.., endpoint)| endpoint)).await;
        let places = places.into_iter().zip(tallies);
        Self {
            places: places
                .map(|((side, node, endpoint), before)| Place {
                    side,
                    node,
                    endpoint,
                    before,
                })
                .collect(),
        }
    }

    /// What everybody has served since.
    pub async fn end(self) -> Vec<Calls> {
        // Whoever did not tell is not asked again.
        let asked = self.places.iter().filter(|place| place.before.is_ok());
        let mut now = tallies(asked.map(|place| &place.endpoint))
            .await
            .into_iter();
        let calls = self.places.into_iter().map(|place| Calls {
            side: place.side,
            node: place.node,
            calls: match place.before {
                Err(why) => Err(why),
                Ok(before) => now
                    .next()
                    .unwrap_or_else(|| Err("nobody has asked".to_owned()))
                    .and_then(|after| between(&before, &after)),
            },
        });
        calls.collect()
    }

    /// Of a run that failed, nobody is asked.
    pub fn failed(self) -> Vec<Calls> {
        let calls = self.places.into_iter().map(|place| Calls {
            side: place.side,
            node: place.node,
            calls: Err("the run failed".to_owned()),
        });
        calls.collect()
    }
}

/// Asks one after the other. All of them together are given as long as one.
async fn tallies(endpoints: impl Iterator<Item = &Endpoint>) -> Vec<Result<Tally, String>> {
    let until = Instant::now() + PATIENCE;
    let mut tallies = Vec::new();
    for endpoint in endpoints {
        tallies.push(tally(endpoint, until).await);
    }
    tallies
}

/// Asks for the tally now; why not, where it can't be had.
async fn tally(endpoint: &Endpoint, until: Instant) -> Result<Tally, String> {
    match tokio::time::timeout_at(until, asked(endpoint)).await {
        Ok(tally) => tally,
        Err(_) => Err("it did not answer in time".to_owned()),
    }
}

async fn asked(endpoint: &Endpoint) -> Result<Tally, String> {
    let mut control = Control::connect(endpoint, 0, PATIENCE)
        .await
        .map_err(|error| error.to_string())?;
    let mut section = async |name| {
        let info = control.info_section(name).await;
        info.map_err(|error| error.to_string())
    };
    let run_id = section("server").await?.remove("run_id");
    let calls: BTreeMap<String, u64> = section("commandstats")
        .await?
        .into_iter()
        .filter_map(|(field, value)| {
            let command = field.strip_prefix("cmdstat_")?;
            let calls = value.strip_prefix("calls=")?.split(',').next()?;
            Some((command.to_owned(), calls.parse().ok()?))
        })
        .collect();
    match calls.is_empty() {
        true => Err("it does not tell (INFO commandstats)".to_owned()),
        false => Ok(Tally { run_id, calls }),
    }
}

/// Calls between two tallies; why they are not known, where they are not.
fn between(before: &Tally, after: &Tally) -> Result<BTreeMap<String, u64>, String> {
    if before.run_id.is_none() || before.run_id != after.run_id {
        return Err("it is another process than at the beginning, or may be".to_owned());
    }
    let mut calls = BTreeMap::new();
    for (command, now) in &after.calls {
        let Some(more) = now.checked_sub(before.calls.get(command).copied().unwrap_or(0)) else {
            return Err("its counters were reset meanwhile (CONFIG RESETSTAT)".to_owned());
        };
        if more > 0 {
            calls.insert(command.clone(), more);
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(run_id: &str, calls: &[(&str, u64)]) -> Tally {
        Tally {
            run_id: (!run_id.is_empty()).then(|| run_id.to_owned()),
            calls: calls
                .iter()
                .map(|(name, calls)| ((*name).to_owned(), *calls))
                .collect(),
        }
    }

    #[test]
    fn only_what_one_process_counted_is_told() {
        let check = |before: &Tally, after: &Tally, told: &str| {
            let calls = between(before, after);
            assert!(format!("{calls:?}").contains(told), "{calls:?}");
        };
        let before = tally("a", &[("dump", 3), ("info", 1)]);
        let after = tally("a", &[("dump", 10), ("info", 1), ("scan", 2)]);
        check(&before, &after, r#"Ok({"dump": 7, "scan": 2})"#);
        check(&before, &tally("b", &[("dump", 10)]), "another process");
        check(&tally("", &[]), &tally("", &[]), "another process");
        check(&after, &before, "reset");
    }
}
