//! Throw-away servers: loopback only, nothing on disk, gone with the value that started them.
//!
//! # Invariant
//!
//! Whatever way the demonstration ends (done, error, panic, Ctrl-C), dropping [`Server`] and [`Folder`] leaves neither a
//! process nor a file.

use std::fs::{DirBuilder, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::failed;
use crate::cli::exit_code::ExitCode;
use crate::cli::failure::Failure;

/// How long a server may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that is removed with its content.
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder below the system's folder for such things, closed to other users.
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("redknot-demo-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| failed(&format!("make the folder {}", path.display()), &error))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program that serves: its name and version.
pub struct Program {
    name: &'static str,
    /// `Redis 7.0.15`
    pub version: String,
    /// Of Redis, or of the Redis that Valkey descends from.
    major: u32,
}

impl Program {
    /// The first of the known servers that is in the path.
    pub fn find() -> Result<Self, Failure> {
        for name in ["redis-server", "valkey-server"] {
            let Ok(output) = Command::new(name)
                .arg("--version")
                .stdin(Stdio::null())
                .output()
            else {
                continue;
            };
            let text = String::from_utf8_lossy(&output.stdout);
            if let Some(program) = Self::of_version(name, &text) {
                return Ok(program);
            }
        }
        Err(Failure::new(
            ExitCode::Usage,
            "the demonstration needs redis-server, which is not in the path",
            "it starts two servers of its own, so that nothing of yours is touched",
        )
        .hint("apt-get install redis-server, brew install redis, dnf install redis, or https://redis.io/download"))
    }

    /// From `Redis server v=7.0.15 sha=…` or `Valkey server v=8.1.1 sha=…`.
    fn of_version(name: &'static str, text: &str) -> Option<Self> {
        let version = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix("v="))?;
        let product = text.split_whitespace().next()?;
        let major = version.split('.').next()?.parse().ok()?;
        Some(Self {
            name,
            version: format!("{product} {version}"),
            major,
        })
    }
}

/// A running server.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    /// Starts a server on a free port. Returns once it answers.
    pub fn start(program: &Program, folder: &Path, role: &str) -> Result<Self, Failure> {
        // Between looking for a free port and listening on it somebody else may take it.
        let mut last = None;
        for _ in 0..3 {
            match Self::start_once(program, folder, role) {
                Ok(server) => return Ok(server),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.expect("at least one try was made"))
    }

    fn start_once(program: &Program, folder: &Path, role: &str) -> Result<Self, Failure> {
        let doing = format!("start {} as the {role}", program.name);
        let folder = folder.join(role);
        let log_path = folder.join("log");
        let io = |error: std::io::Error| failed(&doing, &error);
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&folder)
            .map_err(io)?;
        let log = File::create(&log_path).map_err(io)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(io)?
            .port();
        let mut command = Command::new(program.name);
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ]);
        command
            .arg("--port")
            .arg(port.to_string())
            .arg("--dir")
            .arg(&folder);
        if program.major >= 7 {
            // Before, DEBUG was open to all.
            command.args(["--enable-debug-command", "local"]);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io)?)
            .stderr(log);
        // Ctrl-C is for us: we end the servers in order.
        command.process_group(0);
        let process = command.spawn().map_err(io)?;
        let mut server = Self { process, port };
        server.wait_until_it_answers().map_err(|why| {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(3).collect();
            failed(
                &doing,
                &format!(
                    "{why}\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                ),
            )
        })?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("it ended at once: {status}"));
            }
            let answer = self
                .connect()
                .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// A connection that does not wait for ever.
    pub fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// As `--from` and `--to` take it.
    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing in it is to be kept, so there is nothing to say goodbye for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_servers_print_them() {
        let redis = Program::of_version(
            "redis-server",
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
        )
        .expect("version");
        assert_eq!((redis.version.as_str(), redis.major), ("Redis 7.0.15", 7));
        let valkey =
            Program::of_version("valkey-server", "Valkey server v=8.1.1 sha=0").expect("version");
        assert_eq!((valkey.version.as_str(), valkey.major), ("Valkey 8.1.1", 8));
        assert!(Program::of_version("redis-server", "no server").is_none());
    }
}
