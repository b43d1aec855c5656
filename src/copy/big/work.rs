//! One big key after the other: read, put together, renamed.
//!
//! # Invariants
//!
//! - What is written belongs behind what the mark says, or there is nothing yet.
//! - A failure of the source throws away what was read, never what was written: the next reading goes on behind it if it
//!   reads the same.

mod around;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use redis::cmd;

use super::ends::End;
use super::mark::Mark;
use super::rights::Broken;
use super::source;
use super::target::{self, Names, Renamed};
use crate::client::LinkError;
use crate::copy::engine::Shared;
use crate::copy::lane::{BigEnd, BigKey};
use crate::copy::link::Waited;
use crate::copy::lost_store;
use crate::copy::pieces::{Begun, Limits, Next, Obstacle, Piece, Reader, Target};
use crate::endpoint::Side;
use crate::error::Error;
use crate::key::Escaped;
use crate::plan::{KeyType, OnConflict, TtlPolicy};
use crate::progress::{Arrived, KeyKind, Life};
use crate::resp::Retry;
use crate::shutdown::StopReason;
use crate::state::Handle;
use crate::state::record::{BigKeyId, BigRecord};
use crate::temporary::Temporary;

/// Readings of a key that changes each time, before it is left to DUMP.
const CHANGES_MAX: u32 = 5;
/// Times that what was written may be gone, or be something else, before the key is given up.
const LOSSES_MAX: u32 = 5;

/// See the module.
pub(super) struct Work {
    shared: Rc<Shared>,
    temporary: Temporary,
    /// What the state has of keys of this lane.
    records: BTreeMap<BigKeyId, BigRecord>,
    /// Keys that have their names, oldest first.
    finished: VecDeque<BigKeyId>,
    source: End,
    target: End,
    /// A side does not serve what it takes.
    is_refused: bool,
}

/// What one reading came to.
enum Reading {
    Ended(BigEnd),
    /// It changed meanwhile.
    Changed,
    /// What the target has is no beginning of it.
    Other,
    Stopped(StopReason),
}

/// What stops a reading.
enum Trouble {
    /// A connection.
    Link(Broken),
    /// The run.
    Fatal(Error),
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Link(broken)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Goes on unless a stop was asked for.
macro_rules! ready {
    ($waited:expr) => {
        match $waited {
            Waited::Ready(value) => value,
            Waited::Stopped(reason) => return Ok(Reading::Stopped(reason)),
        }
    };
}

/// A key that is being copied.
struct Job<'a> {
    big: &'a BigKey,
    names: Names,
    id: BigKeyId,
    /// Readings that came to nothing because it changed.
    changed: u32,
    /// What is there is of such a reading.
    is_old: bool,
}

impl Work {
    /// Takes up what earlier runs left, and takes away what is not gone on with.
    pub async fn begin(shared: &Rc<Shared>) -> Result<Waited<Self>, Error> {
        let lane = shared.index as u32;
        let found = shared
            .store
            .with_store(move |store| (store.temporary(), store.big_keys(lane)));
        let (temporary, records) = found.await.map_err(lost_store)?;
        let plan = shared.env.request.plan.lanes[shared.index];
        let mut work = Self {
            shared: Rc::clone(shared),
            temporary,
            records: BTreeMap::new(),
            finished: VecDeque::new(),
            source: End::new(&shared.env, Side::Source, plan.source_db),
            target: End::new(&shared.env, Side::Target, plan.target_db),
            is_refused: false,
        };
        let pass = shared.lane.borrow().pass();
        let next_seq = shared.durable.borrow().lanes[shared.index].next_seq;
        let (current, old): (Vec<_>, Vec<_>) = records?
            .into_iter()
            .partition(|(_, record)| record.pass == pass && record.seq >= next_seq);
        work.records = current.into_iter().collect();
        match work.forget(old).await? {
            Waited::Ready(()) => Ok(Waited::Ready(work)),
            Waited::Stopped(reason) => Ok(Waited::Stopped(reason)),
        }
    }

    fn store(&self) -> &Handle {
        &self.shared.store
    }

    /// Copies a key, however often it takes.
    pub async fn copy(&mut self, big: &BigKey) -> Result<Waited<BigEnd>, Error> {
        if self.is_refused {
            return Ok(Waited::Ready(BigEnd::Whole));
        }
        if let Waited::Stopped(reason) = self.forget_finished().await? {
            return Ok(Waited::Stopped(reason));
        }
        let there = {
            let lane = self.shared.lane.borrow();
            lane.rules.renaming.to_target(&big.name)
        };
        let mut job = Job {
            names: Names {
                value: self.temporary.of_value(&there),
                mark: self.temporary.of_mark(&there),
                there,
            },
            id: id_of(&big.name),
            changed: 0,
            is_old: false,
            big,
        };
        let mut lost = 0;
        loop {
            let end = match self.read(&mut job).await {
                Ok(Reading::Stopped(reason)) => return Ok(Waited::Stopped(reason)),
                Ok(Reading::Ended(end)) => end,
                Ok(Reading::Changed) => {
                    job.changed += 1;
                    job.is_old = true;
                    match job.changed < CHANGES_MAX {
                        true => continue,
                        false => self.leave_changing(&job),
                    }
                }
                Ok(Reading::Other) => {
                    lost += 1;
                    match lost < LOSSES_MAX {
                        true => continue,
                        false => BigEnd::Refused(
                            "what was put together on the target was gone again each time: it may be evicting keys".into(),
                            None,
                        ),
                    }
                }
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Link(broken)) => match self.refused(&job, &broken) {
                    Some(end) => end,
                    None => {
                        match broken.side {
                            Side::Source => self.source.lost(broken.error),
                            Side::Target => self.target.lost(broken.error),
                        }
                        continue;
                    }
                },
            };
            return match self.ended(&job, &end).await? {
                Waited::Ready(()) => Ok(Waited::Ready(end)),
                Waited::Stopped(reason) => Ok(Waited::Stopped(reason)),
            };
        }
    }

    fn leave_changing(&self, job: &Job<'_>) -> BigEnd {
        self.shared.env.warn(format!(
            "\"{}\" changed each of the {CHANGES_MAX} times that it was read in pieces: it is read by one DUMP, which keeps the source busy meanwhile",
            Escaped(&job.big.name)
        ));
        BigEnd::Whole
    }

    /// What becomes of the key because of what a server answered, if that is not to be tried again.
    fn refused(&mut self, job: &Job<'_>, broken: &Broken) -> Option<BigEnd> {
        if let Some(refusal) = broken.refusal() {
            self.shared.env.warn(refusal.note());
            self.is_refused |= refusal.of_all;
            return Some(BigEnd::Whole);
        }
        let LinkError::Reply(code, line) = broken.error.bare() else {
            return None;
        };
        match code.retry() {
            Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => None,
            Retry::Key | Retry::Unknown => {
                self.shared.env.warn(format!(
                    "\"{}\" can't be copied in pieces: the {} answers \"{line}\"; it is read by one DUMP",
                    Escaped(&job.big.name),
                    broken.side
                ));
                Some(BigEnd::Whole)
            }
        }
    }

    /// Takes the temporary names away, unless they say that the key has arrived: that is needed until its batch is durable.
    async fn ended(&mut self, job: &Job<'_>, end: &BigEnd) -> Result<Waited<()>, Error> {
        if matches!(end, BigEnd::Arrived(..)) {
            self.finished.push_back(job.id);
            return Ok(Waited::Ready(()));
        }
        match self.records.get(&job.id).cloned() {
            Some(record) => self.forget(vec![(job.id, record)]).await,
            None => Ok(Waited::Ready(())),
        }
    }

    // ---- one reading

    async fn read(&mut self, job: &mut Job<'_>) -> Result<Reading, Trouble> {
        let name = &job.big.name;
        ready!(self.connect_target(job).await?);
        if let Some(end) = self.known(job).await? {
            return Ok(Reading::Ended(end));
        }
        ready!(self.source.connect(name).await?);
        source::watch(self.source.control()?, name).await?;
        let limits = self.limits();
        let begun = Reader::begin(self.source.control()?, name, limits);
        let mut reader = match begun.await.map_err(source::broken)? {
            Begun::Reader(reader) => reader,
            Begun::Gone => return Ok(Reading::Ended(BigEnd::Vanished)),
            Begun::Whole(why) => return Ok(Reading::Ended(self.whole(job, &why))),
        };
        let target = match self.may_be_written(&reader) {
            Ok(target) => target,
            Err(end) => return Ok(Reading::Ended(end)),
        };
        self.record(job, false).await?;
        if job.is_old {
            self.clear(job).await?;
            job.is_old = false;
        }
        let ahead = self.ahead(job).await?;
        let mut mark = Mark::NOTHING;
        loop {
            self.pace().await;
            let began = Instant::now();
            let next = reader.next(self.source.control()?).await;
            let piece = match next.map_err(source::broken)? {
                Next::Piece(piece) => piece,
                Next::End => break,
                Next::Changed => return Ok(Reading::Changed),
                Next::Whole(why) => return Ok(Reading::Ended(self.whole(job, &why))),
            };
            self.shared.lane.borrow_mut().piece_read(piece.bytes());
            self.source.moved();
            let before = mark;
            mark = mark.and(&piece.digest(), piece.bytes() as u64);
            self.show(job, &reader, mark);
            if mark.pieces < ahead.pieces {
                // It is there, if what follows is what the mark says.
            } else if mark.pieces == ahead.pieces {
                if mark != ahead {
                    self.clear(job).await?;
                    return Ok(Reading::Other);
                }
            } else {
                match self.write(job, &piece, &target, before, mark).await? {
                    Written::Yes => {}
                    Written::Ended(end) => return Ok(Reading::Ended(end)),
                    Written::Other => return Ok(Reading::Other),
                    Written::Stopped(reason) => return Ok(Reading::Stopped(reason)),
                }
            }
            self.spare(began.elapsed()).await;
        }
        if mark.pieces < ahead.pieces {
            self.clear(job).await?;
            return Ok(Reading::Other);
        }
        self.finish(job, &reader, mark).await
    }

    /// Makes sure that there is a connection to the target, and that transactions are served on it.
    async fn connect_target(&mut self, job: &Job<'_>) -> Result<Waited<()>, Trouble> {
        match self.target.connect(&job.names.there).await? {
            Waited::Ready(is_new) => {
                if is_new {
                    let transacts = target::transacts(self.target.control()?).await;
                    transacts.map_err(of_target)?;
                }
                Ok(Waited::Ready(()))
            }
            Waited::Stopped(reason) => Ok(Waited::Stopped(reason)),
        }
    }

    /// What earlier tries have already decided: the value bears its name, or must not.
    async fn known(&mut self, job: &Job<'_>) -> Result<Option<BigEnd>, Trouble> {
        let replaces = self.replaces();
        let target = self.target.control()?;
        if self
            .records
            .get(&job.id)
            .is_some_and(|record| record.renaming)
        {
            let held = job.names.held(target).await.map_err(of_target)?;
            if let (Some(mark), false) = (held.mark, held.value) {
                let arrived = Arrived {
                    payload_bytes: mark.bytes,
                    kind: KeyKind::Unknown,
                    life: Life::Unknown,
                };
                return Ok(Some(BigEnd::Arrived(arrived, job.changed > 0)));
            }
        }
        if !replaces && job.names.is_taken(target).await.map_err(of_target)? {
            return Ok(Some(BigEnd::Conflict));
        }
        Ok(None)
    }

    /// A piece is no larger than the smallest key that is big.
    fn limits(&self) -> Limits {
        let limits = Limits::default();
        let big = self.shared.env.request.options.big_key;
        let big = big.and_then(|bytes| usize::try_from(bytes).ok());
        let piece_bytes = limits.piece_bytes.min(big.unwrap_or(usize::MAX));
        Limits {
            piece_bytes,
            answer_bytes: limits.answer_bytes.min(piece_bytes),
            ..limits
        }
    }

    fn replaces(&self) -> bool {
        match self.shared.env.request.plan.on_conflict {
            OnConflict::RequireEmpty | OnConflict::Replace => true,
            OnConflict::Skip | OnConflict::Fail => false,
        }
    }

    fn whole(&self, job: &Job<'_>, why: &str) -> BigEnd {
        self.shared.env.warn(format!(
            "\"{}\" is big, and is read by one DUMP, which keeps the source busy meanwhile: {why}",
            Escaped(&job.big.name)
        ));
        BigEnd::Whole
    }

    /// What the target takes; or what becomes of the key because of its type or size.
    fn may_be_written(&self, reader: &Reader) -> Result<Target, BigEnd> {
        let lane = self.shared.lane.borrow();
        if !lane.wants_type(reader.kind()) {
            return Err(BigEnd::Filtered);
        }
        let most = lane.rules.payload_bytes_max;
        if reader.kind() == KeyType::String && reader.length() > most {
            let reason = format!(
                "the string has {} bytes, the target takes at most {most} (proto-max-bulk-len)",
                reader.length()
            );
            return Err(BigEnd::Refused(reason, None));
        }
        Ok(Target {
            dialect: lane.rules.takes.dialect,
            field_ttl: lane.rules.field_ttl,
            bulk_bytes_max: most,
        })
    }

    /// How much of the value is there. What can't be gone on with is taken away.
    async fn ahead(&mut self, job: &Job<'_>) -> Result<Mark, Trouble> {
        let target = self.target.control()?;
        let held = job.names.held(target).await.map_err(of_target)?;
        match (held.mark, held.value) {
            (Some(mark), true) => Ok(mark),
            (None, false) => Ok(Mark::NOTHING),
            _ => {
                job.names.clear(target).await.map_err(of_target)?;
                Ok(Mark::NOTHING)
            }
        }
    }

    /// Appends a piece, over as many connections as it takes.
    async fn write(
        &mut self,
        job: &Job<'_>,
        piece: &Piece,
        target: &Target,
        before: Mark,
        after: Mark,
    ) -> Result<Written, Trouble> {
        loop {
            let commands = match piece.commands(&job.names.value, target) {
                Ok(commands) => commands,
                Err(obstacle) => return Ok(Written::Ended(obstructed(&obstacle))),
            };
            let control = self.target.control()?;
            let error = match job.names.append(control, piece, commands, &after).await {
                Ok(()) => break,
                Err(error) => error,
            };
            crate::crash_point!("big_piece_unanswered");
            let broken = of_target(error);
            if let Some(end) = self.refused(job, &broken) {
                return Ok(Written::Ended(end));
            }
            self.target.lost(broken.error);
            match self.connect_target(job).await? {
                Waited::Ready(_) => {}
                Waited::Stopped(reason) => return Ok(Written::Stopped(reason)),
            }
            // Whether it was executed is what the mark tells.
            let held = job.names.held(self.target.control()?).await;
            match held.map_err(of_target)? {
                held if held.mark == Some(after) => break,
                held if held.mark.unwrap_or(Mark::NOTHING) == before => {}
                _ => return Ok(Written::Other),
            }
        }
        crate::crash_point!("big_piece_written");
        let bytes = piece.bytes() as u64;
        self.shared.lane.borrow_mut().piece_written(bytes);
        self.target.moved();
        Ok(Written::Yes)
    }

    /// All pieces are there: the key gets its name, if the source's has not changed meanwhile.
    async fn finish(
        &mut self,
        job: &Job<'_>,
        reader: &Reader,
        mark: Mark,
    ) -> Result<Reading, Trouble> {
        let question = self.expiry_question(&job.big.name);
        let unchanged = source::unchanged(self.source.control()?, question.as_ref()).await?;
        let Some(answer) = unchanged else {
            return Ok(Reading::Changed);
        };
        if answer == -2 {
            return Ok(Reading::Ended(BigEnd::Vanished));
        }
        let told = (answer, Instant::now());
        self.record(job, true).await?;
        crate::crash_point!("big_key_before_renaming");
        let arrived = |life| {
            BigEnd::Arrived(
                Arrived {
                    payload_bytes: mark.bytes,
                    kind: kind_of(reader.kind()),
                    life,
                },
                job.changed > 0,
            )
        };
        loop {
            let expiry = {
                let lane = self.shared.lane.borrow();
                lane.big_expiry(told.0, told.1, Instant::now())
            };
            let Some((ttl, life)) = expiry else {
                return Ok(Reading::Ended(BigEnd::Vanished));
            };
            let replaces = self.replaces();
            let control = self.target.control()?;
            let error = match job.names.rename(control, ttl, replaces).await {
                Ok(Renamed::Done) => return Ok(Reading::Ended(arrived(life))),
                Ok(Renamed::Taken) => return Ok(Reading::Ended(BigEnd::Conflict)),
                // All of its fields have expired, or it is gone.
                Ok(Renamed::Nothing) if reader.length() > 0 && mark.pieces > 0 => {
                    self.clear(job).await?;
                    return Ok(Reading::Other);
                }
                Ok(Renamed::Nothing) => return Ok(Reading::Ended(BigEnd::Vanished)),
                Err(error) => error,
            };
            let broken = of_target(error);
            if let Some(end) = self.refused(job, &broken) {
                return Ok(Reading::Ended(end));
            }
            self.target.lost(broken.error);
            ready!(self.connect_target(job).await?);
            let held = job.names.held(self.target.control()?).await;
            match held.map_err(of_target)? {
                held if held.mark == Some(mark) && !held.value => {
                    return Ok(Reading::Ended(arrived(life)));
                }
                held if held.mark == Some(mark) => {}
                _ => return Ok(Reading::Other),
            }
        }
    }

    fn expiry_question(&self, name: &[u8]) -> Option<redis::Cmd> {
        let rules = &self.shared.lane.borrow().rules;
        let mut question = match (rules.ttl, rules.expire_time) {
            (TtlPolicy::Drop, _) => return None,
            (TtlPolicy::Keep, true) => cmd("PEXPIRETIME"),
            (TtlPolicy::Keep, false) => cmd("PTTL"),
        };
        question.arg(name);
        Some(question)
    }

    async fn clear(&mut self, job: &Job<'_>) -> Result<(), Trouble> {
        let control = self.target.control()?;
        job.names.clear(control).await.map_err(of_target)?;
        Ok(())
    }
}

/// What became of a piece.
enum Written {
    Yes,
    Ended(BigEnd),
    /// What the target has is something else.
    Other,
    Stopped(StopReason),
}

fn of_target(error: LinkError) -> Broken {
    let side = Side::Target;
    Broken { side, error }
}

fn obstructed(obstacle: &Obstacle) -> BigEnd {
    BigEnd::Refused(format!("it can't be written in pieces: {obstacle}"), None)
}

fn id_of(name: &[u8]) -> BigKeyId {
    let mut id = BigKeyId::default();
    id.copy_from_slice(&blake3::hash(name).as_bytes()[..16]);
    id
}

fn kind_of(kind: KeyType) -> KeyKind {
    match kind {
        KeyType::String => KeyKind::String,
        KeyType::List => KeyKind::List,
        KeyType::Set => KeyKind::Set,
        KeyType::Zset => KeyKind::Zset,
        KeyType::Hash => KeyKind::Hash,
        KeyType::Stream => KeyKind::Stream,
    }
}
