//! What may be asked for, what is assumed if nothing is said, and why.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Keys asked of one SCAN. A larger batch means more work again after a crash, a smaller one more round trips.
pub const BATCH_KEYS: RangeInclusive<u32> = 1..=100_000;
/// See [`BATCH_KEYS`]: enough that a checkpoint costs nothing, little enough that a SCAN takes well below a millisecond.
pub const BATCH_KEYS_DEFAULT: u32 = 500;

/// Connections to the target. Redis executes on one thread: more than a few only help against latency.
pub const CONNECTIONS: RangeInclusive<u32> = 1..=16;
/// See [`CONNECTIONS`].
pub const CONNECTIONS_DEFAULT: u32 = 1;

/// Payload bytes in memory. The upper end is a guard against a slip of the unit, not a limit of the copy.
pub const IN_FLIGHT_BYTES: RangeInclusive<u64> = MIB..=64 * GIB;
/// See [`IN_FLIGHT_BYTES`]: half of the 64 MiB that a process may take beside its largest payload.
pub const IN_FLIGHT_BYTES_DEFAULT: u64 = 32 * MIB;

/// Memory of a key from which on it is copied in pieces. Below the lower end a key is smaller than what it costs to begin one.
pub const BIG_KEY: RangeInclusive<u64> = 16 * 1024..=64 * GIB;
/// See [`BIG_KEY`]: DUMP of a hash of this size keeps the source from serving anybody else for about 100 ms.
pub const BIG_KEY_DEFAULT: u64 = 8 * MIB;

/// The same of a key that is compared in pieces: as many bytes as somebody likes to try it with.
pub const BIG_KEY_COMPARED: RangeInclusive<u64> = 1..=64 * GIB;

/// Keys a second. The upper end is more than any one server reads.
pub const KEYS_PER_S: RangeInclusive<u64> = 1..=100_000_000;

/// Bytes a second. Below the lower end a single value takes minutes.
pub const BYTES_PER_S: RangeInclusive<u64> = 1024..=1024 * GIB;

/// Round trip that the source's other clients may feel. Below the lower end it is the machine that is measured.
pub const MAX_LATENCY: RangeInclusive<Duration> =
    Duration::from_micros(100)..=Duration::from_secs(10);

/// How long a server may be away before the run ends. Zero ends it at once.
pub const MAX_UNAVAILABLE: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(7 * 24 * 3600);
/// See [`MAX_UNAVAILABLE`]: longer than a failover or the loading of a large file.
pub const MAX_UNAVAILABLE_DEFAULT: Duration = Duration::from_secs(600);

/// How long a connect, or a server that owes an answer, may take.
pub const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// See [`TIMEOUT`]: far above any network's round trip, and twice of it is what a stall may cost.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How long batches in flight may take to end after the first Ctrl-C.
pub const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// See [`GRACE`]: within the 30 seconds that Kubernetes, or the 20 that our systemd unit, grants.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// How long a run may take until it ends itself. Less than a second would end most before they have connected.
pub const MAX_DURATION: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// How long a key that differs is left alone before it is read again. Zero reads it again at once.
pub const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// See [`SETTLE`]: longer than a write takes to reach the other side by any way that keeps up.
pub const SETTLE_DEFAULT: Duration = Duration::from_secs(1);

/// How far instants of expiry may lie apart.
pub const TTL_TOLERANCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// See [`TTL_TOLERANCE`]: what two clocks that are called synchronous may differ by.
pub const TTL_TOLERANCE_DEFAULT: Duration = Duration::from_secs(1);

/// How long a run may make no progress until the hook on-stall is run.
pub const STALL_AFTER: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// See [`STALL_AFTER`]: longer than a failover takes, and than a server is busy with one huge key.
pub const STALL_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// How long a hook may run.
pub const HOOK_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// See [`HOOK_TIMEOUT`]: enough to send a message somewhere, little enough to be waited for at the end.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Databases. SELECT takes no higher number; how many there are, the server says.
pub const DB: RangeInclusive<u32> = 0..=crate::endpoint::url::DB_MAX;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

const _: () = {
    assert!(*BATCH_KEYS.start() <= BATCH_KEYS_DEFAULT && BATCH_KEYS_DEFAULT <= *BATCH_KEYS.end());
    assert!(
        *CONNECTIONS.start() <= CONNECTIONS_DEFAULT && CONNECTIONS_DEFAULT <= *CONNECTIONS.end()
    );
    assert!(*IN_FLIGHT_BYTES.start() <= IN_FLIGHT_BYTES_DEFAULT);
    assert!(IN_FLIGHT_BYTES_DEFAULT <= *IN_FLIGHT_BYTES.end());
    // A server that is silent for one time limit must not at once be one that is away for too long.
    assert!(TIMEOUT_DEFAULT.as_secs() < MAX_UNAVAILABLE_DEFAULT.as_secs());
};
