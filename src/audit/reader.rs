//! Reads a journal line by line and checks each against the hash in the next, without any lock: also beside a run.
//!
//! # Invariants
//!
//! - Only one line is in memory.
//! - A line is given out only after its place in the chain was checked. Whether it was changed itself is told by the line
//!   after it: of the last line only [`Lines::head`] tells, to whoever knows what it should be.
//! - Nothing is changed. A last line without its newline is one that is being written, or was torn: it is not given out.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::entry::Line;
use super::journal::JournalError;

/// More than any line takes. A damaged length can't make us keep a whole disk in memory.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The lines of a journal, oldest first. Ends after the first error.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    /// Hash of the line before, which the next one must carry.
    head: blake3::Hash,
    number: u64,
    bytes: u64,
    torn: bool,
    ended: bool,
    text: Vec<u8>,
}

/// A line and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// From 1.
    pub number: u64,
    /// BLAKE3 of its bytes, which the next line carries.
    pub hash: [u8; 32],
    /// What it says.
    pub line: Line,
}

impl Lines<BufReader<File>> {
    /// The journal at `path`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open(path: &Path) -> Result<Option<Self>, JournalError> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self::new(BufReader::with_capacity(64 * 1024, file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JournalError::Io {
                doing: "open the journal",
                error,
            }),
        }
    }
}

impl<R: BufRead> Lines<R> {
    /// The journal that `reader` holds.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            head: blake3::Hash::from_bytes([0; 32]),
            number: 0,
            bytes: 0,
            torn: false,
            ended: false,
            text: Vec::new(),
        }
    }

    /// Hash of the newest line that was given out, which binds all lines before it; zeros before the first.
    pub fn head(&self) -> [u8; 32] {
        *self.head.as_bytes()
    }

    /// Lines that were given out.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the lines that were given out, newlines included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file ended within a line.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    fn read(&mut self) -> Result<Option<Numbered>, JournalError> {
        use std::io::Read;
        self.text.clear();
        let read = self
            .reader
            .by_ref()
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut self.text)
            .map_err(|error| JournalError::Io {
                doing: "read the journal",
                error,
            })?;
        if read == 0 {
            return Ok(None);
        }
        let number = self.number + 1;
        let damaged = |what: String| JournalError::Damaged { line: number, what };
        if self.text.pop() != Some(b'\n') {
            if read == LINE_BYTES_MAX {
                return Err(damaged("it is longer than any line".to_owned()));
            }
            self.torn = true;
            return Ok(None);
        }
        let line: Line =
            serde_json::from_slice(&self.text).map_err(|error| damaged(error.to_string()))?;
        if line.prev != self.head.to_hex().as_str() {
            return Err(damaged(
                "its `prev` is not the hash of the line before it".to_owned(),
            ));
        }
        self.head = blake3::hash(&self.text);
        self.number = number;
        self.bytes += read as u64;
        Ok(Some(Numbered {
            number,
            hash: self.head(),
            line,
        }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Numbered, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}
