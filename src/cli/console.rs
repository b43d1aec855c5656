//! Standard output, standard error, and what they can show.
//!
//! Standard output carries results and JSON, standard error everything else.
//!
//! # Invariant
//!
//! Nobody reading is no error: what can't be written is dropped (`redknot status | head` ends quietly), and a migration
//! does not fail because its terminal went away.

use std::io::{IsTerminal, Write};

use super::args::{Color, Common};
use super::failure::Failure;

/// What is written where, in which colours.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// Only errors are said.
    pub quiet: bool,
    /// Events go to standard output, so nothing else may.
    pub json: bool,
    /// For text on standard output.
    pub out_paint: Paint,
    /// For text on standard error.
    pub err_paint: Paint,
    /// Whether standard error may be redrawn.
    pub animated: bool,
}

impl Console {
    /// From the flags and the environment.
    pub fn new(common: &Common) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE")
            .is_some_and(|value| !value.is_empty() && value != "0");
        let paint = |terminal: bool| match common.color {
            Color::Always => Paint::COLOURED,
            Color::Never => Paint::PLAIN,
            Color::Auto if no_color || dumb => Paint::PLAIN,
            Color::Auto if terminal || forced => Paint::COLOURED,
            Color::Auto => Paint::PLAIN,
        };
        let stderr_terminal = std::io::stderr().is_terminal();
        Self {
            quiet: common.quiet,
            json: common.json,
            out_paint: paint(std::io::stdout().is_terminal()),
            err_paint: paint(stderr_terminal),
            // Lines of the log and a bar that redraws itself do not go together.
            animated: stderr_terminal && !dumb && !common.no_progress && common.verbose == 0,
        }
    }

    /// What a failure looks like before the flags are known.
    pub fn plain() -> Self {
        Self {
            quiet: false,
            json: false,
            out_paint: Paint::PLAIN,
            err_paint: Paint::PLAIN,
            animated: false,
        }
    }

    /// A result.
    pub fn out(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Talk: what is going on.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.err(text);
        }
    }

    /// Something that may be a mistake.
    pub fn warn(&self, text: &str) {
        self.say(&format!("{} {text}\n", self.err_paint.yellow("warning:")));
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        self.say(&format!("{} {text}\n", self.err_paint.cyan("note:")));
    }

    /// Why the command did not reach its goal: said even when quiet.
    pub fn fail(&self, failure: &Failure) {
        self.err(&failure.lines(self.err_paint));
    }

    fn err(&self, text: &str) {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    pub const PLAIN: Self = Self(false);
    pub const COLOURED: Self = Self(true);

    pub fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("1;32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with("1;33", text)
    }

    pub fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Columns of the terminal behind standard error; 80 if there is none.
pub fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(80, |size| usize::from(size.ws_col)).max(1)
}
