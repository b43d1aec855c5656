//! `--config FILE`: the flags of `migrate`, `compare` and `repair`, written in a TOML file under the same names.
//!
//! One file serves all three: each takes the flags that it has.
//!
//! ```toml
//! from = "redis://cache.example.com:6379"
//! to = "10.0.0.9:6379"
//! to-pass-file = "/run/secrets/new"
//! db = [0, 3]
//! batch = 1000
//! max-memory = "64MiB"
//! ```
//!
//! # Invariant
//!
//! There is one grammar: a value of the file is read exactly as the flag of that name would be.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::FromArgMatches;
use clap::parser::ValueSource;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::args::{self, Cli, Command, MigrateArgs};
use super::failure::Failure;

/// The flags that the file sets.
///
/// # Errors
///
/// If the file can't be read, is no TOML, sets an unknown flag or a bad value, or shows a password to other users.
/// Where there is one, the error names line and column.
pub fn read(path: &Path) -> Result<MigrateArgs, Failure> {
    let file = read_text(path)?;
    let table = parse(&file)?;
    let mut all = MigrateArgs::default();
    for (key, value) in table.get_ref() {
        // What the environment says comes along with every flag. It outranks the file anyway.
        all = all.or(one(&file, key, value)?);
    }
    refuse_shown_password(&file, table.get_ref())?;
    Ok(all)
}

/// What the file says to `command`, as words of a command line, but for what `matches` say has been said already.
///
/// # Errors
///
/// As [`read`].
pub fn words(
    path: &Path,
    command: &'static str,
    matches: &clap::ArgMatches,
) -> Result<Vec<OsString>, Failure> {
    let file = read_text(path)?;
    let table = parse(&file)?;
    let table = table.get_ref();
    let mut all = Vec::new();
    let positional = matches.get_raw("name").is_some();
    let named = positional || table.contains_key("name");
    for (key, value) in table {
        let name: &str = key.get_ref();
        // What `migrate` is told by a flag, the others are told by a word.
        if name == "name" {
            if let (false, Some(Text::Values(names))) = (positional, texts(value.get_ref())) {
                all.extend(names.into_iter().map(OsString::from));
            }
            continue;
        }
        // Of a migration that is named, the plan says which keys are meant.
        if named && OF_THE_PLAN.contains(&name) {
            continue;
        }
        let (arg, words) = words_of(&file, key, value, command)?;
        let said = arg.and_then(|arg| matches.value_source(arg.get_id().as_str()));
        let by_operator = [ValueSource::CommandLine, ValueSource::EnvVariable];
        if !words.is_empty() && said.is_none_or(|said| !by_operator.contains(&said)) {
            parsed(&file, value, command, &words)?;
            all.extend(words);
        }
    }
    refuse_shown_password(&file, table)?;
    Ok(all)
}

/// Flags that say which keys are meant, and how they arrive.
const OF_THE_PLAN: [&str; 15] = [
    "all-dbs",
    "db",
    "db-map",
    "db-prefix",
    "exclude",
    "from-db",
    "keys-from",
    "keys-from0",
    "match",
    "prefix",
    "shard",
    "strip-prefix",
    "to-db",
    "ttl",
    "type",
];

fn parse(file: &File) -> Result<Spanned<DeTable<'_>>, Failure> {
    DeTable::parse(&file.text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        file.refuse(
            at,
            "this is no TOML",
            error.message(),
            "one `flag = value` a line, text in quotes",
        )
    })
}

fn refuse_shown_password(file: &File, table: &DeTable<'_>) -> Result<(), Failure> {
    let urls = ["from", "to"]
        .into_iter()
        .filter_map(|key| table.get(key)?.get_ref().as_str());
    if file.others_can_read && urls.into_iter().any(has_password) {
        return Err(Failure::usage(
            format!("{} shows a password to other users", file.path),
            "it has an address with a password, and others can read the file",
            format!(
                "chmod 600 {}, or put the password in a file of its own",
                file.path
            ),
        ));
    }
    Ok(())
}

/// The flags that the file sets and their values, as texts. It has been read, or will be, by [`read`].
///
/// # Errors
///
/// If the file can't be read; what is wrong in it says [`read`].
pub fn said(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let file = read_text(path)?;
    let Ok(table) = DeTable::parse(&file.text) else {
        return Ok(Vec::new());
    };
    let said = table.get_ref().iter().filter_map(|(key, value)| {
        let value = match texts(value.get_ref())? {
            Text::Switch(switch) => switch.to_string(),
            Text::Values(values) => values.join(","),
        };
        Some((key.get_ref().to_string(), value))
    });
    Ok(said.collect())
}

struct File {
    path: String,
    text: String,
    others_can_read: bool,
}

impl File {
    /// An error at the byte `at` of the file.
    fn refuse(&self, at: usize, what: &str, why: &str, hint: impl Into<String>) -> Failure {
        let before = self.text.get(..at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Failure::usage(format!("{}:{line}:{column}: {what}", self.path), why, hint)
    }
}

fn read_text(path: &Path) -> Result<File, Failure> {
    let shown = path.display().to_string();
    let read = || -> std::io::Result<File> {
        let mode = std::fs::metadata(path)?.permissions().mode();
        let text = std::fs::read_to_string(path)?;
        Ok(File {
            path: shown.clone(),
            text,
            others_can_read: mode & 0o077 != 0,
        })
    };
    read().map_err(|error| {
        Failure::usage(
            format!("--config {shown}: it can't be read"),
            error.to_string(),
            "redknot migrate --help names the flags that it may set",
        )
    })
}

const HINT: &str = "redknot migrate --help names them, without the dashes";

/// The commands to which a file may speak.
const COMMANDS: [&str; 3] = ["migrate", "compare", "repair"];

/// One line of the file, as the flag of `migrate` that it stands for.
fn one(
    file: &File,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<MigrateArgs, Failure> {
    let (_, words) = words_of(file, key, value, "migrate")?;
    if words.is_empty() {
        return Ok(MigrateArgs::default());
    }
    match parsed(file, value, "migrate", &words)?.command {
        Some(Command::Migrate(args)) => Ok(*args),
        _ => unreachable!("the words name the command migrate"),
    }
}

/// One line of the file, as words of the command line of `command`, and the flag that it stands for; no words where only
/// another command has that flag.
fn words_of(
    file: &File,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    command: &str,
) -> Result<(Option<clap::Arg>, Vec<OsString>), Failure> {
    let name: &str = key.get_ref();
    let root = args::command();
    let flag_of = |command: &str| {
        let command = root.find_subcommand(command).expect("it is a command");
        let is_meant = |arg: &&clap::Arg| arg.get_long() == Some(name) && name != "config";
        command.get_arguments().find(is_meant).cloned()
    };
    let Some(arg) = flag_of(command) else {
        if COMMANDS.into_iter().any(|other| flag_of(other).is_some()) {
            return Ok((None, Vec::new()));
        }
        let shown = redknot::key::Escaped(name.as_bytes());
        return Err(file.refuse(
            key.span().start,
            &format!("unknown key `{shown}`"),
            "the keys are the flags of migrate, compare and repair",
            HINT,
        ));
    };
    let wants_value = arg.get_action().takes_values();
    let wrong_type = |wanted: &str| {
        Err(file.refuse(
            value.span().start,
            &format!("`{name}` has the wrong type"),
            wanted,
            HINT,
        ))
    };
    let several = matches!(arg.get_action(), clap::ArgAction::Append);
    let words: Vec<OsString> = match (texts(value.get_ref()), wants_value) {
        (Some(Text::Switch(false)), false) => Vec::new(),
        (Some(Text::Switch(true)), false) => vec![format!("--{name}").into()],
        (Some(Text::Values(texts)), true) if several && arg.get_value_delimiter().is_none() => {
            let words = texts
                .into_iter()
                .map(|text| format!("--{name}={text}").into());
            words.collect()
        }
        (Some(Text::Values(texts)), true) => vec![format!("--{name}={}", texts.join(",")).into()],
        (_, true) => return wrong_type("it takes text, a number, or a list of them"),
        (_, false) => return wrong_type("it is true or false"),
    };
    Ok((Some(arg), words))
}

/// The words as `command` reads them.
fn parsed(
    file: &File,
    value: &Spanned<DeValue<'_>>,
    command: &str,
    words: &[OsString],
) -> Result<Cli, Failure> {
    let before = ["redknot".into(), command.into()];
    let words = before.into_iter().chain(words.iter().cloned());
    let parsed = args::command()
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let failure = super::usage::failure(&error, &[]);
        let hint = failure.hint.unwrap_or_else(|| HINT.into());
        file.refuse(
            value.span().start,
            failure.what.trim_start_matches("--"),
            &failure.why,
            hint,
        )
    })
}

enum Text {
    Switch(bool),
    Values(Vec<String>),
}

/// The value, or the values, as they would stand on the command line.
fn texts(value: &DeValue<'_>) -> Option<Text> {
    let value = match value {
        DeValue::Boolean(switch) => return Some(Text::Switch(*switch)),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Array(items) => {
            let mut all = Vec::new();
            for item in items.iter() {
                match texts(item.get_ref())? {
                    Text::Values(texts) => all.extend(texts),
                    Text::Switch(_) => return None,
                }
            }
            return Some(Text::Values(all));
        }
        _ => return None,
    };
    Some(Text::Values(vec![value]))
}

fn has_password(url: &str) -> bool {
    match redknot::endpoint::url::parse(url.as_bytes()) {
        Ok(parsed) => parsed.name_alone.is_some() || parsed.endpoint.password().is_some(),
        // It will be refused for what it is.
        Err(_) => false,
    }
}
