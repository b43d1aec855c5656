//! When a run may work, and for how long.
//!
//! # Invariant
//!
//! A run that begins does so within its hours, and is asked to stop within a second after they or its time are over.

use std::time::{Duration, Instant};

use jiff::ZonedDateTime;
use redknot::config::hours::{Hours, TimeOfDay};
use redknot::shutdown::StopReason;

use super::args::TimesArgs;
use super::exit_code::ExitCode;
use super::failure::Failure;

/// How often the clock is looked at. It may be set meanwhile, and the machine may have slept.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What limits a run in time.
pub struct Times {
    ends: Option<Instant>,
    hours: Option<Hours>,
}

impl Times {
    /// Of a run that begins now.
    ///
    /// # Errors
    ///
    /// If it is not within its hours.
    pub fn begin(args: &TimesArgs) -> Result<Self, Failure> {
        let now = ZonedDateTime::now();
        if let Some(hours) = args.window.filter(|hours| !hours.contains(time_of(&now))) {
            let failure = Failure::new(
                ExitCode::TimeUp,
                format!("it is outside of --window {hours}"),
                format!("here it is {}; nothing was sent", now.strftime("%H:%M %Z")),
            );
            return Err(failure.hint(format!(
                "run the same command again from {} on",
                hours.from()
            )));
        }
        Ok(Self {
            ends: args.max_duration.map(|after| Instant::now() + after),
            hours: args.window,
        })
    }

    /// No limit.
    pub fn unlimited() -> Self {
        Self {
            ends: None,
            hours: None,
        }
    }

    /// Returns when the time is over, or the hours are; never, if there is no limit.
    pub async fn over(&self) -> StopReason {
        if self.ends.is_none() && self.hours.is_none() {
            std::future::pending::<()>().await;
        }
        loop {
            let left = self
                .ends
                .map(|ends| ends.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return StopReason::TimeUp;
            }
            if self
                .hours
                .is_some_and(|hours| !hours.contains(time_of(&ZonedDateTime::now())))
            {
                return StopReason::WindowClosed;
            }
            tokio::time::sleep(left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).await;
        }
    }
}

fn time_of(now: &ZonedDateTime) -> TimeOfDay {
    let clock = |number: i8| u8::try_from(number).unwrap_or_default();
    TimeOfDay::new(clock(now.hour()), clock(now.minute()))
}
