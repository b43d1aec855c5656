//! Random operations against a plain in-memory model; restarting is an operation like the others.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::state::record::{BatchRecord, CANARY_BATCHES, CanaryBatch, PassRecord};

const LANES: u32 = 2;

#[derive(Debug, Clone)]
enum Op {
    /// Begin the next pass of a lane.
    BeginPass {
        lane: u32,
    },
    /// Commit some batches of a lane at once; the last may end the pass.
    Commit {
        lane: u32,
        shapes: Vec<Shape>,
        end: bool,
    },
    /// Commit one batch of every lane at once.
    CommitAll {
        shape: Shape,
    },
    /// Through a recorder, which is dropped before it is done: some prefix survives.
    Crash {
        lane: u32,
        shapes: Vec<Shape>,
    },
    /// Through a recorder, which is finished.
    Record {
        lane: u32,
        shapes: Vec<Shape>,
    },
    UpdateIdentity {
        lane: u32,
        run_id: u8,
    },
    SetPhase {
        copied: bool,
    },
    EndRun,
    /// Close and open again.
    Restart,
}

/// What is random about a batch.
#[derive(Debug, Clone)]
struct Shape {
    cursor: u64,
    written: u64,
    names: Vec<Vec<u8>>,
    bad: Vec<Vec<u8>>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let names = || prop::collection::vec(any::<u8>(), 0..8);
    let few = prop::collection::vec(names(), 0..12);
    // So few names that some are met again.
    let bad = prop::collection::vec(prop::collection::vec(0_u8..3, 0..2), 0..3);
    (1..=u64::MAX, 0..1000_u64, few, bad).prop_map(|(cursor, written, names, bad)| Shape {
        cursor,
        written,
        names,
        bad,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let lane = || 0..LANES;
    let shapes = |most| prop::collection::vec(shape(), 1..most);
    prop_oneof![
        2 => lane().prop_map(|lane| Op::BeginPass { lane }),
        6 => (lane(), shapes(40), prop::bool::weighted(0.1))
            .prop_map(|(lane, shapes, end)| Op::Commit { lane, shapes, end }),
        2 => shape().prop_map(|shape| Op::CommitAll { shape }),
        2 => (lane(), shapes(8)).prop_map(|(lane, shapes)| Op::Crash { lane, shapes }),
        2 => (lane(), shapes(8)).prop_map(|(lane, shapes)| Op::Record { lane, shapes }),
        1 => (lane(), any::<u8>()).prop_map(|(lane, run_id)| Op::UpdateIdentity { lane, run_id }),
        1 => any::<bool>().prop_map(|copied| Op::SetPhase { copied }),
        1 => Just(Op::EndRun),
        2 => Just(Op::Restart),
    ]
}

#[derive(Default, Clone)]
struct ModelLane {
    pass: u32,
    run_ids: (String, String),
    /// Of every pass, also the earlier ones.
    batches: BTreeMap<(u32, u64), AcknowledgedBatch>,
}

impl ModelLane {
    fn current(&self) -> Vec<&AcknowledgedBatch> {
        let range = (self.pass, 0)..=(self.pass, u64::MAX);
        self.batches.range(range).map(|(_, batch)| batch).collect()
    }

    fn cursor(&self) -> u64 {
        self.current().last().map_or(0, |batch| batch.cursor_out)
    }

    /// Whether another batch may come: the pass has begun and not ended.
    fn is_open(&self) -> bool {
        self.pass > 0
            && self
                .current()
                .last()
                .is_none_or(|batch| batch.cursor_out != 0)
    }

    fn push(&mut self, batch: AcknowledgedBatch) {
        let seq = self.current().len() as u64;
        self.batches.insert((self.pass, seq), batch);
    }
}

struct Model {
    lanes: Vec<ModelLane>,
    quarantine: BTreeMap<(u32, Vec<u8>), QuarantineRecord>,
    passes: Vec<(u32, u32, u32)>,
    run: u32,
    phase: Phase,
    ended: bool,
}

struct Machine {
    folder: tempfile::TempDir,
    plan: Plan,
    store: Option<Store>,
    model: Model,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Self {
            folder,
            plan: plan(LANES),
            store: None,
            model: Model {
                lanes: vec![ModelLane::default(); LANES as usize],
                quarantine: BTreeMap::new(),
                passes: vec![],
                run: 0,
                phase: Phase::Planned,
                ended: false,
            },
        };
        machine.reopen();
        machine
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        self.store = None;
        let store = open(&OpenRequest {
            state_dir: self.folder.path(),
            name: "shop",
            plan: &self.plan,
            restart: false,
            // A kill or a power cut can't happen within a test; the fsync would only take time.
            durability: Durability::None,
            command: "test",
        });
        self.store = Some(store.unwrap());
        let ended = std::mem::take(&mut self.model.ended);
        if self.model.run > 0 {
            let last = self.store().last_run().cloned().unwrap();
            assert_eq!((last.run, last.end.is_some()), (self.model.run, ended));
        }
        self.model.run += 1;
    }

    /// The next batches of a lane, as the model would have them.
    fn batches(&self, lane: u32, shapes: &[Shape], end: bool) -> Vec<AcknowledgedBatch> {
        let mut lane = self.model.lanes[lane as usize].clone();
        if !lane.is_open() {
            return vec![];
        }
        let last = shapes.len() - 1;
        let mut made = vec![];
        for (n, shape) in shapes.iter().enumerate() {
            let cursor_out = if end && n == last { 0 } else { shape.cursor };
            let seq = lane.current().len() as u64;
            let bad = shape.bad.len() as u64;
            let batch = AcknowledgedBatch {
                run: self.model.run,
                cursor_in: lane.cursor(),
                cursor_out,
                counters: Counters {
                    keys_scanned: shape.written + bad,
                    keys_written: shape.written,
                    keys_quarantined: bad,
                    ..Counters::default()
                },
                makeup: Box::new(Makeup::of(Arrived::UNSEEN, shape.written)),
                canary_keys: shape.names.clone(),
                quarantined: shape
                    .bad
                    .iter()
                    .map(|name| (name.clone(), quarantined(lane.pass, seq)))
                    .collect(),
                ..batch(lane.pass, 0, 0, 0)
            };
            lane.push(batch.clone());
            made.push(batch);
        }
        made
    }

    fn accept(&mut self, lane: u32, batches: &[AcknowledgedBatch]) {
        for batch in batches {
            for (name, record) in &batch.quarantined {
                self.model
                    .quarantine
                    .insert((lane, name.clone()), record.clone());
            }
            self.model.lanes[lane as usize].push(batch.clone());
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::BeginPass { lane } => self.begin_pass(*lane),
            Op::Commit { lane, shapes, end } => {
                let batches = self.batches(*lane, shapes, *end);
                self.accept(*lane, &batches);
                if !batches.is_empty() {
                    self.store()
                        .commit(&Commit {
                            lane: *lane,
                            batches,
                        })
                        .unwrap();
                }
            }
            Op::CommitAll { shape } => {
                let mut commits = vec![];
                for lane in 0..LANES {
                    let batches = self.batches(lane, std::slice::from_ref(shape), false);
                    self.accept(lane, &batches);
                    if !batches.is_empty() {
                        commits.push(Commit { lane, batches });
                    }
                }
                self.store().commit_all(&commits).unwrap();
            }
            Op::Crash { lane, shapes } => self.crash(*lane, shapes),
            Op::Record { lane, shapes } => {
                let batches = self.batches(*lane, shapes, false);
                self.accept(*lane, &batches);
                let recorder = Recorder::start(self.store.take().unwrap());
                for batch in batches {
                    recorder.submit(*lane, batch);
                }
                self.store = Some(recorder.finish().unwrap());
            }
            Op::UpdateIdentity { lane, run_id } => {
                let run_id = format!("run {run_id}");
                self.store()
                    .update_identity(
                        *lane,
                        identity(&run_id),
                        identity(&run_id),
                        "the cursor is alive",
                    )
                    .unwrap();
                self.model.lanes[*lane as usize].run_ids = (run_id.clone(), run_id);
            }
            Op::SetPhase { copied } => {
                let phase = if *copied {
                    Phase::Copied
                } else {
                    Phase::Copying
                };
                self.store().set_phase(phase).unwrap();
                self.model.phase = phase;
            }
            Op::EndRun => {
                self.store().end_run("stopped").unwrap();
                self.model.ended = true;
            }
            Op::Restart => self.reopen(),
        }
    }

    fn begin_pass(&mut self, lane: u32) {
        begin_pass(self.store(), lane);
        let model = &mut self.model.lanes[lane as usize];
        model.pass += 1;
        model.run_ids = ("abc".into(), "def".into());
        self.model.passes.push((lane, model.pass, self.model.run));
    }

    fn crash(&mut self, lane: u32, shapes: &[Shape]) {
        let batches = self.batches(lane, shapes, false);
        let before = self.model.lanes[lane as usize].current().len();
        let recorder = Recorder::start(self.store.take().unwrap());
        let durable = recorder.durable();
        for batch in &batches {
            recorder.submit(lane, batch.clone());
        }
        drop(recorder);
        let told = durable.borrow().batches_durable_total as usize;
        self.reopen();
        let survived = self.store().lanes()[lane as usize].next_seq as usize - before;
        assert!(told <= survived && survived <= batches.len());
        self.accept(lane, &batches[..survived]);
    }

    fn check(&mut self) {
        let model = &self.model;
        let store = self.store.as_ref().unwrap();
        assert_eq!(store.run(), model.run);
        assert_eq!(store.meta().phase, model.phase);
        for (lane, expected) in store.lanes().iter().zip(&model.lanes) {
            check_lane(lane, expected);
        }
        let passes: Vec<_> = store
            .passes()
            .iter()
            .map(
                |PassRecord {
                     lane, pass, run, ..
                 }| (*lane, *pass, *run),
            )
            .collect();
        assert_eq!(passes, model.passes);
        let listed: BTreeMap<_, _> = store
            .quarantine()
            .unwrap()
            .map(|(lane, name, record)| ((lane, name), record))
            .collect();
        assert_eq!(listed, model.quarantine);
        assert_eq!(store.quarantine_len(), model.quarantine.len() as u64);
        check_batches(store, model);
    }
}

fn check_lane(lane: &LaneCheckpoint, expected: &ModelLane) {
    let batches = expected.current();
    let mut counters = Counters::default();
    batches
        .iter()
        .for_each(|batch| counters.add(&batch.counters));
    let position = match (batches.is_empty(), expected.cursor()) {
        (true, _) => Position::Start,
        (false, cursor) => Position::after(cursor),
    };
    assert_eq!(lane.pass, expected.pass);
    assert_eq!(lane.position, position);
    assert_eq!(lane.next_seq, batches.len() as u64);
    assert_eq!(lane.counters, counters);
    let run_ids = (&lane.source, &lane.target);
    let run_ids = (
        run_ids.0.run_id.clone().unwrap_or_default(),
        run_ids.1.run_id.clone().unwrap_or_default(),
    );
    assert_eq!(run_ids, expected.run_ids);
    // The canary may be older than the position, and have a gap where the store was opened again: but it is batches of
    // this pass in their order.
    let canaries = batches.iter().map(|batch| CanaryBatch {
        cursor_in: batch.cursor_in,
        cursor_out: batch.cursor_out,
        count: batch.count,
        keyspace: batch.keyspace,
        keys: batch.canary_keys.clone(),
    });
    let mut wanted = lane.canary.iter().peekable();
    for canary in canaries {
        wanted.next_if_eq(&&canary);
    }
    assert_eq!(wanted.next(), None, "no batch of this pass");
    assert!(lane.canary.len() <= CANARY_BATCHES);
    assert_eq!(lane.canary.is_empty(), batches.is_empty());
}

/// Every batch is there, and the chain hashes are those of the definition.
fn check_batches(store: &Store, model: &Model) {
    let mut found: Vec<BTreeMap<(u32, u64), BatchRecord>> = vec![BTreeMap::new(); LANES as usize];
    store
        .visit_batches(|lane, pass, seq, record| {
            let doubled = found[lane as usize].insert((pass, seq), record);
            assert!(doubled.is_none());
        })
        .unwrap();
    for lane in 0..LANES {
        let (found, expected) = (&found[lane as usize], &model.lanes[lane as usize].batches);
        assert_eq!(found.len(), expected.len());
        let mut chain = [0; 32];
        for ((number, record), (wanted, batch)) in found.iter().zip(expected) {
            assert_eq!(number, wanted);
            let BatchRecord {
                run,
                cursor_in,
                cursor_out,
                counters,
                keys_digest,
                scanned_ms,
                acknowledged_ms,
                recorded,
                ..
            } = record;
            assert_eq!(
                (*run, *cursor_in, *cursor_out, *counters),
                (batch.run, batch.cursor_in, batch.cursor_out, batch.counters)
            );
            assert_eq!(
                (*keys_digest, *scanned_ms, *acknowledged_ms),
                (batch.keys_digest, batch.scanned_ms, batch.acknowledged_ms)
            );
            let fields = (
                run,
                cursor_in,
                cursor_out,
                counters,
                keys_digest,
                scanned_ms,
                acknowledged_ms,
                recorded,
            );
            let encoded =
                bincode::serde::encode_to_vec(fields, bincode::config::standard()).unwrap();
            let mut bytes = chain.to_vec();
            bytes.extend(lane.to_le_bytes());
            bytes.extend(number.0.to_le_bytes());
            bytes.extend(number.1.to_le_bytes());
            bytes.extend(encoded);
            chain = *blake3::hash(&bytes).as_bytes();
            assert_eq!(record.chain, chain);
        }
        assert_eq!(store.lanes()[lane as usize].chain, chain);
    }
}

/// How many random histories are tried; `REDKNOT_REPEAT` asks for so many times as many.
const HISTORIES: u32 = 48;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: HISTORIES * u32::try_from(repeat()).unwrap(),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_store_is_a_map_that_survives(ops in prop::collection::vec(op(), 1..30)) {
        let mut machine = Machine::new();
        // Otherwise most operations would find no pass to work on.
        (0..LANES).for_each(|lane| machine.begin_pass(lane));
        for op in &ops {
            machine.apply(op);
            machine.check();
        }
        machine.reopen();
        machine.check();
    }
}
