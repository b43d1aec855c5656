//! What a repair tells while it works: the events, and its part of the status file.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Request;
use super::ends::Broken;
use crate::client::handshake::unix_ms;
use crate::error::Error;
use crate::pace::Held;
use crate::progress::{Event, Limits, Observer, RepairState, RepairStatus, Status};
use crate::state::record::RepairRecord;
use crate::state::{Pulse, Store, status};

/// How often the status is written and progress is told.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Report {
    observer: Rc<dyn Observer>,
    /// The migration's, as the run before this one left it.
    status: Status,
    repair: RepairStatus,
    told_at: Instant,
    /// The process that is written, where it says so.
    target: Option<String>,
    /// What holds the repair back, for the journal.
    pulse: Pulse,
}

impl Report {
    /// For the repair `record`, with so many findings open.
    pub fn begin(
        observer: Rc<dyn Observer>,
        request: &Request,
        store: &mut Store,
        record: &RepairRecord,
        findings: u64,
    ) -> Result<Self, Error> {
        let mut status = status::read(&request.state_dir, &request.name)?.status;
        status.run = store.run();
        status.pid = std::process::id();
        status.run_began_ms = unix_ms();
        status.throttle = None;
        status.throttled_by = None;
        status.limits = request.options.limits;
        let repair = RepairStatus {
            repair: record.repair,
            compare: record.compare,
            run: store.run(),
            state: RepairState::Repairing,
            began_ms: record.began_ms,
            counters: record.counters,
            findings_left: findings,
            limits: request.options.limits,
            ..RepairStatus::default()
        };
        let mut report = Self {
            observer,
            status,
            repair,
            told_at: Instant::now(),
            target: None,
            pulse: store.pulse(),
        };
        report.tell(&Event::RepairStart {
            repair: record.repair,
            compare: record.compare,
            run: store.run(),
            findings,
            delete: record.confirmed.map(|confirmed| confirmed.keys),
        });
        report.write(store)?;
        Ok(report)
    }

    /// Who is told.
    pub fn observer(&self) -> Rc<dyn Observer> {
        Rc::clone(&self.observer)
    }

    /// Tells something that happened.
    pub fn tell(&mut self, event: &Event) {
        self.observer.event(event);
    }

    /// This process of the target is written from now on. What another one was given in this run may be lost.
    pub fn speaks_to(&mut self, target: &Option<String>) {
        let another = match (&self.target, target) {
            (Some(before), Some(now)) => before != now,
            _ => false,
        };
        if another {
            let name = &self.status.migration;
            let message = format!(
                "the target is another process than at the beginning: what was repaired before may be lost, which `redknot compare {name}` tells"
            );
            self.tell(&Event::Warning { message });
        }
        self.target.clone_from(target);
    }

    /// A side broke and is tried again after `wait`.
    pub fn waits(&mut self, broken: &Broken, attempt: u32, wait: Duration) {
        self.repair.retries += 1;
        self.repair.throttle = Some(format!("{}: {}", broken.side, broken.error));
        self.repair.throttled_by = Some(broken.side.into());
        self.tell(&Event::Retry {
            side: broken.side,
            cause: broken.error.to_string(),
            attempt,
            wait_ms: wait.as_millis() as u64,
        });
    }

    /// The side that broke last serves again.
    pub fn recovered(&mut self, broken: &Broken) {
        self.waits_no_more();
        self.tell(&Event::Recovered { side: broken.side });
    }

    /// Findings were tried, and `record` counts what is on disk: so many are settled, so many still differ.
    pub fn tried(&mut self, store: &mut Store, settled: u64, differing: u64) -> Result<(), Error> {
        if let Some(record) = store.repair() {
            self.repair.counters = record.counters;
        }
        self.repair.findings_left = self.repair.findings_left.saturating_sub(settled);
        self.repair.keys_differing += differing;
        self.show(store)
    }

    /// It keeps to these limits, and one of them may hold it back.
    pub fn held(
        &mut self,
        limits: Limits,
        held: Option<Held>,
        store: &mut Store,
    ) -> Result<(), Error> {
        self.status.limits = limits;
        self.repair.limits = limits;
        let limited = held.as_ref().map(|held| (held.side, held.reason.as_str()));
        self.pulse.limited(limited);
        let held = held.map(|held| (held.by, held.reason));
        (self.repair.throttled_by, self.repair.throttle) = held.unzip();
        self.show(store)
    }

    fn waits_no_more(&mut self) {
        (self.repair.throttled_by, self.repair.throttle) = (None, None);
    }

    /// Tells how it stands, if that is due.
    fn show(&mut self, store: &mut Store) -> Result<(), Error> {
        if self.told_at.elapsed() < EVERY {
            return Ok(());
        }
        self.told_at = Instant::now();
        let progress = Event::RepairProgress(Box::new(self.repair.clone()));
        self.tell(&progress);
        self.write(store)
    }

    /// The run is over; returns the last status.
    pub fn end(mut self, store: &mut Store, state: RepairState) -> Result<RepairStatus, Error> {
        self.repair.state = state;
        self.waits_no_more();
        if state == RepairState::Repaired {
            self.repair.ended_ms = Some(unix_ms());
        }
        self.write(store)?;
        if state == RepairState::Repaired {
            let repaired = Event::Repaired(Box::new(self.repair.clone()));
            self.tell(&repaired);
        }
        Ok(self.repair)
    }

    /// Findings that are left.
    pub fn findings_left(&self) -> u64 {
        self.repair.findings_left
    }

    fn write(&mut self, store: &mut Store) -> Result<(), Error> {
        self.status.updated_ms = unix_ms();
        self.status.compare = store.compare_status();
        self.status.repair = Some(self.repair.clone());
        self.status.throttle = self.repair.throttle.clone();
        self.status.throttled_by = self.repair.throttled_by;
        Ok(store.tell_status(&self.status)?)
    }
}
