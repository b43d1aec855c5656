//! The flags of `redknot audit`.

use std::path::PathBuf;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use redknot::audit::report::Redaction;

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// What was done, in order; works beside a running migration
    Show(ShowArgs),
    /// What was moved, when, from where, and proven how: a page to look at, to print and to send; or Markdown, or JSON
    Report(ReportArgs),
    /// Recompute every figure and both chains of hashes; name what does not fit. Exit code 0: everything fits
    Check(CheckArgs),
    /// Every batch as a line of JSON, or the quarantined and differing keys as CSV
    Export(ExportArgs),
    /// Make a lost or damaged state anew from the journal; a state that can be opened is left alone
    Rebuild(RebuildArgs),
    /// All migrations and what became of them, as redknot status shows them
    List,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// Every milestone, not only the newest of several that follow each other
    #[arg(long, env = "REDKNOT_ALL", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  redknot audit export shop > batches.ndjson
  redknot audit export shop --findings > keys.csv

In the CSV, a text that a spreadsheet would take for a formula begins with an apostrophe; key_hex is always as it is.")]
pub struct ExportArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// The keys that were quarantined or differ, as CSV
    #[arg(long, env = "REDKNOT_FINDINGS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub findings: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What was made durable after the journal's last milestone, a few seconds at most, is copied again.
A lane goes on only between the same two server processes; otherwise it is scanned from its beginning.
What is left of the old state is set aside, not deleted."
)]
pub struct RebuildArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  redknot audit report shop --out shop.html
  redknot audit report shop --md
  redknot audit report shop --json | jq .verdict.line
  redknot audit report shop --redact-keys hash --out shop.html

Neither server is needed. Beside a run that is at work, it tells what is known until now.")]
pub struct ReportArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// As one HTML file that needs nothing else; this is the default, --json is the third form
    #[arg(long, env = "REDKNOT_HTML", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub html: bool,
    /// As Markdown
    #[arg(long, env = "REDKNOT_MD", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub md: bool,
    /// Write it there instead of to standard output
    #[arg(long, env = "REDKNOT_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How names of keys are shown: as they are; by their hash; by what comes before the first colon, and their hash
    /// [default: none]
    #[arg(long, env = "REDKNOT_REDACT_KEYS", value_name = "HOW", value_parser = redaction())]
    pub redact_keys: Option<Redaction>,
}

fn redaction() -> impl TypedValueParser<Value = Redaction> {
    PossibleValuesParser::new(["none", "hash", "prefix"]).map(|how| match how.as_str() {
        "hash" => Redaction::Hash,
        "prefix" => Redaction::Prefix,
        _ => Redaction::None,
    })
}
