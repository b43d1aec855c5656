//! Looks at the target's memory: the copy waits before it is full, and what is evicted does not go unseen.
//!
//! A target that is full and evicts nothing refuses every write, also those of its other clients. So reading stops a
//! little earlier, and goes on when memory is given. A target of several nodes is not looked at; its refusals are met as
//! any others are.
//!
//! # Invariant
//!
//! Nothing here is needed for the copy to be right: a target that can't be asked is written as one with room.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::beside::Beside;
use super::engine::{End, Shared};
use crate::audit::entry::ThrottleKind;
use crate::client::control::Info;
use crate::config::units::Time;
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::figures;

/// How often the target's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often, if little is left or it is waited for.
const LOOK_EVERY_NEAR: Duration = Duration::from_millis(100);
/// It may be full before the next look in a second, if no more than this is left: a payload may be a twentieth of what it
/// takes in memory.
const NEAR_BYTES: u64 = 256 * 1024 * 1024;

/// What INFO says of the target's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    used: u64,
    max: u64,
}

impl Memory {
    /// `None` if there is no limit, or keys are evicted at it.
    fn of(info: &Info) -> Option<Self> {
        let number = |name| info.get(name)?.parse().ok();
        let max = number("maxmemory").filter(|max| *max > 0)?;
        let evicts = info.get("maxmemory_policy")? != "noeviction";
        let used = number("used_memory")?;
        (!evicts).then_some(Self { used, max })
    }

    fn left(self) -> u64 {
        self.max.saturating_sub(self.used)
    }

    /// What has to be left, if `held` bytes are on their way and `grown` came since the last look.
    fn reserve(self, held: u64, grown: u64) -> u64 {
        self.max / 100 + held + grown.min(self.max / 4)
    }
}

/// The copy waits for memory.
#[derive(Clone, Copy)]
struct Full {
    since: Instant,
    /// What had to be left when it began to wait. Since then nothing is on its way, so less would do, and be used up at once.
    reserve: u64,
}

/// Looks at the target until the lane ends.
pub async fn watch_memory(shared: Rc<Shared>) -> End {
    let mut target = Beside::new(Side::Target);
    let mut before: Option<Memory> = None;
    let mut full: Option<Full> = None;
    loop {
        let asked = target
            .ask_single(&shared.env, async |control| {
                let memory = control.info_section("memory").await?;
                let stats = control.info_section("stats").await?;
                Ok((memory, stats))
            })
            .await;
        let Some((memory, stats)) = asked else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        note_evicted(&shared, &stats);
        let memory = Memory::of(&memory);
        let near = match memory {
            None => {
                go_on(&shared, &mut full);
                false
            }
            Some(now) => {
                let held = shared.lane.borrow().bytes_on_their_way();
                let grown = before.map_or(0, |before| now.used.saturating_sub(before.used));
                let reserve = now.reserve(held, grown);
                match full {
                    None if now.left() < reserve => {
                        let since = Instant::now();
                        full = Some(Full { since, reserve });
                        wait(&shared, now);
                    }
                    Some(full_at) if now.left() > 2 * full_at.reserve => {
                        go_on(&shared, &mut full);
                    }
                    _ => {}
                }
                full.is_some() || now.left() < NEAR_BYTES
            }
        };
        before = memory;
        if let Some(error) = gave_up(&shared, full) {
            return error.into();
        }
        tokio::time::sleep(if near { LOOK_EVERY_NEAR } else { LOOK_EVERY }).await;
    }
}

/// Stops reading.
fn wait(shared: &Shared, memory: Memory) {
    let reason = format!(
        "the target's memory: {} of {} are used, and it evicts nothing",
        figures::bytes(memory.used as f64),
        figures::bytes(memory.max as f64)
    );
    let env = &shared.env;
    env.warn(format!(
        "waiting for {reason}; CONFIG SET maxmemory gives more"
    ));
    env.pulse
        .waits(Side::Target, ThrottleKind::Refused, &reason);
    shared.lane.borrow_mut().full = Some(reason);
}

/// Reads again, if it had been stopped.
fn go_on(shared: &Shared, full: &mut Option<Full>) {
    if let Some(full) = full.take() {
        let waited = figures::seconds(full.since.elapsed().as_secs_f64());
        let env = &shared.env;
        env.warn(format!("the target has memory again, after {waited}"));
        env.pulse.answers(Side::Target);
        shared.lane.borrow_mut().full = None;
        shared.source_wake.notify_one();
    }
}

/// The end of a run that has waited for memory for too long.
fn gave_up(shared: &Shared, full: Option<Full>) -> Option<Error> {
    let most = shared.env.request.options.max_unavailable;
    full.filter(|full| full.since.elapsed() > most)?;
    let full = shared.lane.borrow().full.clone()?;
    let cause = format!("waited for longer than {} for {full}", Time(most));
    Some(
        Error::new(Class::RefusesWrites, "write", cause)
            .on(Side::Target)
            .hint("CONFIG SET maxmemory gives more; then the same command continues"),
    )
}

/// Counts what the target has evicted since the run began, whosever keys they were.
fn note_evicted(shared: &Shared, stats: &Info) {
    let Some(evicted) = stats.get("evicted_keys").and_then(|keys| keys.parse().ok()) else {
        return;
    };
    let env = &shared.env;
    // A server that restarted counts from 0 again.
    let seen = env.evicted_seen.replace(Some(evicted));
    let more = match seen {
        Some(seen) if seen <= evicted => evicted - seen,
        Some(_) => evicted,
        None => 0,
    };
    let before = env.evicted.replace(env.evicted.get() + more);
    if before == 0 && more > 0 {
        env.warn(
            "the target evicts keys, as it is full: what is missing then, redknot compare tells"
                .to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(used: &str, max: &str, policy: &str) -> Info {
        [
            ("used_memory", used),
            ("maxmemory", max),
            ("maxmemory_policy", policy),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    #[test]
    fn only_a_limit_at_which_nothing_is_evicted_is_waited_for() {
        let full = Memory::of(&info("90", "100", "noeviction"));
        assert_eq!(full, Some(Memory { used: 90, max: 100 }));
        assert_eq!(Memory::of(&info("90", "0", "noeviction")), None);
        assert_eq!(Memory::of(&info("90", "100", "allkeys-lru")), None);
        assert_eq!(Memory::of(&Info::new()), None);
    }

    #[test]
    fn what_is_left_has_to_hold_what_is_on_its_way() {
        let memory = Memory {
            used: 900,
            max: 1000,
        };
        assert_eq!(memory.left(), 100);
        assert_eq!(memory.reserve(0, 0), 10);
        assert_eq!(memory.reserve(50, 20), 80);
        assert_eq!(memory.reserve(0, 5000), 260);
        assert_eq!(
            Memory {
                used: 1100,
                max: 1000
            }
            .left(),
            0
        );
    }
}
