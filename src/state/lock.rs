//! One process a migration.
//!
//! The lock is the kernel's (`flock`) and ends with its holder, however that ends. What the file says is only for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::folder;

/// `redknot status` holds the lock for a moment to see whether anybody has it; that must not fail a start.
const WAIT: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_millis(10);

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub pid: u32,
    pub host: String,
    pub since_ms: u64,
    pub command: String,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Who held it before and died, if that is still to be told.
    died: Option<Holder>,
}

impl Lock {
    /// Takes the lock of the migration in `dir` for `command`, which others are told. Also returns who held it before and
    /// did not release it: a process that died.
    pub(super) fn take(dir: &Path, command: &str) -> Result<(Self, Option<Holder>), StoreError> {
        let path = dir.join(folder::LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| StoreError::io("open the lock", &path, &error))?;
        let deadline = Instant::now() + WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(RETRY)
                }
                Err(TryLockError::WouldBlock) => return Err(locked(read(&mut file))),
                Err(TryLockError::Error(error)) => {
                    return Err(StoreError::io("lock", &path, &error));
                }
            }
        }
        let died = read(&mut file);
        write(&mut file, command)
            .map_err(|error| StoreError::io("write the lock", &path, &error))?;
        Ok((Self { file, died: None }, died))
    }

    /// As [`Self::take`], by somebody who only looks: who died holding it is still told to whoever takes it next.
    pub(super) fn take_to_look(dir: &Path, command: &str) -> Result<Self, StoreError> {
        let (mut lock, died) = Self::take(dir, command)?;
        lock.died = died;
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file says that nobody died holding it. If this fails, the next run says something that is not so.
        let _ = match &self.died {
            Some(holder) => put(&mut self.file, holder),
            None => self.file.set_len(0),
        };
    }
}

/// Whether a process holds the lock of the migration in `dir`.
pub(super) fn is_held(dir: &Path) -> Result<bool, StoreError> {
    let path: PathBuf = dir.join(folder::LOCK);
    let file = File::open(&path).map_err(|error| StoreError::io("open the lock", &path, &error))?;
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::io("look at the lock", &path, &error)),
    }
}

/// This machine's name.
pub(super) fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Who runs this process: the login name, or the number where the machine knows no name for it.
pub(super) fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let names = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(uid, &names).unwrap_or_else(|| format!("uid {uid}"))
}

/// The login name of `uid` in a text of the form of `passwd(5)`.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn locked(holder: Option<Holder>) -> StoreError {
    match holder {
        Some(holder) => StoreError::Locked {
            pid: Some(holder.pid),
            host: holder.host,
            since_ms: holder.since_ms,
            command: holder.command,
        },
        None => StoreError::Locked {
            pid: None,
            host: String::new(),
            since_ms: 0,
            command: String::new(),
        },
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    // More than a holder ever takes, and no more than we want to read of a file that is not ours.
    file.take(4096).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn write(file: &mut File, command: &str) -> std::io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        host: host(),
        since_ms: super::now_ms(),
        command: command.to_owned(),
    };
    put(file, &holder)
}

fn put(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(holder)?)
}
