//! Moves the bytes of one lane: source, target and state store work at the same time.
//!
//! One thread, a task for each direction of each connection. The lane's state is shared between them; whoever changes
//! it wakes whoever waits for that. The state store works on a thread of its own, so no fsync stands in the way.
//!
//! # Invariants
//!
//! - What a connection's end leaves unanswered is back in the lane before the next connection is made.
//! - The source is not read while more than the allowed bytes wait for the target.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::batch::FinishedBatch;
use super::beside::{follow_control, guard, probe, probe_target, resolve_doubts};
use super::big::{copy_big_keys, survey};
use super::evictions::Evictions;
use super::lane::{Lane, Trouble};
use super::link::{Env, Waited};
use super::list::read_ahead;
use super::memory::watch_memory;
use super::nodes;
use super::preflight::Facts;
use super::report::Report;
use super::rivals::ask_rivals;
use super::sentinel;
use super::strays::read_strays;
use super::walk::{LaneEnd, change, may_begin_anew, reconnected};
use super::writing::target_side;
use super::{Request, lost_store};
use crate::audit::entry::{EndKind, Event as Journaled};
use crate::client::canary::same_process;
use crate::client::handshake::unix_ms;
use crate::client::served::Served;
use crate::client::{Link, LinkError, WireReader, WireWriter};
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::key::Escaped;
use crate::pace::{LOOK_AGAIN, Pace};
use crate::progress::{Event, LaneDecision, Observer, PassStatus, RunState, Status};
use crate::renaming;
use crate::shutdown::{Shutdown, StopReason};
use crate::state::record::LaneCheckpoint;
use crate::state::{AcknowledgedBatch, Durable, Handle, KeyList, Recorder, Store};

/// How often the status is written and progress is told.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// A run: the state store, the outside, and what was found out about the servers.
pub struct Context {
    /// What the run was given.
    pub request: Request,
    /// What every part of the run shares.
    pub env: Rc<Env>,
    /// The state store on its own thread.
    pub recorder: Recorder,
    durable: watch::Receiver<Durable>,
    report: Report,
    facts: Option<Facts>,
    /// The names that are moved, if the plan has a list of them.
    list: Option<KeyList>,
    /// What both servers had served when the run began.
    pub served: Option<Served>,
}

impl Context {
    /// A run on an opened state.
    pub fn new(
        mut store: Store,
        list: Option<KeyList>,
        request: Request,
        observer: Rc<dyn Observer>,
        shutdown: Shutdown,
    ) -> Self {
        let report = Report::new(&store, &request);
        let (name, run) = (store.name().to_owned(), store.run());
        for note in store.notes() {
            observer.event(&Event::Warning {
                message: note.clone(),
            });
        }
        if let Err(error) = store.tell_settings(&request.settings) {
            // The next write meets the same and ends the run.
            tracing::warn!(%error, "the journal could not be written");
        }
        let pulse = store.pulse();
        pulse.begin();
        let lanes = 0..request.plan.lanes.len() as u32;
        let rebuilt = lanes.map(|lane| store.rebuilt_pass(lane)).collect();
        let recorder = Recorder::start(store);
        let durable = recorder.durable();
        let env = Rc::new(Env {
            request: request.clone(),
            name,
            run,
            pulse,
            rebuilt,
            observer,
            shutdown,
            retries: std::cell::Cell::new(0),
            throttle: RefCell::new(None),
            clusters: RefCell::default(),
            ways: std::cell::Cell::new(None),
            pace: Pace::shared(Side::Source, &[Side::Source], request.options.limits),
            evictions: Evictions::default(),
            functions: RefCell::default(),
            big_key: RefCell::default(),
        });
        Self {
            request,
            env,
            recorder,
            durable,
            report,
            facts: None,
            list,
            served: None,
        }
    }

    /// One durable checkpoint a lane.
    pub fn lanes(&self) -> Vec<LaneCheckpoint> {
        self.durable.borrow().lanes.to_vec()
    }

    /// What the preflight found out.
    ///
    /// # Panics
    ///
    /// Before the preflight.
    pub fn facts(&self) -> &Facts {
        self.facts
            .as_ref()
            .expect("lanes are copied after the preflight")
    }

    /// Takes what the preflight found out.
    pub fn learn(&mut self, facts: Facts) {
        for warning in &facts.warnings {
            self.env.warn(warning.clone());
        }
        self.report.keyspace(&facts.keyspace);
        let run = self.env.run;
        let servers = [
            (Side::Source, facts.source.clone()),
            (Side::Target, facts.target.clone()),
        ];
        self.recorder.with_store(move |store| {
            servers.into_iter().try_for_each(|(side, server)| {
                let server = Box::new(server);
                store.tell(Journaled::Server { run, side, server })
            })
        });
        for (side, nodes) in [
            (Side::Source, &facts.source_nodes),
            (Side::Target, &facts.target_nodes),
        ] {
            if let Some(nodes) = nodes {
                let masters = nodes.masters().len();
                self.env.observer.event(&Event::Cluster { side, masters });
            }
        }
        self.env
            .clusters
            .replace([facts.source_nodes.clone(), facts.target_nodes.clone()]);
        self.facts = Some(facts);
    }

    /// Remembers for the status that a pass begins.
    pub fn pass_began(&mut self, lane: u32, pass: u32, reason: &str) {
        self.report.pass_began(PassStatus {
            lane,
            pass,
            began_ms: unix_ms(),
            reason: reason.to_owned(),
        });
    }

    /// Tells that the run begins, and whether it continues another.
    pub fn say_start(&mut self) {
        self.report.sample(&self.durable.borrow(), Instant::now());
        let status = self.status(RunState::Running, None);
        let last_run = self.report.last_run();
        self.env.observer.event(&Event::Start {
            run: self.env.run,
            resumed: self.env.run > 1,
            last_run,
            percent: status.percent,
        });
        self.recorder.write_status(status);
    }

    fn status(&self, state: RunState, lane: Option<&Lane>) -> Status {
        self.report
            .status(state, &self.durable.borrow(), &self.env, lane)
    }

    /// Tells the journal how many keys the target has evicted in this run, if it has.
    pub fn tell_evicted(&self) {
        self.journal_evicted(true);
    }

    fn journal_evicted(&self, over: bool) {
        if let Some(keys) = self.env.evictions.untold(over) {
            let told = Journaled::Evicted {
                run: self.env.run,
                keys,
            };
            self.recorder.with_store(|store| store.tell(told));
        }
    }

    fn tell(&mut self, lane: &Lane) {
        // A target without room is a wait of its own.
        let held = lane.held().filter(|_| lane.full.is_none());
        let held = held.as_ref();
        let held = held.map(|held| (held.side, held.reason.as_str()));
        self.env.pulse.limited(held);
        self.report.sample(&self.durable.borrow(), Instant::now());
        let status = self.status(RunState::Running, Some(lane));
        self.env
            .observer
            .event(&Event::Progress(Box::new(status.clone())));
        self.recorder.write_status(status);
        self.journal_evicted(false);
    }

    /// Makes everything durable, records how the run ended and closes the state.
    pub async fn finish(
        mut self,
        state: RunState,
        how: String,
        class: Option<Class>,
    ) -> Result<(Status, Rc<dyn Observer>), Error> {
        let ended = how.clone();
        let kind = match state {
            RunState::Complete => EndKind::Complete,
            RunState::Stopped => EndKind::Stopped,
            RunState::Failed => EndKind::Failed,
            RunState::Running => EndKind::Unknown,
        };
        let saved = self
            .recorder
            .with_store(move |store| store.end_run_as(&ended, kind, class))
            .await;
        self.report.sample(&self.durable.borrow(), Instant::now());
        let mut status = self.status(state, None);
        status.end = Some(how);
        self.recorder.write_status(status.clone());
        let observer = Rc::clone(&self.env.observer);
        // Joining a thread for the length of one commit; nothing else runs any more.
        self.recorder.finish()?;
        saved.map_err(lost_store)??;
        Ok((status, observer))
    }
}

/// What the tasks of one lane share.
pub struct Shared {
    /// What every part of the run shares.
    pub env: Rc<Env>,
    /// Which lane of the plan.
    pub index: usize,
    /// How far the disk is.
    pub durable: watch::Receiver<Durable>,
    /// Which keys are where.
    pub lane: RefCell<Lane>,
    /// The source may be asked for more.
    pub source_wake: Notify,
    /// The source's answers may be read again.
    pub read_wake: Notify,
    /// Payloads wait for this connection.
    pub target_wake: Vec<Notify>,
    /// Keys have outcomes.
    pub settled_wake: Notify,
    /// Doubtful keys wait.
    pub doubt_wake: Notify,
    /// Keys may have to be looked for at another node.
    pub stray_wake: Notify,
    /// Names may have to be asked about.
    pub rival_wake: Notify,
    /// Big keys may wait.
    pub big_wake: Notify,
    /// It may be known by now what sizes are worth asking for.
    pub survey_wake: Notify,
    /// The way to the state store.
    pub store: Handle,
    /// Where names come from, if they come from a list.
    list: Option<KeyList>,
}

/// Why a task ended. None of them ends because all is done: that is the supervisor's word.
pub enum End {
    /// The lane ends, or has to begin anew.
    Lane(LaneEnd),
    /// The run can't go on.
    Failed(Box<Error>),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Copies a lane over these connections, and their successors, until it is at its end or something ends it.
pub async fn drive(
    context: &mut Context,
    index: usize,
    lane: Lane,
    source: Link,
    targets: Vec<Link>,
) -> Result<LaneEnd, Error> {
    let shared = Rc::new(Shared {
        env: Rc::clone(&context.env),
        index,
        durable: context.recorder.durable(),
        lane: RefCell::new(lane),
        source_wake: Notify::new(),
        read_wake: Notify::new(),
        target_wake: targets.iter().map(|_| Notify::new()).collect(),
        settled_wake: Notify::new(),
        doubt_wake: Notify::new(),
        stray_wake: Notify::new(),
        rival_wake: Notify::new(),
        big_wake: Notify::new(),
        survey_wake: Notify::new(),
        store: context.recorder.handle(),
        list: context.list.clone(),
    });
    let mut tasks = JoinSet::new();
    let (earlier, _) = renaming::rivals(&context.env.request.plan, index);
    if !earlier.is_empty() {
        tasks.spawn_local(ask_rivals(Rc::clone(&shared), earlier));
    }
    match context.env.cluster(Side::Source) {
        None => {
            tasks.spawn_local(source_side(Rc::clone(&shared), source));
        }
        Some(nodes) => {
            tasks.spawn_local(read_strays(Rc::clone(&shared), Rc::clone(&nodes)));
            tasks.spawn_local(nodes::source_side(Rc::clone(&shared), nodes, source));
        }
    }
    let target = context.env.cluster(Side::Target);
    for (connection, link) in targets.into_iter().enumerate() {
        let shared = Rc::clone(&shared);
        match &target {
            None => tasks.spawn_local(target_side(shared, connection, link)),
            Some(nodes) => {
                let nodes = Rc::clone(nodes);
                tasks.spawn_local(nodes::target_side(shared, nodes, connection, link))
            }
        };
    }
    tasks.spawn_local(probe(Rc::clone(&shared)));
    tasks.spawn_local(guard(Rc::clone(&shared)));
    tasks.spawn_local(follow_control(Rc::clone(&shared)));
    tasks.spawn_local(watch_memory(Rc::clone(&shared)));
    if sentinel::is_used(&context.env) {
        tasks.spawn_local(sentinel::watch(Rc::clone(&shared)));
    }
    tasks.spawn_local(copy_big_keys(Rc::clone(&shared)));
    tasks.spawn_local(survey(Rc::clone(&shared)));
    tasks.spawn_local(probe_target(Rc::clone(&shared)));
    tasks.spawn_local(resolve_doubts(Rc::clone(&shared)));
    let end = tokio::select! {
        end = supervise(context, &shared) => end,
        ended = tasks.join_next() => match ended {
            Some(Ok(end)) => end,
            // A panic in a task is ours, and is passed on.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => unreachable!("the tasks run until they are dropped"),
        },
    };
    // What was finished until now counts, whatever ended it.
    submit_finished(context, &shared);
    tasks.shutdown().await;
    match end {
        End::Lane(end) => Ok(end),
        End::Failed(error) => Err(*error),
    }
}

// ---- the supervisor

/// Hands finished batches to the state store, learns what is durable, and ends the lane when all is.
async fn supervise(context: &mut Context, shared: &Rc<Shared>) -> End {
    let mut durable = context.recorder.durable();
    let mut durable_seen = durable.borrow_and_update().batches_durable_total;
    let mut shutdown = context.env.shutdown.clone();
    let mut stop: Option<StopReason> = None;
    let mut grace = Box::pin(tokio::time::sleep(Duration::MAX));
    let mut status = tokio::time::interval(STATUS_EVERY);
    let mut last_asked_for = false;
    loop {
        tokio::select! {
            () = shared.settled_wake.notified() => submit_finished(context, shared),
            changed = durable.changed() => {
                if changed.is_err() {
                    return Error::new(Class::StateIo, "use the state store", "its thread has died").into();
                }
                let now = durable.borrow_and_update().clone();
                if let Some(error) = now.error {
                    return Error::from(error).into();
                }
                shared.lane.borrow_mut().durable(now.batches_durable_total - durable_seen);
                durable_seen = now.batches_durable_total;
                shared.source_wake.notify_one();
            }
            _ = status.tick() => context.tell(&shared.lane.borrow()),
            reason = shutdown.wait(), if stop.is_none() => {
                stop = Some(reason);
                shared.lane.borrow_mut().stop();
                let batches = shared.lane.borrow().batches_in_flight();
                context.env.observer.event(&Event::Stopping { batches });
                grace = Box::pin(tokio::time::sleep(context.env.request.options.grace));
            }
            () = &mut grace, if stop.is_some() => {
                let reason = stop.expect("checked in the branch's condition");
                return End::Lane(LaneEnd::Stopped(reason));
            }
        }
        tell_news(context, shared);
        let mut lane = shared.lane.borrow_mut();
        if lane.is_settled() && !last_asked_for {
            // Nothing will join the last batches: they need not wait for company in their commit.
            last_asked_for = true;
            context.recorder.with_store(|_| ());
        }
        if let Some(error) = lane.fatal.take() {
            return End::Failed(error);
        }
        if lane.is_complete() && lane.batches_in_flight() == 0 {
            return End::Lane(LaneEnd::Complete);
        }
        if let Some(reason) = stop.filter(|_| lane.is_settled()) {
            return End::Lane(LaneEnd::Stopped(reason));
        }
    }
}

fn submit_finished(context: &Context, shared: &Shared) {
    let keyspace = context.facts().keyspace[shared.index];
    loop {
        let Some(batch) = shared.lane.borrow_mut().take_finished() else {
            return;
        };
        crate::crash_point!("acknowledged_before_state_write");
        context.recorder.submit(
            shared.index as u32,
            acknowledged(&context.env, batch, keyspace),
        );
    }
}

fn acknowledged(env: &Env, batch: FinishedBatch, keyspace: Option<u64>) -> AcknowledgedBatch {
    AcknowledgedBatch {
        run: env.run,
        cursor_in: batch.cursor_in,
        cursor_out: batch.cursor_out,
        count: env.request.options.batch_keys,
        keyspace,
        counters: batch.counters,
        makeup: batch.makeup,
        keys_digest: batch.keys_digest,
        scanned_ms: batch.scanned_ms,
        acknowledged_ms: unix_ms(),
        canary_keys: batch.canary_keys,
        quarantined: batch.quarantined,
        recorded: (env.request.options.record_digests).then_some(batch.recorded),
    }
}

fn tell_news(context: &Context, shared: &Shared) {
    let (news, notes) = {
        let mut lane = shared.lane.borrow_mut();
        context.env.goes_by(lane.ways());
        (
            std::mem::take(&mut lane.quarantined_news),
            std::mem::take(&mut lane.notes),
        )
    };
    notes.into_iter().for_each(|note| context.env.warn(note));
    let change = context.env.pace.borrow_mut().take_change();
    if let Some(limits) = change {
        let run = context.env.run;
        let told = Journaled::LimitsChanged { run, limits };
        context.recorder.with_store(|store| store.tell(told));
        let event = Event::LimitsChanged { limits };
        context.env.observer.event(&event);
    }
    let db = context.env.request.plan.lanes[shared.index].source_db;
    for (key, reason) in news {
        context.env.observer.event(&Event::Quarantined {
            db,
            key: Escaped(&key).to_string(),
            reason,
        });
    }
}

// ---- the source

async fn source_side(shared: Rc<Shared>, mut link: Link) -> End {
    let env = Rc::clone(&shared.env);
    let plan = env.request.plan.lanes[shared.index];
    let mut budget = env.budget(Side::Source);
    budget.contact();
    loop {
        link.wire.set_silence_max(budget.silence_max());
        let (reader, writer) = link.wire.split();
        let trouble = tokio::select! {
            trouble = source_send(&shared, writer) => trouble,
            trouble = source_receive(&shared, reader) => trouble,
        };
        let progress = {
            let mut lane = shared.lane.borrow_mut();
            lane.source_lost();
            lane.source_answers
        };
        budget.progress(progress);
        let failure = match trouble {
            Trouble::Link(error) => error,
            Trouble::Fatal(error) => return End::Failed(error),
            Trouble::CursorRefused(line) => {
                return End::Lane(LaneEnd::NewPass(format!(
                    "the source does not know its cursor any more: \"{line}\""
                )));
            }
            Trouble::NextNode | Trouble::UnknownNode(_) => {
                unreachable!("only a cluster has other nodes")
            }
        };
        let checkpoint = shared.durable.borrow().lanes[shared.index].clone();
        let (next, decision, reason) =
            match reconnected(&env, plan, &checkpoint, &mut budget, failure).await {
                Ok(Waited::Ready(judged)) => judged,
                Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
                Err(error) => return error.into(),
            };
        // The durable position may be the start while cursors are in use that are not durable yet: those die with the
        // process as well.
        let same = same_process(&checkpoint.source, &next.identity) == Some(true);
        let unproven = checkpoint.canary.is_empty()
            && !same
            && !env.request.options.trust_cursor
            && shared.list.is_none();
        if decision == LaneDecision::NewPass || unproven {
            return changed_source(&env, reason);
        }
        if !same {
            env.warn(reason);
        }
        if let Some(change) = change(plan.source_db, &checkpoint.source, &next.identity) {
            env.observer.event(&Event::SourceChanged(change));
        }
        let mut lane = shared.lane.borrow_mut();
        lane.rules.set_source_clock(next.clock);
        // Nothing is asked at the moment, so the question may change.
        lane.rules.expire_time &= next.absolute_expiry;
        link = next;
    }
}

fn changed_source(env: &Env, reason: String) -> End {
    match may_begin_anew(env, &reason) {
        Ok(()) => End::Lane(LaneEnd::NewPass(reason)),
        Err(error) => error.into(),
    }
}

pub(super) async fn source_send(shared: &Shared, mut writer: WireWriter) -> Trouble {
    let mut out = BytesMut::with_capacity(64 * 1024);
    loop {
        if let Some(list) = &shared.list
            && let Err(trouble) = read_ahead(shared, list).await
        {
            return trouble;
        }
        let is_limited = {
            let mut lane = shared.lane.borrow_mut();
            let is_limited = lane.keep_pace(Instant::now);
            lane.request(&mut out);
            is_limited
        };
        if out.is_empty() {
            if shared.lane.borrow().must_change_node() {
                return Trouble::NextNode;
            }
            if is_limited {
                // Nothing but time may be missing.
                let _ = tokio::time::timeout(LOOK_AGAIN, shared.source_wake.notified()).await;
            } else {
                shared.source_wake.notified().await;
            }
            continue;
        }
        if let Err(error) = writer.write_all(&out).await {
            return error.into();
        }
        out.clear();
    }
}

pub(super) async fn source_receive(shared: &Shared, mut reader: WireReader) -> Trouble {
    loop {
        // Bytes that wait for the target stay bounded: the rest waits in the source's buffers and in the network's.
        while shared.lane.borrow().is_full() {
            shared.read_wake.notified().await;
        }
        let owed = shared.lane.borrow().source_owes();
        match reader.fill().await {
            Ok(()) => {}
            // Nothing was due when the wait began.
            Err(LinkError::Silent(_)) if !owed => continue,
            Err(error) => return error.into(),
        }
        if let Err(trouble) = take_answers(shared, &mut reader) {
            return trouble;
        }
        shared.source_wake.notify_one();
        shared.stray_wake.notify_one();
        shared.rival_wake.notify_one();
        shared.big_wake.notify_one();
        shared.target_wake.iter().for_each(Notify::notify_one);
        shared.settled_wake.notify_one();
    }
}

fn take_answers(shared: &Shared, reader: &mut WireReader) -> Result<(), Trouble> {
    let mut lane = shared.lane.borrow_mut();
    let now = Instant::now();
    loop {
        reader.skip_above(lane.skip_above());
        match reader.buffered()? {
            Some(token) => lane.source_token(token, now)?,
            None => return Ok(()),
        }
    }
}
