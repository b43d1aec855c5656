//! The flags of `redknot repair`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{
    SourceArgs, TargetArgs, TimesArgs, WatchArgs, bandwidth, keys, max_latency, max_unavailable,
    rate, timeout,
};

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  redknot repair shop                                     shows what would be done, and sends nothing
  redknot repair shop --apply                             writes missing and differing keys anew
  redknot repair shop --apply --delete-extra --yes 12     also deletes the 12 keys that only the target has

The addresses are those of the migration. Passwords are not stored: redknot help urls.")]
pub struct RepairArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// The source, if its URL is to be given again: it has to be the migration's
    #[arg(
        long,
        env = "REDKNOT_FROM",
        value_name = "URL",
        alias = "source",
        help_heading = "Servers"
    )]
    pub from: Option<OsString>,
    /// The target, likewise
    #[arg(
        long,
        env = "REDKNOT_TO",
        value_name = "URL",
        alias = "target",
        help_heading = "Servers"
    )]
    pub to: Option<OsString>,
    /// File with flags, for example from = "redis://old:6379" and timeout = "9s", one a line; that of migrate will do
    #[arg(
        long,
        env = "REDKNOT_CONFIG",
        value_name = "FILE",
        help_heading = "Servers"
    )]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Refuse to begin if a server on another machine would be spoken to without TLS, or without verifying who it is
    #[arg(long, env = "REDKNOT_REQUIRE_TLS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "Servers")]
    pub require_tls: bool,

    /// Write to the target; without it nothing is sent
    #[arg(long, env = "REDKNOT_APPLY", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "What is done")]
    pub apply: bool,
    /// Also delete keys that only the target has; their number has to be confirmed
    #[arg(long, env = "REDKNOT_DELETE_EXTRA", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "What is done")]
    pub delete_extra: bool,
    /// How many keys --delete-extra deletes, instead of typing it
    #[arg(
        long,
        env = "REDKNOT_YES",
        value_name = "COUNT",
        value_parser = keys,
        allow_negative_numbers = true,
        help_heading = "What is done"
    )]
    pub yes: Option<u64>,
    /// Also write over keys that differ in a migration with --on-conflict skip, where they may be the target's own
    #[arg(long, env = "REDKNOT_OVERWRITE_KEPT", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue, help_heading = "What is done")]
    pub overwrite_kept: bool,

    /// Most findings that are tried, with the unit: 1000/s. Each key is read twice from the source: to be written, and to
    /// be compared once more [default: no limit]
    #[arg(long, env = "REDKNOT_RATE", value_name = "KEYS/s", value_parser = rate, help_heading = "Speed")]
    pub rate: Option<u64>,
    /// Most payload bytes that are read from the source, both times, with their unit: 50MiB/s [default: no limit]
    #[arg(long, env = "REDKNOT_BANDWIDTH", value_name = "SIZE/s", value_parser = bandwidth, help_heading = "Speed")]
    pub bandwidth: Option<u64>,
    /// Round trip that 99 of 100 PINGs stay below on the source and on the target: less is asked of both as soon as they
    /// do not on one of them. Where others use a side, that is 1.2 times what they take without the repair; more than
    /// that is never asked for [default: no limit]
    #[arg(long, env = "REDKNOT_MAX_LATENCY", value_name = "TIME", value_parser = max_latency, help_heading = "Speed")]
    pub max_latency: Option<Duration>,
    /// How long a server may be away before the run ends [default: 10m]
    #[arg(long, env = "REDKNOT_MAX_UNAVAILABLE", value_name = "TIME", value_parser = max_unavailable, help_heading = "Speed")]
    pub max_unavailable: Option<Duration>,
    /// How long a connect, or a server that owes an answer, may take [default: 5s]
    #[arg(long, env = "REDKNOT_TIMEOUT", value_name = "TIME", value_parser = timeout, help_heading = "Speed")]
    pub timeout: Option<Duration>,

    #[command(flatten)]
    pub times: TimesArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
}
