//! What the limits allow of a comparison, and what of it is counted.
//!
//! A key is paid for when it is asked for first, whichever questions about it follow; the bytes of its value when they come
//! from the side whose bytes count. A name that is not read, or of which only is asked whether it exists, counts as a tenth
//! of a key.
//!
//! # Invariant
//!
//! Where nothing is limited, a key costs a look or two here, and the clock is not read.

use std::time::Instant;

use super::{Lane, NAMES_MAX, SOURCE};
use crate::compare::batch::KeyRef;
use crate::compare::listing::Listing;
use crate::resp::Token;

/// Fewest names that the source is asked about at once.
const NAMES_MIN: f64 = 16.0;
/// What a value is taken for before any has come, bytes.
const UNKNOWN_BYTES: u64 = 1024;

impl Lane {
    /// It is `now`, which decides how much the limits allow. Returns whether there are any.
    pub fn keep_pace(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let mut pace = self.pace.borrow_mut();
        self.window.guard(pace.pressure());
        self.rules.batch_keys = pace.scan_keys(self.batch_keys_max);
        pace.window(self.window.times_smallest());
        let asked = self.sides[SOURCE].outstanding_keys();
        pace.fill(now, asked, self.value_bytes())
    }

    fn value_bytes(&self) -> u64 {
        self.window
            .value_bytes()
            .map_or(UNKNOWN_BYTES, |bytes| bytes as u64 + 1)
    }

    /// How many unread keys may be asked for.
    pub(super) fn allowance(&self) -> usize {
        let asked = self.sides[SOURCE].outstanding_keys();
        self.pace.borrow().allowance(asked, self.value_bytes())
    }

    /// At most `most` unread keys that follow each other within a batch, of `left` that are allowed.
    pub(super) fn take_allowed(&mut self, most: usize, left: &mut usize) -> Option<(KeyRef, u32)> {
        if *left == 0 && !self.readable().is_empty() {
            self.pace.borrow_mut().hold();
        }
        if *left == 0 {
            return None;
        }
        let (first, count) = self.take_run(most.min(*left))?;
        *left -= count as usize;
        self.pace.borrow_mut().asked(count as usize);
        Some((first, count))
    }

    /// How many names may wait to be read when the next ones are asked for.
    pub(super) fn keys_ahead(&self) -> usize {
        self.pace.borrow().names_ahead(self.keys_max())
    }

    /// Most keys that the source is asked about whether it has them, at once.
    pub(super) fn names_max(&self) -> usize {
        (NAMES_MAX as f64 * self.pace.borrow().pressure()).max(NAMES_MIN) as usize
    }

    /// Whether names may be asked for, or about.
    pub(super) fn may_ask_names(&self) -> bool {
        self.pace.borrow_mut().may_scan()
    }

    /// So many names are not those of keys that are read.
    pub(super) fn passed_over(&self, names: usize) {
        self.pace.borrow_mut().passed_over(names);
    }

    /// Names of the target were listed. Beside the walk of the source they come at its pace, and then at their own.
    pub(super) fn names_listed(&self, names: usize) {
        if self.listings[SOURCE].as_ref().is_none_or(Listing::is_over) {
            self.passed_over(names);
        }
    }

    /// Part of an answer has come from a side.
    pub(super) fn came(&self, side: usize, token: &Token) {
        if let (SOURCE, Token::Bulk(value)) = (side, token) {
            self.pace.borrow_mut().came(value.len());
        }
    }
}
