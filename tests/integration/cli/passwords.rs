//! Where passwords and flags come from: files, the environment, a terminal; and that no password is left behind.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Said, on_terminal, with_stdin};
use crate::support::comparing::{compare, compare_urls, repair};
use crate::support::proxy::Proxy;
use crate::support::redknot::Redknot;
use crate::support::secrets::assert_absent;
use crate::support::server::{Server, ServerSpec, free_port};
use crate::support::version::{REDIS_6_0, REDIS_7_0, require};

fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_password_file_that_can_hold_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = file(folder.path(), "empty", b"", 0o600);
    let newline = file(folder.path(), "newline", b"\n", 0o600);
    let long = file(folder.path(), "long", &[b'x'; 70_000], 0o600);
    let mut said = String::new();
    for path in [
        folder.path().join("missing"),
        folder.path().to_owned(),
        empty,
        newline,
        long,
    ] {
        let finished = Redknot::new([
            "migrate",
            "--from",
            "redis://h",
            "--to",
            "redis://g",
            "--from-pass-file",
        ])
        .arg(&path)
        .run();
        said.push_str(&format!(
            "{}\n\n",
            Said::of(&finished).hide_path(folder.path(), "FOLDER")
        ));
    }
    insta::assert_snapshot!(said, @r"
    exit 2
    error: --from-pass-file FOLDER/missing: no password in it
      No such file or directory (os error 2)
    hint: the file holds the password and nothing else

    exit 2
    error: --from-pass-file FOLDER: no password in it
      Is a directory (os error 21)
    hint: the file holds the password and nothing else

    exit 2
    error: --from-pass-file FOLDER/empty: no password in it
      it is empty
    hint: the file holds the password and nothing else

    exit 2
    error: --from-pass-file FOLDER/newline: no password in it
      it is empty
    hint: the file holds the password and nothing else

    exit 2
    error: --from-pass-file FOLDER/long: no password in it
      it has more than 64 KiB
    hint: the file holds the password and nothing else
    ");
}

/// Every way of giving a password, to a server with one of unpleasant bytes; afterwards it is nowhere.
#[test]
fn a_password_arrives_by_every_way_and_is_left_nowhere() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    const PASSWORD: &str = "sword#@:/?%\"'fish \u{e4}\x7f";
    const ENCODED: &str = "sword%23%40%3A%2F%3F%25%22%27fish%20%C3%A4%7F";
    let source = Server::start(ServerSpec::new(binary.clone()));
    let target = Server::plain(&binary);
    redis::cmd("SET")
        .arg("key")
        .arg("value")
        .query::<()>(&mut source.connection())
        .unwrap();
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg(PASSWORD)
        .query::<()>(&mut source.connection())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let with_newline = file(
        folder.path(),
        "secret",
        format!("{PASSWORD}\r\n").as_bytes(),
        0o600,
    );
    let (from, to) = (
        format!("redis://127.0.0.1:{}", source.port()),
        format!("redis://127.0.0.1:{}", target.port()),
    );
    let base = |name: &str, from: &str| {
        let redknot = Redknot::migrate(from, &to, &state);
        redknot.args(["--on-conflict", "replace", "--name", name])
    };
    let url = format!("redis://:{ENCODED}@127.0.0.1:{}", source.port());
    let user_url = format!("redis://default:{ENCODED}@127.0.0.1:{}", source.port());
    let wrong_url = format!("redis://:wrong-password@127.0.0.1:{}", source.port());
    let runs = [
        base("by-url", &url),
        base("by-url-with-user", &user_url),
        base("by-env", &from).env("REDKNOT_FROM_PASSWORD", PASSWORD),
        base("by-file", &from)
            .arg("--from-pass-file")
            .arg(&with_newline),
        base(
            "by-file-and-user",
            &format!("redis://default@127.0.0.1:{}", source.port()),
        )
        .arg("--from-pass-file")
        .arg(&with_newline),
        // The better place wins.
        base("by-best", &wrong_url).env("REDKNOT_FROM_PASSWORD", PASSWORD),
        base("json", &from)
            .args(["--json", "-vv"])
            .env("REDKNOT_FROM_PASSWORD", PASSWORD),
    ];
    let mut outputs = Vec::new();
    for run in runs {
        let finished = run.run().expect_code(0);
        outputs.push([finished.stdout.clone(), finished.stderr.clone()].concat());
    }
    let state_text = state.display().to_string();
    let stdin_args = [
        "migrate",
        "--from",
        &from,
        "--to",
        &to,
        "--state-dir",
        &state_text,
        "--on-conflict",
        "replace",
        "--name",
        "by-stdin",
        "--from-pass-file",
        "-",
    ];
    let output = with_stdin(stdin_args, PASSWORD.as_bytes());
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    outputs.push([output.stdout, output.stderr].concat());
    let askpass = [
        "migrate",
        "--from",
        &from,
        "--to",
        &to,
        "--state-dir",
        &state_text,
        "--on-conflict",
        "replace",
        "--name",
        "by-prompt",
        "--from-askpass",
    ];
    // The bytes that a terminal would take for editing are left out here.
    redis_password(&source, PASSWORD, "swordfish of the terminal");
    let (code, shown) = on_terminal(
        &askpass,
        &[],
        100,
        Some(("Password of the source", b"swordfish of the terminal\n")),
    );
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("Password of the source 127.0.0.1:"),
        "{shown}"
    );
    outputs.push(shown.into_bytes());
    assert_eq!(target.keys(0), 1);
    assert_eq!(
        fs::read_dir(&state)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .count(),
        9
    );
    let outputs: Vec<&[u8]> = outputs.iter().map(Vec::as_slice).collect();
    let secrets = [
        PASSWORD.as_bytes(),
        ENCODED.as_bytes(),
        b"swordfish of the terminal",
        b"wrong-password",
    ];
    assert_absent(&state, &outputs, &secrets);
}

/// Passwords are bytes: every one that can be printed, and every one that can't.
#[test]
fn a_password_of_any_bytes_arrives_by_url_file_and_environment() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let target = Server::plain(&binary);
    let source = Server::plain(&binary);
    redis::cmd("SET")
        .arg("key")
        .arg("value")
        .query::<()>(&mut source.connection())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let printable: Vec<u8> = (b' '..=b'~').collect();
    // Without NUL, which no variable can hold; not ending in a newline, which a file would lose.
    let binary_bytes: Vec<u8> = (1..=255).rev().chain(1..=9).collect();
    let with_nul = [b"\0sword\0fish", binary_bytes.as_slice(), b"\0"].concat();
    let mut runs = 0;
    for (number, password) in [
        printable.as_slice(),
        b"#@:/?%-swordfish",
        &binary_bytes,
        &with_nul,
    ]
    .into_iter()
    .enumerate()
    {
        let rule = [b">", password].concat();
        redis::cmd("ACL")
            .arg("SETUSER")
            .arg("mover")
            .arg(b"reset")
            .arg(b"on")
            .arg(rule)
            .arg(b"~*")
            .arg(b"+@all")
            .query::<()>(&mut source.connection())
            .unwrap();
        let encoded: String = password.iter().map(|byte| format!("%{byte:02x}")).collect();
        let secret = file(folder.path(), "secret", password, 0o600);
        let host = format!("127.0.0.1:{}", source.port());
        let base = |way: &str, from: &str| {
            Redknot::migrate(from, &target.url(0), &state).args([
                "--on-conflict",
                "replace",
                "--name",
                &format!("{way}-{number}"),
            ])
        };
        let bare = format!("redis://mover@{host}");
        let mut ways = vec![
            base("url", &format!("redis://mover:{encoded}@{host}")),
            base("file", &bare).arg("--from-pass-file").arg(&secret),
        ];
        if !password.contains(&0) {
            let variable = std::ffi::OsStr::from_bytes(password);
            ways.push(base("variable", &bare).env("REDKNOT_FROM_PASSWORD", variable));
        }
        for way in ways {
            let finished = way.run().expect_code(0);
            let outputs = [finished.stdout.as_slice(), finished.stderr.as_slice()];
            assert_absent(&state, &outputs, &[password, encoded.as_bytes()]);
            runs += 1;
        }
    }
    assert_eq!(runs, 11);
    assert_eq!(target.keys(0), 1);
}

#[test]
fn a_user_without_a_password_is_not_somebody_else() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let open = ServerSpec::new(binary.clone()).user("open", "on nopass ~* +@all");
    let (source, target) = (Server::start(open), Server::plain(&binary));
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let host = format!("127.0.0.1:{}", source.port());
    let refused = Redknot::migrate(&format!("redis://{host}"), &target.url(0), &state)
        .args(["--from-user", "open"])
        .run();
    insta::assert_snapshot!(Said::of(&refused), @r"
    exit 2
    error: --from-user needs a password
      a user without one can't log in
    hint: give it with --from-pass-file or REDKNOT_FROM_PASSWORD; for a user that has none, write --from redis://USER:@host
    ");
    Redknot::migrate(&format!("redis://open:@{host}"), &target.url(0), &state)
        .run()
        .expect_code(0);
    assert!(source.calls("auth") >= 3, "a connection was not logged in");
}

/// Before 6.0 there are no users: AUTH takes a password and nothing else.
#[test]
fn a_server_that_knows_no_users_takes_the_password_of_the_default_one() {
    let Some(binary) = require(REDIS_6_0) else {
        return;
    };
    const PASSWORD: &str = "swordfish-without-a-user";
    let source = Server::start(ServerSpec::new(binary.clone()).password(PASSWORD));
    let target = Server::plain(&binary);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let migrate = |user: &str, port: u16, name: &str| {
        let from = format!("redis://{user}127.0.0.1:{port}");
        Redknot::migrate(&from, &target.url(0), &state)
            .args(["--name", name, "--max-unavailable", "0s"])
            .env("REDKNOT_FROM_PASSWORD", PASSWORD)
    };
    let old = Proxy::start(source.port(), 1);
    let refusal = "-ERR wrong number of arguments for 'auth' command";
    let rule = old.on("AUTH").key(b"default").always().answer(refusal);
    let finished = migrate("default@", old.port(), "default")
        .run()
        .expect_code(0);
    assert!(old.fired(rule) > 1, "every connection logs in");
    assert_eq!(source.calls("auth"), old.fired(rule) + 1);
    let mut outputs = vec![finished.stdout, finished.stderr];
    old.on("AUTH").key(b"somebody").always().answer(refusal);
    let finished = migrate("somebody@", old.port(), "somebody").run();
    insta::assert_snapshot!(
        Said::of(&finished).hide_path(&state, "STATE"), @r#"
    exit 20
      migration somebody  begins
      state     STATE/somebody
    error: source: failed to log in
      the server answers "ERR wrong number of arguments for 'auth' command"
    hint: a server older than 6.0 knows no users; leave --from-user, or the user of the URL, away
    "#);
    outputs.extend([finished.stdout, finished.stderr]);
    let outputs: Vec<&[u8]> = outputs.iter().map(Vec::as_slice).collect();
    assert_absent(&state, &outputs, &[PASSWORD.as_bytes()]);
}

#[test]
fn servers_are_reached_through_their_sockets() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&binary), Server::plain(&binary));
    redis::cmd("SET")
        .arg("key")
        .arg("value")
        .query::<()>(&mut source.connection_to(3))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url =
        |server: &Server, db: u32| format!("redis+unix://{}?db={db}", server.socket().display());
    Redknot::migrate(&url(&source, 3), &url(&target, 2), folder.path())
        .args(["--require-tls", "--name", "by-sockets"])
        .run()
        .expect_code(0);
    assert_eq!(target.keys(2), 1);
    let shown = Redknot::new(["status", "by-sockets", "--state-dir"])
        .arg(folder.path())
        .run()
        .expect_code(0);
    for server in [&source, &target] {
        let socket = server.socket().display().to_string();
        assert!(shown.stdout().contains(&socket), "{shown}");
    }
    compare("by-sockets", folder.path()).run().expect_code(0);
    compare_urls(&url(&source, 3), &url(&target, 2), folder.path())
        .run()
        .expect_code(0);
    redis::cmd("SET")
        .arg("key")
        .arg("another")
        .query::<()>(&mut target.connection_to(2))
        .unwrap();
    compare("by-sockets", folder.path()).run().expect_code(1);
    repair("by-sockets", folder.path())
        .arg("--apply")
        .run()
        .expect_code(0);
    compare("by-sockets", folder.path()).run().expect_code(0);
    // Nobody listens there, and nobody may be allowed to: the system's own words.
    let nowhere = format!("redis+unix://{}/none", folder.path().display());
    let finished = Redknot::migrate(&nowhere, &url(&target, 2), folder.path())
        .args(["--max-unavailable", "0s"])
        .run()
        .expect_code(10);
    assert!(
        finished.stderr().contains("No such file or directory"),
        "{finished}"
    );
}

fn redis_password(server: &Server, old: &str, new: &str) {
    let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
    let mut connection = client.get_connection().unwrap();
    redis::cmd("AUTH")
        .arg(old)
        .query::<()>(&mut connection)
        .unwrap();
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg(new)
        .query::<()>(&mut connection)
        .unwrap();
}

#[test]
fn what_others_could_read_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let open = file(folder.path(), "open", b"swordfish\n", 0o644);
    let unreachable = format!("redis://127.0.0.1:{}", free_port());
    let with_url = format!("redis://:swordfish@127.0.0.1:{}", free_port());
    let state = folder.path().join("state");
    let migrate = |from: &str| {
        Redknot::migrate(from, "redis://127.0.0.1:1", &state).args(["--max-unavailable", "0s"])
    };
    let finished = migrate(&unreachable)
        .arg("--from-pass-file")
        .arg(&open)
        .run()
        .expect_code(10);
    assert!(
        finished
            .stderr()
            .contains("has mode 0644: others can read the password (chmod 600 "),
        "{finished}"
    );
    let finished = migrate(&with_url).run().expect_code(10);
    assert!(
        finished
            .stderr()
            .contains("warning: a password in --from stays in the shell's history"),
        "{finished}"
    );
    let quiet = migrate(&with_url).arg("-q").run().expect_code(10);
    assert!(!quiet.stderr().contains("warning"), "{quiet}");
    // In the environment nobody else sees it.
    let finished = Redknot::new([
        "migrate",
        "--to",
        "redis://127.0.0.1:1",
        "--max-unavailable",
        "0s",
        "--state-dir",
    ])
    .arg(&state)
    .env("REDKNOT_FROM", &with_url)
    .run()
    .expect_code(10);
    assert!(!finished.stderr().contains("may be seen"), "{finished}");
}

#[test]
fn a_password_that_crosses_public_networks_in_the_clear_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let warned = |from: &str| {
        // A documentation address: nothing ever answers there, and nothing is waited for.
        let finished = Redknot::migrate(from, "redis://127.0.0.1:1", folder.path())
            .args(["--max-unavailable", "0s", "--timeout", "100ms"])
            .env("REDKNOT_FROM_PASSWORD", "swordfish")
            .run();
        finished.stderr().contains("W-PLAINTEXT")
    };
    assert!(warned("redis://192.0.2.1"));
    assert!(!warned("redis://127.0.0.1:1"));
    assert!(!warned("redis+unix:///nowhere.sock"));
}

#[test]
fn a_prompt_without_a_terminal_names_the_flag_to_give_instead() {
    let finished = Redknot::new([
        "migrate",
        "--from",
        "redis://h",
        "--to",
        "redis://g",
        "--from-askpass",
    ])
    .run();
    insta::assert_snapshot!(Said::of(&finished), @r"
    exit 2
    error: --from-askpass: the password can't be asked for
      standard input is no terminal
    hint: use --from-pass-file FILE, or --from-pass-file - for standard input
    ");
    let (code, shown) = on_terminal(
        &[
            "migrate",
            "--from",
            "redis://h",
            "--to",
            "redis://g",
            "--to-pass-file",
            "-",
        ],
        &[],
        100,
        None,
    );
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("use --to-askpass"), "{shown}");
}

#[test]
fn a_configuration_file_that_is_wrong_is_refused_at_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    let mut refuse = |name: &str, content: Option<&str>, mode: u32| {
        let path = folder.path().join(name);
        if let Some(content) = content {
            file(folder.path(), name, content.as_bytes(), mode);
        }
        let finished = Redknot::new(["migrate", "--config"]).arg(&path).run();
        said.push_str(&format!(
            "{}\n\n",
            Said::of(&finished).hide_path(folder.path(), "FOLDER")
        ));
    };
    refuse("missing.toml", None, 0o600);
    refuse(
        "broken.toml",
        Some("from = \"redis://h\"\nto = \"redis://g\n"),
        0o600,
    );
    refuse(
        "unknown.toml",
        Some("from = \"redis://h\"\n\nbacth = 5\n"),
        0o600,
    );
    refuse(
        "nested.toml",
        Some("[source]\nurl = \"redis://h\"\n"),
        0o600,
    );
    refuse("type.toml", Some("batch = true\n"), 0o600);
    refuse("switch.toml", Some("restart = \"yes\"\n"), 0o600);
    refuse("range.toml", Some("# so many at once\nbatch = 0\n"), 0o600);
    refuse("unit.toml", Some("max-memory = 5\n"), 0o600);
    refuse("itself.toml", Some("config = \"other.toml\"\n"), 0o600);
    refuse(
        "open.toml",
        Some("from = \"redis://:swordfish@h\"\nto = \"redis://g\"\n"),
        0o644,
    );
    assert!(!said.contains("swordfish"), "{said}");
    insta::assert_snapshot!(said, @r#"
    exit 2
    error: --config FOLDER/missing.toml: it can't be read
      No such file or directory (os error 2)
    hint: redknot migrate --help names the flags that it may set

    exit 2
    error: FOLDER/broken.toml:2:16: this is no TOML
      invalid basic string, expected `"`
    hint: one `flag = value` a line, text in quotes

    exit 2
    error: FOLDER/unknown.toml:3:1: unknown key `bacth`
      the keys are the flags of migrate, compare and repair
    hint: redknot migrate --help names them, without the dashes

    exit 2
    error: FOLDER/nested.toml:1:2: unknown key `source`
      the keys are the flags of migrate, compare and repair
    hint: redknot migrate --help names them, without the dashes

    exit 2
    error: FOLDER/type.toml:1:9: `batch` has the wrong type
      it takes text, a number, or a list of them
    hint: redknot migrate --help names them, without the dashes

    exit 2
    error: FOLDER/switch.toml:1:11: `restart` has the wrong type
      it is true or false
    hint: redknot migrate --help names them, without the dashes

    exit 2
    error: FOLDER/range.toml:2:9: batch can't be `0`
      out of range: 1 to 100000 is allowed
    hint: without it: 500

    exit 2
    error: FOLDER/unit.toml:1:14: max-memory can't be `5`
      a unit is missing: did you mean 5MiB?
    hint: without it: 32MiB

    exit 2
    error: FOLDER/itself.toml:1:1: unknown key `config`
      the keys are the flags of migrate, compare and repair
    hint: redknot migrate --help names them, without the dashes

    exit 2
    error: FOLDER/open.toml shows a password to other users
      it has an address with a password, and others can read the file
    hint: chmod 600 FOLDER/open.toml, or put the password in a file of its own
    "#);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let content = "from = \"redis://127.0.0.1:1/1\"\nto = \"redis://127.0.0.1:1/2\"\nname = \"by-file\"\nbatch = 1000\n\
                   type = [\"hash\", \"set\"]\ngrace = \"5s\"\ntrust-target = true\nmax-unavailable = \"0s\"\n";
    let config = file(folder.path(), "redknot.toml", content.as_bytes(), 0o644);
    let state = folder.path().join("state");
    let migrate = || {
        Redknot::new(["migrate", "--state-dir"])
            .arg(&state)
            .arg("--config")
            .arg(&config)
    };
    migrate().run().expect_code(10);
    migrate()
        .env("REDKNOT_NAME", "by-variable")
        .run()
        .expect_code(10);
    migrate()
        .env("REDKNOT_NAME", "by-variable-again")
        .args(["--name", "by-flag"])
        .run()
        .expect_code(10);
    let names = ["by-file", "by-flag", "by-variable"];
    for name in names {
        assert!(state.join(name).is_dir(), "{name}");
    }
    // The file's address is the one that was tried, and it can be replaced.
    let finished = migrate()
        .args(["--from", "redis://127.0.0.1:2/1", "--name", "by-file"])
        .run()
        .expect_code(26);
    assert!(
        finished
            .stderr()
            .contains("source: previous 127.0.0.1:1, now 127.0.0.1:2"),
        "{finished}"
    );
}
