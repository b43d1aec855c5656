//! The program `redknot`: reads the command line, runs the command, returns its exit code.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os().collect()).into()
}
