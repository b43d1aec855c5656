//! How hard a run may press on its servers.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::{Bytes, Time};
use crate::endpoint::Side;

/// What a run keeps to, where anything is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Keys whose values are read, a second.
    pub keys_per_s: Option<u64>,
    /// Bytes of values that are read, a second.
    pub bytes_per_s: Option<u64>,
    /// Round trip that nearly every probe stays below, in microseconds.
    #[serde(default)]
    pub latency_us: Option<u64>,
}

/// What holds a run back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// The source is gone, or asks to come back later.
    Source,
    /// Likewise, the target.
    Target,
    /// `--rate`.
    Rate,
    /// `--bandwidth`.
    Bandwidth,
    /// `--max-latency`.
    Latency,
    /// The target has little memory left.
    Memory,
}

impl HeldBy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Source,
        Self::Target,
        Self::Rate,
        Self::Bandwidth,
        Self::Latency,
        Self::Memory,
    ];

    /// As programs know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Rate => "rate",
            Self::Bandwidth => "bandwidth",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }
}

impl From<Side> for HeldBy {
    fn from(side: Side) -> Self {
        match side {
            Side::Source => Self::Source,
            Side::Target => Self::Target,
        }
    }
}

impl Limits {
    /// See `latency_us`.
    pub fn latency(&self) -> Option<Duration> {
        self.latency_us.map(Duration::from_micros)
    }

    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Limits {
    /// `1000 keys/s, 10MiB/s, latency 5ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys_per_s.map(|keys| format!("{keys} keys/s"));
        let bytes = self.bytes_per_s.map(|bytes| format!("{}/s", Bytes(bytes)));
        let latency = self
            .latency()
            .map(|latency| format!("latency {}", Time(latency)));
        let parts: Vec<String> = keys.into_iter().chain(bytes).chain(latency).collect();
        match parts.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}
