//! The status file: how a migration stands, to be read beside the process that works on it, without its lock.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::StoreError;
use super::{folder, lock};
use crate::progress::Status;

/// What [`read`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusFile {
    /// The newest status that was written.
    pub status: Status,
    /// Whether a process holds the migration's lock. If not and the status says "running", that process died.
    pub running: bool,
}

/// The newest status of the migration `name`.
///
/// # Errors
///
/// [`StoreError::Unknown`] with the names there are; [`StoreError::NoStatus`] if it died before the first one.
pub fn read(state_dir: &Path, name: &str) -> Result<StatusFile, StoreError> {
    let dir = state_dir.join(name);
    if !list(state_dir).iter().any(|known| known == name) {
        return Err(StoreError::Unknown {
            name: name.to_owned(),
            state_dir: state_dir.to_owned(),
            known: list(state_dir),
        });
    }
    // Asked first: a run that ends in between has written its last status by the time we read it.
    let running = lock::is_held(&dir)?;
    let path = dir.join(folder::STATUS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(StoreError::NoStatus {
                name: name.to_owned(),
            });
        }
        Err(error) => return Err(StoreError::io("read", &path, &error)),
    };
    let status = serde_json::from_slice(&text)
        .map_err(|error| StoreError::damaged(format!("{}: {error}", folder::STATUS), &dir))?;
    Ok(StatusFile { status, running })
}

/// The names of all migrations in `state_dir`, sorted. Empty if there is no such folder.
pub fn list(state_dir: &Path) -> Vec<String> {
    folder::migrations(state_dir)
}

/// Replaces the status file in one step: a reader sees the old one or the new one. Not fsynced, as nothing depends on it.
pub(super) fn write(dir: &Path, status: &Status) -> Result<(), StoreError> {
    let text = serde_json::to_vec(status).expect("a status has only string keys");
    folder::replace(&dir.join(folder::STATUS), &text)
}
