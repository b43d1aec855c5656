//! What a run was told and by whom, for the journal.
//!
//! # Invariant
//!
//! No secret comes out of here: addresses stand in the form that has no password, and passwords have no flag.

use clap::ArgMatches;
use clap::parser::ValueSource;
use redknot::audit::entry::{Origin, Setting};
use redknot::endpoint::Endpoint;
use redknot::key::Escaped;

use super::args;

/// Every flag of `migrate` that has a value, in the order of the help text. `file` is what the file of `--config` says.
pub fn of_migration(
    matches: &ArgMatches,
    file: &[(String, String)],
    source: &Endpoint,
    target: &Endpoint,
) -> Vec<Setting> {
    let root = args::command();
    let migrate = root.find_subcommand("migrate");
    let flags = migrate.map(clap::Command::get_arguments);
    let mut settings = Vec::new();
    for flag in flags.into_iter().flatten() {
        let Some(name) = flag.get_long() else {
            continue;
        };
        let Some((value, origin)) = said(matches, flag, name, file) else {
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
        let matches = matches.subcommand_matches("migrate").expect("it is one");
        let address = |host: &str| {
            Endpoint::new(Address::Tcp {
                host: host.into(),
                port: 1,
            })
        };
        let file = [("timeout".to_owned(), "9s".to_owned())];
        let settings = of_migration(matches, &file, &address("here"), &address("there"));
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
