//! What the process says to the shell: the exit code is the result.
//!
//! # Invariant
//!
//! One table. What `redknot help exit-codes` prints, what the process returns and what the tests check comes from
//! [`ExitCode::ALL`] and [`of`].

use redknot::endpoint::Side;
use redknot::error::{Class, Error};
use redknot::shutdown::StopReason;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    Done = 0,
    Attention = 1,
    Usage = 2,
    NoGo = 3,
    SourceUnreachable = 10,
    TargetUnreachable = 11,
    TargetRefuses = 12,
    StateIo = 13,
    StateLocked = 14,
    TimeUp = 15,
    Denied = 20,
    Tls = 21,
    Topology = 22,
    SourceChanged = 23,
    Incompatible = 24,
    StateDamaged = 25,
    StateForeign = 26,
    TargetNotEmpty = 27,
    Internal = 70,
    Hangup = 129,
    Interrupt = 130,
    Terminate = 143,
}

impl ExitCode {
    /// Every code, in order.
    pub const ALL: [Self; 22] = [
        Self::Done,
        Self::Attention,
        Self::Usage,
        Self::NoGo,
        Self::SourceUnreachable,
        Self::TargetUnreachable,
        Self::TargetRefuses,
        Self::StateIo,
        Self::StateLocked,
        Self::TimeUp,
        Self::Denied,
        Self::Tls,
        Self::Topology,
        Self::SourceChanged,
        Self::Incompatible,
        Self::StateDamaged,
        Self::StateForeign,
        Self::TargetNotEmpty,
        Self::Internal,
        Self::Hangup,
        Self::Interrupt,
        Self::Terminate,
    ];

    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Attention => "attention",
            Self::Usage => "usage",
            Self::NoGo => "no_go",
            Self::SourceUnreachable => "source_unreachable",
            Self::TargetUnreachable => "target_unreachable",
            Self::TargetRefuses => "target_refuses",
            Self::StateIo => "state_io",
            Self::StateLocked => "state_locked",
            Self::TimeUp => "time_up",
            Self::Denied => "denied",
            Self::Tls => "tls",
            Self::Topology => "topology",
            Self::SourceChanged => "source_changed",
            Self::Incompatible => "incompatible",
            Self::StateDamaged => "state_damaged",
            Self::StateForeign => "state_foreign",
            Self::TargetNotEmpty => "target_not_empty",
            Self::Internal => "internal",
            Self::Hangup => "hangup",
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminate",
        }
    }

    /// What it means, in one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done: complete, equal, or nothing to do",
            Self::Attention => "done, but keys were quarantined or differ",
            Self::Usage => "the command line, the environment or a file it names can't be used",
            Self::NoGo => "a check before the start found that this can't work",
            Self::SourceUnreachable => {
                "the source is unreachable, loading or silent for longer than --max-unavailable"
            }
            Self::TargetUnreachable => {
                "the target is unreachable, loading or silent for longer than --max-unavailable"
            }
            Self::TargetRefuses => {
                "the target refuses writes for now (OOM, READONLY, MISCONF, too many clients)"
            }
            Self::StateIo => "the state store has no space, can't be written, or gave an I/O error",
            Self::StateLocked => "another live process works on this migration",
            Self::TimeUp => {
                "--max-duration is over, or it is outside of --window; checkpoint saved"
            }
            Self::Denied => "wrong password, or a command that the user may not run",
            Self::Tls => "TLS: certificate, name or protocol",
            Self::Topology => {
                "unsafe servers: the same one on both sides, or a target that is a replica"
            }
            Self::SourceChanged => {
                "the source is another server process now, and --on-source-change fail was given"
            }
            Self::Incompatible => "servers or data do not fit together, or too many unknown errors",
            Self::StateDamaged => "the state on disk is damaged",
            Self::StateForeign => {
                "the state on disk belongs to another migration or to a newer redknot"
            }
            Self::TargetNotEmpty => "the target has keys and no --on-conflict was given",
            Self::Internal => "a bug in redknot; the state is as after a crash, which is safe",
            Self::Hangup => "stopped by SIGHUP, checkpoint saved",
            Self::Interrupt => "stopped by Ctrl-C, checkpoint saved",
            Self::Terminate => "stopped by SIGTERM, checkpoint saved",
        }
    }

    /// Whether a script should run the same command again.
    pub fn run_again(self) -> &'static str {
        match self {
            Self::Done => "-",
            Self::Attention => "look at the list",
            Self::Usage => "fix the command",
            Self::NoGo => "fix the named checks",
            Self::TargetRefuses | Self::StateIo => "yes, after fixing",
            Self::StateLocked => "later",
            Self::StateDamaged => "with --restart",
            Self::SourceUnreachable
            | Self::TargetUnreachable
            | Self::TimeUp
            | Self::Hangup
            | Self::Interrupt
            | Self::Terminate => "yes",
            Self::Denied
            | Self::Tls
            | Self::Topology
            | Self::SourceChanged
            | Self::Incompatible
            | Self::StateForeign
            | Self::TargetNotEmpty
            | Self::Internal => "no",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// The code of an error that ended a run.
pub fn of(error: &Error) -> ExitCode {
    match (error.class, error.side) {
        (Class::Unreachable, Some(Side::Target)) => ExitCode::TargetUnreachable,
        (Class::Unreachable, Some(Side::Source) | None) => ExitCode::SourceUnreachable,
        (Class::Usage, _) => ExitCode::Usage,
        (Class::NoGo, _) => ExitCode::NoGo,
        (Class::RefusesWrites, _) => ExitCode::TargetRefuses,
        (Class::StateIo, _) => ExitCode::StateIo,
        (Class::StateLocked, _) => ExitCode::StateLocked,
        (Class::Denied, _) => ExitCode::Denied,
        (Class::Tls, _) => ExitCode::Tls,
        (Class::Topology, _) => ExitCode::Topology,
        (Class::SourceChanged, _) => ExitCode::SourceChanged,
        (Class::Incompatible, _) => ExitCode::Incompatible,
        (Class::StateDamaged, _) => ExitCode::StateDamaged,
        (Class::StateForeign, _) => ExitCode::StateForeign,
        (Class::TargetNotEmpty, _) => ExitCode::TargetNotEmpty,
    }
}

/// The code of a run that was asked to stop.
pub fn of_stop(reason: StopReason) -> ExitCode {
    match reason {
        StopReason::Hangup => ExitCode::Hangup,
        StopReason::Interrupt => ExitCode::Interrupt,
        StopReason::Terminate => ExitCode::Terminate,
        StopReason::TimeUp | StopReason::WindowClosed => ExitCode::TimeUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_documented_one() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(
            numbers,
            [
                0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, 26, 27, 70, 129, 130,
                143
            ]
        );
    }

    #[test]
    fn every_class_has_the_documented_code() {
        let check = |class, side: Option<Side>, code| {
            let mut error = Error::new(class, "test", "a test");
            error.side = side;
            assert_eq!(of(&error).number(), code, "{class:?}");
        };
        check(Class::Usage, None, 2);
        check(Class::NoGo, None, 3);
        check(Class::Unreachable, Some(Side::Source), 10);
        check(Class::Unreachable, Some(Side::Target), 11);
        check(Class::Unreachable, None, 10);
        check(Class::RefusesWrites, Some(Side::Target), 12);
        check(Class::StateIo, None, 13);
        check(Class::StateLocked, None, 14);
        check(Class::Denied, Some(Side::Source), 20);
        check(Class::Tls, Some(Side::Target), 21);
        check(Class::Topology, None, 22);
        check(Class::SourceChanged, Some(Side::Source), 23);
        check(Class::Incompatible, None, 24);
        check(Class::StateDamaged, None, 25);
        check(Class::StateForeign, None, 26);
        check(Class::TargetNotEmpty, Some(Side::Target), 27);
        assert_eq!(of_stop(StopReason::Interrupt).number(), 130);
        assert_eq!(of_stop(StopReason::Terminate).number(), 143);
        assert_eq!(of_stop(StopReason::Hangup).number(), 129);
        assert_eq!(of_stop(StopReason::TimeUp).number(), 15);
        assert_eq!(of_stop(StopReason::WindowClosed).number(), 15);
    }

    #[test]
    fn only_codes_that_are_temporary_say_that_the_same_command_may_be_run_again() {
        for code in ExitCode::ALL {
            let again = code.run_again().starts_with("yes") || code.run_again() == "later";
            let temporary = matches!(code.number(), 10..=19 | 129 | 130 | 143);
            assert_eq!(again, temporary, "{code:?}");
        }
    }
}
