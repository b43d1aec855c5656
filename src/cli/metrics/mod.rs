//! `--metrics`: how a run stands, for Prometheus. `docs/metrics.md` describes every figure.
//!
//! # Invariants
//!
//! - Every figure is one that `status` or an event tells; none is made here.
//! - The data path hands over what it tells anyway, about once a second. All else is done when somebody asks, on a thread
//!   of its own.

mod page;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use redknot::endpoint::Side;
use redknot::progress::{CompareStatus, Event, HeldBy, Limits, RepairStatus, Status};

use super::console::Console;
use super::failure::Failure;

/// What has been told last.
#[derive(Debug, Clone, Default)]
struct Told {
    migration: String,
    run: Option<u32>,
    phase: Option<&'static str>,
    copy: Option<Arc<Status>>,
    compare: Option<Arc<CompareStatus>>,
    repair: Option<Arc<RepairStatus>>,
    /// Tries again in this process, of the source and of the target.
    retries: [u64; 2],
}

/// Listens to what a run tells, and shows it to whoever asks.
#[derive(Debug, Clone)]
pub struct Metrics {
    told: Arc<Mutex<Told>>,
    address: SocketAddr,
}

impl Metrics {
    /// Shows the metrics of this migration at `address` from now on.
    ///
    /// # Errors
    ///
    /// If nothing can be listened to there.
    pub fn serve(address: SocketAddr, migration: &str, console: &Console) -> Result<Self, Failure> {
        let told = Arc::new(Mutex::new(Told {
            migration: migration.to_owned(),
            ..Told::default()
        }));
        let shown = Arc::clone(&told);
        let address = server::start(address, move || page_of(&shown)).map_err(|error| {
            Failure::usage(
                format!("--metrics {address} can't be listened on"),
                error.to_string(),
                format!(
                    "another run may show its metrics there; --metrics {} takes any port that is free, and says which",
                    SocketAddr::new(address.ip(), 0)
                ),
            )
        })?;
        let metrics = Self { told, address };
        console.say(&format!("  metrics   {}\n", metrics.url()));
        if !is_this_machine(address.ip()) {
            console.warn(&format!(
                "--metrics {address}: whoever reaches this machine can read the addresses of both servers and how the run stands"
            ));
        }
        Ok(metrics)
    }

    /// Where they are.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Takes what a run tells.
    pub fn event(&self, event: &Event) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Start { run, .. } => told.begin("copy", *run),
            Event::CompareStart { run, .. } => told.begin("compare", *run),
            Event::RepairStart { run, .. } => told.begin("repair", *run),
            Event::Progress(status) | Event::Complete(status) => {
                told.copy = Some(Arc::new((**status).clone()));
            }
            Event::CompareProgress(status) | Event::Compared(status) => {
                told.compare = Some(Arc::new((**status).clone()));
            }
            Event::RepairProgress(status) | Event::Repaired(status) => {
                told.repair = Some(Arc::new((**status).clone()));
            }
            Event::Retry { side, .. } => told.retries[*side as usize] += 1,
            _ => {}
        }
    }
}

fn page_of(told: &Mutex<Told>) -> String {
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    page::of(&told, now.unwrap_or_default().as_millis() as u64)
}

impl Told {
    fn begin(&mut self, phase: &'static str, run: u32) {
        self.phase = Some(phase);
        self.run = Some(run);
    }

    /// What the phase that was begun last waits for, and what it keeps to, once it has told.
    fn held(&self) -> Option<(Option<HeldBy>, Limits)> {
        match self.phase? {
            "compare" => {
                let status = self.compare.as_deref()?;
                Some((status.throttled_by, status.limits))
            }
            "repair" => {
                let status = self.repair.as_deref()?;
                Some((status.throttled_by, status.limits))
            }
            _ => {
                let status = self.copy.as_deref()?;
                Some((status.throttled_by, status.limits))
            }
        }
    }

    fn retries_of(&self, side: Side) -> u64 {
        self.retries[side as usize]
    }
}

fn is_this_machine(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V6(v6) => v6
            .to_ipv4_mapped()
            .map_or(v6.is_loopback(), |v4| v4.is_loopback()),
        IpAddr::V4(v4) => v4.is_loopback(),
    }
}
