//! The consumer groups of a stream, in pieces.

use super::Target;
use super::piece::Frame;

/// Of a stream's consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupPiece {}

impl GroupPiece {
    pub(super) fn digest_into<'a>(&self, _frame: &'a mut Frame) -> &'a mut Frame {
        match *self {}
    }

    pub(super) fn commands(&self, _key: &[u8], _target: &Target) -> Vec<redis::Cmd> {
        match *self {}
    }
}
