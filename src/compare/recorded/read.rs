//! Connections to the target, and the walk of one part of its names over them.
//!
//! # Invariants
//!
//! - A cursor is continued only on the process that issued it. A cluster of which a slot has moved meanwhile, or a process
//!   that is another one, is read from the beginning: keys may have been missed.
//! - A stop that is asked for ends every wait here.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::book::Book;
use super::judge::Rules;
use super::walk::{Asks, Stranger, Walk};
use super::{Context, Env};
use crate::audit::entry::ServerSeen;
use crate::client::canary::same_process;
use crate::client::handshake::unix_ms;
use crate::client::retry::Budget;
use crate::client::seeds::stand_in;
use crate::client::topology::Refusal;
use crate::client::{Clock, Link, LinkError, Nodes};
use crate::compare::CompareOptions;
use crate::compare::lane::TARGET;
use crate::compare::link::{Waited, retrying};
use crate::compare::named::{Look, Named};
use crate::compare::nodes::{Reached, reach};
use crate::compare::preflight;
use crate::endpoint::Side;
use crate::error::Error;
use crate::pace::LOOK_AGAIN;
use crate::plan::Plan;
use crate::progress::Event;
use crate::recorded::Table;
use crate::recorded::entry::Entry;
use crate::recorded::table::Part;
use crate::resp::ErrorCode;
use crate::shutdown::StopReason;
use crate::temporary::Temporary;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How reading ended.
pub(super) enum ReadEnd {
    /// All is read.
    Done,
    /// A stop was asked for.
    Stopped(StopReason),
    /// What was read is in doubt, for this reason.
    Anew(String),
}

/// The lanes whose keys arrive in one database of the target.
pub(super) struct Group {
    /// Their numbers.
    pub(super) lanes: Vec<usize>,
    /// Into so many parts its names are taken.
    pub(super) parts: u64,
    rules: Rules,
    named: Vec<Named>,
    glob: Option<Vec<u8>>,
    looks_for_extras: bool,
}

impl Group {
    pub(super) fn new(
        plan: &Plan,
        options: &CompareOptions,
        temporary: &Temporary,
        lanes: Vec<usize>,
        parts: u64,
    ) -> Self {
        let db = |lane: &usize| plan.lanes[*lane].source_db;
        let named = lanes
            .iter()
            .map(|lane| Named::new(plan, db(lane), TARGET, None, Some(temporary)));
        let mut globs: Vec<_> = lanes
            .iter()
            .map(|lane| Named::glob(plan, db(lane), TARGET))
            .collect();
        globs.dedup();
        Self {
            named: named.collect(),
            // Names of several patterns can't be asked for at once.
            glob: match globs.as_mut_slice() {
                [one] => one.take(),
                _ => None,
            },
            rules: Rules {
                tolerance_ms: i64::try_from(options.ttl_tolerance.as_millis()).unwrap_or(i64::MAX),
                types: plan.types.clone(),
            },
            // What only the target has can't be told from what a list leaves out.
            looks_for_extras: !options.one_way && plan.keys_from.is_none(),
            lanes,
            parts,
        }
    }

    /// The first of its lanes.
    pub(super) fn first(&self) -> usize {
        self.lanes[0]
    }

    fn stranger(&self, name: &[u8]) -> Stranger {
        let mut buffer = Vec::new();
        let mut named = self.named.iter();
        match named.any(|named| named.look(name, &mut buffer) == Look::Yes) {
            false => Stranger::Unselected,
            true if self.looks_for_extras => Stranger::Extra,
            true => Stranger::Ignored,
        }
    }
}

/// Looks at the target: its nodes, if it is a cluster, and what the journal tells of it.
pub(super) async fn look(env: &Env) -> Result<Waited<(Option<Rc<Nodes>>, ServerSeen)>, Error> {
    let mut budget = env.budget(Side::Target);
    // What is refused is no trouble with the connection: it is not tried again.
    let attempt = async |timeout| match preflight::ask(env, Side::Target, timeout).await {
        Ok((_, nodes, seen)) => Ok(Ok((nodes, seen))),
        Err(Refusal::Error(error)) => Ok(Err(*error)),
        Err(Refusal::Link(_, error)) => Err(error),
    };
    Ok(
        match retrying(env, Side::Target, &mut budget, None, attempt).await? {
            Waited::Ready(looked) => {
                let (nodes, seen) = looked?;
                let (target, timeout) = (env.endpoint(Side::Target), env.request.options.timeout);
                if let Some(warning) = stand_in(target, Side::Target, timeout).await {
                    env.warn(warning);
                }
                if let Some(nodes) = &nodes {
                    let masters = nodes.masters().len();
                    let side = Side::Target;
                    env.observer.event(&Event::Cluster { side, masters });
                }
                Waited::Ready((nodes, seen))
            }
            Waited::Stopped(reason) => Waited::Stopped(reason),
        },
    )
}

/// Connections to all of the target, waiting for it if need be.
pub(super) async fn reach_target(
    env: &Env,
    budget: &mut Budget,
    db: u32,
    failure: Option<LinkError>,
) -> Result<Waited<Reached>, Error> {
    reach(env, Side::Target, budget, db, failure).await
}

/// Reads one part of the names of one database. `reached`: connections that are still good.
pub(super) async fn part(
    context: &mut Context,
    book: &mut Book,
    group: &Group,
    part: Part,
    budget: &mut Budget,
    reached: &mut Option<Reached>,
) -> Result<ReadEnd, Error> {
    let env = Rc::clone(&context.env);
    let db = env.request.plan.lanes[group.first()].target_db;
    let mut table = load(context, group, part)?;
    let first = match reached.take() {
        Some(first) => first,
        None => match reach_target(&env, budget, db, None).await? {
            Waited::Ready(first) => first,
            Waited::Stopped(reason) => return Ok(ReadEnd::Stopped(reason)),
        },
    };
    let asks = Asks {
        batch_keys: env.request.options.batch_keys,
        glob: group.glob.clone(),
        instants: first.absolute_expiry(),
        clock: first.clock(),
    };
    let before = (first.identity.clone(), first.topology.clone());
    let nodes = first.links.len();
    for (node, mut link) in first.links.into_iter().enumerate() {
        let mut walk = Walk::new(part, Rc::clone(&env.pace));
        let mut resend = BytesMut::new();
        loop {
            let mut progress = Progress {
                done: (part.index as f64 + node as f64 / nodes as f64) / part.of as f64,
                weight: 1.0 / (nodes as f64 * part.of as f64),
                told: Instant::now(),
            };
            link.wire.set_silence_max(budget.silence_max());
            let run = Run {
                context,
                book,
                group,
                table: &mut table,
                asks: &asks,
                progress: &mut progress,
            };
            let trouble = match run.walk(&mut walk, link, &mut resend).await? {
                Walked::Over => break,
                Walked::Stopped(reason) => return Ok(ReadEnd::Stopped(reason)),
                Walked::Lost(error) => error,
            };
            budget.progress(walk.answers);
            if let LinkError::Reply(ErrorCode::InvalidCursor, line) = &trouble {
                return Ok(ReadEnd::Anew(format!(
                    "the target does not know its cursor any more: \"{line}\""
                )));
            }
            let again = match reach_target(&env, budget, db, Some(trouble)).await? {
                Waited::Ready(again) => again,
                Waited::Stopped(reason) => return Ok(ReadEnd::Stopped(reason)),
            };
            if before.1.is_some() || same_process(&before.0, &again.identity) != Some(true) {
                return Ok(ReadEnd::Anew(
                    "the target came back, and is not known to be as it was".to_owned(),
                ));
            }
            resend.clear();
            walk.lost(&asks, &mut resend);
            link = only(again);
        }
        book.listed(walk.names, walk.unselected, walk.bytes);
    }
    if let Some(moved) = has_moved(&env, before.1.as_ref(), budget).await? {
        return Ok(moved);
    }
    let now_ms = now_ms(asks.clock);
    book.unmet(context, &table, &group.rules, now_ms)?;
    book.flush(context)?;
    Ok(ReadEnd::Done)
}

/// The one connection to a single server.
fn only(reached: Reached) -> Link {
    let mut links = reached.links;
    links.pop().expect("a single server has one connection")
}

/// Whether slots of a cluster are elsewhere than they were: of what moved, keys may have been missed.
async fn has_moved(
    env: &Env,
    before: Option<&crate::cluster::Topology>,
    budget: &mut Budget,
) -> Result<Option<ReadEnd>, Error> {
    let Some((before, nodes)) = before.zip(env.cluster(Side::Target)) else {
        return Ok(None);
    };
    let attempt = async |timeout| nodes.refresh(timeout).await;
    let refreshed = retrying(env, Side::Target, budget, None, attempt).await?;
    if let Waited::Stopped(reason) = refreshed {
        return Ok(Some(ReadEnd::Stopped(reason)));
    }
    let same = *nodes.topology() == *before;
    Ok((!same).then(|| ReadEnd::Anew("slots of the target have moved".to_owned())))
}

fn now_ms(clock: Option<Clock>) -> i64 {
    clock.map_or_else(|| unix_ms() as i64, |clock| clock.at(Instant::now()))
}

/// The entries of one part of all names.
fn load(context: &Context, group: &Group, part: Part) -> Result<Table, Error> {
    let mut count = 0;
    let visit = |take: &mut dyn FnMut(Entry)| -> Result<(), Error> {
        for lane in &group.lanes {
            context.store.visit_recorded(*lane as u32, |entry| {
                if part.contains(&entry.name()) {
                    take(entry);
                }
            })?;
        }
        Ok(())
    };
    // Counted first: a list that doubles as it grows would have twice the memory.
    visit(&mut |_| count += 1)?;
    let mut entries = Vec::with_capacity(count);
    visit(&mut |entry| entries.push(entry))?;
    Ok(Table::of(entries))
}

struct Progress {
    /// Share of everything that is behind this walk, 0–1.
    done: f64,
    /// Share of everything that this walk is.
    weight: f64,
    told: Instant,
}

enum Walked {
    Over,
    Stopped(StopReason),
    Lost(LinkError),
}

/// What a walk over one connection needs.
struct Run<'a> {
    context: &'a mut Context,
    book: &'a mut Book,
    group: &'a Group,
    table: &'a mut Table,
    asks: &'a Asks,
    progress: &'a mut Progress,
}

impl Run<'_> {
    /// Asks and reads on one connection until all is read or it is of no more use.
    async fn walk(
        self,
        walk: &mut Walk,
        link: Link,
        resend: &mut BytesMut,
    ) -> Result<Walked, Error> {
        let mut shutdown = self.context.env.shutdown.clone();
        let (mut reader, mut writer) = link.wire.split();
        let mut out = std::mem::take(resend);
        loop {
            let waits = walk.keep_pace(Instant::now());
            walk.request(self.asks, &mut out);
            if waits && out.is_empty() && !walk.is_over() {
                // Nothing is owed.
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    reason = shutdown.wait() => return Ok(Walked::Stopped(reason)),
                }
                tell(self.context, self.book, self.progress, walk)?;
                continue;
            }
            if !out.is_empty() {
                let sent = tokio::select! {
                    sent = writer.write_all(&out) => sent,
                    reason = shutdown.wait() => return Ok(Walked::Stopped(reason)),
                };
                if let Err(error) = sent {
                    return Ok(Walked::Lost(error));
                }
                out.clear();
            }
            if walk.is_over() {
                return Ok(Walked::Over);
            }
            let filled = tokio::select! {
                filled = reader.fill() => filled,
                reason = shutdown.wait() => return Ok(Walked::Stopped(reason)),
            };
            if let Err(error) = filled {
                return Ok(Walked::Lost(error));
            }
            let now = Instant::now();
            let stranger = |name: &[u8]| self.group.stranger(name);
            loop {
                let token = match reader.buffered() {
                    Ok(Some(token)) => token,
                    Ok(None) => break,
                    Err(error) => return Ok(Walked::Lost(error)),
                };
                let named = (&mut *self.table, &stranger as &dyn Fn(&[u8]) -> Stranger);
                match walk.token(token, &self.group.rules, self.asks, now, named) {
                    Ok(None) => {}
                    Ok(Some(settled)) => self.book.settle(self.context, settled)?,
                    Err(error) => return Ok(Walked::Lost(error)),
                }
            }
            tell(self.context, self.book, self.progress, walk)?;
        }
    }
}

/// Tells how far it is, if that is due.
fn tell(
    context: &mut Context,
    book: &mut Book,
    progress: &mut Progress,
    walk: &Walk,
) -> Result<(), Error> {
    if progress.told.elapsed() < TELL_EVERY {
        return Ok(());
    }
    progress.told = Instant::now();
    book.flush(context)?;
    let done = progress.done + progress.weight * walk.share();
    context.tell(100.0 * done, None)?;
    Ok(())
}
