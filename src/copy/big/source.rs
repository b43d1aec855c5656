//! The source of a big key: one connection, because a WATCH belongs to one.
//!
//! # Invariant
//!
//! Nothing here changes the source: a transaction has at most the question for an expiry.

use redis::Cmd;

use super::rights::Broken;
use crate::client::LinkError;
use crate::client::control::Control;
use crate::endpoint::Side;
use crate::gentle;

/// As [`gentle::watch`].
pub(super) async fn watch(source: &mut Control, name: &[u8]) -> Result<(), Broken> {
    gentle::watch(source, name).await.map_err(broken)
}

/// As [`gentle::unchanged`].
pub(super) async fn unchanged(
    source: &mut Control,
    question: Option<&Cmd>,
) -> Result<Option<i64>, Broken> {
    gentle::unchanged(source, question).await.map_err(broken)
}

pub(super) fn broken(error: LinkError) -> Broken {
    Broken {
        side: Side::Source,
        error,
    }
}
