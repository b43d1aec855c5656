//! The journal of a migration: an append-only file of JSON lines, each of which carries the hash of the one before it.
//!
//! It is what people and auditors read, and it is a second witness beside the state store: a store that holds less than
//! the journal's last milestone has lost acknowledgements.
//!
//! # Invariants
//!
//! - A line is never changed. `prev` of a line is the BLAKE3 of the bytes of the line before it without its newline,
//!   zeros in the first: a changed, missing or inserted line breaks the chain at the line after it.
//! - Nothing is written here before it is durable in the store. So the journal is never ahead of a healthy store.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub use super::entry::{Event, Milestone, hex};
use super::entry::{LINE_VERSION, Line};
use super::reader::Lines;
use crate::endpoint::MetNode;
use crate::plan::Plan;
use crate::progress::Counters;

/// What an existing journal says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Complete lines.
    pub lines: u64,
    /// Format version in its `created` line, if it has one.
    pub format: Option<u32>,
    /// Version of redknot in that line.
    pub version: String,
    /// Number of the last run that began.
    pub runs: u32,
    /// Number of the last comparison that began.
    pub compares: u32,
    /// The newest of them that has its result.
    pub compared: u32,
    /// Number of the last repair that began.
    pub repairs: u32,
    /// The newest of them that has tried every finding.
    pub repaired: u32,
    /// Whether every lane was at its end, and none has begun anew since.
    pub completed: bool,
    /// The newest milestone of each lane.
    pub lanes: BTreeMap<u32, Milestone>,
    /// The nodes of source and target, where these were clusters when a run last met them.
    pub nodes: [Vec<MetNode>; 2],
    /// Whether the last line was torn by a crash and cut off.
    pub torn: bool,
}

/// Why a journal can't be used.
#[derive(Debug)]
pub enum JournalError {
    /// The file system refused.
    Io {
        /// Completes "failed to …".
        doing: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// A line is not what was written.
    Damaged {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// An open journal, at its end.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Hash of the last line.
    prev: blake3::Hash,
    /// Lines, those included that are not in the file yet.
    lines: u64,
    /// Lines that are not in the file yet.
    unwritten: Vec<u8>,
}

impl Journal {
    /// Opens the journal at `path`, creating it if it is missing, checks every line, and cuts off a torn last one.
    pub fn open(path: &Path) -> Result<(Self, Known), JournalError> {
        let io = |doing| move |error| JournalError::Io { doing, error };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(io("open the journal"))?;
        let (known, prev, length) = read(&file)?;
        if known.torn {
            file.set_len(length)
                .map_err(io("cut the torn line of the journal"))?;
            file.sync_all().map_err(io("sync the journal"))?;
        }
        let journal = Self {
            file,
            prev,
            lines: known.lines,
            unwritten: Vec::new(),
        };
        Ok((journal, known))
    }

    /// What the journal at `path` says, which is checked and left as it is; nothing, if it is missing.
    pub fn look(path: &Path) -> Result<Known, JournalError> {
        match File::open(path) {
            Ok(file) => Ok(read(&file)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::default()),
            Err(error) => Err(JournalError::Io {
                doing: "open the journal",
                error,
            }),
        }
    }

    /// The plan of the migration whose journal is at `path`, as its first line tells it; nothing, if there is none.
    pub fn plan(path: &Path) -> io::Result<Option<Plan>> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => BufReader::new(file).read_until(b'\n', &mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match serde_json::from_slice(&text) {
            Ok(Line {
                event: Event::Created { plan, .. },
                ..
            }) => Some(*plan),
            Ok(_) | Err(_) => None,
        })
    }

    /// Adds a line. It is in the file after [`Self::write`], and durable after [`Self::sync`].
    pub fn append(&mut self, at_ms: u64, event: Event) {
        let line = Line {
            v: LINE_VERSION,
            prev: self.prev.to_hex().to_string(),
            at_ms,
            event,
        };
        let text = serde_json::to_vec(&line).expect("an event has only string keys");
        self.prev = blake3::hash(&text);
        self.lines += 1;
        self.unwritten.extend_from_slice(&text);
        self.unwritten.push(b'\n');
    }

    /// How many lines there are, and the hash of the newest.
    pub fn head(&self) -> (u64, [u8; 32]) {
        (self.lines, *self.prev.as_bytes())
    }

    /// Hands all lines to the operating system: they survive the death of this process.
    pub fn write(&mut self) -> Result<(), JournalError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.unwritten);
        self.unwritten.clear();
        written.map_err(|error| JournalError::Io {
            doing: "write the journal",
            error,
        })
    }

    /// Makes all lines durable: they survive a power cut.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.write()?;
        self.file.sync_data().map_err(|error| JournalError::Io {
            doing: "sync the journal",
            error,
        })
    }
}

/// Reads and checks every line. Returns what they say, the hash of the last one, and the length of all complete ones.
fn read(file: &File) -> Result<(Known, blake3::Hash, u64), JournalError> {
    let mut lines = Lines::new(BufReader::with_capacity(64 * 1024, file));
    let mut known = Known::default();
    for line in &mut lines {
        let line = line?;
        known.lines = line.number;
        known.learn(line.line.event);
    }
    known.torn = lines.is_torn();
    Ok((known, blake3::Hash::from_bytes(lines.head()), lines.bytes()))
}

impl Known {
    fn learn(&mut self, event: Event) {
        match event {
            Event::Created {
                format, version, ..
            } => {
                self.format = Some(format);
                self.version = version;
            }
            Event::Adopted { runs } => self.runs = runs,
            Event::Rebuilt { runs, lanes, .. } => {
                self.runs = runs;
                // They went with the state.
                (self.compares, self.compared, self.repairs, self.repaired) = (0, 0, 0, 0);
                self.lanes = lanes
                    .into_iter()
                    .map(|milestone| (milestone.lane, milestone))
                    .collect();
            }
            Event::RunBegan { run, .. } => self.runs = run,
            Event::PassBegan { lane, pass, .. } => {
                self.completed = false;
                let milestone = self.lanes.entry(lane).or_insert_with(|| Milestone {
                    lane,
                    pass,
                    next_seq: 0,
                    chain: String::new(),
                    cursor: None,
                    counters: Counters::default(),
                    makeup: Box::default(),
                    counters_of_all_passes: Counters::default(),
                });
                if milestone.pass != pass {
                    milestone.pass = pass;
                    milestone.next_seq = 0;
                    milestone.cursor = None;
                    milestone.counters = Counters::default();
                }
            }
            Event::Checkpoint { lanes, .. } => {
                for milestone in lanes {
                    self.lanes.insert(milestone.lane, milestone);
                }
            }
            Event::Server { side, server, .. } => self.nodes[side as usize] = server.nodes,
            Event::CompareStarted { compare, .. } => self.compares = compare,
            Event::Compared { compare, .. } => self.compared = compare,
            Event::RepairStarted { repair, .. } => self.repairs = repair,
            Event::Repaired { repair, .. } => self.repaired = repair,
            Event::Completed { .. } => self.completed = true,
            Event::Phase { .. } => self.completed = false,
            Event::Restarted { .. }
            | Event::Functions { .. }
            | Event::Settings { .. }
            | Event::LimitsChanged { .. }
            | Event::Evicted { .. }
            | Event::LaneContinued { .. }
            | Event::ThrottleBegan { .. }
            | Event::ThrottleEnded { .. }
            | Event::Finding { .. }
            | Event::CompareLaneBegan { .. }
            | Event::Deleted { .. }
            | Event::Quarantined { .. }
            | Event::Served { .. }
            | Event::RunEnded { .. }
            | Event::Unknown => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use std::fs;

    use super::*;

    fn began(run: u32) -> Event {
        Event::RunBegan {
            run,
            pid: 7,
            host: "here".into(),
            version: "0.1.0".into(),
            user: "app".into(),
            command: "redknot migrate".into(),
            durability: "fsync".into(),
        }
    }

    fn checkpoint(next_seq: u64) -> Event {
        Event::Checkpoint {
            lanes: vec![Milestone {
                lane: 0,
                pass: 1,
                next_seq,
                chain: hex(&[9; 32]),
                cursor: Some(7),
                counters: Counters::default(),
                makeup: Box::default(),
                counters_of_all_passes: Counters::default(),
            }],
            sample: None,
        }
    }

    /// A journal of five lines.
    fn five(path: &Path) -> Vec<u8> {
        let (mut journal, known) = Journal::open(path).unwrap();
        assert_eq!(known, Known::default());
        for event in [began(1), checkpoint(10), began(2), checkpoint(20), began(3)] {
            journal.append(1, event);
        }
        journal.sync().unwrap();
        fs::read(path).unwrap()
    }

    fn open(path: &Path, bytes: &[u8]) -> Result<Known, JournalError> {
        fs::write(path, bytes).unwrap();
        Journal::open(path).map(|(_, known)| known)
    }

    #[test]
    fn each_line_carries_the_hash_of_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        five(&path);
        // Another process goes on.
        let (mut journal, known) = Journal::open(&path).unwrap();
        assert_eq!((known.lines, known.runs, known.torn), (5, 3, false));
        assert_eq!(known.lanes[&0].next_seq, 20);
        journal.append(2, began(4));
        journal.sync().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut prev = "0".repeat(64);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["prev"], prev.as_str());
            prev = blake3::hash(line.as_bytes()).to_hex().to_string();
        }
        assert_eq!(text.lines().count(), 6);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        let bytes = five(&path);
        let last = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap()
            + 1;
        for end in last..bytes.len() {
            let known = open(&path, &bytes[..end]).unwrap();
            assert_eq!((known.lines, known.runs), (4, 2));
            assert_eq!(known.torn, end > last, "cut at {end}");
            assert_eq!(fs::read(&path).unwrap(), bytes[..last]);
        }
        // A block that never reached the disk reads as zeros.
        let zeros = [&bytes[..last], &[0; 100]].concat();
        assert!(open(&path, &zeros).unwrap().torn);
    }

    #[test]
    fn a_changed_byte_before_the_last_line_is_found_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        let bytes = five(&path);
        let last = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap();
        for at in 0..last {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let number = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
            match open(&path, &changed) {
                // The line itself can't be read, or the hash in the line after it does not fit.
                Err(JournalError::Damaged { line, .. }) => {
                    assert!(
                        line == number || line == number + 1,
                        "byte {at} of line {number}: {line}"
                    );
                }
                other => panic!("byte {at} of line {number}: {other:?}"),
            }
            assert_eq!(
                fs::read(&path).unwrap(),
                changed,
                "a damaged journal is left as it is"
            );
        }
    }

    #[test]
    fn a_missing_doubled_or_moved_line_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        let bytes = five(&path);
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let check = |order: &[usize], damaged: u64| {
            let changed: Vec<u8> = order
                .iter()
                .flat_map(|line| lines[*line])
                .copied()
                .collect();
            match open(&path, &changed) {
                Err(JournalError::Damaged { line, .. }) => assert_eq!(line, damaged, "{order:?}"),
                other => panic!("{order:?}: {other:?}"),
            }
        };
        check(&[1, 2, 3, 4], 1);
        check(&[0, 2, 3, 4], 2);
        check(&[0, 1, 1, 2, 3, 4], 3);
        check(&[0, 2, 1, 3, 4], 2);
    }

    #[test]
    fn a_hostile_key_name_stays_within_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let name = b"\x1b[2J\"}\n{\"prev\":\xff";
        journal.append(
            1,
            Event::Quarantined {
                lane: 0,
                pass: 1,
                seq: 4,
                key: crate::key::Escaped(name).to_string(),
                key_hex: hex(name),
                key_bytes: name.len() as u64,
                payload_bytes: None,
                payload_type: None,
                reason: "ERR \u{2028}bad\n".into(),
                error: None,
            },
        );
        journal.sync().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\x1b'));
        assert!(text.contains(&hex(name)));
    }

    #[test]
    fn an_event_of_a_later_version_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        let zeros = "0".repeat(64);
        let line =
            format!("{{\"prev\":\"{zeros}\",\"at_ms\":1,\"event\":\"reheated\",\"keys\":3}}\n");
        let known = open(&path, line.as_bytes()).unwrap();
        assert_eq!(known.lines, 1);
    }
}
