//! Towards a single server as target: what is sent, what comes back, and the connection after a lost one.
//!
//! # Invariant
//!
//! A connection that was lost is ended on the server before its successor is used, as far as the server allows that: an old
//! value must not land after a newer one.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::engine::{End, Shared};
use super::lane::Trouble;
use super::link::{self, Waited};
use super::walk::LaneEnd;
use crate::client::canary::same_process;
use crate::client::handshake::end_earlier;
use crate::client::retry::Budget;
use crate::client::{Link, LinkError, WireReader, WireWriter};
use crate::endpoint::Side;

/// How long keys may wait for others that go the same way. At full speed they have come long before.
const GATHER_MAX: Duration = Duration::from_millis(10);

pub(super) async fn target_side(shared: Rc<Shared>, connection: usize, mut link: Link) -> End {
    let env = Rc::clone(&shared.env);
    let plan = env.request.plan.lanes[shared.index];
    let mut budget = env.budget(Side::Target);
    budget.contact();
    loop {
        let earlier = (link.client_id, link.identity.run_id.clone());
        let trouble = exchange(&shared, connection, link, &mut budget).await;
        let mut failure = match trouble {
            Trouble::Link(error) => Some(error),
            Trouble::Fatal(error) => return End::Failed(error),
            Trouble::CursorRefused(_) => unreachable!("only the source is asked to scan"),
            Trouble::NextNode | Trouble::UnknownNode(_) => {
                unreachable!("only a cluster has other nodes")
            }
        };
        link = loop {
            let mut next =
                match link::target(&env, &mut budget, plan.target_db, failure.take()).await {
                    Ok(Waited::Ready(link)) => link,
                    Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
                    Err(error) => return error.into(),
                };
            match still_trusted(&shared, &earlier, &mut next).await {
                Ok(Trust::Kept) => {
                    let mut lane = shared.lane.borrow_mut();
                    lane.rules.set_target_clock(next.clock);
                    lane.set_takes(next.takes.take());
                    shared.source_wake.notify_one();
                    shared.read_wake.notify_one();
                    break next;
                }
                Ok(Trust::Lost(reason)) => return End::Lane(LaneEnd::TargetSuspect(reason)),
                Ok(Trust::NothingRecorded) => return End::Lane(LaneEnd::Again),
                Err(error) => failure = Some(error),
            }
        };
    }
}

/// Writes over a connection until it is of no use any more. What it leaves unanswered is back in the lane then.
pub(super) async fn exchange(
    shared: &Shared,
    connection: usize,
    mut link: Link,
    budget: &mut Budget,
) -> Trouble {
    link.wire.set_silence_max(budget.silence_max());
    let (reader, writer) = link.wire.split();
    let trouble = tokio::select! {
        trouble = target_send(shared, connection, writer) => trouble,
        trouble = target_receive(shared, connection, reader) => trouble,
    };
    let progress = {
        let mut lane = shared.lane.borrow_mut();
        lane.target_lost(connection);
        lane.target_answers
    };
    shared.source_wake.notify_one();
    budget.progress(progress);
    trouble
}

/// What an acknowledgement of the target is worth after its connection was lost.
enum Trust {
    /// It is the same process.
    Kept,
    /// It may be another one, for this reason.
    Lost(String),
    /// It is another one, and nothing is durable yet that the earlier one has acknowledged. What it has acknowledged all
    /// the same is on its way to the disk, and must not arrive there as the work of this one.
    NothingRecorded,
}

/// Whether the new connection leads to the process that has acknowledged so far.
///
/// What the lost connection may still have in the server's buffers is ended first: an old value must not land after
/// a newer one. In another process its number would be somebody else's.
async fn still_trusted(
    shared: &Shared,
    earlier: &(Option<i64>, Option<String>),
    next: &mut Link,
) -> Result<Trust, LinkError> {
    if let (Some(client_id), run_id) = earlier
        && *run_id == next.identity.run_id
    {
        end_earlier(next, *client_id).await?;
    }
    let plan = shared.env.request.plan.lanes[shared.index];
    let checkpoint = shared.durable.borrow().lanes[shared.index].clone();
    let now = &next.identity;
    let suspect = link::suspect(&shared.env, &checkpoint, plan, now).await?;
    let same = same_process(&checkpoint.target, now);
    Ok(match suspect {
        Some(reason) => Trust::Lost(reason),
        None if same == Some(false) && checkpoint.canary.is_empty() => Trust::NothingRecorded,
        None => Trust::Kept,
    })
}

async fn target_send(shared: &Shared, connection: usize, mut writer: WireWriter) -> Trouble {
    let mut out = BytesMut::with_capacity(128 * 1024);
    let mut gathered_by = None;
    loop {
        if out.is_empty() && shared.lane.borrow().gathers(connection) {
            let until = *gathered_by.get_or_insert_with(|| Instant::now() + GATHER_MAX);
            let more = shared.target_wake[connection].notified();
            if tokio::time::timeout_at(until.into(), more).await.is_ok() {
                continue;
            }
        }
        gathered_by = None;
        let large = shared
            .lane
            .borrow_mut()
            .write(connection, &mut out, Instant::now());
        // Bytes have left the lane, or keys were sent back to be read anew.
        shared.read_wake.notify_one();
        shared.source_wake.notify_one();
        if out.is_empty() {
            shared.settled_wake.notify_one();
            shared.target_wake[connection].notified().await;
            continue;
        }
        if let Err(error) = writer.write_all(&out).await {
            return error.into();
        }
        out.clear();
        if let Some(large) = large {
            if let Err(error) = writer.write_all(&large.bytes).await {
                return error.into();
            }
            large.encode_tail(&mut out);
        }
    }
}

async fn target_receive(shared: &Shared, connection: usize, mut reader: WireReader) -> Trouble {
    loop {
        let owed = shared.lane.borrow().target_owes(connection);
        match reader.fill().await {
            Ok(()) => {}
            Err(LinkError::Silent(_)) if !owed => continue,
            Err(error) => return error.into(),
        }
        let taken = take_outcomes(shared, connection, &mut reader);
        shared.settled_wake.notify_one();
        shared.source_wake.notify_one();
        shared.doubt_wake.notify_one();
        if let Err(trouble) = taken {
            return trouble;
        }
    }
}

fn take_outcomes(
    shared: &Shared,
    connection: usize,
    reader: &mut WireReader,
) -> Result<(), Trouble> {
    let mut lane = shared.lane.borrow_mut();
    while let Some(token) = reader.buffered()? {
        lane.target_token(connection, token)?;
    }
    Ok(())
}
