//! The flags that say which databases and keys are meant, and what they are called on the target.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use redknot::plan::LanePlan;
use redknot::renaming::DbPrefix;
use redknot::selection::{Shard, ShardError};

use super::db;

/// Beside `--db`, `--match` and `--type`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Databases and names (redknot help selection)")]
pub struct SelectionArgs {
    /// All databases of the source that hold keys when the migration is created
    #[arg(long, env = "REDKNOT_ALL_DBS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub all_dbs: bool,
    /// Databases that get another number on the target: 3:0,5:1, and *:0 for all others
    #[arg(long, env = "REDKNOT_DB_MAP", value_name = "LIST", value_delimiter = ',', value_parser = mapped,
        allow_hyphen_values = true)]
    pub db_map: Vec<Mapped>,
    /// No keys whose name matches this pattern; may be given several times
    #[arg(long, env = "REDKNOT_EXCLUDE", value_name = "GLOB")]
    pub exclude: Vec<OsString>,
    /// Only the keys that this file names, one a line, escaped as redknot keys prints them; `-` is standard input. Nothing is scanned
    #[arg(long, env = "REDKNOT_KEYS_FROM", value_name = "FILE")]
    pub keys_from: Option<PathBuf>,
    /// The names of --keys-from are as they are, each followed by a NUL
    #[arg(short = '0', long, env = "REDKNOT_KEYS_FROM0", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub keys_from0: bool,
    /// Only the k-th of n parts that together are all keys, for example 3/8
    #[arg(long, env = "REDKNOT_SHARD", value_name = "K/N", value_parser = shard, allow_hyphen_values = true)]
    pub shard: Option<Shard>,
    /// Only keys whose name begins like this; the target's names do without
    #[arg(long, env = "REDKNOT_STRIP_PREFIX", value_name = "TEXT")]
    pub strip_prefix: Option<OsString>,
    /// Goes in front of every name on the target
    #[arg(long, env = "REDKNOT_PREFIX", value_name = "TEXT")]
    pub prefix: Option<OsString>,
    /// Goes in front of the names of each database, so that several can share one: {db} is its number [default, given
    /// without a value: db{db}:]
    #[arg(long, env = "REDKNOT_DB_PREFIX", value_name = "TEXT", num_args = 0..=1, require_equals = true,
        default_missing_value = DbPrefix::DEFAULT)]
    pub db_prefix: Option<OsString>,
}

impl SelectionArgs {
    /// Every flag as said here, or else as said in `other`.
    pub fn or(self, other: Self) -> Self {
        // Taken apart, so that a new flag does not compile until it is merged.
        let Self {
            all_dbs,
            db_map,
            exclude,
            keys_from,
            keys_from0,
            shard,
            strip_prefix,
            prefix,
            db_prefix,
        } = self;
        let or = |ours: Vec<OsString>, theirs| if ours.is_empty() { theirs } else { ours };
        Self {
            all_dbs: all_dbs || other.all_dbs,
            db_map: if db_map.is_empty() {
                other.db_map
            } else {
                db_map
            },
            exclude: or(exclude, other.exclude),
            keys_from: keys_from.or(other.keys_from),
            keys_from0: keys_from0 || other.keys_from0,
            shard: shard.or(other.shard),
            strip_prefix: strip_prefix.or(other.strip_prefix),
            prefix: prefix.or(other.prefix),
            db_prefix: db_prefix.or(other.db_prefix),
        }
    }

    /// The first of these flags that is given, for a command that has to do without.
    pub fn first_given(&self) -> Option<&'static str> {
        let Self {
            all_dbs,
            db_map,
            exclude,
            keys_from,
            keys_from0,
            shard,
            strip_prefix,
            prefix,
            db_prefix,
        } = self;
        let given = [
            (*all_dbs, "--all-dbs"),
            (!db_map.is_empty(), "--db-map"),
            (!exclude.is_empty(), "--exclude"),
            (keys_from.is_some(), "--keys-from"),
            (*keys_from0, "--keys-from0"),
            (shard.is_some(), "--shard"),
            (strip_prefix.is_some(), "--strip-prefix"),
            (prefix.is_some(), "--prefix"),
            (db_prefix.is_some(), "--db-prefix"),
        ];
        let first = given.into_iter().find(|(given, _)| *given);
        first.map(|(_, flag)| flag)
    }
}

/// A word of `--db-map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapped {
    /// `3:0`
    Pair(LanePlan),
    /// `*:0`
    Others(u32),
}

fn mapped(text: &str) -> Result<Mapped, String> {
    const FORM: &str = "not of the form 3:0, a database of the source and one of the target, or *:0 for all others";
    let (source, target) = text.split_once(':').ok_or(FORM)?;
    let number = |text: &str| match text.is_empty() {
        true => Err(FORM.to_owned()),
        false => db(text).map_err(|error| match error {
            redknot::config::units::UnitError::Unreadable(_) => FORM.to_owned(),
            other => other.to_string(),
        }),
    };
    let target_db = number(target.trim())?;
    Ok(match source.trim() {
        "*" => Mapped::Others(target_db),
        source => Mapped::Pair(LanePlan {
            source_db: number(source)?,
            target_db,
        }),
    })
}

fn shard(text: &str) -> Result<Shard, ShardError> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_pairs_and_a_star() {
        let pair = |source_db, target_db| {
            Ok(Mapped::Pair(LanePlan {
                source_db,
                target_db,
            }))
        };
        assert_eq!(mapped("3:0"), pair(3, 0));
        assert_eq!(mapped(" 3 : 0 "), pair(3, 0));
        assert_eq!(mapped("*:7"), Ok(Mapped::Others(7)));
        for text in [
            "", "3", "3:", ":0", ":", "a:b", "3:*", "-1:0", "3:0:1", "**:0",
        ] {
            assert!(mapped(text).is_err(), "{text}");
        }
    }
}
