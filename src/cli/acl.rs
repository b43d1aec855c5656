//! `redknot acl`: a user for each side that may do what redknot does and nothing else, as lines to paste.
//!
//! # Invariant
//!
//! What is granted is what the code sends. The tests migrate with these users, and look into the servers' log of what
//! was denied.

use redknot::endpoint::Side;

use super::args::AclArgs;
use super::console::Console;
use super::exit_code::ExitCode;

/// The servers that one form of the lines is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// The first with users: no difference between reading and writing a key.
    Six,
    Seven,
}

/// Commands of both sides: who is it, what time is it there, how many keys has it.
const BOTH: &[&str] = &[
    "ping",
    "select",
    "info",
    "role",
    "time",
    "dbsize",
    "client|setname",
    "client|id",
];
/// Reads of keys: the copy needs a few of them on the target too, where it finds keys that may be its own.
const READS: &[&str] = &[
    "scan",
    "exists",
    "type",
    "dump",
    "pttl",
    "get",
    "mget",
    "lrange",
    "smembers",
    "zrange",
    "hgetall",
    "xinfo|stream",
    // What tells big keys from others before they are read; of the target where it is compared.
    "memory|usage",
];
/// Known since 7.0; a line that names an unknown command is refused as a whole.
const READS_SINCE_SEVEN: &[&str] = &["pexpiretime"];
/// On the source: strings and the proof that none of them has an expiry are read in one transaction.
const TOGETHER: &[&str] = &["multi", "exec"];
/// The only commands that write.
const WRITES: &[&str] = &["restore", "set"];

/// Rights that not everybody needs or has, each with what it is for.
const SOURCE_OPTIONS: &[(&str, &str)] = &[
    (
        "client|no-touch",
        "Redis 7.2 and newer, Valkey: reading a key does not count as using it (LRU, LFU)",
    ),
    CLUSTER_OPTION,
];
const TARGET_OPTIONS: &[(&str, &str)] = &[
    (
        "client|kill",
        "what a lost connection had sent is ended before it is sent again; the user may end any connection then",
    ),
    (
        "module|list",
        "a module's keys are sent only to a target that has the module",
    ),
    CLUSTER_OPTION,
    ("unlink", "only for redknot repair --delete-extra"),
];
/// The nodes of a cluster do not tell each other about users. A target is listed as well, when it is compared.
const CLUSTER_OPTION: (&str, &str) = (
    "cluster|slots +cluster|getkeysinslot +asking",
    "for a cluster, where all of this is pasted at every node, replicas too",
);

/// What it takes to read big keys in pieces: of the source to copy them, of both sides to compare them. Without it they are
/// read whole, and keep the server busy meanwhile.
const PIECES_READS: &[&str] = &[
    "watch",
    "unwatch",
    "multi",
    "exec",
    "strlen",
    "getrange",
    "llen",
    "scard",
    "sscan",
    "zcard",
    "hlen",
    "hscan",
    "xlen",
    "xrange",
    "xpending",
    "xinfo|groups",
    "xinfo|consumers",
];
/// And to write them.
const PIECES_WRITES: &[&str] = &[
    "set",
    "setrange",
    "rpush",
    "ltrim",
    "sadd",
    "zadd",
    "hmset",
    "xadd",
    "xsetid",
    "xgroup|create",
    "xgroup|destroy",
    "xreadgroup",
    "xclaim",
    "expire",
    "pexpire",
    "pexpireat",
    "persist",
    "rename",
    "renamenx",
    "unlink",
];
/// Known where the fields of a hash can expire.
const FIELDS_READS: &str = "hpexpiretime";
const FIELDS_WRITES: &str = "hpexpireat";

/// What `--functions` needs, and `compare` to tell whether libraries are equal.
const FUNCTIONS_SOURCE: &[&str] = &["function|dump", "function|list"];
const FUNCTIONS_TARGET: &[&str] = &["function|list", "function|restore"];

/// Prints the lines of the sides that are asked for.
pub fn run(args: &AclArgs, console: &Console) -> ExitCode {
    let sides = match args.side {
        Some(side) => vec![side],
        None => vec![Side::Source, Side::Target],
    };
    let text: Vec<String> = sides
        .into_iter()
        .map(|side| lines(side, args.functions))
        .collect();
    console.out(&text.join("\n"));
    ExitCode::Done
}

fn lines(side: Side, functions: bool) -> String {
    let (does, options) = match side {
        Side::Source => ("only reads", SOURCE_OPTIONS),
        Side::Target => ("writes by RESTORE and SET alone", TARGET_OPTIONS),
    };
    let mut text = format!(
        "# The {side}: the user {does}. Put a password in the place of PASSWORD.\n\
         # Redis 7.0 and newer, Valkey\n{}\n# Redis 6.0 and 6.2\n{}\n",
        user(side, Generation::Seven),
        user(side, Generation::Six),
    );
    if functions {
        let more = match side {
            Side::Source => FUNCTIONS_SOURCE,
            Side::Target => FUNCTIONS_TARGET,
        };
        let more: Vec<String> = more.iter().map(|command| format!("+{command}")).collect();
        text.push_str(&format!(
            "# For --functions, Redis 7.0 and newer, Valkey: its libraries run as whoever calls them\nACL SETUSER redknot-{side} {}\n",
            more.join(" ")
        ));
    }
    let (pieces, fields) = match side {
        Side::Source => (PIECES_READS.to_vec(), vec![FIELDS_READS]),
        Side::Target => (
            [PIECES_READS, PIECES_WRITES].concat(),
            vec![FIELDS_READS, FIELDS_WRITES],
        ),
    };
    let granted = |commands: Vec<&str>| {
        let granted: Vec<String> = commands
            .iter()
            .map(|command| format!("+{command}"))
            .collect();
        granted.join(" ")
    };
    text.push_str(&format!(
        "# May be added: big keys are copied and compared in pieces (--big-key), instead of keeping both servers busy{}\n\
         ACL SETUSER redknot-{side} {}\n\
         # And with it, Redis 7.4 and newer, Valkey 9: hashes whose fields expire\n\
         ACL SETUSER redknot-{side} {}\n",
        match side {
            Side::Source => "",
            Side::Target => "; the user writes by more than RESTORE and SET then",
        },
        granted(pieces),
        granted(fields)
    ));
    for (command, why) in options {
        text.push_str(&format!(
            "# May be added: {why}\nACL SETUSER redknot-{side} +{command}\n"
        ));
    }
    text.push_str(
        "# Redis 5 and older have no users, only a password that opens everything (requirepass).\n",
    );
    text
}

fn user(side: Side, generation: Generation) -> String {
    let keys = match (side, generation) {
        // `*` does not match the empty name, and there may be a key with it. `~*` stands for all keys, whatever it matches.
        (Side::Source, Generation::Seven) => "%R~* %R~",
        (Side::Source, Generation::Six) | (Side::Target, _) => "~*",
    };
    let since_seven = match generation {
        Generation::Six => &[][..],
        Generation::Seven => READS_SINCE_SEVEN,
    };
    let of_side = match side {
        Side::Source => TOGETHER,
        Side::Target => WRITES,
    };
    let commands: Vec<String> = [BOTH, READS, since_seven, of_side]
        .concat()
        .into_iter()
        .map(|command| format!("+{command}"))
        .collect();
    format!(
        "ACL SETUSER redknot-{side} reset on >PASSWORD {keys} {}",
        commands.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_never_written_and_the_target_never_wiped() {
        for side in [Side::Source, Side::Target] {
            let text = lines(side, false);
            for word in ["+del", "+flush", "+@", "allcommands", "+config"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
            for word in ["+restore", "+set"] {
                assert_eq!(text.contains(word), side == Side::Target, "{text}");
            }
            assert!(!text.contains("redknot-source +unlink"), "{text}");
        }
    }

    #[test]
    fn the_old_servers_line_has_nothing_that_they_do_not_know() {
        for side in [Side::Source, Side::Target] {
            let line = user(side, Generation::Six);
            assert!(
                !line.contains("pexpiretime") && !line.contains('%'),
                "{line}"
            );
        }
    }
}
