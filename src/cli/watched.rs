//! What every command that works on servers has around its work: the one who draws, those who are told beside, and the
//! signals that ask for a stop.

use std::path::Path;
use std::rc::Rc;

use redknot::config::limits;
use redknot::progress::{Event, Observer};
use redknot::shutdown::{self, Shutdown};

use super::Exit;
use super::args::{TimesArgs, WatchArgs};
use super::console::Console;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::hooks::{self, Hooks};
use super::json::Header;
use super::metrics::Metrics;
use super::progress::{self, Drawing, Progress};
use super::signals;
use super::times::Times;

/// Work that is watched.
pub struct Watched {
    /// To be told of all that happens.
    pub observer: Rc<dyn Observer>,
    /// Asks the work to stop.
    pub shutdown: Shutdown,
    audience: Rc<Audience>,
    drawing: Drawing,
}

/// All who listen.
struct Audience {
    progress: Progress,
    metrics: Option<Metrics>,
    hooks: Option<Hooks>,
}

impl Observer for Audience {
    fn event(&self, event: &Event) {
        if let Some(metrics) = &self.metrics {
            metrics.event(event);
        }
        if let Some(hooks) = &self.hooks {
            hooks.event(event);
        }
        self.progress.event(event);
    }
}

impl Watched {
    /// Begins to watch work on the migration `name` with its state in `folder`.
    ///
    /// # Errors
    ///
    /// If it may not work now, somebody that `args` want to be told can't be, or the system has nothing left for it.
    pub fn begin(
        times: &TimesArgs,
        args: &WatchArgs,
        name: &str,
        folder: &Path,
        console: &Console,
        exit: &Exit,
    ) -> Result<Self, Failure> {
        let times = Times::begin(times)?;
        let header = Header {
            migration: Some(name.to_owned()),
            run: None,
        };
        let metrics = args
            .metrics
            .map(|address| Metrics::serve(address, name, console));
        let metrics = metrics.transpose()?;
        let (progress, drawing) =
            progress::start(*console, header.clone(), folder.display().to_string());
        let hook = |path| {
            let mut variables = vec![("state", folder.display().to_string())];
            variables.extend(metrics.iter().map(|metrics| ("metrics", metrics.url())));
            let setting = hooks::Setting {
                path,
                timeout: args.hook_timeout.unwrap_or(limits::HOOK_TIMEOUT_DEFAULT),
                stall_after: args.stall_after.unwrap_or(limits::STALL_AFTER_DEFAULT),
                variables,
            };
            let warned = progress.clone();
            let warn = move |message| warned.event(&Event::Warning { message });
            Hooks::start(setting, header, warn)
        };
        let hooks = args.hook.clone().map(hook).transpose()?;
        let (trigger, shutdown) = shutdown::channel();
        let on_signal = progress.clone();
        let watched = signals::watch(trigger, times, exit.leave(), move |reason| {
            on_signal.signal(reason)
        });
        watched.map_err(|error| {
            let failure = Failure::new(
                ExitCode::Usage,
                "signals can't be watched",
                error.to_string(),
            );
            failure.hint("is `ulimit -u` or `ulimit -n` too low?")
        })?;
        let audience = Rc::new(Audience {
            progress,
            metrics,
            hooks,
        });
        Ok(Self {
            observer: Rc::clone(&audience) as Rc<dyn Observer>,
            shutdown,
            audience,
            drawing,
        })
    }

    /// The work is done: waits until all have been told, and knows from then on what stands on the last lines of JSON.
    pub fn end(self, exit: &Exit) {
        if let Some(hooks) = &self.audience.hooks {
            hooks.finish();
        }
        exit.set_header(self.drawing.finish());
    }
}
