//! The flags of `redknot keys`.

use clap::Args;
use clap::builder::{BoolishValueParser, PossibleValue, PossibleValuesParser};
use redknot::progress::Verdict;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  redknot keys shop --class quarantined
  redknot keys shop --class findings --json
  redknot keys shop --class missing -0 | xargs -0 -n 1 redis-cli -h cache.example.com type

A line is the escaped name, the database of the source, the class and the reason, separated by tabs.")]
pub struct KeysArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// Which keys
    #[arg(long, env = "REDKNOT_CLASS", value_name = "CLASS", value_parser = key_class())]
    pub class: Option<String>,
    /// The names alone and as they are, each followed by a NUL, as xargs -0 reads them
    #[arg(short = '0', long, env = "REDKNOT_NULL", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub null: bool,
}

/// Which keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyClass {
    /// Could not be copied.
    Quarantined,
    /// Differ by the newest comparison and were not repaired since, whatever is wrong with them.
    Findings,
    /// Of those, the ones of a verdict.
    Finding(Verdict),
}

impl KeyClass {
    fn all() -> impl Iterator<Item = Self> {
        let verdicts = Verdict::ALL.into_iter().map(Self::Finding);
        [Self::Quarantined, Self::Findings]
            .into_iter()
            .chain(verdicts)
    }

    /// As `--class` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Findings => "findings",
            Self::Finding(verdict) => verdict.name(),
        }
    }

    /// All of them.
    pub fn names() -> Vec<&'static str> {
        Self::all().map(Self::name).collect()
    }

    /// The class of that name; `None` for [`KEPT`], whose keys nobody can list.
    pub fn of(name: &str) -> Option<Self> {
        Self::all().find(|class| class.name() == name)
    }
}

/// A class that there is and that is not listed: understood, so that the answer can say why.
const KEPT: &str = "kept";

fn key_class() -> PossibleValuesParser {
    let listed = KeyClass::names().into_iter().map(PossibleValue::new);
    PossibleValuesParser::new(listed.chain([PossibleValue::new(KEPT).hide(true)]))
}
