//! Users that may not do what pieces take: keys go whole, and the operator is told.

use super::*;
use crate::acl::{PASSWORD, least_privileged_user, paste};
use crate::support::oracle::Oracle;

fn url(server: &Server, user: &str) -> String {
    format!("redis://{user}:{PASSWORD}@127.0.0.1:{}", server.port())
}

/// The users that `redknot acl` prints, with the rights for pieces or without.
fn printed(server: &Server, side: &str, pieces: bool) -> String {
    let user = least_privileged_user(server, side);
    if pieces {
        let text = Redknot::new(["acl", "--side", side]).run().stdout();
        let mut lines = text.lines().skip_while(|line| !line.contains("--big-key"));
        paste(server, lines.nth(1).expect("a line follows its head"));
        if server.kind().knows_field_ttl {
            paste(server, lines.nth(1).expect("a line follows its head"));
        }
    }
    user
}

#[test]
fn the_printed_rights_suffice_for_pieces_and_without_them_keys_go_whole() {
    for kind in [REDIS_6_2, REDIS_7_0, VALKEY_9_1] {
        let Some(binary) = require(kind) else {
            return;
        };
        for (of_source, of_target) in [(true, true), (false, true), (true, false)] {
            let (source, target) = (Server::plain(&binary), Server::plain(&binary));
            set_hash(&source, "hash", 5_000);
            set_list(&source, "list", 5_000);
            set_set(&source, "set", 20_000);
            set_zset(&source, "zset", 10_000);
            set_stream(&source, "stream", 20_000);
            set_string(&source, "string", 3 << 20);
            let users = [
                printed(&source, "source", of_source),
                printed(&target, "target", of_target),
            ];
            let state = tempfile::tempdir().unwrap();
            let finished = Redknot::migrate(
                &url(&source, &users[0]),
                &url(&target, &users[1]),
                state.path(),
            )
            .args(["--name", NAME, "--big-key", BIG, "--max-memory", "1MiB"])
            .run()
            .expect_code(0);
            let pieces = of_source && of_target;
            let counters = status(NAME, state.path()).counters;
            let wanted = if pieces { 6 } else { 0 };
            assert_eq!(counters.keys_in_pieces, wanted, "{}: {finished}", kind.name);
            let told = finished
                .stderr()
                .matches("can't be copied in pieces")
                .count();
            assert_eq!(told, usize::from(!pieces), "{}: {finished}", kind.name);
            assert_eq!(Oracle::between(&source, &target).assert_equal(), 6);
            assert_eq!(temporary_names(&target), Vec::<String>::new());

            let before = [source.calls("dump"), target.calls("dump")];
            let compared = compare(NAME, state.path())
                .args(["--from", &url(&source, &users[0])])
                .args(["--to", &url(&target, &users[1])])
                .args(["--big-key", BIG, "--max-memory", "1MiB"])
                .run()
                .expect_code(0);
            let told = compared
                .stdout()
                .matches("can't be compared in pieces")
                .count();
            assert_eq!(told, usize::from(!pieces), "{}: {compared}", kind.name);
            Compared::of(compared).assert_equal(6);
            let after = [source.calls("dump"), target.calls("dump")];
            assert_eq!(after == before, pieces, "{}", kind.name);
        }
    }
}

/// Without the right to ask for sizes nothing is asked for, and that is said once.
#[test]
fn a_source_that_tells_no_sizes_is_read_as_it_comes() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 5_000);
    for number in 0..50 {
        set_hash(&source, &format!("small:{number}"), 5);
    }
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "reader", "on", "~*", "+@all", "-memory"]);
    user.arg(format!(">{PASSWORD}"));
    user.exec(&mut source.connection()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let finished = Redknot::migrate(&url(&source, "reader"), &target.url(0), state.path())
        .args(["--name", NAME, "--big-key", BIG])
        .run()
        .expect_code(0);
    let told = finished
        .stderr()
        .matches("does not serve MEMORY USAGE")
        .count();
    assert_eq!(told, 1, "{finished}");
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 51);
    assert_eq!(status(NAME, state.path()).counters.keys_in_pieces, 0);
}
