//! Limits that change while a run works.
//!
//! # Invariant
//!
//! Only a file that is meant for this run changes anything.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use crate::progress::Limits;
use crate::state::control;

/// How often the control file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks at the control file at `path`, and tells what it says to the run of this number; or, once each time, why it can't be
/// read.
pub async fn follow(
    path: PathBuf,
    run: u32,
    mut tell: impl FnMut(Result<Limits, String>),
) -> Infallible {
    let mut complained = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let path = path.clone();
        // A slow disk is waited for elsewhere.
        let read = tokio::task::spawn_blocking(move || control::read(&path)).await;
        match read {
            Ok(Some(Ok(told))) if told.run == run => {
                complained = false;
                tell(Ok(told.limits));
            }
            Ok(Some(Err(why))) if !complained => {
                complained = true;
                tell(Err(format!("the control file can't be read: {why}")));
            }
            _ => {}
        }
    }
}
