//! Writes and deletes that another database of the source may be against: where several go to one of the target, a name
//! belongs to the first that has it, and what one of them does not have may be another's.
//!
//! # Invariants
//!
//! - What the target has of an earlier database is not written over by a later one.
//! - Nothing is deleted that any of them has.

use std::time::Duration;

use super::delete::{Deleted, delete};
use super::ends::Broken;
use super::sides::{Connections, Sides};
use super::write::{Written, write_anew};
use crate::client::Rivals;
use crate::endpoint::Side;
use crate::plan::KeyType;
use crate::renaming;

/// Those that may have the names of a lane.
pub struct Others {
    earlier: Rivals,
    all: Rivals,
    silence: Duration,
}

impl Others {
    /// Of lane number `lane`.
    pub fn of(connections: &Connections<'_>, lane: u32, silence: Duration) -> Self {
        let request = connections.request;
        let (earlier, later) = renaming::rivals(&request.plan, lane as usize);
        let all = [earlier.clone(), later].concat();
        let rivals = |dbs: Vec<u32>, types: &[KeyType]| {
            let nodes = connections.clusters[Side::Source as usize].clone();
            let (source, name) = (&request.source, connections.name.to_owned());
            Rivals::new(dbs, types.to_vec(), source, nodes, name)
        };
        Self {
            earlier: rivals(earlier, &request.plan.types),
            all: rivals(all, &[]),
            silence,
        }
    }

    async fn ask(&self, rivals: &Rivals, names: &[&[u8]]) -> Result<Vec<Option<u32>>, Broken> {
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        let found = rivals.first_with(&names, self.silence).await;
        found.map_err(|error| Broken {
            side: Side::Source,
            error,
        })
    }
}

/// Writes those of `names` anew that are this lane's.
///
/// # Errors
///
/// As [`write_anew`].
pub async fn write_own(sides: &mut Sides, names: &[&[u8]]) -> Result<Vec<Written>, Broken> {
    let taken = sides.others.ask(&sides.others.earlier, names).await?;
    let own = of_nobody(names, &taken);
    let (source, target) = (&mut sides.source, &mut sides.target);
    let written = write_anew(&sides.rules, &own, source, target).await?;
    let refused = |db| {
        Written::Refused(format!(
            "database {db} has a key of this name too, and the target has that one"
        ))
    };
    Ok(put_together(&taken, written, refused))
}

/// Deletes those of `names` on the target that no database of the source has.
///
/// # Errors
///
/// As [`delete`].
pub async fn delete_nobodys(sides: &mut Sides, names: &[&[u8]]) -> Result<Vec<Deleted>, Broken> {
    let taken = sides.others.ask(&sides.others.all, names).await?;
    let going = of_nobody(names, &taken);
    let (source, target) = (&mut sides.source, &mut sides.target);
    let deleted = delete(&sides.rules.renaming, &going, source, target).await?;
    Ok(put_together(&taken, deleted, |_| Deleted::OnSource))
}

fn of_nobody<'a>(names: &[&'a [u8]], taken: &[Option<u32>]) -> Vec<&'a [u8]> {
    let names = names.iter().zip(taken);
    let nobodys = names.filter(|(_, taken)| taken.is_none());
    nobodys.map(|(name, _)| *name).collect()
}

/// For each name what became of it, in their order.
fn put_together<T>(taken: &[Option<u32>], done: Vec<T>, of_taken: impl Fn(u32) -> T) -> Vec<T> {
    let mut done = done.into_iter();
    let fate = |taken: &Option<u32>| match taken {
        Some(db) => of_taken(*db),
        None => done.next().expect("one for each name that is free"),
    };
    taken.iter().map(fate).collect()
}
