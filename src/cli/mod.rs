//! The only code that prints: commands, progress, messages, exit codes.
//!
//! A command is one function from flags to an exit code or a [`Failure`]. [`run`] calls it and reports how it ended.

mod args;
mod console;
mod exit_code;
mod failure;
mod help;
mod usage;

use std::ffi::OsString;

use clap::FromArgMatches;

use args::{Cli, Command};
use console::Console;
pub use exit_code::ExitCode;
use failure::Failure;

/// Runs the command that `words`, the command line, asks for.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let parsed = args::command().try_get_matches_from(&words);
    let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    match cli {
        Ok(cli) => {
            let console = Console::new(&cli.common);
            dispatch(cli, &console).unwrap_or_else(|failure| {
                console.fail(&failure);
                failure.code
            })
        }
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            ExitCode::Done
        }
        Err(error) => {
            let failure = usage::failure(&error, &words);
            Console::plain().fail(&failure);
            failure.code
        }
    }
}

fn dispatch(cli: Cli, console: &Console) -> Result<ExitCode, Failure> {
    match cli.command {
        None => {
            console.out(help::SHORT);
            // In a script, no command is a mistake.
            Ok(match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                true => ExitCode::Done,
                false => ExitCode::Usage,
            })
        }
        Some(Command::Help(asked)) => help::print(asked.topic.as_deref(), console),
        Some(_) => Err(Failure::new(ExitCode::Internal, "nothing happens yet", "")),
    }
}
