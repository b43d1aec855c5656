//! Compares keys once more, after they were written or deleted.

use bytes::{Bytes, BytesMut};

use super::Request;
use super::ends::{Answer, Broken, End};
use crate::client::handshake::unix_ms;
use crate::client::{Reply, connect_source};
use crate::digest::{Comparison, DigestRules, Digester, StreamLevel};
use crate::endpoint::Side;
use crate::plan::{LanePlan, TtlPolicy};
use crate::progress::Verdict;
use crate::rdb::footer;
use crate::resp::{ExpiryQuery, encode_dump, encode_expiry};
use crate::state::record::{FindingRecord, FindingState};

/// Two connections that only read.
pub struct Again {
    source: End,
    target: End,
    ttl: TtlPolicy,
    tolerance_ms: i64,
}

/// What both sides hold under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The same.
    Equal,
    /// Nothing.
    Absent,
    /// Not the same.
    Differs(Box<FindingRecord>),
    /// Values of which nobody can tell whether they are equal.
    NotCompared,
}

struct Read {
    payload: Option<Bytes>,
    left_ms: i64,
}

impl Again {
    /// Connects to both sides of a lane.
    pub async fn connect(request: &Request, name: &str, plan: LanePlan) -> Result<Self, Broken> {
        let timeout = request.options.timeout;
        let on = |side| move |error| Broken { side, error };
        let source = connect_source(&request.source, plan.source_db, name, timeout)
            .await
            .map_err(on(Side::Source))?;
        let target = connect_source(&request.target, plan.target_db, name, timeout)
            .await
            .map_err(on(Side::Target))?;
        Ok(Self {
            source: End::new(Side::Source, source, timeout),
            target: End::new(Side::Target, target, timeout),
            ttl: request.plan.ttl,
            tolerance_ms: 1000,
        })
    }

    /// Compares what both sides hold under each of `names`.
    pub async fn compare(&mut self, names: &[&[u8]]) -> Result<Vec<Seen>, Broken> {
        let mut out = BytesMut::new();
        for name in names {
            encode_dump(&mut out, name);
            encode_expiry(&mut out, ExpiryQuery::PTtl, name);
        }
        self.source.send_bytes(&out).await?;
        self.target.send(&mut out).await?;
        let mut seen = Vec::with_capacity(names.len());
        for _ in names {
            let source = read(&mut self.source).await?;
            let target = read(&mut self.target).await?;
            seen.push(self.judge(&source, &target));
        }
        Ok(seen)
    }

    fn judge(&self, source: &Read, target: &Read) -> Seen {
        let verdict = match (&source.payload, &target.payload) {
            (None, None) => return Seen::Absent,
            (Some(_), None) => Verdict::Missing,
            (None, Some(_)) => Verdict::Extra,
            (Some(ours), Some(theirs)) => match values(ours, theirs) {
                Comparison::Unverified => return Seen::NotCompared,
                Comparison::Different => Verdict::Value,
                Comparison::Equal if self.expire_alike(source.left_ms, target.left_ms) => {
                    return Seen::Equal;
                }
                Comparison::Equal => Verdict::Ttl,
            },
        };
        Seen::Differs(Box::new(FindingRecord {
            verdict,
            key_type: String::new(),
            detail: format!("still {}", verdict.name()),
            source_digest: None,
            target_digest: None,
            payload_bytes: 0,
            found_ms: unix_ms(),
            state: FindingState::Open,
        }))
    }

    fn expire_alike(&self, ours_ms: i64, theirs_ms: i64) -> bool {
        let both_expire = ours_ms >= 0 && theirs_ms >= 0;
        self.ttl == TtlPolicy::Drop
            || ours_ms == theirs_ms
            || (both_expire && (ours_ms - theirs_ms).abs() <= self.tolerance_ms)
    }
}

fn values(ours: &Bytes, theirs: &Bytes) -> Comparison {
    if ours == theirs {
        return Comparison::Equal;
    }
    let level = |payload: &Bytes| {
        footer::payload_type(payload).map_or(StreamLevel::Unowned, StreamLevel::of_type)
    };
    let mut digester = Digester::new(DigestRules {
        now_ms: unix_ms() as i64,
        stream_level: level(ours).min(level(theirs)),
    });
    match (digester.of_payload(ours), digester.of_payload(theirs)) {
        (Ok(ours), Ok(theirs)) => ours.compare(&theirs),
        _ => Comparison::Unverified,
    }
}

async fn read(end: &mut End) -> Result<Read, Broken> {
    let payload = match end.answer().await? {
        Answer::Reply(Reply::Bulk(payload)) => Some(payload),
        Answer::Reply(Reply::Null) | Answer::Refused(..) => None,
        Answer::Reply(other) => return Err(end.unexpected("DUMP", &other)),
    };
    let left_ms = end.number("PTTL").await?;
    Ok(Read { payload, left_ms })
}
