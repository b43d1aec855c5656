//! How the names of one side are listed: by SCAN, slot after slot where it is a cluster, or from a list.

use std::rc::Rc;

use bytes::BytesMut;

use super::lane::Rules;
use super::names::Names;
use super::scan::{Scan, Scanned};
use crate::client::LinkError;
use crate::cluster::{Probes, SLOTS, Slot, SlotWalk};
use crate::glob;
use crate::key::Escaped;
use crate::plan::KeyType;
use crate::resp::{ErrorCode, Token, encode_scan};
use crate::state::record::Position;

/// See the module.
pub enum Listing {
    /// One server's database.
    Keyspace(Scan),
    /// A cluster.
    Slots(Slots),
    /// A list that lies beside the state, of which no server is asked.
    List(Position),
}

/// The slots of a cluster. Their numbers are the cursors.
pub struct Slots {
    walk: SlotWalk,
    /// What has come of the answer to the question that is on its way.
    names: Names,
}

impl Listing {
    /// Goes on at `position`: by slots, if there are names to ask about them.
    pub fn new(position: Position, by_slot: Option<&Rc<Probes>>) -> Self {
        match by_slot {
            None => Self::Keyspace(Scan::new(position)),
            Some(probes) => Self::Slots(Slots {
                walk: SlotWalk::new(slot_at(position).unwrap_or(0), Rc::clone(probes)),
                names: Names::default(),
            }),
        }
    }

    /// The next slot to be listed, if it goes by slots.
    pub fn next_slot(&self) -> Option<Slot> {
        match self {
            Self::Keyspace(_) | Self::List(_) => None,
            Self::Slots(slots) => slots.walk.next_slot(),
        }
    }

    /// Whether a question may be sent now; it counts as sent then. None is for a slot behind `last`.
    pub fn begin(&mut self, last: Slot) -> bool {
        match self {
            Self::Keyspace(scan) => scan.begin(),
            Self::Slots(slots) => slots.walk.begin(last).is_some(),
            Self::List(_) => false,
        }
    }

    /// Appends the question that was begun, to this side.
    pub fn encode(&self, rules: &Rules, side: usize, out: &mut BytesMut) {
        match self {
            Self::Keyspace(scan) => encode_scan(
                out,
                scan.cursor().expect("only a walk that is not over asks"),
                rules.batch_keys,
                rules.globs[side].as_deref(),
                rules.scan_types[side].map(KeyType::name),
            ),
            Self::Slots(slots) => slots.walk.encode(out),
            Self::List(_) => {}
        }
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        match self {
            Self::Keyspace(scan) => scan.in_flight(),
            Self::Slots(slots) => slots.walk.in_flight(),
            Self::List(_) => false,
        }
    }

    /// Whether all is listed.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Keyspace(scan) => scan.is_over(),
            Self::Slots(slots) => slots.walk.is_over(),
            Self::List(position) => *position == Position::End,
        }
    }

    /// The connection is lost: what came of an answer is forgotten. A SCAN is answered by the next connection; the question
    /// for slots has to be begun anew, perhaps at another node.
    pub fn lost(&mut self) {
        match self {
            Self::Keyspace(scan) => scan.lost(),
            Self::Slots(slots) => {
                slots.walk.lost();
                slots.names = Names::default();
            }
            Self::List(_) => {}
        }
    }

    /// Takes one token of the answer; returns it once it is whole.
    ///
    /// # Errors
    ///
    /// An error reply, and what has the form of no answer.
    pub fn token(
        &mut self,
        token: Token,
        rules: &Rules,
        side: usize,
    ) -> Result<Option<Scanned>, LinkError> {
        if let Token::Error(line) = &token {
            let shown = Escaped(line).to_string();
            return Err(LinkError::Reply(ErrorCode::of(line), shown));
        }
        match self {
            Self::Keyspace(scan) => scan.token(token),
            Self::Slots(slots) => slots.token(token, rules, side),
            Self::List(_) => Err(LinkError::Unexpected("nothing", format!("{token:?}"))),
        }
    }
}

impl Slots {
    fn token(
        &mut self,
        token: Token,
        rules: &Rules,
        side: usize,
    ) -> Result<Option<Scanned>, LinkError> {
        let (glob, names) = (rules.globs[side].as_deref(), &mut self.names);
        let taken = self.walk.token(token, |name| {
            if glob.is_none_or(|glob| glob::matches(glob, name)) {
                names.push(name);
            }
        });
        let listed = taken.map_err(|other| {
            LinkError::Unexpected("CLUSTER GETKEYSINSLOT", format!("{other:?}"))
        })?;
        let Some(listed) = listed else {
            return Ok(None);
        };
        self.walk.pace(rules.batch_keys, &listed);
        Ok(Some(Scanned {
            cursor_in: u64::from(listed.first),
            cursor_out: match listed.first + listed.slots {
                SLOTS => 0,
                next => u64::from(next),
            },
            names: std::mem::take(&mut self.names),
        }))
    }
}

/// The slot where a walk by slots goes on; `None` if it can't go on there.
pub fn slot_at(position: Position) -> Option<u16> {
    match position {
        Position::Start => Some(0),
        Position::At(slot) => u16::try_from(slot.get()).ok().filter(|slot| *slot < SLOTS),
        Position::End => Some(SLOTS),
    }
}
