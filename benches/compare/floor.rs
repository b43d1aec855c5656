//! What both servers need to dump the same keys at the same time: no comparison of payloads can be faster.

use std::sync::mpsc;

use anyhow::{Context, Result};
use bytes::{BufMut, BytesMut};

use redknot::resp::{ExpiryQuery, encode_dump, encode_expiry, encode_scan};

use crate::connection::Connection;

/// Batches that the target may lie behind the source.
const BATCHES_BETWEEN: usize = 4;

/// One batch's questions, and how many keys they are about.
type Batch = (BytesMut, usize);

/// Scans the source, has both servers dump every key with its expiry, and throws the replies away. Returns how many keys
/// it saw.
///
/// Both servers always have the next batch's questions before the last one's replies are read.
pub fn read_both(source: u16, target: u16, ask: ExpiryQuery, batch: u32) -> Result<usize> {
    let (to_target, batches) = mpsc::sync_channel::<Batch>(BATCHES_BETWEEN);
    std::thread::scope(|scope| {
        let of_target = scope.spawn(move || read_target(target, &batches));
        let keys = read_source(source, ask, batch, &to_target);
        drop(to_target);
        of_target.join().ok().context("a reader panicked")??;
        keys
    })
}

fn read_source(
    port: u16,
    ask: ExpiryQuery,
    batch: u32,
    to_target: &mpsc::SyncSender<Batch>,
) -> Result<usize> {
    let mut connection = Connection::open(port)?;
    let mut out = BytesMut::new();
    encode_scan(&mut out, 0, batch, None, None);
    connection.send(&out)?;
    let (mut keys, mut keys_unread) = (0, 0);
    loop {
        let mut reads = BytesMut::new();
        let (cursor, batch_keys) = connection.read_scan(|key| {
            encode_dump(&mut reads, key);
            encode_expiry(&mut reads, ask, key);
        })?;
        out.clear();
        if cursor != 0 {
            encode_scan(&mut out, cursor, batch, None, None);
        }
        out.put_slice(&reads);
        connection.send(&out)?;
        to_target
            .send((reads, batch_keys))
            .context("the target's reader has ended")?;
        skip(&mut connection, keys_unread)?;
        keys += batch_keys;
        keys_unread = batch_keys;
        if cursor == 0 {
            break;
        }
    }
    skip(&mut connection, keys_unread)?;
    Ok(keys)
}

fn read_target(port: u16, batches: &mpsc::Receiver<Batch>) -> Result<()> {
    let mut connection = Connection::open(port)?;
    let mut keys_unread = 0;
    for (reads, keys) in batches {
        connection.send(&reads)?;
        skip(&mut connection, keys_unread)?;
        keys_unread = keys;
    }
    skip(&mut connection, keys_unread)
}

/// A payload and an expiry a key.
fn skip(connection: &mut Connection, keys: usize) -> Result<()> {
    for _ in 0..2 * keys {
        connection.skip_reply()?;
    }
    Ok(())
}
