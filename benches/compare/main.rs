//! How far is a comparison from what the two servers can do?
//!
//! In one run, on the same seeded data, round by round: the floor, in which both servers dump the same keys with their
//! expiries at the same time and the replies are thrown away; then `redknot compare`. What each number means stands in
//! `benches/README.md`.
//!
//! `cargo bench --bench compare -- --data json4` measures. Without `--bench` on its command line (`cargo test`), it walks
//! through tiny data sets once, so that it can't rot.
//!
//! # Invariant
//!
//! It fails when redknot does not find every key equal, so a comparison can't win by looking at less.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark's result is what it prints"
)]

#[path = "../../tests/integration/support/certificates.rs"]
#[allow(
    dead_code,
    reason = "the servers know certificates, and here none has one"
)]
mod certificates;
#[path = "../end_to_end/connection.rs"]
mod connection;
#[path = "../end_to_end/dataset.rs"]
mod dataset;
mod floor;
#[expect(dead_code, reason = "the other benchmark needs the rest of it")]
#[path = "../end_to_end/floors.rs"]
mod floors;
#[path = "../end_to_end/measure.rs"]
mod measure;
#[expect(dead_code, reason = "the other benchmark needs the rest of it")]
#[path = "../end_to_end/server.rs"]
mod server;
#[allow(dead_code, reason = "the other benchmark needs the rest of it")]
#[path = "../end_to_end/table.rs"]
mod table;
#[expect(dead_code, reason = "the other benchmark needs the rest of it")]
#[path = "../end_to_end/target.rs"]
mod target;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;

use redknot::resp::ExpiryQuery;

use crate::connection::Connection;
use crate::dataset::Dataset;
use crate::measure::{Cost, Servers};
use crate::server::Server;
use crate::table::Table;
use crate::target::Target;

/// Where the state folders go: on the disk of the build, because the price of an fsync is part of the result.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

#[derive(Parser)]
struct Arguments {
    /// Which data set.
    #[arg(long, value_enum, default_value_t = Dataset::Small)]
    data: Dataset,
    /// How many keys of it; by default as many as the README names.
    #[arg(long)]
    keys: Option<u64>,
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// SCAN's COUNT in the floor; by default the one with which it is lowest.
    #[arg(long)]
    batch: Option<u32>,
    /// The binary to measure; by default the one that cargo has just built.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_redknot"))]
    redknot: PathBuf,
    /// An option for `redknot compare`, such as `--redknot-option=--one-way`. May be repeated.
    #[arg(long)]
    redknot_option: Vec<String>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    println!("{}", server::version()?);
    if std::env::args().any(|argument| argument == "--bench") {
        let arguments = Arguments::parse();
        return run(arguments.data, &arguments);
    }
    println!("no --bench: tiny data sets, to see that it works; all options are ignored");
    for &data in Dataset::value_variants() {
        let mut tiny = Arguments::parse_from(["compare"]);
        tiny.keys = Some(data.keys_in_a_test());
        tiny.runs = 1;
        run(data, &tiny)?;
    }
    Ok(())
}

fn run(data: Dataset, arguments: &Arguments) -> Result<()> {
    ensure!(arguments.runs > 0, "no rounds, no result");
    let folder = tempfile::tempdir_in(FOLDER)?;
    let mut servers = Servers {
        source: Server::start(folder.path(), None)?,
        target: Target::single(folder.path(), None)?,
    };
    let keys = arguments.keys.unwrap_or(data.keys());
    let batch = arguments.batch.unwrap_or(data.floor_batch());
    let (source_port, target_ports) = (servers.source.port, servers.target.ports());
    data.load(&mut Connection::open(source_port)?, keys)?;
    let ask = if servers.source.knows("PEXPIRETIME") {
        ExpiryQuery::PExpireTime
    } else {
        ExpiryQuery::PTtl
    };
    let recording = floors::record(source_port, ask, batch, target_ports.len())?;
    floors::write_target(&target_ports, &recording)?;
    let content = servers.source.content()?;
    ensure!(
        servers.target.content()? == content,
        "the target was not filled"
    );
    println!(
        "data {}: {} keys, {:.1} MB of payload, digest {}; floor with COUNT {batch}",
        data.name(),
        content.keys,
        recording.payload_bytes as f64 / 1e6,
        content.digest,
    );
    // CPU time of both servers over the floor's, and the floor's wall time over the row's: 1 where it takes no longer than
    // the servers need for the reading alone.
    let mut table = Table::new(recording.keys, ["servers/", "floor /"]);
    for round in 1..=arguments.runs {
        let (floor, keys_read) =
            servers.cost_of(|| floor::read_both(source_port, target_ports[0], ask, batch))?;
        ensure!(keys_read == recording.keys, "SCAN gave {keys_read} keys");
        let compare = compare(&mut servers, arguments, recording.keys)?;
        for (name, cost) in [("floor", floor), ("redknot compare", compare)] {
            let servers = |cost: &Cost| cost.source_cpu_seconds + cost.target_cpu_seconds;
            let ratios = [
                servers(&cost) / servers(&floor),
                floor.wall_seconds / cost.wall_seconds,
            ];
            table.add(round, name, cost, ratios);
        }
    }
    table.end();
    println!("every comparison found {} keys equal", content.keys);
    Ok(())
}

/// Compares both servers with a new state folder, and sees that every key was found equal.
fn compare(servers: &mut Servers, arguments: &Arguments, keys: usize) -> Result<Cost> {
    let state = tempfile::tempdir_in(FOLDER)?;
    let events = state.path().join("events");
    let mut command = Command::new(&arguments.redknot);
    command
        .arg("compare")
        .arg("--from")
        .arg(format!("redis://127.0.0.1:{}", servers.source.port))
        .arg("--to")
        .arg(servers.target.url(false))
        .arg("--state-dir")
        .arg(state.path().join("state"))
        .arg("--json")
        .args(&arguments.redknot_option)
        .stdout(std::fs::File::create(&events)?);
    let cost = servers.cost_of_child(&mut command, &state.path().join("said"))?;
    let events = std::fs::read_to_string(&events)?;
    let last = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .rfind(|event| event["type"] == "compared")
        .context("redknot did not say what it found")?;
    ensure!(
        last["counters"]["equal"] == keys as u64,
        "not {keys} keys are equal: {last}"
    );
    Ok(cost)
}
