//! From the flags about databases and names to the parts of a plan.
//!
//! # Invariant
//!
//! What comes out of here means one thing: a pattern that servers read in a way nobody means, a number that is mapped
//! twice, and a prefix that would not do what it is for are refused.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use redknot::key::Escaped;
use redknot::plan::{Databases, DbMap, LanePlan, Plan};
use redknot::renaming::DbPrefix;

use super::args::{Mapped, SelectionArgs};
use super::failure::Failure;
use super::servers::Server;

/// Puts what the flags say about names into the plan.
///
/// # Errors
///
/// What can't be meant.
pub fn names(
    plan: Plan,
    match_glob: Option<OsString>,
    args: &SelectionArgs,
) -> Result<Plan, Failure> {
    let match_glob = match_glob.map(OsStringExt::into_vec);
    if let Some(glob) = &match_glob {
        check_glob("--match", glob)?;
    }
    let mut exclude = Vec::new();
    for glob in &args.exclude {
        check_glob("--exclude", glob.as_bytes())?;
        if glob.as_bytes().iter().all(|byte| *byte == b'*') {
            return Err(Failure::usage(
                format!("--exclude can't be `{}`", Escaped(glob.as_bytes())),
                "it matches every name, and no key would be left",
                "leave it away, or name what is to be left out",
            ));
        }
        exclude.push(glob.as_bytes().to_vec());
    }
    exclude.sort_unstable();
    exclude.dedup();
    let db_prefix = args.db_prefix.as_deref().map(db_prefix).transpose()?;
    Ok(Plan {
        match_glob,
        exclude,
        shard: args.shard,
        strip_prefix: prefix("--strip-prefix", args.strip_prefix.as_deref())?,
        prefix: prefix("--prefix", args.prefix.as_deref())?,
        db_prefix,
        ..plan
    })
}

fn prefix(flag: &str, text: Option<&OsStr>) -> Result<Option<Vec<u8>>, Failure> {
    match text {
        Some(text) if text.is_empty() => Err(Failure::usage(
            format!("{flag} can't be empty"),
            "every name begins with nothing",
            "leave it away where names stay what they are",
        )),
        text => Ok(text.map(|text| text.as_bytes().to_vec())),
    }
}

fn db_prefix(text: &OsStr) -> Result<DbPrefix, Failure> {
    DbPrefix::new(text.as_bytes()).map_err(|error| {
        Failure::usage(
            format!("--db-prefix can't be `{}`", Escaped(text.as_bytes())),
            error.to_string(),
            format!("--db-prefix alone means {}", DbPrefix::DEFAULT),
        )
    })
}

/// Refuses patterns that Redis reads in a way that nobody means.
fn check_glob(flag: &str, glob: &[u8]) -> Result<(), Failure> {
    const HINT: &str = "as in KEYS: * any text, ? one character, [a-z] one of them, \\ before a character that is meant itself";
    let refuse = |why: &str| {
        let shown = Escaped(glob);
        Err(Failure::usage(
            format!("{flag} can't be `{shown}`"),
            why,
            HINT,
        ))
    };
    if glob.is_empty() {
        return refuse(
            "an empty pattern matches only the key with the empty name; left out, all keys are moved",
        );
    }
    match flaw(glob) {
        None => Ok(()),
        Some(Flaw::Escape) => refuse("nothing follows the `\\` at its end"),
        Some(Flaw::Open) => refuse("a `[` is not closed"),
        Some(Flaw::Range) => refuse(
            "a range with an end beyond ASCII means something else on servers of another kind of processor",
        ),
    }
}

/// What is wrong with a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    Escape,
    Open,
    Range,
}

fn flaw(glob: &[u8]) -> Option<Flaw> {
    let mut at = 0;
    let mut in_brackets = false;
    while let Some(&byte) = glob.get(at) {
        match (byte, in_brackets) {
            (b'\\', _) if at + 1 == glob.len() => return Some(Flaw::Escape),
            (b'\\', _) => at += 1,
            (b'[', false) => {
                in_brackets = true;
                at += usize::from(glob.get(at + 1) == Some(&b'^'));
            }
            (b']', true) => in_brackets = false,
            // As a server reads it: the end of a range may be a bracket.
            (first, true) if glob.get(at + 1) == Some(&b'-') && at + 2 < glob.len() => {
                if !first.is_ascii() || !glob[at + 2].is_ascii() {
                    return Some(Flaw::Range);
                }
                at += 2;
            }
            _ => {}
        }
        at += 1;
    }
    in_brackets.then_some(Flaw::Open)
}

/// Which databases go where. The lanes are empty where only the source can say which there are.
///
/// # Errors
///
/// Flags that contradict each other.
pub fn databases(
    dbs: &[u32],
    args: &SelectionArgs,
    source: &Server,
    target: &Server,
) -> Result<(Databases, Vec<LanePlan>), Failure> {
    let map = map(&args.db_map)?;
    let said = match (args.all_dbs, !dbs.is_empty(), !args.db_map.is_empty()) {
        (true, true, _) => {
            return Err(contradict(
                "--all-dbs and --db",
                "one names some databases, the other means all that hold keys",
            ));
        }
        (true, ..) => "--all-dbs",
        (_, true, _) => "--db",
        (_, _, true) => "--db-map",
        (false, false, false) => {
            let lane = LanePlan {
                source_db: source.endpoint.db,
                target_db: target.endpoint.db,
            };
            return Ok((Databases::Named, vec![lane]));
        }
    };
    for (server, url, flag) in [(source, "--from", "--from-db"), (target, "--to", "--to-db")] {
        if server.db_given {
            return Err(contradict(
                &format!("{said} and the database of {url}"),
                &format!(
                    "{said} names the databases of both sides, and {url} or {flag} names one too"
                ),
            ));
        }
    }
    if args.all_dbs {
        return Ok((Databases::All(map), Vec::new()));
    }
    let mut dbs = dbs.to_vec();
    match (dbs.is_empty(), map.others) {
        (true, Some(_)) => {
            return Err(Failure::usage(
                "--db-map with a star does not say which databases there are",
                "`*` means all others of those that are moved",
                "give --all-dbs, or --db with their numbers",
            ));
        }
        (true, None) => dbs = map.pairs.iter().map(|pair| pair.source_db).collect(),
        (false, _) => {}
    }
    dbs.sort_unstable();
    dbs.dedup();
    let not_moved = map.pairs.iter().find(|pair| !dbs.contains(&pair.source_db));
    if let Some(pair) = not_moved {
        return Err(contradict(
            &format!("--db-map {pair} and --db"),
            &format!("database {} is not among those of --db", pair.source_db),
        ));
    }
    let lanes = dbs.into_iter().map(|db| map.lane(db)).collect();
    Ok((Databases::Named, lanes))
}

fn map(words: &[Mapped]) -> Result<DbMap, Failure> {
    let mut map = DbMap::default();
    for word in words {
        match *word {
            Mapped::Pair(pair) => map.pairs.push(pair),
            Mapped::Others(db) if map.others.is_none_or(|earlier| earlier == db) => {
                map.others = Some(db);
            }
            Mapped::Others(_) => return Err(mapped_twice("`*`")),
        }
    }
    map.pairs
        .sort_by_key(|pair| (pair.source_db, pair.target_db));
    map.pairs.dedup();
    let twice = map
        .pairs
        .windows(2)
        .find(|pairs| pairs[0].source_db == pairs[1].source_db);
    match twice {
        Some(pairs) => Err(mapped_twice(&format!("database {}", pairs[0].source_db))),
        None => Ok(map),
    }
}

fn mapped_twice(what: &str) -> Failure {
    Failure::usage(
        format!("--db-map sends {what} to two places"),
        "a migration moves a key to one place",
        "leave one of them away; a second migration with another --name can move it elsewhere",
    )
}

fn contradict(flags: &str, why: &str) -> Failure {
    Failure::usage(
        format!("{flags} contradict each other"),
        why,
        "leave one of them away",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_redis_would_misread_is_refused() {
        for glob in [
            "user:*", "[a-z]?", "a\\[b", "a]b", "[\\]]", "*", "[^a-c]", "[^]", "[]x", "\u{e4}*",
            "[\u{e4}]", "[a-]]", "[[]",
        ] {
            assert_eq!(flaw(glob.as_bytes()), None, "{glob}");
        }
        let check = |glob: &str, wanted| assert_eq!(flaw(glob.as_bytes()), Some(wanted), "{glob}");
        check("[", Flaw::Open);
        check("a[b\\]", Flaw::Open);
        check("[a-]", Flaw::Open);
        check("a\\", Flaw::Escape);
        check("[a\\", Flaw::Escape);
        check("[a-\u{e4}]", Flaw::Range);
        check("[\u{430}-\u{44f}]", Flaw::Range);
        assert!(check_glob("--match", b"").is_err());
    }

    #[test]
    fn a_database_goes_to_one_place() {
        let pair = |source_db, target_db| {
            Mapped::Pair(LanePlan {
                source_db,
                target_db,
            })
        };
        let good = map(&[pair(5, 1), pair(3, 0), pair(3, 0), Mapped::Others(2)]);
        assert_eq!(
            good.map(|map| map.to_string()).ok().as_deref(),
            Some("3:0,5:1,*:2")
        );
        assert!(map(&[pair(3, 0), pair(3, 1)]).is_err());
        assert!(map(&[Mapped::Others(0), Mapped::Others(1)]).is_err());
    }
}
