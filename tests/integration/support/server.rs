//! A real server on a free loopback port, in a folder of its own.
//!
//! # Invariants
//!
//! - A server dies with the value that stands for it, also when the test panics; it is killed by the process id that was
//!   started, never by name.
//! - Nothing is persisted unless a test restarts the server with its data ([`Server::restart`]).
//! - When a test fails, the tail of the server's log is part of the failure.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::certificates::Files;
use super::version::{Binary, Kind};
use super::wait_for;

/// Longest wait until a server answers; generous, because two cores may be busy with a build.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    binary: Binary,
    config: Vec<(String, String)>,
    password: Option<String>,
    tls: bool,
}

impl ServerSpec {
    /// A server without password or persistence.
    pub fn new(binary: Binary) -> Self {
        Self {
            binary,
            config: Vec::new(),
            password: None,
            tls: false,
        }
    }

    /// One line of the server's configuration file, such as `("maxmemory", "10mb")` or `("hash-seed", "fixed")`.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push((name.to_owned(), quoted(value)));
        self
    }

    /// The password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config("requirepass", password)
    }

    /// Its port speaks TLS, with this certificate, and asks clients for one as `clients` says: `no`, `optional`, `yes`.
    /// The test's own connections come through a socket.
    #[must_use]
    pub fn tls(mut self, certificate: &Files, authority: &Path, clients: &str) -> Self {
        self.tls = true;
        let path = |path: &Path| path.display().to_string();
        self.config("tls-cert-file", &path(&certificate.certificate))
            .config("tls-key-file", &path(&certificate.key))
            .config("tls-ca-cert-file", &path(authority))
            .config("tls-auth-clients", clients)
    }

    /// An ACL user, in the words of ACL SETUSER: `user("reader", "on >secret %R~* -@all +scan")`.
    #[must_use]
    pub fn user(mut self, name: &str, rules: &str) -> Self {
        let words: Vec<String> = std::iter::once(name)
            .chain(rules.split(' '))
            .map(quoted)
            .collect();
        self.config.push(("user".to_owned(), words.join(" ")));
        self
    }
}

/// In the quotes of a configuration file, so that any byte is kept.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => write!(quoted, "\\{}", char::from(byte)),
            b' '..=b'~' => write!(quoted, "{}", char::from(byte)),
            _ => write!(quoted, "\\x{byte:02x}"),
        }
        .expect("a String takes everything");
    }
    quoted + "\""
}

/// A running server.
pub struct Server {
    spec: ServerSpec,
    port: u16,
    folder: tempfile::TempDir,
    process: Process,
}

/// A child that is killed with the value that stands for it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// A server of `spec` that answers PING.
    pub fn start(spec: ServerSpec) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("redknot-server-")
            .tempdir()
            .expect("a temporary folder");
        // Between choosing a port and the server's bind, somebody else may take it.
        for _ in 0..20 {
            let port = free_port();
            if let Some(process) = launch(&spec, port, folder.path()) {
                return Self {
                    spec,
                    port,
                    folder,
                    process,
                };
            }
        }
        panic!(
            "{} found no free port:\n{}",
            spec.binary.kind.name,
            log_tail(folder.path())
        );
    }

    /// A server of `binary` with nothing special.
    pub fn plain(binary: &Binary) -> Self {
        Self::start(ServerSpec::new(binary.clone()))
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.spec.binary.kind
    }

    /// Where it listens. Stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens. Stays the same over restarts.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `redis://…/db`, with the password if there is one. Passwords must not need percent-encoding here.
    pub fn url(&self, db: u32) -> String {
        let url = url(self.port, db, self.spec.password.as_deref());
        match self.spec.tls {
            true => url.replace("redis://", "rediss://"),
            false => url,
        }
    }

    /// Its socket in the file system, beside the port.
    pub fn socket(&self) -> PathBuf {
        socket_path(self.folder.path())
    }

    /// Process id of the server; changes with a restart.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// A connection of the `redis` crate to database 0, logged in.
    pub fn connection(&self) -> redis::Connection {
        self.connection_to(0)
    }

    /// A connection of the `redis` crate to database `db`, logged in.
    pub fn connection_to(&self, db: u32) -> redis::Connection {
        let url = match (self.spec.tls, &self.spec.password) {
            (false, _) => self.url(db),
            (true, None) => format!("redis+unix://{}?db={db}", self.socket().display()),
            (true, Some(password)) => format!(
                "redis+unix://{}?db={db}&pass={password}",
                self.socket().display()
            ),
        };
        let client = redis::Client::open(url).expect("a URL that the redis crate accepts");
        client.get_connection().unwrap_or_else(|error| {
            panic!(
                "{} on port {}: {error}\n{}",
                self.kind().name,
                self.port,
                self.log_tail()
            )
        })
    }

    /// A connection to database 0, if the server is there.
    pub fn try_connection(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url(0))?.get_connection()
    }

    /// Whether the process is there and not frozen for good: it has not been killed.
    pub fn is_alive(&self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::test_kill_process(pid).is_ok() && self.try_connection().is_ok()
    }

    /// The fields of one section of INFO.
    pub fn info(&self, section: &str) -> HashMap<String, String> {
        let text: String = redis::cmd("INFO")
            .arg(section)
            .query(&mut self.connection())
            .expect("INFO");
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The process's identity: 40 hexadecimal digits, new with every start.
    pub fn run_id(&self) -> String {
        self.info("server")["run_id"].clone()
    }

    /// The version as its maker counts: valkey calls itself redis 7.2.4 for the sake of old clients.
    pub fn version(&self) -> String {
        let mut info = self.info("server");
        info.remove("valkey_version")
            .or_else(|| info.remove("redis_version"))
            .expect("INFO has a version")
    }

    /// How often the server has executed `command` since it started (or since CONFIG RESETSTAT).
    pub fn calls(&self, command: &str) -> u64 {
        let name = format!("cmdstat_{}", command.to_lowercase());
        let stats = self.info("commandstats");
        let Some(line) = stats.get(&name) else {
            return 0;
        };
        line.split(',')
            .find_map(|field| field.strip_prefix("calls="))
            .and_then(|calls| calls.parse().ok())
            .expect("a cmdstat line has a number of calls")
    }

    /// How many commands that write a key it has executed: strings go by SET, what else there is by RESTORE, and so do the
    /// handshakes' probes.
    pub fn writes(&self) -> u64 {
        self.calls("restore") + self.calls("set")
    }

    /// Number of keys in database `db`.
    pub fn keys(&self, db: u32) -> u64 {
        redis::cmd("DBSIZE")
            .query(&mut self.connection_to(db))
            .expect("DBSIZE")
    }

    /// A key of database `db`, which has some.
    pub fn any_key(&self, db: u32) -> Vec<u8> {
        redis::cmd("RANDOMKEY")
            .query(&mut self.connection_to(db))
            .expect("RANDOMKEY")
    }

    /// Restarts it with its data, as an orderly restart of a machine does: same port, new process, new `run_id`.
    pub fn restart(&mut self) {
        self.shut_down("SAVE");
        self.launch_again();
    }

    /// Restarts it without its data, as a cache without persistence does.
    pub fn restart_empty(&mut self) {
        self.shut_down("NOSAVE");
        // An earlier `restart` may have left one.
        let _ = std::fs::remove_file(self.folder.path().join("dump.rdb"));
        self.launch_again();
    }

    /// Ends it as a crash of its machine does. The port stays its own until [`Self::launch_again`].
    pub fn kill_9(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
    }

    /// Starts it after [`Self::kill_9`] or a shutdown, with the data of its last `restart`, if any.
    pub fn launch_again(&mut self) {
        // The old listener's port may be seen as busy for a moment.
        self.process = wait_for("the server's old port", START_DEADLINE, || {
            launch(&self.spec, self.port, self.folder.path())
        });
    }

    /// Freezes the process, as a paused VM does: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Ends [`Self::pause`].
    pub fn unpause(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        log_tail(self.folder.path())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, signal).expect("a signal to a child");
    }

    fn shut_down(&mut self, how: &str) {
        // The answer to a shutdown that works is a closed connection.
        let answer: redis::RedisResult<()> = redis::cmd("SHUTDOWN")
            .arg(how)
            .query(&mut self.connection());
        if let Err(error) = answer
            && error.kind() != redis::ErrorKind::Io
        {
            panic!("SHUTDOWN {how}: {error}");
        }
        self.process.0.wait().expect("the exit of a child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "log of {} on port {}:\n{}",
                self.kind().name,
                self.port,
                self.log_tail()
            );
        }
    }
}

/// `redis://…/db` for a server or a proxy on a loopback port.
pub fn url(port: u16, db: u32, password: Option<&str>) -> String {
    let login = password.map_or_else(String::new, |password| format!(":{password}@"));
    format!("redis://{login}127.0.0.1:{port}/{db}")
}

/// A port that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its own address").port()
}

/// Starts the process and waits until it answers; `None` if the port is taken.
fn launch(spec: &ServerSpec, port: u16, folder: &Path) -> Option<Process> {
    let config = write_config(spec, port, folder);
    let _ = std::fs::remove_file(log_path(folder));
    let name = spec.binary.kind.name;
    // What is wrong with a configuration is said before there is a log.
    let complaints = || {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_path(folder))
            .expect("a file in our own folder")
    };
    let child = Command::new(&spec.binary.path)
        .arg(config)
        .stdin(Stdio::null())
        .stdout(complaints())
        .stderr(complaints())
        .spawn()
        .unwrap_or_else(|error| panic!("can't start {}: {error}", spec.binary.path.display()));
    let mut process = Process(child);
    let alive = wait_for(&format!("{name} to answer PING"), START_DEADLINE, || {
        if process
            .0
            .try_wait()
            .expect("the state of a child")
            .is_some()
        {
            return Some(false);
        }
        // The log first: on a port that was taken, somebody else would answer.
        let ready = log_tail(folder).contains("Ready to accept connections");
        // A port with TLS is not asked: its log has to do.
        (ready && (spec.tls || answers(port))).then_some(true)
    });
    if alive {
        return Some(process);
    }
    let log = log_tail(folder);
    assert!(
        log.contains("Address already in use"),
        "{name} ended at its start:\n{log}"
    );
    None
}

/// Whether a server on `port` is past loading: anything but an error about loading counts, also "log in first".
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let patience = Some(Duration::from_secs(1));
    let mut answer = [0; 5];
    stream.set_read_timeout(patience).is_ok()
        && stream.write_all(b"*1\r\n$4\r\nPING\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && [*b"+PONG", *b"-NOAU"].contains(&answer)
}

fn write_config(spec: &ServerSpec, port: u16, folder: &Path) -> PathBuf {
    let ports = match spec.tls {
        true => format!("port 0\ntls-port {port}"),
        false => format!("port {port}"),
    };
    let mut text = format!(
        "{ports}\nunixsocket {socket}\nbind 127.0.0.1\ndir {folder}\nlogfile {log}\nsave \"\"\nappendonly no\n\
         daemonize no\nloglevel notice\n",
        socket = socket_path(folder).display(),
        folder = folder.display(),
        log = log_path(folder).display(),
    );
    // Tests ask for DEBUG; before 7.0 it needs no permission.
    if spec.binary.kind.knows_pexpiretime {
        text.push_str("enable-debug-command local\n");
    }
    for (name, value) in &spec.config {
        writeln!(text, "{name} {value}").expect("a String takes everything");
    }
    let path = folder.join("server.conf");
    std::fs::write(&path, text).expect("a file in our own folder");
    path
}

fn socket_path(folder: &Path) -> PathBuf {
    folder.join("server.sock")
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn log_tail(folder: &Path) -> String {
    let log = std::fs::read(log_path(folder)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
