//! Limits that change while the copy runs.
//!
//! # Invariant
//!
//! Only a file that is meant for this run changes anything, and only what it says is kept to is said to be.

use std::rc::Rc;
use std::time::Duration;

use super::engine::{End, Shared};
use crate::state::control;

/// How often the control file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks at the control file, and keeps to what it says.
pub async fn follow_control(shared: Rc<Shared>) -> End {
    let env = &shared.env;
    let path = control::path(&env.request.state_dir, &env.name);
    let mut complained = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let path = path.clone();
        // A slow disk is waited for elsewhere.
        let read = tokio::task::spawn_blocking(move || control::read(&path)).await;
        match read {
            Ok(Some(Ok(told))) if told.run == env.run => {
                complained = false;
                if env.limits.replace(told.limits) != told.limits {
                    shared.lane.borrow_mut().limit(told.limits);
                    env.limits_changed.set(true);
                    shared.source_wake.notify_one();
                    shared.settled_wake.notify_one();
                }
            }
            Ok(Some(Err(why))) if !complained => {
                complained = true;
                env.warn(format!("the control file can't be read: {why}"));
            }
            _ => {}
        }
    }
}
