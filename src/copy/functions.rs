//! Libraries of functions, from the source to every master of the target (`--functions`).
//!
//! They are carried when all keys have arrived: what is newest then is carried, and by the process that has acknowledged
//! the keys. That it can be done is found out before the first key.
//!
//! # Invariants
//!
//! - A library that the target has under the same name, and that is another one, is treated as `--on-conflict` says of keys.
//!   None is ever removed.
//! - It can be repeated at any time: what is there already, and the same, is left alone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use super::engine::Context;
use super::link::{Env, Waited, retrying};
use crate::client::functions::{self, Library};
use crate::client::{Link, LinkError, connect_source, connect_target};
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::plan::OnConflict;
use crate::progress::{Event, FunctionsStatus};

/// How far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finds out whether anything stands in the way.
    Check,
    /// Does it.
    Carry,
}

/// Looks at the libraries of both sides; in [`Stage::Carry`], makes the target's what they should be, and tells.
///
/// # Errors
///
/// A target that knows no functions, that has another library under the same name, or that refuses.
pub async fn between(context: &Context, stage: Stage) -> Result<Waited<()>, Error> {
    let env = &context.env;
    let libraries = match of_source(env).await? {
        Waited::Ready(Some(libraries)) => libraries,
        Waited::Ready(None) => {
            if stage == Stage::Check {
                env.warn("the source knows no functions (before Redis 7.0): --functions has nothing to carry".to_owned());
            }
            Vec::new()
        }
        Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
    };
    let done = Done::default();
    let mut budget = env.budget(Side::Target);
    let attempt = async |timeout: Duration| {
        for mut link in targets(env, timeout).await? {
            if let Err(error) = at(env, &mut link, &libraries, stage, &done).await? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    };
    match retrying(env, Side::Target, &mut budget, None, attempt).await? {
        Waited::Ready(result) => result?,
        Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
    }
    if stage == Stage::Carry {
        let status = FunctionsStatus {
            libraries: libraries.len() as u64,
            written: done.written.borrow().len() as u64,
            kept: done.kept.borrow().len() as u64,
        };
        *env.functions.borrow_mut() = Some(status);
        env.observer.event(&Event::Functions(status));
        context
            .recorder
            .with_store(move |store| store.note_functions(status))
            .await
            .map_err(super::lost_store)??;
    }
    Ok(Waited::Ready(()))
}

/// Names of libraries. On several nodes, or after a second attempt, each counts once.
#[derive(Default)]
struct Done {
    written: RefCell<BTreeSet<String>>,
    kept: RefCell<BTreeSet<String>>,
}

/// What the source has; `None` where it can't have any.
async fn of_source(env: &Env) -> Result<Waited<Option<Vec<Library>>>, Error> {
    let name = env.client_name();
    let mut budget = env.budget(Side::Source);
    let attempt = async |timeout: Duration| {
        let endpoint = match env.cluster(Side::Source) {
            // Every node of a cluster has the same ones.
            Some(nodes) => nodes.endpoint_of(&nodes.owner(0)?.1),
            None => env.request.source.clone(),
        };
        let mut link = connect_source(&endpoint, 0, &name, timeout).await?;
        functions::dumped(&mut link.wire).await
    };
    retrying(env, Side::Source, &mut budget, None, attempt).await
}

/// A connection to each server that has to be given them.
async fn targets(env: &Env, timeout: Duration) -> Result<Vec<Link>, LinkError> {
    let name = env.client_name();
    let Some(nodes) = env.cluster(Side::Target) else {
        return Ok(vec![
            connect_target(&env.request.target, 0, &name, timeout).await?,
        ]);
    };
    nodes.refresh(timeout).await?;
    let mut links = Vec::new();
    for node in nodes.masters() {
        links.push(nodes.connect_target(&node, 0, &name, timeout).await?);
    }
    Ok(links)
}

/// Makes one server's libraries what they should be. The inner error is final.
async fn at(
    env: &Env,
    link: &mut Link,
    libraries: &[Library],
    stage: Stage,
    done: &Done,
) -> Result<Result<(), Error>, LinkError> {
    if libraries.is_empty() {
        return Ok(Ok(()));
    }
    let there = match functions::takes(&mut link.wire).await? {
        true => functions::listed(&mut link.wire).await?,
        false => None,
    };
    let Some(there) = there else {
        return Ok(Err(knows_none(libraries.len())));
    };
    for library in libraries {
        let same_name = there.iter().find(|other| other.name == library.name);
        match (same_name, env.request.plan.on_conflict) {
            (Some(same), _) if same.code == library.code => continue,
            (Some(_), OnConflict::Skip) => {
                done.kept.borrow_mut().insert(library.name.clone());
                continue;
            }
            (Some(_), OnConflict::RequireEmpty | OnConflict::Fail) => {
                return Ok(Err(conflict(&library.name)));
            }
            (Some(_), OnConflict::Replace) | (None, _) => {}
        }
        if stage == Stage::Carry {
            functions::restore(&mut link.wire, library, same_name.is_some()).await?;
            done.written.borrow_mut().insert(library.name.clone());
        }
    }
    Ok(Ok(()))
}

fn knows_none(libraries: usize) -> Error {
    let cause = format!(
        "it knows no functions (before Redis 7.0), and the source has {libraries} libraries of them"
    );
    Error::new(Class::Incompatible, "carry the functions", cause)
        .on(Side::Target)
        .hint("without --functions the keys alone are migrated")
}

fn conflict(library: &str) -> Error {
    let cause = format!("it has another library of functions that is called \"{library}\" too");
    Error::new(Class::TargetNotEmpty, "carry the functions", cause)
        .on(Side::Target)
        .hint("--on-conflict skip keeps the target's, replace puts the source's in its place; without --functions nothing is done to either")
}
