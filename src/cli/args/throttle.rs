//! The flags of `redknot throttle`.

use std::time::Duration;

use clap::Args;
use redknot::config::units::UnitError;

use super::{bandwidth, max_latency, rate};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  redknot throttle shop                          what the run keeps to
  redknot throttle shop --rate 1000/s
  redknot throttle shop --rate none --bandwidth 20MiB/s --max-latency 5ms

The run that is under way, of migrate, compare or repair, takes it up within a second: what its flags of the same names
would mean. What is not said stays. The next run goes by its own flags.")]
pub struct ThrottleArgs {
    /// Which migration; may be left out where there is only one
    pub name: Option<String>,
    /// Most keys that are read, or findings that are repaired: 1000/s, or none
    #[arg(long, env = "REDKNOT_RATE", value_name = "KEYS/s", value_parser = or_none(rate))]
    pub rate: Option<Limit<u64>>,
    /// Most bytes of values that are read: 50MiB/s, or none
    #[arg(long, env = "REDKNOT_BANDWIDTH", value_name = "SIZE/s", value_parser = or_none(bandwidth))]
    pub bandwidth: Option<Limit<u64>>,
    /// Round trip that 99 of 100 PINGs stay below: 5ms, or none
    #[arg(long, env = "REDKNOT_MAX_LATENCY", value_name = "TIME", value_parser = or_none(max_latency))]
    pub max_latency: Option<Limit<Duration>>,
}

/// An amount, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit<T>(pub Option<T>);

fn or_none<T>(
    read: fn(&str) -> Result<T, UnitError>,
) -> impl Fn(&str) -> Result<Limit<T>, UnitError> + Clone {
    move |text| match text.trim() {
        "none" => Ok(Limit(None)),
        amount => read(amount).map(|amount| Limit(Some(amount))),
    }
}
