//! The storage engine, tamed: the only file that names sled.
//!
//! # Invariants
//!
//! - No panic of the engine leaves this file, and none is printed: it becomes [`StoreError::Damaged`].
//! - [`Engine::apply`] writes all of its records or none. After [`Engine::make_durable`] they survive a power cut.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use super::error::StoreError;
use super::folder;
use super::watchdog::Watchdog;

/// The engine's page cache. Everything hot is a few pages; the rest is read once, at open.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// The engine releases its own lock some time after it was closed, from a thread of its own.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Records to be written together.
#[derive(Debug, Default)]
pub(super) struct Writes {
    batch: sled::Batch,
}

impl Writes {
    /// Adds a record, in place of what the key held.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let bytes = key.len() + value.len();
        assert!(
            bytes <= super::layout::RECORD_BYTES_MAX,
            "a record of {bytes} bytes, which the engine would keep where no fsync reaches it"
        );
        self.batch.insert(key, value);
    }

    /// Takes the record at `key` away, if there is one.
    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.batch.remove(key);
    }
}

/// An open engine. Used by one thread at a time.
pub(super) struct Engine {
    /// `None` only while being dropped.
    open: Option<Open>,
    /// A second descriptor of the engine's data file, opened once: an error is reported once per descriptor, and an
    /// fsync acts on the file, whichever descriptor it comes through.
    data: File,
    data_path: PathBuf,
    /// The migration's folder, for messages.
    dir: PathBuf,
}

struct Open {
    // Dropped first: it holds the engine open.
    watchdog: Watchdog,
    db: sled::Db,
}

impl Engine {
    /// Whether there are files of an engine in `dir`.
    pub(super) fn is_in(dir: &Path) -> bool {
        dir.join(folder::DB).join("db").is_file()
    }

    /// Opens or creates the engine's files in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let db_dir = dir.join(folder::DB);
        let data_path = db_dir.join("db");
        wait_for_lock(&data_path)?;
        folder::ensure(&db_dir)?;
        let config = sled::Config::new()
            .path(&db_dir)
            .cache_capacity(CACHE_BYTES)
            // Its own flusher only logs errors.
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        let db = caught(dir, || config.open())?;
        let data = File::options()
            .read(true)
            .write(true)
            .open(&data_path)
            .map_err(|error| StoreError::io("open", &data_path, &error))?;
        let watched = db.clone();
        let watchdog = Watchdog::start(move || {
            // It finds the error that the operation waits behind, and wakes it.
            let _ = quietly(|| watched.flush());
        })
        .map_err(|error| StoreError::io("start a thread for", dir, &error))?;
        folder::seal(&db_dir)?;
        folder::sync(dir)?;
        Ok(Self {
            open: Some(Open { watchdog, db }),
            data,
            data_path,
            dir: dir.to_owned(),
        })
    }

    /// The record at `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.run(|db| db.get(key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Shows `visit` the records of the keys from `range.0` up to, without, `range.1`, in order, until it breaks.
    pub(super) fn visit(
        &self,
        range: (Vec<u8>, Vec<u8>),
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.run(|db| {
            for record in db.range(range.0..range.1) {
                let (key, value) = record?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Whether it holds no record at all.
    pub(super) fn is_empty(&self) -> Result<bool, StoreError> {
        self.run(|db| Ok(db.iter().next().transpose()?.is_none()))
    }

    /// Writes all records or none. They are not durable yet.
    pub(super) fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        self.run(|db| db.apply_batch(writes.batch))
    }

    /// Makes everything written so far survive the death of this process.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.run(|db| db.flush().map(drop))
    }

    /// Makes everything written so far survive a power cut, not only a killed process.
    ///
    /// On Linux the engine's own `flush` is only `sync_file_range`, which leaves the device's write cache and the file's
    /// metadata alone.
    pub(super) fn make_durable(&self) -> Result<(), StoreError> {
        self.flush()?;
        crate::crash_point!("state_flushed_before_fsync");
        self.data
            .sync_all()
            .map_err(|error| StoreError::io("sync", &self.data_path, &error))
    }

    /// Runs an operation; translates what can come of it.
    fn run<R>(
        &self,
        operation: impl FnOnce(&sled::Db) -> sled::Result<R>,
    ) -> Result<R, StoreError> {
        let open = self.open.as_ref().expect("open until dropped");
        open.watchdog
            .watch(|| caught(&self.dir, || operation(&open.db)))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The engine's destructor writes, and then nobody looks after it: it should find nothing left to write.
        let _ = self.flush();
        // It also panics where it can't write.
        let open = self.open.take();
        let _ = quietly(|| drop(open));
    }
}

/// Removes the configuration of an engine that died before it had a data file. It may be half written, and would then be
/// refused as damaged for ever, although nothing was ever in it.
pub(super) fn forget_unborn(dir: &Path) -> Result<(), StoreError> {
    let db_dir = dir.join(folder::DB);
    let (data, conf) = (db_dir.join("db"), db_dir.join("conf"));
    if data.exists() || !conf.exists() {
        return Ok(());
    }
    std::fs::remove_file(&conf)
        .map_err(|error| StoreError::io("remove the half-written", &conf, &error))
}

/// Waits until no closed engine of this process holds the data file any more.
///
/// Our own lock keeps other processes out, so whoever still holds it is on its way out.
fn wait_for_lock(data: &Path) -> Result<(), StoreError> {
    let file = match File::open(data) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("open", data, &error)),
    };
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY)
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    pid: None,
                    host: String::new(),
                    since_ms: 0,
                    command: String::new(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", data, &error)),
        }
    }
}

/// Runs an operation of the engine and translates what can come of it, panics too.
fn caught<R>(dir: &Path, operation: impl FnOnce() -> sled::Result<R>) -> Result<R, StoreError> {
    match quietly(operation) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(translate(dir, error)),
        Err(message) => Err(StoreError::damaged(message, dir)),
    }
}

fn translate(dir: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => match error.kind() {
            // The file ends or goes on where it should not: its content is to blame, not the disk.
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                StoreError::damaged(error.to_string(), dir)
            }
            _ => StoreError::io("use the state in", dir, &error),
        },
        sled::Error::Corruption { .. } => StoreError::damaged("a checksum does not match", dir),
        sled::Error::Unsupported(what) | sled::Error::ReportableBug(what) => {
            StoreError::damaged(what, dir)
        }
        sled::Error::CollectionNotFound(_) => StoreError::damaged("its table is missing", dir),
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; if it panics, returns the message instead of printing it.
fn quietly<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    silence_engine_panics();
    let outer = QUIET.replace(true);
    // What `f` may leave half done belongs to the engine, which is not used again after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    QUIET.set(outer);
    result.map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("it can't be read");
        // Only the first line: assertions print whole structures.
        message
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect()
    })
}

/// Puts a panic hook before the present one that stays silent for what [`quietly`] runs and for the engine's threads.
fn silence_engine_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let engine_thread = std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("sled-io-"));
            if !QUIET.get() && !engine_thread {
                others(info);
            }
        }));
    });
}
