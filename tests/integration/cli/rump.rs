//! A documented rump command line works unchanged.

use super::Said;
use crate::support::redknot::Redknot;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};

#[test]
fn a_documented_rump_command_line_copies_and_keeps_expiries() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&binary), Server::plain(&binary));
    let mut connection = source.connection_to(1);
    redis::cmd("SET")
        .arg("lasting")
        .arg("1")
        .query::<()>(&mut connection)
        .unwrap();
    redis::cmd("SET")
        .arg("passing")
        .arg("2")
        .arg("PX")
        .arg(3_600_000)
        .query::<()>(&mut connection)
        .unwrap();
    let mut on_target = target.connection_to(2);
    // rump writes over what is there.
    redis::cmd("SET")
        .arg("lasting")
        .arg("old")
        .query::<()>(&mut on_target)
        .unwrap();
    let state = tempfile::tempdir().unwrap();
    let rump = |flags: &[&str]| {
        let (from, to) = (source.url(1), target.url(2));
        Redknot::new(["--state-dir"])
            .arg(state.path())
            .args(["rump", "-from", &from, "-to", &to])
            .args(flags)
            .run()
    };
    let finished = rump(&[]).expect_code(0);
    assert!(
        finished
            .stderr()
            .contains("note: expiries are kept; rump without -ttl would have dropped them"),
        "{finished}"
    );
    let values: (String, String) = redis::cmd("MGET")
        .arg("lasting")
        .arg("passing")
        .query(&mut on_target)
        .unwrap();
    assert_eq!(values, ("1".to_owned(), "2".to_owned()));
    let ttl: i64 = redis::cmd("PTTL")
        .arg("passing")
        .query(&mut on_target)
        .unwrap();
    assert!(ttl > 3_500_000, "{ttl}");
    // The same migration, already complete; and with nothing to say.
    let finished = rump(&["-ttl", "-silent"]).expect_code(0);
    assert_eq!(
        (finished.stdout(), finished.stderr()),
        (String::new(), String::new())
    );
}

#[test]
fn what_only_rump_can_do_is_refused() {
    let mut said = String::new();
    for line in [
        "rump",
        "rump -from redis://h",
        "rump -from redis://h:6379/1 -to /backup/memorystore.rump",
        "rump -from dump.rump -to redis://h",
        "rump -from redis://h -to redis://g -tll",
        "rump -from redis://h -to redis://g -ttl=maybe",
        "rump -from redis://h -to",
        "rump -silent -ttl -from redis://h",
    ] {
        let finished = Redknot::new(line.split(' ')).run();
        said.push_str(&format!("$ redknot {line}\n{}\n\n", Said::of(&finished)));
    }
    insta::assert_snapshot!(said, @r"
    $ redknot rump
    exit 2
    error: rump: -from is missing
      rump needs a source and a target
    hint: redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]

    $ redknot rump -from redis://h
    exit 2
    error: rump: -to is missing
      rump needs a source and a target
    hint: redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]

    $ redknot rump -from redis://h:6379/1 -to /backup/memorystore.rump
    exit 2
    error: rump: -to is a file
      rump could copy to and from files; redknot copies from server to server only
    hint: start a throw-away redis-server and use its address, or keep rump for this step

    $ redknot rump -from dump.rump -to redis://h
    exit 2
    error: rump: -from is a file
      rump could copy to and from files; redknot copies from server to server only
    hint: start a throw-away redis-server and use its address, or keep rump for this step

    $ redknot rump -from redis://h -to redis://g -tll
    exit 2
    error: rump: unknown flag `-tll`
      rump has -from, -to, -ttl and -silent
    hint: redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]

    $ redknot rump -from redis://h -to redis://g -ttl=maybe
    exit 2
    error: rump: -ttl is true or false
      another value follows the `=`
    hint: redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]

    $ redknot rump -from redis://h -to
    exit 2
    error: rump: -to needs a value
      none follows it
    hint: redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]

    $ redknot rump -silent -ttl -from redis://h
    exit 2
    error: rump: -to is missing
      rump needs a source and a target
    hint: redknot rump -from redis://HOST:PORT/DB -to redis://HOST:PORT/DB [-ttl] [-silent]
    ");
}
