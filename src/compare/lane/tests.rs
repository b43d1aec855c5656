//! A lane between two servers that are played: any order of their answers, any loss, gives the same verdicts.

mod big;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::cluster::{SlotRange, slot_of};
use crate::plan::Plan;
use crate::progress::CompareCounters;
use crate::resp::{Decoder, Token};
use crate::state::record::Position;

mod pace;

/// What a server has: strings, whose payloads are their bytes behind a type and a length.
type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

/// Answers commands as a server does, one after the other.
struct Played {
    keys: Keys,
    input: BytesMut,
    decoder: Decoder,
    mget: bool,
    /// It tells no sizes.
    silent: bool,
}

impl Played {
    fn new(keys: &Keys, mget: bool) -> Self {
        Self {
            keys: keys.clone(),
            input: BytesMut::new(),
            decoder: Decoder::new(),
            mget,
            silent: false,
        }
    }

    /// The next whole command; the played lane only ever sends whole ones.
    fn command(&mut self) -> Option<Vec<Bytes>> {
        let Token::Array(words) = self.decoder.next(&mut self.input).expect("RESP")? else {
            panic!("a command is an array");
        };
        let word = |_| match self.decoder.next(&mut self.input) {
            Ok(Some(Token::Bulk(word))) => word,
            other => panic!("a command's word, not {other:?}"),
        };
        Some((0..words).map(word).collect())
    }

    fn answer(&self, command: &[Bytes]) -> Vec<Token> {
        let get = |key: &Bytes| self.keys.get(&key[..]);
        match &command[0][..] {
            b"SCAN" => {
                let cursor: usize = std::str::from_utf8(&command[1])
                    .expect("digits")
                    .parse()
                    .expect("a number");
                let names: Vec<&Vec<u8>> = self.keys.keys().skip(cursor).take(5).collect();
                let next = cursor + names.len();
                let next = if next >= self.keys.len() { 0 } else { next };
                let mut tokens = vec![
                    Token::Array(2),
                    Token::Bulk(next.to_string().into()),
                    Token::Array(names.len()),
                ];
                tokens.extend(
                    names
                        .into_iter()
                        .map(|name| Token::Bulk(name.clone().into())),
                );
                tokens
            }
            b"MGET" if !self.mget => vec![Token::Error(Bytes::from_static(
                b"ERR unknown command 'MGET'",
            ))],
            b"MGET" => {
                let mut tokens = vec![Token::Array(command.len() - 1)];
                // Some are no strings.
                tokens.extend(command[1..].iter().map(|key| match get(key) {
                    Some(value) if key.len() % 3 > 0 => Token::Bulk(value.clone().into()),
                    _ => Token::Null,
                }));
                tokens
            }
            b"DUMP" => vec![match get(&command[1]) {
                Some(value) => {
                    let mut payload = vec![0, value.len() as u8];
                    payload.extend(value);
                    payload.extend([10, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                    Token::Bulk(payload.into())
                }
                None => Token::Null,
            }],
            b"MEMORY" if self.silent => vec![Token::Error(Bytes::from_static(
                b"NOPERM this user has no permissions to run the 'memory' command",
            ))],
            b"MEMORY" => vec![match get(&command[2]) {
                Some(value) => Token::Integer(value.len() as i64),
                None => Token::Null,
            }],
            b"PTTL" => vec![Token::Integer(match get(&command[1]) {
                Some(_) => -1,
                None => -2,
            })],
            b"EXISTS" => {
                let found = command[1..].iter().filter(|key| get(key).is_some());
                vec![Token::Integer(found.count() as i64)]
            }
            other => panic!("nobody asks {other:?}"),
        }
    }
}

fn rules(strings: bool) -> Rules {
    Rules {
        field_ttl: crate::plan::FieldTtl::Quarantine,
        batch_keys: 5,
        globs: [None, None],
        scan_types: [None; 2],
        types: vec![],
        named: [SOURCE, TARGET].map(|side| Named::new(&Plan::default(), 0, side, None, None)),
        lists: true,
        from_list: false,
        has_rivals: false,
        expiries: Some(Expiries::new(Duration::from_secs(1), [false; 2], [None; 2])),
        source_clock: None,
        strings,
        extras: true,
        held_bytes_max: 40,
        big_key: None,
        routes: [None, None],
        by_slot: [None, None],
    }
}

fn lane(stage: CompareStage, strings: bool) -> Lane {
    Lane::new(rules(strings), stage, Position::Start, Position::Start)
}

/// What one turn does: a side answers so many tokens, or its connection is lost.
#[derive(Debug, Clone)]
enum Turn {
    Answer(usize, usize),
    Lose(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (0..2_usize, 1..9_usize).prop_map(|(side, tokens)| Turn::Answer(side, tokens)),
        1 => (0..2_usize).prop_map(Turn::Lose),
    ]
}

/// Plays a lane to its end; returns its counters and the names of its candidates.
fn play(
    lane: Lane,
    servers: [Keys; 2],
    mget: bool,
    turns: &[Turn],
) -> (CompareCounters, Vec<Vec<u8>>) {
    let (counters, candidates, _) = play_and_list(lane, servers, mget, turns);
    (counters, candidates)
}

/// As [`play`]; also returns the names of both sides and the target's, each as a sum.
fn play_and_list(
    lane: Lane,
    servers: [Keys; 2],
    mget: bool,
    turns: &[Turn],
) -> (CompareCounters, Vec<Vec<u8>>, [NamesDigest; 2]) {
    let played = servers.map(|keys| Played::new(&keys, mget));
    play_with(lane, played, turns)
}

/// As [`play_and_list`], between these servers.
fn play_with(
    mut lane: Lane,
    mut played: [Played; 2],
    turns: &[Turn],
) -> (CompareCounters, Vec<Vec<u8>>, [NamesDigest; 2]) {
    let mut listed = [NamesDigest::default(); 2];
    let mut owed: [VecDeque<Token>; 2] = [VecDeque::new(), VecDeque::new()];
    let mut counters = CompareCounters::default();
    let mut candidates = Vec::new();
    let patience = turns.len() + 10_000;
    let rest = (0..patience).map(|at| Turn::Answer(at % 2, 3));
    let now = Instant::now();
    for turn in turns.iter().cloned().chain(rest) {
        for side in [SOURCE, TARGET] {
            lane.request(side, 0, &mut played[side].input);
            while let Some(command) = played[side].command() {
                let answer = played[side].answer(&command);
                owed[side].extend(answer);
            }
        }
        match turn {
            Turn::Lose(side) => {
                owed[side].clear();
                lane.lost(side, 0);
            }
            Turn::Answer(side, tokens) => {
                for _ in 0..tokens {
                    // As the engine: a full side is not read.
                    if lane.is_full(side, 0) {
                        break;
                    }
                    let Some(token) = owed[side].pop_front() else {
                        break;
                    };
                    let token = big::as_kept(token, lane.skip_above(side, 0));
                    lane.token(side, 0, token, now)
                        .expect("no trouble is played");
                }
            }
        }
        big::compare_in_pieces(&mut lane, &played, now);
        while let Some(batch) = lane.take_finished() {
            lane.durable(1);
            counters.add(&batch.counted.counters);
            listed[0].merge(&batch.counted.names_of_both);
            let names = batch.counted.candidates.into_iter().map(|(name, _)| name);
            candidates.extend(names);
        }
        if let Some(names) = lane.take_listed() {
            listed[1].merge(&names.names);
            counters.target_keys_scanned += names.keys;
        }
        if lane.is_settled() {
            candidates.sort();
            return (counters, candidates, listed);
        }
    }
    panic!("the lane never comes to its end");
}

fn keys() -> impl Strategy<Value = Keys> {
    let name = proptest::collection::vec(b'a'..b'd', 1..4);
    let value = proptest::collection::vec(b'0'..b'2', 0..30);
    proptest::collection::btree_map(name, value, 0..30)
}

proptest! {
    #[test]
    fn every_key_of_the_source_gets_its_verdict(
        source in keys(),
        target in keys(),
        strings: bool,
        mget: bool,
        turns in proptest::collection::vec(turn(), 0..200),
    ) {
        let wanted: Vec<Vec<u8>> = source
            .iter()
            .filter(|(name, value)| target.get(*name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        let all = source.len() as u64;
        let lane = lane(CompareStage::Source, strings);
        let (counters, candidates) = play(lane, [source, target], mget, &turns);
        prop_assert_eq!(&candidates, &wanted);
        prop_assert_eq!(counters.keys_scanned, all);
        prop_assert_eq!(counters.equal, all - wanted.len() as u64);
        prop_assert_eq!(counters.candidates, wanted.len() as u64);
    }

    #[test]
    fn every_key_that_only_the_target_has_is_met(
        source in keys(),
        target in keys(),
        turns in proptest::collection::vec(turn(), 0..200),
    ) {
        let wanted: Vec<Vec<u8>> = target
            .keys()
            .filter(|name| !source.contains_key(*name))
            .cloned()
            .collect();
        let all = target.len() as u64;
        let lane = lane(CompareStage::Target, false);
        let (counters, candidates) = play(lane, [source, target], true, &turns);
        prop_assert_eq!(candidates, wanted);
        prop_assert_eq!(counters.target_keys_scanned, all);
    }
}

proptest! {
    #[test]
    fn the_names_of_both_are_the_targets_unless_it_has_others(
        source in keys(),
        target in keys(),
        only_source: bool,
        strings: bool,
        mget: bool,
        turns in proptest::collection::vec(turn(), 0..200),
    ) {
        let target: Keys = match only_source {
            true => target.into_iter().filter(|(name, _)| source.contains_key(name)).collect(),
            false => target,
        };
        let has_others = target.keys().any(|name| !source.contains_key(name));
        let sides = || [source.clone(), target.clone()];
        let (counters, _, [of_both, of_target]) =
            play_and_list(lane(CompareStage::Source, strings), sides(), mget, &turns);
        prop_assert_eq!(of_both == of_target, !has_others);
        prop_assert_eq!(counters.target_keys_scanned, target.len() as u64);
    }
}

#[test]
fn a_side_whose_answers_wait_is_not_read_on() {
    let big: Keys = (0..9_u8).map(|n| (vec![b'a', n], vec![b'x'; 30])).collect();
    let mut lane = lane(CompareStage::Source, false);
    let mut source = Played::new(&big, true);
    let now = Instant::now();
    let mut most = 0;
    for _ in 0..20 {
        lane.request(SOURCE, 0, &mut source.input);
        while let Some(command) = source.command() {
            for token in source.answer(&command) {
                lane.token(SOURCE, 0, token, now)
                    .expect("no trouble is played");
                if lane.is_full(SOURCE, 0) {
                    most += 1;
                }
            }
        }
    }
    assert!(
        most > 0,
        "the target answers nothing, and the source is read for ever"
    );
}

#[test]
fn a_cursor_that_the_server_refuses_is_told() {
    let mut lane = lane(CompareStage::Source, false);
    let mut out = BytesMut::new();
    lane.request(SOURCE, 0, &mut out);
    let refused = Token::Error(Bytes::from_static(b"ERR invalid cursor"));
    let trouble = lane.token(SOURCE, 0, refused, Instant::now());
    assert!(
        matches!(trouble, Err(Trouble::CursorRefused(_))),
        "{trouble:?}"
    );
}

/// The nodes of a cluster, who has which keys, and a slot that may be half of it on its way.
struct PlayedCluster {
    nodes: Vec<Played>,
    topology: Topology,
    /// Keys that are at another node than `topology` says, and whether that is known there for good.
    away: BTreeMap<Vec<u8>, (usize, bool)>,
    asking: Vec<bool>,
}

fn address(node: usize) -> NodeAddress {
    NodeAddress {
        host: "10.0.0.1".into(),
        port: node as u16 + 1,
    }
}

impl PlayedCluster {
    fn new(keys: &Keys, away: &[(usize, bool)]) -> Self {
        let range = |first, last, node| SlotRange {
            first,
            last,
            master: address(node),
            replicas: vec![],
        };
        let ranges = [
            range(0, 5_000, 0),
            range(5_001, 10_000, 1),
            range(10_001, 16_383, 2),
        ];
        // Whole slots move: keys of one slot are at one place.
        let mut of_slot = BTreeMap::new();
        let mut away = away.iter();
        let away = keys.keys().filter_map(|key| {
            let place = of_slot
                .entry(slot_of(key))
                .or_insert_with(|| away.next().copied());
            place.map(|place| (key.clone(), place))
        });
        Self {
            away: away.collect(),
            nodes: (0..3).map(|_| Played::new(keys, false)).collect(),
            topology: Topology::of(&ranges).expect("a topology"),
            asking: vec![false; 3],
        }
    }

    fn answer(&mut self, node: usize, command: &[Bytes]) -> Vec<Token> {
        if &command[0][..] == b"ASKING" {
            self.asking[node] = true;
            return vec![Token::Simple(Bytes::from_static(b"OK"))];
        }
        let asking = std::mem::take(&mut self.asking[node]);
        let key = &command[1][..];
        let slot = slot_of(key);
        let owner = self.topology.owner(slot).expect("an owner");
        let (there, for_good) = self.away.get(key).copied().unwrap_or((owner, true));
        let at_home = there == node && (for_good || asking || owner == node);
        if at_home {
            return match &command[0][..] {
                b"GET" if key.len().is_multiple_of(3) => {
                    vec![Token::Error(Bytes::from_static(b"WRONGTYPE no string"))]
                }
                b"GET" => vec![match self.nodes[node].keys.get(key) {
                    Some(value) => Token::Bulk(value.clone().into()),
                    None => Token::Null,
                }],
                _ => self.nodes[node].answer(command),
            };
        }
        let (word, to) = match owner == node && !for_good {
            true => ("ASK", there),
            false if for_good => ("MOVED", there),
            false => ("MOVED", owner),
        };
        let line = format!("{word} {slot} 10.0.0.1:{}", to + 1);
        vec![Token::Error(line.into_bytes().into())]
    }
}

proptest! {
    #[test]
    fn keys_of_clusters_are_compared_wherever_they_are_by_now(
        source in keys(),
        target in keys(),
        strings: bool,
        away in proptest::collection::vec((0..3_usize, any::<bool>()), 0..9),
        turns in proptest::collection::vec((0..3_usize, 1..9_usize, any::<bool>()), 0..200),
    ) {
        let wanted: Vec<Vec<u8>> = source
            .iter()
            .filter(|(name, value)| target.get(*name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        let mut single = Played::new(&source, true);
        let mut cluster = PlayedCluster::new(&source.clone().into_iter().chain(target.clone()).collect(), &away);
        for node in &mut cluster.nodes {
            node.keys = target.clone();
        }
        let rules = Rules {
            extras: false,
            lists: false,
            routes: [None, Some(cluster.topology.clone())],
            ..rules(strings)
        };
        let mut lane = Lane::new(rules, CompareStage::Source, Position::Start, Position::Start);
        let mut from_source: VecDeque<Token> = VecDeque::new();
        let mut from_nodes: [VecDeque<Token>; 3] = Default::default();
        let now = Instant::now();
        let rest = (0..30_000_usize).map(|at| (at % 3, 3, false));
        let mut candidates = Vec::new();
        for (node, tokens, lose) in turns.into_iter().chain(rest) {
            lane.request(SOURCE, 0, &mut single.input);
            while let Some(command) = single.command() {
                from_source.extend(single.answer(&command));
            }
            for (pipe, tokens) in from_nodes.iter_mut().enumerate() {
                lane.request(TARGET, pipe, &mut cluster.nodes[pipe].input);
                while let Some(command) = cluster.nodes[pipe].command() {
                    tokens.extend(cluster.answer(pipe, &command));
                }
            }
            if lose {
                from_nodes[node].clear();
                cluster.asking[node] = false;
                lane.lost(TARGET, node);
                continue;
            }
            for _ in 0..tokens {
                if !lane.is_full(SOURCE, 0) && let Some(token) = from_source.pop_front() {
                    lane.token(SOURCE, 0, token, now).expect("no trouble is played");
                }
                if !lane.is_full(TARGET, node) && let Some(token) = from_nodes[node].pop_front() {
                    lane.token(TARGET, node, token, now).expect("no trouble is played");
                }
            }
            while let Some(batch) = lane.take_finished() {
                lane.durable(1);
                candidates.extend(batch.counted.candidates.into_iter().map(|(name, _)| name));
            }
            if lane.is_settled() {
                break;
            }
        }
        prop_assert!(lane.is_settled(), "the lane never comes to its end");
        candidates.sort();
        prop_assert_eq!(candidates, wanted);
    }
}
