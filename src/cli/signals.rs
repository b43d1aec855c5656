//! Ctrl-C and its relatives: the first asks the run to stop at a checkpoint, the second leaves at once. A run whose time
//! is over is asked as by the first.
//!
//! Leaving at once is safe for the same reason for which a crash is.

use std::sync::mpsc::Sender;

use redknot::shutdown::{ShutdownTrigger, StopReason};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit_code::{self, ExitCode};
use super::times::Times;

type Kind = fn() -> SignalKind;

const SIGNALS: [(StopReason, Kind, u32); 3] = [
    (StopReason::Hangup, SignalKind::hangup, 1),
    (StopReason::Interrupt, SignalKind::interrupt, 2),
    (StopReason::Terminate, SignalKind::terminate, 15),
];

/// From now on signals and the end of `times` go to `trigger`, and a second Ctrl-C or SIGTERM sends its exit code to
/// `leave`. `said` is called for the first.
///
/// A signal that was ignored when the process began stays ignored: `nohup redknot migrate` survives its terminal.
///
/// # Errors
///
/// If the system has no thread or no file descriptor left.
pub fn watch(
    trigger: ShutdownTrigger,
    times: Times,
    leave: Sender<ExitCode>,
    said: impl FnOnce(StopReason) + Send + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ignored = ignored_signals();
    let streams = {
        let _guard = runtime.enter();
        let wanted = SIGNALS
            .into_iter()
            .filter(|(_, _, number)| ignored & (1 << (number - 1)) == 0);
        wanted
            .map(|(reason, kind, _)| Ok((reason, signal(kind())?)))
            .collect::<std::io::Result<Vec<_>>>()?
    };
    let watch = move || runtime.block_on(wait(streams, trigger, times, leave, said));
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)?;
    Ok(())
}

async fn wait(
    mut streams: Vec<(StopReason, Signal)>,
    trigger: ShutdownTrigger,
    times: Times,
    leave: Sender<ExitCode>,
    said: impl FnOnce(StopReason),
) {
    let first = tokio::select! {
        signal = next(&mut streams) => signal,
        over = times.over() => over,
    };
    trigger.stop(first);
    said(first);
    loop {
        let again = next(&mut streams).await;
        // A terminal that closes sends SIGHUP more than once; nobody is impatient there.
        if again != StopReason::Hangup {
            let _ = leave.send(exit_code::of_stop(again));
        }
    }
}

async fn next(streams: &mut [(StopReason, Signal)]) -> StopReason {
    std::future::poll_fn(|context| {
        for (reason, stream) in streams.iter_mut() {
            if stream.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*reason);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Bit n-1 is set if signal n is ignored. Where the system does not say, none is.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
