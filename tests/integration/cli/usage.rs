//! Words that can't be meant. None of these commands speaks to a server.

use super::{Said, on_terminal, said_of_all};
use crate::support::redknot::Redknot;

#[test]
fn without_a_command_help_is_shown() {
    let finished = Redknot::new::<&str>([]).run();
    insta::assert_snapshot!(Said::of(&finished), @r"
    exit 2
    --- stdout
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
    ");
    let (code, shown) = on_terminal(&[], &[], 80, None);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Examples:"), "{shown}");
}

#[test]
fn a_mistyped_command_or_flag_is_named_with_what_was_meant() {
    insta::assert_snapshot!(said_of_all(&[
        "migarte",
        "migrate --form x",
        "migrate --from a --from b --to c",
        "migrate --from",
        "migrate --batch",
        "status a b",
        "help nothing",
    ]), @r"
    $ redknot migarte
    exit 2
    error: there is no command `migarte`
      the commands are migrate, status, compare, repair, keys, throttle, audit, demo, acl, rump, help
    hint: did you mean `migrate`?

    $ redknot migrate --form x
    exit 2
    error: unknown flag `--form`
      redknot migrate has no flag of that name
    hint: did you mean `--from`?

    $ redknot migrate --from a --from b --to c
    exit 2
    error: --from is given more than once
      which of the values is meant can't be known
    hint: leave one of them away

    $ redknot migrate --from
    exit 2
    error: --from needs a value
      none follows it
    hint: redknot migrate --help

    $ redknot migrate --batch
    exit 2
    error: --batch needs a value
      none follows it
    hint: redknot migrate --help

    $ redknot status a b
    exit 2
    error: there is a word on the command line that is not expected
      it is not shown here, as it could be a password
    hint: redknot status --help

    $ redknot help nothing
    exit 2
    error: there is no help about `nothing`
      commands: migrate, status, compare, repair, keys, throttle, audit, demo, acl, rump, help
      topics: exit-codes, environment, urls, selection, guarantees
    hint: redknot help
    ");
}

#[test]
fn a_missing_server_is_named_with_every_way_to_give_it() {
    insta::assert_snapshot!(said_of_all(&["migrate", "migrate --from h:1"]), @r"
    $ redknot migrate
    exit 2
    error: --from is missing
      the source has to be named
    hint: --from redis://host:6379, or REDKNOT_FROM in the environment, or `from` in --config

    $ redknot migrate --from h:1
    exit 2
    note: --from means redis://h:1/0
    error: --to is missing
      the target has to be named
    hint: --to redis://host:6379, or REDKNOT_TO in the environment, or `to` in --config
    ");
}

#[test]
fn an_unknown_scheme_is_answered_with_the_known_ones() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from http://h --to h",
        "migrate --from redis+sentinel://h --to h",
        "migrate --from unix:/run/redis.sock --to h",
        "migrate --from /run/redis.sock --to h",
        "migrate --from h:1 --to redis-sentinel://h,h",
    ]), @r"
    $ redknot migrate --from http://h --to h
    exit 2
    error: --from is not an address
      the scheme `http` is not known
    hint: use redis://[user:password@]host[:port][/db], redis://host,host for nodes of a cluster, rediss:// for TLS, redis+unix:///path/to/socket, redis-sentinel://host,host/service, or host:port

    $ redknot migrate --from redis+sentinel://h --to h
    exit 2
    error: --from is not an address
      the scheme `redis+sentinel` is not known
    hint: use redis://[user:password@]host[:port][/db], redis://host,host for nodes of a cluster, rediss:// for TLS, redis+unix:///path/to/socket, redis-sentinel://host,host/service, or host:port

    $ redknot migrate --from unix:/run/redis.sock --to h
    exit 2
    error: --from is not an address
      `unix:` is not followed by `//`
    hint: unix:///path/to/socket

    $ redknot migrate --from /run/redis.sock --to h
    exit 2
    error: --from is not an address
      this is a path, not an address
    hint: a socket is named by redis+unix:///path/to/socket

    $ redknot migrate --from h:1 --to redis-sentinel://h,h
    exit 2
    note: --from means redis://h:1/0
    error: --to is not an address
      the name of the service is missing behind the sentinels
    hint: for example redis-sentinel://host:26379,host:26379/mymaster
    ");
}

#[test]
fn a_port_is_marked_in_its_column() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from redis://h:0 --to h",
        "migrate --from redis://u:secret@h:65536/3 --to h",
        "migrate --from h:abc --to h",
        "migrate --from h:-1 --to h",
    ]), @r"
    $ redknot migrate --from redis://h:0 --to h
    exit 2
    error: --from is not an address
      the port has to be a number from 1 to 65535
        redis://h:0
                  ^
    hint: for example cache.example.com:6379; with a password, user:password@ stands before the host

    $ redknot migrate --from redis://u:secret@h:65536/3 --to h
    exit 2
    error: --from is not an address
      the port has to be a number from 1 to 65535
        redis://***@h:65536
                      ^^^^^
    hint: for example cache.example.com:6379; with a password, user:password@ stands before the host

    $ redknot migrate --from h:abc --to h
    exit 2
    error: --from is not an address
      the port has to be a number from 1 to 65535
        h:***
          ^^^
    hint: for example cache.example.com:6379; with a password, user:password@ stands before the host

    $ redknot migrate --from h:-1 --to h
    exit 2
    error: --from is not an address
      the port has to be a number from 1 to 65535
        h:-1
          ^^
    hint: for example cache.example.com:6379; with a password, user:password@ stands before the host
    ");
}

#[test]
fn an_ipv6_address_needs_its_brackets() {
    insta::assert_snapshot!(said_of_all(&["migrate --from ::1:6379 --to h"]), @r"
    $ redknot migrate --from ::1:6379 --to h
    exit 2
    error: --from is not an address
      an IPv6 address has to stand in brackets
    hint: write [::1]:6379
    ");
}

#[test]
fn a_database_is_a_number_and_named_once() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from h/abc --to h",
        "migrate --from h/-1 --to h",
        "migrate --from h --to h --from-db -1",
        "migrate --from h/3 --to g --from-db 5",
        "migrate --from h/3 --to g --db 0,1",
        "migrate --from h --to g --db 0,x",
    ]), @r"
    $ redknot migrate --from h/abc --to h
    exit 2
    error: --from is not an address
      the database has to be a number from 0 to 2147483647
    hint: for example redis://host:6379/3

    $ redknot migrate --from h/-1 --to h
    exit 2
    error: --from is not an address
      the database has to be a number from 0 to 2147483647
    hint: for example redis://host:6379/3

    $ redknot migrate --from h --to h --from-db -1
    exit 2
    error: --from-db can't be `-1`
      not a whole number
    hint: without it: the URL's, or 0

    $ redknot migrate --from h/3 --to g --from-db 5
    exit 2
    error: --from and --from-db contradict each other
      the URL names another database than --from-db
    hint: leave the database out of one of them

    $ redknot migrate --from h/3 --to g --db 0,1
    exit 2
    note: --from means redis://h:6379/3
    note: --to means redis://g:6379/0
    error: --db and the database of --from contradict each other
      --db names the databases of both sides, and --from or --from-db names one too
    hint: leave one of them away

    $ redknot migrate --from h --to g --db 0,x
    exit 2
    error: --db can't be `x`
      not a whole number
    hint: without it: those that the URLs name
    ");
}

#[test]
fn a_value_out_of_range_is_answered_with_the_range_and_the_default() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from h --to g --match [",
        "migrate --type foo",
        "migrate --type string,hsah",
        "migrate --batch 0",
        "migrate --batch 1e9",
        "migrate --connections 17",
        "migrate --on-conflict overwrite",
        "migrate --ttl none",
        "migrate --max-quarantine few",
        "migrate --color sometimes",
    ]), @r"
    $ redknot migrate --from h --to g --match [
    exit 2
    error: --match can't be `[`
      a `[` is not closed
    hint: as in KEYS: * any text, ? one character, [a-z] one of them, \ before a character that is meant itself

    $ redknot migrate --type foo
    exit 2
    error: --type can't be `foo`
      possible: string, list, set, zset, hash, stream
    hint: redknot migrate --help

    $ redknot migrate --type string,hsah
    exit 2
    error: --type can't be `hsah`
      possible: string, list, set, zset, hash, stream
    hint: did you mean `hash`?

    $ redknot migrate --batch 0
    exit 2
    error: --batch can't be `0`
      out of range: 1 to 100000 is allowed
    hint: without it: 500

    $ redknot migrate --batch 1e9
    exit 2
    error: --batch can't be `1e9`
      not a whole number
    hint: without it: 500

    $ redknot migrate --connections 17
    exit 2
    error: --connections can't be `17`
      out of range: 1 to 16 is allowed
    hint: without it: 1

    $ redknot migrate --on-conflict overwrite
    exit 2
    error: --on-conflict can't be `overwrite`
      possible: replace, skip, fail
    hint: redknot migrate --help

    $ redknot migrate --ttl none
    exit 2
    error: --ttl can't be `none`
      possible: keep, drop
    hint: without it: keep

    $ redknot migrate --max-quarantine few
    exit 2
    error: --max-quarantine can't be `few`
      not a whole number
    hint: without it: no limit

    $ redknot migrate --color sometimes
    exit 2
    error: --color can't be `sometimes`
      possible: auto, always, never
    hint: redknot migrate --help
    ");
}

#[test]
fn an_amount_needs_its_unit() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --max-memory 5",
        "migrate --max-memory 5KiB",
        "migrate --timeout 1",
        "migrate --max-unavailable soon",
        "migrate --grace 1d",
        "migrate --rate 1000",
        "migrate --rate 0/s",
        "migrate --bandwidth 50MiB",
        "migrate --bandwidth fast",
        "compare --max-duration 3600",
        "migrate --window 22-6",
        "repair --window 22:00-22:00",
    ]), @r"
    $ redknot migrate --max-memory 5
    exit 2
    error: --max-memory can't be `5`
      a unit is missing: did you mean 5MiB?
    hint: without it: 32MiB

    $ redknot migrate --max-memory 5KiB
    exit 2
    error: --max-memory can't be `5KiB`
      out of range: 1MiB to 64GiB is allowed
    hint: without it: 32MiB

    $ redknot migrate --timeout 1
    exit 2
    error: --timeout can't be `1`
      a unit is missing: did you mean 1s?
    hint: without it: 5s

    $ redknot migrate --max-unavailable soon
    exit 2
    error: --max-unavailable can't be `soon`
      not a time, such as 500ms, 5s or 10m
    hint: without it: 10m

    $ redknot migrate --grace 1d
    exit 2
    error: --grace can't be `1d`
      out of range: 0s to 1h is allowed
    hint: without it: 10s

    $ redknot migrate --rate 1000
    exit 2
    error: --rate can't be `1000`
      a unit is missing: did you mean 1000/s?
    hint: without it: no limit

    $ redknot migrate --rate 0/s
    exit 2
    error: --rate can't be `0/s`
      out of range: 1 to 100000000 is allowed
    hint: without it: no limit

    $ redknot migrate --bandwidth 50MiB
    exit 2
    error: --bandwidth can't be `50MiB`
      a unit is missing: did you mean 50MiB/s?
    hint: without it: no limit

    $ redknot migrate --bandwidth fast
    exit 2
    error: --bandwidth can't be `fast`
      not bytes a second, such as 50MiB/s
    hint: without it: no limit

    $ redknot compare --max-duration 3600
    exit 2
    error: --max-duration can't be `3600`
      a unit is missing: did you mean 3600s?
    hint: without it: no limit

    $ redknot migrate --window 22-6
    exit 2
    error: --window can't be `22-6`
      not two times of day, such as 22:00-06:00
    hint: redknot migrate --help

    $ redknot repair --window 22:00-22:00
    exit 2
    error: --window can't be `22:00-22:00`
      it ends when it begins; leave it away for the whole day
    hint: redknot repair --help
    ");
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from h --to g --restart --trust-cursor",
        "migrate --from h --to g --restart --new-pass",
        "status --quiet --verbose",
        "migrate --from h --to g --from-pass-file f --from-askpass",
        "migrate --from h --to g --from-pass-file - --to-pass-file -",
        "migrate --from h --to g --no-input --to-askpass",
        "migrate --from redis://u:p@h --to g --from-user v",
    ]), @r"
    $ redknot migrate --from h --to g --restart --trust-cursor
    exit 2
    error: --restart and --trust-cursor contradict each other
      a migration that begins from nothing has no cursor to trust
    hint: leave one of them away; it may also stand in the environment or in --config

    $ redknot migrate --from h --to g --restart --new-pass
    exit 2
    error: --restart and --new-pass contradict each other
      one sets the state aside, the other continues it
    hint: leave one of them away; it may also stand in the environment or in --config

    $ redknot status --quiet --verbose
    exit 2
    error: --quiet and --verbose contradict each other
      one says less, the other more
    hint: leave one of them away

    $ redknot migrate --from h --to g --from-pass-file f --from-askpass
    exit 2
    error: --from-pass-file and --from-askpass contradict each other
      both give the password of the source
    hint: leave one of them away; it may also stand in the environment or in --config

    $ redknot migrate --from h --to g --from-pass-file - --to-pass-file -
    exit 2
    error: --from-pass-file - and --to-pass-file - contradict each other
      standard input can hold only one password
    hint: leave one of them away; it may also stand in the environment or in --config

    $ redknot migrate --from h --to g --no-input --to-askpass
    exit 2
    error: --no-input and --to-askpass contradict each other
      the one forbids what the other does
    hint: leave one of them away; it may also stand in the environment or in --config

    $ redknot migrate --from redis://u:p@h --to g --from-user v
    exit 2
    error: --from and --from-user contradict each other
      the URL names another user than --from-user
    hint: leave the user out of one of them
    ");
}

#[test]
fn a_bad_variable_of_the_environment_is_named() {
    let finished = Redknot::new(["migrate"]).env("REDKNOT_BATCH", "many").run();
    insta::assert_snapshot!(Said::of(&finished), @r"
    exit 2
    error: REDKNOT_BATCH can't be `many`
      not a whole number
    hint: without it: 500
    ");
    let finished = Redknot::new(["status"]).env("REDKNOT_JSON", "maybe").run();
    insta::assert_snapshot!(Said::of(&finished), @r"
    exit 2
    error: REDKNOT_JSON can't be `maybe`
      value was not a boolean
    hint: redknot status --help
    ");
    // A flag wins over its variable.
    let finished = Redknot::new(["migrate", "--batch", "0"])
        .env("REDKNOT_BATCH", "100")
        .run();
    insta::assert_snapshot!(Said::of(&finished), @r"
    exit 2
    error: --batch can't be `0`
      out of range: 1 to 100000 is allowed
    hint: without it: 500
    ");
}

#[test]
fn a_word_that_may_be_a_password_is_not_repeated() {
    for line in [
        "migrate redis://:swordfish@a redis://b",
        "redis://:swordfish@a",
        "migrate --from-askpass swordfish",
        "migrate --from redis://:sword#swordfish@h --to g",
        "migrate --from redis://:sword/swordfish@h --to g",
        "migrate --from redis://:sword@swordfish@h --to g",
        "migrate --from redis://:sword%swordfish@h --to g",
        "migrate --from redis://swordfish@h --to g",
        "migrate --from redis://user:swordfish --to g",
        "migrate --from-password=swordfish",
        "migrate --form=redis://:swordfish@h",
        "rump redis://:swordfish@h",
    ] {
        let finished = Redknot::new(line.split(' ')).run().expect_code(2);
        let said = format!("{}{}", finished.stdout(), finished.stderr());
        assert!(said.contains("hint: "), "{said}");
        assert!(!said.contains("swordfish"), "{said}");
    }
}

#[test]
fn an_unescaped_byte_in_a_password_is_answered_with_its_escape() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from redis://:p@ss@h --to g",
        "migrate --from redis://:p#ss@h --to g",
        "migrate --from redis://:p%ss@h --to g",
        "migrate --from redis://name@h --to g",
    ]), @r"
    $ redknot migrate --from redis://:p@ss@h --to g
    exit 2
    error: --from is not an address
      there is an unescaped `@` in the user or password
    hint: write it as %40, or keep the password out of the URL with --from-pass-file / --to-pass-file

    $ redknot migrate --from redis://:p#ss@h --to g
    exit 2
    error: --from is not an address
      there is an unescaped `#` in the user or password
    hint: write it as %23, or keep the password out of the URL with --from-pass-file / --to-pass-file

    $ redknot migrate --from redis://:p%ss@h --to g
    exit 2
    error: --from is not an address
      there is a `%` in the user, password or path that is not followed by two hexadecimal digits
    hint: write a `%` as %25, or keep the password out of the URL with --from-pass-file / --to-pass-file

    $ redknot migrate --from redis://name@h --to g
    exit 2
    error: --from is not an address
      what stands before the `@` could be a user or a password
    hint: write redis://:PASSWORD@host for a password, redis://USER:@host for a user without one, or give the password with --from-pass-file
    ");
}

#[test]
fn help_never_shows_what_the_environment_holds() {
    for line in ["--help", "help migrate", "migrate -h", "help environment"] {
        let finished = Redknot::new(line.split(' '))
            .env("REDKNOT_FROM", "redis://:swordfish@h")
            .run()
            .expect_code(0);
        assert!(!finished.stdout().contains("swordfish"), "{finished}");
    }
}

#[test]
fn every_topic_has_its_help() {
    for (topic, word) in [
        ("exit-codes", "  143  stopped by SIGTERM"),
        ("environment", "REDKNOT_FROM_PASSWORD"),
        ("urls", "redis+unix://"),
        ("selection", "--keys-from FILE"),
        ("guarantees", "What is not"),
        ("migrate", "--on-conflict"),
        ("status", "--watch"),
        ("rump", "Usage: redknot rump"),
    ] {
        let finished = Redknot::new(["help", topic]).run().expect_code(0);
        assert!(finished.stdout().contains(word), "{finished}");
    }
}

#[test]
fn a_flag_that_this_version_does_not_have_is_unknown() {
    for flag in ["--from-cluster", "--until-lag", "--follow"] {
        let finished = Redknot::new(["migrate", flag]).run().expect_code(2);
        assert!(finished.stderr().contains("unknown flag"), "{finished}");
    }
}
