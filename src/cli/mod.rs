//! The only code that prints: commands, progress, messages, exit codes.
//!
//! A command is one function from flags to an exit code or a [`Failure`]. [`run`] calls it and reports how it ended.
//!
//! # Invariant
//!
//! Only the main thread ends the process, by returning the exit code. The command runs on a thread of its own, so that
//! a second Ctrl-C can leave at once whatever the command is waiting for.

mod acl;
mod args;
mod argv;
mod audit;
mod compare;
mod config_file;
mod console;
mod demo;
mod exit_code;
mod failure;
mod help;
mod hooks;
mod json;
mod key_list;
mod keys;
mod log;
mod metrics;
mod migrate;
mod names;
mod origins;
mod overview;
mod panics;
mod passwords;
mod progress;
mod repair;
mod rump;
mod selection;
mod server_args;
mod servers;
mod settings;
mod signals;
mod status;
mod stored;
#[cfg(test)]
mod testing;
mod throttle;
mod times;
mod tls_flags;
mod usage;
mod watched;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use clap::{ArgMatches, FromArgMatches};

use args::{Cli, Command};
use console::Console;
pub use exit_code::ExitCode;
use failure::Failure;
use json::Header;
use origins::Told;
use redknot::figures as format;
use settings::OnCommandLine;

/// Runs the command that `words`, the command line, asks for.
pub fn run(words: Vec<OsString>) -> ExitCode {
    panics::keep_quiet();
    let words = argv::without_passwords(words);
    let (leave, ends) = channel();
    let exit = Exit {
        leave: leave.clone(),
        header: Arc::default(),
    };
    let command = move || {
        let code = panics::or_internal_error(&words, || parse_and_run(&words, &exit));
        let _ = leave.send(code);
    };
    // The main thread's stack is the larger one, but nothing here is deep.
    match std::thread::Builder::new()
        .name("command".into())
        .spawn(command)
    {
        Ok(_) => ends.recv().unwrap_or(ExitCode::Internal),
        Err(error) => {
            let failure = Failure::usage(
                "no thread can be started",
                error.to_string(),
                "is `ulimit -u` too low?",
            );
            Console::early(&[]).fail(&failure);
            failure.code
        }
    }
}

/// How a command reaches the end of the process.
pub struct Exit {
    leave: Sender<ExitCode>,
    header: Arc<Mutex<Header>>,
}

impl Exit {
    /// What is sent here ends the process at once, with that code.
    pub fn leave(&self) -> Sender<ExitCode> {
        self.leave.clone()
    }

    /// What stands on the last lines of JSON.
    pub fn set_header(&self, header: Header) {
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = header;
    }

    fn header(&self) -> Header {
        self.header
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn parse_and_run(words: &[OsString], exit: &Exit) -> ExitCode {
    let command = args::command().color(console::color_asked_for(words).into());
    let parsed = command.try_get_matches_from(words);
    let cli = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    match cli {
        Ok((cli, matches)) => {
            let console = Console::new(&cli.common);
            // Only what works on servers has events; the others answer with one object, or fail with a text.
            let events = cli.common.json
                && matches!(
                    cli.command,
                    Some(
                        Command::Migrate(_)
                            | Command::Rump(_)
                            | Command::Compare(_)
                            | Command::Repair(_)
                    )
                );
            let end = with_file(cli, &matches, words)
                .and_then(|cli| dispatch(cli, &matches, &console, exit));
            report(end, &console, events.then(|| exit.header()))
        }
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            ExitCode::Done
        }
        Err(error) => {
            let failure = usage::failure(&error, words);
            // What was meant can't be known, but whoever reads events has said so.
            let events = words.iter().any(|word| word == "--json");
            report(
                Err(failure),
                &Console::early(words),
                events.then(Header::default),
            )
        }
    }
}

/// With what the file of `--config` says, where that is not read by the command itself: the words are read once more,
/// followed by those of the file that nobody has said.
fn with_file(cli: Cli, matches: &ArgMatches, words: &[OsString]) -> Result<Cli, Failure> {
    let (command, config) = match &cli.command {
        Some(Command::Compare(args)) => ("compare", args.config.clone()),
        Some(Command::Repair(args)) => ("repair", args.config.clone()),
        _ => return Ok(cli),
    };
    let Some((path, matches)) = config.zip(matches.subcommand_matches(command)) else {
        return Ok(cli);
    };
    let of_file = config_file::words(&path, command, matches)?;
    let end = words.iter().position(|word| word == "--");
    let (before, after) = words.split_at(end.unwrap_or(words.len()));
    let all: Vec<OsString> = [before, &of_file, after].concat();
    let parsed = args::command().try_get_matches_from(&all);
    parsed
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| usage::failure(&error, &all))
}

fn dispatch(
    cli: Cli,
    matches: &ArgMatches,
    console: &Console,
    exit: &Exit,
) -> Result<ExitCode, Failure> {
    let Cli { common, command } = cli;
    if common.quiet && common.verbose > 0 {
        return Err(Failure::usage(
            "--quiet and --verbose contradict each other",
            "one says less, the other more",
            "leave one of them away",
        ));
    }
    log::start(common.verbose, console);
    match command {
        None => {
            console.out(help::SHORT);
            // In a script, no command is a mistake.
            Ok(match std::io::stdout().is_terminal() {
                true => ExitCode::Done,
                false => ExitCode::Usage,
            })
        }
        Some(Command::Migrate(args)) => {
            let visible = matches
                .subcommand_matches("migrate")
                .map(OnCommandLine::of)
                .unwrap_or_default();
            let told = Told::of("migrate", matches, args.config.as_deref())?;
            let mut asked = settings::migration(*args, visible, &common, console)?;
            let request = &mut asked.request;
            request.settings = told.settings(&request.source, &request.target);
            migrate::run(asked, console, exit)
        }
        Some(Command::Rump(args)) => rump::run(args, &common, console, exit),
        Some(Command::Status(args)) => status::run(&args, &common, console),
        Some(Command::Compare(args)) => {
            let visible = matches
                .subcommand_matches("compare")
                .map(OnCommandLine::of)
                .unwrap_or_default();
            let told = Told::of("compare", matches, args.config.as_deref())?;
            compare::run(&args, &told, visible, &common, console, exit)
        }
        Some(Command::Repair(args)) => {
            let visible = matches
                .subcommand_matches("repair")
                .map(OnCommandLine::of)
                .unwrap_or_default();
            let told = Told::of("repair", matches, args.config.as_deref())?;
            repair::run(&args, &told, visible, &common, console, exit)
        }
        Some(Command::Audit(args)) => audit::run(&args.command, &common, console),
        Some(Command::Keys(args)) => keys::run(&args, &common, console),
        Some(Command::Throttle(args)) => throttle::run(&args, &common, console),
        Some(Command::Acl(args)) => Ok(acl::run(&args, console)),
        Some(Command::Demo(args)) => demo::run(&args, console),
        Some(Command::Help(asked)) => help::print(asked.topic.as_deref(), console),
    }
}

/// Says how the command ended; with events, also in the last lines of JSON.
fn report(end: Result<ExitCode, Failure>, console: &Console, events: Option<Header>) -> ExitCode {
    let (code, error) = match end {
        Ok(code) => (code, None),
        Err(failure) => {
            console.fail(&failure);
            (failure.code, Some(failure))
        }
    };
    if let Some(header) = events {
        if let Some(failure) = error {
            console.out(&header.error(&failure));
        }
        console.out(&header.exit(code));
    }
    code
}
