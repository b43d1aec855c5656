//! Which databases of a server hold keys.
//!
//! # Invariant
//!
//! Nothing is written here.

use std::time::Duration;

use super::cluster::Nodes;
use super::control::{Control, Info};
use super::topology::is_cluster;
use super::wire::LinkError;
use crate::endpoint::Endpoint;
use crate::resp::ErrorCode;

/// Most databases that are asked one by one: as many as anybody configures.
const ASKED_MAX: u32 = 4096;

/// Those that INFO names; servers name the ones that hold keys.
fn of_info(info: &Info) -> Vec<u32> {
    let number = |field: &String| field.strip_prefix("db")?.parse().ok();
    let mut dbs: Vec<u32> = info
        .iter()
        .filter(|(_, value)| value.starts_with("keys="))
        .filter_map(|(field, _)| number(field))
        .collect();
    dbs.sort_unstable();
    dbs
}

/// Those that hold keys, in ascending order: by INFO, or one by one where that may not be asked.
///
/// # Errors
///
/// Trouble with the connection; a server that lets nobody ask how many keys a database has.
async fn with_keys(control: &mut Control) -> Result<Vec<u32>, LinkError> {
    let info = control.info().await?;
    if info.contains_key("run_id") {
        return Ok(of_info(&info));
    }
    let mut dbs = Vec::new();
    for db in 0..ASKED_MAX {
        match control.ask(redis::cmd("SELECT").arg(db)).await {
            Ok(_) => {}
            Err(LinkError::Reply(ErrorCode::DbIndex, _)) => break,
            Err(error) => return Err(error),
        }
        match control.ask(&redis::cmd("DBSIZE")).await? {
            redis::Value::Int(0) => {}
            _ => dbs.push(db),
        }
    }
    Ok(dbs)
}

/// As [`with_keys`], of the server or the cluster at `endpoint`.
///
/// # Errors
///
/// As [`with_keys`].
pub async fn with_keys_at(endpoint: &Endpoint, timeout: Duration) -> Result<Vec<u32>, LinkError> {
    let mut control = Control::connect(endpoint, 0, timeout).await?;
    let info = control.info().await?;
    if !is_cluster(&info) {
        return with_keys(&mut control).await;
    }
    let nodes = Nodes::discover(endpoint, timeout).await?;
    let mut dbs = Vec::new();
    for node in nodes.masters() {
        let mut control = Control::connect(&nodes.endpoint_of(&node), 0, timeout).await?;
        dbs.extend(with_keys(&mut control).await?);
    }
    dbs.sort_unstable();
    dbs.dedup();
    Ok(dbs)
}

/// The databases as a sentence names them: `database 7`, `databases 3, 7`.
pub fn named(dbs: &[u32]) -> String {
    let numbers: Vec<String> = dbs.iter().map(ToString::to_string).collect();
    match numbers.as_slice() {
        [one] => format!("database {one}"),
        several => format!("databases {}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_with_keys_stand_in_info() {
        let info: Info = [
            ("db12", "keys=3,expires=0,avg_ttl=0"),
            ("db0", "keys=1,expires=1,avg_ttl=7"),
            ("db_dir", "keys=1"),
            ("dbfilename", "dump.rdb"),
        ]
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .into();
        assert_eq!(of_info(&info), [0, 12]);
        assert_eq!(named(&[7]), "database 7");
        assert_eq!(named(&[3, 7]), "databases 3, 7");
    }
}
