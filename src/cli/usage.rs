//! What clap refused, said in our own form.
//!
//! # Invariant
//!
//! A word of the command line is shown only if it can't be a password: names of flags, and values of flags that take
//! none. A word in a place where none belongs may be a password whose flag was mistyped.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args;
use super::failure::Failure;

/// Names and environment variables that the message can be about.
struct Subject<'a> {
    error: &'a clap::Error,
    words: &'a [OsString],
}

/// The failure behind `error`, which is neither help nor version.
pub fn failure(error: &clap::Error, words: &[OsString]) -> Failure {
    let subject = Subject { error, words };
    match error.kind() {
        ErrorKind::InvalidSubcommand => subject.unknown_command(),
        ErrorKind::UnknownArgument => subject.unknown_word(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8 => {
            subject.bad_value()
        }
        ErrorKind::ArgumentConflict => Failure::usage(
            format!("{} is given more than once", subject.flag()),
            "which of the values is meant can't be known",
            "leave one of them away",
        ),
        _ => Failure::usage(
            "the command line can't be read",
            error.kind().to_string(),
            "redknot help shows the commands",
        ),
    }
}

impl Subject<'_> {
    fn unknown_command(&self) -> Failure {
        let word = self.text(ContextKind::InvalidSubcommand);
        // `redknot redis://:secret@a redis://b`: somebody who knows another tool.
        let shown = if word.contains("://") || word.contains('@') {
            "***"
        } else {
            word.as_str()
        };
        let names: Vec<String> = args::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        let hint = match self.suggestion(ContextKind::SuggestedSubcommand) {
            Some(suggestion) => format!("did you mean `{suggestion}`?"),
            None => "redknot help".into(),
        };
        Failure::usage(
            format!("there is no command `{shown}`"),
            format!("the commands are {}", names.join(", ")),
            hint,
        )
    }

    fn unknown_word(&self) -> Failure {
        let word = self.text(ContextKind::InvalidArg);
        if !word.starts_with('-') {
            let at = self
                .words
                .iter()
                .position(|given| given.to_string_lossy() == word);
            let before = at
                .and_then(|at| self.words.get(at.checked_sub(1)?))
                .map(|word| flag_name(&word.to_string_lossy()));
            let place = match before.filter(|before| before.starts_with("--")) {
                Some(flag) => format!("the word after `{flag}` is not expected"),
                None => "there is a word on the command line that is not expected".into(),
            };
            let command = self.command_name();
            let hint = match command.as_str() {
                "redknot migrate" => "addresses are given with --from and --to; redknot migrate --help lists the flags".into(),
                _ => format!("{command} --help"),
            };
            return Failure::usage(
                place,
                "it is not shown here, as it could be a password",
                hint,
            );
        }
        let hint = match self.suggestion(ContextKind::SuggestedArg) {
            Some(suggestion) => format!("did you mean `{suggestion}`?"),
            None => format!("{} --help lists the flags", self.command_name()),
        };
        let why = format!("{} has no flag of that name", self.command_name());
        Failure::usage(format!("unknown flag `{}`", flag_name(&word)), why, hint)
    }

    fn bad_value(&self) -> Failure {
        let flag = self.flag();
        let subject = self.subject(&flag);
        let value = self.text(ContextKind::InvalidValue);
        let example = format!("{} --help", self.command_name());
        if value.is_empty() && self.error.kind() == ErrorKind::InvalidValue && subject == flag {
            return Failure::usage(format!("{flag} needs a value"), "none follows it", example);
        }
        let possible = match self.error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => Some(values.join(", ")),
            _ => None,
        };
        let why = match (possible, self.error.source()) {
            (Some(possible), _) => format!("possible: {possible}"),
            (None, Some(source)) => source.to_string(),
            (None, None) => self.error.kind().to_string(),
        };
        let hint = match (
            self.suggestion(ContextKind::SuggestedValue),
            self.default_of(&flag),
        ) {
            (Some(suggestion), _) => format!("did you mean `{suggestion}`?"),
            (None, Some(default)) => format!("without it: {default}"),
            (None, None) => example,
        };
        let shown = redknot::key::Escaped(value.as_bytes()).to_string();
        Failure::usage(format!("{subject} can't be `{shown}`"), why, hint)
    }

    /// The flag, without the name of its value.
    fn flag(&self) -> String {
        flag_name(&self.text(ContextKind::InvalidArg))
    }

    /// The flag, or the environment variable if the command line does not have the flag.
    fn subject(&self, flag: &str) -> String {
        let arg = self.argument(flag);
        let variable = arg
            .as_ref()
            .and_then(|arg| arg.get_env())
            .filter(|variable| std::env::var_os(variable).is_some());
        let short = arg
            .as_ref()
            .and_then(|arg| arg.get_short())
            .map(|short| format!("-{short}"));
        let given = self.words.iter().any(|word| {
            let word = word.to_string_lossy();
            flag_name(&word) == flag
                || short
                    .as_ref()
                    .is_some_and(|short| word.starts_with(short.as_str()))
        });
        match variable {
            Some(variable) if !given => variable.to_string_lossy().into_owned(),
            _ => flag.to_owned(),
        }
    }

    /// What the help says about the default of a flag.
    fn default_of(&self, flag: &str) -> Option<String> {
        let help = self.argument(flag)?.get_help()?.to_string();
        let (_, default) = help.rsplit_once("[default: ")?;
        Some(default.trim_end_matches(']').to_owned())
    }

    fn argument(&self, flag: &str) -> Option<clap::Arg> {
        let root = args::command();
        let all = std::iter::once(&root)
            .chain(root.get_subcommands())
            .flat_map(clap::Command::get_arguments);
        let is_meant = |arg: &&clap::Arg| {
            arg.get_long()
                .is_some_and(|long| flag.strip_prefix("--") == Some(long))
        };
        all.filter(|arg| !arg.is_hide_set()).find(is_meant).cloned()
    }

    /// `redknot migrate`, as far as it can be told.
    fn command_name(&self) -> String {
        let root = args::command();
        let command = self
            .words
            .iter()
            .skip(1)
            .find_map(|word| root.find_subcommand(word).map(clap::Command::get_name));
        match command {
            Some(command) => format!("redknot {command}"),
            None => "redknot".into(),
        }
    }

    fn text(&self, kind: ContextKind) -> String {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            Some(ContextValue::Strings(texts)) => texts.join(" "),
            _ => String::new(),
        }
    }

    fn suggestion(&self, kind: ContextKind) -> Option<String> {
        match self.error.get(kind)? {
            ContextValue::String(text) => Some(text.clone()),
            // The most similar one comes last.
            ContextValue::Strings(texts) => texts.last().cloned(),
            _ => None,
        }
    }
}

/// `--from` of `--from=redis://…` and of `--from <URL>`.
fn flag_name(word: &str) -> String {
    let end = word.find(['=', ' ']).unwrap_or(word.len());
    word[..end].to_owned()
}
