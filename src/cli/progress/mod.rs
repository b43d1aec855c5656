//! What a run tells, as it is drawn: a bar, plain lines, JSON, or nothing.
//!
//! The data path only puts events into a queue; a thread of its own draws them, because a terminal can be slow, and a
//! pager that nobody scrolls stops entirely.
//!
//! # Invariant
//!
//! The queue is bounded: while nobody reads, progress is left out first, then quarantined keys and findings (which
//! `status` counts and the state keeps), and what was left out is said.

mod bar;
mod lines;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use redknot::progress::{Event, Observer};
use redknot::shutdown::StopReason;

use super::console::Console;
use super::json::Header;
use bar::Bar;
use lines::Lines;

/// Behind so many others, a status would not be news when it is drawn.
const PROGRESS_BACKLOG_MAX: u64 = 16;

/// Above this, even quarantined keys wait for nobody.
const BACKLOG_MAX: u64 = 10_000;

/// The end of the queue that a run speaks into.
#[derive(Debug, Clone)]
pub struct Progress {
    queue: Sender<Message>,
    waiting: Arc<Waiting>,
    left_out: Arc<AtomicU64>,
}

/// How much of the queue has not been drawn.
#[derive(Debug, Default)]
struct Waiting {
    messages: AtomicU64,
    /// Of them; a burst of keys leaves room for them.
    statuses: AtomicU64,
}

/// The thread that draws.
#[derive(Debug)]
pub struct Drawing {
    progress: Progress,
    thread: Option<JoinHandle<Header>>,
    header: Header,
}

#[derive(Debug)]
enum Message {
    Event(Box<Event>),
    Signal(StopReason),
    End,
}

impl Message {
    fn is_status(&self) -> bool {
        matches!(self, Self::Event(event) if is_status(event))
    }
}

/// Whether the next of its kind makes it worthless.
fn is_status(event: &Event) -> bool {
    matches!(
        event,
        Event::Progress(_) | Event::CompareProgress(_) | Event::RepairProgress(_)
    )
}

/// Begins to draw. `header` stands on lines of JSON, `state` names the state's folder in text.
pub fn start(console: Console, header: Header, state: String) -> (Progress, Drawing) {
    let (queue, messages) = channel();
    let progress = Progress {
        queue,
        waiting: Arc::default(),
        left_out: Arc::default(),
    };
    let waiting = Arc::clone(&progress.waiting);
    let sink = Sink::new(console, header.clone(), state);
    let thread = std::thread::Builder::new()
        .name("progress".into())
        .spawn(move || draw(sink, &messages, &waiting));
    let drawing = Drawing {
        progress: progress.clone(),
        // Without a thread nothing is drawn; the migration is not the worse for it.
        thread: thread.ok(),
        header,
    };
    (progress, drawing)
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        let room = match event {
            Event::Quarantined { .. } | Event::Finding { .. } | Event::Repair { .. } => {
                self.waiting.messages.load(Ordering::Relaxed) < BACKLOG_MAX
            }
            _ if is_status(event) => {
                self.waiting.statuses.load(Ordering::Relaxed) < PROGRESS_BACKLOG_MAX
            }
            _ => true,
        };
        if room {
            self.send(Message::Event(Box::new(event.clone())));
        } else if matches!(
            event,
            Event::Quarantined { .. } | Event::Finding { .. } | Event::Repair { .. }
        ) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Progress {
    /// A signal asked for a stop: answered at once, however long the run takes to notice.
    pub fn signal(&self, reason: StopReason) {
        self.send(Message::Signal(reason));
    }

    fn send(&self, message: Message) {
        self.waiting.messages.fetch_add(1, Ordering::Relaxed);
        if message.is_status() {
            self.waiting.statuses.fetch_add(1, Ordering::Relaxed);
        }
        // Fails only if the drawing thread is gone.
        let _ = self.queue.send(message);
    }
}

impl Drawing {
    /// Draws what is still in the queue and ends. Returns the header with what has been learned meanwhile.
    pub fn finish(mut self) -> Header {
        let left_out = self.progress.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            let message = format!(
                "{left_out} quarantined or differing keys are not in this output, because it was not read"
            );
            self.progress.event(&Event::Warning { message });
        }
        self.progress.send(Message::End);
        self.thread
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or(self.header)
    }
}

fn draw(mut sink: Sink, messages: &Receiver<Message>, waiting: &Waiting) -> Header {
    while let Ok(message) = messages.recv() {
        waiting.messages.fetch_sub(1, Ordering::Relaxed);
        if message.is_status() {
            waiting.statuses.fetch_sub(1, Ordering::Relaxed);
        }
        match message {
            Message::Event(event) => sink.event(&event),
            Message::Signal(reason) => sink.signal(reason),
            Message::End => break,
        }
    }
    sink.finish()
}

/// Where the events go.
enum Sink {
    Json(Console, Header),
    Text(Lines, Option<Bar>, Header),
}

impl Sink {
    fn new(console: Console, header: Header, state: String) -> Self {
        if console.json {
            return Self::Json(console, header);
        }
        let bar = (console.animated && !console.quiet).then(|| Bar::new(console.err_paint));
        let name = header.migration.clone().unwrap_or_default();
        Self::Text(Lines::new(console, name, state), bar, header)
    }

    fn event(&mut self, event: &Event) {
        match self {
            Self::Json(console, header) => {
                let line = header.event(event);
                console.out(&line);
            }
            Self::Text(lines, bar, header) => {
                if let Event::Start { run, .. } | Event::CompareStart { run, .. } = event {
                    header.run = Some(*run);
                }
                match (event, bar) {
                    (Event::Progress(status), Some(bar)) => bar.show(status),
                    (Event::CompareProgress(status), Some(bar)) => bar.show_compared(status),
                    (_, Some(bar)) => bar.above(|| lines.event(event)),
                    (_, None) => lines.event(event),
                }
            }
        }
    }

    fn signal(&mut self, reason: StopReason) {
        match self {
            Self::Json(..) => {}
            Self::Text(lines, Some(bar), _) => bar.above(|| lines.signal(reason)),
            Self::Text(lines, None, _) => lines.signal(reason),
        }
    }

    fn finish(self) -> Header {
        match self {
            Self::Json(_, header) => header,
            Self::Text(mut lines, bar, header) => {
                if let Some(bar) = bar {
                    bar.remove();
                }
                lines.finish();
                header
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;

    fn queue() -> (Progress, Receiver<Message>) {
        let (queue, messages) = channel();
        let progress = Progress {
            queue,
            waiting: Arc::default(),
            left_out: Arc::default(),
        };
        (progress, messages)
    }

    #[test]
    fn what_is_not_read_does_not_fill_the_memory() {
        let (progress, messages) = queue();
        for _ in 0..100 {
            progress.event(&Event::Progress(Box::new(status())));
        }
        for _ in 0..2 * BACKLOG_MAX {
            progress.event(&Event::Quarantined {
                db: 0,
                key: "k".into(),
                reason: "r".into(),
            });
        }
        progress.event(&Event::Warning {
            message: "always told".into(),
        });
        let all: Vec<Message> = messages.try_iter().collect();
        assert_eq!(all.len() as u64, BACKLOG_MAX + 1);
        assert_eq!(
            progress.left_out.load(Ordering::Relaxed),
            BACKLOG_MAX + PROGRESS_BACKLOG_MAX
        );
        assert!(
            matches!(all.last(), Some(Message::Event(event)) if matches!(**event, Event::Warning { .. }))
        );
    }

    #[test]
    fn a_burst_of_keys_leaves_room_for_a_status() {
        let (progress, messages) = queue();
        for _ in 0..BACKLOG_MAX {
            progress.event(&Event::Quarantined {
                db: 0,
                key: "k".into(),
                reason: "r".into(),
            });
        }
        progress.event(&Event::Progress(Box::new(status())));
        assert!(
            messages
                .try_iter()
                .last()
                .is_some_and(|last| last.is_status())
        );
    }
}
