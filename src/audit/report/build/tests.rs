//! Journals made by hand, and what is told of them.

use super::*;
use crate::audit::entry::{ServerSeen, ThrottleKind};
use crate::audit::report::model::{Chain, Phase, Redaction, Report};
use crate::audit::report::verdict::VerdictKind;
use crate::plan::{FieldTtl, LanePlan, OnConflict, TtlPolicy};
use crate::progress::{CompareCounters, RepairCounters, TlsUse, Verdict};

fn plan() -> Plan {
    let lane = |db| LanePlan {
        source_db: db,
        target_db: db,
    };
    Plan {
        source: "old:6379".into(),
        target: "new:6379".into(),
        lanes: vec![lane(0), lane(3)],
        match_glob: Some(b"user:*".to_vec()),
        types: vec![],
        on_conflict: OnConflict::RequireEmpty,
        ttl: TtlPolicy::Keep,
        field_ttl: FieldTtl::Quarantine,
        ..Plan::default()
    }
}

/// A journal whose lines come a second apart.
struct Told {
    builder: Builder,
    now_ms: u64,
}

impl Told {
    fn new() -> Self {
        let mut told = Self {
            builder: Builder::default(),
            now_ms: 0,
        };
        told.line(Event::Created {
            format: 3,
            version: "0.1.0".into(),
            migration: "shop".into(),
            fingerprint: "ab".into(),
            plan: Box::new(plan()),
        });
        told
    }

    fn line(&mut self, event: Event) -> &mut Self {
        self.now_ms += 1000;
        self.builder.learn(self.now_ms, event);
        self
    }

    fn run(&mut self, run: u32) -> &mut Self {
        self.line(Event::RunBegan {
            run,
            pid: 7,
            host: "vm".into(),
            version: "0.1.0".into(),
            user: "ada".into(),
            command: "redknot migrate".into(),
            durability: "fsync".into(),
        })
    }

    fn ended(&mut self, run: u32, end: EndKind) -> &mut Self {
        self.line(Event::RunEnded {
            run,
            how: "so".into(),
            end,
            class: None,
        })
    }

    fn pass(&mut self, lane: u32, pass: u32) -> &mut Self {
        self.line(Event::PassBegan {
            lane,
            pass,
            run: 1,
            reason: "because".into(),
            source_run_id: Some("s".into()),
            target_run_id: Some("t".into()),
        })
    }

    fn checkpoint(&mut self, lane: u32, pass: u32, batches: u64) -> &mut Self {
        let counters = Counters {
            keys_scanned: batches * 10,
            keys_written: batches * 10,
            ..Counters::default()
        };
        self.line(Event::Checkpoint {
            lanes: vec![Milestone {
                lane,
                pass,
                next_seq: batches,
                chain: format!("{lane}{pass}{batches}"),
                cursor: Some(1),
                counters,
                makeup: Box::default(),
                counters_of_all_passes: counters,
            }],
            sample: None,
        })
    }

    fn copied(&mut self) -> &mut Self {
        self.line(Event::Completed {
            counters: Counters::default(),
        })
    }

    fn compared(&mut self, compare: u32, counters: CompareCounters) -> &mut Self {
        self.line(Event::CompareStarted {
            compare,
            run: 1,
            sample: None,
            seed: None,
            one_way: false,
            recorded: false,
            copied: vec![],
        });
        self.line(Event::Compared {
            compare,
            run: 1,
            counters,
            source_digest: "d".into(),
            target_digest: "d".into(),
            not_compared: vec![],
            lives: Box::default(),
        })
    }

    fn report(&mut self, running: bool) -> Report {
        let rest = Rest {
            made_ms: self.now_ms,
            made_by: "0.1.0".into(),
            running,
            lists: None,
            chain: Chain {
                lines: 1,
                root: "r".into(),
                lanes: vec![],
                torn: false,
            },
            redact_keys: Redaction::None,
        };
        let told = std::mem::take(&mut self.builder);
        told.finish(rest).expect("the plan is known")
    }
}

#[test]
fn a_run_without_an_end_died_or_is_at_work() {
    let check = |running: bool, wanted: [RunEnd; 3]| {
        let mut told = Told::new();
        told.run(1).pass(0, 1).checkpoint(0, 1, 4);
        told.run(2).ended(2, EndKind::Stopped);
        told.run(3);
        let report = told.report(running);
        assert_eq!([0, 1, 2].map(|run| report.runs[run].end), wanted);
        assert_eq!(report.runs[0].ended_ms, 4000, "when it was last heard of");
        assert_eq!(report.verdict.kind, VerdictKind::Incomplete);
        assert_eq!(report.phase, Phase::Copying);
    };
    check(false, [RunEnd::Died, RunEnd::Stopped, RunEnd::Died]);
    check(true, [RunEnd::Died, RunEnd::Stopped, RunEnd::Running]);
}

#[test]
fn sums_are_of_the_present_passes_and_given_up_ones_are_told() {
    let mut told = Told::new();
    told.run(1).pass(0, 1).checkpoint(0, 1, 50);
    told.pass(0, 2).checkpoint(0, 2, 7);
    told.pass(1, 1).checkpoint(1, 1, 3).copied();
    // Asked for, after everything was copied: the pass before it counted.
    told.pass(0, 3).checkpoint(0, 3, 8);
    let report = told.report(false);
    assert_eq!(report.counters.keys_written, 110);
    let lanes: Vec<_> = report
        .lanes
        .iter()
        .map(|lane| (lane.source_db, lane.pass))
        .collect();
    assert_eq!(lanes, [(0, 3), (3, 1)]);
    let given_up: Vec<bool> = report.passes.iter().map(|pass| pass.superseded).collect();
    assert_eq!(given_up, [true, false, false, false]);
    assert_eq!(report.passes[0].counters.keys_written, 500);
    assert_eq!(
        report.chain.lanes,
        [(0, "038".to_owned()), (3, "113".to_owned())]
    );
    assert_eq!(report.phase, Phase::Copying);
}

#[test]
fn a_comparison_is_outdated_by_keys_that_are_copied_after_it_began() {
    let equal = CompareCounters {
        keys_scanned: 40,
        keys_compared: 40,
        equal: 40,
        ..CompareCounters::default()
    };
    let mut told = Told::new();
    told.run(1).pass(0, 1).checkpoint(0, 1, 4).copied();
    told.compared(1, equal);
    // Told once more, as on every opening: nothing has moved.
    told.checkpoint(0, 1, 4);
    let report = told.report(false);
    assert_eq!(
        report.verdict.kind,
        VerdictKind::Equal,
        "{:?}",
        report.verdict
    );
    assert!(report.not_compared.is_empty());

    let mut told = Told::new();
    told.run(1).pass(0, 1).checkpoint(0, 1, 4).copied();
    told.compared(1, equal).checkpoint(0, 1, 5);
    let report = told.report(false);
    assert_eq!(
        report.verdict.kind,
        VerdictKind::Outdated,
        "{:?}",
        report.verdict
    );
    assert_eq!(report.not_compared.len(), 1);
}

#[test]
fn findings_are_those_of_the_newest_comparison_and_only_the_state_knows_repaired_ones() {
    let differing = CompareCounters {
        keys_scanned: 40,
        keys_compared: 40,
        equal: 38,
        value: 2,
        ..CompareCounters::default()
    };
    let finding = |compare: u32, key: &[u8]| Event::Finding {
        compare,
        lane: 1,
        key: String::new(),
        key_hex: entry::hex(key),
        key_bytes: key.len() as u64,
        verdict: Verdict::Value,
        key_type: "hash".into(),
        detail: "field \"a\"".into(),
    };
    let mut told = Told::new();
    told.run(1).pass(0, 1).copied();
    told.compared(1, differing).line(finding(1, b"old"));
    told.line(Event::CompareStarted {
        compare: 2,
        run: 1,
        sample: None,
        seed: None,
        one_way: false,
        recorded: false,
        copied: vec![],
    });
    told.line(finding(2, b"new"));
    told.line(Event::Compared {
        compare: 2,
        run: 1,
        counters: differing,
        source_digest: String::new(),
        target_digest: String::new(),
        not_compared: vec![],
        lives: Box::default(),
    });
    let report = told.report(false);
    assert_eq!(report.verdict.kind, VerdictKind::Different);
    assert_eq!(
        report.findings.total,
        Some(2),
        "those of which the names are not told count"
    );
    let [listed] = report.findings.keys.as_slice() else {
        panic!("{:?}", report.findings);
    };
    assert_eq!((listed.key.as_str(), listed.db), ("new", 3));

    let mut told = Told::new();
    told.run(1).pass(0, 1).copied().compared(1, differing);
    told.line(Event::RepairStarted {
        repair: 1,
        compare: 1,
        run: 1,
        findings: 2,
        delete: None,
    });
    told.line(Event::Repaired {
        repair: 1,
        compare: 1,
        run: 1,
        counters: RepairCounters::default(),
        findings_left: 0,
    });
    let report = told.report(false);
    assert_eq!(report.findings.total, None);
    assert_eq!(report.verdict.kind, VerdictKind::Repaired);
    assert_eq!(report.repairs.len(), 1);
    assert_eq!(report.runs[0].work, ["copy", "compare", "repair"]);
}

#[test]
fn servers_waits_and_what_was_served_are_told_once() {
    let server = |run_id: &str, tls| Event::Server {
        run: 1,
        side: endpoint::Side::Source,
        server: Box::new(ServerSeen {
            version: "redis 7.0.15\u{202e}".into(),
            run_id: Some(run_id.into()),
            tls,
            ..ServerSeen::default()
        }),
    };
    let served = |run, calls: u64| Event::Served {
        run,
        side: endpoint::Side::Source,
        node: None,
        calls: [("dump".to_owned(), calls)].into(),
        unknown: None,
    };
    let mut told = Told::new();
    told.run(1).line(server("s", TlsUse::None)).pass(0, 1);
    told.line(Event::ThrottleBegan {
        side: endpoint::Side::Target,
        kind: ThrottleKind::Refused,
        reason: "OOM".into(),
    });
    told.line(served(1, 5));
    // It dies waiting, and the next run meets another process.
    told.run(2).line(server("s2", TlsUse::Verified));
    told.line(Event::ThrottleEnded {
        side: endpoint::Side::Source,
        kind: ThrottleKind::Lost,
        reason: "closed".into(),
        began_ms: 8200,
        waited_ms: 100,
        waits: 1,
        attempts: 1,
    });
    told.line(served(2, 7)).ended(2, EndKind::Complete);
    let report = told.report(false);
    let run_ids: Vec<_> = report
        .source
        .processes
        .iter()
        .map(|process| process.run_id.as_deref())
        .collect();
    assert_eq!(run_ids, [Some("s"), Some("s2")]);
    assert_eq!(
        report.source.processes[0].version,
        "redis 7.0.15\\xe2\\x80\\xae"
    );
    assert_eq!(report.source.tls, Some(TlsUse::Verified));
    assert_eq!(report.source.served.commands, [("dump".to_owned(), 12)]);
    assert_eq!(report.source.served.runs, [1, 2]);
    assert_eq!(
        report.target.served.unknown.len(),
        1,
        "run 2 has not touched a key"
    );
    let waits: Vec<_> = report
        .waits
        .iter()
        .map(|wait| (wait.side.as_str(), wait.from_ms))
        .collect();
    assert_eq!(waits, [("target", 5000), ("source", 8200)]);
    assert_eq!(report.waits_total, 2);
}
