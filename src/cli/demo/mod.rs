//! `redknot demo`: what redknot is for, to be watched.
//!
//! Two throw-away servers, a lively data set, a migration that is killed with SIGKILL half-way, and continued by the
//! same command; then every key is compared. Exit code 0 only if all are equal.

mod check;
mod dataset;
mod servers;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redknot::shutdown::{self, Shutdown, StopReason};
use redknot::state::status;
use serde_json::json;

use super::args::DemoArgs;
use super::console::Console;
use super::exit_code::{self, ExitCode};
use super::failure::Failure;
use super::times::Times;
use super::{format, signals};
use check::{Expiries, Findings};
use servers::{Folder, Program, Server};

/// The name of the demonstration's migration.
const NAME: &str = "demo";

/// How much is copied when the process is killed.
const KILL_AT_PERCENT: f64 = 50.0;

/// Keys a batch. Smaller than what one would use, so that there is time to look on: two servers on one machine would
/// be done with the usual ones before the kill has hit.
const BATCH_KEYS: &str = "10";

/// How often is looked whether it is time.
const POLL: Duration = Duration::from_millis(5);

/// How long each run may take at most.
const RUN_MAX: Duration = Duration::from_secs(300);

/// Why the demonstration ends before its end.
enum End {
    Stopped(StopReason),
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<redis::RedisError> for End {
    fn from(error: redis::RedisError) -> Self {
        Self::Failed(failed("speak to a server of the demonstration", &error))
    }
}

/// Trouble that is none of the user's making.
fn failed(doing: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ExitCode::Internal,
        format!("demo: failed to {doing}"),
        why.to_string(),
    )
}

/// Shows it.
///
/// # Errors
///
/// If there is no redis-server, or something did not go as promised.
pub fn run(args: &DemoArgs, console: &Console) -> Result<ExitCode, Failure> {
    let program = Program::find()?;
    let (trigger, shutdown) = shutdown::channel();
    // Everything ends at the first signal, and quickly. A second one may not cut that short, or the servers would stay.
    let (leave, _) = std::sync::mpsc::channel();
    signals::watch(trigger, Times::unlimited(), leave, |_| {})
        .map_err(|error| failed("watch for signals", &error))?;
    let folder = Folder::new()?;
    let demo = Demo {
        console,
        shutdown,
        folder: &folder,
        keys: args.keys,
    };
    match demo.play(&program) {
        Ok(code) => Ok(code),
        Err(End::Failed(failure)) => Err(failure),
        Err(End::Stopped(reason)) => {
            console.say("  stopped; the servers are gone\n");
            Ok(exit_code::of_stop(reason))
        }
    }
}

struct Demo<'a> {
    console: &'a Console,
    shutdown: Shutdown,
    folder: &'a Folder,
    keys: u32,
}

impl Demo<'_> {
    fn play(&self, program: &Program) -> Result<ExitCode, End> {
        let began = Instant::now();
        self.tell("A migration that is killed half-way, and finishes anyway.");

        self.heading(1, "Two throw-away servers, and a lively data set");
        let source = Server::start(program, self.folder.path(), "source")?;
        let target = Server::start(program, self.folder.path(), "target")?;
        self.fill(program, &source, &target)?;

        let arguments = self.arguments(&source, &target);
        self.heading(2, "Migrate, and kill -9 the process half-way");
        self.show_command(&arguments);
        self.run_and_kill(&arguments, &target)?;

        self.heading(3, "What is known now, from disk");
        let state_dir = self.state_dir();
        let status = ["status", NAME, "--state-dir"].map(OsStr::new);
        let status = [&status[..], &[state_dir.as_os_str()]].concat();
        self.show_command(&["status".into(), NAME.into()]);
        self.run_to_its_end(&status)?;

        self.heading(4, "The same command again");
        self.show_command(&arguments);
        let resumed = Instant::now();
        let words: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        self.run_to_its_end(&words)?;
        let resumed = resumed.elapsed();

        self.heading(
            5,
            "Is everything there? Every key of both servers, by value and expiry",
        );
        let mut connection = target.connect()?;
        let restores = check::restores(&mut connection)?;
        let expiries = self.expiries(&mut connection)?;
        let findings = check::compare(
            &mut source.connect()?,
            &mut connection,
            expiries,
            |compared| {
                self.show_passing(&format!("  {} keys", format::count(compared)));
                self.stop().is_ok()
            },
        )?;
        self.show_passing("");
        self.stop()?;
        let status = status::read(&self.state_dir(), NAME)
            .map_err(|error| failed("read the status", &error))?;
        // Every key that is accounted for as written was sent once; what was sent beyond that was sent again.
        let again = restores.saturating_sub(status.status.counters.keys_written);
        Ok(self.verdict(&findings, again, resumed, began.elapsed()))
    }

    fn fill(&self, program: &Program, source: &Server, target: &Server) -> Result<(), End> {
        let began = Instant::now();
        self.tell(&format!(
            "  {}, source on port {}, target on port {}, nothing on disk",
            program.version, source.port, target.port
        ));
        let mut connection = source.connect()?;
        dataset::fill(&mut connection, self.keys, || self.stop().is_err())?;
        self.stop()?;
        let types = check::types(&mut connection)?;
        let types: Vec<String> = types
            .into_iter()
            .map(|(name, keys)| format!("{} {name}", format::count(keys)))
            .collect();
        self.tell(&format!(
            "  {} keys in {}: {}",
            format::count(self.keys.into()),
            format::seconds(began.elapsed().as_secs_f64()),
            types.join(", ")
        ));
        self.tell("  a third of them with an expiry, some with seconds to live, names with zero bytes and newlines");
        Ok(())
    }

    /// The command line of the migration.
    fn arguments(&self, source: &Server, target: &Server) -> Vec<String> {
        let words = [
            "migrate",
            "--from",
            &source.address(),
            "--to",
            &target.address(),
            "--name",
            NAME,
            "--batch",
            BATCH_KEYS,
        ];
        let mut words: Vec<String> = words.into_iter().map(String::from).collect();
        words.push("--state-dir".into());
        words.push(self.state_dir().display().to_string());
        words
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.path().join("migrations-state")
    }

    fn run_and_kill(&self, arguments: &[String], target: &Server) -> Result<(), End> {
        let words: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let mut child = self.start(&words)?;
        let mut connection = target.connect()?;
        let deadline = Instant::now() + RUN_MAX;
        loop {
            self.stop()?;
            if let Some(status) = child.ended()? {
                let why = format!("it ended before it could be killed: {status}");
                return Err(failed("run the migration half-way", &why).into());
            }
            let arrived: u64 = redis::cmd("DBSIZE").query(&mut connection)?;
            let durable =
                status::read(&self.state_dir(), NAME).map_or(0.0, |file| file.status.percent);
            // The status is written once a second; on a fast machine the target knows earlier.
            let arrived = arrived as f64 * 100.0 / f64::from(self.keys);
            if durable >= KILL_AT_PERCENT || arrived >= KILL_AT_PERCENT + 10.0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(failed("run the migration half-way", &"it takes too long").into());
            }
            std::thread::sleep(POLL);
        }
        child.kill();
        let arrived: u64 = redis::cmd("DBSIZE").query(&mut connection)?;
        let killed = self.console.out_paint.red("killed with SIGKILL");
        self.tell(&format!(
            "\n  {killed}; {} of {} keys are on the target",
            format::count(arrived),
            format::count(self.keys.into())
        ));
        Ok(())
    }

    /// Runs the program itself, and expects success.
    fn run_to_its_end(&self, words: &[&OsStr]) -> Result<(), End> {
        let mut child = self.start(words)?;
        let deadline = Instant::now() + RUN_MAX;
        loop {
            self.stop()?;
            match child.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(failed("run redknot", &status).into()),
                None if Instant::now() > deadline => {
                    return Err(failed("run redknot", &"it takes too long").into());
                }
                None => std::thread::sleep(POLL),
            }
        }
    }

    fn start(&self, words: &[&OsStr]) -> Result<Run, Failure> {
        let program =
            std::env::current_exe().map_err(|error| failed("find this program", &error))?;
        let mut command = Command::new(program);
        // What the user has set for real migrations is not meant for this one.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REDKNOT_"))
        {
            command.env_remove(name);
        }
        command.args(words).stdin(Stdio::null()).process_group(0);
        if self.console.quiet || self.console.json {
            command.arg("--quiet").stdout(Stdio::null());
        }
        let child = command
            .spawn()
            .map_err(|error| failed("start this program", &error))?;
        Ok(Run(child))
    }

    /// Servers before 7.0 do not name the instant of an expiry.
    fn expiries(&self, connection: &mut redis::Connection) -> Result<Expiries, End> {
        let known: redis::RedisResult<i64> = redis::cmd("PEXPIRETIME").arg("").query(connection);
        Ok(if known.is_ok() {
            Expiries::Absolute
        } else {
            Expiries::Relative
        })
    }

    fn verdict(
        &self,
        findings: &Findings,
        again: u64,
        resumed: Duration,
        all: Duration,
    ) -> ExitCode {
        let equal = findings.differing == 0 && findings.compared > 0;
        let paint = self.console.out_paint;
        let differing = format!("{} differ", format::count(findings.differing));
        self.tell(&format!(
            "  keys compared       {:>11}",
            format::count(findings.compared)
        ));
        self.tell(&format!(
            "  with an expiry      {:>11}   the same to the millisecond",
            format::count(findings.with_expiry)
        ));
        self.tell(&format!(
            "  expired meanwhile   {:>11}   on both sides",
            format::count(findings.expired)
        ));
        self.tell(&format!(
            "  written again       {:>11}   what was in flight when the process was killed",
            format::count(again)
        ));
        self.tell(&format!(
            "  {}",
            if equal {
                paint.green(&format!("{differing}, none is missing, none is too many"))
            } else {
                paint.red(&differing)
            }
        ));
        for key in &findings.shown {
            self.tell(&format!("    \"{}\"", redknot::key::Escaped(key)));
        }
        self.tell(&format!(
            "\nDone in {}; the second run took {}. Try next:\n
  redknot migrate --from OLD:6379 --to NEW:6379     kill it, and run it again
  redknot status                                    from another terminal
  redknot help guarantees                           what is promised, and what is not",
            format::seconds(all.as_secs_f64()),
            format::seconds(resumed.as_secs_f64()),
        ));
        if self.console.json {
            let figures = json!({
                "type": "demo", "equal": equal, "keys_compared": findings.compared, "keys_differing": findings.differing,
                "keys_expired": findings.expired, "keys_with_expiry": findings.with_expiry, "keys_written_again": again,
            });
            self.console.out(&format!("{figures}\n"));
        }
        if equal {
            ExitCode::Done
        } else {
            ExitCode::Attention
        }
    }

    fn stop(&self) -> Result<(), End> {
        self.shutdown
            .requested()
            .map_or(Ok(()), |reason| Err(End::Stopped(reason)))
    }

    fn heading(&self, number: u32, text: &str) {
        self.tell(&format!(
            "\n{}",
            self.console.out_paint.bold(&format!("{number}. {text}"))
        ));
    }

    fn show_command(&self, words: &[String]) {
        // Where the state of the demonstration lies matters to nobody.
        let words = words
            .iter()
            .take_while(|word| *word != "--state-dir")
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        self.tell(&self.console.out_paint.cyan(&format!("  $ redknot {words}")));
    }

    /// Shows a line that the next one replaces, where that is possible.
    fn show_passing(&self, text: &str) {
        if self.console.redraws_output && !self.console.quiet && !self.console.json {
            self.console.out(&format!("\r\x1b[2K{text}"));
        }
    }

    fn tell(&self, text: &str) {
        if !self.console.quiet && !self.console.json {
            self.console.out(&format!("{text}\n"));
        }
    }
}

/// A process of this program, killed when it is not needed any more.
struct Run(Child);

impl Run {
    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, Failure> {
        self.0
            .try_wait()
            .map_err(|error| failed("wait for redknot", &error))
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill();
    }
}
