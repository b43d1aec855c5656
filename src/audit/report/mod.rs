//! The report of a migration, for people and for programs: what was moved, when, from where, and proven how.
//!
//! [`model`] is all that it tells, [`build`] makes it of the journal, [`html`] and [`markdown`] show it.
//!
//! # Invariants
//!
//! - Nothing in here asks a server or reads a clock: the same journal and lists give the same report.
//! - The page is one file that loads nothing and runs nothing. What comes from servers is escaped by the templates, and
//!   has been made visible before.

pub mod build;
mod curve;
pub mod html;
pub mod markdown;
pub mod model;
mod plot;
mod redact;
#[cfg(test)]
mod sample;
mod show;
pub mod verdict;

pub use model::{Redaction, Report};
pub use verdict::verdict;

/// `report` as `report.json`.
pub fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report has only string keys");
    text.push('\n');
    text
}
