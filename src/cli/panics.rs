//! What is said of a panic, and when.
//!
//! The state store catches the panics that its engine raises on damaged files, and tells of them in its own words. So
//! a panic is not printed where it happens but only where it ends the command.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;

/// The newest panic of any thread.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// From now on a panic is remembered instead of printed; with `RUST_BACKTRACE` set it is also printed.
pub fn keep_quiet() {
    let printing = std::panic::take_hook();
    let wants_backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        if wants_backtrace {
            printing(panic);
        }
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map_or_else(String::new, |place| {
            format!(" ({}:{})", place.file(), place.line())
        });
        let text = format!("{}{place}", text.unwrap_or("no message"));
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }));
}

/// What `command`, which `words` ask for, returns, or the code of an internal error if it panics.
pub fn or_internal_error(words: &[OsString], command: impl FnOnce() -> ExitCode) -> ExitCode {
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| {
        let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = format!("{}\nredknot {}", last.unwrap_or_default(), env!("CARGO_PKG_VERSION"));
        let failure = Failure::new(ExitCode::Internal, "internal error: this is a bug in redknot", why)
            .hint("please report these lines; RUST_BACKTRACE=1 shows more. What was acknowledged is safe, as after a crash");
        Console::early(words).fail(&failure);
        failure.code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_exit_code() {
        assert_eq!(
            or_internal_error(&[], || panic!("on purpose")),
            ExitCode::Internal
        );
        assert_eq!(or_internal_error(&[], || ExitCode::Done), ExitCode::Done);
    }
}
