//! Reads `status.json`.

use std::path::Path;

use crate::progress::Status;

/// A status and whether its run is alive.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct StatusFile {
    pub status: Status,
    pub running: bool,
}

/// Why it can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

/// Reads the status of one migration.
///
/// # Errors
///
/// If it can't be read.
pub fn read(state_dir: &Path, name: &str) -> Result<StatusFile, StoreError> {
    let text = std::fs::read(state_dir.join(name).join("status.json"))
        .map_err(|e| StoreError(e.to_string()))?;
    let status = serde_json::from_slice(&text).map_err(|e| StoreError(e.to_string()))?;
    Ok(StatusFile {
        status,
        running: false,
    })
}

/// Names of the migrations.
pub fn list(state_dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(state_dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("status.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
