//! Every kind of damage to the files: the state opens with the same meaning, or is refused. Never a panic, a hang, or a
//! cursor that was not acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::error::{Class, Error};
use crate::state::record::{BatchRecord, PassRecord};

/// How many damages each test tries; `REDKNOT_REPEAT` asks for so many times as many.
const DAMAGES: u64 = 120;

/// An opening that takes longer hangs.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Everything that a state says.
#[derive(Debug, PartialEq)]
struct Meaning {
    phase: Phase,
    lanes: Vec<LaneCheckpoint>,
    passes: Vec<PassRecord>,
    batches: BTreeMap<(u32, u32, u64), BatchRecord>,
    quarantine: BTreeMap<(u32, Vec<u8>), QuarantineRecord>,
}

impl Meaning {
    fn of(store: &Store) -> Result<Self, StoreError> {
        let mut batches = BTreeMap::new();
        store.visit_batches(|lane, pass, seq, record| {
            batches.insert((lane, pass, seq), record);
        })?;
        Ok(Self {
            phase: store.meta().phase,
            lanes: store.lanes().to_vec(),
            passes: store.passes(),
            batches,
            quarantine: store
                .quarantine()?
                .map(|(lane, name, record)| ((lane, name), record))
                .collect(),
        })
    }
}

/// A state with some history: two lanes, a second pass, several runs, several segments of the engine.
fn specimen(state_dir: &Path, clean: bool) -> Meaning {
    let mut store = open_in(state_dir, &plan(2)).unwrap();
    store.durability = Durability::None;
    store.set_phase(Phase::Copying).unwrap();
    begin_pass(&mut store, 0);
    commit_some(&mut store, 0, 300).unwrap();
    drop(store);
    let mut store = open_in(state_dir, &plan(2)).unwrap();
    store.durability = Durability::None;
    begin_pass(&mut store, 0);
    begin_pass(&mut store, 1);
    commit_some(&mut store, 0, 1_500).unwrap();
    commit_some(&mut store, 1, 1_500).unwrap();
    if clean {
        store.end_run("stopped by SIGTERM").unwrap();
        drop(store);
        // Once more, so that what the engine does while it opens is behind us.
        store = open_in(state_dir, &plan(2)).unwrap();
        store.end_run("stopped by SIGTERM").unwrap();
    }
    Meaning::of(&store).unwrap()
}

/// Damages one file of the state and says how.
fn damage(dir: &Path, random: &mut StdRng) -> String {
    let mut files = files(dir);
    files.sort();
    // The engine's data file is most of the state; the others are hit too, if less often than it.
    let data = dir.join("db/db");
    let file = match random.random_bool(0.5) {
        true => data,
        false => files[random.random_range(0..files.len())].clone(),
    };
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let mut bytes = fs::read(&file).unwrap();
    let length = bytes.len();
    let at = random.random_range(0..length.max(1));
    let what = match random.random_range(0..10) {
        0 | 1 => {
            bytes.truncate(at);
            format!("{name} cut at {at} of {length}")
        }
        2..=5 => {
            let end = (at + 8).min(length);
            bytes[at..end]
                .iter_mut()
                .for_each(|byte| *byte ^= random.random_range(1..=255));
            format!("{name}: 8 bytes flipped at {at} of {length}")
        }
        6 => {
            let end = (at + 4096).min(length);
            bytes[at..end].fill(0);
            format!("{name}: 4096 bytes zeroed at {at} of {length}")
        }
        7 => {
            let end = (at + 512).min(length);
            bytes[at..end].fill_with(|| random.random());
            format!("{name}: 512 bytes of noise at {at} of {length}")
        }
        8 => {
            bytes.extend((0..random.random_range(1..2_000)).map(|_| random.random::<u8>()));
            format!("{name}: noise behind its end at {length}")
        }
        _ => {
            fs::remove_file(&file).unwrap();
            return format!("{name} deleted");
        }
    };
    fs::write(&file, bytes).unwrap();
    what
}

/// The files that hold the state.
fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| !path.ends_with("lock"))
        .collect()
}

/// Opens on a thread of its own, so that a hang and a panic are findings and not the end of the test.
fn open_watched(state_dir: &Path) -> Result<Meaning, StoreError> {
    let (sender, receiver) = mpsc::channel();
    let state_dir = state_dir.to_owned();
    let opening = std::thread::spawn(move || {
        let meaning = open_in(&state_dir, &plan(2)).and_then(|store| Meaning::of(&store));
        let _ = sender.send(meaning);
    });
    match receiver.recv_timeout(OPEN_MAX) {
        Ok(meaning) => meaning,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("opening hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match opening.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it has sent before it ends"),
        },
    }
}

/// Opens damaged copies of a specimen; `fits` judges those that open.
fn try_damages(clean: bool, fits: impl Fn(&Meaning, &Meaning) -> bool) {
    let damages = DAMAGES * repeat();
    let specimen_dir = tempfile::tempdir().unwrap();
    let wanted = specimen(specimen_dir.path(), clean);
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..damages {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(specimen_dir.path(), folder.path());
        let what = damage(
            &folder.path().join("shop"),
            &mut StdRng::seed_from_u64(seed),
        );
        match open_watched(folder.path()) {
            Ok(found) => {
                assert!(
                    fits(&found, &wanted),
                    "seed {seed}: {what}: opened with another meaning: {:?} is not {:?}",
                    found.lanes,
                    wanted.lanes
                );
                opened += 1;
            }
            Err(error) => {
                let error = Error::from(error);
                assert_eq!(
                    error.class,
                    Class::StateDamaged,
                    "seed {seed}: {what}: {error}"
                );
                refused += 1;
            }
        }
    }
    // Otherwise the damages hit nothing, or everything.
    assert!(opened > damages / 20, "{opened} of {damages} opened");
    assert!(
        refused > damages / 20,
        "{refused} of {damages} were refused"
    );
}

#[test]
fn a_damaged_state_that_was_closed_in_order_opens_unchanged_or_not_at_all() {
    try_damages(true, |found, wanted| found == wanted);
}

/// The journal's last milestone is then older than the last batch, and an engine that lost its newest batches to the
/// damage may open at an earlier checkpoint. It repeats work; it must not skip or invent any.
#[test]
fn a_damaged_state_of_a_run_that_died_never_opens_ahead_of_what_was_acknowledged() {
    try_damages(false, |found, wanted| {
        found
            .lanes
            .iter()
            .zip(&wanted.lanes)
            .all(|(found, wanted)| (found.pass, found.next_seq) <= (wanted.pass, wanted.next_seq))
            && found
                .batches
                .iter()
                .all(|(number, batch)| wanted.batches.get(number) == Some(batch))
            && found
                .quarantine
                .iter()
                .all(|(name, record)| wanted.quarantine.get(name) == Some(record))
    });
}
