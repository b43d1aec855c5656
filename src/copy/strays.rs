//! Keys that were listed at one node of the source and are at another by now: read one by one, wherever they are.
//!
//! There are few: those of the slot that is moving, and those that had to be read again after the walk had gone on to
//! another node.
//!
//! # Invariant
//!
//! A stray has vanished only if the node that has its slot says so; a node that sends elsewhere has said nothing.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::{End, Shared};
use super::link::{Waited, retrying};
use super::walk::LaneEnd;
use crate::client::{Link, LinkError, Nodes, Reply};
use crate::cluster::{NodeAddress, Redirect, slot_of};
use crate::endpoint::Side;
use crate::plan::TtlPolicy;
use crate::resp::{ErrorCode, Retry};

/// Redirections that are followed in one go. More of them are no way but a circle.
const REDIRECTIONS_MAX: usize = 5;

/// What was found.
enum Found {
    Read {
        kind: Option<Bytes>,
        payload: Option<Bytes>,
        expiry: i64,
    },
    Refused(String),
    /// It has so many bytes, and is not read in one go.
    Big(u64),
}

/// What a node answers.
enum Answer {
    Found(Found),
    Elsewhere(Redirect, ErrorCode),
}

/// How the keys are asked for.
struct Question {
    types: bool,
    ttl: TtlPolicy,
    expire_time: bool,
    /// From how many bytes on it is not read in one go.
    big: Option<u64>,
}

/// Reads the strays of a lane.
pub async fn read_strays(shared: Rc<Shared>, nodes: Rc<Nodes>) -> End {
    let env = Rc::clone(&shared.env);
    let mut budget = env.budget(Side::Source);
    let links = std::cell::RefCell::new(HashMap::new());
    loop {
        let full = shared.lane.borrow().is_full();
        let stray = match full {
            true => None,
            false => shared.lane.borrow_mut().take_stray(),
        };
        let Some((key, name)) = stray else {
            shared.stray_wake.notified().await;
            continue;
        };
        let question = {
            let lane = shared.lane.borrow();
            let rules = &lane.rules;
            Question {
                big: lane.big_from(key),
                types: !rules.ask_types.is_empty(),
                ttl: rules.ttl,
                expire_time: rules.expire_time,
            }
        };
        let attempt = async |timeout: Duration| {
            let mut kept = links.take();
            let found = find(&shared, &nodes, &mut kept, &name, &question, timeout).await;
            match &found {
                Ok(_) => links.replace(kept),
                // What is known of the topology may be what is wrong.
                Err(_) => {
                    nodes.refresh(timeout).await?;
                    HashMap::new()
                }
            };
            found
        };
        let found = match retrying(&env, Side::Source, &mut budget, None, attempt).await {
            Ok(Waited::Ready(found)) => found,
            Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
            Err(error) => return error.into(),
        };
        {
            let mut lane = shared.lane.borrow_mut();
            match found {
                Found::Read {
                    kind,
                    payload,
                    expiry,
                } => lane.stray_read(key, kind.as_deref(), payload, expiry, Instant::now()),
                Found::Refused(line) => lane.stray_refused(key, line),
                Found::Big(bytes) => lane.too_big(key, bytes),
            }
            budget.progress(lane.source_answers);
        }
        shared.target_wake.iter().for_each(|wake| wake.notify_one());
        shared.settled_wake.notify_one();
        shared.big_wake.notify_one();
        shared.source_wake.notify_one();
    }
}

async fn find(
    shared: &Shared,
    nodes: &Nodes,
    links: &mut HashMap<NodeAddress, Link>,
    name: &[u8],
    question: &Question,
    timeout: Duration,
) -> Result<Found, LinkError> {
    let (_, mut node) = nodes.owner(slot_of(name))?;
    let mut asking = false;
    for _ in 0..REDIRECTIONS_MAX {
        let link = match links.remove(&node) {
            Some(link) => link,
            None => {
                let client = shared.env.client_name();
                let db = shared.env.request.plan.lanes[shared.index].source_db;
                nodes.connect_source(&node, db, &client, timeout).await?
            }
        };
        let link = links.entry(node.clone()).or_insert(link);
        let answer = ask(link, &node, name, question, asking).await;
        match answer.map_err(|error| error.at(&node))? {
            Answer::Found(found) => return Ok(found),
            Answer::Elsewhere(redirect, code) => {
                node = redirect.to;
                asking = code == ErrorCode::Ask;
            }
        }
    }
    Err(LinkError::Elsewhere(format!(
        "the nodes do not agree who has slot {}",
        slot_of(name)
    )))
}

/// Asks one node; with `asking`, for a slot that it is still receiving.
async fn ask(
    link: &mut Link,
    node: &NodeAddress,
    name: &[u8],
    question: &Question,
    asking: bool,
) -> Result<Answer, LinkError> {
    if let Some(big) = question.big.filter(|_| !asking) {
        let usage: [&[u8]; 5] = [b"MEMORY", b"USAGE", name, b"SAMPLES", b"5"];
        match link.wire.call(&usage).await? {
            Reply::Integer(bytes) if bytes as u64 >= big => {
                return Ok(Answer::Found(Found::Big(bytes as u64)));
            }
            // Whatever else there is to say, DUMP says it as well.
            _ => {}
        }
    }
    let expiry: &[u8] = match question.expire_time {
        true => b"PEXPIRETIME",
        false => b"PTTL",
    };
    let mut questions: Vec<[&[u8]; 2]> = Vec::new();
    if question.types {
        questions.push([b"TYPE", name]);
    }
    questions.push([b"DUMP", name]);
    if question.ttl == TtlPolicy::Keep {
        questions.push([expiry, name]);
    }
    let mut commands: Vec<&[&[u8]]> = Vec::new();
    for command in &questions {
        // It holds for one command.
        if asking {
            commands.push(&[b"ASKING"]);
        }
        commands.push(command);
    }
    let mut replies = link.wire.call_all(&commands).await?;
    if asking {
        replies = replies.into_iter().skip(1).step_by(2).collect();
    }
    for reply in &replies {
        let Reply::Error(code, line) = reply else {
            continue;
        };
        match code {
            ErrorCode::Moved | ErrorCode::Ask => {
                let redirect = Redirect::parse(line.as_bytes(), node);
                let redirect =
                    redirect.ok_or_else(|| LinkError::Unexpected("DUMP", line.clone()))?;
                return Ok(Answer::Elsewhere(redirect, *code));
            }
            code => match code.retry() {
                Retry::Key | Retry::Unknown => {
                    return Ok(Answer::Found(Found::Refused(line.clone())));
                }
                Retry::AfterBackoff | Retry::AfterReconnect | Retry::Human => {
                    return Err(LinkError::Reply(*code, line.clone()));
                }
            },
        }
    }
    let mut replies = replies.into_iter();
    let kind = match question.types {
        false => None,
        true => match replies.next() {
            Some(Reply::Simple(kind)) => Some(kind),
            other => return Err(LinkError::Unexpected("TYPE", format!("{other:?}"))),
        },
    };
    let payload = match replies.next() {
        Some(Reply::Bulk(payload)) => Some(payload),
        Some(Reply::Null) => None,
        _ => {
            return Err(LinkError::Unexpected(
                "DUMP",
                "neither a payload nor nil".into(),
            ));
        }
    };
    let expiry = match (question.ttl, replies.next()) {
        (TtlPolicy::Drop, _) => -1,
        (TtlPolicy::Keep, Some(Reply::Integer(expiry))) => expiry,
        (TtlPolicy::Keep, other) => {
            return Err(LinkError::Unexpected("PTTL", format!("{other:?}")));
        }
    };
    Ok(Answer::Found(Found::Read {
        kind,
        payload,
        expiry,
    }))
}
