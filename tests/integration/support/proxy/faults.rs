//! What can be done to a command, and under which conditions a direction lies.

use std::ops::Range;
use std::time::Duration;

use super::{Commands, Cut, RuleId, Seen};

/// One fault for some commands.
pub(super) struct Rule {
    pub id: RuleId,
    pub command: String,
    pub key: Option<Vec<u8>>,
    pub skip: u64,
    pub times: u64,
    pub action: Action,
}

/// What happens to a command or to its reply.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Answer(Vec<u8>),
    CutBefore(Cut),
    LoseReplies(u64),
    CutInReply(u64, Cut),
    FlipByte(u64),
    WithoutLine(String),
    StallReply,
    Hold,
}

/// The state of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    pub stalled: bool,
    pub delay: Duration,
    pub jitter: Duration,
    pub bytes_per_s: Option<u64>,
    pub piece_bytes: Option<usize>,
    pub cut_once: Option<(u64, Cut)>,
    pub cut_each: Option<(Range<u64>, Cut)>,
}

impl Commands {
    /// Counts a command and says what is to be done to it: the first rule that fits decides.
    pub(super) fn decide(&mut self, name: &str, first_arg: Option<&[u8]>) -> Option<Action> {
        match self.counts.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(name.to_owned(), 1);
            }
        }
        for rule in &mut self.rules {
            let fits = rule.command.split('|').any(|command| command == name)
                && rule.key.as_deref().is_none_or(|key| first_arg == Some(key));
            if !fits || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            *self.fired.entry(rule.id).or_default() += 1;
            return Some(rule.action.clone());
        }
        None
    }

    /// Keeps a command, if that was asked for.
    pub(super) fn keep(&mut self, connection: u64, name: &str, mut args: Vec<Vec<u8>>) {
        if !self.recording {
            return;
        }
        let payload = match name {
            "RESTORE" => args.get_mut(2),
            "SET" => args.get_mut(1),
            _ => None,
        };
        if let Some(payload) = payload {
            payload.clear();
        }
        self.seen.push(Seen {
            connection,
            name: name.to_owned(),
            args,
        });
    }
}
