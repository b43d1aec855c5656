//! Looks at the target's memory: the copy waits before it is full, and what is evicted does not go unseen.
//!
//! A target that is full and evicts nothing refuses every write, also those of its other clients. So reading stops a
//! little earlier, and goes on when memory is given. Of a cluster each node is looked at; one without room is enough to
//! stop, since nobody knows which keys come next.
//!
//! # Invariant
//!
//! Nothing here is needed for the copy to be right: a target that can't be asked is written as one with room.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::engine::{End, Shared};
use super::link::Env;
use super::room::{self, Memory, Room};
use crate::audit::entry::ThrottleKind;
use crate::client::LinkError;
use crate::client::control::{Control, Info};
use crate::cluster::NodeAddress;
use crate::config::units::Time;
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::figures;

/// How often memory without a limit is looked at: one may be set meanwhile.
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// How often memory with a limit is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often, if little is left or it is waited for.
const LOOK_NEAR: Duration = Duration::from_millis(100);
/// It may be full before the next look in a second, if no more than this is left: a payload may be a twentieth of what it
/// takes in memory.
const NEAR_BYTES: u64 = 256 * 1024 * 1024;
/// How long a node may take to answer: nothing waits for it but the looks at the others.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whoever waits waits so long: what is on its way arrives meanwhile, and nothing flutters.
const WAITS_MIN: Duration = Duration::from_millis(500);

/// A node of the target; of a single server, there is no name.
type Node = Option<NodeAddress>;

/// Looks at the target until the lane ends.
pub async fn watch_memory(shared: Rc<Shared>) -> End {
    let mut looks = Looks::default();
    let mut room = Room::default();
    let mut used_before = 0;
    // The copy waits since then.
    let mut full: Option<Instant> = None;
    // What an earlier lane has left to be known is old.
    shared.env.pace.borrow_mut().room(None);
    loop {
        let seen = looks.look(&shared.env).await;
        let limited: Vec<(Node, Memory)> = seen
            .iter()
            .filter_map(|(node, info)| Some((node.clone(), Memory::of(info)?)))
            .collect();
        let tightest = limited.iter().min_by_key(|(_, memory)| memory.left());
        let used = limited.iter().map(|(_, memory)| memory.used).sum();
        let pause = match tightest {
            None => {
                shared.env.pace.borrow_mut().room(None);
                go_on(&shared, &mut full);
                let no_limit = seen.iter().all(|(_, info)| room::max(info).is_none());
                match no_limit && !seen.is_empty() {
                    true => LOOK_SELDOM,
                    false => LOOK,
                }
            }
            Some((node, memory)) => {
                let grown = memory.used.saturating_sub(used_before);
                let left = memory.left();
                let near = full.is_some() || left < NEAR_BYTES.max(grown.saturating_mul(4));
                room_left(&shared, &mut room, used, (node, *memory), near, &mut full);
                match near {
                    true => LOOK_NEAR,
                    false => LOOK,
                }
            }
        };
        used_before = used;
        if let Some(error) = gave_up(&shared, full) {
            return error.into();
        }
        tokio::time::sleep(pause).await;
    }
}

/// Counts what was evicted until now, once nothing is written any more.
pub async fn count_evicted(env: &Env) {
    Looks::default().look(env).await;
}

/// Lets the lane read what fits, or stops it.
fn room_left(
    shared: &Shared,
    room: &mut Room,
    used: u64,
    (node, memory): (&Node, Memory),
    near: bool,
    full: &mut Option<Instant>,
) {
    if full.is_some_and(|since| since.elapsed() < WAITS_MIN) {
        return;
    }
    let bytes = {
        let lane = shared.lane.borrow();
        room.learn(used, lane.bytes_acknowledged);
        room.payload_bytes(memory, lane.bytes_on_their_way(), lane.bytes_asked())
    };
    let allowed = bytes.filter(|_| near);
    shared.env.pace.borrow_mut().room(allowed);
    match bytes {
        Some(_) => go_on(shared, full),
        None if full.is_none() => {
            *full = Some(Instant::now());
            wait(shared, node, memory);
        }
        None => {}
    }
}

/// What is asked of the target's nodes, over connections of its own.
#[derive(Default)]
struct Looks {
    connected: HashMap<Node, Control>,
}

impl Looks {
    /// Asks every node; those that do not answer are left out. Evictions are counted.
    async fn look(&mut self, env: &Env) -> Vec<(Node, Info)> {
        let timeout = env.request.options.timeout.min(PATIENCE);
        let places: Vec<(Node, Endpoint)> = match env.cluster(Side::Target) {
            None => vec![(None, env.request.target.clone())],
            Some(nodes) => {
                let masters = nodes.masters().into_iter();
                masters
                    .map(|node| (Some(node.clone()), nodes.endpoint_of(&node)))
                    .collect()
            }
        };
        let mut seen = Vec::with_capacity(places.len());
        for (node, endpoint) in places {
            match self.ask(&node, &endpoint, timeout).await {
                Ok((memory, evicted)) => {
                    if room::evicts(&memory).is_some() {
                        env.evictions.expect();
                    }
                    if let Some(evicted) = evicted {
                        note_evicted(env, &node, evicted);
                    }
                    seen.push((node, memory));
                }
                // The data path will notice, if it is trouble.
                Err(error) => tracing::debug!(%error, "the target's memory could not be asked for"),
            }
        }
        seen
    }

    async fn ask(
        &mut self,
        node: &Node,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<(Info, Option<u64>), LinkError> {
        let mut control = match self.connected.remove(node) {
            Some(control) => control,
            None => Control::connect(endpoint, 0, timeout).await?,
        };
        let asked = async {
            let memory = control.info_section("memory").await?;
            let stats = control.info_section("stats").await?;
            Ok((memory, room::number(&stats, "evicted_keys")))
        };
        let answer = asked.await;
        // A refusal is an answer.
        if matches!(answer, Ok(_) | Err(LinkError::Reply(..))) {
            self.connected.insert(node.clone(), control);
        }
        answer
    }
}

/// Stops reading.
fn wait(shared: &Shared, node: &Node, memory: Memory) {
    let of_node = node
        .as_ref()
        .map_or_else(String::new, |node| format!(" at {node}"));
    let reason = format!(
        "the target's memory{of_node}: {} of {} are used, and it evicts nothing",
        figures::bytes(memory.used as f64),
        figures::bytes(memory.max as f64)
    );
    let env = &shared.env;
    env.warn(format!(
        "waiting for {reason}; CONFIG SET maxmemory gives more"
    ));
    env.pulse
        .waits(Side::Target, ThrottleKind::Refused, &reason);
    shared.lane.borrow_mut().full = Some(reason);
}

/// Reads again, if it had been stopped.
fn go_on(shared: &Shared, full: &mut Option<Instant>) {
    if let Some(since) = full.take() {
        let waited = figures::seconds(since.elapsed().as_secs_f64());
        let env = &shared.env;
        env.warn(format!("the target has memory again, after {waited}"));
        env.pulse.answers(Side::Target);
        shared.lane.borrow_mut().full = None;
        shared.source_wake.notify_one();
    }
}

/// The end of a run that has waited for memory for too long.
fn gave_up(shared: &Shared, full: Option<Instant>) -> Option<Error> {
    let most = shared.env.request.options.max_unavailable;
    full.filter(|since| since.elapsed() > most)?;
    let full = shared.lane.borrow().full.clone()?;
    let cause = format!("waited for longer than {} for {full}", Time(most));
    Some(
        Error::new(Class::RefusesWrites, "write", cause)
            .on(Side::Target)
            .hint("CONFIG SET maxmemory gives more; then the same command continues"),
    )
}

fn note_evicted(env: &Env, node: &Node, evicted: u64) {
    if env
        .evictions
        .see(node.as_ref().map(ToString::to_string), evicted)
    {
        env.warn(
            "the target evicts keys, as it is full: what is missing then, redknot compare tells"
                .to_owned(),
        );
    }
}
