//! The control file: what a run that is under way is told to keep to from now on.
//!
//! # Invariants
//!
//! - It is replaced in one step: a reader sees the old one or the new one.
//! - It is meant for one run. The next one goes by what it is told itself.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::folder;
use crate::progress::Limits;

const CONTROL: &str = "control.json";
/// Longest file that is read; it has some hundred bytes.
const BYTES_MAX: u64 = 64 * 1024;

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The run that it is meant for.
    pub run: u32,
    /// What it is to keep to.
    pub limits: Limits,
}

/// Where the file of the migration `name` is.
pub fn path(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(name).join(CONTROL)
}

/// Writes it. Not fsynced: the run that it is meant for does not outlive a power cut either.
///
/// # Errors
///
/// If the disk refuses.
pub fn write(state_dir: &Path, name: &str, control: &Control) -> Result<(), StoreError> {
    let path = path(state_dir, name);
    let text = serde_json::to_vec(control).expect("it has only string keys");
    folder::replace(&path, &text)
}

/// What stands in it, if it is there; why it can't be read, if it can't.
pub fn read(path: &Path) -> Option<Result<Control, String>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    let mut text = Vec::new();
    let read = opened.and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(Err(error.to_string())),
        Ok(_) => Some(serde_json::from_slice(&text).map_err(|error| error.to_string())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_nobody_else_may() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("m")).unwrap();
        let path = path(dir.path(), "m");
        assert_eq!(read(&path), None);
        let limits = Limits {
            keys_per_s: Some(1000),
            ..Limits::default()
        };
        let control = Control { run: 3, limits };
        for _ in 0..2 {
            write(dir.path(), "m", &control).unwrap();
        }
        assert_eq!(read(&path), Some(Ok(control)));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "{").unwrap();
        assert!(matches!(read(&path), Some(Err(_))));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(matches!(read(&path), Some(Err(_))));
    }
}
