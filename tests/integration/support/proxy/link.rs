//! One connection through the proxy: four threads, two in each direction.
//!
//! The first of each pair reads and decides command by command; the second writes, under the conditions of its
//! direction. Between them is a bounded queue, so that latency does not limit throughput and a stalled peer is felt.
//!
//! # Invariant
//!
//! Replies are matched to commands by their order: for each command that is forwarded, one entry is in `expected`
//! before the server can answer it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faults::{Action, Conditions};
use super::frames::{CommandParser, ReplyParser, Step};
use super::{Cut, Direction, Shared, locked};

const READ_BYTES: usize = 64 * 1024;

/// Reads that may wait for their writer: 16 MiB at most, which is what latency has room for.
const QUEUE_READS: usize = 256;

/// Stands in for a command that the proxy answers itself, so that every command has one reply.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// One connection of a client and the one that was made for it.
pub(super) struct Link {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    shared: Arc<Shared>,
    ended: AtomicBool,
    expected: Mutex<VecDeque<Option<Action>>>,
}

/// What a reader hands to its writer.
enum Item {
    Bytes(Vec<u8>),
    Cut(Cut),
    Stall,
    /// The peer has said all it has to say.
    HalfClose,
}

type Queue = SyncSender<(Instant, Item)>;

/// Ends a connection at once and from any thread, with an RST.
pub(super) fn reset(stream: &TcpStream) {
    // Fails where the connection is gone already.
    let _ = rustix::net::connect_unspec(stream);
}

impl Link {
    /// Begins to forward between the two.
    pub fn open(
        number: u64,
        client: TcpStream,
        server: TcpStream,
        shared: &Arc<Shared>,
    ) -> Arc<Self> {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("TCP_NODELAY");
        }
        let link = Arc::new(Self {
            number,
            client,
            server,
            shared: Arc::clone(shared),
            ended: AtomicBool::new(false),
            expected: Mutex::new(VecDeque::new()),
        });
        let (requests, to_server) = sync_channel(QUEUE_READS);
        let (replies, to_client) = sync_channel(QUEUE_READS);
        let of = || Arc::clone(&link);
        let (a, b, c, d) = (of(), of(), of(), of());
        std::thread::spawn(move || a.read_requests(&requests));
        std::thread::spawn(move || b.write(&b.server, &b.shared.requests, 0, &to_server));
        std::thread::spawn(move || c.read_replies(&replies));
        std::thread::spawn(move || d.write(&d.client, &d.shared.replies, 1, &to_client));
        link
    }

    /// Ends it, on both sides.
    pub fn cut(&self, how: Cut) {
        self.ended.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            match how {
                Cut::Reset => reset(stream),
                // Fails where the peer was faster.
                Cut::Close => drop(stream.shutdown(Shutdown::Both)),
            }
        }
        for direction in [&self.shared.requests, &self.shared.replies] {
            // The lock: so that no writer is between looking at `ended` and falling asleep.
            drop(locked(&direction.conditions));
            direction.changed.notify_all();
        }
    }

    /// A stream of decisions that depends on nothing but the seed and the number of the connection.
    fn random(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.shared.seed ^ (self.number << 8 | purpose))
    }

    fn read_requests(&self, queue: &Queue) {
        let mut random = self.random(2);
        let mut parser = CommandParser::default();
        // Bytes of the current command, until its name and key decide what becomes of it.
        let mut held = Vec::new();
        let mut forwarded = true;
        let mut known = false;
        let mut name = String::new();
        let mut buffer = vec![0; READ_BYTES];
        while let Some(mut input) = self.read(&self.client, &mut buffer) {
            let due = self.shared.requests.due(&mut random);
            let mut output = Vec::with_capacity(input.len() + held.len());
            while !input.is_empty() {
                let (taken, mut step) = parser.step(input);
                if !known {
                    held.extend_from_slice(&input[..taken]);
                } else if forwarded {
                    output.extend_from_slice(&input[..taken]);
                }
                input = &input[taken..];
                if step == Step::Known {
                    known = true;
                    name = parser.name();
                    let action = locked(&self.shared.commands).decide(&name, parser.first_arg());
                    forwarded = !matches!(action, Some(Action::Answer(_) | Action::CutBefore(_)));
                    if let Some(Action::CutBefore(how)) = action {
                        let _ = queue.send((due, Item::Bytes(output)));
                        let _ = queue.send((due, Item::Cut(how)));
                        return;
                    }
                    if matches!(action, Some(Action::Hold)) {
                        let before = std::mem::take(&mut output);
                        let _ = queue.send((due, Item::Bytes(before)));
                        let _ = queue.send((due, Item::Stall));
                    }
                    locked(&self.expected).push_back(action);
                    output.extend_from_slice(if forwarded { &held } else { PING });
                    held.clear();
                    if parser.at_end() {
                        step = Step::End;
                    }
                }
                if step == Step::End {
                    known = false;
                    let args = parser.take_args();
                    locked(&self.shared.commands).keep(self.number, &name, args);
                }
            }
            if queue.send((due, Item::Bytes(output))).is_err() {
                return;
            }
        }
        let _ = queue.send((Instant::now(), Item::HalfClose));
    }

    fn read_replies(&self, queue: &Queue) {
        let mut random = self.random(3);
        let mut replies = Replies::default();
        let mut buffer = vec![0; READ_BYTES];
        while let Some(mut input) = self.read(&self.server, &mut buffer) {
            let due = self.shared.replies.due(&mut random);
            let mut output = Vec::with_capacity(input.len());
            while !input.is_empty() {
                if replies.at_start {
                    let expected = locked(&self.expected).pop_front().flatten();
                    if matches!(expected, Some(Action::StallReply)) {
                        let before = std::mem::take(&mut output);
                        let _ = queue.send((due, Item::Bytes(before)));
                        let _ = queue.send((due, Item::Stall));
                    }
                    replies.begin(expected);
                }
                let taken = replies.step(input, &mut output);
                input = &input[taken..];
                let outstanding = || !locked(&self.expected).is_empty();
                if let Some(how) = replies.cut_now(outstanding) {
                    let _ = queue.send((due, Item::Bytes(output)));
                    let _ = queue.send((due, Item::Cut(how)));
                    return;
                }
            }
            if queue.send((due, Item::Bytes(output))).is_err() {
                return;
            }
        }
        let _ = queue.send((Instant::now(), Item::HalfClose));
    }

    /// The next bytes, or `None` at the end, however it came.
    fn read<'a>(&self, mut stream: &TcpStream, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let read = match stream.read(buffer) {
            Ok(read) if read > 0 => read,
            Ok(_) => return None,
            Err(_) => {
                // A reset on one side is a reset on the other.
                self.cut(Cut::Reset);
                return None;
            }
        };
        Some(&buffer[..read])
    }

    fn write(
        &self,
        stream: &TcpStream,
        direction: &Direction,
        purpose: u64,
        items: &Receiver<(Instant, Item)>,
    ) {
        let mut random = self.random(purpose);
        // Where this connection is to be cut, counted from when that was asked for.
        let mut limit: Option<(std::ops::Range<u64>, u64)> = None;
        while let Ok((due, item)) = items.recv() {
            self.wait_until(due);
            let written = match item {
                Item::Bytes(bytes) => {
                    self.write_bytes(stream, direction, &bytes, &mut limit, &mut random)
                }
                Item::Stall => {
                    locked(&direction.conditions).stalled = true;
                    true
                }
                Item::Cut(how) => {
                    self.cut(how);
                    false
                }
                Item::HalfClose => {
                    let _ = stream.shutdown(Shutdown::Write);
                    false
                }
            };
            if !written {
                return;
            }
        }
    }

    /// Writes under the conditions of the moment. Returns whether the connection goes on.
    fn write_bytes(
        &self,
        mut stream: &TcpStream,
        direction: &Direction,
        mut bytes: &[u8],
        limit: &mut Option<(std::ops::Range<u64>, u64)>,
        random: &mut StdRng,
    ) -> bool {
        while !bytes.is_empty() {
            let Some(conditions) = self.flowing(direction) else {
                return false;
            };
            let mut piece = bytes
                .len()
                .min(conditions.piece_bytes.unwrap_or(usize::MAX));
            if let Some(rate) = conditions.bytes_per_s {
                piece = piece.min(usize::try_from(rate / 50).unwrap_or(usize::MAX).max(1));
            }
            let mut cut = None;
            if let Some((left, how)) = conditions.cut_each.as_ref().map(|(range, how)| {
                let (_, left) = limit
                    .take_if(|(drawn_from, _)| drawn_from == range)
                    .unwrap_or_else(|| (range.clone(), random.random_range(range.clone())));
                let after = left.saturating_sub(piece as u64);
                *limit = Some((range.clone(), after));
                (left, *how)
            }) && left <= piece as u64
            {
                piece = usize::try_from(left).expect("at most a piece");
                cut = Some(how);
            }
            if let Some(how) = direction.count_down(&mut piece) {
                cut = Some(how);
            }
            // Counted first: once the peer has them, a test may look.
            direction.bytes.fetch_add(piece as u64, Ordering::SeqCst);
            if stream.write_all(&bytes[..piece]).is_err() {
                self.cut(Cut::Reset);
                return false;
            }
            if let Some(how) = cut {
                self.cut(how);
                return false;
            }
            bytes = &bytes[piece..];
            if let Some(rate) = conditions.bytes_per_s {
                self.wait_until(
                    Instant::now() + Duration::from_secs_f64(piece as f64 / rate as f64),
                );
            }
        }
        true
    }

    /// Waits while the direction is stalled; `None` if the connection ended meanwhile.
    fn flowing(&self, direction: &Direction) -> Option<Conditions> {
        let mut conditions = locked(&direction.conditions);
        while conditions.stalled && !self.ended.load(Ordering::SeqCst) {
            conditions = direction
                .changed
                .wait(conditions)
                .expect("no thread of the proxy has panicked");
        }
        (!self.ended.load(Ordering::SeqCst)).then(|| conditions.clone())
    }

    fn wait_until(&self, due: Instant) {
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
    }
}

impl Direction {
    /// When bytes that came just now are to go on.
    fn due(&self, random: &mut StdRng) -> Instant {
        let conditions = locked(&self.conditions);
        let now = Instant::now();
        if conditions.delay.is_zero() && conditions.jitter.is_zero() {
            return now;
        }
        let jitter = conditions
            .jitter
            .mul_f64(random.random_range(-1.0..=1.0_f64).abs());
        if random.random() {
            now + conditions.delay + jitter
        } else {
            now + conditions.delay.saturating_sub(jitter)
        }
    }

    /// Counts bytes towards a cut that happens once. Shortens the piece and returns how to cut when it is reached.
    fn count_down(&self, piece: &mut usize) -> Option<Cut> {
        let mut conditions = locked(&self.conditions);
        let (left, how) = conditions.cut_once?;
        if left > *piece as u64 {
            conditions.cut_once = Some((left - *piece as u64, how));
            return None;
        }
        *piece = usize::try_from(left).expect("at most a piece");
        conditions.cut_once = None;
        Some(how)
    }
}

/// Applies what was decided about a command to its reply.
struct Replies {
    parser: ReplyParser,
    at_start: bool,
    action: Option<Action>,
    /// Bytes of the current reply that are content, or of all of it, as the action counts.
    offset: u64,
    /// The current reply, for actions that need all of it.
    collected: Vec<u8>,
    /// Replies still to be lost before the connection is reset.
    losing: Option<u64>,
    cut: Option<Cut>,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            parser: ReplyParser::default(),
            at_start: true,
            action: None,
            offset: 0,
            collected: Vec::new(),
            losing: None,
            cut: None,
        }
    }
}

impl Replies {
    fn begin(&mut self, action: Option<Action>) {
        if let (Some(Action::LoseReplies(replies)), None) = (&action, self.losing) {
            self.losing = Some(*replies);
        }
        self.at_start = false;
        self.action = action;
        self.offset = 0;
        if let Some(Action::CutInReply(0, how)) = self.action {
            self.cut = Some(how);
        }
    }

    /// Takes a part of `input` and adds what remains of it to `output`. Returns how much it took.
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        if self.cut.is_some() {
            return input.len();
        }
        let (taken, step, content) = self.parser.step(input);
        let bytes = &input[..taken];
        match &self.action {
            _ if self.losing.is_some() => {}
            Some(Action::Answer(_)) => {}
            Some(Action::WithoutLine(_)) => self.collected.extend_from_slice(bytes),
            Some(Action::CutInReply(limit, how)) => {
                let room = usize::try_from(limit - self.offset).unwrap_or(usize::MAX);
                output.extend_from_slice(&bytes[..taken.min(room)]);
                self.offset += taken as u64;
                if room <= taken || step == Step::End {
                    self.cut = Some(*how);
                }
            }
            Some(Action::FlipByte(at)) if content => {
                let begin = output.len();
                output.extend_from_slice(bytes);
                if let Some(index) = at.checked_sub(self.offset)
                    && let Some(byte) =
                        output[begin..].get_mut(usize::try_from(index).unwrap_or(usize::MAX))
                {
                    *byte = !*byte;
                }
                self.offset += taken as u64;
            }
            _ => output.extend_from_slice(bytes),
        }
        if step == Step::End {
            self.end(output);
        }
        taken
    }

    fn end(&mut self, output: &mut Vec<u8>) {
        self.at_start = true;
        match self.action.take() {
            _ if self.losing.is_some() => {
                self.losing = self.losing.map(|left| left.saturating_sub(1))
            }
            Some(Action::Answer(reply)) => output.extend(reply),
            Some(Action::WithoutLine(prefix)) => {
                output.extend(without_lines(&std::mem::take(&mut self.collected), &prefix));
            }
            _ => {}
        }
    }

    /// How the connection is to be cut, if it is to be cut here.
    fn cut_now(&self, outstanding: impl Fn() -> bool) -> Option<Cut> {
        let lost_all = self.at_start && self.losing.is_some_and(|left| left == 0 || !outstanding());
        self.cut.or(lost_all.then_some(Cut::Reset))
    }
}

/// A reply that is one string, without the lines that begin with `prefix`. Other replies are left as they are.
fn without_lines(reply: &[u8], prefix: &str) -> Vec<u8> {
    let Some(begin) = reply
        .windows(2)
        .position(|two| two == b"\r\n")
        .filter(|_| reply[0] == b'$')
    else {
        return reply.to_vec();
    };
    let content = &reply[begin + 2..reply.len() - 2];
    let kept: Vec<u8> = content
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(prefix.as_bytes()))
        .flatten()
        .copied()
        .collect();
    [format!("${}\r\n", kept.len()).as_bytes(), &kept, b"\r\n"].concat()
}
