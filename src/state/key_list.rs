//! The names that `--keys-from` gave, kept beside the state: a run that continues, a comparison and a repair need them
//! again, and what came through a pipe comes only once.
//!
//! The file is every name after its length as u32 LE, so any bytes can be names. A place in it is an offset.
//!
//! # Invariants
//!
//! - What is read is what the plan says: length and BLAKE3 of the whole file are checked when it is opened.
//! - A list that was read and belongs to no migration yet has no name in the file system: whoever dies leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::error::StoreError;
use super::folder;
use super::store::Store;
use crate::plan::KeysFrom;

/// Its name in the migration's folder.
const FILE: &str = "keys-from";
/// What is read of a list at once, unless one name is longer.
const CHUNK_BYTES: usize = 64 * 1024;
/// Longer than a server takes: such a length is no length.
const NAME_BYTES_MAX: u32 = 512 * 1024 * 1024;
const LENGTH_BYTES: usize = 4;

/// A list while it is read from wherever it comes.
pub struct ListWriter {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    keys: u64,
    bytes: u64,
    state_dir: std::path::PathBuf,
}

/// A list that belongs to no migration yet.
#[derive(Debug, Clone)]
pub struct NewList {
    file: Arc<File>,
    plan: KeysFrom,
}

/// The list of an open migration.
#[derive(Debug, Clone)]
pub struct KeyList {
    file: Arc<File>,
    bytes: u64,
}

/// Some names in a row.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Where the next one begins; `None`: this is the last.
    pub next: Option<u64>,
}

impl ListWriter {
    /// An empty list, on the disk of `state_dir`.
    ///
    /// # Errors
    ///
    /// If that can't be written.
    pub fn new(state_dir: &Path) -> Result<Self, StoreError> {
        folder::ensure_state_dir(state_dir)?;
        let path = state_dir.join(format!(".{FILE}.{}", std::process::id()));
        let failed = |error| StoreError::io("keep the list of keys in", &path, &error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        Ok(Self {
            file: BufWriter::new(file),
            hasher: blake3::Hasher::new(),
            keys: 0,
            bytes: 0,
            state_dir: state_dir.to_owned(),
        })
    }

    /// Adds a name.
    ///
    /// # Errors
    ///
    /// If the disk is full, or the name is longer than a server takes.
    pub fn push(&mut self, name: &[u8]) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("keep the list of keys in", &self.state_dir, &error);
        let length = u32::try_from(name.len())
            .ok()
            .filter(|length| *length <= NAME_BYTES_MAX)
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        for part in [length.to_le_bytes().as_slice(), name] {
            self.hasher.update(part);
            self.file.write_all(part).map_err(failed)?;
            self.bytes += part.len() as u64;
        }
        self.keys += 1;
        Ok(())
    }

    /// The whole list.
    ///
    /// # Errors
    ///
    /// If the disk is full.
    pub fn finish(self) -> Result<NewList, StoreError> {
        let failed = |error| StoreError::io("keep the list of keys in", &self.state_dir, &error);
        let file = self
            .file
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        Ok(NewList {
            file: Arc::new(file),
            plan: KeysFrom {
                digest: self.hasher.finalize().into(),
                keys: self.keys,
                bytes: self.bytes,
            },
        })
    }
}

impl NewList {
    /// What a plan says of it.
    pub fn plan(&self) -> KeysFrom {
        self.plan
    }
}

impl Store {
    /// The list of the plan, if it has one; `new` is kept for good if there is none yet.
    ///
    /// # Errors
    ///
    /// A list that is missing, or not the one that the plan means.
    pub fn key_list(&self, new: Option<&NewList>) -> Result<Option<KeyList>, StoreError> {
        let Some(planned) = self.meta().plan.keys_from else {
            return Ok(None);
        };
        let path = self.dir().join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = new.filter(|new| new.plan == planned);
                let new = new.ok_or_else(|| {
                    StoreError::damaged("its list of keys (keys-from) is missing", self.dir())
                })?;
                keep(self.dir(), &path, new)?;
                File::open(&path).map_err(|error| StoreError::io("open", &path, &error))?
            }
            Err(error) => return Err(StoreError::io("open", &path, &error)),
        };
        let list = KeyList {
            file: Arc::new(file),
            bytes: planned.bytes,
        };
        let digest = list
            .digest()
            .map_err(|error| StoreError::io("read", &path, &error))?;
        match digest == planned.digest {
            true => Ok(Some(list)),
            false => Err(StoreError::damaged(
                "its list of keys (keys-from) is not the one that it began with",
                self.dir(),
            )),
        }
    }
}

/// Copies a list into the migration's folder; it is there as a whole or not at all.
fn keep(dir: &Path, path: &Path, new: &NewList) -> Result<(), StoreError> {
    let unfinished = dir.join(format!("{FILE}.new"));
    let failed = |error| StoreError::io("write", &unfinished, &error);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&unfinished)
        .map_err(failed)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        match new.file.read_at(&mut buffer, at).map_err(failed)? {
            0 => break,
            read => {
                file.write_all(&buffer[..read]).map_err(failed)?;
                at += read as u64;
            }
        }
    }
    file.sync_all().map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)?;
    folder::sync(dir)
}

impl KeyList {
    fn digest(&self) -> io::Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut buffer, at)? {
                0 => return Ok(hasher.finalize().into()),
                read => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
    }

    /// The names from the place `at` on: some, `keys_max` at most, and at least one if there is one. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the disk can't be read, or `at` is the place of no name.
    pub fn read(&self, at: u64, keys_max: u32) -> io::Result<Chunk> {
        let left = self.bytes.saturating_sub(at);
        let mut bytes = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
        self.file.read_exact_at(&mut bytes, at)?;
        if let Some(length) = length(&bytes)
            && LENGTH_BYTES + length > bytes.len()
        {
            if (LENGTH_BYTES + length) as u64 > left {
                return Err(io::ErrorKind::InvalidData.into());
            }
            bytes.resize(LENGTH_BYTES + length, 0);
            self.file.read_exact_at(&mut bytes, at)?;
        }
        let mut whole = 0;
        for _ in 0..keys_max.max(1) {
            match length(&bytes[whole..]) {
                Some(length) if bytes.len() - whole >= LENGTH_BYTES + length => {
                    whole += LENGTH_BYTES + length;
                }
                _ => break,
            }
        }
        if whole == 0 && left > 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.truncate(whole);
        let next = at + whole as u64;
        Ok(Chunk {
            bytes,
            next: (next < self.bytes).then_some(next),
        })
    }

    /// Length of the whole list, to which places are a share.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The length that stands at the beginning of `bytes`.
fn length(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    Some(u32::from_le_bytes(*length).min(NAME_BYTES_MAX) as usize)
}

impl Chunk {
    /// The names, in the list's order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let length = length(left)?;
            let name = left.get(LENGTH_BYTES..LENGTH_BYTES + length)?;
            left = &left[LENGTH_BYTES + length..];
            Some(name)
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    fn list(names: &[&[u8]]) -> (tempfile::TempDir, KeyList, KeysFrom) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ListWriter::new(folder.path()).unwrap();
        names.iter().for_each(|name| writer.push(name).unwrap());
        let new = writer.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let path = folder.path().join(FILE);
        keep(folder.path(), &path, &new).unwrap();
        let kept = KeyList {
            file: Arc::new(File::open(path).unwrap()),
            bytes: new.plan.bytes,
        };
        assert_eq!(kept.digest().unwrap(), new.plan.digest);
        (folder, kept, new.plan)
    }

    fn read_all(list: &KeyList, keys_max: u32) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = Some(0);
        while let Some(place) = at {
            let chunk = list.read(place, keys_max).unwrap();
            assert!(chunk.names().count() <= keys_max as usize);
            names.extend(chunk.names().map(<[u8]>::to_vec));
            at = chunk.next;
        }
        names
    }

    #[test]
    fn names_come_back_in_their_order_whatever_their_bytes_and_however_many_at_once() {
        let long = vec![b'x'; 3 * CHUNK_BYTES];
        let names: Vec<&[u8]> = vec![b"a", b"", b"\0\n\xff", &long, b"b", b"a"];
        let (_folder, list, plan) = list(&names);
        assert_eq!(plan.keys, 6);
        for keys_max in [1, 2, 3, 500] {
            assert_eq!(read_all(&list, keys_max), names, "{keys_max} at once");
        }
        assert!(list.read(1, 10).is_err() || list.read(1, 10).unwrap().names().count() > 0);
        assert!(
            list.read(plan.bytes + 1, 10)
                .unwrap()
                .names()
                .next()
                .is_none()
        );
    }

    #[test]
    fn borders_between_names_count() {
        let digest = |names: &[&[u8]]| list(names).2.digest;
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"a", b"b"]), digest(&[b"b", b"a"]));
    }
}
