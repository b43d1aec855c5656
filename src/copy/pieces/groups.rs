//! The consumer groups of a stream, in pieces.
//!
//! XREADGROUP, XACK and XCLAIM change groups, and WATCH does not see it. So all groups are read twice: told the first time,
//! and only compared the second time. If both readings are equal, there was a moment between them at which all of it was so: what changes
//! does not come back, since deliveries are counted, and ids only rise. Else they are told again from the beginning.
//!
//! # Invariants
//!
//! - A group is told only as it was in two readings.
//! - What is told again replaces what was told before: the commands of a group begin with its removal.
//! - When an entry was delivered is exact where the source's clock stood still meanwhile, and else late by what passed.

use std::collections::BTreeMap;

use redis::Value;

use super::answers::{self, Named, array, bytes, id, number};
use super::piece::{COMMAND_ELEMENTS_MAX, Content, Frame, Target, shown};
use super::stream::successor;
use super::{Limits, Next, Piece};
use crate::client::LinkError;
use crate::client::control::{Control, text};
use crate::rdb::visit::StreamId;

/// Most pending entries of all groups whose ids are kept while the entries are read: 16 bytes each.
const PENDING_MAX: u64 = 500_000;

/// What a pending entry counts of a piece: more than its memory, since to claim one takes the target longer than to add it.
const PENDING_BYTES: usize = 100;

/// How often the groups are told anew before the stream is given up.
const TRIES_MAX: u32 = 5;

/// How often a page is read again because the source's clock has moved on meanwhile.
const CLOCK_TRIES_MAX: u32 = 4;

/// Of a stream's consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupPiece(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// A group begins.
    Group(Head),
    /// Pending entries of a group.
    Claims { group: Vec<u8>, claims: Vec<Claim> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    name: Vec<u8>,
    last_id: StreamId,
    /// Since Redis 7.0, where the source knows.
    entries_read: Option<u64>,
    /// All pending entries that it says it has.
    pending: u64,
    /// Consumers without pending entries. The others come with theirs.
    idle: Vec<Vec<u8>>,
}

/// Entries that a consumer got at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    consumer: Vec<u8>,
    delivered_ms: i64,
    deliveries: u64,
    ids: Vec<StreamId>,
}

/// A pending entry, as XPENDING tells it.
struct Pending {
    id: StreamId,
    consumer: Vec<u8>,
    idle_ms: i64,
    deliveries: u64,
}

/// A place in the groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Times that they were told and had changed.
    tries: u32,
    telling: Option<Reading>,
}

/// One reading of all groups.
#[derive(Debug)]
struct Reading {
    /// Those that are left, the next one last.
    groups: Vec<Head>,
    /// The one that is read, and the first id that has not been.
    at: Option<(Vec<u8>, StreamId)>,
    /// What two readings must agree on.
    seen: Frame,
    /// Entries that were told less those that should be: those without an owner (XNACK, Redis 8.8) are in one count and
    /// not in the other.
    surplus: i64,
}

impl Groups {
    pub(super) async fn next(
        &mut self,
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<Next, LinkError> {
        loop {
            let telling = match &mut self.telling {
                Some(telling) => telling,
                None => self.telling.insert(Reading::begin(source, key).await?),
            };
            let (parts, size) = telling.parts(source, key, limits).await?;
            if !parts.is_empty() {
                return Ok(Next::Piece(Piece {
                    content: Content::Group(GroupPiece(parts)),
                    bytes: size,
                }));
            }
            let mut again = Reading::begin(source, key).await?;
            while !again.parts(source, key, limits).await?.0.is_empty() {}
            if again.seen.finish() == telling.seen.finish() {
                return Ok(match telling.surplus {
                    0 => Next::End,
                    _ => Next::Whole(
                        "a consumer group has pending entries without an owner".to_owned(),
                    ),
                });
            }
            self.telling = None;
            self.tries += 1;
            if self.tries >= TRIES_MAX {
                return Ok(Next::Whole(
                    "the stream's consumer groups change all the time".to_owned(),
                ));
            }
        }
    }
}

impl Reading {
    async fn begin(source: &mut Control, key: &[u8]) -> Result<Self, LinkError> {
        let mut groups = heads(source, key).await?;
        groups.reverse();
        Ok(Self {
            groups,
            at: None,
            seen: Frame::default(),
            surplus: 0,
        })
    }

    /// What comes next, and about its size; nothing at the end.
    async fn parts(
        &mut self,
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<(Vec<Part>, usize), LinkError> {
        let mut parts = Vec::new();
        let mut size = 0;
        while size < limits.piece_bytes {
            let part = match self.at.take() {
                Some((group, at)) => self.claims(source, key, group, at, limits).await?,
                None => match self.groups.pop() {
                    Some(head) => Part::Group(self.head(source, key, head).await?),
                    None => break,
                },
            };
            // A page behind the last entry is empty.
            if part.tells_something() {
                size += part.size();
                parts.push(part);
            }
        }
        Ok((parts, size))
    }

    /// Begins a group.
    async fn head(
        &mut self,
        source: &mut Control,
        key: &[u8],
        mut head: Head,
    ) -> Result<Head, LinkError> {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(key).arg(head.name.as_slice());
        self.seen.put(&head.name).id(head.last_id);
        self.seen
            .number(head.entries_read.map_or(0, |read| read.wrapping_add(1)));
        self.surplus = self.surplus.saturating_sub_unsigned(head.pending);
        for consumer in array(source.ask(&command).await?)? {
            let mut consumer = Named::of(consumer)?;
            let name = bytes(consumer.take("name"))?;
            let pending = consumer.count("pending")?.unwrap_or(0);
            self.seen.put(&name).number(pending);
            if pending == 0 {
                head.idle.push(name);
            }
        }
        self.at = Some((head.name.clone(), StreamId::default()));
        Ok(head)
    }

    /// Goes on in a group.
    async fn claims(
        &mut self,
        source: &mut Control,
        key: &[u8],
        group: Vec<u8>,
        at: StreamId,
        limits: Limits,
    ) -> Result<Part, LinkError> {
        let count = limits.answer_elements.max(1);
        let (page, now_ms) = timed_page(source, key, &group, at, count).await?;
        let next = match page.last() {
            Some(last) if page.len() >= count => successor(last.id),
            _ => None,
        };
        let mut claims: BTreeMap<(Vec<u8>, i64, u64), Vec<StreamId>> = BTreeMap::new();
        for pending in page {
            // When it was delivered is no part of the value: it moves by the clock's steps.
            self.seen.id(pending.id).put(&pending.consumer);
            self.seen.number(pending.deliveries);
            // Nobody's name is not told by XINFO CONSUMERS, so nobody's entries are too many.
            self.surplus += 1;
            let delivered_ms = now_ms.saturating_sub(pending.idle_ms).max(0);
            claims
                .entry((pending.consumer, delivered_ms, pending.deliveries))
                .or_default()
                .push(pending.id);
        }
        self.at = next.map(|next| (group.clone(), next));
        let claims = claims.into_iter();
        Ok(Part::Claims {
            group,
            claims: claims
                .map(|((consumer, delivered_ms, deliveries), ids)| Claim {
                    consumer,
                    delivered_ms,
                    deliveries,
                    ids,
                })
                .collect(),
        })
    }
}

impl Part {
    fn tells_something(&self) -> bool {
        match self {
            Self::Group(_) => true,
            Self::Claims { claims, .. } => !claims.is_empty(),
        }
    }

    fn size(&self) -> usize {
        let name = |name: &Vec<u8>| name.len() + size_of::<Vec<u8>>();
        match self {
            Self::Group(head) => size_of::<Self>() + head.idle.iter().map(name).sum::<usize>(),
            Self::Claims { claims, .. } => {
                let claim = |claim: &Claim| {
                    size_of::<Claim>() + claim.consumer.len() + claim.ids.len() * PENDING_BYTES
                };
                size_of::<Self>() + claims.iter().map(claim).sum::<usize>()
            }
        }
    }

    fn commands(&self, key: &[u8], target: &Target, commands: &mut Vec<redis::Cmd>) {
        match self {
            Self::Group(head) => {
                let group = head.name.as_slice();
                let mut destroy = redis::cmd("XGROUP");
                destroy.arg("DESTROY").arg(key).arg(group);
                let mut create = redis::cmd("XGROUP");
                create.arg("CREATE").arg(key).arg(group);
                create.arg(shown(head.last_id));
                if let Some(read) = head.entries_read.filter(|_| target.counts_entries()) {
                    create.arg("ENTRIESREAD").arg(read);
                }
                commands.extend([destroy, create]);
                for consumer in &head.idle {
                    // To ask what it has pending makes it, also before CREATECONSUMER (Redis 6.2), and gives it nothing.
                    let mut make = redis::cmd("XREADGROUP");
                    make.arg("GROUP").arg(group).arg(consumer.as_slice());
                    make.arg("COUNT").arg(1).arg("STREAMS").arg(key).arg("0");
                    commands.push(make);
                }
            }
            Self::Claims { group, claims } => {
                for claim in claims {
                    for ids in claim.ids.chunks(COMMAND_ELEMENTS_MAX) {
                        commands.push(claim.command(key, group, ids));
                    }
                }
            }
        }
    }
}

impl Claim {
    fn command(&self, key: &[u8], group: &[u8], ids: &[StreamId]) -> redis::Cmd {
        let mut command = redis::cmd("XCLAIM");
        command.arg(key).arg(group).arg(self.consumer.as_slice());
        command.arg("0");
        for id in ids {
            command.arg(shown(*id));
        }
        command.arg("TIME").arg(self.delivered_ms);
        command.arg("RETRYCOUNT").arg(self.deliveries);
        command.arg("FORCE").arg("JUSTID");
        command
    }
}

impl GroupPiece {
    pub(super) fn digest_into<'a>(&self, frame: &'a mut Frame) -> &'a mut Frame {
        for part in &self.0 {
            match part {
                Part::Group(head) => {
                    frame.tag(0).put(&head.name).id(head.last_id);
                    frame.number(head.entries_read.map_or(0, |read| read.wrapping_add(1)));
                    frame.number(head.idle.len() as u64).put_all(&head.idle);
                }
                Part::Claims { group, claims } => {
                    frame.tag(1).put(group).number(claims.len() as u64);
                    for claim in claims {
                        frame.put(&claim.consumer);
                        frame.put(&claim.delivered_ms.to_le_bytes());
                        frame.number(claim.deliveries);
                        frame.number(claim.ids.len() as u64);
                        claim.ids.iter().for_each(|id| {
                            frame.id(*id);
                        });
                    }
                }
            }
        }
        frame
    }

    pub(super) fn commands(&self, key: &[u8], target: &Target) -> Vec<redis::Cmd> {
        let mut commands = Vec::new();
        for part in &self.0 {
            part.commands(key, target, &mut commands);
        }
        commands
    }
}

/// All ids that are pending in any group, ascending; `Err`: there are too many of them.
pub(super) async fn pending_ids(
    source: &mut Control,
    key: &[u8],
    limits: Limits,
) -> Result<Result<Vec<StreamId>, String>, LinkError> {
    let count = limits.answer_elements.max(1);
    let heads = heads(source, key).await?;
    let pending: u64 = heads.iter().map(|head| head.pending).sum();
    if pending > PENDING_MAX {
        return Ok(Err(format!(
            "{pending} entries are pending in the stream's consumer groups, {PENDING_MAX} at most can be read in pieces"
        )));
    }
    let mut ids = Vec::new();
    for head in heads {
        let mut at = Some(StreamId::default());
        while let Some(from) = at {
            let answer = source
                .ask(&page_command(key, &head.name, from, count))
                .await?;
            let page = page(answer)?;
            ids.extend(page.iter().map(|pending| pending.id));
            at = match page.last() {
                Some(last) if page.len() >= count => successor(last.id),
                _ => None,
            };
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(Ok(ids))
}

async fn heads(source: &mut Control, key: &[u8]) -> Result<Vec<Head>, LinkError> {
    let groups = source
        .ask(redis::cmd("XINFO").arg("GROUPS").arg(key))
        .await?;
    let head = |group| {
        let mut group = Named::of(group)?;
        Ok(Head {
            name: bytes(group.take("name"))?,
            last_id: id(group.take("last-delivered-id"))?,
            entries_read: group.count("entries-read")?,
            pending: group.count("pending")?.unwrap_or(0),
            idle: Vec::new(),
        })
    };
    array(groups)?.into_iter().map(head).collect()
}

fn page_command(key: &[u8], group: &[u8], from: StreamId, count: usize) -> redis::Cmd {
    let mut command = redis::cmd("XPENDING");
    command.arg(key).arg(group).arg(shown(from)).arg("+");
    command.arg(count);
    command
}

fn page(answer: Value) -> Result<Vec<Pending>, LinkError> {
    let pending = |entry| {
        let Ok([place, consumer, idle_ms, deliveries]) = <[Value; 4]>::try_from(array(entry)?)
        else {
            return Err(answers::unexpected("a pending entry", &Value::Nil));
        };
        Ok(Pending {
            id: id(place)?,
            consumer: bytes(consumer)?,
            idle_ms: number(&idle_ms)?,
            deliveries: u64::try_from(number(&deliveries)?).unwrap_or(0),
        })
    };
    array(answer)?.into_iter().map(pending).collect()
}

/// Pending entries from an id on, and what the source's clock showed when they were told, Unix milliseconds: XPENDING tells
/// ages, and XCLAIM wants instants.
async fn timed_page(
    source: &mut Control,
    key: &[u8],
    group: &[u8],
    from: StreamId,
    count: usize,
) -> Result<(Vec<Pending>, i64), LinkError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("TIME");
    pipeline.add_command(page_command(key, group, from, count));
    pipeline.cmd("TIME");
    let mut tries = 0;
    loop {
        let answers = source.ask_all(&pipeline).await?;
        let Ok([before, answer, after]) = <[Value; 3]>::try_from(answers) else {
            return Err(answers::unexpected("three answers", &Value::Nil));
        };
        let (before, after) = (unix_ms(before)?, unix_ms(after)?);
        tries += 1;
        if before == after || tries == CLOCK_TRIES_MAX {
            return Ok((page(answer)?, before));
        }
    }
}

/// What TIME says.
fn unix_ms(time: Value) -> Result<i64, LinkError> {
    let Ok([seconds, microseconds]) = <[Value; 2]>::try_from(array(time)?) else {
        return Err(answers::unexpected("a time", &Value::Nil));
    };
    let part = |part: &Value| {
        let parsed = text(part).parse::<i64>();
        parsed.map_err(|_| answers::unexpected("a number", part))
    };
    let (seconds, microseconds) = (part(&seconds)?, part(&microseconds)?);
    Ok(seconds.saturating_mul(1000) + microseconds / 1000)
}
