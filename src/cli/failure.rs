//! Why a command did not reach its goal, as it is told to the operator: what, why, and what to do.

use redknot::endpoint::Side;
use redknot::error::Error;
use serde_json::{Value, json};

use super::exit_code::{self, ExitCode};

/// An end with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub code: ExitCode,
    /// The server concerned, where it is one.
    pub side: Option<Side>,
    /// First line.
    pub what: String,
    /// Lines below it. May be empty.
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// The command line, the environment or a file that it names can't be used.
    pub fn usage(what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, what, why).hint(hint)
    }

    /// An end without a hint.
    pub fn new(code: ExitCode, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            code,
            side: None,
            what: what.into(),
            why: why.into(),
            hint: None,
        }
    }

    /// The same end with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What stands beside the message where lines are objects.
    pub fn fields(&self) -> Value {
        json!({
            "code": self.code.number(),
            "class": self.code.name(),
            "side": self.side,
            "why": self.why,
            "hint": self.hint,
        })
    }

    /// `error: what`, `  why`, `hint: what to do`, each with its colour.
    pub fn lines(&self, paint: super::console::Paint) -> String {
        let mut lines = format!("{} {}\n", paint.red("error:"), self.what);
        for why in self.why.lines() {
            lines.push_str(&format!("  {why}\n"));
        }
        let mut lead = paint.cyan("hint:");
        for hint in self.hint.iter().flat_map(|hint| hint.lines()) {
            lines.push_str(&format!("{lead} {hint}\n"));
            lead = "     ".into();
        }
        lines
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = exit_code::of(&error);
        let side = match error.side {
            Some(side) => format!("{side}: "),
            None => String::new(),
        };
        Self {
            code,
            side: error.side,
            what: format!("{side}failed to {}", error.doing),
            why: error.cause,
            hint: error.hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use redknot::error::Class;

    use super::*;
    use crate::cli::console::Paint;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Error::new(
            Class::Unreachable,
            "connect to h:1",
            "connection refused\n(os error 111)",
        )
        .on(Side::Target)
        .hint("is it running?");
        let failure = Failure::from(error);
        assert_eq!(failure.code, ExitCode::TargetUnreachable);
        let lines = "error: target: failed to connect to h:1\n  connection refused\n  (os error 111)\nhint: is it running?\n";
        assert_eq!(failure.lines(Paint::PLAIN), lines);
    }
}
