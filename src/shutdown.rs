//! How a run is asked to end: once to stop at the next safe point, a second time to leave at once.

use tokio::sync::watch;

/// Why a run was asked to stop; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The terminal went away (SIGHUP).
    Hangup,
    /// Ctrl-C (SIGINT).
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The time that the run may take is over.
    TimeUp,
    /// The hours of the day in which it may work are over.
    WindowClosed,
}

impl StopReason {
    /// Its name in "stopped by".
    pub fn name(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::TimeUp => "--max-duration",
            Self::WindowClosed => "the end of --window",
        }
    }
}

/// The receiving end: cheap to clone, never lost.
#[derive(Debug, Clone)]
pub struct Shutdown {
    reason: watch::Receiver<Option<StopReason>>,
}

/// The asking end. Dropping it asks for nothing.
#[derive(Debug)]
pub struct ShutdownTrigger {
    reason: watch::Sender<Option<StopReason>>,
}

/// A connected pair: what is asked at the trigger is seen by all clones of the receiver.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (
        ShutdownTrigger { reason: sender },
        Shutdown { reason: receiver },
    )
}

impl ShutdownTrigger {
    /// Asks the run to stop at its next safe point.
    pub fn stop(&self, reason: StopReason) {
        self.reason.send_replace(Some(reason));
    }
}

impl Shutdown {
    /// The reason, if a stop has been asked for.
    pub fn requested(&self) -> Option<StopReason> {
        *self.reason.borrow()
    }

    /// Returns once a stop has been asked for; never returns if the trigger is gone without it.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is consumed.
    pub async fn wait(&mut self) -> StopReason {
        loop {
            if let Some(reason) = *self.reason.borrow_and_update() {
                return reason;
            }
            if self.reason.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
