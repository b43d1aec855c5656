//! Events as lines of JSON, one object a line, for programs.
//!
//! Every line has `v` (version of this form), `t` (RFC 3339, UTC), `migration`, `run` (absent before it is known) and
//! `type`. Fields may be added; readers ignore what they do not know. `docs/json-schema.json` is the contract, and every
//! line that a test provokes is held against it.

use std::time::SystemTime;

use redknot::progress::{Event, Status};
use serde_json::{Map, Value, json};

use super::exit_code::ExitCode;
use super::failure::Failure;

/// Version of the form of these lines.
const VERSION: u32 = 1;

/// What stands on every line.
#[derive(Debug, Clone, Default)]
pub struct Header {
    pub migration: Option<String>,
    pub run: Option<u32>,
}

impl Header {
    /// The line for something that happened.
    pub fn event(&mut self, event: &Event) -> String {
        text(self.fields(event))
    }

    /// What stands on that line.
    pub fn fields(&mut self, event: &Event) -> Map<String, Value> {
        if let Event::Start { run, .. }
        | Event::CompareStart { run, .. }
        | Event::RepairStart { run, .. } = event
        {
            self.run = Some(*run);
        }
        let mut fields = match serde_json::to_value(event) {
            Ok(Value::Object(fields)) => fields,
            _ => unreachable!("an event is an object with strings as keys"),
        };
        match event {
            Event::Progress(status) | Event::Complete(status) => {
                fields.insert("phase".into(), json!("copy"));
                fields.insert("keys_durable".into(), json!(keys_durable(status)));
                fields.insert("bytes".into(), json!(status.counters.payload_bytes_written));
            }
            Event::Quarantined { .. } => {
                fields.insert("type".into(), json!("quarantine"));
            }
            Event::CompareProgress(status) | Event::Compared(status) => {
                fields.insert("phase".into(), json!("compare"));
                fields.insert("findings".into(), json!(status.counters.findings()));
            }
            Event::RepairProgress(_) | Event::Repaired(_) => {
                fields.insert("phase".into(), json!("repair"));
            }
            _ => {}
        }
        self.line(fields)
    }

    /// The line for an end with an error.
    pub fn error(&self, failure: &Failure) -> String {
        let mut line = failure.fields();
        line["type"] = json!("error");
        line["what"] = json!(failure.what);
        self.object(line)
    }

    /// The last line.
    pub fn exit(&self, code: ExitCode) -> String {
        self.object(json!({ "type": "exit", "code": code.number(), "class": code.name() }))
    }

    /// The line for something that only the command line knows of.
    pub fn object(&self, fields: Value) -> String {
        match fields {
            Value::Object(fields) => text(self.line(fields)),
            _ => unreachable!("lines are made of objects"),
        }
    }

    fn line(&self, fields: Map<String, Value>) -> Map<String, Value> {
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = Map::new();
        line.insert("v".into(), json!(VERSION));
        line.insert("t".into(), json!(now));
        if let Some(migration) = &self.migration {
            line.insert("migration".into(), json!(migration));
        }
        if let Some(run) = self.run {
            line.insert("run".into(), json!(run));
        }
        // The status has a version of its own, which must not stand in for the line's.
        for (key, value) in fields {
            line.entry(key).or_insert(value);
        }
        line
    }
}

fn text(line: Map<String, Value>) -> String {
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}

/// Keys that the target acknowledged, which is on disk.
fn keys_durable(status: &Status) -> u64 {
    status.counters.keys_written
}

#[cfg(test)]
mod tests {
    use redknot::endpoint::Side;

    use super::*;
    use crate::cli::testing::status;

    fn parsed(line: &str) -> Value {
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(line).expect("a line is JSON")
    }

    #[test]
    fn every_event_is_one_line_with_the_common_fields() {
        let mut header = Header {
            migration: Some("shop".into()),
            run: None,
        };
        let events = [
            Event::Start {
                run: 3,
                resumed: true,
                last_run: None,
                percent: 61.2,
            },
            Event::Progress(Box::new(status())),
            Event::Retry {
                side: Side::Source,
                cause: "LOADING\n".into(),
                attempt: 1,
                wait_ms: 200,
            },
            Event::Recovered { side: Side::Source },
            Event::Quarantined {
                db: 0,
                key: "a\\nb".into(),
                reason: "version".into(),
            },
            Event::Warning {
                message: "careful".into(),
            },
            Event::Stopping { batches: 6 },
            Event::Complete(Box::new(status())),
        ];
        for event in events {
            let line = parsed(&header.event(&event));
            assert_eq!(line["v"], 1);
            assert_eq!(line["migration"], "shop");
            assert_eq!(line["run"], 3);
            assert!(line["type"].is_string());
            let t = line["t"].as_str().expect("t is text");
            assert!(
                humantime::parse_rfc3339(t).is_ok() && t.ends_with('Z'),
                "{t}"
            );
        }
        let progress = parsed(&header.event(&Event::Progress(Box::new(status()))));
        assert_eq!(progress["phase"], "copy");
        assert_eq!(progress["keys_durable"], 8_911_220);
        assert_eq!(progress["percent"], 71.4);
        assert_eq!(progress["eta_s"], 19.0);
        assert_eq!(progress["retries"], 3);
    }

    #[test]
    fn the_end_is_an_error_and_an_exit() {
        let header = Header::default();
        let failure = Failure::new(ExitCode::TargetUnreachable, "what", "why").hint("hint");
        let error = parsed(&header.error(&failure));
        assert_eq!(
            (&error["type"], &error["code"], &error["class"]),
            (&json!("error"), &json!(11), &json!("target_unreachable"))
        );
        assert!(error.get("migration").is_none());
        let exit = parsed(&header.exit(ExitCode::Interrupt));
        assert_eq!(
            (&exit["type"], &exit["code"]),
            (&json!("exit"), &json!(130))
        );
    }
}
