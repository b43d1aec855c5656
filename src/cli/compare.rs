//! `redknot compare`: runs the comparison, tells what it found.

use std::path::Path;
use std::rc::Rc;

use redknot::compare::{self, CompareEnd, CompareOptions, CompareWith, FoundKey, Request};
use redknot::config::limits;
use redknot::copy;
use redknot::error::Error;
use redknot::plan::{OnConflict, Plan};
use redknot::progress::{CompareStatus, Verdict};
use redknot::state::{self, Durability, status};

use super::args::{Common, CompareArgs, MigrateArgs};
use super::console::{Console, Paint};
use super::exit_code::{self, ExitCode};
use super::failure::Failure;
use super::origins::Told;
use super::settings::{self, OnCommandLine};
use super::stored::{self, Logins};
use super::watched::Watched;
use super::{Exit, audit, format, names};

/// Compares what the flags say until every key has its verdict.
///
/// # Errors
///
/// What can't be understood, and what ended the run.
pub fn run(
    args: &CompareArgs,
    told: &Told<'_>,
    visible: OnCommandLine,
    common: &Common,
    console: &Console,
    exit: &Exit,
) -> Result<ExitCode, Failure> {
    let mut request = request(args, visible, common, console)?;
    request.settings = told.settings(&request.source, &request.target);
    let folder = request.state_dir.join(&request.name);
    let watched = Watched::begin(
        &args.times,
        &args.watch,
        &request.name,
        &folder,
        console,
        exit,
    )?;
    let (observer, shutdown) = (Rc::clone(&watched.observer), watched.shutdown.clone());
    let (name, state_dir) = (request.name.clone(), request.state_dir.clone());
    let end = compare::run(request, observer, shutdown);
    watched.end(exit);
    if matches!(end, Ok(CompareEnd::Compared { .. })) {
        audit::report::after(&state_dir, &name, console);
    }
    tell(end, &name, console)
}

/// Says how a comparison ended, and gives its exit code.
///
/// # Errors
///
/// What ended it.
pub fn tell(
    end: Result<CompareEnd, Error>,
    name: &str,
    console: &Console,
) -> Result<ExitCode, Failure> {
    match end? {
        CompareEnd::Compared { status, findings } => {
            let paint = if console.json {
                console.err_paint
            } else {
                console.out_paint
            };
            say(console, &compared(&status, &findings, name, paint));
            Ok(match status.counters.findings() {
                0 => ExitCode::Done,
                _ => ExitCode::Attention,
            })
        }
        CompareEnd::Stopped { reason, status } => {
            let code = exit_code::of_stop(reason);
            say(
                console,
                &format!(
                    "  stopped at {}, {} keys compared\n  checkpoint saved. Run the same command to continue.{:>24} {}\n",
                    format::percent(status.percent),
                    format::count(status.counters.keys_compared),
                    "exit",
                    code.number(),
                ),
            );
            Ok(code)
        }
    }
}

/// The summary is a result; but with `--json` standard output belongs to the events.
fn say(console: &Console, text: &str) {
    if console.json {
        console.say(text);
    } else if !console.quiet {
        // A reader that has gone needs no summary.
        let _ = console.out(text);
    }
}

// ---- what is to be compared

fn request(
    args: &CompareArgs,
    visible: OnCommandLine,
    common: &Common,
    console: &Console,
) -> Result<Request, Failure> {
    let dir = common.state_dir();
    let options = options(args);
    if args.recorded && args.sample.is_some() {
        return Err(Failure::usage(
            "--recorded and --sample contradict each other",
            "what was recorded is compared as a whole",
            "leave one of them away",
        ));
    }
    let by_servers = args.name.is_none() && (args.from.is_some() || args.to.is_some());
    if by_servers {
        let asked = settings::request(of_servers(args), visible, common, console)?;
        let (name, plan) = named(&dir, asked.plan)?;
        return Ok(Request {
            plan,
            source: asked.source,
            target: asked.target,
            options,
            name,
            state_dir: dir,
            restart: args.restart,
            recorded: args.recorded,
            new_list: asked.new_list,
            settings: Vec::new(),
        });
    }
    let name = names::one(&dir, args.name.as_deref(), "compare")?;
    let filters = [
        (!args.db.is_empty(), "--db"),
        (args.match_glob.is_some(), "--match"),
        (!args.types.is_empty(), "--type"),
        (args.ttl.is_some(), "--ttl"),
        (args.source.from_db.is_some(), "--from-db"),
        (args.target.to_db.is_some(), "--to-db"),
    ];
    let filters = filters.into_iter().find(|(given, _)| *given);
    let given = filters.map(|(_, flag)| flag);
    if let Some(flag) = given.or_else(|| args.selection.first_given()) {
        return Err(Failure::usage(
            format!("{flag} and the name of a migration contradict each other"),
            format!("the plan of {name} says which keys are compared"),
            "leave one of them away; two servers without a name are compared as the flags say",
        ));
    }
    let plan = state::plan_of(&dir, &name).map_err(Error::from)?;
    let logins = Logins {
        name: &name,
        from: args.from.as_deref(),
        to: args.to.as_deref(),
        source: &args.source,
        target: &args.target,
        visible,
        require_tls: args.require_tls,
    };
    let (source, target) = stored::endpoints(&plan, &logins, common, console)?;
    Ok(Request {
        plan,
        source,
        target,
        options,
        name,
        state_dir: dir,
        restart: args.restart,
        recorded: args.recorded,
        new_list: None,
        settings: Vec::new(),
    })
}

/// The comparison that follows a migration.
pub fn of_migration(migration: &copy::Request, name: &str) -> Request {
    Request {
        plan: migration.plan.clone(),
        source: migration.source.clone(),
        target: migration.target.clone(),
        options: CompareOptions {
            batch_keys: migration.options.batch_keys,
            limits: migration.options.limits,
            in_flight_bytes_max: migration.options.in_flight_bytes_max,
            big_key: migration.options.big_key,
            max_unavailable: migration.options.max_unavailable,
            timeout: migration.options.timeout,
            durability: migration.options.durability,
            ..options(&CompareArgs::default())
        },
        name: name.to_owned(),
        state_dir: migration.state_dir.clone(),
        restart: false,
        recorded: false,
        new_list: None,
        settings: Vec::new(),
    }
}

/// The servers and filters, as `migrate` would be given them.
fn of_servers(args: &CompareArgs) -> MigrateArgs {
    MigrateArgs {
        from: args.from.clone(),
        to: args.to.clone(),
        source: args.source.clone(),
        target: args.target.clone(),
        db: args.db.clone(),
        match_glob: args.match_glob.clone(),
        types: args.types.clone(),
        ttl: args.ttl,
        selection: args.selection.clone(),
        ..MigrateArgs::default()
    }
}

fn options(args: &CompareArgs) -> CompareOptions {
    CompareOptions {
        one_way: args.one_way,
        sample: args.sample,
        seed: args.seed.unwrap_or(0),
        settle: args.settle.unwrap_or(limits::SETTLE_DEFAULT),
        ttl_tolerance: args.ttl_tolerance.unwrap_or(limits::TTL_TOLERANCE_DEFAULT),
        compare_with: args.compare_with.unwrap_or(CompareWith::Auto),
        batch_keys: args.batch.unwrap_or(limits::BATCH_KEYS_DEFAULT),
        limits: settings::given_limits(args.rate, args.bandwidth, args.max_latency),
        in_flight_bytes_max: args.max_memory.unwrap_or(limits::IN_FLIGHT_BYTES_DEFAULT),
        max_unavailable: args
            .max_unavailable
            .unwrap_or(limits::MAX_UNAVAILABLE_DEFAULT),
        timeout: args.timeout.unwrap_or(limits::TIMEOUT_DEFAULT),
        big_key: Some(args.big_key.unwrap_or(limits::BIG_KEY_DEFAULT)).filter(|bytes| *bytes > 0),
        durability: args.durability.unwrap_or(Durability::Fsync),
    }
}

/// The migration between these servers, if there is one; else a state of its own, which no migration uses.
fn named(dir: &Path, plan: Plan) -> Result<(String, Plan), Failure> {
    let same = |other: &Plan| {
        // What happens to keys that are there already makes no difference to what they should be; and which databases
        // there are, is known only to the other.
        let other = Plan {
            on_conflict: OnConflict::RequireEmpty,
            ..other.clone()
        };
        other.keys_from == plan.keys_from && other.as_asked() == plan.as_asked()
    };
    let own = format!("compare-{}", plan.default_name());
    let mut found: Vec<(String, Plan)> = status::list(dir)
        .into_iter()
        .filter(|name| *name != own)
        .filter_map(|name| {
            let plan = state::plan_of(dir, &name).ok()?;
            same(&plan).then_some((name, plan))
        })
        .collect();
    match (found.pop(), found.is_empty()) {
        (None, _) => Ok((own, plan)),
        (Some(only), true) => Ok(only),
        (Some((last, _)), false) => {
            let mut names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
            names.push(last);
            Err(Failure::usage(
                "which migration is meant has to be said",
                "several are between these servers",
                format!("redknot compare NAME; there are: {}", names.join(", ")),
            ))
        }
    }
}

// ---- what was found

fn compared(status: &CompareStatus, findings: &[FoundKey], name: &str, paint: Paint) -> String {
    let counters = &status.counters;
    let seconds = status
        .ended_ms
        .unwrap_or_default()
        .saturating_sub(status.began_ms) as f64
        / 1000.0;
    let width = format::count(counters.equal).chars().count().max(10);
    let how = match status.recorded {
        false => "by value on both sides",
        true => "by value with what was recorded of them",
    };
    let mut text = format!(
        "  {} keys compared {how} in {}      ({} not compared)\n",
        format::count(counters.keys_compared + counters.extra),
        format::seconds(seconds),
        format::count(counters.not_compared)
    );
    let mut line = |symbol: &str, count: u64, what: String| {
        text.push_str(&format!(
            "  {symbol}  {:>width$}   {what}\n",
            format::count(count)
        ));
    };
    let other_bytes = match counters.equal_other_bytes {
        0 => String::new(),
        bytes => format!(
            "            ({} with different DUMP bytes, equal in content)",
            format::count(bytes)
        ),
    };
    line(
        &paint.green("="),
        counters.equal,
        format!("equal{other_bytes}"),
    );
    let verdicts = [
        ("+", counters.missing, "missing on target"),
        ("*", counters.value, "different value"),
        ("*", counters.kind, "different type"),
        ("~", counters.ttl, "expiry differs"),
        ("-", counters.extra, "only on target"),
        (
            "?",
            counters.undecided,
            "undecided: changed each time that they were read",
        ),
    ];
    for (symbol, count, what) in verdicts {
        // Always said are the four that a reader looks for.
        if count > 0 || !matches!(symbol, "?") && what != "different type" {
            let symbol = match count {
                0 => symbol.to_owned(),
                _ => paint.red(symbol),
            };
            line(&symbol, count, what.to_owned());
        }
    }
    if counters.settled > 0 {
        text.push_str(&format!(
            "  settling: {} keys changed during the check, all equal on re-check (longest {})\n",
            format::count(counters.settled),
            format::seconds(counters.settled_ms_max as f64 / 1000.0)
        ));
    }
    for sentence in &status.not_compared {
        text.push_str(&format!("  not compared: {sentence}\n"));
    }
    let digest = |digest: &Option<String>| digest.clone().unwrap_or_default();
    let (source, target) = (digest(&status.source_digest), digest(&status.target_digest));
    match source == target {
        _ if status.recorded => text.push_str(&format!("  digest    {target} of the target\n")),
        true => text.push_str(&format!("  digest    {source} of both sides\n")),
        false => text.push_str(&format!(
            "  digests   {source} of the source\n            {target} of the target\n"
        )),
    }
    for found in findings {
        text.push_str(&found_line(found, paint));
    }
    if status.recorded && counters.missing > 0 {
        text.push_str(
            "  Names were not recorded: a missing key is known by the beginning of what xxh128sum says of its name.\n",
        );
    }
    text.push_str(&next(status, findings.len() as u64, name));
    text
}

fn found_line(found: &FoundKey, paint: Paint) -> String {
    let what = match found.verdict {
        Verdict::Missing => "missing",
        Verdict::Extra => "extra",
        Verdict::Type | Verdict::Value => "different",
        Verdict::Ttl => "expiry",
        Verdict::Undecided => "undecided",
    };
    format!(
        "  {:<9}  {}  {}  {}\n",
        what,
        paint.bold(&found.key),
        found.key_type,
        found.detail
    )
}

fn next(status: &CompareStatus, shown: u64, name: &str) -> String {
    let findings = status.counters.findings();
    if findings == 0 {
        return format!("  next      redknot status {name}\n");
    }
    let more = match findings.saturating_sub(shown) {
        0 => format!("redknot keys {name} --class findings"),
        more => format!(
            "\u{2026} {} more: redknot keys {name} --class findings",
            format::count(more)
        ),
    };
    // Without a source there is nothing to repair from.
    match status.recorded {
        true => format!("  {more}      exit 1\n"),
        false => format!("  {more}          repair: redknot repair {name}      exit 1\n"),
    }
}

#[cfg(test)]
mod tests {
    use redknot::progress::{CompareCounters, CompareState};

    use super::*;

    fn status() -> CompareStatus {
        CompareStatus {
            compare: 1,
            state: CompareState::Compared,
            began_ms: 1_000,
            ended_ms: Some(193_000),
            counters: CompareCounters {
                keys_scanned: 12_481_903,
                keys_compared: 12_481_903,
                equal: 12_481_897,
                equal_other_bytes: 1_204_551,
                settled: 18,
                settled_ms_max: 2_100,
                missing: 2,
                value: 3,
                ttl: 1,
                ..CompareCounters::default()
            },
            source_digest: Some("4be1".into()),
            target_digest: Some("90aa".into()),
            percent: 100.0,
            ..CompareStatus::default()
        }
    }

    #[test]
    fn the_summary_counts_and_names_what_comes_next() {
        let found = FoundKey {
            db: 0,
            key: "user:1093:cart".into(),
            verdict: Verdict::Value,
            key_type: "hash".into(),
            detail: "field \"qty\" only on source \u{b7} blake3 4be1\u{2026} \u{2260} 90aa\u{2026}"
                .into(),
        };
        let text = compared(&status(), &[found], "shop", Paint::PLAIN);
        insta::assert_snapshot!(text, @r#"
          12 481 903 keys compared by value on both sides in 3 m 12 s      (0 not compared)
          =  12 481 897   equal            (1 204 551 with different DUMP bytes, equal in content)
          +           2   missing on target
          *           3   different value
          ~           1   expiry differs
          -           0   only on target
          settling: 18 keys changed during the check, all equal on re-check (longest 2.1 s)
          digests   4be1 of the source
                    90aa of the target
          different  user:1093:cart  hash  field "qty" only on source · blake3 4be1… ≠ 90aa…
          … 5 more: redknot keys shop --class findings          repair: redknot repair shop      exit 1
        "#);
    }

    #[test]
    fn equal_sides_need_no_list() {
        let equal = CompareStatus {
            counters: CompareCounters {
                keys_compared: 3,
                equal: 3,
                ..CompareCounters::default()
            },
            target_digest: Some("4be1".into()),
            not_compared: vec![
                "keys that only the target has were not looked for (--one-way)".into(),
            ],
            ..status()
        };
        let text = compared(&equal, &[], "shop", Paint::PLAIN);
        assert!(text.contains("  digest    4be1 of both sides\n"), "{text}");
        assert!(
            text.contains("  not compared: keys that only the target has"),
            "{text}"
        );
        assert!(
            text.ends_with("  next      redknot status shop\n"),
            "{text}"
        );
    }
}
