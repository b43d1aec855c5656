//! `--metrics`: figures that are those of the status, counters that never fall, and a page that Prometheus can read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use ::redknot::progress::{CompareStatus, Counters, RepairStatus, Status, Verdict};
use prometheus_parse::{Scrape, Value};

use super::{Gate, NAME, Pair, hook, project_file};
use crate::support::comparing::repair;
use crate::support::proxy::Proxy;
use crate::support::redknot::{Redknot, Running, status};
use crate::support::wait_for;

/// A figure by its name and labels, as they stand on the page.
type Figures = BTreeMap<String, f64>;

/// What one page says.
struct Page {
    text: String,
    figures: Figures,
    counters: BTreeSet<String>,
}

impl Page {
    fn of(url: &str) -> Self {
        let (head, text) = get(url, "GET");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = Scrape::parse(lines).unwrap();
        let mut page = Self {
            text,
            figures: Figures::new(),
            counters: BTreeSet::new(),
        };
        for sample in scrape.samples {
            let labels: BTreeMap<_, _> = sample.labels.iter().collect();
            let name = format!("{} {labels:?}", sample.metric);
            let figure = match sample.value {
                Value::Counter(figure) => {
                    page.counters.insert(name.clone());
                    figure
                }
                Value::Gauge(figure) => figure,
                other => panic!("{name} is {other:?}"),
            };
            let before = page.figures.insert(name.clone(), figure);
            assert_eq!(before, None, "{name} is there twice\n{}", page.text);
        }
        page
    }

    /// The sum over all that have this name and these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |figure: &&String| {
            let mut labels = labels.iter();
            figure.starts_with(&format!("{name} "))
                && labels.all(|(label, value)| figure.contains(&format!("{label:?}: {value:?}")))
        };
        let all: Vec<&String> = self.figures.keys().filter(has).collect();
        assert!(!all.is_empty(), "no {name} {labels:?}\n{}", self.text);
        all.into_iter().map(|figure| self.figures[figure]).sum()
    }

    /// Names, types and what they mean, as the page says.
    fn described(&self) -> BTreeSet<[String; 3]> {
        let of = |kind: &'static str| {
            let lines = self
                .text
                .lines()
                .filter_map(move |line| line.strip_prefix(kind));
            lines
                .map(|line| line.split_once(' ').unwrap())
                .collect::<BTreeMap<_, _>>()
        };
        let helps = of("# HELP ");
        let types = of("# TYPE ").into_iter();
        types
            .map(|(name, kind)| [name, kind, helps[name]].map(str::to_owned))
            .collect()
    }

    #[track_caller]
    fn assert_copy(&self, status: &Status) {
        let Counters {
            keys_scanned,
            keys_written,
            keys_vanished,
            keys_kept,
            keys_quarantined,
            keys_filtered,
            payload_bytes_written,
            keys_reencoded,
            keys_in_pieces,
            keys_read_again: _,
        } = status.counters;
        let class = |class| self.sum("redknot_keys_total", &[("class", class)]);
        assert_eq!(class("written"), keys_written as f64);
        assert_eq!(class("vanished"), keys_vanished as f64);
        assert_eq!(class("kept"), keys_kept as f64);
        assert_eq!(class("quarantined"), keys_quarantined as f64);
        assert_eq!(class("filtered"), keys_filtered as f64);
        let wanted = [
            ("redknot_keys_total", keys_scanned),
            ("redknot_bytes_total", payload_bytes_written),
            ("redknot_keys_reencoded_total", keys_reencoded),
            ("redknot_keys_in_pieces_total", keys_in_pieces),
            ("redknot_batches_durable", status.batches_durable),
            ("redknot_batches_inflight", status.batches_in_flight),
            ("redknot_passes_total", status.passes.len() as u64),
            ("redknot_retries_total", status.retries),
            ("redknot_keys_estimate", status.keys_estimate.unwrap()),
        ];
        for (name, figure) in wanted {
            assert_eq!(self.sum(name, &[]), figure as f64, "{name}");
        }
        let ratio = self.sum("redknot_progress_ratio", &[("phase", "copy")]);
        assert_eq!(ratio, status.percent / 100.0);
    }

    #[track_caller]
    fn assert_compare(&self, status: &CompareStatus) {
        let counters = &status.counters;
        for verdict in Verdict::ALL {
            let class = [("class", verdict.name())];
            let findings = self.sum("redknot_compare_findings", &class);
            assert_eq!(findings, counters.of(verdict) as f64, "{verdict:?}");
        }
        let wanted = [
            ("redknot_compare_keys_total", counters.keys_scanned),
            ("redknot_compare_bytes_total", counters.bytes_read),
            ("redknot_compare_candidates", 0),
            ("redknot_compare_outdated", 0),
        ];
        for (name, figure) in wanted {
            assert_eq!(self.sum(name, &[]), figure as f64, "{name}");
        }
    }

    #[track_caller]
    fn assert_repair(&self, status: &RepairStatus) {
        let counters = &status.counters;
        let wanted = [
            ("redknot_repair_keys_total", counters.settled()),
            ("redknot_repair_bytes_total", counters.payload_bytes_written),
            ("redknot_repair_findings_left", status.findings_left),
        ];
        for (name, figure) in wanted {
            assert_eq!(self.sum(name, &[]), figure as f64, "{name}");
        }
    }
}

/// Head and body of the answer.
fn get(url: &str, method: &str) -> (String, String) {
    let (address, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Where a run says that its metrics are.
fn url(running: &Running) -> String {
    wait_for(
        "the address of the metrics",
        Duration::from_secs(20),
        || {
            let said = running.stderr_so_far();
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix("  metrics   "));
            line.map(str::to_owned)
        },
    )
}

/// Reads the page until a hook waits at the gate; no counter may fall meanwhile.
fn read_until(gate: &Gate, url: &str, seen: &mut BTreeSet<[String; 3]>) -> Page {
    let mut before = Figures::new();
    let mut pages = 0;
    loop {
        let at_end = gate.is_reached();
        let page = Page::of(url);
        for counter in &page.counters {
            let fell = before
                .get(counter)
                .is_some_and(|before| *before > page.figures[counter]);
            assert!(
                !fell,
                "{counter} fell from {}\n{}",
                before[counter], page.text
            );
        }
        seen.extend(page.described());
        before.clone_from(&page.figures);
        pages += 1;
        if at_end {
            assert!(pages > 1, "it ended before it was looked at");
            return page;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn figures_are_those_of_the_status_and_counters_never_fall() {
    let Some(pair) = Pair::with_keys(30_000) else {
        return;
    };
    let gate = Gate::new();
    let hooks = hook("on-complete", &gate.script());
    let watched = |command: Redknot| command.args(["--metrics", "0", "--hook"]).arg(hooks.path());
    let mut seen = BTreeSet::new();

    // Slow enough to be told of while it goes on: what is known only then is looked for as well.
    let proxy = Proxy::start(pair.target.port(), 5);
    proxy.requests().bandwidth(4 << 20);
    let (from, to) = (pair.source.url(0), proxy.url(0));
    let migrate = Redknot::migrate(&from, &to, pair.state());
    let migrate = migrate.args(["--name", NAME, "--bandwidth", "1GiB/s"]);
    let running = watched(migrate).start();
    let copied = read_until(&gate, &url(&running), &mut seen);
    let stored = status(NAME, pair.state());
    assert_eq!(stored.counters.keys_written, 30_000);
    copied.assert_copy(&stored);
    assert_eq!(copied.sum("redknot_complete", &[("migration", NAME)]), 1.0);
    assert_eq!(copied.sum("redknot_phase", &[("phase", "copy")]), 1.0);
    let info = [
        ("run", "1"),
        ("source", &stored.source),
        ("target", &stored.target),
    ];
    assert_eq!(copied.sum("redknot_info", &info), 1.0);
    let limit = copied.sum("redknot_limit", &[("limit", "bandwidth")]);
    assert_eq!(limit, f64::from(1 << 30));
    assert_promtool_takes(&copied);
    proxy.requests().calm();
    gate.open();
    running.wait().expect_code(0);

    // Findings, and their repair.
    for _ in 0..20 {
        let key = pair.target.any_key(0);
        let mut del = redis::cmd("DEL");
        del.arg(key).exec(&mut pair.target.connection()).unwrap();
    }
    let compare = Redknot::new(["compare", NAME, "--state-dir"]).arg(pair.state());
    let running = watched(compare.args(["--bandwidth", "2GiB/s"])).start();
    let compared = read_until(&gate, &url(&running), &mut seen);
    compared.assert_compare(&status(NAME, pair.state()).compare.unwrap());
    assert_eq!(compared.sum("redknot_compare_findings", &[]), 20.0);
    assert_eq!(compared.sum("redknot_phase", &[("phase", "compare")]), 1.0);
    let limit = compared.sum("redknot_limit", &[("limit", "bandwidth")]);
    assert_eq!(limit, f64::from(1 << 30) * 2.0);
    assert_promtool_takes(&compared);
    gate.open();
    running.wait().expect_code(1);
    let repair = repair(NAME, pair.state()).args(["--apply", "--rate", "9000/s"]);
    let running = watched(repair).start();
    let repaired = read_until(&gate, &url(&running), &mut seen);
    repaired.assert_repair(&status(NAME, pair.state()).repair.unwrap());
    assert_eq!(repaired.sum("redknot_repair_keys_total", &[]), 20.0);
    let limit = repaired.sum("redknot_limit", &[("limit", "rate")]);
    assert_eq!(limit, 9000.0);
    gate.open();
    running.wait().expect_code(0);

    assert_documented(&seen);
    super::deploy::assert_only_known_names(&seen.into_iter().map(|[name, ..]| name).collect());
}

/// Panics unless the documentation has every metric with its type and its meaning, and no other one.
fn assert_documented(seen: &BTreeSet<[String; 3]>) {
    let text = project_file("docs/metrics.md");
    let cells = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", name, kind, _labels, meaning, ""] = cells.as_slice() else {
            return None;
        };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some([name, kind, meaning].map(str::to_owned))
    };
    let documented: BTreeSet<[String; 3]> = text.lines().filter_map(cells).collect();
    assert_eq!(
        &documented, seen,
        "docs/metrics.md (left) does not say what the page says"
    );
}

/// Prometheus' own check, where it is installed.
fn assert_promtool_takes(page: &Page) {
    let Ok(mut check) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return eprintln!("skipped: promtool is not installed");
    };
    check
        .stdin
        .take()
        .unwrap()
        .write_all(page.text.as_bytes())
        .unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        checked.status.success() && said.is_empty(),
        "{said}\n{}",
        page.text
    );
}

#[test]
fn another_pass_begins_other_counters_and_none_falls() {
    let Some(mut pair) = Pair::with_keys(30_000) else {
        return;
    };
    let gate = Gate::new();
    let hooks = hook("on-complete", &gate.script());
    let watched = pair.migrate(&["--batch", "50", "--metrics", "0", "--hook"]);
    let mut running = watched.arg(hooks.path()).start();
    pair.wait_for_share(0.3, &mut running);
    pair.source.restart();
    let page = read_until(&gate, &url(&running), &mut BTreeSet::new());
    let stored = status(NAME, pair.state());
    assert!(stored.passes.len() > 1 && stored.retries > 0, "{stored:?}");
    page.assert_copy(&stored);
    let pass = stored.lanes[0].pass.to_string();
    assert_eq!(page.sum("redknot_keys_total", &[("pass", &pass)]), 30_000.0);
    assert_eq!(
        page.sum("redknot_retries_total", &[("side", "source")]),
        stored.retries as f64
    );
    gate.open();
    running.wait().expect_code(0);
}

#[test]
fn whoever_asks_for_something_else_is_told_and_holds_up_nobody() {
    let Some(pair) = Pair::with_keys(1_000) else {
        return;
    };
    let gate = Gate::new();
    let hooks = hook("on-complete", &gate.script());
    let watched = pair
        .migrate(&["--metrics", "0", "--hook"])
        .arg(hooks.path());
    let running = watched.start();
    let url = url(&running);
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/metrics")
        .unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{url}");
    let answer = |url: &str, method| get(url, method).0.lines().next().unwrap().to_owned();
    assert_eq!(
        answer(&format!("http://{address}/"), "GET"),
        "HTTP/1.1 404 Not Found"
    );
    assert_eq!(answer(&url, "POST"), "HTTP/1.1 405 Method Not Allowed");
    let (head, body) = get(&url, "HEAD");
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && body.is_empty(),
        "{head}"
    );
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    // As many as are served at once, and some more, say nothing. They are hung up on, and the next one is served.
    let silent: Vec<TcpStream> = (0..10)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    Page::of(&url);
    drop(silent);
    gate.open();
    running.wait().expect_code(0);
}

#[test]
fn a_port_that_is_taken_ends_the_command_before_it_begins() {
    let Some(pair) = Pair::with_keys(10) else {
        return;
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for command in ["migrate", "compare"] {
        let (from, to) = (pair.source.url(0), pair.target.url(0));
        let finished = Redknot::new([command, "--from", &from, "--to", &to, "--state-dir"])
            .arg(pair.state())
            .args(["--metrics", &port])
            .run()
            .expect_code(2);
        let said = finished.stderr().replace(&port, "PORT");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said, @r"
            error: --metrics 127.0.0.1:PORT can't be listened on
              Address already in use (os error 98)
            hint: another run may show its metrics there; --metrics 127.0.0.1:0 takes any port that is free, and says which
            ");
        }
    }
    assert_eq!(std::fs::read_dir(pair.state()).unwrap().count(), 0);
}

#[test]
fn whoever_listens_to_everybody_is_warned() {
    let Some(pair) = Pair::with_keys(10) else {
        return;
    };
    // In the environment, and in a file.
    let file = pair.state().join(".toml");
    std::fs::write(&file, "metrics = \"0.0.0.0:0\"\n").unwrap();
    let by_variable = pair.migrate(&[]).env("REDKNOT_METRICS", "0.0.0.0:0");
    let by_file = pair.migrate(&["--config"]).arg(&file);
    for command in [by_variable, by_file] {
        let finished = command.run().expect_code(0);
        let warned = "warning: --metrics 0.0.0.0:";
        assert!(finished.stderr().contains(warned), "{finished}");
    }
}
