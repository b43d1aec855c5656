//! What can be said of a migration in one line.
//!
//! # Invariant
//!
//! "Safe to cut over" is said only where every key of both sides was compared by value and expiry after the last key was
//! copied, all were equal, and nothing was left out.

use serde::{Deserialize, Serialize};

use super::model::{Compare, Phase, Report};
use crate::figures::{count, counted};

/// The line, and what kind of line it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// For programs.
    pub kind: VerdictKind,
    /// For people.
    pub line: String,
}

/// What is known of both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Nothing was copied and nothing compared.
    #[default]
    Nothing,
    /// Keys are still to be copied.
    Incomplete,
    /// Everything was copied; nobody has compared.
    NotCompared,
    /// A comparison was begun and has no result.
    Comparing,
    /// What was compared was equal, but keys have been copied since.
    Outdated,
    /// Keys differ.
    Different,
    /// Keys differed, and were equal after they were repaired one by one.
    Repaired,
    /// What was compared is equal; something was not compared.
    EqualInPart,
    /// The target holds what was copied; the source was not asked.
    AsCopied,
    /// Everything is equal.
    Equal,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// As it should be.
    Good,
    /// Something is left to do.
    Open,
    /// Something is wrong.
    Bad,
}

impl VerdictKind {
    /// How bad it is.
    pub fn gravity(self) -> Gravity {
        match self {
            Self::Equal | Self::AsCopied => Gravity::Good,
            Self::Different => Gravity::Bad,
            Self::Nothing
            | Self::Incomplete
            | Self::NotCompared
            | Self::Comparing
            | Self::Outdated
            | Self::Repaired
            | Self::EqualInPart => Gravity::Open,
        }
    }
}

/// What can be said of `report`, all of whose other fields are filled in.
pub fn verdict(report: &Report) -> Verdict {
    let say = |kind, line: String| Verdict { kind, line };
    let copied = &report.counters;
    match (report.phase, report.compares.last()) {
        (Phase::Copying, _) => {
            let keys = count(copied.keys_written);
            say(
                VerdictKind::Incomplete,
                match report.running {
                    true => format!("still copying, {keys} keys so far; not safe to cut over"),
                    false => {
                        format!("copy not complete, {keys} keys so far; not safe to cut over")
                    }
                },
            )
        }
        (_, Some(compare)) => compared(report, compare),
        (Phase::Planned, None) => say(VerdictKind::Nothing, "nothing has been copied yet".into()),
        (Phase::Copied, None) => {
            let keys = counted(copied.keys_written, "key");
            let lost = match copied.keys_quarantined {
                0 => String::new(),
                bad => format!(", {} could not be copied", count(bad)),
            };
            say(
                VerdictKind::NotCompared,
                format!("{keys} copied{lost}; not compared; not proven safe to cut over"),
            )
        }
    }
}

fn compared(report: &Report, compare: &Compare) -> Verdict {
    let counters = &compare.counters;
    let all = counters.keys_compared + counters.extra;
    let say = |kind, line: String| Verdict { kind, line };
    if compare.ended_ms.is_none() {
        let how = match report.running {
            true => "comparing at the moment",
            false => "comparison not finished",
        };
        return say(
            VerdictKind::Comparing,
            format!("{how}; not proven safe to cut over"),
        );
    }
    let repair = report
        .repairs
        .iter()
        .rev()
        .find(|repair| repair.compare == compare.compare);
    let open = repair.map_or(counters.findings(), |repair| repair.findings_left);
    if open > 0 {
        let differ = if open == 1 { "differs" } else { "differ" };
        return say(
            VerdictKind::Different,
            format!(
                "{} of {} keys {differ}; not safe to cut over",
                count(open),
                count(all)
            ),
        );
    }
    let equal = format!("{} of {} keys equal", count(counters.equal), count(all));
    if compare.outdated {
        return say(
            VerdictKind::Outdated,
            format!("{equal}, but keys have been copied since; not proven safe to cut over"),
        );
    }
    if counters.findings() > 0 {
        return say(
            VerdictKind::Repaired,
            format!(
                "{equal}, {} repaired one by one; compare again before you cut over",
                count(counters.findings())
            ),
        );
    }
    let missing = left_out(compare);
    if compare.recorded {
        let but = match missing.is_empty() {
            true => String::new(),
            false => format!(", but {}", missing.join(", ")),
        };
        return say(
            VerdictKind::AsCopied,
            format!(
                "{equal} to what was copied; compared by value with what was recorded of them, the source was not asked{but}"
            ),
        );
    }
    match missing.is_empty() {
        true => say(
            VerdictKind::Equal,
            format!("{equal}; compared by value; safe to cut over"),
        ),
        false => say(
            VerdictKind::EqualInPart,
            format!(
                "{equal}; compared by value, but {}; not proven safe to cut over",
                missing.join(", ")
            ),
        ),
    }
}

/// Why equal is not all that there is to say.
fn left_out(compare: &Compare) -> Vec<String> {
    let counters = &compare.counters;
    let mut missing = Vec::new();
    if let Some(sample) = &compare.sample {
        missing.push(format!("only a sample ({sample})"));
    }
    if compare.one_way {
        missing.push("only in one direction".to_owned());
    }
    if counters.not_compared > 0 {
        missing.push(format!(
            "{} not compared",
            counted(counters.not_compared, "key")
        ));
    }
    // Each of these has a sentence of its own among those of the comparison; whatever else it did not compare counts too.
    if missing.is_empty() && !compare.not_compared.is_empty() && !compare.recorded {
        missing.push("not everything about them".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::model::Repair;
    use crate::audit::report::sample;

    fn check(change: impl FnOnce(&mut Report), kind: VerdictKind, line: &str) {
        let mut report = sample::report();
        change(&mut report);
        let said = verdict(&report);
        assert_eq!((said.kind, said.line.as_str()), (kind, line));
    }

    fn newest(report: &mut Report) -> &mut Compare {
        report.compares.last_mut().expect("there is one")
    }

    #[test]
    fn safe_is_said_only_where_nothing_was_left_out() {
        check(
            |_| {},
            VerdictKind::Equal,
            "12 481 903 of 12 481 903 keys equal; compared by value; safe to cut over",
        );
        check(
            |report| newest(report).sample = Some("5%".into()),
            VerdictKind::EqualInPart,
            "12 481 903 of 12 481 903 keys equal; compared by value, but only a sample (5%); not proven safe to cut over",
        );
        check(
            |report| {
                newest(report).one_way = true;
                newest(report).counters.not_compared = 1;
            },
            VerdictKind::EqualInPart,
            "12 481 903 of 12 481 903 keys equal; compared by value, but only in one direction, 1 key not compared; not proven safe to cut over",
        );
        check(
            |report| newest(report).not_compared = vec!["expiries were not compared".into()],
            VerdictKind::EqualInPart,
            "12 481 903 of 12 481 903 keys equal; compared by value, but not everything about them; not proven safe to cut over",
        );
        // What could not be copied has gone from the source since, or would have been found.
        check(
            |report| report.counters.keys_quarantined = 3,
            VerdictKind::Equal,
            "12 481 903 of 12 481 903 keys equal; compared by value; safe to cut over",
        );
        check(
            |report| newest(report).recorded = true,
            VerdictKind::AsCopied,
            "12 481 903 of 12 481 903 keys equal to what was copied; compared by value with what was recorded of them, the source was not asked",
        );
        check(
            |report| newest(report).outdated = true,
            VerdictKind::Outdated,
            "12 481 903 of 12 481 903 keys equal, but keys have been copied since; not proven safe to cut over",
        );
    }

    #[test]
    fn what_differs_is_said_until_it_was_compared_again() {
        let differing = |report: &mut Report| {
            newest(report).counters.equal -= 4;
            newest(report).counters.value = 4;
        };
        let repaired = |left: u64| {
            move |report: &mut Report| {
                differing(report);
                report.repairs.push(Repair {
                    repair: 1,
                    compare: 1,
                    began_ms: 1,
                    ended_ms: Some(2),
                    counters: Default::default(),
                    findings_left: left,
                });
            }
        };
        check(
            differing,
            VerdictKind::Different,
            "4 of 12 481 903 keys differ; not safe to cut over",
        );
        check(
            repaired(1),
            VerdictKind::Different,
            "1 of 12 481 903 keys differs; not safe to cut over",
        );
        check(
            repaired(0),
            VerdictKind::Repaired,
            "12 481 899 of 12 481 903 keys equal, 4 repaired one by one; compare again before you cut over",
        );
    }

    #[test]
    fn what_is_not_done_yet_is_not_called_done() {
        check(
            |report| report.phase = Phase::Copying,
            VerdictKind::Incomplete,
            "copy not complete, 12 481 903 keys so far; not safe to cut over",
        );
        check(
            |report| newest(report).ended_ms = None,
            VerdictKind::Comparing,
            "comparison not finished; not proven safe to cut over",
        );
        check(
            |report| report.compares.clear(),
            VerdictKind::NotCompared,
            "12 481 903 keys copied; not compared; not proven safe to cut over",
        );
        check(
            |report| {
                report.compares.clear();
                report.phase = Phase::Planned;
            },
            VerdictKind::Nothing,
            "nothing has been copied yet",
        );
    }
}
