//! A stream, read in pieces: its entries, what it says of itself, its groups.

use super::{Limits, Next};
use crate::client::LinkError;
use crate::client::control::Control;

/// What a stream is, before it is read.
pub(super) enum Begun {
    /// It can be read in pieces.
    Entries(Entries),
    /// There is no such stream.
    Changed,
    /// It can't be read in pieces, and why.
    Whole(String),
}

/// A place in a stream.
#[derive(Debug)]
pub(super) struct Entries {}

impl Entries {
    pub(super) async fn begin(
        _source: &mut Control,
        _key: &[u8],
        _limits: Limits,
    ) -> Result<Begun, LinkError> {
        Ok(Begun::Whole("it is a stream".to_owned()))
    }

    pub(super) async fn next(
        &mut self,
        _source: &mut Control,
        _key: &[u8],
        _limits: Limits,
    ) -> Result<Next, LinkError> {
        Ok(Next::End)
    }
}
