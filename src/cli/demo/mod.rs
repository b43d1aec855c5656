//! demo
use super::{Exit, args::DemoArgs, console::Console, exit_code::ExitCode, failure::Failure};
pub fn run(_args: &DemoArgs, _console: &Console, _exit: &Exit) -> Result<ExitCode, Failure> {
    Ok(ExitCode::Done)
}
