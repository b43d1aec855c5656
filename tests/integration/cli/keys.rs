//! `keys`: names of any bytes, for people, for `xargs -0` and for programs.

use std::process::Stdio;

use super::{Said, command, on_terminal};
use crate::support::proxy::Proxy;
use crate::support::redknot::Redknot;
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};

/// A migration whose target refused some keys, by their names.
struct Refused {
    folder: tempfile::TempDir,
    /// In the order of their bytes.
    names: Vec<Vec<u8>>,
}

impl Refused {
    fn new(names: &[&[u8]]) -> Option<Self> {
        let redis = require(REDIS_7_0)?;
        let (source, target) = (Server::plain(&redis), Server::plain(&redis));
        let proxy = Proxy::start(target.port(), seed());
        let mut connection = source.connection_to(3);
        let set = |connection: &mut redis::Connection, name: &[u8]| {
            redis::cmd("SET")
                .arg(name)
                .arg("value")
                .exec(connection)
                .unwrap();
        };
        set(&mut connection, b"accepted");
        let rules: Vec<_> = names
            .iter()
            .map(|name| {
                set(&mut connection, name);
                let on = proxy.on("RESTORE").key(name).always();
                on.answer("-ERR Bad data format")
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(3), &proxy.url(5), folder.path())
            .args(["--name", "shop", "--write-with", "restore"])
            .run()
            .expect_code(1);
        for rule in rules {
            assert!(proxy.fired(rule) > 0, "a key was not refused");
        }
        assert_eq!(target.keys(5), 1);
        let mut names: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        names.sort();
        Some(Self { folder, names })
    }

    fn keys(&self, args: &[&str]) -> Redknot {
        Redknot::new(["keys", "shop", "--state-dir"])
            .arg(self.folder.path())
            .args(args)
    }
}

const HOSTILE: &[&[u8]] = &[
    b"",
    b"plain",
    b"tab\tand\nnewline",
    b"\x1b]0;owned\x07\x1b[2J",
    b"\xff\xfe\x00\x80",
    "\u{202e}gnp.exe \u{1f426}".as_bytes(),
];

#[test]
fn names_of_any_bytes_come_out_unharmed_and_harm_nobody() {
    let Some(refused) = Refused::new(HOSTILE) else {
        return;
    };
    let lines = refused
        .keys(&["--class", "quarantined"])
        .env("LC_ALL", "C.UTF-8")
        .run()
        .expect_code(0)
        .stdout();
    let mut sorted: Vec<&str> = lines.lines().collect();
    sorted.sort_unstable();
    insta::assert_snapshot!(sorted.join("\n"), @r"
    	db3	quarantined	the target refuses the payload: ERR Bad data format
    \x1b]0;owned\x07\x1b[2J	db3	quarantined	the target refuses the payload: ERR Bad data format
    \xe2\x80\xaegnp.exe 🐦	db3	quarantined	the target refuses the payload: ERR Bad data format
    \xff\xfe\x00\x80	db3	quarantined	the target refuses the payload: ERR Bad data format
    plain	db3	quarantined	the target refuses the payload: ERR Bad data format
    tab\tand\nnewline	db3	quarantined	the target refuses the payload: ERR Bad data format
    ");
    // Where only ASCII can be shown, a name can still be read back.
    let ascii = refused
        .keys(&["--class", "quarantined"])
        .env("LC_ALL", "C")
        .run()
        .expect_code(0)
        .stdout();
    assert!(ascii.is_ascii(), "{ascii}");
    assert!(
        ascii.contains(r"\xe2\x80\xaegnp.exe \xf0\x9f\x90\xa6"),
        "{ascii}"
    );

    let raw = refused
        .keys(&["--class", "quarantined", "-0"])
        .run()
        .expect_code(0)
        .stdout;
    // One of the names has a NUL itself: what is written is what was stored, in whatever order.
    let mut written = raw.clone();
    written.sort_unstable();
    let mut stored: Vec<u8> = refused.names.iter().flatten().copied().collect();
    stored.extend(std::iter::repeat_n(0, refused.names.len()));
    stored.sort_unstable();
    assert_eq!(written, stored);
    for name in &refused.names {
        let ended = [name.as_slice(), b"\0"].concat();
        assert!(raw.windows(ended.len()).any(|window| window == ended));
    }

    let listed = refused.keys(&["--class", "quarantined", "--json"]).run();
    let mut hex: Vec<String> = Vec::new();
    for line in listed.expect_code(0).json_lines() {
        assert_eq!(line["class"], "quarantined", "{line}");
        assert_eq!((&line["db"], &line["cut"]), (&3.into(), &false.into()));
        assert_eq!(line["error"], "ERR Bad data format");
        hex.push(line["key_hex"].as_str().unwrap().to_owned());
    }
    hex.sort_unstable();
    let wanted: Vec<String> = refused
        .names
        .iter()
        .map(|name| name.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    assert_eq!(hex, wanted);
}

#[test]
fn a_name_that_is_not_stored_whole_is_marked_and_never_taken_for_another() {
    let long = vec![b'n'; 60_000];
    let Some(refused) = Refused::new(&[&long, b"short"]) else {
        return;
    };
    let lines = refused.keys(&["--class", "quarantined"]).run();
    let lines = lines.expect_code(1);
    assert!(
        lines
            .stdout()
            .contains("(the first 4096 of the name's 60000 bytes)"),
        "{lines}"
    );
    let raw = refused.keys(&["--class", "quarantined", "-0"]).run();
    let raw = raw.expect_code(1);
    assert_eq!(raw.stdout, b"short\0");
    insta::assert_snapshot!(raw.stderr(), @r"
    warning: 1 of 2 names are longer than what is kept of them, and left out
    ");
    let json = refused.keys(&["--class", "quarantined", "--json"]).run();
    let cut = json
        .json_lines()
        .into_iter()
        .find(|line| line["cut"] == true);
    assert_eq!(cut.unwrap()["key_bytes"], 60_000);
}

#[test]
fn what_can_not_be_listed_is_said() {
    let Some(refused) = Refused::new(&[b"one"]) else {
        return;
    };
    let state = refused.folder.path().to_str().unwrap();
    let said = |args: &[&str]| {
        let finished = Redknot::new(args).args(["--state-dir", state]).run();
        let line = args.join(" ");
        let said = Said::of(&finished).hide_path(refused.folder.path(), "FOLDER");
        format!("$ redknot {line}\n{said}\n\n")
    };
    let said = [
        said(&["keys"]),
        said(&["keys", "--class", "kept"]),
        said(&["keys", "--class", "wrong"]),
        said(&["keys", "nosuch", "--class", "quarantined"]),
        said(&["keys", "../shop", "--class", "quarantined"]),
        said(&["keys", "-0", "--json", "--class", "quarantined"]),
    ];
    insta::assert_snapshot!(said.concat(), @r#"
    $ redknot keys
    exit 2
    error: --class is missing
      which keys are to be listed has to be said
    hint: --class quarantined|findings|missing|value|type|ttl|extra|undecided

    $ redknot keys --class kept
    exit 2
    error: the keys that were kept are counted, not listed
      a target may have as many of them as it has keys, and nobody has looked at their values
    hint: redknot compare looks at them: those that differ are listed with --class value, type or ttl

    $ redknot keys --class wrong
    exit 2
    error: --class can't be `wrong`
      possible: quarantined, findings, missing, value, type, ttl, extra, undecided
    hint: redknot keys --help

    $ redknot keys nosuch --class quarantined
    exit 2
    error: failed to find the migration
      there is no migration "nosuch" in FOLDER
    hint: there are: shop

    $ redknot keys ../shop --class quarantined
    exit 2
    error: failed to find the migration
      there is no migration "../shop" in FOLDER
    hint: there are: shop

    $ redknot keys -0 --json --class quarantined
    exit 2
    error: --null and --json contradict each other
      one writes names alone, the other an object a line
    hint: leave one of them away
    "#);
    let args = ["keys", "--class", "quarantined", "-0", "--state-dir", state];
    let (code, shown) = on_terminal(&args, &[], 80, None);
    assert_eq!(code, Some(2), "{shown}");
    assert!(
        shown.contains("which a terminal must not be shown"),
        "{shown}"
    );
    // A list that nobody asks for any more ends quietly.
    let mut child = command(env!("CARGO_BIN_EXE_redknot"))
        .args(["keys", "--class", "quarantined", "--state-dir", state])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_run_is_not_disturbed_and_nothing_is_changed() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    redis::cmd("DEBUG")
        .arg("POPULATE")
        .arg(2_000)
        .exec(&mut source.connection())
        .unwrap();
    let proxy = Proxy::start(target.port(), seed());
    let folder = tempfile::tempdir().unwrap();
    let stalled = proxy.on_writes().skip(1_000).stall_reply();
    let running = Redknot::migrate(&source.url(0), &proxy.url(0), folder.path())
        .args(["--name", "shop"])
        .start();
    crate::support::wait_for(
        "a stalled target",
        std::time::Duration::from_secs(30),
        || (proxy.fired(stalled) == 1).then_some(()),
    );
    let keys = || {
        Redknot::new(["keys", "shop", "--class", "quarantined", "--state-dir"])
            .arg(folder.path())
            .run()
    };
    let refused = keys().expect_code(14);
    assert!(
        refused.stderr().contains("`redknot migrate` with pid"),
        "{refused}"
    );
    proxy.replies().flow();
    running.wait().expect_code(0);
    let journal = folder.path().join("shop/audit.ndjson");
    let before = std::fs::read(&journal).unwrap();
    let listed = keys().expect_code(0);
    assert_eq!(listed.stdout(), "");
    assert!(
        listed
            .stderr()
            .contains("there is no key of class quarantined")
    );
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    let status = crate::support::redknot::status("shop", folder.path());
    assert_eq!(status.run, 1);
    Redknot::migrate(&source.url(0), &proxy.url(0), folder.path())
        .args(["--name", "shop"])
        .run()
        .expect_code(0);
}
