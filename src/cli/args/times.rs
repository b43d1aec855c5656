//! The flags of every command that works on servers: when it may work, and for how long.

use std::time::Duration;

use clap::Args;
use redknot::config::hours::{Hours, HoursError};
use redknot::config::{limits, units};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "When it works")]
pub struct TimesArgs {
    /// End the run after this time, with a checkpoint and exit code 15: the same command continues [default: no limit]
    #[arg(long, env = "REDKNOT_MAX_DURATION", value_name = "TIME", value_parser = max_duration)]
    pub max_duration: Option<Duration>,
    /// Work only in these hours of the day, for example 22:00-06:00, by the clock of this machine (its time zone, or that
    /// in TZ): the run ends when they do, with a checkpoint and exit code 15; begun outside of them it ends at once
    #[arg(long, env = "REDKNOT_WINDOW", value_name = "HOURS", value_parser = window)]
    pub window: Option<Hours>,
}

impl TimesArgs {
    /// Every flag as said here, or else as said in `other`.
    pub fn or(self, other: Self) -> Self {
        // Taken apart, so that a new flag does not compile until it is merged.
        let Self {
            max_duration,
            window,
        } = self;
        Self {
            max_duration: max_duration.or(other.max_duration),
            window: window.or(other.window),
        }
    }
}

fn max_duration(text: &str) -> Result<Duration, units::UnitError> {
    units::duration(text, &limits::MAX_DURATION)
}

fn window(text: &str) -> Result<Hours, HoursError> {
    text.parse()
}
