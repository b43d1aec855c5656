//! A pattern that is matched in redknot means what it means to every server: asked of each of them.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_6_0, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require};

/// What patterns and names are made of: few characters, so that they meet, and all that mean something.
const OF_GLOBS: &[u8] = b"ab-c*?[]^\\!\xc3\x00";
const OF_NAMES: &[u8] = b"abc-[]^\\*\xc3\x00";
const NAMES: usize = 400;
const GLOBS: usize = 3_000;

fn word(random: &mut StdRng, of: &[u8], longest: usize) -> Vec<u8> {
    let length = random.random_range(0..=longest);
    (0..length)
        .map(|_| of[random.random_range(0..of.len())])
        .collect()
}

#[test]
fn patterns_match_what_servers_match() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut names: BTreeSet<Vec<u8>> = (0..NAMES).map(|_| word(&mut random, OF_NAMES, 6)).collect();
    names.insert(Vec::new());
    let mut globs: Vec<Vec<u8>> = (0..GLOBS).map(|_| word(&mut random, OF_GLOBS, 8)).collect();
    globs.extend(
        [
            &b""[..],
            b"*",
            b"**",
            b"?",
            b"[^]",
            b"[]",
            b"[a-c]*",
            b"*[^a-b]?",
            b"\\",
        ]
        .map(<[u8]>::to_vec),
    );
    // The ends of ranges beyond ASCII are refused before it comes to this.
    globs.retain(|glob| !has_range_beyond_ascii(glob));
    assert!(globs.len() > GLOBS / 2);
    for kind in [REDIS_6_0, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1] {
        let Some(binary) = require(kind) else {
            continue;
        };
        let server = Server::plain(&binary);
        let mut connection = server.connection();
        let mut pipe = redis::pipe();
        names.iter().for_each(|name| {
            pipe.cmd("SET").arg(name).arg("").ignore();
        });
        pipe.exec(&mut connection).unwrap();
        for part in globs.chunks(100) {
            let mut pipe = redis::pipe();
            for glob in part {
                pipe.cmd("SCAN")
                    .arg(0)
                    .arg("COUNT")
                    .arg(100_000)
                    .arg("MATCH")
                    .arg(glob);
            }
            let answers: Vec<(u64, Vec<Vec<u8>>)> = pipe.query(&mut connection).unwrap();
            for (glob, (cursor, matched)) in part.iter().zip(answers) {
                assert_eq!(cursor, 0, "one SCAN returns all");
                let matched: BTreeSet<Vec<u8>> = matched.into_iter().collect();
                for name in &names {
                    assert_eq!(
                        ::redknot::glob::matches(glob, name),
                        matched.contains(name),
                        "{}: \"{}\" and \"{}\"",
                        kind.name,
                        glob.escape_ascii(),
                        name.escape_ascii()
                    );
                }
            }
        }
    }
}

fn has_range_beyond_ascii(glob: &[u8]) -> bool {
    glob.windows(3)
        .any(|range| range[1] == b'-' && (!range[0].is_ascii() || !range[2].is_ascii()))
}
