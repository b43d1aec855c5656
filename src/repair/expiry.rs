//! From the source's answer about a key's expiry to what RESTORE is told.
//!
//! # Invariant
//!
//! A key that expires never gets the 0 that means "never", whatever the servers know and however long it waited.

use std::time::Instant;

use super::sides::Connected;
use crate::client::Clock;
use crate::client::handshake::unix_ms;
use crate::resp::ExpiryQuery;

/// Clocks further apart than this do not share instants: expiries then travel as time left.
const CLOCKS_AGREE_MS: i64 = 1000;

/// How two servers can speak about expiries.
#[derive(Debug, Clone, Copy)]
pub struct Expiries {
    /// What the source is asked.
    pub query: ExpiryQuery,
    source: Option<Clock>,
    /// The target's clock, if RESTORE takes instants of it.
    target: Option<Clock>,
}

/// What RESTORE is told about a key that is still alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// Milliseconds; 0 for a key that never expires.
    pub ms: u64,
    /// Whether it is an instant, in Unix time.
    pub absolute: bool,
}

impl Ttl {
    /// Of a key that never expires.
    pub const NEVER: Self = Self {
        ms: 0,
        absolute: false,
    };
}

impl Expiries {
    /// Between these two servers.
    pub fn between(source: &Connected, target: &Connected) -> Self {
        let skew = source.clock().zip(target.clock());
        let agree =
            skew.is_some_and(|(source, target)| target.ahead_of(&source).abs() <= CLOCKS_AGREE_MS);
        Self {
            query: match agree && source.absolute_expiry() && target.absolute_expiry() {
                true => ExpiryQuery::PExpireTime,
                false => ExpiryQuery::PTtl,
            },
            source: source.clock(),
            target: target.clock().filter(|_| target.absolute_expiry()),
        }
    }

    /// What the source's clock shows at `now`, Unix milliseconds; ours, where it is not known.
    pub fn source_ms(&self, now: Instant) -> i64 {
        match self.source {
            Some(clock) => clock.at(now),
            None => i64::try_from(unix_ms()).unwrap_or(i64::MAX),
        }
    }

    /// What RESTORE is told at `now` of a key about which the source answered at `read_at`; `None`: it has expired.
    pub fn ttl(&self, answer: i64, read_at: Instant, now: Instant) -> Option<Ttl> {
        match (self.query, answer) {
            (_, -1) => Some(Ttl::NEVER),
            (ExpiryQuery::PExpireTime, at) => instant(self.source, at, now),
            // PTTL answers 0 for a key in its last millisecond, and -2 for none.
            (ExpiryQuery::PTtl, ..=0) => None,
            (ExpiryQuery::PTtl, left) => match self.target {
                // An instant of the target's clock does not age on its way.
                Some(clock) => instant(Some(clock), clock.at(read_at).saturating_add(left), now),
                None => {
                    let waited = now.saturating_duration_since(read_at).as_millis() as i64;
                    let left = left.saturating_sub(waited);
                    (left > 0).then_some(Ttl {
                        ms: left as u64,
                        absolute: false,
                    })
                }
            },
        }
    }
}

/// An instant, unless it is over by `clock`.
fn instant(clock: Option<Clock>, at: i64, now: Instant) -> Option<Ttl> {
    let expired = at <= 0 || clock.is_some_and(|clock| clock.at(now) >= at);
    (!expired).then_some(Ttl {
        ms: at as u64,
        absolute: true,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn clock(read_at: Instant) -> Option<Clock> {
        Some(Clock {
            read_at,
            unix_ms: NOW_MS,
            uncertainty_ms: 1,
        })
    }

    fn expiries(query: ExpiryQuery, target: Option<Clock>, source: Option<Clock>) -> Expiries {
        Expiries {
            query,
            source,
            target,
        }
    }

    #[test]
    fn an_expiry_stays_what_it_is_and_never_becomes_never() {
        let read_at = Instant::now();
        let now = read_at + Duration::from_millis(40);
        let instants = expiries(ExpiryQuery::PExpireTime, clock(read_at), clock(read_at));
        let left = expiries(ExpiryQuery::PTtl, clock(read_at), clock(read_at));
        let plain = expiries(ExpiryQuery::PTtl, None, None);
        let check = |expiries: Expiries, answer, ttl: Option<(u64, bool)>| {
            let ttl = ttl.map(|(ms, absolute)| Ttl { ms, absolute });
            assert_eq!(expiries.ttl(answer, read_at, now), ttl, "{answer}");
        };
        for all in [instants, left, plain] {
            check(all, -1, Some((0, false)));
            check(all, -2, None);
            check(all, 0, None);
        }
        check(instants, NOW_MS + 41, Some((NOW_MS as u64 + 41, true)));
        check(instants, NOW_MS + 40, None);
        check(left, 41, Some((NOW_MS as u64 + 41, true)));
        check(left, 40, None);
        check(plain, 41, Some((1, false)));
        check(plain, 40, None);
        check(left, i64::MAX, Some((i64::MAX as u64, true)));
    }
}
