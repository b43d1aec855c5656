//! Where a record lies in the one tree, and how it is encoded.
//!
//! One tree for all kinds, told apart by the first byte of the key, because the engine writes atomically within a tree.
//!
//! # Invariant
//!
//! No record is longer than [`RECORD_BYTES_MAX`]. The engine keeps sixteen records in a page, and a page of more than
//! 128 KiB goes to a file of its own that is never fsynced: it would be lost in a power cut.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{BigKeyId, SuspectId};

/// Most bytes of a key and its value together: 17 of them, since a page splits when it has more than 16, stay below 128 KiB.
pub const RECORD_BYTES_MAX: usize = 7 * 1024;

const _: () = assert!(17 * (RECORD_BYTES_MAX + 64) < 128 * 1024);

/// First byte of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Meta = 1,
    Lane = 2,
    Run = 3,
    Pass = 4,
    Batch = 5,
    Quarantine = 6,
    Canary = 7,
    Compare = 8,
    CompareLane = 9,
    CompareCanary = 10,
    Candidate = 11,
    Finding = 12,
    Name = 13,
    Repair = 14,
    Makeup = 15,
    Big = 16,
    Seal = 40,
    Foundation = 41,
}

impl Kind {
    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Lane => "lane",
            Self::Run => "run",
            Self::Pass => "pass",
            Self::Batch => "batch",
            Self::Quarantine => "quarantine",
            Self::Canary => "canary",
            Self::Compare => "compare",
            Self::CompareLane => "compared lane",
            Self::CompareCanary => "compare canary",
            Self::Candidate => "candidate",
            Self::Finding => "finding",
            Self::Name => "name",
            Self::Repair => "repair",
            Self::Makeup => "makeup",
            Self::Big => "big key",
            Self::Seal => "seal",
            Self::Foundation => "foundation",
        }
    }
}

pub(super) fn meta() -> Vec<u8> {
    vec![Kind::Meta as u8]
}

pub(super) fn lane(lane: u32) -> Vec<u8> {
    key(Kind::Lane, &[&lane.to_be_bytes()])
}

pub(super) fn canary(lane: u32) -> Vec<u8> {
    key(Kind::Canary, &[&lane.to_be_bytes()])
}

pub(super) fn makeup(lane: u32) -> Vec<u8> {
    key(Kind::Makeup, &[&lane.to_be_bytes()])
}

pub(super) fn run(run: u32) -> Vec<u8> {
    key(Kind::Run, &[&run.to_be_bytes()])
}

/// Passes are numbered over all lanes in the order in which they began.
pub(super) fn pass(ordinal: u32) -> Vec<u8> {
    key(Kind::Pass, &[&ordinal.to_be_bytes()])
}

/// The batches from number `seq` on that were committed together.
pub(super) fn batches(lane: u32, pass: u32, seq: u64) -> Vec<u8> {
    key(
        Kind::Batch,
        &[&lane.to_be_bytes(), &pass.to_be_bytes(), &seq.to_be_bytes()],
    )
}

/// Reads back what [`batches`] made.
pub(super) fn parse_batches(key: &[u8]) -> Option<(u32, u32, u64)> {
    let rest = key.strip_prefix(&[Kind::Batch as u8])?;
    let (lane, rest) = rest.split_first_chunk::<4>()?;
    let (pass, rest) = rest.split_first_chunk::<4>()?;
    let seq = <[u8; 8]>::try_from(rest).ok()?;
    Some((
        u32::from_be_bytes(*lane),
        u32::from_be_bytes(*pass),
        u64::from_be_bytes(seq),
    ))
}

/// A key's name may be longer than a record, so its digest stands for it.
pub(super) fn quarantine(lane: u32, name: &[u8]) -> Vec<u8> {
    let digest = blake3::hash(name);
    key(
        Kind::Quarantine,
        &[&lane.to_be_bytes(), &digest.as_bytes()[..16]],
    )
}

/// Reads the lane out of what [`quarantine`] made.
pub(super) fn parse_quarantine(key: &[u8]) -> Option<u32> {
    let rest = key.strip_prefix(&[Kind::Quarantine as u8])?;
    let (lane, digest) = rest.split_first_chunk::<4>()?;
    (digest.len() == 16).then_some(u32::from_be_bytes(*lane))
}

/// A big key that is being copied in pieces, or was in a batch that is not durable.
pub(super) fn big(lane: u32, id: BigKeyId) -> Vec<u8> {
    key(Kind::Big, &[&lane.to_be_bytes(), &id])
}

/// All big keys of a lane.
pub(super) fn bigs(lane: u32) -> (Vec<u8>, Vec<u8>) {
    let end = match lane.checked_add(1) {
        Some(next) => key(Kind::Big, &[&next.to_be_bytes()]),
        None => vec![Kind::Big as u8 + 1],
    };
    (key(Kind::Big, &[&lane.to_be_bytes()]), end)
}

/// Reads the digest out of what [`big`] made.
pub(super) fn parse_big(key: &[u8]) -> Option<BigKeyId> {
    key.strip_prefix(&[Kind::Big as u8])?
        .get(4..)?
        .try_into()
        .ok()
}

/// The newest comparison.
pub(super) fn compare() -> Vec<u8> {
    vec![Kind::Compare as u8]
}

pub(super) fn compare_lane(lane: u32) -> Vec<u8> {
    key(Kind::CompareLane, &[&lane.to_be_bytes()])
}

pub(super) fn compare_canary(lane: u32) -> Vec<u8> {
    key(Kind::CompareCanary, &[&lane.to_be_bytes()])
}

/// A record about a key in a walk of a comparison: a candidate or a finding.
pub(super) fn suspect(kind: Kind, id: SuspectId) -> Vec<u8> {
    key(kind, &[&id.epoch.to_be_bytes(), &id.digest])
}

/// Reads back what [`suspect`] or [`name`] made.
pub(super) fn parse_suspect(key: &[u8]) -> Option<SuspectId> {
    let (_, rest) = key.split_first()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let (digest, _) = rest.split_first_chunk::<16>()?;
    Some(SuspectId {
        epoch: u32::from_be_bytes(*epoch),
        digest: *digest,
    })
}

/// A piece of such a key's name, which may be longer than a record.
pub(super) fn name(id: SuspectId, piece: u32) -> Vec<u8> {
    key(
        Kind::Name,
        &[&id.epoch.to_be_bytes(), &id.digest, &piece.to_be_bytes()],
    )
}

/// The newest repair.
pub(super) fn repair() -> Vec<u8> {
    vec![Kind::Repair as u8]
}

/// How far the journal was in a run.
pub(super) fn seal(run: u32) -> Vec<u8> {
    key(Kind::Seal, &[&run.to_be_bytes()])
}

/// Reads back what [`seal`] or [`run`] made.
pub(super) fn parse_run(key: &[u8]) -> Option<u32> {
    let (_, run) = key.split_first()?;
    Some(u32::from_be_bytes(run.try_into().ok()?))
}

/// Where a lane went on after its state was lost.
pub(super) fn foundation(lane: u32) -> Vec<u8> {
    key(Kind::Foundation, &[&lane.to_be_bytes()])
}

/// All records of a kind from one walk up to, without, another.
pub(super) fn epochs(kind: Kind, from: u32, to: u32) -> (Vec<u8>, Vec<u8>) {
    (
        key(kind, &[&from.to_be_bytes()]),
        key(kind, &[&to.to_be_bytes()]),
    )
}

/// All keys of one kind.
pub(super) fn all(kind: Kind) -> (Vec<u8>, Vec<u8>) {
    (vec![kind as u8], vec![kind as u8 + 1])
}

fn key(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind as u8];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub(super) fn encode(record: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(record, bincode::config::standard())
        .expect("our records have a known length and no foreign types")
}

/// `None` if the bytes are not such a record, or more than one.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // A limit, so that a damaged length can't make us allocate more than a record has.
    let config = bincode::config::standard().with_limit::<{ 8 * RECORD_BYTES_MAX }>();
    let (record, read) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    (read == bytes.len()).then_some(record)
}

/// The first number of a record, whatever follows: the format version of the meta record.
pub(super) fn decode_first_u32(bytes: &[u8]) -> Option<u32> {
    let (first, _) = bincode::serde::decode_from_slice(bytes, bincode::config::standard()).ok()?;
    Some(first)
}
