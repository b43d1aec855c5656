//! Standard output, standard error, and what they can show.
//!
//! Standard output carries results and JSON, standard error everything else: lines for people, or with `--log-format json`
//! an object a line.
//!
//! # Invariant
//!
//! Nobody reading is no error: what can't be written is dropped (`redknot status | head` ends quietly), and a migration
//! does not fail because its terminal went away.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use redknot::endpoint::Side;
use redknot::key::Escaped;
use serde_json::{Map, Value, json};

use super::args::{Color, Common};
use super::failure::Failure;
use super::log::{self, LogFormat};

/// What is written where, in which colours.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// Only errors are said.
    pub quiet: bool,
    /// Events go to standard output, so nothing else may.
    pub json: bool,
    /// How lines on standard error are written.
    pub log_format: LogFormat,
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
        let mut console = Self::of(common.color, common.log_format);
        console.quiet = common.quiet;
        console.json = common.json;
        // Lines of the log and a bar that redraws itself do not go together.
        console.animated &= !plain_lines;
        console
    }

    /// Before the flags are known, or where they can't be read.
    pub fn early(words: &[OsString]) -> Self {
        let log_format = match asked_for(words, "--log-format", "REDKNOT_LOG_FORMAT").as_str() {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        };
        Self::of(color_asked_for(words), log_format)
    }

    fn of(color: Color, log_format: LogFormat) -> Self {
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
        let for_people = log_format == LogFormat::Text;
        Self {
            quiet: false,
            json: false,
            log_format,
            out_paint: paint(stdout_terminal),
            err_paint: match for_people {
                true => paint(stderr_terminal),
                false => Paint::PLAIN,
            },
            animated: stderr_terminal && !dumb && unicode && for_people,
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
        match self.log_format {
            _ if self.quiet => {}
            LogFormat::Text => self.err(text),
            LogFormat::Json => text
                .lines()
                .for_each(|line| self.log("info", line, json!({}))),
        }
    }

    /// Something that may be a mistake.
    pub fn warn(&self, text: &str) {
        if !self.quiet {
            self.warn_always(text);
        }
    }

    /// Something that must not go unnoticed: said even when quiet.
    pub fn warn_always(&self, text: &str) {
        self.labelled(
            self.err_paint.yellow("warning:"),
            "warning",
            text,
            json!({}),
        );
    }

    /// Something that is wrong with a server.
    pub fn warn_of(&self, side: Side, text: &str) {
        if !self.quiet {
            let (label, side) = (self.err_paint.yellow("warning:"), side.to_string());
            self.labelled(
                label,
                "warning",
                &format!("{side}: {text}"),
                json!({ "side": side }),
            );
        }
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.labelled(self.err_paint.cyan("note:"), "note", text, json!({}));
        }
    }

    /// A question, to be answered on the same line: said even when quiet.
    pub fn ask(&self, text: &str) {
        self.err(text);
    }

    /// Why the command did not reach its goal: said even when quiet.
    pub fn fail(&self, failure: &Failure) {
        match self.log_format {
            LogFormat::Text => self.err(&failure.lines(self.err_paint)),
            LogFormat::Json => self.log("error", &failure.what, failure.fields()),
        }
    }

    fn labelled(&self, label: String, level: &str, text: &str, fields: Value) {
        match self.log_format {
            LogFormat::Text => self.err(&format!("{label} {text}\n")),
            LogFormat::Json => self.log(level, text, fields),
        }
    }

    /// An object on a line of its own. Columns and empty lines are for eyes alone.
    fn log(&self, level: &str, text: &str, fields: Value) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (Value::Object(fields), false) = (fields, words.is_empty()) else {
            return;
        };
        let mut all = Map::new();
        all.insert("message".into(), json!(words.join(" ")));
        all.extend(fields);
        // JSON is UTF-8 wherever it goes.
        let _ = std::io::stderr()
            .lock()
            .write_all(log::line(level, all).as_bytes());
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
    match asked_for(words, "--color", "REDKNOT_COLOR").as_str() {
        "always" => Color::Always,
        "never" => Color::Never,
        _ => Color::Auto,
    }
}

/// The value of a flag, wherever it stands, or else of its variable.
fn asked_for(words: &[OsString], flag: &str, variable: &str) -> String {
    let mut asked = std::env::var(variable).unwrap_or_default();
    for (index, word) in words.iter().enumerate() {
        let word = word.to_string_lossy();
        if word == flag {
            asked = words
                .get(index + 1)
                .map(|value| value.to_string_lossy().into_owned())
                .unwrap_or_default();
        } else if let Some(value) = word
            .strip_prefix(flag)
            .and_then(|word| word.strip_prefix('='))
        {
            asked = value.to_owned();
        }
    }
    asked
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
