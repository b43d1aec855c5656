//! Keys of several databases that go to one: of those with the same name the first one's is on the target.
//!
//! So a key of a later database that differs there is no finding if an earlier one has its name as well: it was not to
//! arrive. And a key that the target has beyond those of one database is none too many if another one has it.
//!
//! # Invariant
//!
//! Which database a name belongs to is asked of the source when it matters, and never remembered: see
//! [`crate::client::Rivals`].

use std::rc::Rc;

use super::engine::{End, Shared};
use super::link::{Env, Waited, retrying};
use crate::client::Rivals;
use crate::endpoint::Side;
use crate::plan::KeyType;
use crate::renaming;

/// Names that are asked about at once. The server does nothing else while it answers.
const NAMES_AT_ONCE: usize = 256;

/// Those that may have a lane's names.
pub struct Others {
    /// Whose keys arrive instead of this lane's.
    earlier: Rivals,
    /// Whose keys are on the target as well.
    all: Rivals,
}

impl Others {
    /// Of lane number `index`.
    pub fn of(env: &Env, index: usize) -> Self {
        let plan = &env.request.plan;
        let (earlier, later) = renaming::rivals(plan, index);
        let all = [earlier.clone(), later].concat();
        let rivals = |dbs: Vec<u32>, types: &[KeyType]| {
            let (source, nodes) = (&env.request.source, env.cluster(Side::Source));
            Rivals::new(dbs, types.to_vec(), source, nodes, env.client_name())
        };
        Self {
            earlier: rivals(earlier, &plan.types),
            all: rivals(all, &[]),
        }
    }

    /// For each of these names the database whose key arrives instead.
    pub async fn in_the_way(&self, env: &Env, names: &[Vec<u8>]) -> Result<Vec<Option<u32>>, End> {
        ask(env, &self.earlier, names).await
    }

    /// For each of these names another database whose key may be on the target.
    pub async fn elsewhere(&self, env: &Env, names: &[Vec<u8>]) -> Result<Vec<Option<u32>>, End> {
        ask(env, &self.all, names).await
    }
}

async fn ask(env: &Env, rivals: &Rivals, names: &[Vec<u8>]) -> Result<Vec<Option<u32>>, End> {
    if rivals.is_empty() || names.is_empty() {
        return Ok(vec![None; names.len()]);
    }
    let mut budget = env.budget(Side::Source);
    budget.contact();
    let attempt = async |timeout| rivals.first_with(names, timeout).await;
    match retrying(env, Side::Source, &mut budget, None, attempt).await? {
        Waited::Ready(found) => Ok(found),
        Waited::Stopped(reason) => Err(End::Stopped(reason)),
    }
}

/// Whether lane number `index` is the one that looks for keys that only the target has: of lanes that share a database of
/// the target, the last.
pub fn looks_for_extras(env: &Env, index: usize) -> bool {
    renaming::rivals(&env.request.plan, index).1.is_empty()
}

/// Asks the other databases for names of the target that this lane's does not have.
pub async fn place_names(shared: Rc<Shared>) -> End {
    let env = Rc::clone(&shared.env);
    let others = Others::of(&env, shared.index);
    loop {
        let (keys, names) = shared.lane.borrow_mut().take_unplaced(NAMES_AT_ONCE);
        if keys.is_empty() {
            shared.unplaced.notified().await;
            continue;
        }
        let found = match others.elsewhere(&env, &names).await {
            Ok(found) => found,
            Err(end) => return end,
        };
        shared.lane.borrow_mut().placed(&keys, &found);
        shared.wake();
        shared.settled.notify_one();
    }
}
