//! What is kept of each key ([`crate::recorded`]): in a file for each lane beside the engine, which would need twice the room and
//! most of the time. What binds it is in the batch's record, and so in its chain.
//!
//! # Invariants
//!
//! - The entries of a batch are written, and durable, before the record that says where they lie. What lies behind the last of
//!   them is no batch's, and is written over.
//! - Those of earlier passes are forgotten when a pass begins that writes every key anew; where it keeps what is there, they say
//!   what that is.
//! - Only the entries of one batch are in memory.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::folder;
use super::layout::{self, Kind};
use super::record::{BatchRecord, RecordedAt};
use super::store::{Durability, Store};
use crate::plan::{OnConflict, Plan};
use crate::recorded::{ENTRY_BYTES, Entry};

/// Records of batches that are read at once.
const PAGE_RECORDS: usize = 64;

/// The files that entries are written to, as far as they were in this run.
#[derive(Debug, Default)]
pub(super) struct RecordedFiles {
    open: BTreeMap<u32, RecordedFile>,
}

#[derive(Debug)]
struct RecordedFile {
    file: File,
    path: PathBuf,
    /// Where the next entries go.
    end: u64,
    is_durable: bool,
}

/// How many keys of a pass have an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Batches of the pass.
    pub batches: u64,
    /// Those of them whose keys have no entries: copied without, or lost with a state that was made anew.
    pub without: u64,
}

/// The file of a lane's entries.
fn path(dir: &Path, lane: u32) -> PathBuf {
    dir.join(format!("digests-{lane}"))
}

/// The first pass of a lane, whose newest one is `newest`, whose entries are kept.
pub(super) fn kept_from(plan: &Plan, newest: u32) -> u32 {
    match plan.on_conflict {
        OnConflict::RequireEmpty | OnConflict::Replace => newest,
        OnConflict::Skip | OnConflict::Fail => 0,
    }
}

/// The entries of a batch; `None` if those that lie there are not what its record says.
pub(super) fn of_batch(
    dir: &Path,
    lane: u32,
    record: &BatchRecord,
) -> Result<Option<Vec<u8>>, StoreError> {
    let at = match &record.recorded {
        Some(at) if at.bytes > 0 => at,
        _ => return Ok(Some(Vec::new())),
    };
    let path = path(dir, lane);
    let read = || -> std::io::Result<Vec<u8>> {
        let file = File::open(&path)?;
        // A length that is a lie must not make us allocate it.
        let room = file.metadata()?.len().saturating_sub(at.at);
        if u64::from(at.bytes) > room {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut entries = vec![0; at.bytes as usize];
        file.read_exact_at(&mut entries, at.at)?;
        Ok(entries)
    };
    match read() {
        Ok(entries) => Ok((digest(&entries) == at.digest).then_some(entries)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            Ok(None)
        }
        Err(error) => Err(StoreError::io("read", &path, &error)),
    }
}

fn digest(entries: &[u8]) -> [u8; 32] {
    blake3::hash(entries).into()
}

impl Store {
    /// How many batches of a lane's present pass have entries.
    pub fn recorded(&self, lane: u32) -> Result<Coverage, StoreError> {
        let pass = self.lanes[lane as usize].pass;
        let mut coverage = Coverage::default();
        let mut batches = Batches::new(lane, pass);
        while let Some((_, record)) = batches.next(self)? {
            coverage.batches += 1;
            coverage.without += u64::from(record.recorded.is_none());
        }
        // Batches that were lost have no record either.
        let batches = self.lanes[lane as usize].next_seq;
        coverage.without += batches.saturating_sub(coverage.batches);
        coverage.batches = batches;
        Ok(coverage)
    }

    /// How many entries a lane has, over all passes whose entries are kept.
    pub fn recorded_entries(&self, lane: u32) -> Result<u64, StoreError> {
        let mut bytes = 0;
        let mut batches = Batches::new(lane, self.kept_from(lane));
        while let Some((_, record)) = batches.next(self)? {
            bytes += record.recorded.map_or(0, |at| u64::from(at.bytes));
        }
        Ok(bytes / ENTRY_BYTES as u64)
    }

    /// Shows `visit` every entry of a lane, the oldest first; those of earlier passes as such.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if a batch's entries are not those that its record is bound to.
    pub fn visit_recorded(
        &self,
        lane: u32,
        mut visit: impl FnMut(Entry),
    ) -> Result<(), StoreError> {
        let newest = self.lanes[lane as usize].pass;
        let mut batches = Batches::new(lane, self.kept_from(lane));
        while let Some(((pass, seq), record)) = batches.next(self)? {
            let damaged = || {
                let what =
                    format!("the digests of batch {seq} of pass {pass} of lane {lane} are others");
                StoreError::damaged(what, &self.dir)
            };
            let entries = of_batch(&self.dir, lane, &record)?.ok_or_else(damaged)?;
            for entry in entries.chunks(ENTRY_BYTES) {
                let entry = Entry::parse(entry).ok_or_else(damaged)?;
                visit(match pass == newest {
                    true => entry.of_this_pass(),
                    false => entry.of_earlier_pass(),
                });
            }
        }
        Ok(())
    }

    fn kept_from(&self, lane: u32) -> u32 {
        kept_from(&self.meta.plan, self.lanes[lane as usize].pass)
    }

    /// Writes the entries of a lane's next batch; they are durable after [`Self::sync_recorded`].
    pub(super) fn append_recorded(
        &mut self,
        lane: u32,
        entries: &[u8],
    ) -> Result<RecordedAt, StoreError> {
        if !self.recorded_files.open.contains_key(&lane) {
            let file = self.open_recorded(lane)?;
            self.recorded_files.open.insert(lane, file);
        }
        let open = self.recorded_files.open.get_mut(&lane);
        let open = open.expect("it was just put there");
        open.file
            .write_all_at(entries, open.end)
            .map_err(|error| StoreError::io("write", &open.path, &error))?;
        let at = open.end;
        open.end += entries.len() as u64;
        open.is_durable = false;
        Ok(RecordedAt {
            at,
            bytes: u32::try_from(entries.len()).expect("a batch's entries stay below 4 GiB"),
            digest: digest(entries),
        })
    }

    fn open_recorded(&self, lane: u32) -> Result<RecordedFile, StoreError> {
        let path = path(&self.dir, lane);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, &error))?;
        folder::sync(&self.dir)?;
        let mut end = 0;
        let mut batches = Batches::new(lane, self.kept_from(lane));
        while let Some((_, record)) = batches.next(self)? {
            if let Some(at) = record.recorded {
                end = at.at + u64::from(at.bytes);
            }
        }
        Ok(RecordedFile {
            file,
            path,
            end,
            is_durable: true,
        })
    }

    /// Makes what was appended survive what a commit survives.
    pub(super) fn sync_recorded(&mut self) -> Result<(), StoreError> {
        if self.durability == Durability::None {
            return Ok(());
        }
        for open in self.recorded_files.open.values_mut() {
            if !open.is_durable {
                open.file
                    .sync_data()
                    .map_err(|error| StoreError::io("sync", &open.path, &error))?;
                open.is_durable = true;
            }
        }
        Ok(())
    }

    /// A pass of a lane has begun: the entries of those before it are forgotten, unless they say what it keeps.
    pub(super) fn forget_recorded(&mut self, lane: u32) -> Result<(), StoreError> {
        if self.kept_from(lane) == 0 {
            return Ok(());
        }
        self.recorded_files.open.remove(&lane);
        let path = path(&self.dir, lane);
        let emptied = File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(0));
        match emptied {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            emptied => emptied.map_err(|error| StoreError::io("empty", &path, &error)),
        }
    }
}

/// Pass and number of a batch, and its record.
type Numbered = ((u32, u64), BatchRecord);

/// The batches of a lane from a pass on, in their order.
struct Batches {
    lane: u32,
    from: Vec<u8>,
    page: VecDeque<Numbered>,
    ended: bool,
}

impl Batches {
    fn new(lane: u32, pass: u32) -> Self {
        Self {
            lane,
            from: layout::batches(lane, pass, 0),
            page: VecDeque::new(),
            ended: false,
        }
    }

    /// Pass and number of the next one, and its record.
    fn next(&mut self, store: &Store) -> Result<Option<Numbered>, StoreError> {
        if self.page.is_empty() && !self.ended {
            self.fill(store)?;
        }
        Ok(self.page.pop_front())
    }

    fn fill(&mut self, store: &Store) -> Result<(), StoreError> {
        let to = layout::batches(self.lane + 1, 0, 0);
        let (mut records, mut broken) = (0, false);
        let mut last = Vec::new();
        let range = (std::mem::take(&mut self.from), to);
        store.engine.visit(range, |key, value| {
            let read = layout::parse_batches(key).zip(layout::decode::<Vec<BatchRecord>>(value));
            let Some(((_, pass, first), batches)) = read else {
                broken = true;
                return ControlFlow::Break(());
            };
            let numbered = (first..).map(|seq| (pass, seq)).zip(batches);
            self.page.extend(numbered);
            last = key.to_vec();
            records += 1;
            match records == PAGE_RECORDS {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if broken {
            let what = format!("a {} record can't be read", Kind::Batch.name());
            return Err(StoreError::damaged(what, &store.dir));
        }
        self.ended = records < PAGE_RECORDS;
        // The first key after the last one.
        last.push(0);
        self.from = last;
        Ok(())
    }
}
