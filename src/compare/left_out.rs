//! What a comparison did not look at: equal is said of what was compared, and of nothing else.

use crate::plan::{FieldTtl, Plan};
use crate::progress::CompareCounters;
use crate::state::record::CompareRules;

/// What was not compared, in sentences. `came_later`: which databases have got keys since the plan was made.
pub fn left_out(
    plan: &Plan,
    rules: &CompareRules,
    came_later: Option<&str>,
    counters: &CompareCounters,
) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(sample) = &rules.sample {
        sentences.push(format!(
            "{} keys are not in the sample of {} (seed {})",
            counters.unsampled, sample.asked, sample.seed
        ));
    }
    if rules.one_way {
        sentences.push("keys that only the target has were not looked for (--one-way)".into());
    }
    say_of_names(plan, rules, came_later, counters, &mut sentences);
    if rules.ttl_tolerance_ms.is_none() {
        sentences.push("expiries were not compared, since they were dropped (--ttl drop)".into());
    }
    if plan.field_ttl == FieldTtl::Drop {
        sentences.push(
            "expiries of fields were not compared, since they may have been dropped (--field-ttl drop)".into(),
        );
    }
    if counters.not_compared > 0 {
        sentences.push(format!(
            "{} values can be interpreted only by a module, or by a newer redknot",
            counters.not_compared
        ));
    }
    sentences
}

/// What was not compared because of its name, or of its database.
fn say_of_names(
    plan: &Plan,
    rules: &CompareRules,
    came_later: Option<&str>,
    counters: &CompareCounters,
    sentences: &mut Vec<String>,
) {
    sentences.extend(came_later.map(str::to_owned));
    if plan.keys_from.is_some() {
        sentences.push(
            "keys that are not in the list were not looked for, on neither side (--keys-from)"
                .into(),
        );
    }
    let renamed = plan.prefix.is_some() || plan.db_prefix.is_some();
    if renamed && !rules.one_way && plan.keys_from.is_none() {
        sentences.push(
            "keys of the target that no key of the source can be called like were not looked at (--prefix, --db-prefix)".into(),
        );
    }
    if counters.target_keys_unselected > 0 {
        sentences.push(format!(
            "{} keys of the target have names that the plan does not select",
            counters.target_keys_unselected
        ));
    }
    if counters.collided > 0 {
        sentences.push(format!(
            "{} keys have the name of a key of an earlier database, which went to the same place instead of them",
            counters.collided
        ));
    }
}
