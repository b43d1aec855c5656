//! Properties of the code itself. Each has its reason in the failure text, so that nobody has to guess what it is for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Longest file: beyond it there is more than one subject in it.
const LINES_MAX: usize = 700;

/// Files shorter than this may open without saying what they guarantee: a `mod` list says it all.
const DOCUMENTED_FROM_LINES: usize = 20;

/// A text that may stand only under some paths of `src`.
struct Confined {
    text: &'static str,
    to: &'static [&'static str],
    because: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        text: "sled::",
        to: &["src/state/"],
        because: "the state store must stay replaceable",
    },
    Confined {
        text: "bincode::",
        to: &["src/state/"],
        because: "the form on disk is the store's own, and bincode is discontinued",
    },
    Confined {
        text: "println!",
        to: &["src/cli/", "src/main.rs", "src/state/tests/"],
        because: "standard output is an interface, and only the command line owns it",
    },
    Confined {
        text: "eprintln!",
        to: &["src/cli/", "src/main.rs", "src/state/tests/"],
        because: "the terminal belongs to the command line: a library that prints tears the progress line",
    },
    Confined {
        text: "process::exit",
        to: &["src/cli/", "src/main.rs"],
        because: "leaving at once skips the checkpoint; only the command line may decide that",
    },
    Confined {
        text: "thread::sleep",
        to: &["src/cli/", "src/state/"],
        because: "a sleeping thread stops the whole data path; wait on the runtime's clock",
    },
    Confined {
        text: "FLUSHALL",
        to: &[],
        because: "the target is never wiped (promise P8), so the command must not be in the binary",
    },
    Confined {
        text: "FLUSHDB",
        to: &[],
        because: "the target is never wiped (promise P8), so the command must not be in the binary",
    },
    Confined {
        text: "clap::",
        to: &["src/cli/", "src/main.rs"],
        because: "flags become plain values once, at the edge; the core never sees an argument parser",
    },
    Confined {
        text: "indicatif::",
        to: &["src/cli/"],
        because: "the core reports events and does not know whether somebody watches",
    },
    Confined {
        text: "anyhow::",
        to: &["src/cli/", "src/main.rs"],
        because: "an error of the library says which side, doing what, and whether to try again; anyhow forgets that",
    },
    Confined {
        text: "std::fs::",
        to: &[
            "src/state/",
            "src/audit/",
            "src/cli/",
            "src/config/",
            "src/main.rs",
        ],
        because: "the pure modules take bytes and return values; the copy keeps nothing on disk but through the store",
    },
];

#[test]
fn names_stay_where_they_belong() {
    let mut breaches = String::new();
    let sources = sources();
    for source in &sources {
        for rule in CONFINED {
            if rule.to.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (number, line) in source.code_lines() {
                if line.contains(rule.text) {
                    let Confined { text, to, because } = rule;
                    writeln!(
                        breaches,
                        "{}:{number}: `{text}` belongs to {to:?}: {because}",
                        source.path
                    )
                    .unwrap();
                }
            }
        }
    }
    assert!(breaches.is_empty(), "\n{breaches}");
    assert!(sources.len() > 10, "the sources were not found");
}

#[test]
fn every_confining_rule_finds_what_it_is_about() {
    for rule in CONFINED {
        let source = Source {
            path: "src/copy/mod.rs".to_owned(),
            text: format!("    {}x();", rule.text),
        };
        let found = source
            .code_lines()
            .any(|(_, line)| line.contains(rule.text));
        assert!(
            found,
            "the rule about {} would never find anything",
            rule.text
        );
    }
}

#[test]
fn a_file_has_one_subject() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines, {LINES_MAX} at most: there is more than one subject in it",
            source.path
        );
    }
}

#[test]
fn a_file_says_first_what_it_guarantees() {
    for source in sources() {
        let undocumented =
            !source.text.starts_with("//!") && source.text.lines().count() >= DOCUMENTED_FROM_LINES;
        assert!(
            !undocumented,
            "{} must open with //!: what it is, and what always holds in it",
            source.path
        );
    }
}

#[test]
fn pure_modules_do_no_input_or_output() {
    for source in sources() {
        let pure = [
            "src/resp/",
            "src/rdb/",
            "src/cluster/",
            "src/key.rs",
            "src/plan.rs",
            "src/glob.rs",
            "src/selection.rs",
            "src/renaming.rs",
        ]
        .iter()
        .any(|path| source.path.starts_with(path));
        for (number, line) in source.code_lines().filter(|_| pure) {
            for forbidden in [
                "tokio::net",
                "std::net",
                "std::fs",
                "crate::client",
                "crate::state",
                "crate::copy",
            ] {
                assert!(
                    !line.contains(forbidden),
                    "{}:{number}: {forbidden} in a pure module: a fuzzer must be able to call it directly",
                    source.path
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    for source in sources()
        .into_iter()
        .chain(sources_under("tests"))
        .chain(sources_under("benches"))
    {
        if source.path.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            for mark in ["TODO", "FIXME", "XXX", "HACK"] {
                let marked = line
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == mark);
                assert!(
                    !marked,
                    "{}:{}: an unfinished thing is an issue, not a comment",
                    source.path,
                    number + 1
                );
            }
        }
    }
}

struct Source {
    /// From the root of the project.
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, without comments, up to the unit tests.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .take_while(|(_, line)| !line.starts_with("mod tests {"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The code of redknot, without the files that are unit tests from first to last.
fn sources() -> Vec<Source> {
    let mut sources = sources_under("src");
    sources.retain(|source| !source.path.ends_with("/tests.rs"));
    sources
}

fn sources_under(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        // Not every folder has to exist.
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source {
                    text: std::fs::read_to_string(&path).unwrap(),
                    path: path.strip_prefix(root).unwrap().display().to_string(),
                });
            }
        }
    }
    sources
}
