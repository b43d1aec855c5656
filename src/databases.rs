//! `--all-dbs`: which databases a plan means is found out once, when its migration is created.
//!
//! # Invariants
//!
//! - A migration that there is keeps the databases that it has: its lanes are its state.
//! - Nothing is written here, neither on a server nor to the state.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::LinkError;
use crate::client::databases::{named, with_keys_at};
use crate::client::retry::{Budget, Verdict};
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::plan::{Databases, Plan};
use crate::progress::{Event, Observer};
use crate::shutdown::{Shutdown, StopReason};
use crate::state;

/// Where a plan's databases may be found.
pub struct Whereabouts<'a> {
    /// Folder of all migrations.
    pub state_dir: &'a Path,
    /// Name of the migration.
    pub name: &'a str,
    /// A state that there is counts no more.
    pub restart: bool,
    /// The server that is read.
    pub source: &'a Endpoint,
    /// How long it may be away.
    pub max_unavailable: Duration,
    /// How long a connect may take, and a due answer.
    pub timeout: Duration,
}

/// Gives the plan its lanes, if it has none yet. Returns why, if a stop is asked for first.
///
/// # Errors
///
/// If the source can't be asked.
pub fn resolve(
    plan: &mut Plan,
    whereabouts: &Whereabouts<'_>,
    observer: &dyn Observer,
    shutdown: &Shutdown,
) -> Result<Option<StopReason>, Error> {
    let Databases::All(map) = plan.databases.clone() else {
        return Ok(None);
    };
    if !plan.lanes.is_empty() {
        return Ok(None);
    }
    let stored = state::plan_of(whereabouts.state_dir, whereabouts.name);
    if let (Ok(stored), false) = (stored, whereabouts.restart) {
        plan.lanes = stored.lanes;
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Class::Usage, "start", error.to_string()))?;
    let mut dbs = match runtime.block_on(ask(whereabouts, observer, shutdown.clone()))? {
        Ok(dbs) => dbs,
        Err(reason) => return Ok(Some(reason)),
    };
    if dbs.is_empty() {
        // There is nothing to be moved, and that is what will be said.
        dbs.push(0);
    }
    plan.lanes = dbs.into_iter().map(|db| map.lane(db)).collect();
    Ok(None)
}

async fn ask(
    whereabouts: &Whereabouts<'_>,
    observer: &dyn Observer,
    mut shutdown: Shutdown,
) -> Result<Result<Vec<u32>, StopReason>, Error> {
    let (max, timeout) = (whereabouts.max_unavailable, whereabouts.timeout);
    let mut budget = Budget::new(Side::Source, max, timeout);
    let mut failed = false;
    loop {
        let attempt = tokio::select! {
            attempt = with_keys_at(whereabouts.source, budget.silence_max()) => attempt,
            reason = shutdown.wait() => return Ok(Err(reason)),
        };
        let error = match attempt {
            Ok(dbs) => {
                if failed {
                    let side = Side::Source;
                    observer.event(&Event::Recovered { side });
                }
                return Ok(Ok(dbs));
            }
            Err(error) => error,
        };
        failed = true;
        let (wait, attempt) = match budget.failed(&error, Instant::now()) {
            Verdict::Wait { wait, attempt } => (wait, attempt),
            Verdict::GiveUp(error) => return Err(*error),
        };
        observer.event(&Event::Retry {
            side: Side::Source,
            cause: error.to_string(),
            attempt,
            wait_ms: wait.as_millis() as u64,
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            reason = shutdown.wait() => return Ok(Err(reason)),
        }
    }
}

/// What is to be said of databases of `source` that hold keys by now and did not when the plan's databases were found out.
///
/// # Errors
///
/// Trouble with the connection.
pub async fn came_later(
    plan: &Plan,
    source: &Endpoint,
    timeout: Duration,
) -> Result<Option<String>, LinkError> {
    let Databases::All(_) = plan.databases else {
        return Ok(None);
    };
    Ok(said_of_later(plan, with_keys_at(source, timeout).await?))
}

fn said_of_later(plan: &Plan, mut later: Vec<u32>) -> Option<String> {
    later.retain(|db| plan.lanes.iter().all(|lane| lane.source_db != *db));
    if later.is_empty() {
        return None;
    }
    let list: Vec<String> = later.iter().map(ToString::to_string).collect();
    Some(format!(
        "{} of the source got keys only after this migration was created and {} not in its plan: --db {} --name OTHER moves {}, --restart begins anew with all",
        named(&later),
        if later.len() == 1 { "is" } else { "are" },
        list.join(","),
        if later.len() == 1 { "it" } else { "them" },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{DbMap, LanePlan};

    #[test]
    fn only_databases_that_are_not_in_the_plan_are_said() {
        let lane = |db| LanePlan {
            source_db: db,
            target_db: 0,
        };
        let plan = Plan {
            databases: Databases::All(DbMap::default()),
            lanes: vec![lane(0), lane(3)],
            ..Plan::default()
        };
        assert_eq!(said_of_later(&plan, vec![0]), None);
        assert_eq!(said_of_later(&plan, vec![0, 3]), None);
        let one = said_of_later(&plan, vec![0, 5]).unwrap_or_default();
        assert!(
            one.starts_with("database 5 of the source")
                && one.contains("--db 5 --name OTHER moves it"),
            "{one}"
        );
        let two = said_of_later(&plan, vec![3, 5, 9]).unwrap_or_default();
        assert!(
            two.starts_with("databases 5, 9 of the source")
                && two.contains("--db 5,9 --name OTHER moves them"),
            "{two}"
        );
    }
}
