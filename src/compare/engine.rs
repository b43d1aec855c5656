//! Moves the bytes of one lane's comparison: both sides work at the same time.
//!
//! One thread, two tasks for each side. The lane's state is shared between them; whoever changes it wakes whoever waits
//! for that. The state store works on a thread of its own.
//!
//! # Invariants
//!
//! - A connection that leads to another process than before ends the use of the lane: what was read has to be judged anew.
//! - A side is not read while more than the allowed bytes of its answers wait for the other side.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::big::{compare_big_keys, survey};
use super::lane::{Lane, SOURCE, TARGET, Trouble};
use super::link::{Env, Waited, connected};
use super::nodes::{Reached, drive_node};
use super::rivals::place_names;
use super::sentinel;
use crate::client::canary::same_process;
use crate::client::control::Control;
use crate::client::retry::Budget;
use crate::client::{Link, LinkError, WireReader, WireWriter};
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::pace::LOOK_AGAIN;
use crate::shutdown::StopReason;
use crate::state::KeyList;
use crate::state::record::ServerIdentity;

/// How often the source's latency is probed.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Why the tasks of a lane ended before it was done.
#[derive(Debug)]
pub enum End {
    /// A stop was asked for.
    Stopped(StopReason),
    /// The lane has to be judged anew, for this reason.
    Judge(String),
    /// The cursor is worth nothing any more.
    Anew(String),
    /// The run can't go on.
    Failed(Box<Error>),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What the tasks of one lane share.
pub struct Shared {
    /// What every part of the run shares.
    pub env: Rc<Env>,
    /// Which lane of the plan.
    pub index: usize,
    /// Which keys are where.
    pub lane: RefCell<Lane>,
    /// Keys have verdicts.
    pub settled: Notify,
    /// Keys of the target may have to be looked for in other databases.
    pub unplaced: Notify,
    /// Big keys may have been met.
    pub(super) big: Notify,
    /// Their sizes are known.
    pub(super) survey: Notify,
    /// Where names come from, if they come from a list.
    list: Option<KeyList>,
    /// A side's node may be asked for more.
    ask: [Vec<Notify>; 2],
    /// Its answers may be read again.
    read: [Vec<Notify>; 2],
    /// Who the sides are.
    pub(super) identities: [ServerIdentity; 2],
}

/// The tasks that move the bytes; they end when this is dropped.
pub struct Traffic {
    tasks: JoinSet<End>,
}

impl Traffic {
    /// Begins to move bytes over these connections, and their successors.
    pub fn start(
        env: &Rc<Env>,
        index: usize,
        mut lane: Lane,
        list: Option<KeyList>,
        sides: [Reached; 2],
    ) -> (Rc<Shared>, Self) {
        lane.pace = Rc::clone(&env.pace);
        let identities = sides.each_ref().map(|side| side.identity.clone());
        let notifies = |side| (0..lane.pipes(side)).map(|_| Notify::new()).collect();
        let (ask, read) = (
            [SOURCE, TARGET].map(notifies),
            [SOURCE, TARGET].map(notifies),
        );
        let shared = Rc::new(Shared {
            env: Rc::clone(env),
            index,
            lane: RefCell::new(lane),
            settled: Notify::new(),
            unplaced: Notify::new(),
            big: Notify::new(),
            survey: Notify::new(),
            list,
            ask,
            read,
            identities,
        });
        let mut tasks = JoinSet::new();
        for (side, reached) in sides.into_iter().enumerate() {
            let nodes = env.cluster(name_of(side));
            for (pipe, link) in reached.links.into_iter().enumerate() {
                let shared = Rc::clone(&shared);
                match &nodes {
                    None => tasks.spawn_local(drive(shared, side, link)),
                    Some(nodes) => {
                        let nodes = Rc::clone(nodes);
                        tasks.spawn_local(drive_node(shared, nodes, side, pipe, link))
                    }
                };
            }
        }
        tasks.spawn_local(probe(Rc::clone(&shared)));
        tasks.spawn_local(spare(Rc::clone(env), Side::Source));
        tasks.spawn_local(spare(Rc::clone(env), Side::Target));
        tasks.spawn_local(follow_control(Rc::clone(&shared)));
        tasks.spawn_local(survey(Rc::clone(&shared)));
        tasks.spawn_local(compare_big_keys(Rc::clone(&shared)));
        if sentinel::is_used(env) {
            tasks.spawn_local(sentinel::watch(Rc::clone(&shared)));
        }
        if shared.lane.borrow().asks_rivals() {
            tasks.spawn_local(place_names(Rc::clone(&shared)));
        }
        (shared, Self { tasks })
    }

    /// Returns when a task has ended, which none of them does because all is done.
    ///
    /// # Cancel safety
    ///
    /// Safe: an end that was not taken is returned by the next call.
    pub async fn ended(&mut self) -> End {
        match self.tasks.join_next().await {
            Some(Ok(end)) => end,
            // A panic in a task is ours, and is passed on.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => unreachable!("the tasks run until they are dropped"),
        }
    }

    /// Ends the tasks.
    pub async fn shut_down(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    /// The lane has been given more to do, or room.
    pub fn wake(&self) {
        self.ask.iter().flatten().for_each(Notify::notify_one);
        self.read.iter().flatten().for_each(Notify::notify_one);
    }

    /// The database of a side that is read.
    pub(super) fn db(&self, side: usize) -> u32 {
        let plan = self.env.request.plan.lanes[self.index];
        match side {
            SOURCE => plan.source_db,
            _ => plan.target_db,
        }
    }
}

pub(super) fn name_of(side: usize) -> Side {
    match side {
        SOURCE => Side::Source,
        _ => Side::Target,
    }
}

/// A single server, over as many connections as it takes.
async fn drive(shared: Rc<Shared>, side: usize, mut link: Link) -> End {
    let env = Rc::clone(&shared.env);
    let db = shared.db(side);
    let mut budget: Budget = env.budget(name_of(side));
    budget.contact();
    loop {
        link.wire.set_silence_max(budget.silence_max());
        let trouble = move_bytes(&shared, side, 0, link).await;
        let answers = {
            let mut lane = shared.lane.borrow_mut();
            lane.lost(side, 0);
            lane.answers[side]
        };
        budget.progress(answers);
        let failure = match trouble {
            Trouble::Link(error) => error,
            Trouble::CursorRefused(line) => {
                let side = name_of(side);
                return End::Anew(format!(
                    "the {side} does not know its cursor any more: \"{line}\""
                ));
            }
            Trouble::UnknownNode(_) => unreachable!("only a cluster has other nodes"),
            Trouble::List(error) => return list_is_lost(error),
        };
        let next = connected(&env, name_of(side), &mut budget, db, Some(failure)).await;
        link = match next {
            Ok(Waited::Ready(link)) => link,
            Ok(Waited::Stopped(reason)) => return End::Stopped(reason),
            Err(error) => return error.into(),
        };
        if same_process(&shared.identities[side], &link.identity) != Some(true) {
            return End::Judge(format!(
                "the {} came back, and is not known to be the same process",
                name_of(side)
            ));
        }
    }
}

/// The list of names can't be read any more.
pub(super) fn list_is_lost(error: String) -> End {
    let doing = "read the list of keys beside the state";
    Error::new(Class::StateIo, doing, error).into()
}

/// Asks and reads on one connection, until it is of no more use.
pub(super) async fn move_bytes(shared: &Shared, side: usize, pipe: usize, link: Link) -> Trouble {
    let (reader, writer) = link.wire.split();
    tokio::select! {
        trouble = send(shared, side, pipe, writer) => trouble,
        trouble = receive(shared, side, pipe, reader) => trouble,
    }
}

async fn send(shared: &Shared, side: usize, pipe: usize, mut writer: WireWriter) -> Trouble {
    let mut out = BytesMut::with_capacity(64 * 1024);
    loop {
        if let (SOURCE, Some(list)) = (side, &shared.list)
            && let Err(trouble) = read_ahead(shared, list).await
        {
            return trouble;
        }
        let is_limited = {
            let mut lane = shared.lane.borrow_mut();
            let is_limited = lane.keep_pace(Instant::now);
            lane.request(side, pipe, &mut out);
            is_limited
        };
        if out.is_empty() {
            let asked = shared.ask[side][pipe].notified();
            if is_limited {
                // Nothing but time may be missing.
                let _ = tokio::time::timeout(LOOK_AGAIN, asked).await;
            } else {
                asked.await;
            }
            continue;
        }
        // What was asked of both sides is sent to both, and in a cluster to whichever nodes it concerns.
        shared.ask[1 - side].iter().for_each(Notify::notify_one);
        for (_, other) in shared.ask[side]
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != pipe)
        {
            other.notify_one();
        }
        if let Err(error) = writer.write_all(&out).await {
            return error.into();
        }
        out.clear();
    }
}

async fn receive(shared: &Shared, side: usize, pipe: usize, mut reader: WireReader) -> Trouble {
    loop {
        // What this side has answered and the other has not stays bounded: the rest waits in the server's buffers and in
        // the network's.
        while shared.lane.borrow().is_full(side, pipe) {
            shared.read[side][pipe].notified().await;
        }
        let owed = shared.lane.borrow().owes(side, pipe);
        match reader.fill().await {
            Ok(()) => {}
            // Nothing was due when the wait began.
            Err(LinkError::Silent(_)) if !owed => continue,
            Err(error) => return error.into(),
        }
        if let Err(trouble) = take_answers(shared, side, pipe, &mut reader) {
            return trouble;
        }
        // What one node answers may be a reason to ask any other, and to read it again.
        shared.wake();
        shared.unplaced.notify_one();
        shared.big.notify_one();
        shared.settled.notify_one();
    }
}

/// Reads the next names of the list, if the lane has room for them.
async fn read_ahead(shared: &Shared, list: &KeyList) -> Result<(), Trouble> {
    let keys_max = shared.env.request.options.batch_keys;
    loop {
        let Some(place) = shared.lane.borrow().wants_names() else {
            return Ok(());
        };
        let reader = list.clone();
        let read = tokio::task::spawn_blocking(move || reader.read(place, keys_max)).await;
        let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let chunk = read.map_err(|error| Trouble::List(error.to_string()))?;
        // Another node's connection may have read the same place meanwhile.
        if shared.lane.borrow().wants_names() == Some(place) {
            shared.lane.borrow_mut().take_names(&chunk);
            shared.wake();
            shared.settled.notify_one();
        }
    }
}

fn take_answers(
    shared: &Shared,
    side: usize,
    pipe: usize,
    reader: &mut WireReader,
) -> Result<(), Trouble> {
    let mut lane = shared.lane.borrow_mut();
    let now = Instant::now();
    loop {
        reader.skip_above(lane.skip_above(side, pipe));
        match reader.buffered()? {
            Some(token) => lane.token(side, pipe, token, now)?,
            None => return Ok(()),
        }
    }
}

/// Feels what other clients of the source feel. A probe that fails is no trouble of its own: the data path will notice.
async fn probe(shared: Rc<Shared>) -> End {
    let request = &shared.env.request;
    let endpoints = shared.env.nodes(Side::Source);
    let mut connected: Vec<Option<Control>> = endpoints.iter().map(|_| None).collect();
    // The nodes of a cluster one after the other.
    for turn in (0..endpoints.len()).cycle() {
        tokio::time::sleep(PROBE_EVERY).await;
        let mut control = match connected[turn].take() {
            Some(control) => control,
            None => match Control::connect(&endpoints[turn], 0, request.options.timeout).await {
                Ok(control) => control,
                Err(_) => continue,
            },
        };
        if let Ok(latency) = control.ping().await {
            shared.lane.borrow_mut().observe_latency(latency);
            shared.wake();
            connected[turn] = Some(control);
        }
    }
    unreachable!("the probe goes on until it is dropped")
}

/// Feels what other clients of a side feel, where a limit asks for it.
async fn spare(env: Rc<Env>, side: Side) -> End {
    match env.spare(side).await {}
}

/// Keeps to the limits that come while the comparison runs.
async fn follow_control(shared: Rc<Shared>) -> End {
    match shared.env.follow_control(|| shared.wake()).await {}
}
