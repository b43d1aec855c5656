//! `redknot throttle`: what a migration keeps to while it runs.

use redknot::error::Error;
use redknot::state::control::{self, Control};
use redknot::state::status;

use super::args::{Common, Limit, ThrottleArgs};
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::names;

/// Tells the run that is under way, or shows what it keeps to if nothing is to be changed.
///
/// # Errors
///
/// If there is no such migration, no run works on it, or the file can't be written.
pub fn run(args: &ThrottleArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    let dir = common.state_dir();
    let name = names::one(&dir, args.name.as_deref(), "throttle")?;
    let file = status::read(&dir, &name).map_err(Error::from)?;
    let before = file.status.limits;
    let mut limits = before;
    if let Some(Limit(rate)) = args.rate {
        limits.keys_per_s = rate;
    }
    if let Some(Limit(bandwidth)) = args.bandwidth {
        limits.bytes_per_s = bandwidth;
    }
    if let Some(Limit(latency)) = args.max_latency {
        limits.latency_us = latency.map(|latency| latency.as_micros() as u64);
    }
    let asks = args.rate.is_some() || args.bandwidth.is_some() || args.max_latency.is_some();
    if asks && !file.running {
        return Err(Failure::usage(
            format!("no run works on {name}"),
            "what a run keeps to ends with it",
            "redknot migrate, compare and repair take the same flags and begin the next one",
        ));
    }
    if asks {
        let run = file.status.run;
        control::write(&dir, &name, &Control { run, limits }).map_err(Error::from)?;
    }
    let text = match (console.json, asks, file.running) {
        (true, ..) => format!(
            "{}\n",
            serde_json::json!({ "migration": name, "limits": limits })
        ),
        (false, true, _) => format!("{name}   limits: {limits} (were: {before})\n"),
        (false, false, true) => format!("{name}   limits: {limits}\n"),
        (false, false, false) => format!("{name}   limits of the last run: {limits}\n"),
    };
    console.out(&text);
    Ok(ExitCode::Done)
}
