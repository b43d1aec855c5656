//! Whether the master that is spoken to is still the one that the sentinels name.
//!
//! A failover ends our connections, and whoever connects anew is led to the new master. But a master that is cut off from
//! its sentinels, and not from us, goes on to answer after another one was made master in its place. So they are asked now
//! and then, and once more before anything is called done.

use std::time::Duration;

use super::control::Control;
use super::sentinel::settled;
use super::wire::LinkError;
use crate::endpoint::{Address, Endpoint};

/// How often the sentinels are asked. A failover takes them several seconds.
pub const ASK_EVERY: Duration = Duration::from_secs(2);

/// Whether sentinels watch this side.
pub fn is_watched(endpoint: &Endpoint) -> bool {
    matches!(endpoint.address, Address::Sentinel(_))
}

/// `run_id` of the master of a service; `None` where there are no sentinels, or it does not say.
///
/// # Errors
///
/// Trouble with the sentinels or with the master that they name.
pub async fn master_of(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<Option<String>, LinkError> {
    if !is_watched(endpoint) {
        return Ok(None);
    }
    let mut control = Control::connect(endpoint, 0, timeout).await?;
    let mut info = control.info().await?;
    Ok(info.remove("run_id").filter(|run_id| !run_id.is_empty()))
}

/// Whether the master of a service is another process than `known`, and no other is about to take its place. Without
/// sentinels it never is.
///
/// # Errors
///
/// As [`master_of`]; [`LinkError::Elsewhere`] while a failover is under way.
pub async fn is_another(
    endpoint: &Endpoint,
    known: Option<&str>,
    timeout: Duration,
) -> Result<bool, LinkError> {
    if !is_watched(endpoint) {
        return Ok(false);
    }
    settled(endpoint, timeout).await?;
    let now = master_of(endpoint, timeout).await?;
    Ok(known
        .zip(now.as_deref())
        .is_some_and(|(known, now)| known != now))
}
