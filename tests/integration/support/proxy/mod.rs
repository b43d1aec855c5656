//! A TCP proxy between redknot and a server that does what networks and servers do on bad days.
//!
//! # What it can do, and what a test may rely on
//!
//! *To one command*, `proxy.on("RESTORE")`, the k-th of its name from now, over all connections ([`On`]):
//!
//! | fault | the server | the client |
//! |---|---|---|
//! | `answer(line)` | never sees it (a PING goes in its place) | reads `line` in the right order among its replies |
//! | `cut_before` | never sees it | its connection ends with what came before it |
//! | `lose_replies` | executes it and what is in flight behind it | no reply from here on, then a reset: an ambiguous acknowledgement |
//! | `cut_in_reply(n)` | executes it | `n` bytes of the reply, then the end; 0 is before, `u64::MAX` right after the reply |
//! | `flip_byte(n)` | executes it | byte `n` of the reply's content (of its first string) is inverted |
//! | `without_line(p)` | executes it | the reply without the lines that begin with `p`: INFO without `run_id` |
//! | `stall_reply` | executes it | nothing more on any connection until [`Road::flow`] |
//!
//! *To a direction*, `proxy.requests()` and `proxy.replies()`, from now and on every connection ([`Road`]): `stall` and
//! `flow`, `latency`, `bandwidth`, `pieces` (every write has n bytes), `cut_after` (once, n bytes from now),
//! `cut_each_after` (every connection, after a random number of bytes), and `calm`.
//!
//! *To connections*: `cut_now`, `down` and `up`, `switch_upstream` (a failover behind one address).
//!
//! *Seen*: how often each command came, connections, bytes, what each rule has done ([`Proxy::fired`]), and, after
//! [`Proxy::record`], every command with its arguments (of RESTORE all but the payload).
//!
//! All random decisions come from the seed that [`Proxy::start`] is given. Requests must be RESP arrays, replies RESP2;
//! subscriptions are not supported.

mod faults;
mod frames;
mod link;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use faults::{Action, Conditions, Rule};
use link::Link;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// RST: what the peer has not read yet may be lost.
    Reset,
    /// FIN, in good order.
    Close,
}

/// One command that came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Upper case.
    pub name: String,
    /// Without the name; of RESTORE the payload is left empty; an argument above 64 KiB is cut there.
    pub args: Vec<Vec<u8>>,
}

/// A proxy on a loopback port, until it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

/// What all connections share.
struct Shared {
    seed: u64,
    upstream: Mutex<SocketAddr>,
    down: AtomicBool,
    closing: AtomicBool,
    links: Mutex<Vec<Weak<Link>>>,
    links_accepted: AtomicU64,
    requests: Direction,
    replies: Direction,
    commands: Mutex<Commands>,
}

/// One direction's conditions, and who waits for them to change.
struct Direction {
    conditions: Mutex<Conditions>,
    changed: Condvar,
    bytes: AtomicU64,
}

/// What is counted, recorded and decided for each command.
#[derive(Default)]
struct Commands {
    rules: Vec<Rule>,
    fired: HashMap<RuleId, u64>,
    rules_made: u64,
    counts: HashMap<String, u64>,
    recording: bool,
    seen: Vec<Seen>,
}

/// Names a rule, to ask later what it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

/// No test can go on once a thread that holds a lock has panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of the proxy has panicked")
}

impl Direction {
    fn new() -> Self {
        Self {
            conditions: Mutex::new(Conditions::default()),
            changed: Condvar::new(),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Proxy {
    /// A proxy in front of the server on loopback port `upstream`.
    pub fn start(upstream: u16, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its own address").port();
        let shared = Arc::new(Shared {
            seed,
            upstream: Mutex::new((Ipv4Addr::LOCALHOST, upstream).into()),
            down: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            links: Mutex::new(Vec::new()),
            links_accepted: AtomicU64::new(0),
            requests: Direction::new(),
            replies: Direction::new(),
            commands: Mutex::new(Commands::default()),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_acceptor));
        Self {
            shared,
            port,
            acceptor: Some(acceptor),
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://…/db` of the proxy, for a server without a password.
    pub fn url(&self, db: u32) -> String {
        super::server::url(self.port, db, None)
    }

    /// Begins a rule about the commands of this name.
    pub fn on(&self, command: &str) -> On<'_> {
        On {
            proxy: self,
            command: command.to_uppercase(),
            key: None,
            skip: 0,
            times: 1,
        }
    }

    /// Begins a rule about the commands that write a key: strings go by SET, what else there is by RESTORE.
    pub fn on_writes(&self) -> On<'_> {
        self.on("RESTORE|SET")
    }

    /// How many commands a rule has been applied to. A test that relies on a fault checks that it happened.
    pub fn fired(&self, rule: RuleId) -> u64 {
        locked(&self.shared.commands)
            .fired
            .get(&rule)
            .copied()
            .unwrap_or(0)
    }

    /// From the client to the server.
    pub fn requests(&self) -> Road<'_> {
        Road {
            direction: &self.shared.requests,
        }
    }

    /// From the server to the client.
    pub fn replies(&self) -> Road<'_> {
        Road {
            direction: &self.shared.replies,
        }
    }

    /// Good weather: no rules, no conditions, up. Open connections stay as they are.
    pub fn clear(&self) {
        locked(&self.shared.commands).rules.clear();
        self.requests().calm();
        self.replies().calm();
        self.up();
    }

    /// Ends every open connection, on both of its sides.
    pub fn cut_now(&self, how: Cut) {
        for link in self.shared.open_links() {
            link.cut(how);
        }
    }

    /// Resets every connection, and each new one as soon as it is made.
    pub fn down(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
        self.cut_now(Cut::Reset);
    }

    /// Ends [`Self::down`].
    pub fn up(&self) {
        self.shared.down.store(false, Ordering::SeqCst);
    }

    /// Resets every connection and leads new ones to another server on loopback.
    pub fn switch_upstream(&self, port: u16) {
        *locked(&self.shared.upstream) = (Ipv4Addr::LOCALHOST, port).into();
        self.cut_now(Cut::Reset);
    }

    /// Keeps every command from now on, for [`Self::commands`]. Costs memory: not for a million keys.
    pub fn record(&self) {
        locked(&self.shared.commands).recording = true;
    }

    /// The commands since [`Self::record`], in the order in which they came.
    pub fn commands(&self) -> Vec<Seen> {
        locked(&self.shared.commands).seen.clone()
    }

    /// How often `command` came by, also when it was answered or cut here.
    pub fn count(&self, command: &str) -> u64 {
        locked(&self.shared.commands)
            .counts
            .get(&command.to_uppercase())
            .copied()
            .unwrap_or(0)
    }

    /// How many connections were made to the proxy.
    pub fn connections(&self) -> u64 {
        self.shared.links_accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is over.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut_now(Cut::Reset);
        self.shared.requests.changed.notify_all();
        self.shared.replies.changed.notify_all();
        if std::thread::panicking() {
            let counts = locked(&self.shared.commands).counts.clone();
            eprintln!(
                "proxy on port {}: seed {}, commands seen {counts:?}",
                self.port, self.shared.seed
            );
        }
    }
}

impl Shared {
    fn open_links(&self) -> Vec<Arc<Link>> {
        let mut links = locked(&self.links);
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let number = shared.links_accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let upstream = *locked(&shared.upstream);
        let server = TcpStream::connect(upstream);
        match server {
            Ok(server) if !shared.down.load(Ordering::SeqCst) => {
                let link = Link::open(number, client, server, shared);
                locked(&shared.links).push(Arc::downgrade(&link));
            }
            // A server that is gone refuses; behind a proxy that shows as a reset.
            _ => link::reset(&client),
        }
    }
}

/// A rule in the making: which commands.
#[must_use = "a rule takes effect with its fault: answer, cut_before, lose_replies, …"]
pub struct On<'a> {
    proxy: &'a Proxy,
    command: String,
    key: Option<Vec<u8>>,
    skip: u64,
    times: u64,
}

impl On<'_> {
    /// Only those whose first argument is `key`.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = Some(key.to_vec());
        self
    }

    /// Lets the next `commands` pass first.
    pub fn skip(mut self, commands: u64) -> Self {
        self.skip = commands;
        self
    }

    /// Applies to so many commands; without this to one.
    pub fn times(mut self, commands: u64) -> Self {
        self.times = commands;
        self
    }

    /// Applies until [`Proxy::clear`].
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Answers with this line, `-OOM command not allowed …` for example, instead of the server.
    pub fn answer(self, line: &str) -> RuleId {
        let reply = format!("{line}\r\n").into_bytes();
        self.add(Action::Answer(reply))
    }

    /// Ends the connection before the command is forwarded.
    pub fn cut_before(self, how: Cut) -> RuleId {
        self.add(Action::CutBefore(how))
    }

    /// Forwards the command and loses its reply and the ones behind it. Resets the connection when as many as
    /// [`Self::times`] says are lost, or none is outstanding.
    pub fn lose_replies(mut self) -> RuleId {
        let replies = std::mem::replace(&mut self.times, 1);
        self.add(Action::LoseReplies(replies))
    }

    /// Ends the connection after `bytes` of the reply; `u64::MAX` for right after all of it.
    pub fn cut_in_reply(self, bytes: u64, how: Cut) -> RuleId {
        self.add(Action::CutInReply(bytes, how))
    }

    /// Inverts byte `offset` of the reply's content, if it has one.
    pub fn flip_byte(self, offset: u64) -> RuleId {
        self.add(Action::FlipByte(offset))
    }

    /// Takes the lines that begin with `prefix` out of a reply of text.
    pub fn without_line(self, prefix: &str) -> RuleId {
        self.add(Action::WithoutLine(prefix.to_owned()))
    }

    /// Holds the command back, and everything behind it in that direction, until [`Road::flow`].
    pub fn hold(self) -> RuleId {
        self.add(Action::Hold)
    }

    /// Holds the reply back, and everything behind it in that direction, until [`Road::flow`].
    pub fn stall_reply(self) -> RuleId {
        self.add(Action::StallReply)
    }

    fn add(self, action: Action) -> RuleId {
        let mut commands = locked(&self.proxy.shared.commands);
        commands.rules_made += 1;
        let id = RuleId(commands.rules_made);
        commands.rules.push(Rule {
            id,
            command: self.command,
            key: self.key,
            skip: self.skip,
            times: self.times,
            action,
        });
        id
    }
}

/// One direction, whose conditions can be changed at any time. They hold for all connections.
pub struct Road<'a> {
    direction: &'a Direction,
}

impl Road<'_> {
    /// Nothing goes through, no connection ends: a black hole.
    pub fn stall(&self) {
        self.change(|conditions| conditions.stalled = true);
    }

    /// Ends [`Self::stall`] and a reply that was stalled.
    pub fn flow(&self) {
        self.change(|conditions| conditions.stalled = false);
    }

    /// Whether it is stalled: a command that a rule holds, or a reply that it stalls, has come so far.
    pub fn is_stalled(&self) -> bool {
        locked(&self.direction.conditions).stalled
    }

    /// Each piece of data arrives `delay` later, give or take a random part of `jitter`. Throughput is not limited by it.
    pub fn latency(&self, delay: Duration, jitter: Duration) {
        self.change(|conditions| (conditions.delay, conditions.jitter) = (delay, jitter));
    }

    /// At most so many bytes a second on each connection.
    pub fn bandwidth(&self, bytes_per_s: u64) {
        self.change(|conditions| conditions.bytes_per_s = Some(bytes_per_s));
    }

    /// Writes at most `bytes` at a time; 1 for a stream of single bytes.
    pub fn pieces(&self, bytes: usize) {
        assert!(bytes > 0, "a piece has at least one byte");
        self.change(|conditions| conditions.piece_bytes = Some(bytes));
    }

    /// Ends the connection on which the next `bytes` bytes of this direction are completed. Happens once.
    pub fn cut_after(&self, bytes: u64, how: Cut) {
        self.change(|conditions| conditions.cut_once = Some((bytes, how)));
    }

    /// Ends every connection, also the ones to come, after a number of bytes drawn from `bytes`.
    pub fn cut_each_after(&self, bytes: Range<u64>, how: Cut) {
        self.change(|conditions| conditions.cut_each = Some((bytes, how)));
    }

    /// No conditions.
    pub fn calm(&self) {
        self.change(|conditions| *conditions = Conditions::default());
    }

    /// Bytes that went through so far.
    pub fn bytes(&self) -> u64 {
        self.direction.bytes.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut locked(&self.direction.conditions));
        self.direction.changed.notify_all();
    }
}
