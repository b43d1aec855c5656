//! Clusters: what a node sends elsewhere is read again there, and written where it belongs by then.

use std::rc::Rc;

use super::*;
use crate::cluster::{NodeAddress, Probes, SlotRange, Topology, slot_of};

fn address(port: u16) -> NodeAddress {
    NodeAddress {
        host: "10.0.0.1".into(),
        port,
    }
}

/// Two nodes, each with half of the slots.
fn two_nodes() -> Topology {
    let range = |first, last, port| SlotRange {
        first,
        last,
        master: address(port),
        replicas: vec![],
    };
    Topology::of(&[range(0, 8191, 1), range(8192, 16_383, 2)]).expect("a topology")
}

/// A key of the first node's half.
const KEY: &[u8] = b"key:0";

/// A lane that has read [`KEY`] from a single source, for a target of two nodes.
fn to_two_nodes() -> Lane {
    let slot = slot_of(KEY);
    assert!(slot < 8192, "the key is the first node's, its slot {slot}");
    let rules = Rules {
        routes: Some(two_nodes()),
        read_with: ReadWith::Dump,
        ..rules()
    };
    let mut lane = Lane::new(rules, 1, Position::Start, 0, 2, 0);
    lane.request(&mut BytesMut::new());
    let now = Instant::now();
    for token in [Token::Array(2), bulk(b"0"), Token::Array(1), bulk(KEY)] {
        lane.source_token(token, now).expect("a right answer");
    }
    read_again(&mut lane);
    lane
}

/// Plays the source once more.
fn read_again(lane: &mut Lane) {
    let mut out = BytesMut::new();
    lane.request(&mut out);
    let asked = commands(&mut out);
    assert_eq!(asked[0], [&b"DUMP"[..], KEY], "it is read again");
    let now = Instant::now();
    for token in [Token::Bulk(payload(b"value")), Token::Integer(-1)] {
        lane.source_token(token, now).expect("a right answer");
    }
}

/// What is sent on a connection, as names of commands.
fn sent(lane: &mut Lane, connection: usize) -> Vec<String> {
    let mut out = BytesMut::new();
    assert!(lane.write(connection, &mut out, Instant::now()).is_none());
    let named = |command: &Vec<Bytes>| String::from_utf8_lossy(&command[0]).into_owned();
    commands(&mut out).iter().map(named).collect()
}

fn ok() -> Token {
    Token::Simple(Bytes::from_static(b"OK"))
}

fn moved(to: u16) -> Token {
    let line = format!("MOVED {} 10.0.0.1:{to}", slot_of(KEY));
    Token::Error(line.into_bytes().into())
}

fn written(lane: &mut Lane) -> u64 {
    lane.take_finished()
        .map_or(0, |batch| batch.counters.keys_written)
}

#[test]
fn a_key_whose_slot_has_moved_is_read_again_and_written_there() {
    let mut lane = to_two_nodes();
    assert_eq!(sent(&mut lane, 1), [""; 0]);
    assert_eq!(sent(&mut lane, 0), ["RESTORE"]);
    lane.target_token(0, moved(2)).expect("it is followed");
    assert_eq!(sent(&mut lane, 1), [""; 0], "never what was read before");
    read_again(&mut lane);
    assert_eq!(sent(&mut lane, 0), [""; 0]);
    assert_eq!(sent(&mut lane, 1), ["RESTORE"]);
    lane.target_token(1, ok()).expect("it is written");
    assert_eq!(written(&mut lane), 1);
}

#[test]
fn a_key_whose_slot_is_on_its_way_is_written_where_it_goes_by_asking() {
    let mut lane = to_two_nodes();
    sent(&mut lane, 0);
    let line = format!("ASK {} 10.0.0.1:2", slot_of(KEY));
    lane.target_token(0, Token::Error(line.into_bytes().into()))
        .expect("it is followed");
    read_again(&mut lane);
    assert_eq!(sent(&mut lane, 1), ["ASKING", "RESTORE"]);
    lane.target_token(1, ok()).expect("asking is granted");
    assert_eq!(written(&mut lane), 0, "that was the answer to ASKING");
    // The slot did not arrive after all.
    lane.target_token(1, moved(1)).expect("it is followed");
    read_again(&mut lane);
    assert_eq!(sent(&mut lane, 0), ["RESTORE"]);
    lane.target_token(0, ok()).expect("it is written");
    assert_eq!(written(&mut lane), 1);
}

#[test]
fn a_node_that_is_new_has_to_be_met_first_and_the_key_waits_for_it() {
    let mut lane = to_two_nodes();
    sent(&mut lane, 0);
    assert_eq!(
        lane.target_token(0, moved(3)),
        Err(Trouble::UnknownNode(address(3)))
    );
    lane.target_lost(0);
    read_again(&mut lane);
    assert_eq!(sent(&mut lane, 0), ["RESTORE"]);
}

#[test]
fn a_key_that_has_left_its_node_is_a_stray_and_has_not_vanished() {
    let answers = [
        [moved(2), moved(2)],
        // Between its value and its expiry.
        [Token::Bulk(payload(b"old")), moved(2)],
    ];
    for answer in answers {
        let rules = Rules {
            by_slot: Some(Rc::new(Probes::find())),
            read_with: ReadWith::Dump,
            ..rules()
        };
        let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 0);
        assert!(lane.must_change_node(), "no node is connected yet");
        lane.source_serves(&two_nodes(), 0);
        lane.request(&mut BytesMut::new());
        let now = Instant::now();
        let listed = [
            Token::Integer(-2),
            Token::Array(1),
            bulk(KEY),
            Token::Integer(-2),
        ];
        for token in listed {
            lane.source_token(token, now).expect("a right answer");
        }
        lane.request(&mut BytesMut::new());
        // The lists of the next two slots are on their way in front of it.
        let [owned, empty] = [Token::Integer(-2), Token::Array(0)];
        let lists = [&owned, &owned, &empty, &empty, &owned, &owned];
        for token in lists.into_iter().cloned().chain(answer) {
            lane.source_token(token, now).expect("it is looked for");
        }
        assert!(lane.take_finished().is_none(), "it has no outcome yet");
        let (key, name) = lane.take_stray().expect("a stray");
        assert_eq!(name, KEY);
        lane.stray_read(key, None, Some(payload(b"new")), -1, now);
        assert_eq!(sent(&mut lane, 0), ["RESTORE"]);
        lane.target_token(0, ok()).expect("it is written");
        assert_eq!(written(&mut lane), 1);
    }
}

/// One node says that the slot is on its way to the other, which does not know about it.
#[test]
fn nodes_that_send_to_each_other_are_left_alone_for_a_while() {
    let mut lane = to_two_nodes();
    let mut at = 0;
    for redirections in 0.. {
        let commands = sent(&mut lane, at);
        if commands.len() > 1 {
            lane.target_token(at, ok()).expect("asking is granted");
        }
        let line = match at {
            0 => Token::Error(
                format!("ASK {} 10.0.0.1:2", slot_of(KEY))
                    .into_bytes()
                    .into(),
            ),
            _ => moved(1),
        };
        match lane.target_token(at, line) {
            Ok(()) => read_again(&mut lane),
            Err(trouble) => {
                assert!(matches!(trouble, Trouble::Link(_)), "{trouble:?}");
                assert!(redirections > 3, "a slot that moved twice is no circle");
                break;
            }
        }
        at = 1 - at;
    }
    lane.target_lost(at);
    read_again(&mut lane);
    sent(&mut lane, 0);
    lane.target_token(0, ok()).expect("it is written");
    assert_eq!(written(&mut lane), 1);
}

/// Two nodes, a source that answers key by key, and small payloads.
#[test]
fn what_goes_to_one_of_several_nodes_waits_for_company_while_the_source_goes_on() {
    let rules = Rules {
        routes: Some(two_nodes()),
        read_with: ReadWith::Dump,
        ..rules()
    };
    let mut lane = Lane::new(rules, 1, Position::Start, 0, 2, 0);
    let mut out = BytesMut::new();
    lane.request(&mut out);
    let now = Instant::now();
    assert!(!lane.gathers(0), "nothing waits");
    let other = b"key:1";
    assert!(slot_of(other) < 8192, "both are the first node's");
    for token in [
        Token::Array(2),
        bulk(b"0"),
        Token::Array(2),
        bulk(KEY),
        bulk(other),
    ] {
        lane.source_token(token, now).expect("a right answer");
    }
    lane.request(&mut out);
    let value = |lane: &mut Lane| {
        for token in [Token::Bulk(payload(b"value")), Token::Integer(-1)] {
            lane.source_token(token, now).expect("a right answer");
        }
    };
    value(&mut lane);
    assert!(lane.gathers(0), "the source owes another key");
    assert!(!lane.gathers(1), "nothing waits for that node");
    value(&mut lane);
    assert!(!lane.gathers(0), "nothing more is to come");
    assert_eq!(sent(&mut lane, 0), ["RESTORE", "RESTORE"]);
}

#[test]
fn nothing_waits_on_the_only_connection() {
    let rules = Rules {
        read_with: ReadWith::Dump,
        ..rules()
    };
    let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 0);
    let mut out = BytesMut::new();
    lane.request(&mut out);
    let now = Instant::now();
    let names = [
        Token::Array(2),
        bulk(b"0"),
        Token::Array(2),
        bulk(KEY),
        bulk(b"another"),
    ];
    for token in names {
        lane.source_token(token, now).expect("a right answer");
    }
    lane.request(&mut out);
    for token in [Token::Bulk(payload(b"value")), Token::Integer(-1)] {
        lane.source_token(token, now).expect("a right answer");
    }
    assert!(lane.source_owes() && !lane.gathers(0));
}
