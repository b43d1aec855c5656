//! What a server answers to the ordinary commands of a key's type, in the form of the index.

use redis::Value as Reply;
use serde_json::{Map, Value, json};

use super::described::{score, text};

/// The value of `key`, read without DUMP.
pub fn value(connection: &mut redis::Connection, key: &str) -> Value {
    let kind: String = ask(connection, &format!("TYPE {key}"));
    match kind.as_str() {
        "string" => json!({ "string": text(&ask::<Vec<u8>>(connection, &format!("GET {key}"))) }),
        "list" => json!({ "list": texts(connection, &format!("LRANGE {key} 0 -1")) }),
        "set" => json!({ "set": sorted(texts(connection, &format!("SMEMBERS {key}"))) }),
        "zset" => json!({ "zset": zset(connection, key) }),
        "hash" => json!({ "hash": hash(connection, key) }),
        "stream" => json!({ "stream": stream(connection, key) }),
        "vectorset" => json!({ "vector_set": vector_set(connection, key) }),
        other => panic!("no case makes a {other}"),
    }
}

fn ask<T: redis::FromRedisValue>(connection: &mut redis::Connection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut asked = redis::cmd(words.next().expect("a command"));
    for word in words {
        asked.arg(word);
    }
    let reply = asked.query(connection);
    reply.unwrap_or_else(|error| panic!("{command}: {error}"))
}

fn texts(connection: &mut redis::Connection, command: &str) -> Vec<Value> {
    let all: Vec<Vec<u8>> = ask(connection, command);
    all.iter().map(|bytes| text(bytes)).collect()
}

fn sorted(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by_key(ToString::to_string);
    items
}

fn zset(connection: &mut redis::Connection, key: &str) -> Vec<Value> {
    let all: Vec<(Vec<u8>, String)> = ask(connection, &format!("ZRANGE {key} 0 -1 WITHSCORES"));
    let items = all.iter().map(|(member, value)| {
        let value = value.parse().expect("a score");
        json!([text(member), score(value)])
    });
    sorted(items.collect())
}

fn hash(connection: &mut redis::Connection, key: &str) -> Vec<Value> {
    let all: Vec<(Vec<u8>, Vec<u8>)> = ask(connection, &format!("HGETALL {key}"));
    let items = all.iter().map(|(field, value)| {
        let expiry: redis::RedisResult<Vec<i64>> = redis::cmd("HPEXPIRETIME")
            .arg(key)
            .arg("FIELDS")
            .arg(1)
            .arg(field)
            .query(connection);
        // A server that doesn't know the command has no fields that expire.
        let expiry = expiry.ok().map(|expiry| expiry[0]).filter(|&ms| ms >= 0);
        json!([text(field), text(value), expiry])
    });
    sorted(items.collect())
}

fn vector_set(connection: &mut redis::Connection, key: &str) -> Map<String, Value> {
    let info = fields(ask(connection, &format!("VINFO {key}")));
    let names: Vec<Vec<u8>> = ask(connection, &format!("VRANDMEMBER {key} 1000"));
    let elements = names.iter().map(|name| {
        let mut about = |command: &str, raw: &[&str]| {
            let mut asked = redis::cmd(command);
            asked.arg(key).arg(name).arg(raw);
            asked.query::<Reply>(connection).expect("an element")
        };
        let attributes = match about("VGETATTR", &[]) {
            Reply::Nil => text(b""),
            attributes => bytes_text(attributes),
        };
        let mut raw = elements(about("VEMB", &["RAW"])).into_iter().skip(1);
        let components = bytes_text(raw.next().expect("components"));
        let mut number = || raw.next().map_or(0.0, number);
        json!([
            text(name),
            attributes,
            components,
            score(number().into()),
            score(number().into()),
        ])
    });
    let elements = sorted(elements.collect());
    let quantization = match info["quant-type"].as_str() {
        Some("f32") => 0,
        Some("int8") => 1,
        Some("bin") => 2,
        other => panic!("unknown quantization {other:?}"),
    };
    let projected = info
        .get("projection-input-dim")
        .is_some_and(|dim| *dim != 0);
    let mut described = Map::new();
    described.insert("dimensions".into(), info["vector-dim"].clone());
    described.insert("quantization".into(), json!(quantization));
    described.insert("projected".into(), json!(projected));
    described.insert("elements".into(), json!(elements));
    described
}

/// XINFO STREAM FULL, without what is about the layout in memory.
fn stream(connection: &mut redis::Connection, key: &str) -> Map<String, Value> {
    let info = fields(ask(connection, &format!("XINFO STREAM {key} FULL COUNT 0")));
    let mut stream = Map::new();
    for (ours, theirs) in [
        ("length", "length"),
        ("last_id", "last-generated-id"),
        ("first_id", "recorded-first-entry-id"),
        ("max_deleted_id", "max-deleted-entry-id"),
        ("entries_added", "entries-added"),
        ("entries", "entries"),
    ] {
        if let Some(value) = info.get(theirs) {
            stream.insert(ours.into(), value.clone());
        }
    }
    let groups = info["groups"].as_array().expect("a list of groups");
    let groups = groups.iter().map(|group| {
        let group = fields_of_json(group);
        let consumers = group["consumers"].as_array().expect("a list of consumers");
        let consumers = consumers.iter().map(|consumer| {
            let consumer = fields_of_json(consumer);
            let pending = consumer["pending"].as_array().expect("a list");
            json!({
                "name": consumer["name"],
                "seen_ms": consumer["seen-time"],
                "active_ms": consumer.get("active-time"),
                "pending": pending.iter().map(|one| &one[0]).collect::<Vec<_>>(),
            })
        });
        json!({
            "name": group["name"],
            "last_id": group["last-delivered-id"],
            "entries_read": group.get("entries-read"),
            "pending": group["pending"],
            "consumers": consumers.collect::<Vec<_>>(),
        })
    });
    stream.insert("groups".into(), groups.collect());
    stream
}

/// A reply as it stands, its strings as text.
fn plain(reply: Reply) -> Value {
    match reply {
        Reply::Nil => Value::Null,
        Reply::Int(number) => json!(number),
        Reply::Array(all) => all.into_iter().map(plain).collect(),
        other => bytes_text(other),
    }
}

fn bytes_text(reply: Reply) -> Value {
    match reply {
        Reply::BulkString(bytes) => text(&bytes),
        Reply::SimpleString(string) => text(string.as_bytes()),
        other => panic!("not a string: {other:?}"),
    }
}

fn elements(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(all) => all,
        other => panic!("not a list: {other:?}"),
    }
}

/// Single precision, though it is written as if it were double.
fn number(reply: Reply) -> f32 {
    let number: f64 = redis::from_redis_value(reply).expect("a number");
    number as f32
}

/// A flat list of names and values.
fn fields(reply: Reply) -> Map<String, Value> {
    fields_of_json(&plain(reply))
}

fn fields_of_json(list: &Value) -> Map<String, Value> {
    let list = list.as_array().expect("a list of names and values");
    let pairs = list.chunks_exact(2).map(|pair| {
        let name = pair[0].as_str().expect("a name");
        (name.to_owned(), pair[1].clone())
    });
    pairs.collect()
}
