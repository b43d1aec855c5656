//! Which node of a cluster is asked first, where there are several to be asked.
//!
//! # Invariant
//!
//! A node that was not named is handed out only if it belongs to the cluster that was met before: its address may be
//! somebody else's by now, and nothing may be read from, or written to, a stranger.

use std::time::Duration;

use super::handshake::login;
use super::sentinel::at;
use super::wire::{LinkError, Reply, Wire, open};
use crate::endpoint::{Address, Endpoint, HostPort, Seeds, Side};
use crate::resp::ErrorCode;

/// How long a node may take to answer, while there are others to be asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A connection to the first node that answers, logged in, and where that is.
///
/// # Errors
///
/// What the first of them said, if none answers.
pub(super) async fn first_answering(
    endpoint: &Endpoint,
    seeds: &Seeds,
    timeout: Duration,
) -> Result<(Wire, HostPort), LinkError> {
    let elsewhere: Vec<HostPort> = seeds.elsewhere().collect();
    let patience = match seeds.named().len() + elsewhere.len() {
        1 => timeout,
        _ => timeout.min(ANSWER_WITHIN),
    };
    let mut failure = None;
    let named = seeds.named().iter().map(|place| (place, true));
    let all = named.chain(elsewhere.iter().map(|place| (place, false)));
    for (place, is_named) in all {
        match answering(endpoint, seeds, place, is_named, patience).await {
            Ok(wire) => return Ok((wire, place.clone())),
            // Who we are, and whom to believe, is the same everywhere: another node would not say otherwise.
            Err(error @ LinkError::Tls(_)) if is_named => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| LinkError::Connect("there is no node to ask".to_owned())))
}

async fn answering(
    endpoint: &Endpoint,
    seeds: &Seeds,
    place: &HostPort,
    is_named: bool,
    patience: Duration,
) -> Result<Wire, LinkError> {
    let node = at(endpoint, place);
    let mut wire = open(&node, patience).await?;
    login(&mut wire, &node).await?;
    let ping = wire.call(&[b"PING"]).await?;
    // It serves nobody for now; others may.
    if let Reply::Error(code @ (ErrorCode::Loading | ErrorCode::MasterDown), line) = ping {
        return Err(LinkError::Reply(code, line));
    }
    if !is_named && !seeds.have_met_one_of(&ids(&mut wire).await?) {
        return Err(LinkError::Elsewhere(format!(
            "{place} is not a node of the cluster any more that was met there"
        )));
    }
    Ok(wire)
}

/// What the nodes are called that have slots, and their replicas, as one of them says.
async fn ids(wire: &mut Wire) -> Result<Vec<String>, LinkError> {
    let Reply::Array(ranges) = wire.call(&[b"CLUSTER", b"SLOTS"]).await? else {
        return Ok(Vec::new());
    };
    let nodes = ranges.into_iter().flat_map(|range| match range {
        Reply::Array(parts) => parts.into_iter().skip(2).collect(),
        _ => Vec::new(),
    });
    let id = |node: Reply| match node {
        Reply::Array(parts) => match parts.into_iter().nth(2) {
            Some(Reply::Bulk(id)) => String::from_utf8(id.to_vec()).ok(),
            _ => None,
        },
        _ => None,
    };
    Ok(nodes.filter_map(id).collect())
}

/// What is to be said if none of those answers who were named, and somebody else does who was met in an earlier run.
pub async fn stand_in(endpoint: &Endpoint, side: Side, timeout: Duration) -> Option<String> {
    let Address::Cluster(seeds) = &endpoint.address else {
        return None;
    };
    let (_, place) = first_answering(endpoint, seeds, timeout).await.ok()?;
    (!seeds.named().contains(&place)).then(|| {
        format!(
            "the {side} {seeds} does not answer; {place} does, which an earlier run has met as a node of the same cluster"
        )
    })
}
