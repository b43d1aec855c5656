//! What goes to standard error, line by line: with `-v` also what is decided and what is sent; with `--log-format json` each
//! line as an object, whoever says it.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::console::{Console, Paint};

/// How lines on standard error are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs that collect logs.
    Json,
}

/// Begins to log. `REDKNOT_LOG` can choose by module, as `RUST_LOG` does elsewhere.
pub fn start(verbose: u8, console: &Console) {
    let level = match verbose {
        0 => "off",
        1 => "redknot=info",
        2 => "redknot=debug",
        _ => "trace,sled=debug",
    };
    let filter = EnvFilter::try_from_env("REDKNOT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console.err_paint != Paint::PLAIN)
        .with_target(false)
        .log_internal_errors(false);
    // Fails only if a logger is already there, which then stays.
    let _ = match console.log_format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.event_format(Lines).try_init(),
    };
}

/// One line: `ts` (RFC 3339, UTC), `level`, then `fields`.
pub fn line(level: &str, fields: Map<String, Value>) -> String {
    let mut line = Map::new();
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    line.insert("ts".into(), json!(now));
    line.insert("level".into(), json!(level));
    line.extend(fields);
    format!("{}\n", Value::Object(line))
}

/// Writes what is logged as such lines.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match event.metadata().level().as_str() {
            // As it is called where it stands before a line.
            "WARN" => "warning".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        writer.write_str(&line(&level, fields.0))
    }
}

/// The fields of an event; `message` is one of them.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.0.insert(field.name().into(), json!(text));
    }
}
