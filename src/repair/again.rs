//! Compares keys once more, after they were written or deleted: as the comparison does, on connections of its own.
//!
//! # Invariant
//!
//! Of each side one value is in memory at a time.

use std::time::{Duration, Instant};

use super::Request;
use super::ends::{Answer, Broken, End};
use super::sides::{Connections, Patience};
use crate::client::handshake::unix_ms;
use crate::client::{Clock, Reply};
use crate::compare::detail::first_difference;
use crate::compare::expiry::{self, Expiries, NEVER};
use crate::compare::judge::{Judge, Judged, Value, judge, without_expiries};
use crate::compare::recheck;
use crate::endpoint::Side;
use crate::plan::LanePlan;
use crate::progress::Verdict;
use crate::renaming::Renaming;
use crate::resp::{ExpiryQuery, encode_dump, encode_expiry};
use crate::state::record::FindingRecord;

/// Two connections that only read.
pub struct Again {
    ends: [End; 2],
    judge: Judge,
    /// `None`: expiries are not compared.
    expiries: Option<Expiries>,
    source_clock: Option<Clock>,
    renaming: Renaming,
}

/// What both sides hold under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The same.
    Equal,
    /// Nothing that the plan asks for: it is gone from both sides, is about to expire, or is of another type.
    Absent,
    /// Not the same.
    Differs(Box<FindingRecord>),
    /// Values of which nobody can tell whether they are equal.
    NotCompared,
}

/// What a side answered about a key.
struct Read {
    value: Value,
    expiry: expiry::Answer,
}

impl Again {
    /// Connects to both sides of a lane. Instants of expiry may differ by `ttl_tolerance`; without it they are not looked at.
    pub async fn connect(
        request: &Request,
        connections: &Connections<'_>,
        patience: &Patience,
        plan: LanePlan,
        ttl_tolerance: Option<Duration>,
    ) -> Result<Self, Broken> {
        let silence = |side| patience.silence_max(side);
        let source = connections.reading(Side::Source, plan.source_db, silence(Side::Source));
        let source = source.await?;
        let target = connections.reading(Side::Target, plan.target_db, silence(Side::Target));
        let target = target.await?;
        let clocks = [source.clock(), target.clock()];
        let instants = [source.absolute_expiry(), target.absolute_expiry()];
        let mut judge = Judge::new(request.plan.types.clone(), request.plan.field_ttl);
        judge.extras = true;
        Ok(Self {
            ends: [
                source
                    .end(Side::Source, silence(Side::Source))
                    .counted(connections.pace),
                target.end(Side::Target, silence(Side::Target)),
            ],
            judge,
            expiries: ttl_tolerance.map(|tolerance| Expiries::new(tolerance, instants, clocks)),
            source_clock: clocks[0],
            renaming: Renaming::of(&request.plan, plan.source_db),
        })
    }

    /// Compares what both sides hold under each of `names`.
    pub async fn compare(&mut self, names: &[&[u8]]) -> Result<Vec<Seen>, Broken> {
        let there: Vec<Vec<u8>> = names
            .iter()
            .map(|name| self.renaming.to_target(name))
            .collect();
        let there: Vec<&[u8]> = there.iter().map(Vec::as_slice).collect();
        for (side, names) in [names, &there].into_iter().enumerate() {
            let end = &mut self.ends[side];
            for name in names {
                end.ask(name, |out| encode_dump(out, name));
                if let Some(expiries) = &self.expiries {
                    let query = match expiries.asks_instant(side) {
                        true => ExpiryQuery::PExpireTime,
                        false => ExpiryQuery::PTtl,
                    };
                    end.ask(name, |out| encode_expiry(out, query, name));
                }
            }
            end.send().await?;
        }
        let mut seen = Vec::with_capacity(names.len());
        let asks_expiry = self.expiries.is_some();
        for _ in names {
            let source = read(&mut self.ends[0], asks_expiry).await?;
            let target = read(&mut self.ends[1], asks_expiry).await?;
            seen.push(self.judged(&source, &target));
        }
        Ok(seen)
    }

    fn judged(&mut self, source: &Read, target: &Read) -> Seen {
        let now = Instant::now();
        let now_ms = match self.source_clock {
            Some(clock) => clock.at(now),
            None => i64::try_from(unix_ms()).unwrap_or(i64::MAX),
        };
        let values = self.judge.values(&source.value, &target.value, now_ms);
        let judged = match &self.expiries {
            Some(expiries) => judge(values, [source.expiry, target.expiry], expiries, now),
            None => without_expiries(values),
        };
        match judged {
            Judged::Equal { .. } => Seen::Equal,
            Judged::Gone | Judged::Filtered => Seen::Absent,
            Judged::NotCompared => Seen::NotCompared,
            Judged::Differs(difference) => {
                let first = match (difference.verdict, &source.value, &target.value) {
                    (Verdict::Value, Value::Payload(source), Value::Payload(target)) => {
                        first_difference(source, target)
                    }
                    _ => None,
                };
                let verdict = difference.verdict;
                let record = recheck::finding(verdict, &difference, first.as_deref());
                Seen::Differs(Box::new(record))
            }
        }
    }
}

async fn read(end: &mut End, asks_expiry: bool) -> Result<Read, Broken> {
    let value = match end.answer().await? {
        Answer::Reply(Reply::Bulk(payload)) => Value::Payload(payload),
        Answer::Reply(Reply::Null) => Value::Missing,
        Answer::Refused(..) => Value::Refused,
        Answer::Reply(other) => return Err(end.unexpected("DUMP", &other)),
    };
    let ms = match asks_expiry {
        false => NEVER,
        true => match (end.answer().await?, &value) {
            (Answer::Reply(Reply::Integer(ms)), _) => ms,
            // DUMP has said so already.
            (Answer::Refused(..), Value::Refused) => NEVER,
            (Answer::Refused(code, line), _) => return Err(end.refused(code, line)),
            (Answer::Reply(other), _) => return Err(end.unexpected("PTTL", &other)),
        },
    };
    let at = Instant::now();
    Ok(Read {
        value,
        expiry: expiry::Answer { ms, at },
    })
}
