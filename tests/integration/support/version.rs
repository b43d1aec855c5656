//! Named versions of servers, and where their binaries are.
//!
//! # Invariant
//!
//! A test that needs a server never passes silently without it: [`require`] fails where `CI=true`, and elsewhere says
//! what was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One server version that tests ask for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Folder under `.servers/`.
    pub name: &'static str,
    /// File name of the binary.
    pub program: &'static str,
    /// How the version in its answer to `--version` begins.
    pub version: &'static str,
    /// Knows PEXPIRETIME and keeps `entries-added` and `entries-read` in streams.
    pub knows_pexpiretime: bool,
    /// Fields of a hash can expire, each for itself.
    pub knows_field_ttl: bool,
}

/// Stamps payloads with RDB version 9.
pub const REDIS_6_0: Kind = Kind {
    name: "redis-6.0",
    program: "redis-server",
    version: "6.0.",
    knows_pexpiretime: false,
    knows_field_ttl: false,
};

/// Stamps payloads with RDB version 9.
pub const REDIS_6_2: Kind = Kind {
    name: "redis-6.2",
    version: "6.2.",
    ..REDIS_6_0
};

/// The one of Debian 12. Stamps payloads with RDB version 10.
pub const REDIS_7_0: Kind = Kind {
    name: "redis-7.0",
    version: "7.0.",
    knows_pexpiretime: true,
    ..REDIS_6_0
};

/// The one of Debian 13. Stamps payloads with RDB version 12.
pub const REDIS_8_0: Kind = Kind {
    name: "redis-8.0",
    version: "8.0.",
    knows_field_ttl: true,
    ..REDIS_7_0
};

/// Stamps payloads with RDB version 12.
pub const REDIS_8_2: Kind = Kind {
    name: "redis-8.2",
    version: "8.2.",
    ..REDIS_8_0
};

/// Stamps payloads with RDB version 11; calls itself redis 7.2.4 in INFO, with a `valkey_version` beside it.
pub const VALKEY_8_1: Kind = Kind {
    name: "valkey-8.1",
    program: "valkey-server",
    version: "8.1.",
    ..REDIS_7_0
};

/// Stamps payloads with RDB version 80, and is the first with `hash-seed`.
pub const VALKEY_9_1: Kind = Kind {
    name: "valkey-9.1",
    version: "9.1.",
    knows_field_ttl: true,
    ..VALKEY_8_1
};

/// Every kind there is, oldest first.
pub const ALL: [Kind; 7] = [
    REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
];

/// A server binary whose version has been checked.
#[derive(Debug, Clone)]
pub struct Binary {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
}

/// The binary of `kind`, or `None` after a line that says what is skipped.
///
/// # Panics
///
/// Where `CI=true` and the binary is missing: a test that did not run must not look like one that passed.
pub fn require(kind: Kind) -> Option<Binary> {
    if let Some(path) = find(kind) {
        return Some(Binary { kind, path });
    }
    let missing = format!(
        "{} {}x is not here; `make setup` gets it",
        kind.program, kind.version
    );
    assert!(
        !std::env::var("CI").is_ok_and(|ci| ci == "true"),
        "{missing}"
    );
    eprintln!("skipped: {missing}");
    None
}

/// A binary of `kind` that speaks TLS, or `None` after a line that says what is skipped. The wheels are built without.
///
/// # Panics
///
/// As [`require`].
pub fn require_tls(kind: Kind) -> Option<Binary> {
    let binary = require(kind)?;
    // It ends at once, because of the setting that it does not know or because of the folder that is not there.
    let output = Command::new(&binary.path)
        .args(["--tls-port", "1", "--dir", "/nonexistent/folder"])
        .output()
        .expect("a binary that has just told its version");
    let said = [output.stdout, output.stderr].concat();
    if String::from_utf8_lossy(&said).contains("/nonexistent/folder") {
        return Some(binary);
    }
    let missing = format!("{} is built without TLS", binary.path.display());
    assert!(
        !std::env::var("CI").is_ok_and(|ci| ci == "true"),
        "{missing}"
    );
    eprintln!("skipped: {missing}");
    None
}

/// Looks in `$REDKNOT_SERVERS_DIR` (or `.servers/` of the project), then in the search path.
fn find(kind: Kind) -> Option<PathBuf> {
    let servers = std::env::var_os("REDKNOT_SERVERS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".servers"),
        PathBuf::from,
    );
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(servers.join(kind.name))
        .chain(std::env::split_paths(&search_path))
        .map(|folder| folder.join(kind.program))
        .find(|path| is_of_version(path, kind.version))
}

/// Whether the program says `v=<version>…`, as in `Redis server v=7.0.15 sha=…`.
fn is_of_version(path: &Path, version: &str) -> bool {
    let Ok(output) = Command::new(path).arg("--version").output() else {
        return false;
    };
    String::from_utf8_lossy(&output.stdout).contains(&format!(" v={version}"))
}
