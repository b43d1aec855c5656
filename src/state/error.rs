//! Why the state store refuses.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Class, Error};
use crate::plan::Difference;

/// A refusal of the state store. Can be cloned, since it is final and everybody who waits is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// The file system refused: no space, read-only, no permission, I/O error.
    Io(IoFailure),
    /// Another live process holds the state.
    Locked {
        /// Its process id, if it has written it.
        pid: Option<u32>,
        /// Its machine.
        host: String,
        /// When it took the lock, Unix milliseconds.
        since_ms: u64,
        /// What it runs, without arguments.
        command: String,
    },
    /// The content can't be trusted.
    Damaged {
        /// What is wrong with it.
        what: String,
        /// The folder that still holds everything.
        kept: PathBuf,
    },
    /// The journal knows of more than the store holds: a power cut or somebody emptied it.
    Amnesia {
        /// What the journal knows and what the store holds.
        what: String,
        /// The folder that still holds everything.
        kept: PathBuf,
    },
    /// The state was made for another plan.
    Foreign {
        /// Name of the migration.
        name: String,
        /// The fields that differ.
        differences: Vec<Difference>,
    },
    /// A newer redknot made it.
    Newer {
        /// Its format version.
        format: u32,
        /// The version of redknot that wrote it, if it could be read.
        by: String,
    },
    /// A redknot made it that was not released.
    Older {
        /// Its format version.
        format: u32,
        /// The version of redknot that wrote it, if it could be read.
        by: String,
    },
    /// The folder is not empty and none of ours. Nothing was written to it.
    NotAState {
        /// The folder.
        path: PathBuf,
    },
    /// The folder could be changed by others, or is not a folder.
    Unsafe {
        /// The path.
        path: PathBuf,
        /// Why it is refused.
        why: String,
    },
    /// A migration's name must be a file name.
    BadName {
        /// As given.
        name: String,
    },
    /// There is no migration of this name.
    Unknown {
        /// As given.
        name: String,
        /// The parent folder.
        state_dir: PathBuf,
        /// The names there are.
        known: Vec<String>,
    },
    /// The migration was created, and died before it wrote its first status.
    NoStatus {
        /// Name of the migration.
        name: String,
    },
    /// The plan does not fit into one record.
    PlanTooBig {
        /// Its size, encoded.
        bytes: usize,
    },
}

/// What the file system said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoFailure {
    /// The file or folder.
    pub path: PathBuf,
    /// Completes "failed to …".
    pub doing: &'static str,
    /// What kind of trouble, as far as the standard library knows it.
    pub kind: io::ErrorKind,
    /// In words.
    pub message: String,
    /// Bytes free on that file system, if they could be asked for.
    pub free_bytes: Option<u64>,
}

impl StoreError {
    /// An error of the file system, with the space that is left there.
    pub(crate) fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io(IoFailure {
            path: path.to_owned(),
            doing,
            kind: error.kind(),
            message: words(error),
            free_bytes: free_bytes(path),
        })
    }

    pub(crate) fn damaged(what: impl Into<String>, kept: &Path) -> Self {
        Self::Damaged {
            what: what.into(),
            kept: kept.to_owned(),
        }
    }
}

/// The operating system's words. The engine hands errors on as the debug form of another error, which nobody wants to read.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "no space left on device".to_owned(),
        io::ErrorKind::QuotaExceeded => "disk quota exceeded".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "read-only file system".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            let inner = text
                .split_once("message: \"")
                .and_then(|(_, rest)| rest.split_once('"'));
            inner.map_or(text.clone(), |(message, _)| message.to_lowercase())
        }
    }
}

/// Bytes that an ordinary user may still write on the file system of `path` or of its nearest existing parent.
fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = Error::from(self.clone());
        write!(f, "{error}")
    }
}

impl std::error::Error for StoreError {}

const RESTART: &str = "`--restart` sets the old state aside, deletes nothing, and begins anew";

/// What can be done about a state that is not to be trusted.
fn ways_out(kept: &Path) -> String {
    let name = kept.file_name().unwrap_or_default();
    format!(
        "{RESTART}; `redknot audit rebuild {}` makes it anew from its journal and goes on from there; everything is still in {}",
        name.display(),
        kept.display()
    )
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let opening = "open the state";
        match error {
            StoreError::Io(failure) => failure.into(),
            StoreError::Locked {
                pid,
                host,
                since_ms,
                command,
            } => {
                let holder = match pid {
                    Some(pid) => format!(
                        "`{command}` with pid {pid} on {host} works on it since {}",
                        utc(since_ms)
                    ),
                    None => "another process works on it".to_owned(),
                };
                Self::new(Class::StateLocked, opening, holder)
                    .hint("wait for it, or look at it with `redknot status`")
            }
            StoreError::Damaged { what, kept } => Self::new(
                Class::StateDamaged,
                opening,
                format!("it is damaged: {what}"),
            )
            .hint(ways_out(&kept)),
            StoreError::Amnesia { what, kept } => Self::new(
                Class::StateDamaged,
                opening,
                format!("it has lost acknowledgements: {what}"),
            )
            .hint(ways_out(&kept)),
            StoreError::Foreign { name, differences } => foreign(&name, &differences),
            StoreError::Newer { format, by } => {
                let ours = super::record::FORMAT_VERSION;
                let cause = format!("it has format {format}, this redknot reads up to {ours}");
                let hint = match by.as_str() {
                    "" => "use the redknot that wrote it, or a newer one".to_owned(),
                    by => format!("use redknot {by} or newer"),
                };
                Self::new(Class::StateForeign, opening, cause).hint(hint)
            }
            StoreError::Older { format, by } => {
                let ours = super::record::FORMAT_VERSION;
                let cause = format!("it has format {format}, this redknot reads format {ours}");
                let by = match by.as_str() {
                    "" => "the redknot that wrote it".to_owned(),
                    by => format!("the redknot {by} that wrote it"),
                };
                let hint = format!(
                    "finish it with {by}, or begin anew with --restart, which sets it aside"
                );
                Self::new(Class::StateForeign, opening, cause).hint(hint)
            }
            StoreError::NotAState { path } => {
                let cause = format!(
                    "{} holds other files and no migration; nothing was written to it",
                    path.display()
                );
                Self::new(Class::Usage, opening, cause)
                    .hint("name an empty or a new folder with `--state-dir`")
            }
            StoreError::Unsafe { path, why } => {
                Self::new(Class::StateIo, opening, format!("{} {why}", path.display()))
                    .hint("use a folder of your own that only you can write to")
            }
            StoreError::BadName { name } => {
                let shown = crate::key::Escaped(name.as_bytes());
                Self::new(Class::Usage, "name the migration", format!("\"{shown}\" can't be the name of a folder"))
                    .hint("use up to 128 letters, digits, `.`, `_` and `-`, and begin with a letter or digit")
            }
            StoreError::Unknown {
                name,
                state_dir,
                known,
            } => {
                let shown = crate::key::Escaped(name.as_bytes());
                let cause = format!(
                    "there is no migration \"{shown}\" in {}",
                    state_dir.display()
                );
                let hint = match known.is_empty() {
                    true => "there is none at all; `redknot migrate` creates one, `--state-dir` names another folder".to_owned(),
                    false => format!("there are: {}", known.join(", ")),
                };
                Self::new(Class::Usage, "find the migration", cause).hint(hint)
            }
            StoreError::NoStatus { name } => Self::new(
                Class::Usage,
                "read the status",
                format!("migration {name} has not written one yet"),
            )
            .hint("run `redknot migrate` again to continue it"),
            StoreError::PlanTooBig { bytes } => Self::new(
                Class::Usage,
                "create the state",
                format!(
                    "the plan takes {bytes} bytes, a record holds {}",
                    super::layout::RECORD_BYTES_MAX
                ),
            )
            .hint("use shorter patterns (--match, --exclude) and prefixes, or fewer databases"),
        }
    }
}

/// Both values of every field that differs, and the three ways out.
fn foreign(name: &str, differences: &[Difference]) -> Error {
    let table: String = differences
        .iter()
        .map(|difference| {
            format!(
                "\n  {}: previous {}, now {}",
                difference.field, difference.previous, difference.now
            )
        })
        .collect();
    Error::new(
        Class::StateForeign,
        format!("resume migration {name}"),
        format!("the plan differs{table}"),
    )
    .hint(
        "use the previous values to continue it, another `--name` to begin another migration, or `--restart` to set the old state aside and begin anew",
    )
}

impl From<IoFailure> for Error {
    fn from(failure: IoFailure) -> Self {
        let path = failure.path.display();
        let hint = match failure.kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let free = failure.free_bytes.map_or_else(|| "an unknown number of".to_owned(), |free| free.to_string());
                format!("{free} bytes are free there; make room for 64 MiB and run the same command again")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "remount the file system for writing, or name another folder with `--state-dir`".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "give this user the right to write there, or name another folder with `--state-dir`".to_owned()
            }
            _ => "what was acknowledged before is safe; look after the disk and run the same command again".to_owned(),
        };
        Self::new(
            Class::StateIo,
            format!("{} {path}", failure.doing),
            failure.message,
        )
        .hint(hint)
    }
}

/// `2026-11-22 14:02:11 UTC`.
fn utc(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}
