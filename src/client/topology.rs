//! What two servers are to each other: what must hold before anything is written.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::time::Duration;

use super::control::{Control, Info, Role};
use super::handshake::speaks_resp;
use super::wire::LinkError;
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::plan::LanePlan;

/// Redis takes no argument above this, unless its operator has raised the limit.
const PROTO_MAX_BULK_LEN: u64 = 512 * 1024 * 1024;

/// Why it is not begun.
#[derive(Debug)]
pub enum Refusal {
    /// Trouble with one side; may be tried again.
    Link(Side, LinkError),
    /// This can't be done.
    Error(Box<Error>),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

/// One side and what it says of itself.
pub struct Asked {
    /// Which one.
    pub side: Side,
    /// To ask more.
    pub control: Control,
    /// INFO; empty where it may not be asked.
    pub info: Info,
    /// What it is to others.
    pub role: Role,
}

impl Asked {
    /// Connects and asks.
    ///
    /// # Errors
    ///
    /// [`Refusal::Link`] with what the server or the system said.
    pub async fn connect(
        side: Side,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Self, Refusal> {
        let failed = |error| Refusal::Link(side, error);
        // Our own codec shows what a server said that is none of Redis; the crate's parser would not.
        speaks_resp(endpoint, timeout).await.map_err(failed)?;
        let mut control = Control::connect(endpoint, 0, timeout)
            .await
            .map_err(failed)?;
        let info = control.info().await.map_err(failed)?;
        let role = control.role(&info).await.map_err(failed)?;
        Ok(Self {
            side,
            control,
            info,
            role,
        })
    }

    /// Neither a cluster's node nor a sentinel.
    ///
    /// # Errors
    ///
    /// If it is one of them.
    pub fn must_be_single(&self) -> Result<(), Refusal> {
        let mode = self
            .info
            .get("redis_mode")
            .map(String::as_str)
            .unwrap_or_default();
        if mode == "sentinel" || self.role == Role::Sentinel {
            return Err(Error::new(
                Class::Usage,
                format!("use the {}", self.side),
                "it is a sentinel: it watches servers and has no keys",
            )
            .on(self.side)
            .hint(
                "give the address of the master that it watches (SENTINEL GET-MASTER-ADDR-BY-NAME)",
            )
            .into());
        }
        if mode == "cluster" {
            return Err(Error::new(
                Class::Usage,
                format!("use the {}", self.side),
                "it is a node of a cluster, which this version of redknot does not speak to",
            )
            .on(self.side)
            .hint("only single servers, with or without replicas, for now")
            .into());
        }
        Ok(())
    }

    /// No replica, as far as it tells.
    ///
    /// # Errors
    ///
    /// If it is one.
    pub fn must_take_writes(&self) -> Result<(), Refusal> {
        match self.role {
            Role::Replica => Err(Error::new(
                Class::Topology,
                format!("use the {}", self.side),
                "it is a replica, and replicas refuse writes",
            )
            .on(self.side)
            .hint("give --to the address of its master (INFO replication, master_host)")
            .into()),
            Role::Master | Role::Unknown | Role::Sentinel => Ok(()),
        }
    }

    /// The largest argument that it takes.
    ///
    /// # Errors
    ///
    /// Trouble with the connection.
    pub async fn payload_bytes_max(&mut self) -> Result<u64, Refusal> {
        let limit = self.control.config("proto-max-bulk-len").await;
        let limit = limit.map_err(|error| Refusal::Link(self.side, error))?;
        Ok(limit
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(PROTO_MAX_BULK_LEN))
    }
}

/// The same process under two names would copy keys onto themselves, or databases over each other.
///
/// # Errors
///
/// If a database is both read and written.
pub fn different_servers(source: &Info, target: &Info, lanes: &[LanePlan]) -> Result<(), Refusal> {
    let run_id = |info: &Info| info.get("run_id").filter(|id| !id.is_empty()).cloned();
    let (Some(source), Some(target)) = (run_id(source), run_id(target)) else {
        return Ok(());
    };
    let read: Vec<u32> = lanes.iter().map(|lane| lane.source_db).collect();
    let onto_itself = lanes.iter().find(|lane| read.contains(&lane.target_db));
    match onto_itself {
        Some(lane) if source == target => {
            let cause = format!(
                "source and target are the same server (run_id {}), and database {} is both read and written",
                source.get(..12).unwrap_or(&source),
                lane.target_db
            );
            Err(Error::new(Class::Topology, "begin", cause)
                .hint("give another server, or another database of it (--to redis://…/1)")
                .into())
        }
        _ => Ok(()),
    }
}
