//! A copy whose questions are counted.

use super::*;

/// Copies until the lane is complete; how often the source was asked by each command.
pub fn copy_counted(
    lane: &mut Lane,
    source: &mut Source,
    target: &mut Target,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::<String, usize>::new();
    for _ in 0..10_000 {
        let now = Instant::now();
        let mut out = BytesMut::new();
        lane.request(&mut out);
        for command in commands(&mut out.clone()) {
            let name = String::from_utf8_lossy(&command[0]).into_owned();
            *counts.entry(name).or_default() += 1;
        }
        source.serve(&mut out);
        while let Some(token) = source.answers.pop_front() {
            lane.source_token(token, now).expect("a right answer");
        }
        write(lane, target, now);
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
    counts
}
