//! Durability off the data path: a thread that owns the store and commits batches in groups.
//!
//! # Invariants
//!
//! - What [`Durable`] tells is on disk, fsynced.
//! - Batches of a lane become durable in the order in which they were submitted.
//! - After the first error nothing more is written; the error is told to everybody who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::commit::{AcknowledgedBatch, Commit};
use super::error::StoreError;
use super::now_ms;
use super::record::LaneCheckpoint;
use super::store::Store;
use crate::progress::Status;

/// So many waiting batches are committed without waiting for more.
const GROUP_BATCHES: usize = 4;

/// So long the oldest waits for company. What a crash repeats is what was copied in this time.
const GROUP_WAIT: Duration = Duration::from_millis(50);

/// So long after a commit began the next one begins, unless the oldest batch has waited enough or too many wait. A
/// commit costs 0.4 to 0.8 ms of CPU, most of it in the kernel and whatever its size: so it takes at most 4 % of a core.
const COMMIT_EVERY: Duration = Duration::from_millis(20);

/// So many waiting batches are committed however short ago the last commit was: the copy stops at 32 batches in flight
/// and must not wait for our patience.
const CROWD_BATCHES: usize = 16;

/// Most batches in one commit, so that one that follows a stall of the disk stays small for the engine.
const COMMIT_BATCHES_MAX: usize = 256;

const _: () = {
    // The promised bound on how long an acknowledgement waits for its commit.
    assert!(GROUP_WAIT.as_millis() <= 250);
    assert!(COMMIT_EVERY.as_millis() <= GROUP_WAIT.as_millis());
    assert!(GROUP_BATCHES <= CROWD_BATCHES && CROWD_BATCHES <= COMMIT_BATCHES_MAX);
};

/// How far the disk is.
#[derive(Debug, Clone)]
pub struct Durable {
    /// One checkpoint a lane of the plan.
    pub lanes: Arc<[LaneCheckpoint]>,
    /// Batches submitted in this run that are durable.
    pub batches_durable_total: u64,
    /// When the newest commit became durable, Unix milliseconds; `None` before the first of this run.
    pub checkpoint_ms: Option<u64>,
    /// Commits in this run.
    pub commits: u64,
    /// How long the newest commit took to become durable, in microseconds.
    pub fsync_us_last: u64,
    /// The error that ended all writing.
    pub error: Option<StoreError>,
}

enum Message {
    Batch(u32, Box<AcknowledgedBatch>),
    WithStore(Box<dyn FnOnce(&mut Store) + Send>),
    Status(Box<Status>),
    Finish,
}

/// Asks the store things while somebody else owns its [`Recorder`].
#[derive(Debug, Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
}

impl Handle {
    /// See [`Recorder::with_store`].
    pub fn with_store<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Store) -> R + Send + 'static,
    ) -> oneshot::Receiver<R> {
        ask(&self.messages, f)
    }
}

/// Owns a [`Store`] on a thread of its own. Dropping it abandons what is not committed yet, as a crash would.
#[derive(Debug)]
pub struct Recorder {
    messages: mpsc::Sender<Message>,
    durable: watch::Receiver<Durable>,
    abandoned: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Store, Option<StoreError>)>>,
}

impl Recorder {
    /// Starts the thread.
    pub fn start(store: Store) -> Self {
        let (messages, received) = mpsc::channel();
        let (publisher, durable) = watch::channel(Durable {
            lanes: store.lanes().into(),
            batches_durable_total: 0,
            checkpoint_ms: None,
            commits: 0,
            fsync_us_last: 0,
            error: None,
        });
        let abandoned = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            store,
            publisher,
            pending: Vec::new(),
            oldest: None,
            began: Instant::now(),
            abandoned: Arc::clone(&abandoned),
        };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writer.run(&received))
            .expect("the system has room for one more thread");
        Self {
            messages,
            durable,
            abandoned,
            thread: Some(thread),
        }
    }

    /// Hands over a batch; never blocks. Batches of a lane must come in the order of SCAN.
    pub fn submit(&self, lane: u32, batch: AcknowledgedBatch) {
        self.send(Message::Batch(lane, Box::new(batch)));
    }

    /// How far the disk is, now and whenever that changes. Closed if the thread died of a broken invariant.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// Runs `f` on the thread, after everything submitted before it has been committed.
    ///
    /// After a failed commit `f` still runs, and every write that it tries returns that error.
    pub fn with_store<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Store) -> R + Send + 'static,
    ) -> oneshot::Receiver<R> {
        ask(&self.messages, f)
    }

    /// A way to the store for whoever does not own this.
    pub fn handle(&self) -> Handle {
        let messages = self.messages.clone();
        Handle { messages }
    }

    /// Replaces the status file some time soon. Failing that is not an error of the run: nothing depends on it.
    pub fn write_status(&self, status: Status) {
        self.send(Message::Status(Box::new(status)));
    }

    /// Commits what is pending and gives the store back. Blocks while it does.
    pub fn finish(mut self) -> Result<Store, StoreError> {
        self.send(Message::Finish);
        let thread = self.thread.take().expect("finished once");
        match thread.join() {
            Ok((_, Some(error))) => Err(error),
            Ok((store, None)) => Ok(store),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn send(&self, message: Message) {
        // The thread is gone only if it panicked, which whoever waits for `durable` or `finish` is told.
        let _ = self.messages.send(message);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.abandoned.store(true, Ordering::Release);
            self.send(Message::Finish);
            // So that the lock is free when this returns. A panic has already been reported.
            let _ = thread.join();
        }
    }
}

fn ask<R: Send + 'static>(
    messages: &mpsc::Sender<Message>,
    f: impl FnOnce(&mut Store) -> R + Send + 'static,
) -> oneshot::Receiver<R> {
    let (sender, receiver) = oneshot::channel();
    // The thread is gone only if it panicked, or was told to end: whoever waits is told then.
    let _ = messages.send(Message::WithStore(Box::new(move |store| {
        // Nobody may be waiting any more.
        let _ = sender.send(f(store));
    })));
    receiver
}

/// The thread's side.
struct Writer {
    store: Store,
    publisher: watch::Sender<Durable>,
    pending: Vec<(u32, AcknowledgedBatch)>,
    /// When the oldest pending batch came.
    oldest: Option<Instant>,
    /// When the last commit began.
    began: Instant,
    abandoned: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, messages: &mpsc::Receiver<Message>) -> (Store, Option<StoreError>) {
        loop {
            let message = self.next(messages);
            if self.abandoned.load(Ordering::Acquire) {
                break;
            }
            match message {
                Some(Message::Batch(lane, batch)) => {
                    self.pending.push((lane, *batch));
                    self.oldest.get_or_insert_with(Instant::now);
                }
                Some(Message::WithStore(f)) => {
                    self.commit();
                    f(&mut self.store);
                    self.publish_lanes();
                }
                Some(Message::Status(status)) => {
                    if let Err(error) = self.store.tell_status(&status) {
                        tracing::warn!(%error, "the status file could not be replaced");
                    }
                }
                Some(Message::Finish) => {
                    self.commit();
                    break;
                }
                // The oldest has waited long enough.
                None => self.commit(),
            }
        }
        let error = self.publisher.borrow().error.clone();
        (self.store, error)
    }

    /// The next message, or `None` when it is time to commit.
    fn next(&self, messages: &mpsc::Receiver<Message>) -> Option<Message> {
        let gone = Some(Message::Finish);
        let Some(oldest) = self.oldest else {
            return messages.recv().ok().or(gone);
        };
        if self.pending.len() >= COMMIT_BATCHES_MAX {
            return None;
        }
        let patience = GROUP_WAIT.saturating_sub(oldest.elapsed());
        // What has come while the last commit ran joins this one: a message that is there is taken without any wait.
        let wait = match self.pending.len() {
            CROWD_BATCHES.. => Duration::ZERO,
            GROUP_BATCHES.. => patience.min(COMMIT_EVERY.saturating_sub(self.began.elapsed())),
            _ => patience,
        };
        match messages.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => gone,
        }
    }

    /// Makes everything pending durable and says so. After an error, only forgets it.
    fn commit(&mut self) {
        self.oldest = None;
        self.began = Instant::now();
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() || self.publisher.borrow().error.is_some() {
            return;
        }
        let batches = pending.len() as u64;
        let result = self.store.commit_all(&by_lane(pending));
        let fsync = self.store.last_sync();
        self.publisher.send_modify(|durable| match result {
            Ok(()) => {
                durable.lanes = self.store.lanes().into();
                durable.batches_durable_total += batches;
                durable.checkpoint_ms = Some(now_ms());
                durable.commits += 1;
                durable.fsync_us_last = u64::try_from(fsync.as_micros()).unwrap_or(u64::MAX);
            }
            Err(error) => durable.error = Some(error),
        });
    }

    fn publish_lanes(&self) {
        self.publisher.send_if_modified(|durable| {
            let changed = *durable.lanes != *self.store.lanes();
            if changed {
                durable.lanes = self.store.lanes().into();
            }
            changed
        });
    }
}

/// Batches by lane, each lane's in the order in which they came.
fn by_lane(pending: Vec<(u32, AcknowledgedBatch)>) -> Vec<Commit> {
    let mut commits: Vec<Commit> = Vec::new();
    for (lane, batch) in pending {
        match commits.iter_mut().find(|commit| commit.lane == lane) {
            Some(commit) => commit.batches.push(batch),
            None => commits.push(Commit {
                lane,
                batches: vec![batch],
            }),
        }
    }
    commits
}
