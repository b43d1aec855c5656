//! What a run was told and by whom, for the journal.
//!
//! # Invariant
//!
//! No secret comes out of here: addresses stand in the form that has no password, and passwords have no flag.

use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;
use redknot::audit::entry::{Origin, Setting};
use redknot::endpoint::Endpoint;
use redknot::key::Escaped;

use super::failure::Failure;
use super::{args, config_file};

/// What a command was told: its words, its environment, and a file.
pub struct Told<'a> {
    command: &'static str,
    matches: &'a ArgMatches,
    file: Vec<(String, String)>,
}

impl<'a> Told<'a> {
    /// To `command`, of whose words `root` are the matches; `config` is the file of `--config`.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn of(
        command: &'static str,
        root: &'a ArgMatches,
        config: Option<&Path>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            command,
            matches: root.subcommand_matches(command).unwrap_or(root),
            file: match config {
                Some(path) => config_file::said(path)?,
                None => Vec::new(),
            },
        })
    }

    /// Every flag that has a value, in the order of the help text.
    pub fn settings(&self, source: &Endpoint, target: &Endpoint) -> Vec<Setting> {
        of_flags(self.command, source, target, |flag, name| {
            said(self.matches, flag, name, &self.file)
        })
    }
}

/// What `rump` is told: two addresses and whether expiries are kept. In all else it is `migrate`, as nobody told it.
pub fn of_rump(source: &Endpoint, target: &Endpoint, ttl: bool) -> Vec<Setting> {
    of_flags("migrate", source, target, |flag, name| match name {
        "from" | "to" => Some((String::new(), Origin::Flag)),
        "ttl" if ttl => Some(("keep".to_owned(), Origin::Flag)),
        // As rump writes over whatever it finds.
        "on-conflict" => Some(("replace".to_owned(), Origin::Default)),
        _ => Some((default(flag)?, Origin::Default)),
    })
}

fn of_flags(
    command: &str,
    source: &Endpoint,
    target: &Endpoint,
    said: impl Fn(&clap::Arg, &str) -> Option<(String, Origin)>,
) -> Vec<Setting> {
    let root = args::command();
    let flags = root
        .find_subcommand(command)
        .map(clap::Command::get_arguments);
    let mut settings = Vec::new();
    for flag in flags.into_iter().flatten() {
        let Some(name) = flag.get_long() else {
            continue;
        };
        let Some((value, origin)) = said(flag, name) else {
            continue;
        };
        let value = match name {
            "from" => source.to_string(),
            "to" => target.to_string(),
            _ => value,
        };
        settings.push(Setting {
            name: name.to_owned(),
            value,
            origin,
        });
    }
    settings
}

/// The value of a flag and who said it; nothing, if nobody did and there is no default to be told.
fn said(
    matches: &ArgMatches,
    flag: &clap::Arg,
    name: &str,
    file: &[(String, String)],
) -> Option<(String, Origin)> {
    let id = flag.get_id().as_str();
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Environment,
        _ => {
            let said = file.iter().find(|(key, _)| key == name);
            if let Some((_, value)) = said {
                return Some((value.clone(), Origin::File));
            }
            return Some((default(flag)?, Origin::Default));
        }
    };
    if !flag.get_action().takes_values() {
        return Some((matches.get_flag(id).to_string(), origin));
    }
    let values = matches.get_raw(id)?;
    let values: Vec<String> = values
        .map(|value| Escaped(value.as_encoded_bytes()).to_string())
        .collect();
    Some((values.join(","), origin))
}

/// As the help text has it.
fn default(flag: &clap::Arg) -> Option<String> {
    let help = flag.get_help()?.to_string();
    let (_, default) = help.rsplit_once("[default: ")?;
    Some(default.trim_end_matches(']').to_owned())
}

#[cfg(test)]
mod tests {
    use redknot::endpoint::Address;

    use super::*;

    #[test]
    fn each_value_has_its_origin_and_no_password_is_among_them() {
        let words = [
            "redknot",
            "migrate",
            "--from",
            "redis://app:hunter2@here:1",
            "--to",
            "there",
            "--batch",
            "70",
            "--trust-target",
        ];
        let matches = args::command()
            .try_get_matches_from(words)
            .expect("they parse");
        let address = |host: &str| {
            Endpoint::new(Address::Tcp {
                host: host.into(),
                port: 1,
            })
        };
        let told = Told {
            file: vec![("timeout".to_owned(), "9s".to_owned())],
            ..Told::of("migrate", &matches, None).expect("no file is read")
        };
        let settings = told.settings(&address("here"), &address("there"));
        let of = |name: &str| {
            let setting = settings.iter().find(|setting| setting.name == name);
            setting.map(|setting| (setting.value.as_str(), setting.origin))
        };
        assert_eq!(of("from"), Some(("redis://here:1/0", Origin::Flag)));
        assert_eq!(of("batch"), Some(("70", Origin::Flag)));
        assert_eq!(of("trust-target"), Some(("true", Origin::Flag)));
        assert_eq!(of("timeout"), Some(("9s", Origin::File)));
        assert_eq!(of("grace"), Some(("10s", Origin::Default)));
        assert_eq!(of("match"), None);
        assert!(
            settings
                .iter()
                .all(|setting| !setting.value.contains("hunter2"))
        );
    }
}
