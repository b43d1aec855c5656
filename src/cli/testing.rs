//! Values for the unit tests of this folder.

use redknot::progress::{
    Counters, ExpiriesBy, LaneStatus, PassStatus, RunState, Status, StringsBy, StringsWrittenBy,
    TlsUse,
};

/// A migration in the middle of its second pass.
pub fn status() -> Status {
    let counters = Counters {
        keys_scanned: 8_911_632,
        keys_written: 8_911_220,
        keys_vanished: 412,
        payload_bytes_written: 6_335_076_761,
        ..Counters::default()
    };
    Status {
        v: 1,
        migration: "shop".into(),
        source: "redis://cache.prod:6379".into(),
        target: "redis://10.0.0.9:6379".into(),
        source_tls: TlsUse::None,
        target_tls: TlsUse::None,
        plan: vec![],
        state: RunState::Running,
        end: None,
        completed_ms: None,
        run: 3,
        pid: 4411,
        host: "vm-7".into(),
        run_began_ms: 1_795_356_131_000,
        updated_ms: 1_795_356_190_000,
        lanes: vec![LaneStatus {
            source_db: 0,
            target_db: 0,
            pass: 2,
            cursor: Some(188_414),
            finished: false,
            source_run_id: Some("8867557519e1aaaa".into()),
            target_run_id: None,
            counters,
        }],
        counters,
        batches_durable: 17_822,
        batches_in_flight: 6,
        big_key: None,
        keys_estimate: Some(12_481_903),
        percent: 71.4,
        keys_per_s: 184_000.0,
        bytes_per_s: 100_663_296.0,
        eta_s: Some(19.0),
        checkpoint_ms: Some(1_795_356_189_800),
        retries: 3,
        source_latency_ms: Some(0.9),
        strings_by: Some(StringsBy::Mget),
        strings_written_by: Some(StringsWrittenBy::Set),
        expiries_by: Some(ExpiriesBy::Key),
        functions: None,
        read_window: 64,
        throttle: None,
        throttled_by: None,
        limits: Default::default(),
        evicted_keys: 0,
        passes: vec![
            PassStatus {
                lane: 0,
                pass: 1,
                began_ms: 1_795_355_000_000,
                reason: "first pass".into(),
            },
            PassStatus {
                lane: 0,
                pass: 2,
                began_ms: 1_795_356_131_100,
                reason: "the source restarted".into(),
            },
        ],
        compare: None,
        repair: None,
    }
}
