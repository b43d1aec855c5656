//! Named points at which the crash tests kill the process.
//!
//! Without the feature `failpoints`, which no release has, a point is nothing at all. With it, the environment variable
//! `FAILPOINTS` chooses what happens there, for example `FAILPOINTS="state_flushed_before_fsync=10*off->return"`
//! kills at the eleventh time.

/// Dies here as by `kill -9`, if the crash tests ask for it.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        {
            // A function of its own: a point whose action is taken returns from the function that it stands in.
            fn point() {
                fail::fail_point!($name, |_| $crate::crash_point::die());
            }
            point();
        }
    };
}

/// Ends this process as `kill -9` does: no destructor, no buffer written.
#[cfg(feature = "failpoints")]
pub fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way; nothing may run meanwhile.
    loop {
        std::thread::park();
    }
}

/// Reads from `FAILPOINTS` where this process is to die; without the feature it does nothing.
pub fn arm() {
    #[cfg(feature = "failpoints")]
    // The scenario disarms everything when it is dropped, and this process stays armed to its end.
    std::mem::forget(fail::FailScenario::setup());
}
