//! A master, its replica, and the sentinels that watch them: real processes, failed over while a test runs.
//!
//! # Invariants
//!
//! - A sentinel dies with the value that stands for it.
//! - What is said to have happened has: [`Service::fail_over`] returns when all sentinels name the other server.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::dataset::{DataSet, fill};
use super::server::{Server, ServerSpec, free_port};
use super::version::Binary;
use super::wait_for;

/// What the sentinels call the service.
pub const SERVICE: &str = "shop";

/// Servers find each other, and sentinels agree, within this.
const DEADLINE: Duration = Duration::from_secs(60);

/// One sentinel.
pub struct Sentinel {
    process: Child,
    port: u16,
    password: Option<String>,
    folder: tempfile::TempDir,
}

impl Sentinel {
    /// A sentinel that watches nothing, or with these lines of configuration.
    pub fn start(binary: &Binary, password: Option<&str>, lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let config = folder.path().join("sentinel.conf");
        let login = password.map_or_else(String::new, |password| {
            format!("requirepass {password}\nsentinel sentinel-pass {password}\n")
        });
        let text = format!("port {port}\nbind 127.0.0.1\n{login}{lines}");
        std::fs::write(&config, text).expect("a file in our own folder");
        let log = std::fs::File::create(log_path(folder.path())).expect("a file in our own folder");
        let process = Command::new(&binary.path)
            .arg(&config)
            .arg("--sentinel")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("the binary that was just found");
        let sentinel = Self {
            process,
            port,
            password: password.map(str::to_owned),
            folder,
        };
        wait_for("the sentinel", DEADLINE, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        sentinel
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`, now.
    pub fn kill_9(&mut self) {
        // Fails only where it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let login = self
            .password
            .as_ref()
            .map_or_else(String::new, |password| format!(":{password}@"));
        let client = redis::Client::open(format!("redis://{login}127.0.0.1:{}", self.port))?;
        let mut command = redis::cmd("SENTINEL");
        for word in words {
            command.arg(word);
        }
        command.query(&mut client.get_connection()?)
    }

    /// The port of the master, as it sees it.
    fn master(&self) -> Option<u16> {
        let address: (String, u16) = self.ask(&["GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()?;
        Some(address.1)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill_9();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(log_path(self.folder.path())).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("log of the sentinel on port {}:\n{tail}", self.port);
        }
    }
}

fn log_path(folder: &Path) -> std::path::PathBuf {
    folder.join("sentinel.log")
}

/// A master, a replica that is in step with it, and their sentinels.
pub struct Service {
    servers: [Server; 2],
    sentinels: Vec<Sentinel>,
}

/// What a service begins with.
pub struct ServiceSpec<'a> {
    /// Of the servers and of the sentinels.
    pub binary: &'a Binary,
    /// How many sentinels.
    pub sentinels: usize,
    /// The servers' password.
    pub password: Option<&'a str>,
    /// The sentinels' own password.
    pub sentinel_password: Option<&'a str>,
    /// What is in database 0 when the sentinels begin to watch.
    pub data: Option<&'a DataSet>,
}

impl<'a> ServiceSpec<'a> {
    /// Without passwords, without data.
    pub fn new(binary: &'a Binary, sentinels: usize) -> Self {
        Self {
            binary,
            sentinels,
            password: None,
            sentinel_password: None,
            data: None,
        }
    }
}

impl Service {
    /// Starts it, and waits until everybody knows everybody.
    pub fn start(spec: &ServiceSpec<'_>) -> Self {
        let server = || {
            let mut server = ServerSpec::new(spec.binary.clone());
            if let Some(password) = spec.password {
                server = server.password(password).config("masterauth", password);
            }
            Server::start(server)
        };
        let servers = [server(), server()];
        if let Some(data) = spec.data {
            fill(&servers[0], 0, data);
        }
        follow(&servers[1], &servers[0]);
        let auth = spec.password.map_or_else(String::new, |password| {
            format!("sentinel auth-pass {SERVICE} {password}\n")
        });
        let lines = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} 1\n{auth}\
             sentinel down-after-milliseconds {SERVICE} 2000\nsentinel failover-timeout {SERVICE} 20000\n",
            port = servers[0].port()
        );
        let sentinels: Vec<Sentinel> = (0..spec.sentinels)
            .map(|_| Sentinel::start(spec.binary, spec.sentinel_password, &lines))
            .collect();
        for sentinel in &sentinels {
            wait_for("the sentinel to find the replica", DEADLINE, || {
                let replicas: Vec<redis::Value> = sentinel.ask(&["SLAVES", SERVICE]).ok()?;
                let others: Vec<redis::Value> = sentinel.ask(&["SENTINELS", SERVICE]).ok()?;
                (replicas.len() == 1 && others.len() + 1 == spec.sentinels).then_some(())
            });
        }
        Self { servers, sentinels }
    }

    /// `redis-sentinel://…/shop`, without passwords.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port()))
            .collect();
        format!("redis-sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// Its sentinels.
    pub fn sentinels(&mut self) -> &mut [Sentinel] {
        &mut self.sentinels
    }

    /// The server that the first sentinel that answers names.
    pub fn master(&self) -> &Server {
        let port = self.sentinels.iter().find_map(Sentinel::master);
        let port = port.expect("a sentinel that knows the master");
        self.servers
            .iter()
            .find(|server| server.port() == port)
            .expect("one of our servers")
    }

    /// The other one.
    pub fn replica(&self) -> &Server {
        let master = self.master().port();
        let mut servers = self.servers.iter();
        servers
            .find(|server| server.port() != master)
            .expect("there are two")
    }

    /// Lets the sentinels make a master of the replica, and waits until they all name it. The old master learns of it some
    /// ten seconds later; until then it goes on to serve.
    pub fn fail_over(&self) {
        let old = self.master().port();
        self.begin_failover();
        self.wait_for_another_master_than(old);
    }

    /// Gives the word for a failover.
    pub fn begin_failover(&self) {
        let asked = &self.sentinels[self.sentinels.len() - 1];
        // Until it has heard enough of the replica it says that there is no good one.
        wait_for("SENTINEL FAILOVER to be taken", DEADLINE, || {
            asked.ask::<()>(&["FAILOVER", SERVICE]).ok()
        });
    }

    /// Waits until all sentinels name another server than the one with this port.
    pub fn wait_for_another_master_than(&self, old: u16) {
        for sentinel in &self.sentinels {
            wait_for("the sentinel to name the new master", DEADLINE, || {
                sentinel.master().filter(|port| *port != old)
            });
        }
    }
}

/// Makes `replica` one of `master`, and waits until it has everything.
pub fn follow(replica: &Server, master: &Server) {
    // By default it waits five seconds for more replicas.
    redis::cmd("CONFIG")
        .arg(&["SET", "repl-diskless-sync-delay", "0"])
        .query::<()>(&mut master.connection())
        .expect("CONFIG SET");
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(master.port())
        .query::<()>(&mut replica.connection())
        .expect("REPLICAOF");
    wait_for("the replica to be in step", DEADLINE, || {
        (is_in_step(replica) && replica.keys(0) == master.keys(0)).then_some(())
    });
}

/// A server whose connections are being ended is not.
fn is_in_step(replica: &Server) -> bool {
    let ask = || -> redis::RedisResult<redis::Value> {
        redis::cmd("ROLE").query(&mut replica.try_connection()?)
    };
    // slave, host, port, state of the link, offset
    match ask() {
        Ok(redis::Value::Array(role)) => {
            matches!(role.get(3), Some(redis::Value::BulkString(state)) if state == b"connected")
        }
        _ => false,
    }
}
