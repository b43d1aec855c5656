//! A visitor that believes nothing: it asserts what a decoder promises to every visitor.

use redknot::rdb::visit::{
    Group, Idempotence, Kind, SlotValue, StreamId, StreamState, VectorElement, VectorSetState,
    Visitor,
};

/// Asserts the promises of `redknot::rdb::visit`, and counts what it is told.
#[derive(Debug, Default)]
pub struct Contract {
    kind: Option<Kind>,
    /// Calls about the value's elements.
    pub elements: usize,
    /// What is told once a value: a stream's state, an array's head.
    head: bool,
    idempotence: bool,
    last_id: Option<StreamId>,
    last_index: Option<u64>,
}

impl Contract {
    fn expect(&self, kind: Kind) {
        assert_eq!(self.kind, Some(kind), "a call that the kind does not name");
    }

    fn element_of(&mut self, kind: Kind) {
        self.expect(kind);
        self.elements += 1;
    }

    fn head_of(&mut self, kind: Kind) {
        self.expect(kind);
        assert!(!self.head, "told twice");
        self.head = true;
    }

    /// Asserts that a value that was decoded to its end has been told.
    pub fn end(&self) {
        match self.kind.expect("no value without a beginning") {
            Kind::Stream => assert!(self.head),
            Kind::Array | Kind::VectorSet => assert!(self.head && self.elements > 0),
            Kind::String | Kind::Module => assert_eq!(self.elements, 1),
            Kind::List | Kind::Set | Kind::Zset | Kind::Hash => assert!(self.elements > 0),
        }
    }
}

impl Visitor for Contract {
    fn begin(&mut self, kind: Kind) {
        assert_eq!(self.kind.replace(kind), None, "a value begins once");
    }
    fn string(&mut self, _: &[u8]) {
        self.element_of(Kind::String);
    }
    fn element(&mut self, _: &[u8]) {
        self.element_of(Kind::List);
    }
    fn member(&mut self, _: &[u8]) {
        self.element_of(Kind::Set);
    }
    fn scored(&mut self, _: &[u8], score: f64) {
        self.element_of(Kind::Zset);
        assert!(!score.is_nan());
    }
    fn field(&mut self, _: &[u8], _: &[u8], _: Option<i64>) {
        self.element_of(Kind::Hash);
    }
    fn entry(&mut self, id: StreamId, fields: &[&[u8]]) {
        self.element_of(Kind::Stream);
        assert!(!self.head, "an entry behind the stream's state");
        assert!(self.last_id < Some(id), "entries ascend");
        self.last_id = Some(id);
        assert!(fields.len().is_multiple_of(2), "a field without a value");
    }
    fn stream(&mut self, _: &StreamState) {
        self.head_of(Kind::Stream);
    }
    fn group(&mut self, group: &Group) {
        self.expect(Kind::Stream);
        assert!(self.head && !self.idempotence);
        assert!(group.pending.is_sorted_by(|a, b| a.id < b.id));
        let consumers = group.consumers.iter().map(|consumer| &consumer.pending);
        for ids in consumers.chain([&group.unowned]) {
            assert!(ids.is_sorted_by(|a, b| a < b));
            for id in ids {
                let found = group.pending.binary_search_by_key(id, |pending| pending.id);
                assert!(found.is_ok());
            }
        }
    }
    fn idempotence(&mut self, _: &Idempotence) {
        self.expect(Kind::Stream);
        assert!(self.head && !self.idempotence);
        self.idempotence = true;
    }
    fn array(&mut self, _: Option<u64>) {
        self.head_of(Kind::Array);
    }
    fn slot(&mut self, index: u64, _: SlotValue<'_>) {
        self.element_of(Kind::Array);
        assert!(self.last_index < Some(index), "slots ascend");
        self.last_index = Some(index);
    }
    fn vector_set(&mut self, _: &VectorSetState<'_>) {
        self.head_of(Kind::VectorSet);
    }
    fn vector(&mut self, _: &VectorElement<'_>) {
        assert!(self.head);
        self.element_of(Kind::VectorSet);
    }
    fn module(&mut self, name: &str, _: u16, _: &[u8]) {
        self.element_of(Kind::Module);
        assert_eq!(name.len(), 9);
    }
}
