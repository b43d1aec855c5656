//! What a run was told.

use crate::audit::entry::{self, Origin};
use crate::audit::report::model::{CommandSettings, Redaction, Setting};
use crate::audit::report::redact;
use crate::key::visible;
use crate::plan::Plan;

/// What the newest run was told; what the plan says, where nobody recorded that.
pub(super) fn settings(told: &[entry::Setting], plan: &Plan, redaction: Redaction) -> Vec<Setting> {
    if told.is_empty() {
        return planned(plan, redaction);
    }
    shown(told, plan, redaction)
}

/// What the newest run of each other command was told.
pub(super) fn of_others(
    others: &[(String, Vec<entry::Setting>)],
    plan: &Plan,
    redaction: Redaction,
) -> Vec<CommandSettings> {
    let others = others.iter().map(|(command, told)| CommandSettings {
        command: command.clone(),
        settings: shown(told, plan, redaction),
    });
    others.collect()
}

fn shown(told: &[entry::Setting], plan: &Plan, redaction: Redaction) -> Vec<Setting> {
    let told = told.iter().map(|setting| {
        let value = match (setting.name.as_str(), &plan.match_glob) {
            ("match", Some(glob)) => redact::pattern(redaction, glob),
            _ => redact::message(redaction, &setting.value),
        };
        Setting {
            name: format!("--{}", visible(&setting.name)),
            value,
            origin: setting.origin,
        }
    });
    told.collect()
}

/// What the plan says, as the operator would have said it.
fn planned(plan: &Plan, redaction: Redaction) -> Vec<Setting> {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let databases = plan.lanes.iter().map(|lane| lane.source_db.to_string());
    let types = plan.types.iter().map(|kind| kind.name().to_owned());
    let glob = plan.match_glob.as_ref();
    let all = [
        ("--from", visible(&plan.source)),
        ("--to", visible(&plan.target)),
        ("--db", databases.collect::<Vec<_>>().join(",")),
        (
            "--match",
            glob.map_or_else(String::new, |glob| redact::pattern(redaction, glob)),
        ),
        ("--type", types.collect::<Vec<_>>().join(",")),
        ("--on-conflict", word(serde_json::json!(plan.on_conflict))),
        ("--ttl", word(serde_json::json!(plan.ttl))),
        ("--field-ttl", word(serde_json::json!(plan.field_ttl))),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Setting {
            name: name.to_owned(),
            value,
            origin: Origin::Unknown,
        })
        .collect()
}
