//! How long to wait before a side is tried again, and when to give up.
//!
//! # Invariants
//!
//! - How long anybody waits between attempts is decided here.
//! - The budget is refilled by progress, not by time: a connection that comes and goes without a key in between
//!   exhausts it, one that moves keys each time does not.

use std::time::{Duration, Instant};

use super::wire::LinkError;
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::resp::{ErrorCode, Retry};

/// First wait; doubled with each attempt.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// Longest wait: what a server that comes back is kept waiting for at most.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Before the first contact of a run, an address at which nothing listens is more likely a typing error than an outage.
const FIRST_CONTACT_MAX: Duration = Duration::from_secs(5);

/// Attempts on one side since its last progress.
pub struct Budget {
    side: Side,
    unavailable_max: Duration,
    silence: Duration,
    contacted: bool,
    failing_since: Option<Instant>,
    attempts: u32,
    silences: u32,
    progress_seen: u64,
}

/// What to do about a failure.
#[derive(Debug)]
pub enum Verdict {
    /// Wait so long, then try again.
    Wait {
        /// How long.
        wait: Duration,
        /// Attempts since the last progress.
        attempt: u32,
    },
    /// End the run.
    GiveUp(Box<Error>),
}

impl Budget {
    /// A full budget.
    pub fn new(side: Side, unavailable_max: Duration, silence: Duration) -> Self {
        Self {
            side,
            unavailable_max,
            silence,
            contacted: false,
            failing_since: None,
            attempts: 0,
            silences: 0,
            progress_seen: 0,
        }
    }

    /// The server has answered on a connection.
    pub fn contact(&mut self) {
        self.contacted = true;
    }

    /// Tells how many keys this side has moved; more than before refills the budget.
    pub fn progress(&mut self, keys: u64) {
        if keys > self.progress_seen {
            self.progress_seen = keys;
            self.refill();
        }
    }

    fn refill(&mut self) {
        self.failing_since = None;
        self.attempts = 0;
        self.silences = 0;
    }

    /// How long a due answer may take. Doubles with each silence: a server that is busy for longer than `--timeout`
    /// with one huge key is not dead, and would be busy with it again.
    pub fn silence_max(&self) -> Duration {
        self.silence
            .saturating_mul(1 << self.silences.min(10))
            .min(self.unavailable_max.max(self.silence))
    }

    /// Decides after a failure.
    pub fn failed(&mut self, error: &LinkError, now: Instant) -> Verdict {
        if let Some(fatal) = fatal(self.side, error) {
            return Verdict::GiveUp(Box::new(fatal));
        }
        if matches!(error.bare(), LinkError::Silent(_)) {
            self.silences += 1;
        }
        self.attempts += 1;
        let since = *self.failing_since.get_or_insert(now);
        let unreachable = matches!(error.bare(), LinkError::Connect(_));
        let max = match self.contacted || !unreachable {
            true => self.unavailable_max,
            false => self.unavailable_max.min(FIRST_CONTACT_MAX),
        };
        let failing = now.saturating_duration_since(since);
        if failing >= max {
            return Verdict::GiveUp(Box::new(self.exhausted(error, failing)));
        }
        let doubled = WAIT_FIRST
            .saturating_mul(1 << (self.attempts - 1).min(10))
            .min(WAIT_MAX);
        // Some jitter, so that several runs do not come back in step.
        let jitter = f64::from(now.elapsed().subsec_nanos() % 1000) / 4000.0;
        let wait = doubled
            .mul_f64(1.0 - jitter)
            .min(max.saturating_sub(failing));
        Verdict::Wait {
            wait: wait.max(Duration::from_millis(10)),
            attempt: self.attempts,
        }
    }

    fn exhausted(&self, error: &LinkError, failing: Duration) -> Error {
        let class = match error.bare() {
            LinkError::Reply(code, _) if self.side == Side::Target && refuses_writes(*code) => {
                Class::RefusesWrites
            }
            _ => Class::Unreachable,
        };
        let cause = format!(
            "{error} (tried {} in {:.1} s)",
            times(self.attempts),
            failing.as_secs_f64()
        );
        let hint = match (class, error.bare()) {
            (Class::RefusesWrites, LinkError::Reply(ErrorCode::Oom, _)) => {
                "give the target more memory (maxmemory), then run the same command to continue"
            }
            (Class::RefusesWrites, _) => "mend the target, then run the same command to continue",
            (_, LinkError::Connect(_)) if !self.contacted => {
                "is the server running, the port right, a firewall in between? Then run the same command again"
            }
            (_, LinkError::NotResp(_)) => "are host and port right? Something else answers there",
            _ => "run the same command to continue when the server is back",
        };
        Error::new(class, "reach the server", cause)
            .on(self.side)
            .hint(hint)
    }
}

fn times(attempts: u32) -> String {
    match attempts {
        1 => "once".to_owned(),
        several => format!("{several} times"),
    }
}

fn refuses_writes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Oom
            | ErrorCode::ReadOnly
            | ErrorCode::MisConf
            | ErrorCode::NoReplicas
            | ErrorCode::MaxClients
    )
}

/// The error, if trying again is of no use.
pub fn fatal(side: Side, error: &LinkError) -> Option<Error> {
    let (code, line) = match error.bare() {
        LinkError::Reply(code, line) => (code, line),
        // Never tried again, least of all without TLS: whoever is at fault, it is the same the next time.
        LinkError::Tls(refused) => {
            return Some(
                Error::new(Class::Tls, "agree on TLS", error.to_string())
                    .hint(refused.hint(side))
                    .on(side),
            );
        }
        LinkError::Sentinel(error) => return Some(error.explained(side)),
        _ => return None,
    };
    let flag = match side {
        Side::Source => "from",
        Side::Target => "to",
    };
    let said = error.to_string();
    let error = match code.retry() {
        Retry::AfterBackoff | Retry::AfterReconnect => return None,
        Retry::Human => match code {
            ErrorCode::NoAuth => Error::new(Class::Denied, "log in", said).hint(format!(
                "the server wants a password: --{flag}-pass-file FILE, or REDKNOT_{}_PASSWORD, or --{flag}-askpass",
                flag.to_uppercase()
            )),
            ErrorCode::WrongPass => Error::new(Class::Denied, "log in", said)
                .hint(format!("user or password are wrong; check --{flag}-user and where the password comes from")),
            ErrorCode::NoUsers => Error::new(Class::Denied, "log in", said).hint(format!(
                "a server older than 6.0 knows no users; leave --{flag}-user, or the user of the URL, away"
            )),
            ErrorCode::NoPerm => Error::new(Class::Denied, "run a command", said).hint(grant(side, line)),
            ErrorCode::Moved | ErrorCode::Ask => {
                Error::new(Class::Usage, "use the server as a single one", said)
                    .hint("it is a node of a cluster and did not say so: its user may ask neither INFO nor CLUSTER SLOTS")
            }
            ErrorCode::DbIndex => Error::new(Class::Usage, "select the database", said)
                .hint("the server has fewer databases (CONFIG GET databases; 16 unless changed)"),
            ErrorCode::UnknownCommand => Error::new(Class::NoGo, "use the server", said)
                .hint("redknot needs SCAN, DUMP and PTTL on the source and RESTORE on the target"),
            ErrorCode::ProtectedMode => Error::new(Class::Denied, "connect", said)
                .hint("set a password on the server, or bind it to an address that redknot reaches it by"),
            _ => Error::new(Class::Incompatible, "use the server", said),
        },
        // Of a key that is anybody's, it would be that key's outcome.
        Retry::Key if *code == ErrorCode::NoPermKey => Error::new(Class::Denied, "ask about a slot", said)
            .hint(format!(
                "on the {side}, a user who may use only some keys needs these as well: ACL SETUSER <user> ~redknot:probe:*"
            )),
        Retry::Key | Retry::Unknown => Error::new(Class::Incompatible, "use the server", said),
    };
    Some(error.on(side))
}

/// The ACL line that grants what NOPERM misses.
fn grant(side: Side, line: &str) -> String {
    // The command stands in quotes at the end; before it some versions name the user, whose name may have quotes too.
    let command = line.rsplit('\'').nth(1).unwrap_or("dump");
    let user = line
        .split_once("User ")
        .and_then(|(_, rest)| rest.split_once(" has no permissions"))
        .map_or("<user>", |(user, _)| user);
    format!(
        "on the {side}: ACL SETUSER {user} +{command}   (all that is needed: redknot acl --side {side})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_noperm_misses_is_named_whatever_the_version() {
        let check = |line: &str, granted: &str| {
            let error = LinkError::Reply(ErrorCode::NoPerm, line.to_owned());
            let fatal = fatal(Side::Source, &error).expect("it needs a human");
            let hint = fatal.hint.expect("there is something to do");
            assert_eq!(fatal.class, Class::Denied);
            assert!(
                hint.starts_with(&format!("on the source: {granted}   (")),
                "{hint}"
            );
        };
        check(
            "NOPERM this user has no permissions to run the 'dump' command or its subcommand",
            "ACL SETUSER <user> +dump",
        );
        check(
            "NOPERM this user has no permissions to run the 'scan' command",
            "ACL SETUSER <user> +scan",
        );
        check(
            "NOPERM User o'neill has no permissions to run the 'client|kill' command",
            "ACL SETUSER o'neill +client|kill",
        );
    }

    #[test]
    fn trouble_with_tls_is_never_tried_again() {
        let error = LinkError::Tls(crate::client::TlsError::CertificateWanted);
        let mut budget = Budget::new(
            Side::Target,
            Duration::from_secs(600),
            Duration::from_secs(5),
        );
        match budget.failed(&error, Instant::now()) {
            Verdict::GiveUp(error) => {
                assert_eq!((error.class, error.side), (Class::Tls, Some(Side::Target)));
                let hint = error.hint.expect("there is something to do");
                assert!(hint.contains("--to-cert"), "{hint}");
            }
            Verdict::Wait { .. } => panic!("it was tried again"),
        }
    }
}
