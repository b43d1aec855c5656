//! How the names of one side are listed: by SCAN, slot after slot where it is a cluster, or from a list.

use std::rc::Rc;

use bytes::BytesMut;

use super::names::Names;
use super::scan::{Scan, Scanned};
use crate::client::LinkError;
use crate::cluster::{Probes, SLOTS, Slot, SlotWalk};
use crate::glob;
use crate::key::Escaped;
use crate::plan::KeyType;
use crate::resp::{ErrorCode, Token, encode_scan};
use crate::state::record::Position;

/// How the names of one side are listed.
#[derive(Debug, Clone, Default)]
pub struct ListRules {
    /// MATCH of each SCAN.
    pub match_glob: Option<Vec<u8>>,
    /// TYPE of each SCAN, where one type is asked for and the side knows the option.
    pub scan_type: Option<KeyType>,
    /// Names to ask about slots, if the side is a cluster.
    pub by_slot: Option<Rc<Probes>>,
}

/// See the module.
pub enum Listing {
    /// One server's database.
    Keyspace(Keyspace),
    /// A cluster.
    Slots(Slots),
    /// A list that lies beside the state, of which no server is asked.
    List(Position),
}

/// A database that SCAN walks.
pub struct Keyspace {
    scan: Scan,
    match_glob: Option<Vec<u8>>,
    scan_type: Option<KeyType>,
}

/// The slots of a cluster. Their numbers are the cursors.
pub struct Slots {
    walk: SlotWalk,
    /// What has come of the answer to the question that is on its way.
    names: Names,
    match_glob: Option<Vec<u8>>,
}

impl Listing {
    /// Goes on at `position`: by slots, if there are names to ask about them.
    pub fn new(position: Position, rules: &ListRules) -> Self {
        match &rules.by_slot {
            None => Self::Keyspace(Keyspace {
                scan: Scan::new(position),
                match_glob: rules.match_glob.clone(),
                scan_type: rules.scan_type,
            }),
            Some(probes) => Self::Slots(Slots {
                walk: SlotWalk::new(slot_at(position).unwrap_or(0), Rc::clone(probes)),
                names: Names::default(),
                match_glob: rules.match_glob.clone(),
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
            Self::Keyspace(keyspace) => keyspace.scan.begin(),
            Self::Slots(slots) => slots.walk.begin(last).is_some(),
            Self::List(_) => false,
        }
    }

    /// Appends the question that was begun.
    pub fn encode(&self, batch_keys: u32, out: &mut BytesMut) {
        match self {
            Self::Keyspace(keyspace) => encode_scan(
                out,
                keyspace
                    .scan
                    .cursor()
                    .expect("only a walk that is not over asks"),
                batch_keys,
                keyspace.match_glob.as_deref(),
                keyspace.scan_type.map(KeyType::name),
            ),
            Self::Slots(slots) => slots.walk.encode(out),
            Self::List(_) => {}
        }
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        match self {
            Self::Keyspace(keyspace) => keyspace.scan.in_flight(),
            Self::Slots(slots) => slots.walk.in_flight(),
            Self::List(_) => false,
        }
    }

    /// Whether all is listed.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Keyspace(keyspace) => keyspace.scan.is_over(),
            Self::Slots(slots) => slots.walk.is_over(),
            Self::List(position) => *position == Position::End,
        }
    }

    /// The connection is lost: what came of an answer is forgotten. A SCAN is answered by the next connection; the question
    /// for slots has to be begun anew, perhaps at another node.
    pub fn lost(&mut self) {
        match self {
            Self::Keyspace(keyspace) => keyspace.scan.lost(),
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
    pub fn token(&mut self, token: Token, batch_keys: u32) -> Result<Option<Scanned>, LinkError> {
        if let Token::Error(line) = &token {
            let shown = Escaped(line).to_string();
            return Err(LinkError::Reply(ErrorCode::of(line), shown));
        }
        match self {
            Self::Keyspace(keyspace) => keyspace.scan.token(token),
            Self::Slots(slots) => slots.token(token, batch_keys),
            Self::List(_) => Err(LinkError::Unexpected("nothing", format!("{token:?}"))),
        }
    }
}

impl Slots {
    fn token(&mut self, token: Token, batch_keys: u32) -> Result<Option<Scanned>, LinkError> {
        let (glob, names) = (self.match_glob.as_deref(), &mut self.names);
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
        self.walk.pace(batch_keys, &listed);
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
