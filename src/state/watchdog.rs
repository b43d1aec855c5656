//! Wakes the storage engine where it waits for what will not come.
//!
//! When a write fails at one particular moment, the engine remembers the error and forgets to wake whoever waits for the
//! write (`exit_reservation` in sled 0.34): the waiter would hang, and with it the migration. Another call of the same
//! kind finds the error and wakes everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// An operation that takes longer than one to two of these is looked after. A slow disk is not disturbed by it.
const EVERY: Duration = Duration::from_millis(500);

/// Looks after operations of one thread.
pub(super) struct Watchdog {
    /// Odd while an operation runs.
    operations: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts looking; `rescue` is called, on another thread, as long as an operation does not end.
    pub(super) fn start(rescue: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let operations = Arc::new(AtomicU64::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let looking = (Arc::clone(&operations), Arc::clone(&stopped));
        let thread = std::thread::Builder::new()
            .name("state-watchdog".to_owned())
            .spawn(move || look(&looking.0, &looking.1, rescue))?;
        Ok(Self {
            operations,
            stopped,
            thread: Some(thread),
        })
    }

    /// Runs an operation. It must not panic, and none may run within another.
    pub(super) fn watch<R>(&self, operation: impl FnOnce() -> R) -> R {
        self.operations.fetch_add(1, Ordering::Release);
        let result = operation();
        self.operations.fetch_add(1, Ordering::Release);
        result
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It holds the engine open until it ends.
            let _ = thread.join();
        }
    }
}

fn look(operations: &AtomicU64, stopped: &AtomicBool, rescue: impl Fn()) {
    let mut seen = 0;
    while !stopped.load(Ordering::Acquire) {
        std::thread::park_timeout(EVERY);
        let now = operations.load(Ordering::Acquire);
        if now % 2 == 1 && now == seen {
            rescue();
        }
        seen = now;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_operation_that_hangs_is_rescued() {
        let (rescue, rescued) = mpsc::channel();
        let watchdog = Watchdog::start(move || {
            let _ = rescue.send(());
        })
        .unwrap();
        watchdog.watch(|| rescued.recv_timeout(Duration::from_secs(20)).unwrap());
    }

    #[test]
    fn it_ends_at_once_when_it_is_dropped() {
        let watchdog = Watchdog::start(|| ()).unwrap();
        let began = Instant::now();
        drop(watchdog);
        assert!(began.elapsed() < EVERY, "{:?}", began.elapsed());
    }
}
