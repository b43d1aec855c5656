//! Reads a run's metrics once a second, as Prometheus would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Where the metrics are.
pub const ADDRESS: &str = "127.0.0.1:19187";

/// Reads until it is dropped or finished.
pub struct Reader {
    end: Sender<()>,
    thread: JoinHandle<u32>,
}

impl Reader {
    /// Begins to read; while nobody listens, it tries again at once.
    pub fn start() -> Self {
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut pages = 0;
            loop {
                let wait = match page() {
                    Some(page) if page.contains("redknot_info") => {
                        pages += 1;
                        Duration::from_secs(1)
                    }
                    _ => Duration::from_millis(20),
                };
                if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return pages;
                }
            }
        });
        Self { end, thread }
    }

    /// Ends, and makes sure that something was read.
    pub fn finish(self) -> Result<()> {
        // Fails only if the thread has panicked, which joining tells.
        let _ = self.end.send(());
        let pages = self.thread.join().unwrap_or_default();
        ensure!(pages > 0, "no metrics were read");
        Ok(())
    }
}

fn page() -> Option<String> {
    let mut stream = TcpStream::connect(ADDRESS).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}
