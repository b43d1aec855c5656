//! What the two servers need when the client in between costs nothing: no copy can be faster than the slower of both.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, BytesMut};

use redknot::resp::{
    ExpiryQuery, RestoreOptions, encode_dump, encode_expiry, encode_restore_head,
    encode_restore_tail, encode_scan,
};

use crate::connection::{Connection, Place};
use crate::target::node_of;

/// Reads every key's payload and expiry and throws them away; returns how many keys it saw.
///
/// Each pipeline carries the next SCAN in front of this batch's DUMPs, and is sent before the last batch's replies are
/// read. So the source always has a request to work on.
pub fn read_source(place: Place<'_>, ask: ExpiryQuery, batch: u32) -> Result<usize> {
    let mut connection = Connection::open(place)?;
    let mut out = BytesMut::new();
    encode_scan(&mut out, 0, batch, None, None);
    connection.send(&out)?;
    let (mut keys, mut keys_unread) = (0, 0);
    let mut reads = BytesMut::new();
    loop {
        reads.clear();
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
        for _ in 0..2 * keys_unread {
            connection.skip_reply()?;
        }
        keys += batch_keys;
        keys_unread = batch_keys;
        if cursor == 0 {
            break;
        }
    }
    for _ in 0..2 * keys_unread {
        connection.skip_reply()?;
    }
    Ok(keys)
}

/// Everything that a target must be sent to hold what a source holds.
pub struct Recording {
    /// RESTOREs for each node, in pieces of a batch each.
    nodes: Vec<Stream>,
    pub keys: usize,
    pub payload_bytes: u64,
}

/// What one node is sent.
#[derive(Default)]
struct Stream {
    /// Each with the number of its keys.
    pieces: Vec<(BytesMut, usize)>,
    keys: usize,
}

/// Builds the RESTOREs for all keys of a source, for a target of so many nodes. Not measured.
pub fn record(port: u16, ask: ExpiryQuery, batch: u32, nodes: usize) -> Result<Recording> {
    let mut connection = Connection::open(port)?;
    let mut recording = Recording {
        nodes: (0..nodes).map(|_| Stream::default()).collect(),
        keys: 0,
        payload_bytes: 0,
    };
    let (mut names, mut payload) = (Vec::new(), Vec::new());
    let mut out = BytesMut::new();
    let mut cursor = 0;
    loop {
        out.clear();
        names.clear();
        encode_scan(&mut out, cursor, batch, None, None);
        connection.send(&out)?;
        (cursor, _) = connection.read_scan(|key| names.push(key.to_vec()))?;
        out.clear();
        for name in &names {
            encode_dump(&mut out, name);
            encode_expiry(&mut out, ask, name);
        }
        connection.send(&out)?;
        let mut pieces = vec![(BytesMut::new(), 0); nodes];
        for name in &names {
            payload.clear();
            connection.read_bulk(&mut payload)?;
            let expiry = connection.read_integer()?;
            let expires = expiry >= 0;
            let options = RestoreOptions {
                replace: true,
                absttl: expires && ask == ExpiryQuery::PExpireTime,
            };
            let ttl_ms = if expires { expiry.unsigned_abs() } else { 0 };
            let node = node_of(name, nodes);
            let (piece, piece_keys) = &mut pieces[node];
            *piece_keys += 1;
            encode_restore_head(piece, name, ttl_ms, payload.len(), options);
            piece.put_slice(&payload);
            encode_restore_tail(piece, options);
            recording.nodes[node].keys += 1;
            recording.payload_bytes += payload.len() as u64;
        }
        recording.keys += names.len();
        for (stream, piece) in recording.nodes.iter_mut().zip(pieces) {
            stream.pieces.push(piece);
        }
        if cursor == 0 {
            return Ok(recording);
        }
    }
}

/// Sends the recording as fast as the target takes it, to all its nodes at the same time, and waits for every
/// acknowledgement.
pub fn write_target(ports: &[u16], recording: &Recording) -> Result<()> {
    std::thread::scope(|scope| {
        let streams = ports.iter().zip(&recording.nodes);
        let written: Vec<_> = streams
            .map(|(port, stream)| scope.spawn(move || write_node(*port, stream)))
            .collect();
        written
            .into_iter()
            .try_for_each(|written| written.join().ok().context("a writer panicked")?)
    })
}

/// The same to one node after the other. Each has then a processor for itself.
pub fn write_in_turns(ports: &[u16], recording: &Recording) -> Result<()> {
    let mut streams = ports.iter().zip(&recording.nodes);
    streams.try_for_each(|(port, stream)| write_node(*port, stream))
}

/// As [`write_target`], to a single server over TLS: one thread sends a piece before it reads the acknowledgements of the
/// piece before, so that the target always has something to do.
pub fn write_target_over_tls(place: Place<'_>, recording: &Recording) -> Result<()> {
    let mut connection = Connection::open(place)?;
    let mut unread = 0;
    for (piece, keys) in recording.nodes.iter().flat_map(|node| &node.pieces) {
        connection.send(piece)?;
        for _ in 0..unread {
            connection.skip_reply()?;
        }
        unread = *keys;
    }
    for _ in 0..unread {
        connection.skip_reply()?;
    }
    Ok(())
}

fn write_node(port: u16, recording: &Stream) -> Result<()> {
    const ACKNOWLEDGEMENT: &[u8] = b"+OK\r\n";
    let mut writer = TcpStream::connect(("127.0.0.1", port))?;
    writer.set_nodelay(true)?;
    let mut reader = writer.try_clone()?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || -> Result<()> {
            for (piece, _) in &recording.pieces {
                writer.write_all(piece)?;
            }
            Ok(())
        });
        let mut bytes_left = recording.keys * ACKNOWLEDGEMENT.len();
        let mut buffer = vec![0; 64 * 1024];
        while bytes_left > 0 {
            let received = reader.read(&mut buffer)?;
            let replies = &buffer[..received.min(bytes_left)];
            ensure!(received > 0, "the target closed the connection");
            ensure!(
                !replies.contains(&b'-'),
                "the target answered {}",
                replies.escape_ascii()
            );
            bytes_left -= replies.len();
        }
        sent.join().ok().context("the sender panicked")?
    })
}
