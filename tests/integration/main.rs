//! Table of contents of the integration tests: one binary, so that the support is compiled once.
//!
//! Every test runs against real servers on loopback, each on a free port in a temporary folder, killed by the code that
//! started it. `tests/README.md` says how to run one test and how to choose servers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on panics, and says on stderr what it skips"
)]

/// Servers, data sets, a faulty network, the real binary, and an oracle that knows nothing of redknot.
mod support;

/// The support does what it promises: an oracle that finds nothing would make every other test pass.
mod support_tests;

/// What naive tools get wrong, measured on real servers: the reasons for two of redknot's rules.
mod naive;

/// Properties of the code itself: what may be named where, and how long a file may be.
mod tidy;

/// What is continued, what begins anew, and what is refused after a run has ended.
mod resume;

/// Every type, encoding and kind of name between versions; filters, databases, conflicts.
mod types;

/// Strings by MGET, everything else by DUMP: what arrives is the same.
mod read_with;

/// Big keys, read and written in pieces: the same arrives, or it is said why it can't.
mod pieces;
/// Strings by SET: the same keys arrive as by RESTORE.
mod write_with;

/// Limits that a copy is given: kept to, and shown.
mod limits;

/// Keys that are copied in pieces.
mod big;

/// Expiries: exact, close, never lost, never invented.
mod ttl;

/// Expiries where no key has one: a number stands for all of them.
mod expiries_by;

/// Clusters on either side, resharded and failed over meanwhile.
mod cluster;

/// Libraries of functions, carried and compared beside the keys.
mod functions;

/// Replicas as sources, and as targets not at all.
mod replicas;

/// Services that sentinels watch, on either side, failed over meanwhile.
mod sentinel;

/// Between versions that don't take each other's payloads: all that can arrive does, and the rest is said.
mod convert;

/// Re-encoded payloads mean on each server what they meant on each other.
mod payload_pairs;

/// DUMP payloads of every server, type and encoding: recorded ones, and what the decoder says of them.
mod payloads;

/// Which databases and names a plan means: copied, compared and repaired alike.
mod plan;

/// `compare`: what is equal, what is found, what is continued.
mod compare_basics;

/// Are both sides equal, what differs, and made right: `compare`, `repair`, `keys`.
mod compare;

/// What a comparison found is made right, and nothing else.
mod repair;

/// `audit report`: its figures, how it looks, and what names can do in it.
mod report;

/// Users with few rights: what they need, what they lack, what they may not read.
mod acl;

/// TLS: who is believed, who is not, and that nothing is said in the clear after it failed.
mod tls;

/// Bad days of networks and servers.
mod faults;

/// What is recorded: shown, checked, exported, and a lost state made anew from it.
mod audit;

/// What commands were told, whom they met, and what was served for them, in the journal.
mod told;

/// What other programs read and are told: events as JSON, metrics, hooks, the log.
mod machines;

/// The command line: messages, exit codes, progress, signals, `status`, `rump`, `demo`.
mod cli;
