//! Source to target, a handful of keys: each is read anew and restored over what the target has.
//!
//! # Invariants
//!
//! - The value is read before its expiry, as in the copy: what arrives is never newer than its expiry.
//! - One payload is in memory at a time: it goes to the target before the next one is read.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::convert::{ConvertRules, Converted, may_reencode};
use super::ends::{Answer, Broken, End};
use super::expiry::{Expiries, Ttl};
use crate::client::Reply;
use crate::plan::{KeyType, TtlPolicy};
use crate::rdb::footer;
use crate::renaming::Renaming;
use crate::resp::{
    RestoreOptions, encode_command, encode_dump, encode_expiry, encode_restore_head,
    encode_restore_tail,
};

/// From this size on a payload goes to the socket from the buffer it was read into.
const PAYLOAD_COPIED_MAX: usize = 16 * 1024;

/// How keys are written.
#[derive(Debug, Clone)]
pub struct WriteRules {
    /// How both servers speak about expiries.
    pub expiries: Expiries,
    /// See [`TtlPolicy`].
    pub ttl: TtlPolicy,
    /// Only keys of these types; empty: all.
    pub types: Vec<KeyType>,
    /// Whether a key that the target has is written over.
    pub replace: bool,
    /// What the target takes.
    pub convert: ConvertRules,
    /// What keys are called on the target.
    pub renaming: Renaming,
}

/// What became of a key that was to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The target acknowledged a payload of so many bytes.
    Acknowledged(u64),
    /// The source does not have it any more.
    Gone,
    /// It can't be written, and why.
    Refused(String),
}

/// Writes `names` anew, and says what became of each.
///
/// # Errors
///
/// A side that is of no use for now. What was written until then is written once more by the next try.
pub async fn write_anew(
    rules: &WriteRules,
    names: &[&[u8]],
    source: &mut End,
    target: &mut End,
) -> Result<Vec<Written>, Broken> {
    let keys: Vec<(&[u8], Option<&str>)> = names.iter().map(|name| (*name, None)).collect();
    let fates = write(rules, &keys, source, target).await?;
    // What the target does not take as it is may be taken in another encoding.
    let again: Vec<(&[u8], Option<&str>)> = names
        .iter()
        .zip(&fates)
        .filter_map(|(name, fate)| match fate {
            Fate::MayReencode(line) => Some((*name, Some(line.as_str()))),
            Fate::Final(_) => None,
        })
        .collect();
    let again = match again.is_empty() {
        true => Vec::new(),
        false => write(rules, &again, source, target).await?,
    };
    let mut again = again.into_iter().map(Fate::last);
    Ok(fates
        .into_iter()
        .map(|fate| match fate {
            Fate::Final(written) => written,
            refused @ Fate::MayReencode(_) => again.next().unwrap_or_else(|| refused.last()),
        })
        .collect())
}

/// What became of a key in one try.
enum Fate {
    Final(Written),
    /// The target refused the payload with these words.
    MayReencode(String),
}

impl Fate {
    /// If nothing else is tried.
    fn last(self) -> Written {
        match self {
            Self::Final(written) => written,
            Self::MayReencode(line) => Written::Refused(refused_by_target(&line)),
        }
    }
}

fn refused_by_target(line: &str) -> String {
    format!("the target refuses it: {line}")
}

/// Reads keys and restores them once. With each stands what the target said to its payload as it is, if it refused that.
async fn write(
    rules: &WriteRules,
    keys: &[(&[u8], Option<&str>)],
    source: &mut End,
    target: &mut End,
) -> Result<Vec<Fate>, Broken> {
    for (name, _) in keys {
        ask(rules, name, source);
    }
    source.send().await?;
    let mut fates = Vec::with_capacity(keys.len());
    // The types of the payloads that were sent, in order.
    let mut sent = VecDeque::new();
    for (name, refused) in keys {
        let written = match read(rules, *refused, source).await? {
            Read::Payload(payload, ttl) => {
                let bytes = payload.len() as u64;
                sent.push_back(footer::payload_type(&payload));
                restore(rules, name, payload, ttl, target).await?;
                Written::Acknowledged(bytes)
            }
            Read::Gone => Written::Gone,
            Read::Refused(why) => Written::Refused(why),
        };
        fates.push(Fate::Final(written));
    }
    target.send().await?;
    for (fate, (_, refused)) in fates.iter_mut().zip(keys) {
        let Fate::Final(Written::Acknowledged(_)) = fate else {
            continue;
        };
        let payload_type = sent.pop_front().flatten();
        if let Answer::Refused(code, line) = target.answer().await? {
            *fate = match refused.is_none() && may_reencode(code, payload_type) {
                true => Fate::MayReencode(line),
                false => Fate::Final(Written::Refused(refused_by_target(&line))),
            };
        }
    }
    Ok(fates)
}

fn ask(rules: &WriteRules, name: &[u8], source: &mut End) {
    if !rules.types.is_empty() {
        source.ask(name, |out| encode_command(out, &[b"TYPE", name]));
    }
    source.ask(name, |out| encode_dump(out, name));
    if rules.ttl == TtlPolicy::Keep {
        let query = rules.expiries.query;
        source.ask(name, |out| encode_expiry(out, query, name));
    }
}

/// What the source has under a name.
enum Read {
    Payload(Bytes, Ttl),
    Gone,
    Refused(String),
}

/// Takes the source's answers about one key.
async fn read(rules: &WriteRules, refused: Option<&str>, source: &mut End) -> Result<Read, Broken> {
    let mut unwanted = None;
    if !rules.types.is_empty() {
        match source.answer().await? {
            Answer::Reply(Reply::Simple(name)) => {
                let wanted = rules.types.iter();
                let wanted = wanted.map(|wanted| wanted.name().as_bytes());
                if !wanted.into_iter().any(|wanted| wanted == name) {
                    let name = crate::key::Escaped(&name).to_string();
                    unwanted = Some(format!(
                        "on the source it is a {name} now, which --type leaves out"
                    ));
                }
            }
            Answer::Refused(_, line) => unwanted = Some(line),
            Answer::Reply(other) => return Err(source.unexpected("TYPE", &other)),
        }
    }
    let value = source.answer().await?;
    let read_at = Instant::now();
    let expiry = match rules.ttl {
        TtlPolicy::Drop => -1,
        TtlPolicy::Keep => match (source.answer().await?, &value) {
            (Answer::Reply(Reply::Integer(answer)), _) => answer,
            // DUMP has said so already.
            (Answer::Refused(..), Answer::Refused(..)) => -1,
            (Answer::Refused(_, line), _) => {
                return Ok(Read::Refused(format!(
                    "the source does not tell its expiry: {line}"
                )));
            }
            (Answer::Reply(other), _) => return Err(source.unexpected("PTTL", &other)),
        },
    };
    let payload = match value {
        Answer::Reply(Reply::Bulk(payload)) => payload,
        Answer::Reply(Reply::Null) => return Ok(Read::Gone),
        Answer::Reply(other) => return Err(source.unexpected("DUMP", &other)),
        Answer::Refused(_, line) => {
            return Ok(Read::Refused(format!(
                "the source refuses to dump it: {line}"
            )));
        }
    };
    let now = Instant::now();
    let Some(ttl) = rules.expiries.ttl(expiry, read_at, now) else {
        return Ok(Read::Gone);
    };
    if let Some(why) = unwanted {
        return Ok(Read::Refused(why));
    }
    if let Err(error) = footer::check(&payload) {
        return Ok(Read::Refused(format!("the payload is damaged: {error}")));
    }
    let now_ms = rules.expiries.source_ms(now);
    Ok(match rules.convert.for_target(payload, now_ms, refused) {
        Converted::Ready(payload) => match too_large(rules, &payload) {
            None => Read::Payload(payload, ttl),
            Some(why) => Read::Refused(why),
        },
        Converted::Gone => Read::Gone,
        Converted::Impossible(why) => Read::Refused(why),
    })
}

/// Says why a payload is not sent, if it is too large.
fn too_large(rules: &WriteRules, payload: &[u8]) -> Option<String> {
    let max = rules.convert.bytes_max;
    (payload.len() as u64 > max).then(|| {
        format!(
            "the payload has {} bytes, the target takes at most {max} (proto-max-bulk-len)",
            payload.len()
        )
    })
}

/// Asks for a RESTORE, and sends once there is enough.
async fn restore(
    rules: &WriteRules,
    name: &[u8],
    payload: Bytes,
    ttl: Ttl,
    target: &mut End,
) -> Result<(), Broken> {
    let options = RestoreOptions {
        replace: rules.replace,
        absttl: ttl.absolute,
    };
    let name = rules.renaming.to_target(name);
    let node = target.node_of(&name);
    target.ask(&name, |out| {
        encode_restore_head(out, &name, ttl.ms, payload.len(), options);
    });
    if payload.len() > PAYLOAD_COPIED_MAX {
        target.send_to(node).await?;
        target.send_bytes(node, &payload).await?;
    } else {
        target.append(node, |out| out.extend_from_slice(&payload));
    }
    target.append(node, |out| encode_restore_tail(out, options));
    target.send_if_much(node).await
}
