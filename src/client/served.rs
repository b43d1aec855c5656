//! How often a server has served which command, for the audit.
//!
//! # Invariant
//!
//! What two tallies differ by is told only where the same process made both: another one counts from zero.

use std::collections::BTreeMap;
use std::time::Duration;

use super::control::Control;
use crate::endpoint::Endpoint;

/// How long the servers are given to tell. Nothing depends on their answer, and at the end of a run somebody waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server had counted at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tally {
    run_id: Option<String>,
    calls: BTreeMap<String, u64>,
}

/// What both servers had counted when a run began.
#[derive(Debug)]
pub struct Served {
    before: [Result<Tally, String>; 2],
}

impl Served {
    /// Asks source and target; one that is a cluster is not asked, since each of its nodes counts for itself.
    pub async fn begin(sides: [&Endpoint; 2], are_clusters: [bool; 2]) -> Self {
        let ask = async |side: usize| match are_clusters[side] {
            true => Err("it is a cluster, whose nodes count each for itself".to_owned()),
            false => tally(sides[side]).await,
        };
        let (source, target) = tokio::join!(ask(0), ask(1));
        Self {
            before: [source, target],
        }
    }

    /// What source and target have served since; why that is not known, where it is not.
    pub async fn end(&self, sides: [&Endpoint; 2]) -> [Result<BTreeMap<String, u64>, String>; 2] {
        let ask = async |side: usize| match &self.before[side] {
            // Whoever did not tell is not asked again.
            Err(why) => Err(why.clone()),
            Ok(before) => between(before, &tally(sides[side]).await?),
        };
        let (source, target) = tokio::join!(ask(0), ask(1));
        [source, target]
    }
}

/// Asks for the tally now; why not, where it can't be had.
async fn tally(endpoint: &Endpoint) -> Result<Tally, String> {
    match tokio::time::timeout(PATIENCE, asked(endpoint)).await {
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
