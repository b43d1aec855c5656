//! Standard output, standard error, and what they can show.
//!
//! Standard output carries results and JSON, standard error everything else.
//!
//! # Invariant
//!
//! Nobody reading is no error: what can't be written is dropped (`redknot status | head` ends quietly), and a migration
//! does not fail because its terminal went away.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use redknot::key::Escaped;

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
    /// Whether standard output may be.
    pub redraws_output: bool,
    /// Whether the terminal shows more than ASCII.
    unicode: bool,
}

impl Console {
    /// From the flags and the environment.
    pub fn new(common: &Common) -> Self {
        let plain_lines = common.no_progress || common.verbose > 0;
        let mut console = Self::of_color(common.color);
        console.quiet = common.quiet;
        console.json = common.json;
        // Lines of the log and a bar that redraws itself do not go together.
        console.animated &= !plain_lines;
        console
    }

    /// Before the flags are known, or where they can't be read.
    pub fn early(words: &[OsString]) -> Self {
        Self::of_color(color_asked_for(words))
    }

    fn of_color(color: Color) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE")
            .is_some_and(|value| !value.is_empty() && value != "0");
        let paint = |terminal: bool| match color {
            Color::Always => Paint::COLOURED,
            Color::Never => Paint::PLAIN,
            Color::Auto if no_color || dumb => Paint::PLAIN,
            Color::Auto if terminal || forced => Paint::COLOURED,
            Color::Auto => Paint::PLAIN,
        };
        let stderr_terminal = std::io::stderr().is_terminal();
        let stdout_terminal = std::io::stdout().is_terminal();
        let unicode = has_unicode();
        Self {
            quiet: false,
            json: false,
            out_paint: paint(stdout_terminal),
            err_paint: paint(stderr_terminal),
            animated: stderr_terminal && !dumb && unicode,
            redraws_output: stdout_terminal && !dumb,
            unicode,
        }
    }

    /// A result. Returns whether somebody still reads.
    pub fn out(&self, text: &str) -> bool {
        let mut out = std::io::stdout().lock();
        // JSON is UTF-8 wherever it goes.
        let text = if self.json {
            text.to_owned()
        } else {
            self.shown(text)
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_ok()
    }

    /// A result whose bytes are already what is meant. Returns whether somebody still reads.
    pub fn raw(&self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// A key's name for people: one visible line that can be read back, also where only ASCII is shown.
    pub fn name(&self, name: &[u8]) -> String {
        let text = Escaped(name).to_string();
        if self.unicode || text.is_ascii() {
            return text;
        }
        let mut shown = String::new();
        for c in text.chars() {
            match c.is_ascii() {
                true => shown.push(c),
                false => {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).bytes() {
                        shown.push_str(&format!("\\x{byte:02x}"));
                    }
                }
            }
        }
        shown
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

    /// Something that must not go unnoticed: said even when quiet.
    pub fn warn_always(&self, text: &str) {
        self.err(&format!("{} {text}\n", self.err_paint.yellow("warning:")));
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        self.say(&format!("{} {text}\n", self.err_paint.cyan("note:")));
    }

    /// A question, to be answered on the same line: said even when quiet.
    pub fn ask(&self, text: &str) {
        self.err(text);
    }

    /// Why the command did not reach its goal: said even when quiet.
    pub fn fail(&self, failure: &Failure) {
        self.err(&failure.lines(self.err_paint));
    }

    fn err(&self, text: &str) {
        let _ = std::io::stderr()
            .lock()
            .write_all(self.shown(text).as_bytes());
    }

    /// `text`, without what the terminal could not show.
    fn shown(&self, text: &str) -> String {
        if self.unicode || text.is_ascii() {
            return text.to_owned();
        }
        let mut shown = String::new();
        for c in text.chars() {
            match c {
                '\u{2192}' => shown.push_str("->"),
                '\u{2026}' => shown.push_str("..."),
                '\u{2260}' => shown.push_str("!="),
                '\u{b7}' => shown.push('|'),
                c if c.is_ascii() => shown.push(c),
                _ => shown.push('?'),
            }
        }
        shown
    }
}

/// The value of `--color`, wherever it stands; what can't be read counts as not said.
pub fn color_asked_for(words: &[OsString]) -> Color {
    let mut asked = std::env::var("REDKNOT_COLOR").unwrap_or_default();
    for (index, word) in words.iter().enumerate() {
        let word = word.to_string_lossy();
        if word == "--color" {
            asked = words
                .get(index + 1)
                .map(|value| value.to_string_lossy().into_owned())
                .unwrap_or_default();
        } else if let Some(value) = word.strip_prefix("--color=") {
            asked = value.to_owned();
        }
    }
    match asked.as_str() {
        "always" => Color::Always,
        "never" => Color::Never,
        _ => Color::Auto,
    }
}

/// Whether the locale is UTF-8, or nothing is said about it.
fn has_unicode() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    said.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
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
