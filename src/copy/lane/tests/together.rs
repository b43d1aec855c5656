//! Expiries by one number: what it stands for, when it is not counted on, and that no expiry is lost by it.

use super::counted::copy_counted;
use super::*;
use crate::progress::ExpiriesBy;

fn lane(rules: Rules) -> Lane {
    let rules = Rules {
        batch_keys: 40,
        counts_expiries: true,
        ..rules
    };
    Lane::new(rules, 1, Position::Start, 0, 1, 0)
}

/// What the lane asks next: names of commands.
fn asked(lane: &mut Lane) -> Vec<String> {
    let mut out = BytesMut::new();
    lane.request(&mut out);
    let name = |command: &Vec<Bytes>| String::from_utf8_lossy(&command[0]).into_owned();
    commands(&mut out).iter().map(name).collect()
}

fn feed(lane: &mut Lane, tokens: impl IntoIterator<Item = Token>) -> Result<(), Trouble> {
    let now = Instant::now();
    tokens
        .into_iter()
        .try_for_each(|token| lane.source_token(token, now))
}

fn simple(text: &'static str) -> Token {
    Token::Simple(Bytes::from_static(text.as_bytes()))
}

fn keyspace(keys: u64, expires: u64) -> Token {
    bulk(format!("# Keyspace\r\ndb0:keys={keys},expires={expires},avg_ttl=0\r\n").as_bytes())
}

/// What a transaction of two commands is answered with before their own answers.
fn begun() -> [Token; 4] {
    [
        simple("OK"),
        simple("QUEUED"),
        simple("QUEUED"),
        Token::Array(2),
    ]
}

const KEYS: usize = 20;

fn names() -> Vec<String> {
    (0..KEYS).map(|key| format!("k{key}")).collect()
}

/// A lane that has been told that no key has an expiry, and has asked for these keys.
fn asked_together() -> Lane {
    let mut lane = lane(rules());
    assert_eq!(
        asked(&mut lane),
        ["SCAN", "MULTI", "DBSIZE", "INFO", "EXEC"]
    );
    let names = names();
    let scanned = [Token::Array(2), bulk(b"0"), Token::Array(KEYS)];
    let names = names.iter().map(|name| bulk(name.as_bytes()));
    feed(&mut lane, scanned.into_iter().chain(names)).expect("right");
    feed(&mut lane, begun()).expect("right");
    feed(&mut lane, [Token::Integer(20), keyspace(20, 0)]).expect("right");
    assert_eq!(lane.ways().expiries, ExpiriesBy::Count);
    assert_eq!(asked(&mut lane), ["MULTI", "MGET", "INFO", "EXEC"]);
    lane
}

fn values() -> impl Iterator<Item = Token> {
    std::iter::once(Token::Array(KEYS)).chain((0..KEYS).map(|_| bulk(b"v")))
}

/// The rest of the way without trouble, as whole keys with these expiries; what the target holds then.
fn finished_whole(mut lane: Lane, expiry: i64) -> Target {
    let mut source = Source::new(0);
    source.keys = names()
        .into_iter()
        .map(|name| (name.into_bytes(), Some(payload(b"v")), expiry))
        .collect();
    let mut target = Target::default();
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!(counters.keys_written, KEYS as u64);
    target
}

#[test]
fn where_no_key_expires_one_number_stands_for_all() {
    let mut source = Source::new(300);
    source.scan_keys = 40;
    let mut target = Target::default();
    let mut lane = lane(rules());
    let counts = copy_counted(&mut lane, &mut source, &mut target);
    assert_eq!(target.keys.len(), 300);
    assert_eq!(counts["DUMP"], 100, "{counts:?}");
    assert_eq!(lane.ways().expiries, ExpiriesBy::Count);
    // Those of what is no string, and of groups that are too small.
    assert!(counts["PEXPIRETIME"] < 200, "{counts:?}");
    for (name, value, _) in &source.keys {
        assert_eq!(Some(&target.keys[name].0), value.as_ref());
    }
}

#[test]
fn values_with_the_proof_are_written_for_ever() {
    let mut lane = asked_together();
    feed(&mut lane, begun()).expect("right");
    feed(&mut lane, values()).expect("right");
    assert_eq!(lane.ready_bytes(), 0, "nothing is proven yet");
    feed(&mut lane, [keyspace(20, 0)]).expect("right");
    let mut target = Target::default();
    write(&mut lane, &mut target, Instant::now());
    assert_eq!((target.keys.len(), target.sets), (KEYS, KEYS));
    assert!(target.keys.values().all(|(_, ttl)| *ttl == 0));
}

#[test]
fn a_single_expiry_in_the_database_has_every_key_asked_for_its_own() {
    let mut lane = asked_together();
    feed(&mut lane, begun()).expect("right");
    feed(&mut lane, values().chain([keyspace(20, 1)])).expect("right");
    assert_eq!(lane.ready_bytes(), 0, "no value without its expiry");
    assert_eq!(lane.ways().expiries, ExpiriesBy::Key);
    let target = finished_whole(lane, 4_000_000_000_000);
    assert!(target.keys.values().all(|(_, ttl)| *ttl != 0));
}

#[test]
fn numbers_that_do_not_fit_are_not_counted_on() {
    for odd in [
        bulk(b""),
        bulk(b"# Keyspace\r\n"),
        bulk(b"# Keyspace\r\ndb1:keys=20,expires=0,avg_ttl=0\r\n"),
        bulk(b"# Keyspace\r\ndb0:keys=20,expires=0,avg_ttl=-1\r\n"),
        error("NOPERM this user has no permissions to run the 'info' command"),
    ] {
        let mut lane = asked_together();
        feed(&mut lane, begun()).expect("right");
        feed(&mut lane, values().chain([odd.clone()])).expect("it costs no connection");
        assert_eq!(lane.ready_bytes(), 0, "{odd:?}");
        assert_eq!(lane.ways().expiries, ExpiriesBy::Key, "{odd:?}");
        let target = finished_whole(lane, 4_000_000_000_000);
        assert!(target.keys.values().all(|(_, ttl)| *ttl != 0), "{odd:?}");
    }
}

/// All of them are gone, or are no strings: that is found out as always.
#[test]
fn an_empty_database_is_no_contradiction_to_no_values() {
    let mut lane = asked_together();
    feed(&mut lane, begun()).expect("right");
    let nils = (0..KEYS).map(|_| Token::Null);
    let array = std::iter::once(Token::Array(KEYS));
    let info = [bulk(b"# Keyspace\r\n")];
    feed(&mut lane, array.chain(nils).chain(info)).expect("right");
    assert_eq!(lane.ways().expiries, ExpiriesBy::Count);
    assert_eq!(asked(&mut lane)[..2], ["DUMP", "PEXPIRETIME"]);
}

#[test]
fn a_transaction_that_is_not_executed_costs_neither_key_nor_connection() {
    let aborted = || error("EXECABORT Transaction discarded because of previous errors.");
    let crossslot = || error("CROSSSLOT Keys in request don't hash to the same slot");
    for answers in [
        vec![simple("OK"), crossslot(), simple("QUEUED"), aborted()],
        vec![simple("OK"), simple("QUEUED"), crossslot(), aborted()],
        vec![
            simple("OK"),
            simple("QUEUED"),
            simple("QUEUED"),
            crossslot(),
        ],
    ] {
        let mut lane = asked_together();
        feed(&mut lane, answers.clone()).expect("an answer");
        assert_eq!(lane.ways().expiries, ExpiriesBy::Key, "{answers:?}");
        assert_eq!(
            lane.ways().strings,
            StringsBy::Mget,
            "it is not MGET's fault"
        );
        let target = finished_whole(lane, -1);
        assert_eq!(target.keys.len(), KEYS);
    }
}

#[test]
fn an_answer_that_is_none_costs_the_connection_and_no_key() {
    let [ok, queued, _, exec] = begun();
    let (ok, queued, exec) = (&ok, &queued, &exec);
    for answers in [
        vec![error("ERR unknown command 'MULTI'")],
        vec![ok, &Token::Array(20)].into_iter().cloned().collect(),
        vec![ok, queued, queued, &Token::Array(3)]
            .into_iter()
            .cloned()
            .collect(),
        vec![ok, queued, queued, exec, &Token::Array(19)]
            .into_iter()
            .cloned()
            .collect(),
        vec![ok, queued, queued, exec, &Token::Null]
            .into_iter()
            .cloned()
            .collect(),
        vec![ok, queued, queued, &Token::Null]
            .into_iter()
            .cloned()
            .collect::<Vec<_>>(),
    ] {
        let mut lane = asked_together();
        let trouble = feed(&mut lane, answers.clone());
        assert!(matches!(trouble, Err(Trouble::Link(_))), "{answers:?}");
        lane.source_lost();
        assert_eq!(lane.ways().expiries, ExpiriesBy::Key);
        let target = finished_whole(lane, -1);
        assert_eq!(target.keys.len(), KEYS, "{answers:?}");
    }
}

#[test]
fn a_server_that_is_not_well_says_nothing_about_its_expiries() {
    let mut lane = asked_together();
    let trouble = feed(&mut lane, [error("LOADING Redis is loading the dataset")]);
    assert!(matches!(trouble, Err(Trouble::Link(_))));
    lane.source_lost();
    // The next connection is asked anew.
    assert_eq!(asked(&mut lane)[..4], ["MULTI", "DBSIZE", "INFO", "EXEC"]);
}

/// What was lost with its answer, or without its proof, is read whole.
#[test]
fn a_connection_that_is_lost_before_the_proof_leaves_nothing_ready() {
    let mut lane = asked_together();
    feed(&mut lane, begun()).expect("right");
    feed(&mut lane, values().take(5)).expect("right");
    lane.source_lost();
    assert_eq!((lane.ready_bytes(), lane.held_bytes()), (0, 0));
    let target = finished_whole(lane, 4_000_000_000_000);
    assert!(target.keys.values().all(|(_, ttl)| *ttl != 0));
}

#[test]
fn where_the_look_is_refused_every_key_is_asked() {
    for answers in [
        // MULTI may not be used: the others are executed by themselves.
        vec![
            error("NOPERM this user has no permissions to run the 'multi' command"),
            Token::Integer(20),
            bulk(b"# Keyspace\r\n"),
            error("ERR EXEC without MULTI"),
        ],
        // INFO may not be asked.
        vec![
            simple("OK"),
            simple("QUEUED"),
            error("NOPERM this user has no permissions to run the 'info' command"),
            error("EXECABORT Transaction discarded because of previous errors."),
        ],
        // DBSIZE speaks of other keys than INFO.
        begun()
            .into_iter()
            .chain([Token::Integer(5), keyspace(20, 0)])
            .collect(),
        begun()
            .into_iter()
            .chain([error("ERR unknown command 'DBSIZE'"), keyspace(20, 0)])
            .collect(),
    ] {
        let mut lane = lane(rules());
        asked(&mut lane);
        feed(&mut lane, [Token::Array(2), bulk(b"0"), Token::Array(KEYS)]).expect("right");
        feed(&mut lane, names().iter().map(|name| bulk(name.as_bytes()))).expect("right");
        feed(&mut lane, answers.clone()).expect("it costs no connection");
        assert_eq!(lane.ways().expiries, ExpiriesBy::Key, "{answers:?}");
        assert_eq!(asked(&mut lane)[..2], ["MGET", "PEXPIRETIME"]);
    }
}

#[test]
fn with_expiries_dropped_nobody_is_asked() {
    let mut lane = lane(Rules {
        ttl: TtlPolicy::Drop,
        ..rules()
    });
    assert_eq!(asked(&mut lane), ["SCAN"]);
    assert_eq!(lane.ways().expiries, ExpiriesBy::None);
}

/// Expiries that come and go while the lane reads: whoever has one when it is read has one when it arrives.
#[test]
fn keys_that_are_given_expiries_meanwhile_arrive_with_them() {
    let mut source = Source::new(2_000);
    source.scan_keys = 40;
    let mut target = Target::default();
    let mut lane = lane(rules());
    let mut changes = 0;
    for round in 0..10_000 {
        let now = Instant::now();
        // One expires after the other is read or not: at the end all have an expiry.
        let given = (round * 7).min(source.keys.len());
        if round > 20 {
            source.keys[..given]
                .iter_mut()
                .for_each(|key| key.2 = 4_000_000_000_000);
        }
        let before = lane.ways().expiries;
        ask(&mut lane, &mut source, now);
        changes += usize::from(before != lane.ways().expiries);
        let mut out = BytesMut::new();
        while let Some(large) = lane.write(0, &mut out, now) {
            out.extend_from_slice(&large.bytes);
            large.encode_tail(&mut out);
        }
        for command in commands(&mut out.clone()) {
            let (_, expiry) = source.find(&command[1]);
            let for_ever = match &command[0][..] {
                b"SET" => command.len() == 3,
                _ => &command[2][..] == b"0",
            };
            assert_eq!(for_ever, expiry == -1, "{command:?}");
        }
        target.serve(&mut out);
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("no trouble is played");
        }
        while lane.take_finished().is_some() {
            lane.durable(1);
        }
        if lane.is_complete() {
            break;
        }
    }
    assert!(lane.is_complete());
    assert!(changes >= 2, "it was counted on, and then not: {changes}");
    assert_eq!(target.keys.len(), 2_000);
}
