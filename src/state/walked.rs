//! How much of a walk lies behind a position.
//!
//! Only displays know this number: nothing is decided by it.

use super::record::Position;
use crate::cluster::SLOTS;

/// What a position counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// A server's cursors. Cursors of servers that count otherwise than Redis give a number that means little.
    Cursors,
    /// The slots of a cluster.
    Slots,
    /// The bytes of a list of names.
    List {
        /// How long it is.
        bytes: u64,
    },
}

impl Walked {
    /// How much of it lies behind a position, 0–1.
    ///
    /// A cursor counts in reversed bits: read backwards it is a fraction of the table, whatever the table's size.
    pub fn share(self, position: Position) -> f64 {
        match (position, self) {
            (Position::Start, _) => 0.0,
            (Position::At(slot), Self::Slots) => slot.get() as f64 / f64::from(SLOTS),
            (Position::At(place), Self::List { bytes }) => place.get() as f64 / bytes.max(1) as f64,
            (Position::At(cursor), Self::Cursors) => {
                cursor.get().reverse_bits() as f64 / 2_f64.powi(64)
            }
            (Position::End, _) => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_position_is_a_share_of_what_it_counts() {
        let check = |walked: Walked, place: u64, wanted: f64| {
            let position = NonZeroU64::new(place).map_or(Position::Start, Position::At);
            let share = walked.share(position);
            assert!((share - wanted).abs() < 1e-9, "{walked:?} {place}: {share}");
        };
        check(Walked::Cursors, 0, 0.0);
        check(Walked::Cursors, 1, 0.5);
        check(Walked::Cursors, 2, 0.25);
        check(Walked::Cursors, 3, 0.75);
        check(Walked::Slots, 8192, 0.5);
        check(Walked::List { bytes: 16_384 }, 8192, 0.5);
        for walked in [Walked::Cursors, Walked::Slots, Walked::List { bytes: 0 }] {
            assert!((walked.share(Position::End) - 1.0).abs() < f64::EPSILON);
        }
    }
}
