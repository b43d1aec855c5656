//! `redknot rump -from URL -to URL [-ttl] [-silent]`: a documented rump command line works unchanged.
//!
//! Flags are read as Go's `flag` package does: one dash or two, `-from URL` or `-from=URL`, switches as `-ttl` or
//! `-ttl=false`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use redknot::plan::OnConflict;

use super::args::{Common, MigrateArgs, RumpArgs};
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::settings::OnCommandLine;
use super::{Exit, help, migrate, origins, settings};

const USAGE: &str =
    "redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]";

/// What a rump command line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    from: Option<OsString>,
    to: Option<OsString>,
    ttl: bool,
    silent: bool,
    help: bool,
}

/// Migrates as rump would have, but keeps expiries and can be continued.
///
/// # Errors
///
/// What can't be read, what rump could and redknot can't (files), and what ended the run.
pub fn run(
    args: RumpArgs,
    common: &Common,
    console: &Console,
    exit: &Exit,
) -> Result<ExitCode, Failure> {
    let said = parse(args.words)?;
    if said.help {
        return help::print(Some("rump"), console);
    }
    let (from, to) = (redis_url("-from", said.from)?, redis_url("-to", said.to)?);
    let mut console = *console;
    console.quiet |= said.silent;
    if !said.ttl {
        console.note("expiries are kept; rump without -ttl would have dropped them, as redknot migrate --ttl drop does");
    }
    let args = MigrateArgs {
        from: Some(from),
        to: Some(to),
        // rump writes over whatever it finds.
        on_conflict: Some(OnConflict::Replace),
        ..MigrateArgs::default()
    };
    let visible = OnCommandLine {
        from: true,
        to: true,
    };
    let mut asked = settings::migration(args, visible, common, &console)?;
    let request = &mut asked.request;
    request.settings = origins::of_rump(&request.source, &request.target, said.ttl);
    migrate::run(asked, &console, exit)
}

/// A server, which rump knows by its scheme; everything else is a file to it.
fn redis_url(flag: &str, value: Option<OsString>) -> Result<OsString, Failure> {
    let Some(url) = value.filter(|url| !url.is_empty()) else {
        return Err(Failure::usage(
            format!("rump: {flag} is missing"),
            "rump needs a source and a target",
            USAGE,
        ));
    };
    if !url.as_bytes().windows(3).any(|bytes| bytes == b"://") {
        return Err(Failure::usage(
            format!("rump: {flag} is a file"),
            "rump could copy to and from files; redknot copies from server to server only",
            "start a throw-away redis-server and use its address, or keep rump for this step",
        ));
    }
    Ok(url)
}

fn parse(words: Vec<OsString>) -> Result<Said, Failure> {
    let mut said = Said::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, value) = split(&word)?;
        match name.as_str() {
            "from" => said.from = Some(value_of("-from", value, &mut words)?),
            "to" => said.to = Some(value_of("-to", value, &mut words)?),
            "ttl" => said.ttl = switch("-ttl", value)?,
            "silent" => said.silent = switch("-silent", value)?,
            "h" | "help" => said.help = true,
            _ => {
                let shown = redknot::key::Escaped(name.as_bytes());
                return Err(Failure::usage(
                    format!("rump: unknown flag `-{shown}`"),
                    "rump has -from, -to, -ttl and -silent",
                    USAGE,
                ));
            }
        }
    }
    Ok(said)
}

/// Name and value of `-name`, `--name` or `-name=value`.
fn split(word: &OsStr) -> Result<(String, Option<OsString>), Failure> {
    let bytes = word.as_bytes();
    let name = bytes
        .strip_prefix(b"--")
        .or_else(|| bytes.strip_prefix(b"-"));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        // It may be an address with a password, so it is not shown.
        return Err(Failure::usage(
            "rump: a word on the command line is no flag",
            "rump has only flags",
            USAGE,
        ));
    };
    let (name, value) = match name.iter().position(|byte| *byte == b'=') {
        Some(at) => (
            &name[..at],
            Some(OsString::from_vec(name[at + 1..].to_vec())),
        ),
        None => (name, None),
    };
    Ok((String::from_utf8_lossy(name).into_owned(), value))
}

fn value_of(
    flag: &str,
    value: Option<OsString>,
    words: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Failure> {
    let missing = || {
        Failure::usage(
            format!("rump: {flag} needs a value"),
            "none follows it",
            USAGE,
        )
    };
    value.or_else(|| words.next()).ok_or_else(missing)
}

fn switch(flag: &str, value: Option<OsString>) -> Result<bool, Failure> {
    let Some(value) = value else {
        return Ok(true);
    };
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        _ => Err(Failure::usage(
            format!("rump: {flag} is true or false"),
            "another value follows the `=`",
            USAGE,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Result<Said, Failure> {
        parse(words.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn flags_are_read_as_rump_reads_them() {
        let all = Said {
            from: Some("redis://a".into()),
            to: Some("redis://b".into()),
            ttl: true,
            silent: true,
            help: false,
        };
        for words in [
            "-from redis://a -to redis://b -ttl -silent",
            "--from redis://a --to redis://b --ttl --silent",
            "-from=redis://a -to=redis://b -ttl=true -silent=1",
            "-silent -ttl -to redis://b -from=redis://a",
        ] {
            assert_eq!(said(words).as_ref(), Ok(&all), "{words}");
        }
        let without = said("-from a -to b -ttl=false").expect("parses");
        assert!(!without.ttl && !without.silent);
        assert_eq!(
            said("-from redis://a?x=1 -from=redis://:p=q@b")
                .expect("parses")
                .from,
            Some("redis://:p=q@b".into())
        );
        assert!(said("-help").expect("parses").help);
    }

    #[test]
    fn what_rump_does_not_know_is_refused_without_showing_it() {
        for words in [
            "redis://:swordfish@a",
            "-",
            "--",
            "-from",
            "-ttl=swordfish",
            "-pass=swordfish",
        ] {
            let failure = said(words).expect_err(words);
            assert!(
                !failure
                    .lines(crate::cli::console::Paint::PLAIN)
                    .contains("swordfish"),
                "{words}"
            );
        }
    }

    #[test]
    fn files_are_rumps_own() {
        for path in ["/backup/memorystore.rump", "dump.rump"] {
            let failure = redis_url("-to", Some(path.into())).expect_err(path);
            assert_eq!(failure.code, ExitCode::Usage);
        }
        assert!(redis_url("-to", Some("redis://h".into())).is_ok());
        assert!(redis_url("-to", None).is_err());
    }
}
