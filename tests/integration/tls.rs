//! TLS to both sides: who is believed, who is not and how that is said, and that nothing is said in the clear after it
//! failed.
//!
//! # Invariant
//!
//! Every refusal ends with 21, and with a password given: no server has seen it, and no output has.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redknot::progress::TlsUse;

use crate::cluster::Slowed;
use crate::support::certificates::{Authority, Files, Flaw};
use crate::support::oracle;
use crate::support::redknot::{Finished, Redknot, status, wait_for_status};
use crate::support::secrets::assert_absent;
use crate::support::sentinel::Sentinel;
use crate::support::server::{Server, ServerSpec, free_port};
use crate::support::version::{Binary, REDIS_7_0, require_tls};

const PASSWORD: &str = "swordfish-of-the-tls-tests";

/// A folder with an authority, and a binary that speaks TLS.
struct Workshop {
    binary: Binary,
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Workshop {
    fn new() -> Option<Self> {
        let binary = require_tls(REDIS_7_0)?;
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "good-authority");
        Some(Self {
            binary,
            folder,
            authority,
        })
    }

    /// A server with this certificate, which asks clients for one as `clients` says.
    fn server(&self, certificate: &Files, clients: &str) -> Server {
        Server::start(self.spec(certificate, clients))
    }

    fn spec(&self, certificate: &Files, clients: &str) -> ServerSpec {
        ServerSpec::new(self.binary.clone())
            .tls(certificate, &self.authority.certificate, clients)
            .password(PASSWORD)
    }

    fn good(&self) -> Server {
        self.server(&self.authority.sign("good", Flaw::None), "no")
    }

    fn plain(&self) -> Server {
        Server::start(ServerSpec::new(self.binary.clone()).password(PASSWORD))
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    /// `migrate` with both passwords.
    fn redknot(&self, from: &str, to: &str) -> Redknot {
        Redknot::migrate(from, to, &self.state())
            .env("REDKNOT_FROM_PASSWORD", PASSWORD)
            .env("REDKNOT_TO_PASSWORD", PASSWORD)
    }

    /// `migrate` with the authority of both sides, and a state of its own.
    fn migrate(&self, from: &str, to: &str) -> Redknot {
        let mut redknot = self
            .redknot(from, to)
            .args(["--name", "m", "--restart", "-q"]);
        for (url, flag) in [(from, "--from-cacert"), (to, "--to-cacert")] {
            if url.starts_with("rediss") {
                redknot = redknot.arg(flag).arg(&self.authority.certificate);
            }
        }
        redknot
    }

    /// Runs it, and returns what it said when it was refused with 21.
    #[track_caller]
    fn refused(&self, redknot: &Redknot) -> String {
        let finished = redknot.run().expect_code(21);
        self.keeps_secrets(&finished);
        let said = finished.stderr();
        said.replace(&self.folder.path().display().to_string(), "FOLDER")
    }

    #[track_caller]
    fn keeps_secrets(&self, finished: &Finished) {
        let outputs = [finished.stdout.as_slice(), finished.stderr.as_slice()];
        assert_absent(&self.state(), &outputs, &[PASSWORD.as_bytes()]);
    }
}

/// Where a server is, without its password.
fn url(server: &Server) -> String {
    server.url(0).replace(&format!(":{PASSWORD}@"), "")
}

/// The plan names addresses only, and the same address without TLS would be an invitation.
#[test]
fn a_comparison_by_name_speaks_tls_where_the_migration_did() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let (source, target) = (workshop.good(), workshop.good());
    fill(&source, 500);
    workshop
        .migrate(&url(&source), &url(&target))
        .run()
        .expect_code(0);
    let compare = || {
        Redknot::new(["compare", "m", "--max-unavailable", "0s", "--state-dir"])
            .arg(workshop.state())
            .env("REDKNOT_FROM_PASSWORD", PASSWORD)
            .env("REDKNOT_TO_PASSWORD", PASSWORD)
    };
    let believed = || {
        compare()
            .arg("--from-cacert")
            .arg(&workshop.authority.certificate)
            .arg("--to-cacert")
            .arg(&workshop.authority.certificate)
    };
    let finished = believed().run().expect_code(0);
    workshop.keeps_secrets(&finished);
    let said = workshop.refused(&compare());
    assert!(said.contains("which is no known authority"), "{said}");
    // And the other way round: what may be anybody is warned of here too.
    let insecure = compare()
        .args(["--from-insecure", "--to-insecure", "-q"])
        .run()
        .expect_code(0);
    assert!(insecure.stderr().contains("W-INSECURE: --to"), "{insecure}");
}

/// A line of a message, without what time it was.
fn without_the_time(line: &str) -> String {
    match line.split_once(", and it is ") {
        Some((before, _)) => format!("{before}, and it is NOW now\n"),
        None => format!("{line}\n"),
    }
}

fn fill(server: &Server, keys: u32) {
    let mut connection = server.connection();
    for first in (0..keys).step_by(1000) {
        let mut pipe = redis::pipe();
        for number in first..keys.min(first + 1000) {
            pipe.set(format!("key:{number}"), format!("value {number}"))
                .ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
    }
}

#[test]
fn both_sides_may_speak_tls_and_everything_arrives() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let (source, target) = (workshop.good(), workshop.good());
    fill(&source, 20_000);
    // A payload that is larger than many records.
    redis::cmd("SET")
        .arg("large")
        .arg(
            vec![b'x'; 5_000_000]
                .iter()
                .zip(0_u64..)
                .map(|(x, n)| x ^ (n * n / 7) as u8)
                .collect::<Vec<u8>>(),
        )
        .query::<()>(&mut source.connection())
        .unwrap();
    let finished = workshop
        .redknot(&url(&source), &url(&target))
        .args(["--name", "m", "--require-tls"])
        .arg("--from-cacert")
        .arg(&workshop.authority.certificate)
        .arg("--to-cacert")
        .arg(&workshop.authority.certificate)
        .run()
        .expect_code(0);
    assert_eq!(target.keys(0), 20_001);
    oracle::assert_equal(&source, &target);
    assert!(!finished.stderr().contains("warning"), "{finished}");
    let status = status("m", &workshop.state());
    assert_eq!(
        (status.source_tls, status.target_tls),
        (TlsUse::Verified, TlsUse::Verified)
    );
    assert_eq!(
        status.source,
        format!("rediss://127.0.0.1:{}/0", source.port())
    );
}

#[test]
fn the_systems_authorities_are_believed_and_a_flag_asks_for_tls_as_well_as_a_url() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let (source, target) = (workshop.good(), workshop.plain());
    fill(&source, 10);
    for (number, from) in [
        format!("rediss://localhost:{}", source.port()),
        format!("redis://localhost:{}", source.port()),
        format!("localhost:{}", source.port()),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("m{number}");
        workshop
            .redknot(&from, &url(&target))
            .args(["--on-conflict", "replace", "--name", &name, "--from-tls"])
            .env("SSL_CERT_FILE", &workshop.authority.certificate)
            .run()
            .expect_code(0);
        let status = status(&name, &workshop.state());
        assert_eq!(
            (status.source_tls, status.target_tls),
            (TlsUse::Verified, TlsUse::None)
        );
        assert_eq!(status.counters.keys_written, 10);
    }
    // The name is what counts, whatever the way to it.
    let by_address = format!("rediss://127.0.0.1:{}", source.port());
    workshop
        .redknot(&by_address, &url(&target))
        .args([
            "--on-conflict",
            "replace",
            "--name",
            "sni",
            "--from-sni",
            "localhost",
        ])
        .env("SSL_CERT_FILE", &workshop.authority.certificate)
        .run()
        .expect_code(0);
    let said = workshop.refused(
        &workshop
            .migrate(&by_address, &url(&target))
            .args(["--from-sni", "cache.example"]),
    );
    assert!(
        said.contains("is not for cache.example: it is for localhost, 127.0.0.1"),
        "{said}"
    );
}

#[test]
fn a_certificate_that_is_not_to_be_believed_is_refused_with_what_it_says() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let stranger = Authority::new(workshop.folder.path(), "other-authority");
    let certificates = [
        workshop.authority.sign("expired", Flaw::Expired),
        workshop.authority.sign("early", Flaw::NotYetValid),
        workshop.authority.sign("misnamed", Flaw::WrongName),
        stranger.sign("unknown", Flaw::None),
        Files::self_signed(workshop.folder.path(), "self-made"),
    ];
    let other = workshop.plain();
    let mut all = String::new();
    for certificate in &certificates {
        let server = workshop.server(certificate, "no");
        let logins = server.calls("auth");
        let bad = url(&server);
        all += &workshop.refused(&workshop.migrate(&bad, &url(&other)));
        let of_target = workshop.refused(&workshop.migrate(&url(&other), &bad));
        assert!(
            of_target
                .starts_with("error: target: failed to agree on TLS\n  the certificate of CN="),
            "{of_target}"
        );
        // The question itself is one.
        assert_eq!(
            server.calls("auth"),
            logins + 1,
            "a password reached a stranger"
        );
        assert_eq!(server.calls("ping"), 0, "a stranger was spoken to");
    }
    let all: String = all.lines().map(without_the_time).collect();
    insta::assert_snapshot!(all, @r"
    error: source: failed to agree on TLS
      the certificate of CN=expired expired at 2001-01-01 00:00:00 UTC, and it is NOW now
    hint: the certificate has to be renewed on the server, or a clock is wrong
    error: source: failed to agree on TLS
      the certificate of CN=early is not valid before 2090-01-01 00:00:00 UTC, and it is NOW now
    hint: the certificate has to be renewed on the server, or a clock is wrong
    error: source: failed to agree on TLS
      the certificate of CN=misnamed is not for 127.0.0.1: it is for other.example, 192.0.2.1
    hint: give the server by a name that it is for, or say with --from-sni NAME which one to expect
    error: source: failed to agree on TLS
      the certificate of CN=unknown is signed by CN=other-authority, which is no known authority (valid from 2020-01-01 00:00:00 UTC until 2080-01-01 00:00:00 UTC)
    hint: --from-cacert FILE names the authority that has signed it, if you know it
    error: source: failed to agree on TLS
      the certificate of CN=self-made is signed by itself and by no known authority (valid from 2020-01-01 00:00:00 UTC until 2080-01-01 00:00:00 UTC)
    hint: --from-cacert FILE names the authority that has signed it, if you know it
    ");
}

#[test]
fn a_client_certificate_that_is_missing_or_unknown_is_said() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let good = workshop.authority.sign("good", Flaw::None);
    let stranger = Authority::new(workshop.folder.path(), "other-authority");
    let (known, unknown) = (
        workshop.authority.sign("client", Flaw::None),
        stranger.sign("client", Flaw::None),
    );
    let other = workshop.plain();
    for versions in ["TLSv1.3", "TLSv1.2"] {
        let server = Server::start(
            workshop
                .spec(&good, "yes")
                .config("tls-protocols", versions),
        );
        fill(&server, 10);
        let migrate = |files: Option<&Files>| {
            let redknot = workshop
                .migrate(&url(&server), &url(&other))
                .args(["--on-conflict", "replace"]);
            match files {
                None => redknot,
                Some(files) => redknot
                    .arg("--from-cert")
                    .arg(&files.certificate)
                    .arg("--from-key")
                    .arg(&files.key),
            }
        };
        let logins = server.calls("auth");
        // Several times: the alert and the end of the connection come at the same time.
        for _ in 0..5 {
            let said = workshop.refused(&migrate(None));
            assert!(
                said.contains("the server wants a certificate from us, and none was given")
                    && said.contains("hint: --from-cert FILE and --from-key FILE"),
                "{versions}: {said}"
            );
            let said = workshop.refused(&migrate(Some(&unknown)));
            assert!(
                said.contains("the server does not take our certificate: UnknownCA"),
                "{versions}: {said}"
            );
        }
        assert_eq!(server.calls("auth"), logins + 1, "somebody was let in");
        let finished = migrate(Some(&known)).run().expect_code(0);
        workshop.keeps_secrets(&finished);
        assert_eq!(other.keys(0), 10);
    }
    // Asked, but not insisted on.
    let server = workshop.server(&good, "optional");
    fill(&server, 10);
    let migrate = workshop.migrate(&url(&server), &url(&other));
    migrate
        .args(["--on-conflict", "replace"])
        .run()
        .expect_code(0);
}

#[test]
fn tls_on_one_end_only_is_recognised() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let (secure, plain) = (workshop.good(), workshop.plain());
    let disguised =
        |server: &Server, scheme: &str| format!("{scheme}://127.0.0.1:{}", server.port());
    let mut all = String::new();
    for (from, to) in [
        (disguised(&plain, "rediss"), url(&secure)),
        (url(&secure), disguised(&plain, "rediss")),
        (disguised(&secure, "redis"), url(&plain)),
        (url(&plain), disguised(&secure, "redis")),
    ] {
        all += &workshop.refused(&workshop.migrate(&from, &to));
    }
    // It is found out before a little patience is used up.
    let soon = workshop.migrate(&disguised(&plain, "rediss"), &url(&secure));
    let said = workshop.refused(&soon.args(["--timeout", "1s"]));
    assert!(said.contains("speaks without TLS"), "{said}");
    insta::assert_snapshot!(all, @r#"
    error: source: failed to agree on TLS
      what listens there speaks without TLS: "-ERR Protocol error: too big inline request"
    hint: give the server's TLS port, or redis:// (without --from-tls) to speak in the clear
    error: target: failed to agree on TLS
      what listens there speaks without TLS: "-ERR Protocol error: too big inline request"
    hint: give the server's TLS port, or redis:// (without --to-tls) to speak in the clear
    error: source: failed to agree on TLS
      what listens there speaks TLS, and was spoken to without
    hint: write rediss:// instead of redis://, or give --from-tls
    error: target: failed to agree on TLS
      what listens there speaks TLS, and was spoken to without
    hint: write rediss:// instead of redis://, or give --to-tls
    "#);
}

#[test]
fn whoever_is_believed_without_proof_is_warned_of_each_time_and_named_in_the_status() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let certificate = Files::self_signed(workshop.folder.path(), "self-made");
    let (source, target) = (
        workshop.server(&certificate, "no"),
        workshop.server(&certificate, "no"),
    );
    fill(&source, 10);
    let migrate = || {
        workshop.redknot(&url(&source), &url(&target)).args([
            "--name",
            "m",
            "--from-insecure",
            "--to-insecure",
            "-q",
        ])
    };
    for _ in 0..2 {
        let finished = migrate().run().expect_code(0);
        for side in ["--from", "--to"] {
            let warning = format!(
                "warning: W-INSECURE: {side} is believed whoever answers ({side}-insecure)"
            );
            assert!(finished.stderr().contains(&warning), "{finished}");
        }
    }
    let seen = status("m", &workshop.state());
    assert_eq!(
        (seen.source_tls, seen.target_tls),
        (TlsUse::Unverified, TlsUse::Unverified)
    );
    let shown = Redknot::new(["status", "m", "--state-dir"])
        .arg(workshop.state())
        .run()
        .expect_code(0);
    assert!(
        shown.stdout().contains(
            "the source was not verified (--from-insecure), the target was not verified (--to-insecure)"
        ),
        "{shown}"
    );
}

#[test]
fn sentinels_and_the_master_that_they_name_are_verified_alike() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let (source, target) = (workshop.good(), workshop.good());
    fill(&source, 500);
    let files = workshop.authority.sign("sentinel", Flaw::None);
    let port = free_port();
    let lines = format!(
        "sentinel monitor shop 127.0.0.1 {master} 1\nsentinel auth-pass shop {PASSWORD}\n\
         tls-port {port}\ntls-replication yes\ntls-auth-clients no\ntls-cert-file {certificate}\n\
         tls-key-file {key}\ntls-ca-cert-file {authority}\n",
        master = source.port(),
        certificate = files.certificate.display(),
        key = files.key.display(),
        authority = workshop.authority.certificate.display(),
    );
    let sentinel = Sentinel::start(&workshop.binary, None, &lines);
    let service = format!("rediss-sentinel://127.0.0.1:{port}/shop");
    workshop
        .migrate(&service, &url(&target))
        .arg("--require-tls")
        .run()
        .expect_code(0);
    assert_eq!(target.keys(0), 500);
    // By its name it is found again, and spoken to as before.
    let compare = Redknot::new(["compare", "m", "--state-dir"])
        .arg(workshop.state())
        .arg("--from-cacert")
        .arg(&workshop.authority.certificate)
        .arg("--to-cacert")
        .arg(&workshop.authority.certificate)
        .env("REDKNOT_FROM_PASSWORD", PASSWORD)
        .env("REDKNOT_TO_PASSWORD", PASSWORD);
    let compared = compare.run().expect_code(0);
    workshop.keeps_secrets(&compared);
    // Whoever is not believed is not asked, and a sentinel without TLS is told from one with it.
    let stranger = Authority::new(workshop.folder.path(), "stranger");
    let said = workshop.refused(
        &workshop
            .redknot(&service, &url(&target))
            .args(["--name", "m", "--restart", "--from-cacert"])
            .arg(&stranger.certificate)
            .arg("--to-cacert")
            .arg(&workshop.authority.certificate),
    );
    assert!(
        said.contains("CN=sentinel is signed by CN=good-authority"),
        "{said}"
    );
    let in_the_clear = service.replace(&port.to_string(), &sentinel.port().to_string());
    let said = workshop.refused(&workshop.migrate(&in_the_clear, &url(&target)));
    assert!(said.contains("speaks without TLS"), "{said}");
    let plain = service.replace("rediss", "redis");
    let finished = workshop
        .migrate(&plain, &url(&target))
        .args(["--max-unavailable", "0s"])
        .run();
    assert_ne!(finished.code(), Some(0));
    workshop.keeps_secrets(&finished);
}

/// The server that the run speaks to comes back as somebody whom nobody vouches for.
#[test]
fn a_server_that_comes_back_with_another_authority_ends_the_run() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let stranger = Authority::new(workshop.folder.path(), "other-authority");
    for side in ["source", "target"] {
        let certificate = workshop.authority.sign(side, Flaw::None);
        let changing = workshop.server(&certificate, "no");
        let steady = workshop.good();
        let (mut source, mut target) = match side {
            "source" => (changing, steady),
            _ => (steady, changing),
        };
        fill(&source, 60_000);
        let migrate = || {
            workshop
                .redknot(&url(&source), &url(&target))
                .args(["--name", side, "--trust-target"])
                .arg("--from-cacert")
                .arg(&workshop.authority.certificate)
                .arg("--to-cacert")
                .arg(&workshop.authority.certificate)
        };
        let again = migrate();
        // In batches this small, of which 32 may be in flight, and slowed, it takes many seconds.
        let running = Slowed::new(migrate().args(["--batch", "5"]).start());
        wait_for_status(side, &workshop.state(), "some keys", |status| {
            status.counters.keys_written > 100
        });
        let forged = stranger.sign(side, Flaw::None);
        std::fs::copy(&forged.certificate, &certificate.certificate).unwrap();
        std::fs::copy(&forged.key, &certificate.key).unwrap();
        let restarted = if side == "source" {
            &mut source
        } else {
            &mut target
        };
        restarted.restart();
        let finished = running.release().wait().expect_code(21);
        let said = finished.stderr();
        assert!(
            said.contains(&format!("error: {side}: failed to agree on TLS\n"))
                && said.contains(&format!(
                    "the certificate of CN={side} is signed by CN=other-authority, which is no known authority"
                )),
            "{finished}"
        );
        let now = status(side, &workshop.state());
        assert!(
            now.counters.keys_written > 0 && now.percent < 100.0,
            "{now:?}"
        );
        // Vouched for again, the same command goes on.
        let renewed = workshop.authority.sign(side, Flaw::None);
        assert_eq!(renewed.certificate, certificate.certificate);
        restarted.restart();
        again.run().expect_code(0);
        oracle::assert_equal(&source, &target);
    }
}

/// Everything that was ever sent to a listener, a connection each.
struct Recorder {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Answers the first bytes of each connection with `answer`, and then keeps silent or closes.
    fn start(answer: &'static [u8], closes: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let all = Arc::clone(&all);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    let number = {
                        let mut all = all.lock().unwrap();
                        all.push(Vec::new());
                        all.len() - 1
                    };
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        all.lock().unwrap()[number].extend_from_slice(&buffer[..read]);
                        let _ = stream.write_all(answer);
                        if closes {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, heard }
    }
}

#[test]
fn nothing_is_said_in_the_clear_after_tls_failed() {
    let Some(workshop) = Workshop::new() else {
        return;
    };
    let other = workshop.plain();
    for (answer, closes, code) in [
        // Somebody who ends every connection, and somebody who never says a word.
        (b"".as_slice(), true, 10),
        (b"", false, 10),
        (b"-ERR unknown command\r\n", false, 21),
        (b"HTTP/1.1 400 Bad Request\r\n", true, 21),
        // An alert: handshake failure.
        (b"\x15\x03\x03\x00\x02\x02\x28", false, 21),
    ] {
        let recorder = Recorder::start(answer, closes);
        let from = format!("rediss://127.0.0.1:{}", recorder.port);
        let finished = workshop
            .migrate(&from, &url(&other))
            .args(["--max-unavailable", "3s", "--timeout", "1500ms"])
            .run()
            .expect_code(code);
        workshop.keeps_secrets(&finished);
        let heard = recorder.heard.lock().unwrap();
        assert!(!heard.is_empty(), "nobody was spoken to");
        for connection in heard.iter() {
            let greeting = connection.starts_with(&[0x16, 0x03]);
            let silence_breaker = connection.iter().all(|byte| *byte == 0);
            assert!(
                greeting || silence_breaker,
                "in the clear: {}",
                connection.escape_ascii()
            );
            for word in [PASSWORD, "PING", "AUTH", "HELLO", "CLIENT"] {
                assert!(
                    !connection
                        .windows(word.len())
                        .any(|window| window == word.as_bytes()),
                    "{word} was said in the clear"
                );
            }
        }
    }
}

#[test]
fn flags_about_tls_that_can_not_be_meant_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let files = authority.sign("one", Flaw::None);
    let other = authority.sign("two", Flaw::None);
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let text = |path: &Path| path.display().to_string();
    let garbage = write("garbage", "this is no PEM\n");
    let damaged = write(
        "damaged",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let encrypted = write(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = text(&folder.path().join("missing"));
    let (certificate, key) = (text(&files.certificate), text(&files.key));
    let mut all = String::new();
    let lines: [(&str, Vec<&str>); 14] = [
        ("redis://h", vec!["--from-cacert", &certificate]),
        ("redis://h", vec!["--from-insecure"]),
        ("redis+unix:///run/x", vec!["--from-tls"]),
        ("rediss://h", vec!["--from-cert", &certificate]),
        ("rediss://h", vec!["--from-key", &key]),
        (
            "rediss://h",
            vec!["--from-insecure", "--from-cacert", &certificate],
        ),
        ("rediss://h", vec!["--from-cacert", &missing]),
        ("rediss://h", vec!["--from-cacert", &garbage]),
        ("rediss://h", vec!["--from-cacert", &damaged]),
        (
            "rediss://h",
            vec!["--from-cert", &certificate, "--from-key", &garbage],
        ),
        (
            "rediss://h",
            vec!["--from-cert", &certificate, "--from-key", &encrypted],
        ),
        (
            "rediss://h",
            vec![
                "--from-cert",
                &certificate,
                "--from-key",
                other.key.to_str().unwrap(),
            ],
        ),
        ("rediss://h", vec!["--from-sni", "not a name"]),
        ("redis://192.0.2.1", vec!["--require-tls"]),
    ];
    for (from, flags) in &lines {
        let finished = Redknot::new(["migrate", "--to", "redis://g", "--from", from])
            .args(flags)
            .arg("-q")
            .run()
            .expect_code(2);
        all += &finished
            .stderr()
            .replace(&folder.path().display().to_string(), "FOLDER");
    }
    let insecure = Redknot::new([
        "migrate",
        "--to",
        "redis://g",
        "--from",
        "rediss://192.0.2.1",
    ])
    .args(["--require-tls", "--from-insecure"])
    .run()
    .expect_code(2);
    all += &insecure.stderr();
    insta::assert_snapshot!(all, @r"
    error: --from-cacert has no effect without TLS
      --from does not speak TLS
    hint: write rediss:// or give --from-tls, or leave --from-cacert away
    error: --from-insecure has no effect without TLS
      --from does not speak TLS
    hint: write rediss:// or give --from-tls, or leave --from-insecure away
    error: --from-tls and a socket contradict each other
      what goes through a socket of this machine is not encrypted
    hint: leave --from-tls away
    error: --from-cert needs --from-key
      a certificate is of use only to who holds its private key
    hint: give --from-key FILE too; it may be the same file
    error: --from-key needs --from-cert
      a certificate is of use only to who holds its private key
    hint: give --from-cert FILE too; it may be the same file
    error: --from-insecure and --from-cacert contradict each other
      the one believes everybody, the other only whom an authority has signed
    hint: leave --from-insecure away
    error: --from-cacert FOLDER/missing: it can't be read
      No such file or directory (os error 2)
    hint: a file in PEM, as in -----BEGIN CERTIFICATE-----
    error: --from-cacert FOLDER/garbage: it can't be used
      there is no certificate in it (-----BEGIN CERTIFICATE-----)
    hint: PEM is text; openssl x509 -inform der makes it of a binary certificate
    error: --from-cacert FOLDER/damaged: it can't be used
      a certificate in it can't be read: invalid peer certificate: BadEncoding
    hint: PEM is text; openssl x509 -inform der makes it of a binary certificate
    error: --from-key FOLDER/garbage: it can't be used
      there is no private key in it that can be read
    hint: PEM with PKCS #8, PKCS #1 or SEC 1: -----BEGIN PRIVATE KEY-----
    error: --from-key FOLDER/encrypted: it can't be used
      the private key in it is encrypted
    hint: openssl pkey -in FILE -out PLAIN decrypts it; chmod 600 the result
    error: --from-cert FOLDER/authority-one.pem: it can't be used
      the certificate and the key can't be used: keys may not be consistent: KeyMismatch
    hint: the first certificate of the file has to be the one that belongs to the key
    error: --from-sni: it can't be used
      it is neither a host name nor an IP address
    hint: for example cache.example.com
    error: --from is refused because of --require-tls
      192.0.2.1:6379 is another machine, and would be spoken to in the clear
    hint: write rediss:// or give --from-tls
    warning: W-INSECURE: --from is believed whoever answers (--from-insecure): passwords and data can be read and changed on the way
    error: --from is refused because of --require-tls
      with --from-insecure anybody could answer for 192.0.2.1:6379
    hint: leave --from-insecure away; --from-cacert FILE names an authority to believe
    ");
    // Without any authority nobody can be verified.
    let none = Redknot::migrate("rediss://h", "redis://g", folder.path())
        .env("SSL_CERT_FILE", &garbage)
        .env("SSL_CERT_DIR", folder.path().join("missing"))
        .run()
        .expect_code(21);
    assert!(
        none.stderr().contains("error: --from can't be verified\n"),
        "{none}"
    );
}

#[test]
fn what_is_encrypted_or_stays_here_needs_no_warning_and_is_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let run = |from: &str, flags: &[&str]| {
        Redknot::migrate(
            from,
            "redis+unix:///nowhere.sock",
            &folder.path().join("state"),
        )
        .args(["--max-unavailable", "0s", "--timeout", "100ms", "--restart"])
        .args(flags)
        .env("REDKNOT_FROM_PASSWORD", PASSWORD)
        .env("SSL_CERT_FILE", &authority.certificate)
        .run()
        .expect_code(10)
    };
    // A documentation address: nothing ever answers there.
    let finished = run("rediss://192.0.2.1", &["--require-tls"]);
    assert!(!finished.stderr().contains("W-PLAINTEXT"), "{finished}");
    run("redis://127.0.0.1:1", &["--require-tls"]);
    run("redis://localhost:1", &["--require-tls"]);
    let finished = run("redis://192.0.2.1", &[]);
    assert!(finished.stderr().contains("W-PLAINTEXT"), "{finished}");
    assert!(
        finished.stderr().contains("--from-tls speaks TLS"),
        "{finished}"
    );
    let time = Duration::from_secs(5);
    assert!(finished.wall < time, "a warning is not worth waiting for");
}
