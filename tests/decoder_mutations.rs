//! 100 000 damaged payloads: none makes the decoder panic, tell what it must not, or take more memory than it may.
//!
//! Its own binary, because its allocator counts what is in use.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on panics, and says its seed"
)]

/// What a visitor may rely on; shared with the fuzz targets.
#[path = "fuzz/src/contract.rs"]
mod contract;

use std::path::Path;

use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use contract::Contract;
use redknot::rdb::decode::{LZF_EXPANSION_MAX, walk};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MUTATIONS: usize = 100_000;

/// What a payload may cost for each of its bytes: compressed strings, and as much again for a group's names, which are
/// copied.
const BYTES_PER_BYTE_MAX: usize = 2 * LZF_EXPANSION_MAX;

/// Lengths and marks that decoders trip over.
const NASTY: [&[u8]; 12] = [
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80\xff\xff\xff\xff",
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xc3\x05\x81\x00\x00\x00\x00\xff\xff\xff\xff",
    b"\xc0\xff",
    b"\xff\xff",
    b"\xf0\xff\xff\xff\xff",
    b"\xfe\xff\xff\xff\xff",
    b"\xf4\x00\x00\x00\x00\x00\x00\x00\x80",
];

fn recorded() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads");
    let mut payloads = Vec::new();
    for server in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(server.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "payload")
            {
                payloads.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    // The order of a folder is any, and a seed has to mean the same everywhere.
    payloads.sort();
    payloads.into_iter().map(|(_, payload)| payload).collect()
}

/// Damages a payload in one of the ways that memory, disks and attackers know.
fn damage(payload: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    let len = payload.len();
    if len == 0 {
        return;
    }
    let at = random.random_range(0..len);
    let until = random.random_range(at..=len.min(at + 40));
    match random.random_range(0..9) {
        0 => payload[at] ^= 1 << random.random_range(0..8),
        1 => payload[at] = random.random(),
        2 => {
            payload[at] = payload[at]
                .wrapping_add(random.random_range(0..3))
                .wrapping_sub(1)
        }
        3 => payload.truncate(at),
        4 => drop(payload.drain(at..until)),
        5 => {
            let copy = payload[at..until].to_vec();
            payload.splice(at..at, copy);
        }
        6 => {
            let nasty = NASTY.choose(random).unwrap();
            payload.splice(at..at, nasty.iter().copied());
        }
        7 => {
            let nasty = NASTY.choose(random).unwrap();
            let end = len.min(at + nasty.len());
            payload.splice(at..end, nasty.iter().copied());
        }
        _ => {
            let end = other.len().min(at + 40);
            if let Some(piece) = other.get(at..end) {
                payload.splice(at..until, piece.iter().copied());
            }
        }
    }
}

#[test]
fn damaged_payloads_are_refused_or_read_within_bounds() {
    let seed = std::env::var("REDKNOT_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("seed: REDKNOT_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let recorded = recorded();
    assert!(recorded.len() > 300);
    let (mut read, mut most) = (0, 0.0_f64);
    for mutation in 0..MUTATIONS {
        let mut payload = recorded.choose(&mut random).unwrap().clone();
        let other = recorded.choose(&mut random).unwrap();
        for _ in 0..random.random_range(1..=4) {
            damage(&mut payload, other, &mut random);
        }
        let mut told = Contract::default();
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let walked = walk(&payload, &mut told);
        let used = ALLOCATOR.peak_usage() - before;
        assert!(
            used <= BYTES_PER_BYTE_MAX * payload.len(),
            "mutation {mutation}: {used} bytes for {}",
            payload.len()
        );
        most = most.max(used as f64 / payload.len().max(1) as f64);
        if walked.is_ok() {
            told.end();
            read += 1;
        }
    }
    eprintln!("{read} of {MUTATIONS} were read; the most memory for a byte was {most:.1} bytes");
    // Otherwise the damage would be nothing but broken type bytes.
    assert!(read > MUTATIONS / 20 && read < MUTATIONS * 9 / 10, "{read}");
}
