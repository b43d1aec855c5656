//! One run of a repair: finding after finding, a handful at a time.
//!
//! # Invariant
//!
//! What became of a handful is recorded before the next one is begun, or, if a side broke on the way, the whole handful is
//! tried once more.

use std::rc::Rc;
use std::time::Duration;

use super::again::Seen;
use super::decide::{Action, Rules};
use super::delete::Deleted;
use super::ends::Broken;
use super::pace::{self, Handful, Pacing};
use super::refuse_recorded;
use super::report::Report;
use super::rivals::{delete_nobodys, write_own};
use super::sides::{Connections, Patience, Permits, Sides, check};
use super::write::Written;
use super::{RepairEnd, Request};
use crate::audit::entry::Event as Journaled;
use crate::client::handshake::unix_ms;
use crate::client::served::Served;
use crate::client::topology::Refusal;
use crate::client::{Nodes, retry};
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::key::Escaped;
use crate::progress::{Event, Observer, RepairCounters, RepairOutcome, RepairState, Verdict};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::record::{FindingRecord, FindingState};
use crate::state::{Finding, RepairCommit, Store};

/// Findings that are tried and recorded together, at most.
const HANDFUL_KEYS: usize = 128;
/// Bytes of payloads of these, as far as the comparison knows them; a larger one is tried alone. The source holds its
/// answers in its own memory until they are read.
const HANDFUL_BYTES: u64 = 8 * 1024 * 1024;
/// How long a handful may take to its end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// See [`super::run`].
pub async fn walk(
    mut store: Store,
    mut request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<RepairEnd, Error> {
    for note in store.notes() {
        let message = note.clone();
        observer.event(&Event::Warning { message });
    }
    request.source.also_at(store.met(Side::Source));
    request.target.also_at(store.met(Side::Target));
    store.tell_settings(&request.settings)?;
    let begun = begin(&mut store, &request);
    let (mut rules, findings, record) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            store.end_run(&error.to_string())?;
            return Err(error);
        }
    };
    rules.confirmed_ms = record.confirmed.map(|confirmed| confirmed.at_ms);
    let report = Report::begin(observer, &request, &mut store, &record, findings)?;
    let mut walk = Walk {
        name: client_name(&request.name, store.run()),
        pacing: Pacing::new(&request, shutdown.clone()),
        patience: Patience::new(&request),
        sides: None,
        store,
        request,
        rules,
        report,
        shutdown,
        payload_bytes_max: 0,
        clusters: [None, None],
        tried: 0,
        served: None,
    };
    let ended = walk.all().await;
    if let Some(served) = walk.served.take() {
        let served = match &ended {
            Ok(_) => served.end().await,
            Err(_) => served.failed(),
        };
        // A store that refuses this refuses the end as well, and says why then.
        let _ = walk.store.tell_served(served);
    }
    walk.close(ended)
}

/// Counts the open findings, checks what is to be deleted against them, and begins the repair or goes on with it.
fn begin(
    store: &mut Store,
    request: &Request,
) -> Result<(Rules, u64, crate::state::record::RepairRecord), Error> {
    if store
        .compare()
        .is_none_or(|compare| compare.ended.is_none())
    {
        return Err(Error::new(
            Class::Usage,
            "repair",
            "no comparison of this migration has come to its end",
        )
        .hint(format!("redknot compare {}", request.name)));
    }
    refuse_recorded(store.compare(), &request.name)?;
    let (mut findings, mut extra) = (0, 0);
    let mut after = None;
    loop {
        let page = store.findings(after, HANDFUL_KEYS)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for record in page.iter().map(|finding| &finding.record) {
            let open = record.state == FindingState::Open;
            findings += u64::from(open);
            extra += u64::from(open && record.verdict == Verdict::Extra);
        }
    }
    let compare = store.compare().map(|record| record.compare);
    let earlier = store
        .repair()
        .filter(|repair| repair.ended.is_none() && Some(repair.compare) == compare)
        .and_then(|repair| repair.confirmed);
    let confirmed = request.options.delete_extra;
    if let Some(keys) = confirmed
        && keys != extra
        && earlier.is_none_or(|earlier| earlier.keys != keys)
    {
        return Err(Error::new(
            Class::Usage,
            "delete extra keys",
            format!("{keys} were confirmed, there are {extra}"),
        )
        .hint(format!("redknot repair {} shows them", request.name)));
    }
    let rules = Rules::new(&request.plan, request.options.overwrite_kept);
    let record = store.begin_repair(findings, confirmed)?;
    Ok((rules, findings, record))
}

fn client_name(migration: &str, run: u32) -> String {
    // CLIENT SETNAME takes no spaces and no control characters.
    let name: String = migration.chars().filter(char::is_ascii_graphic).collect();
    format!("redknot:{name}:{run}")
}

/// A run of a repair.
struct Walk {
    store: Store,
    request: Request,
    rules: Rules,
    report: Report,
    shutdown: Shutdown,
    patience: Patience,
    pacing: Pacing,
    /// Present while both sides serve.
    sides: Option<Sides>,
    /// How the connections are called on the servers.
    name: String,
    /// Largest argument that the target takes.
    payload_bytes_max: u64,
    /// The nodes of source and target, where these are clusters.
    clusters: [Option<Rc<Nodes>>; 2],
    /// Findings that this run has tried.
    tried: u64,
    /// What both sides had served when the run began.
    served: Option<Served>,
}

enum Ended {
    Done,
    Stopped(StopReason),
}

/// A finding and what is done about it.
struct Work {
    finding: Finding,
    action: Action,
}

/// What was done about a finding.
enum Done {
    Written(Written),
    Deleted(Deleted),
}

/// What came of a handful.
enum Tried {
    /// For each finding.
    All(Vec<(Done, Seen)>),
    Stopped(StopReason),
}

impl Walk {
    async fn all(&mut self) -> Result<Ended, Error> {
        if let Some(reason) = self.look().await? {
            return Ok(Ended::Stopped(reason));
        }
        let (request, pace) = (self.request.clone(), Rc::clone(&self.pacing.pace));
        let spare = |side: Side, endpoint| {
            let nodes = self.clusters[side as usize].clone();
            let timeout = request.options.timeout;
            pace::spare(side, endpoint, nodes, timeout, Rc::clone(&pace))
        };
        let source = spare(Side::Source, request.source.clone());
        let target = spare(Side::Target, request.target.clone());
        let observer = self.report.observer();
        let control = pace::follow_control(request, self.store.run(), pace, observer);
        tokio::select! {
            ended = self.findings() => ended,
            never = source => match never {},
            never = target => match never {},
            never = control => match never {},
        }
    }

    async fn findings(&mut self) -> Result<Ended, Error> {
        let most = Handful {
            keys: HANDFUL_KEYS,
            bytes: HANDFUL_BYTES,
        };
        let mut after = None;
        loop {
            let page = self.store.findings(after, HANDFUL_KEYS)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            let mut work: Vec<Work> = self.work(page);
            while !work.is_empty() {
                let next = self.pacing.next(most, &mut self.report, &mut self.store);
                let allowed = match next.await? {
                    Ok(allowed) => allowed,
                    Err(reason) => return Ok(Ended::Stopped(reason)),
                };
                let rest = work.split_off(handful(&work, allowed));
                self.pacing.tries(work.len());
                match self.handful(&work).await? {
                    Tried::All(seen) => self.record(work, seen)?,
                    Tried::Stopped(reason) => return Ok(Ended::Stopped(reason)),
                }
                work = rest;
            }
        }
        self.store.end_repair(self.report.findings_left())?;
        Ok(Ended::Done)
    }

    /// The findings of a page about which something is to be done.
    fn work(&self, page: Vec<Finding>) -> Vec<Work> {
        page.into_iter()
            .filter(|finding| finding.record.state == FindingState::Open)
            .map(|finding| Work {
                action: self
                    .rules
                    .action(finding.record.verdict, finding.record.found_ms),
                finding,
            })
            .filter(|work| work.action != Action::Leave)
            .collect()
    }

    /// Tries a handful until both sides have served to its end, patience is used up, or a stop is asked for.
    async fn handful(&mut self, work: &[Work]) -> Result<Tried, Error> {
        let mut failed: Option<Broken> = None;
        loop {
            let mut shutdown = self.shutdown.clone();
            let stopped = async {
                let reason = shutdown.wait().await;
                tokio::time::sleep(GRACE).await;
                reason
            };
            let attempt = tokio::select! {
                attempt = self.attempt(work) => attempt,
                reason = stopped => return Ok(Tried::Stopped(reason)),
            };
            let broken = match attempt {
                Ok(seen) => {
                    self.tried += work.len() as u64;
                    self.patience.progress(self.tried);
                    if let Some(broken) = failed {
                        self.report.recovered(&broken);
                    }
                    return Ok(Tried::All(seen));
                }
                Err(broken) => broken,
            };
            // What is still on its way on the other connection is of no use either.
            self.sides = None;
            if let Some(reason) = self.pause(&broken).await? {
                return Ok(Tried::Stopped(reason));
            }
            failed = Some(broken);
        }
    }

    /// Waits before the next try, as long as patience lasts; returns early, and why, if a stop is asked for.
    async fn pause(&mut self, broken: &Broken) -> Result<Option<StopReason>, Error> {
        let (wait, attempt) = match self.patience.failed(broken) {
            retry::Verdict::Wait { wait, attempt } => (wait, attempt),
            retry::Verdict::GiveUp(error) => return Err(*error),
        };
        self.report.waits(broken, attempt, wait);
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(None),
            reason = shutdown.wait() => Ok(Some(reason)),
        }
    }

    /// Looks at both servers, waiting for them if need be. Returns why, if a stop is asked for first.
    async fn look(&mut self) -> Result<Option<StopReason>, Error> {
        let mut failed: Option<Broken> = None;
        loop {
            let mut shutdown = self.shutdown.clone();
            let checked = tokio::select! {
                checked = check(&self.request) => checked,
                reason = shutdown.wait() => return Ok(Some(reason)),
            };
            let broken = match checked {
                Ok(facts) => {
                    self.payload_bytes_max = facts.payload_bytes_max;
                    self.clusters = facts.clusters;
                    self.patience.contact();
                    if let Some(broken) = failed {
                        self.report.recovered(&broken);
                    }
                    for message in facts.warnings {
                        self.report.tell(&Event::Warning { message });
                    }
                    let run = self.store.run();
                    for (side, server) in facts.servers {
                        self.store.tell(Journaled::Server { run, side, server })?;
                    }
                    let [source, target] = self.clusters.each_ref().map(Option::as_deref);
                    let request = &self.request;
                    let sides = [(&request.source, source), (&request.target, target)];
                    self.served = Some(Served::begin(sides).await);
                    return Ok(None);
                }
                Err(Refusal::Error(error)) => return Err(*error),
                Err(Refusal::Link(side, error)) => Broken { side, error },
            };
            if let Some(reason) = self.pause(&broken).await? {
                return Ok(Some(reason));
            }
            failed = Some(broken);
        }
    }

    /// As the comparison that found the findings was told.
    fn ttl_tolerance(&self) -> Option<Duration> {
        let record = self.store.compare()?;
        record.rules.ttl_tolerance_ms.map(Duration::from_millis)
    }

    /// Does what is to be done about each finding, and compares both sides again.
    async fn attempt(&mut self, work: &[Work]) -> Result<Vec<(Done, Seen)>, Broken> {
        let Some(first) = work.first() else {
            return Ok(Vec::new());
        };
        let lane = first.finding.lane;
        if self.sides.as_ref().is_none_or(|sides| sides.lane != lane) {
            let plan = self.request.plan.lanes[lane as usize];
            let permits = Permits {
                replace: !self.rules.keep,
                payload_bytes_max: self.payload_bytes_max,
                ttl_tolerance: self.ttl_tolerance(),
            };
            let connections = Connections {
                request: &self.request,
                clusters: &self.clusters,
                name: &self.name,
                pace: &self.pacing.pace,
            };
            let sides = Sides::connect(connections, &self.patience, lane, plan, permits);
            let sides = sides.await?;
            self.report
                .speaks_to(&sides.processes[Side::Target as usize]);
            self.sides = Some(sides);
        }
        let sides = self.sides.as_mut().expect("just connected");
        let named = |action| -> Vec<&[u8]> {
            work.iter()
                .filter(|work| work.action == action)
                .map(|work| work.finding.name.as_slice())
                .collect()
        };
        let written = write_own(sides, &named(Action::Write)).await?;
        crate::crash_point!("repair_written");
        let deleted = delete_nobodys(sides, &named(Action::Delete)).await?;
        crate::crash_point!("repair_deleted");
        let names: Vec<&[u8]> = work
            .iter()
            .map(|work| work.finding.name.as_slice())
            .collect();
        let seen = sides.again.compare(&names).await?;
        let silence = self.patience.silence_max(Side::Target);
        sides.must_be_masters(&self.request, silence).await?;
        crate::crash_point!("repair_compared");
        let (mut written, mut deleted) = (written.into_iter(), deleted.into_iter());
        let done = work.iter().map(|work| match work.action {
            Action::Delete => Done::Deleted(deleted.next().expect("one for each key")),
            Action::Write | Action::Leave => {
                Done::Written(written.next().expect("one for each key"))
            }
        });
        Ok(done.zip(seen).collect())
    }

    /// Makes what became of a handful durable, and tells it.
    fn record(&mut self, work: Vec<Work>, tried: Vec<(Done, Seen)>) -> Result<(), Error> {
        let mut commit = RepairCommit::default();
        let mut told = Vec::new();
        for (Work { finding, .. }, (done, seen)) in work.into_iter().zip(tried) {
            let outcome = outcome(&done, &seen);
            if let Done::Written(Written::Acknowledged(bytes)) = &done {
                commit.counters.payload_bytes_written += bytes;
            }
            if let Done::Deleted(Deleted::Gone) = &done {
                commit.deleted.push((finding.lane, finding.name.clone()));
            }
            count(&mut commit.counters, outcome);
            let before = finding.record.verdict;
            let detail = match outcome {
                RepairOutcome::Differs => {
                    let record = still(finding.record, done, seen, self.rules.confirmed_ms);
                    let detail = record.detail.clone();
                    commit.left.push((finding.id, record));
                    detail
                }
                RepairOutcome::Repaired | RepairOutcome::Deleted | RepairOutcome::Vanished => {
                    commit.settled.push((finding.id, finding.record));
                    String::new()
                }
            };
            told.push(Event::Repair {
                db: self.request.plan.lanes[finding.lane as usize].source_db,
                key: Escaped(&finding.name).to_string(),
                verdict: before,
                outcome,
                detail,
            });
        }
        let (settled, differing) = (commit.settled.len() as u64, commit.left.len() as u64);
        self.store.commit_repair(commit)?;
        crate::crash_point!("repair_recorded");
        for event in &told {
            self.report.tell(event);
        }
        self.report.tried(&mut self.store, settled, differing)
    }

    /// Records how the run ended.
    fn close(mut self, ended: Result<Ended, Error>) -> Result<RepairEnd, Error> {
        let (state, how) = match &ended {
            Ok(Ended::Done) => (RepairState::Repaired, "repaired".to_owned()),
            Ok(Ended::Stopped(reason)) => (
                RepairState::Stopped,
                format!("stopped by {}", reason.name()),
            ),
            Err(error) => (RepairState::Stopped, error.to_string()),
        };
        let saved = self
            .store
            .end_run(&how)
            .map_err(Error::from)
            .and_then(|()| self.report.end(&mut self.store, state));
        match (ended, saved) {
            // The first trouble is the cause; a state that can't be closed after it adds nothing.
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(Ended::Done), Ok(status)) => Ok(RepairEnd::Done(status)),
            (Ok(Ended::Stopped(reason)), Ok(status)) => Ok(RepairEnd::Stopped { reason, status }),
        }
    }
}

/// How many of `work`, from its beginning, are tried together: of one lane, and not more than is allowed at once.
fn handful(work: &[Work], allowed: Handful) -> usize {
    let mut bytes = 0;
    let lane = work.first().map(|work| work.finding.lane);
    let fits = |work: &&Work| {
        bytes += work.finding.record.payload_bytes;
        bytes <= allowed.bytes && Some(work.finding.lane) == lane
    };
    let count = work.iter().take(allowed.keys).take_while(fits).count();
    count.max(1).min(work.len())
}

fn outcome(done: &Done, seen: &Seen) -> RepairOutcome {
    match (seen, done) {
        (Seen::Differs(_), _) => RepairOutcome::Differs,
        (Seen::Equal, _) => RepairOutcome::Repaired,
        (Seen::Absent, Done::Deleted(_)) => RepairOutcome::Deleted,
        (Seen::Absent, Done::Written(_)) => RepairOutcome::Vanished,
        // Nobody can tell whether its value is equal; the target took it.
        (Seen::NotCompared, Done::Written(Written::Acknowledged(_))) => RepairOutcome::Repaired,
        (Seen::NotCompared, _) => RepairOutcome::Differs,
    }
}

fn count(counters: &mut RepairCounters, outcome: RepairOutcome) {
    match outcome {
        RepairOutcome::Repaired => counters.keys_repaired += 1,
        RepairOutcome::Deleted => counters.keys_deleted += 1,
        RepairOutcome::Vanished => counters.keys_vanished += 1,
        RepairOutcome::Differs => {}
    }
}

/// The record of a finding that is left.
fn still(
    before: FindingRecord,
    done: Done,
    seen: Seen,
    confirmed_ms: Option<u64>,
) -> FindingRecord {
    let why = match done {
        Done::Written(Written::Refused(why)) | Done::Deleted(Deleted::Refused(why)) => Some(why),
        Done::Deleted(Deleted::OnSource) => Some("the source has it by now".to_owned()),
        Done::Deleted(Deleted::Gone) | Done::Written(Written::Acknowledged(_) | Written::Gone) => {
            None
        }
    };
    let mut record = match seen {
        Seen::Differs(seen) => FindingRecord {
            found_ms: match seen.verdict == before.verdict {
                true => before.found_ms,
                // Keys that are to be deleted are those that were found before their number was confirmed.
                false => unix_ms().max(confirmed_ms.map_or(0, |ms| ms + 1)),
            },
            state: FindingState::Open,
            ..*seen
        },
        Seen::Equal | Seen::Absent | Seen::NotCompared => before,
    };
    if let Some(why) = why {
        record.detail = why;
    }
    record
}
