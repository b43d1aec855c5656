//! `redknot audit`: what was done, for people and for programs.

pub mod report;

use super::args::{AuditArgs, AuditCommand, Common};
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;

/// Does what is asked of the audit.
///
/// # Errors
///
/// If there is no such migration, or what is recorded of it can't be read.
pub fn run(args: &AuditArgs, common: &Common, console: &Console) -> Result<ExitCode, Failure> {
    match &args.command {
        AuditCommand::Report(args) => report::run(args, common, console),
    }
}
