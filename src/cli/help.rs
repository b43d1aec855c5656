//! Help that is more than a list of flags.

use super::args;
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;

const TOPICS: [&str; 5] = [
    "exit-codes",
    "environment",
    "urls",
    "selection",
    "guarantees",
];

/// Shown when nothing is asked.
pub const SHORT: &str = "\
redknot moves a Redis that can only be SCANned. Kill it anywhere, run the same command again.

Usage: redknot <COMMAND> [FLAGS]

Commands:
  migrate   create a migration, or continue it
  status    how migrations stand
  compare   are both sides equal, by value?
  repair    make the target right where a comparison found it wrong
  keys      list keys by what became of them
  throttle  change how hard a run presses on its servers while it works
  audit     what was done, as a page too, and whether the records of it fit together
  acl       users for both servers that may do what is needed and nothing else
  demo      see it work on two throw-away servers
  rump      the old spelling: rump -from URL -to URL [-ttl] [-silent]
  help      more about a command or a topic

Examples:
  redknot demo
  redknot migrate --from cache.example.com:6379 --to 10.0.0.9:6379
  redknot status --watch
";

/// Prints what is known about `topic`: a command, a topic, or everything.
///
/// # Errors
///
/// If there is neither a command nor a topic of that name.
pub fn print(topic: Option<&str>, console: &Console) -> Result<ExitCode, Failure> {
    let text = match topic {
        None => {
            let topics = format!("\nTopics: redknot help {}\n", TOPICS.join(" | "));
            rendered(args::command(), console) + &topics
        }
        Some("exit-codes") => exit_codes(),
        Some("environment") => environment(),
        Some("urls") => URLS.into(),
        Some("selection") => SELECTION.into(),
        Some("guarantees") => GUARANTEES.into(),
        Some(name) => {
            // Flags that all commands share are handed down only by building.
            let mut root = args::command();
            root.build();
            match root.find_subcommand(name) {
                Some(command) => rendered(command.clone(), console),
                None => return Err(unknown(name)),
            }
        }
    };
    console.out(&text);
    Ok(ExitCode::Done)
}

fn unknown(name: &str) -> Failure {
    let commands = args::command();
    let commands: Vec<&str> = commands
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    Failure::usage(
        format!(
            "there is no help about `{}`",
            redknot::key::Escaped(name.as_bytes())
        ),
        format!(
            "commands: {}\ntopics: {}",
            commands.join(", "),
            TOPICS.join(", ")
        ),
        "redknot help",
    )
}

fn rendered(mut command: clap::Command, console: &Console) -> String {
    let text = command.render_long_help();
    match console.out_paint == super::console::Paint::PLAIN {
        true => text.to_string(),
        false => text.ansi().to_string(),
    }
}

/// The table of exit codes, from the only place where they stand.
fn exit_codes() -> String {
    let mut text = String::from(
        "Exit codes. 10-19 are temporary: run the same command again. 20-39 need a human.\n\n",
    );
    for code in ExitCode::ALL {
        let (number, meaning, again) = (code.number(), code.meaning(), code.run_again());
        text.push_str(&format!("  {number:>3}  {meaning}\n"));
        if again != "-" {
            text.push_str(&format!("         run again: {again}\n"));
        }
    }
    text.push_str("\nAny other code is a failure.\n");
    text
}

/// Every variable, from the definitions of the flags.
fn environment() -> String {
    let mut text = String::from(
        "Every flag has a variable. A flag wins over its variable, a variable over the configuration file.\n
  REDKNOT_FROM_PASSWORD    password of the source
  REDKNOT_TO_PASSWORD      password of the target
  NO_COLOR                 any value: no colours
  CLICOLOR_FORCE           any value but 0: colours also where the output is no terminal\n",
    );
    let root = args::command();
    for command in std::iter::once(&root).chain(root.get_subcommands()) {
        let variables: Vec<&clap::Arg> = command
            .get_arguments()
            .filter(|arg| arg.get_env().is_some())
            .collect();
        if !variables.is_empty() {
            let of = if command.get_name() == "redknot" {
                "all commands"
            } else {
                command.get_name()
            };
            text.push_str(&format!("\nFor {of}:\n"));
        }
        for arg in variables {
            let variable = arg.get_env().unwrap_or_default().to_string_lossy();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {variable:<24} {help}\n"));
        }
    }
    text
}

const URLS: &str = "\
How a server is named

  host                                  port 6379, database 0
  host:port, host:port/db
  redis://[user[:password]@]host[:port][/db]       /db may also be written ?db=N
  redis://:password@host                password without a user
  redis://user:@host                    a user without a password
  redis://[2001:db8::7]:6379            IPv6 stands in brackets
  rediss://…                            the same over TLS; also valkeys://
  redis://host:port,host                nodes of one cluster: whoever answers knows the others;
                                        on a later run also nodes that an earlier one has met
  redis+unix:///path/to/socket?db=N     also unix:///path/to/socket
  redis-sentinel://host:port,host/service/db       whoever is the master of the service, which its
                                        sentinels are asked; port 26379; rediss-sentinel:// with TLS

In a URL any byte of user, password and path can be written as %XX, and these have to be:
  @ %40   : %3A   / %2F   ? %3F   # %23   % %25

Passwords, best first; the first one that is given is used
  --from-pass-file FILE   nobody else should be able to read it (chmod 600); `-` is standard input;
                          the newline at its end does not belong to the password
  REDKNOT_FROM_PASSWORD   in the environment
  --from-askpass          asked on the terminal
  in the URL              it stays in the shell's history; in the list of processes it is masked,
                          but for a moment it was there

The same for the target with --to-pass-file, REDKNOT_TO_PASSWORD, --to-askpass.
With sentinels, user and password above are those of the servers; their own are given by
  --from-sentinel-user, --from-sentinel-pass-file or REDKNOT_FROM_SENTINEL_PASSWORD.
Passwords are not stored: a command that continues a migration needs them again.

TLS, with rediss:// or --from-tls; the same for the target with --to-…
  The certificate has to be signed by an authority of this system, in date, and for the host.
  --from-cacert FILE      the authorities to believe instead (PEM)
  --from-sni NAME         the name to expect instead of the host
  --from-cert FILE, --from-key FILE     our certificate and its key, for a server that asks
  --from-insecure         believe anybody; warned of each time, and kept in the status
  --require-tls           refuse to speak to another machine without TLS, or to anybody unverified
What fails with TLS ends the run (exit 21); nothing is tried again without it.

Rights: redknot acl prints a user for each side that may do what is needed and nothing else.

migrate takes a cluster by the address of any of its nodes.
";

const SELECTION: &str = "\
Which keys are moved, and what they are called on the target

All of it is part of the plan: a run that continues, compare, repair and keys go by the same, and
another command line is another migration. Names are bytes; patterns are those of KEYS.

Databases
  --db 0,3                each to the same number
  --all-dbs               all that hold keys when the migration is created; a run that continues
                          keeps them, and databases that got keys later are named, not moved
  --db-map 3:0,5:1        other numbers on the target; alone, it also says which are moved
  --db-map '*:0'          all others of --db or --all-dbs, for example into a cluster
  Where several go to one, a name belongs to the lowest-numbered database that has it: its key is
  moved, the others of that name are quarantined, each with both databases in its reason. Which
  one that is, the source is asked each time. --db-prefix keeps them all.

Names that are moved; a key has to pass all that is given
  --match GLOB            one pattern, which SCAN filters by: what it leaves out is not counted
  --exclude GLOB          none of these patterns; may be given several times. In --config a list
  --type TYPE,TYPE        only these types
  --shard K/N             the K-th of N parts that together are all keys: those for which the first
                          eight bytes of the name's BLAKE3, as a big-endian number, times N, divided
                          by 2^64 and rounded down, is K-1
  --strip-prefix TEXT     only names that begin so. What these flags leave out counts as filtered

Names on the target, put together in this order
  --prefix TEXT           goes first
  --db-prefix[=TEXT]      then this, with {db} for the number of the database [db{db}:]; something
                          other than a digit has to follow {db}
  --strip-prefix TEXT     and then the name without this
  A comparison passes over names of the target that no key can have by that. Findings, quarantined
  keys and events go by the name and the database of the source.

Lists, for servers that nobody may SCAN
  --keys-from FILE        only these keys; `-` is standard input. Nothing is scanned
                          One name a line, escaped as redknot keys prints it: \\n \\r \\t \\\\ \\\" \\xHH.
                          What follows a tab is left out, so the output of redknot keys fits.
  -0, --keys-from0        the names as they are, each followed by a NUL
  The list is kept beside the state (keys-from), and its BLAKE3 is in the plan: another list is
  another migration, and a pipe has to be read only once. A name that the source does not have
  counts as vanished. What only the target has is looked for among the names of the list alone.
";

const GUARANTEES: &str = "\
What is guaranteed

  A key counts as migrated only after the target acknowledged it and that fact is on disk (fsync).
  Killed at any instant, the same command continues, and sends again at most the batches in flight.
  The saved cursor is never ahead of a batch that is not durably acknowledged.
  A cursor is used only on the server process that issued it; otherwise a new pass begins.
  Complete means: scanned from 0 to 0 on one server process, and every key accounted for:
    scanned = written + vanished + kept + quarantined + filtered.
  A key with an expiry never becomes permanent; an expired key never comes back.
  The source is only read. The target is never wiped, and written only if it is empty or you said
    with --on-conflict what happens to keys that it already has.
  Nothing is deleted on the target but by `repair --apply --delete-extra`: keys that a comparison
    found only there, with their number confirmed, each after the source was asked once more.
  A state that is damaged, foreign or contradictory stops the run; nothing in it is deleted.
  Passwords are neither stored nor shown.
  With --record-digests, `compare --recorded` proves by type, value and expiry that the target holds
    what was written, also when the source is gone. It says what it can't know: keys that were
    kept or quarantined. 32 bytes a key are kept for it.

What is not

  One point in time over all keys, or atomicity across keys.
  Keys that were created after a pass began.
  Anything, if somebody else writes the same keys on the target.
  Durability beyond the target's own.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_explained() {
        let text = exit_codes();
        for code in ExitCode::ALL {
            let line = format!("  {:>3}  {}\n", code.number(), code.meaning());
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn every_variable_is_named() {
        let text = environment();
        for variable in [
            "REDKNOT_FROM",
            "REDKNOT_TO_ASKPASS",
            "REDKNOT_STATE_DIR",
            "REDKNOT_WATCH",
            "REDKNOT_ALL_DBS",
            "REDKNOT_KEYS_FROM0",
            "REDKNOT_KEYS",
        ] {
            assert!(text.contains(&format!("  {variable} ")), "{variable}");
        }
    }

    #[test]
    fn help_fits_a_terminal_of_100_columns() {
        for text in [SHORT, URLS, SELECTION, GUARANTEES, &exit_codes()] {
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }
}
