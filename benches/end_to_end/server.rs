//! A throw-away redis-server of our own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::certificates::Files;
use crate::connection::Connection;

/// How long a server may take to answer its first PING.
const START_MAX: Duration = Duration::from_secs(20);

/// Runs on loopback, keeps nothing on disk, and is killed when dropped.
pub struct Server {
    pub port: u16,
    /// Where it speaks TLS, if it was given a certificate.
    pub tls_port: u16,
    /// Where the nodes of a cluster speak to each other.
    pub bus_port: u16,
    child: Child,
    control: Connection,
}

/// What a server holds, so that a copy of less than everything is noticed.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    pub keys: String,
    pub digest: String,
}

/// With what a server speaks TLS, and who has signed it.
pub struct Certificate {
    pub files: Files,
    pub authority: PathBuf,
}

/// The binary that is measured: `$REDKNOT_REDIS_SERVER`, or `redis-server` of the path.
fn binary() -> String {
    std::env::var("REDKNOT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// What the binary calls itself, such as `Redis server v=7.0.15`.
pub fn version() -> Result<String> {
    let output = Command::new(binary())
        .arg("--version")
        .output()
        .with_context(|| {
            format!(
                "failed to run {}: install redis-server, or set REDKNOT_REDIS_SERVER",
                binary()
            )
        })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .split(" sha=")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned())
}

/// Whether the binary is built with TLS: it then ends because of the folder, and not because of the setting.
pub fn knows_tls() -> Result<bool> {
    let output = Command::new(binary())
        .args(["--tls-port", "1", "--dir", "/nonexistent/folder"])
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).contains("/nonexistent/folder"))
}

impl Server {
    /// Where it is, as redknot is told.
    pub fn url(&self, tls: bool) -> String {
        match tls {
            true => format!("rediss://127.0.0.1:{}", self.tls_port),
            false => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Starts a server whose files are in `folder`; with a certificate it has a second port, for TLS.
    pub fn start(folder: &Path, certificate: Option<&Certificate>) -> Result<Self> {
        Self::start_as(folder, certificate, false)
    }

    /// Starts a node of a cluster, which knows no other yet.
    pub fn start_node(folder: &Path) -> Result<Self> {
        Self::start_as(folder, None, true)
    }

    fn start_as(folder: &Path, certificate: Option<&Certificate>, is_node: bool) -> Result<Self> {
        // All at once, so that they differ.
        let ports = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let mut numbers = [0; 3];
        for (number, listener) in numbers.iter_mut().zip(&ports) {
            *number = listener.local_addr()?.port();
        }
        let [port, tls_port, bus_port] = numbers;
        drop(ports);
        let log = folder.join(format!("{port}.log"));
        let mut command = Command::new(binary());
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(folder)
            .arg("--logfile")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if is_node {
            command
                .args(["--cluster-enabled", "yes"])
                .args(["--cluster-port", &bus_port.to_string()])
                .args(["--cluster-config-file", &format!("nodes-{port}.conf")]);
        }
        if let Some(Certificate { files, authority }) = certificate {
            command
                .args(["--tls-port", &tls_port.to_string()])
                .arg("--tls-cert-file")
                .arg(&files.certificate)
                .arg("--tls-key-file")
                .arg(&files.key)
                .arg("--tls-ca-cert-file")
                .arg(authority)
                .args(["--tls-auth-clients", "no"]);
        }
        // Before 7.0 DEBUG is always there, and the setting is unknown.
        if !["v=2.", "v=3.", "v=4.", "v=5.", "v=6."]
            .iter()
            .any(|old| version().is_ok_and(|version| version.contains(old)))
        {
            command.args(["--enable-debug-command", "local"]);
        }
        let mut child = command.spawn().context("failed to start a server")?;
        let deadline = Instant::now() + START_MAX;
        let control = loop {
            let answered = Connection::open(port)
                .and_then(|mut control| control.ask(&["PING"]).map(|_| control));
            match answered {
                Ok(control) => break control,
                Err(error) => {
                    let died = child.try_wait()?.is_some();
                    if died || Instant::now() > deadline {
                        // Nothing else ends it, since there is no `Server` yet.
                        let _ = child.kill();
                        let _ = child.wait();
                        let said = std::fs::read_to_string(&log).unwrap_or_default();
                        bail!("a server did not start: {error:#}\n{said}");
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        };
        Ok(Self {
            port,
            tls_port,
            bus_port,
            child,
            control,
        })
    }

    /// CPU seconds of all its threads so far, in microseconds' precision.
    pub fn cpu_seconds(&mut self) -> Result<f64> {
        let info = self.control.ask(&["INFO", "cpu"])?;
        let of = |name: &str| -> Result<f64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            Ok(line
                .with_context(|| format!("INFO has no {name}"))?
                .parse()?)
        };
        Ok(of("used_cpu_sys:")? + of("used_cpu_user:")?)
    }

    /// Sends one command.
    pub fn ask(&mut self, command: &[&str]) -> Result<String> {
        self.control.ask(command)
    }

    pub fn empty(&mut self) -> Result<()> {
        self.control.ask(&["FLUSHALL"]).map(|_| ())
    }

    pub fn keys(&mut self) -> Result<String> {
        self.control.ask(&["DBSIZE"])
    }

    /// Counts and digests everything; takes seconds for a million keys.
    pub fn content(&mut self) -> Result<Content> {
        Ok(Content {
            keys: self.keys()?,
            digest: self.control.ask(&["DEBUG", "DIGEST"])?,
        })
    }

    /// Whether it has `command`.
    pub fn knows(&mut self, command: &str) -> bool {
        self.control
            .ask(&[command, "a-key-that-is-not-there"])
            .is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
