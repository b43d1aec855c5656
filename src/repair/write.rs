//! Source to target, a handful of keys: each is read anew and restored over what the target has.
//!
//! # Invariants
//!
//! - The value is read before its expiry, as in the copy: what arrives is never newer than its expiry.
//! - One payload is in memory at a time: it goes to the target before the next one is read.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::ends::{Answer, Broken, End};
use super::expiry::{Expiries, Ttl};
use crate::client::Reply;
use crate::plan::{KeyType, TtlPolicy};
use crate::rdb::footer;
use crate::resp::{
    RestoreOptions, encode_command, encode_dump, encode_expiry, encode_restore_head,
    encode_restore_tail,
};

/// From this size on a payload goes to the socket from the buffer it was read into.
const PAYLOAD_COPIED_MAX: usize = 16 * 1024;
/// Encoded commands handed to the socket in one write.
const WRITE_BYTES: usize = 64 * 1024;

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
    /// Largest argument that the target takes.
    pub payload_bytes_max: u64,
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
    let mut out = BytesMut::new();
    for name in names {
        ask(rules, name, &mut out);
    }
    source.send(&mut out).await?;
    let mut fates = Vec::with_capacity(names.len());
    for name in names {
        let fate = match read(rules, source).await? {
            Read::Payload(payload, ttl) => {
                let bytes = payload.len() as u64;
                restore(rules, name, payload, ttl, &mut out, target).await?;
                Written::Acknowledged(bytes)
            }
            Read::Gone => Written::Gone,
            Read::Refused(why) => Written::Refused(why),
        };
        fates.push(fate);
    }
    target.send(&mut out).await?;
    for fate in &mut fates {
        if let Written::Acknowledged(_) = fate
            && let Answer::Refused(_, line) = target.answer().await?
        {
            *fate = Written::Refused(format!("the target refuses it: {line}"));
        }
    }
    Ok(fates)
}

fn ask(rules: &WriteRules, name: &[u8], out: &mut BytesMut) {
    if !rules.types.is_empty() {
        encode_command(out, &[b"TYPE", name]);
    }
    encode_dump(out, name);
    if rules.ttl == TtlPolicy::Keep {
        encode_expiry(out, rules.expiries.query, name);
    }
}

/// What the source has under a name.
enum Read {
    Payload(Bytes, Ttl),
    Gone,
    Refused(String),
}

/// Takes the source's answers about one key.
async fn read(rules: &WriteRules, source: &mut End) -> Result<Read, Broken> {
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
    let Some(ttl) = rules.expiries.ttl(expiry, read_at, Instant::now()) else {
        return Ok(Read::Gone);
    };
    if let Some(why) = unwanted {
        return Ok(Read::Refused(why));
    }
    Ok(match check(rules, &payload) {
        Ok(()) => Read::Payload(payload, ttl),
        Err(why) => Read::Refused(why),
    })
}

/// Says why a payload is not sent.
fn check(rules: &WriteRules, payload: &[u8]) -> Result<(), String> {
    footer::check(payload).map_err(|error| format!("the payload is damaged: {error}"))?;
    if payload.len() as u64 > rules.payload_bytes_max {
        return Err(format!(
            "the payload has {} bytes, the target takes at most {} (proto-max-bulk-len)",
            payload.len(),
            rules.payload_bytes_max
        ));
    }
    Ok(())
}

/// Encodes a RESTORE behind what is in `out`, and sends once there is enough.
async fn restore(
    rules: &WriteRules,
    name: &[u8],
    payload: Bytes,
    ttl: Ttl,
    out: &mut BytesMut,
    target: &mut End,
) -> Result<(), Broken> {
    let options = RestoreOptions {
        replace: rules.replace,
        absttl: ttl.absolute,
    };
    encode_restore_head(out, name, ttl.ms, payload.len(), options);
    if payload.len() > PAYLOAD_COPIED_MAX {
        target.send(out).await?;
        target.send_bytes(&payload).await?;
    } else {
        out.extend_from_slice(&payload);
    }
    encode_restore_tail(out, options);
    match out.len() < WRITE_BYTES {
        true => Ok(()),
        false => target.send(out).await,
    }
}
