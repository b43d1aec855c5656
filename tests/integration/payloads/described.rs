//! What redknot's decoder says of a payload, in the form of the index.

use redknot::rdb::visit::{
    Group, Idempotence, Kind, SlotValue, StreamId, StreamState, VectorElement, VectorSetState,
    Visitor,
};
use serde_json::{Map, Value, json};

/// Builds the index's form of a value.
#[derive(Default)]
pub struct Described {
    kind: Option<Kind>,
    items: Vec<Value>,
    head: Map<String, Value>,
    groups: Vec<Value>,
}

impl Described {
    /// The value, once the decoder is at its end.
    pub fn value(mut self) -> Value {
        let kind = self.kind.expect("a value begins");
        match kind {
            Kind::Set | Kind::Hash | Kind::Zset | Kind::VectorSet => {
                self.items.sort_by_key(ToString::to_string);
            }
            Kind::String | Kind::List | Kind::Stream | Kind::Array | Kind::Module => {}
        }
        let items = Value::Array(self.items);
        match kind {
            Kind::String => json!({ "string": items[0] }),
            Kind::List => json!({ "list": items }),
            Kind::Set => json!({ "set": items }),
            Kind::Zset => json!({ "zset": items }),
            Kind::Hash => json!({ "hash": items }),
            Kind::Array => json!({ "array": items }),
            Kind::Module => json!({ "module": items }),
            Kind::Stream => {
                self.head.insert("entries".into(), items);
                self.head.insert("groups".into(), Value::Array(self.groups));
                json!({ "stream": self.head })
            }
            Kind::VectorSet => {
                self.head.insert("elements".into(), items);
                json!({ "vector_set": self.head })
            }
        }
    }
}

/// Any bytes as text, printable ones as they are.
pub fn text(bytes: &[u8]) -> Value {
    Value::String(bytes.escape_ascii().to_string())
}

/// A score, so that no two scores look alike.
pub fn score(score: f64) -> Value {
    Value::String(format!("{score:?}"))
}

fn id(id: StreamId) -> Value {
    Value::String(format!("{}-{}", id.ms, id.seq))
}

impl Visitor for Described {
    fn begin(&mut self, kind: Kind) {
        assert_eq!(self.kind.replace(kind), None, "a value begins once");
    }
    fn string(&mut self, bytes: &[u8]) {
        self.items.push(text(bytes));
    }
    fn element(&mut self, bytes: &[u8]) {
        self.items.push(text(bytes));
    }
    fn member(&mut self, bytes: &[u8]) {
        self.items.push(text(bytes));
    }
    fn scored(&mut self, member: &[u8], value: f64) {
        self.items.push(json!([text(member), score(value)]));
    }
    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        self.items
            .push(json!([text(field), text(value), expires_ms]));
    }
    fn entry(&mut self, at: StreamId, fields: &[&[u8]]) {
        let fields: Vec<Value> = fields.iter().map(|field| text(field)).collect();
        self.items.push(json!([id(at), fields]));
    }
    fn stream(&mut self, stream: &StreamState) {
        self.head.insert("length".into(), json!(stream.len));
        self.head.insert("last_id".into(), id(stream.last_id));
        if let Some(counters) = stream.since_7_0 {
            self.head.insert("first_id".into(), id(counters.first_id));
            self.head
                .insert("max_deleted_id".into(), id(counters.max_deleted_id));
            self.head
                .insert("entries_added".into(), json!(counters.entries_added));
        }
    }
    fn group(&mut self, group: &Group) {
        let owner = |pending| {
            let consumer = group
                .consumers
                .iter()
                .find(|consumer| consumer.pending.contains(&pending));
            consumer.map(|consumer| text(&consumer.name))
        };
        let pending: Vec<Value> = group
            .pending
            .iter()
            .map(|one| json!([id(one.id), owner(one.id), one.delivered_ms, one.deliveries]))
            .collect();
        let consumers: Vec<Value> = group
            .consumers
            .iter()
            .map(|consumer| {
                let pending: Vec<Value> = consumer.pending.iter().copied().map(id).collect();
                json!({
                    "name": text(&consumer.name),
                    "seen_ms": consumer.seen_ms,
                    "active_ms": consumer.active_ms,
                    "pending": pending,
                })
            })
            .collect();
        self.groups.push(json!({
            "name": text(&group.name),
            "last_id": id(group.last_id),
            // The server does not tell apart what it doesn't know and what its version doesn't count.
            "entries_read": group.entries_read.filter(|&read| read != -1),
            "pending": pending,
            "consumers": consumers,
        }));
    }
    fn idempotence(&mut self, idempotence: &Idempotence) {
        self.head
            .insert("idempotence".into(), format!("{idempotence:?}").into());
    }
    fn array(&mut self, insert_index: Option<u64>) {
        self.items.push(json!(insert_index));
    }
    fn slot(&mut self, index: u64, value: SlotValue<'_>) {
        self.items.push(json!([index, format!("{value:?}")]));
    }
    fn vector_set(&mut self, vector_set: &VectorSetState<'_>) {
        self.head
            .insert("dimensions".into(), json!(vector_set.dimensions));
        self.head
            .insert("quantization".into(), json!(vector_set.quantization));
        let projected = !vector_set.projection.is_empty();
        self.head.insert("projected".into(), json!(projected));
    }
    fn vector(&mut self, vector: &VectorElement<'_>) {
        self.items.push(json!([
            text(vector.name),
            text(vector.attributes),
            text(vector.components),
            score(vector.norm.into()),
            score(vector.range.into()),
        ]));
    }
    fn module(&mut self, name: &str, version: u16, tokens: &[u8]) {
        self.items.push(json!([name, version, text(tokens)]));
    }
}
