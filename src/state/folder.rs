//! The folders: which ones we take, who may write in them, and what happens to an old state on `--restart`.
//!
//! # Invariants
//!
//! - Our folders have mode 0700, our files 0600. A folder that others could change is refused, as ssh does.
//! - Nothing is ever deleted; an old state is renamed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// The engine's folder within a migration's.
pub(super) const DB: &str = "db";
/// The lock file; its presence marks a folder as a migration's.
pub(super) const LOCK: &str = "lock";
/// The journal.
pub(super) const JOURNAL: &str = "audit.ndjson";
/// The status file.
pub(super) const STATUS: &str = "status.json";

const SET_ASIDE: &str = ".set-aside-";

/// Refuses names that are not tame folder names, or that a set-aside state could have.
pub(super) fn check_name(name: &str) -> Result<(), StoreError> {
    let tame = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = (1..=128).contains(&name.len())
        && name.chars().all(tame)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains(SET_ASIDE);
    match good {
        true => Ok(()),
        false => Err(StoreError::BadName {
            name: name.to_owned(),
        }),
    }
}

/// Makes sure that there is a folder for migrations, before it is known which one.
pub(super) fn ensure_state_dir(state_dir: &Path) -> Result<(), StoreError> {
    match exists(state_dir)? {
        true => check_safe(state_dir),
        false => create(state_dir),
    }
}

/// Makes sure that `state_dir/name` is a folder of ours, creating both if they are missing. Returns its path.
pub(super) fn prepare(state_dir: &Path, name: &str) -> Result<PathBuf, StoreError> {
    check_name(name)?;
    let dir = state_dir.join(name);
    match exists(state_dir)? {
        true => {
            check_safe(state_dir)?;
            if !exists(&dir)? && !is_ours(state_dir)? {
                return Err(StoreError::NotAState {
                    path: state_dir.to_owned(),
                });
            }
        }
        false => create(state_dir)?,
    }
    if exists(&dir)? {
        check_safe(&dir)?;
        if !is_migration(&dir) && !is_empty(&dir)? {
            return Err(StoreError::NotAState { path: dir });
        }
    } else {
        create(&dir)?;
        sync(state_dir)?;
    }
    Ok(dir)
}

/// The names of the migrations in `state_dir`, sorted; empty if the folder can't be read.
pub(super) fn migrations(state_dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(state_dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| check_name(name).is_ok() && is_migration(&state_dir.join(name)))
        .collect();
    names.sort();
    names
}

/// Moves everything in `dir` but the lock to a new folder beside it, and returns that folder; `None` if there was nothing.
///
/// The caller holds the lock. Dying on the way leaves a state that is refused, not one that is misread: the engine's
/// folder goes first, and a journal without it is amnesia.
pub(super) fn set_aside(dir: &Path, now_ms: u64) -> Result<Option<PathBuf>, StoreError> {
    let mut names: Vec<_> = entries(dir)?
        .into_iter()
        .filter(|name| name != LOCK)
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    let aside = new_aside(dir, now_ms)?;
    names.sort_by_key(|name| (name != DB, name == STATUS));
    for name in names {
        let from = dir.join(&name);
        fs::rename(&from, aside.join(&name))
            .map_err(|error| StoreError::io("set aside", &from, &error))?;
    }
    for changed in [aside.as_path(), dir, dir.parent().unwrap_or(dir)] {
        sync(changed)?;
    }
    Ok(Some(aside))
}

/// As [`set_aside`], of one folder within `dir`.
pub(super) fn set_aside_only(dir: &Path, name: &str, now_ms: u64) -> Result<PathBuf, StoreError> {
    let aside = new_aside(dir, now_ms)?;
    let from = dir.join(name);
    fs::rename(&from, aside.join(name))
        .map_err(|error| StoreError::io("set aside", &from, &error))?;
    for changed in [aside.as_path(), dir, dir.parent().unwrap_or(dir)] {
        sync(changed)?;
    }
    Ok(aside)
}

/// `<dir>.set-aside-20261122T140211Z`, with a number if two fall into one second.
fn new_aside(dir: &Path, now_ms: u64) -> Result<PathBuf, StoreError> {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now_ms);
    let stamp = humantime::format_rfc3339_seconds(time)
        .to_string()
        .replace(['-', ':'], "");
    for n in 0_u32.. {
        let mut aside = dir.as_os_str().to_owned();
        aside.push(SET_ASIDE);
        aside.push(&stamp);
        if n > 0 {
            aside.push(format!("-{n}"));
        }
        let aside = PathBuf::from(aside);
        if !exists(&aside)? {
            create(&aside)?;
            return Ok(aside);
        }
    }
    unreachable!("there are fewer folders than numbers")
}

/// Takes the rights of others from everything in the engine's folder, which it creates as the umask says, and makes its
/// entries durable.
pub(super) fn seal(dir: &Path) -> Result<(), StoreError> {
    for name in entries(dir)? {
        let path = dir.join(name);
        let metadata = fs::symlink_metadata(&path)
            .map_err(|error| StoreError::io("look at", &path, &error))?;
        let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
        if metadata.mode() & 0o777 != mode {
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(|error| StoreError::io("protect", &path, &error))?;
        }
        if metadata.is_dir() {
            seal(&path)?;
        }
    }
    sync(dir)
}

/// Makes the entries of `dir` durable.
pub(super) fn sync(dir: &Path) -> Result<(), StoreError> {
    let path = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| StoreError::io("sync the folder", path, &error))
}

/// Makes sure that `dir`, within a folder of ours, is there and ours alone.
pub(super) fn ensure(dir: &Path) -> Result<(), StoreError> {
    match exists(dir)? {
        true => Ok(()),
        false => create(dir),
    }
}

fn create(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| StoreError::io("create the folder", dir, &error))?;
    // Its name must survive a power cut too.
    sync(dir.parent().unwrap_or(dir))
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        // A parent is a file.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(StoreError::Unsafe {
            path: path.to_owned(),
            why: "is below a file".to_owned(),
        }),
        Err(error) => Err(StoreError::io("look at", path, &error)),
    }
}

/// Refuses what is not a folder, belongs to somebody else, or can be written by everybody.
fn check_safe(dir: &Path) -> Result<(), StoreError> {
    let refuse = |why: String| {
        Err(StoreError::Unsafe {
            path: dir.to_owned(),
            why,
        })
    };
    let metadata =
        fs::symlink_metadata(dir).map_err(|error| StoreError::io("look at", dir, &error))?;
    if metadata.is_symlink() {
        return refuse("is a symbolic link".to_owned());
    }
    if !metadata.is_dir() {
        return refuse("is not a folder".to_owned());
    }
    let us = rustix::process::geteuid().as_raw();
    // What root owns, root may change anyway.
    if metadata.uid() != us && metadata.uid() != 0 {
        return refuse(format!(
            "belongs to user {}, this is user {us}",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o002 != 0 {
        return refuse(format!(
            "can be written by everybody (mode {:04o})",
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Whether `state_dir` may hold migrations: it already does, or it holds nothing of anybody else.
fn is_ours(state_dir: &Path) -> Result<bool, StoreError> {
    let company = ["README.md", "lost+found"].map(OsStr::new);
    let mut foreign = false;
    for name in entries(state_dir)? {
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let path = state_dir.join(&name);
        if is_migration(&path) {
            return Ok(true);
        }
        // A folder may be one that was created right before a crash.
        let unborn = path.is_dir() && is_empty(&path).unwrap_or(false);
        let aside = name.to_string_lossy().contains(SET_ASIDE);
        foreign |= !(hidden || unborn || aside || company.contains(&name.as_os_str()));
    }
    Ok(!foreign)
}

/// A warning, if `dir` is on a file system whose locks and fsyncs are only as good as somebody else's word.
pub(super) fn doubts(dir: &Path) -> Option<String> {
    let stat = rustix::fs::statfs(dir).ok()?;
    // The width of the field differs between architectures; the numbers have 32 bits.
    let kind = remote(stat.f_type as u32)?;
    Some(format!(
        "{} is on {kind}: its locks and fsyncs may not hold what they promise; a local disk is safer",
        dir.display()
    ))
}

/// Names of file systems by their number (`statfs(2)`), if they are not a disk of this machine.
fn remote(kind: u32) -> Option<&'static str> {
    match kind {
        0x6969 => Some("NFS"),
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => Some("SMB"),
        0x6573_5546 => Some("FUSE"),
        0x0102_1997 => Some("9p"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    }
}

fn is_migration(dir: &Path) -> bool {
    fs::symlink_metadata(dir.join(LOCK)).is_ok_and(|metadata| metadata.is_file())
}

fn is_empty(dir: &Path) -> Result<bool, StoreError> {
    Ok(entries(dir)?.is_empty())
}

fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<_>>()
        })
        .map_err(|error| StoreError::io("list the folder", dir, &error))
}

/// Replaces a file of JSON in one step: a reader sees the old one or the new one. Not fsynced.
///
/// # Errors
///
/// If the disk refuses.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    let new = path.with_extension("json.new");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)
        .and_then(|mut file| file.write_all(text))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| StoreError::io("write", &new, &error))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_remote_file_system_is_doubted_and_a_local_one_is_not() {
        assert_eq!(remote(0x6969), Some("NFS"));
        assert_eq!(remote(0x6573_5546), Some("FUSE"));
        // ext4, tmpfs, xfs, btrfs, overlayfs.
        for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
            assert_eq!(remote(local), None);
        }
        let folder = tempfile::tempdir().unwrap();
        let stat = rustix::fs::statfs(folder.path()).unwrap();
        assert_eq!(
            doubts(folder.path()).is_some(),
            remote(stat.f_type as u32).is_some()
        );
    }
}
