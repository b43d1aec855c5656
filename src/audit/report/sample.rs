//! A report to test with: a migration that was killed, met another source, and was compared.

use super::model::*;
use super::verdict::{Verdict, verdict};
use crate::audit::entry::Origin;
use crate::progress::{
    Arrived, BothLive, CompareCounters, ComparedLives, Counters, Drift, KeyKind, Life, Makeup,
    TlsUse,
};

const HOUR: u64 = 3_600_000;
/// 2026-11-22 12:00 UTC.
const NOON: u64 = 1_795_348_800_000;

fn counters(keys: u64, vanished: u64) -> Counters {
    Counters {
        keys_scanned: keys + vanished,
        keys_written: keys,
        keys_vanished: vanished,
        payload_bytes_written: keys * 700,
        ..Counters::default()
    }
}

fn run(run: u32, from: u64, to: u64, end: RunEnd, how: &str, work: &str) -> Run {
    Run {
        run,
        began_ms: NOON + from,
        ended_ms: NOON + to,
        end,
        how: how.into(),
        work: vec![work.into()],
        user: "ada".into(),
        host: "vm-7".into(),
        pid: 4400 + run,
        version: "0.1.0".into(),
    }
}

fn process(version: &str, run_id: &str, since: u64) -> Process {
    Process {
        version: version.into(),
        run_id: Some(run_id.repeat(5)),
        since_ms: NOON + since,
        role: Some("master".into()),
        masters: None,
        certificate_sha256: None,
    }
}

fn pass(pass: u32, from: u64, to: u64, reason: &str, superseded: bool, keys: u64) -> Pass {
    Pass {
        db: 0,
        pass,
        began_ms: NOON + from,
        ended_ms: NOON + to,
        reason: reason.into(),
        superseded,
        counters: counters(keys, 412),
    }
}

/// Every key of the makeup, by type, typical size and spread.
fn makeup(keys: u64) -> Makeup {
    let kinds = [
        (KeyKind::String, 62, 5..10),
        (KeyKind::Hash, 21, 6..14),
        (KeyKind::Zset, 9, 7..20),
        (KeyKind::Set, 5, 5..12),
        (KeyKind::List, 2, 8..18),
        (KeyKind::Stream, 1, 12..24),
    ];
    let lives = [
        Life::Forever,
        Life::Day,
        Life::Week,
        Life::Hour,
        Life::Forever,
        Life::Month,
        Life::Forever,
    ];
    let mut all = Makeup::default();
    let mut left = keys;
    for (kind, share, sizes) in kinds {
        let middle = u64::midpoint(sizes.start, sizes.end);
        let weights: u64 = sizes
            .clone()
            .map(|size| 60 / (1 + middle.abs_diff(size)))
            .sum();
        for (at, size) in sizes.enumerate() {
            let part = keys * share / 100 * (60 / (1 + middle.abs_diff(size))) / weights;
            left -= part;
            let arrived = Arrived {
                payload_bytes: 1 << size,
                kind,
                life: lives[at % lives.len()],
            };
            all.add(&Makeup::of(arrived, part));
        }
    }
    let rest = Arrived {
        payload_bytes: 60,
        kind: KeyKind::String,
        life: Life::Forever,
    };
    all.add(&Makeup::of(rest, left));
    all
}

fn lives(makeup: &Makeup) -> ComparedLives {
    let mut lives = ComparedLives::default();
    for count in makeup.lives() {
        for at in 0..count.1 / 1000 {
            let drift = if at % 9 == 0 && count.0 != Life::Forever {
                Drift::Millisecond
            } else {
                Drift::None
            };
            lives.count(BothLive {
                sides: [count.0; 2],
                drift,
            });
        }
    }
    lives
}

fn curve() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (from, to) in [(0, 38), (46, 130), (131, 260)] {
        for second in from + 1..to {
            let wave = (second as f64 / 7.0).sin();
            samples.push(Sample {
                at_ms: NOON + second * 1000,
                keys_per_s: 48_000.0 + 6_000.0 * wave,
                bytes_per_s: 33e6 + 5e6 * wave,
                latency_ms: Some(1.1 + wave / 2.0),
                over_ms: 1000,
            });
        }
    }
    samples
}

/// The report.
pub fn report() -> Report {
    let keys = 12_481_903;
    let makeup = makeup(keys);
    let compared = CompareCounters {
        keys_scanned: keys + 12,
        keys_compared: keys,
        equal: keys,
        equal_other_bytes: 1_204_551,
        settled: 18,
        settled_ms_max: 2100,
        vanished: 12,
        target_keys_scanned: keys,
        ..CompareCounters::default()
    };
    let mut report = Report {
        v: REPORT_VERSION,
        made_ms: NOON + HOUR,
        made_by: "0.1.0".into(),
        redact_keys: Redaction::None,
        migration: "shop-7f3a".into(),
        verdict: Verdict::default(),
        phase: Phase::Copied,
        running: false,
        source: Side {
            address: "cache.prod.example.com:6379".into(),
            tls: Some(TlsUse::Verified),
            processes: vec![
                process("redis 6.2.14", "8867557519", 0),
                process("redis 6.2.14", "a00cd1e1f7", 46_000),
            ],
            served: Served {
                commands: vec![
                    ("pexpiretime".into(), 12_482_315),
                    ("dump".into(), 4_743_122),
                    ("scan".into(), 24_965),
                    ("mget".into(), 30_231),
                ],
                runs: vec![2, 3],
                nodes: Vec::new(),
                unknown: vec![(1, "it died before it could ask".into())],
            },
        },
        target: Side {
            address: "10.0.0.9:6379".into(),
            tls: Some(TlsUse::None),
            processes: vec![process("valkey 8.0.1", "4be1900a41", 0)],
            served: Served {
                commands: Vec::new(),
                runs: Vec::new(),
                nodes: vec![
                    ("10.0.0.9:6379".into(), 9_001),
                    ("10.0.0.10:6379".into(), 8_774),
                ],
                unknown: (1..=3)
                    .map(|run| (run, "it does not tell (INFO commandstats)".into()))
                    .collect(),
            },
        },
        settings: vec![
            setting("--from", "cache.prod.example.com:6379", Origin::Flag),
            setting("--to", "10.0.0.9:6379", Origin::Flag),
            setting("--match", "user:*", Origin::File),
            setting("--on-conflict", "require-empty", Origin::Default),
            setting("--batch", "500", Origin::Environment),
        ],
        settings_of: vec![CommandSettings {
            command: "redknot compare".into(),
            settings: vec![setting("--settle", "2s", Origin::File)],
        }],
        fingerprint: "7f3a".repeat(16),
        created_ms: NOON,
        completed_ms: Some(NOON + 260_000),
        runs: vec![
            run(1, 0, 38_000, RunEnd::Died, "", "copy"),
            run(
                2,
                46_000,
                130_000,
                RunEnd::Stopped,
                "stopped by SIGTERM",
                "copy",
            ),
            run(3, 131_000, 260_000, RunEnd::Done, "complete", "copy"),
            run(4, 300_000, 492_000, RunEnd::Done, "compared", "compare"),
        ],
        passes: vec![
            pass(
                1,
                0,
                44_000,
                "database 0 has not been scanned yet",
                true,
                1_840_200,
            ),
            pass(
                2,
                46_000,
                260_000,
                "the source is another process (run_id 8867557519e1 before, a00cd1e1f7b2 now), and the cursor is dead",
                false,
                keys,
            ),
        ],
        waits: vec![
            Wait {
                from_ms: NOON + 60_000,
                to_ms: NOON + 64_000,
                side: "target".into(),
                reason: "OOM command not allowed when used memory > 'maxmemory'".into(),
            },
            Wait {
                from_ms: NOON + 200_000,
                to_ms: NOON + 200_400,
                side: "source".into(),
                reason: "the connection was closed".into(),
            },
        ],
        waits_total: 2,
        counters: counters(keys, 412),
        lanes: vec![Lane {
            source_db: 0,
            target_db: 0,
            pass: 2,
            counters: counters(keys, 412),
        }],
        curve: curve(),
        compares: vec![Compare {
            compare: 1,
            began_ms: NOON + 300_000,
            ended_ms: Some(NOON + 492_000),
            sample: None,
            one_way: false,
            recorded: false,
            outdated: false,
            counters: compared,
            lives: Some(lives(&makeup)),
            source_digest: "90aa".repeat(16),
            target_digest: "90aa".repeat(16),
            not_compared: Vec::new(),
        }],
        makeup,
        repairs: Vec::new(),
        quarantined: list("quarantined"),
        findings: list("findings"),
        not_compared: Vec::new(),
        remarks: Vec::new(),
        chain: Chain {
            lines: 231,
            root: "c0ffee42".repeat(8),
            lanes: vec![(0, "5eed0b1a".repeat(8))],
            torn: false,
        },
    };
    report.verdict = verdict(&report);
    report
}

fn setting(name: &str, value: &str, origin: Origin) -> Setting {
    Setting {
        name: name.into(),
        value: value.into(),
        origin,
    }
}

fn list(class: &str) -> KeyList {
    KeyList {
        total: Some(0),
        keys: Vec::new(),
        command: format!("redknot keys shop-7f3a --class {class}"),
    }
}
