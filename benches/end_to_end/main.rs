//! How far is a copy from what the two servers can do?
//!
//! In one run, on the same seeded data, round by round: the source floor, the target floor, and `redknot migrate`. What
//! each number means stands in `benches/README.md`.
//!
//! `cargo bench --bench end_to_end -- --data json4` measures. Without `--bench` on its command line (`cargo test`), it
//! walks through tiny data sets once, so that it can't rot.
//!
//! # Invariant
//!
//! It fails when the target does not hold what the source holds, so a copy can't win by doing less.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark's result is what it prints"
)]

mod connection;
mod dataset;
mod floors;
mod measure;
mod reader;
mod server;
mod table;
mod target;

#[path = "../../tests/integration/support/certificates.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod certificates;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use redknot::resp::ExpiryQuery;

use crate::certificates::{Authority, Flaw};
use crate::connection::{Connection, Place};
use crate::dataset::Dataset;
use crate::measure::{Cost, Servers};
use crate::reader::Reader;
use crate::server::{Certificate, Server};
use crate::table::Table;
use crate::target::Target;

/// Where the state folders go: on the disk of the build, because the price of an fsync is part of the result.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// The row that is compared with the one above it.
const WITH_TLS: &str = "redknot, TLS";
/// Likewise.
const WITH_METRICS: &str = "redknot, metrics";
/// What the servers can do when they share the machine, as they do while redknot runs.
const AT_ONCE: &str = "floors at once";
/// What the servers can do over TLS, compared with what they can do without.
const SOURCE_WITH_TLS: &str = "source floor, TLS";
const TARGET_WITH_TLS: &str = "target floor, TLS";

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
    /// SCAN's COUNT in the source floor; by default the one with which it is lowest.
    #[arg(long)]
    batch: Option<u32>,
    /// The binary to measure; by default the one that cargo has just built.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_redknot"))]
    redknot: PathBuf,
    /// Measure the floors alone.
    #[arg(long)]
    floors_only: bool,
    /// Measure redknot with `--durability none` as well, which shows what checkpoints cost.
    #[arg(long)]
    without_durability: bool,
    /// Also measure with `--record-digests`.
    #[arg(long)]
    record_digests: bool,
    /// Measure redknot with `--read-with dump` as well, which shows what MGET spares.
    #[arg(long)]
    with_dump: bool,
    /// Measure redknot with `--write-with restore` as well, which shows what SET spares.
    #[arg(long)]
    with_restore: bool,
    /// Measure redknot with TLS to both servers as well, and print its wall time over that without.
    #[arg(long)]
    tls: bool,
    /// Measure redknot while its metrics are read once a second as well, and print its wall time over that without.
    #[arg(long)]
    metrics: bool,
    /// Measure both floors at the same time as well, on the processors that redknot has, and print what redknot costs the
    /// source over what it then costs. Always, if the target is a cluster.
    #[arg(long)]
    floors_at_once: bool,
    /// Write to a cluster of three masters instead of one server.
    #[arg(long, conflicts_with = "tls")]
    cluster_target: bool,
    /// An option for `redknot migrate`, such as `--redknot-option=--batch=200`. May be repeated.
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
        let mut tiny = Arguments::parse_from(["end_to_end"]);
        tiny.keys = Some(data.keys_in_a_test());
        tiny.runs = 1;
        tiny.without_durability = true;
        tiny.with_dump = true;
        tiny.with_restore = true;
        tiny.floors_at_once = true;
        tiny.tls = server::knows_tls()?;
        run(data, &tiny)?;
    }
    let mut clustered = Arguments::parse_from(["end_to_end", "--cluster-target"]);
    clustered.keys = Some(Dataset::Small.keys_in_a_test());
    clustered.runs = 1;
    run(Dataset::Small, &clustered)?;
    Ok(())
}

/// One way of running redknot.
struct Variant {
    /// What its row is called.
    name: &'static str,
    options: &'static [&'static str],
    tls: bool,
}

impl Arguments {
    /// The runs of redknot in each round.
    fn variants(&self) -> Vec<Variant> {
        let variants: [(bool, &str, &[&str]); 7] = [
            (true, "redknot", &[]),
            (self.tls, WITH_TLS, &[]),
            (self.with_dump, "redknot, DUMP", &["--read-with", "dump"]),
            (
                self.with_restore,
                "redknot, RESTORE",
                &["--write-with", "restore"],
            ),
            (
                self.without_durability,
                "redknot, no fsync",
                &["--durability", "none"],
            ),
            (
                self.record_digests,
                "redknot, digests",
                &["--record-digests"],
            ),
            (self.metrics, WITH_METRICS, &["--metrics", reader::ADDRESS]),
        ];
        variants
            .into_iter()
            .filter(|(measured, ..)| *measured && !self.floors_only)
            .map(|(_, name, options)| Variant {
                name,
                options,
                tls: name == WITH_TLS,
            })
            .collect()
    }
}

fn run(data: Dataset, arguments: &Arguments) -> Result<()> {
    ensure!(arguments.runs > 0, "no rounds, no result");
    let folder = tempfile::tempdir_in(FOLDER)?;
    let certificate = match arguments.tls {
        true => Some(Authority::new(folder.path(), "authority")),
        false => None,
    };
    let certificate = certificate.map(|authority| Certificate {
        files: authority.sign("servers", Flaw::None),
        authority: authority.certificate,
    });
    let mut servers = Servers {
        source: Server::start(folder.path(), certificate.as_ref())?,
        target: match arguments.cluster_target {
            true => Target::cluster(folder.path())?,
            false => Target::single(folder.path(), certificate.as_ref())?,
        },
    };
    let keys = arguments.keys.unwrap_or(data.keys());
    let batch = arguments.batch.unwrap_or(data.floor_batch());
    let source_port = servers.source.port;
    data.load(&mut Connection::open(source_port)?, keys)?;
    let content = servers.source.content()?;
    let ask = if servers.source.knows("PEXPIRETIME") {
        ExpiryQuery::PExpireTime
    } else {
        ExpiryQuery::PTtl
    };
    let target_ports = servers.target.ports();
    let recording = floors::record(source_port, ask, batch, target_ports.len())?;
    println!(
        "data {}: {} keys, {:.1} MB of payload, digest {}; source floor with COUNT {batch}",
        data.name(),
        content.keys,
        recording.payload_bytes as f64 / 1e6,
        content.digest,
    );
    // CPU time of the source over what a DUMP of every key costs it, of the target over what a RESTORE of every key costs
    // it, and wall time over that of the slower floor, below which no copy by DUMP and RESTORE can get; each of the same
    // round.
    let mut table = Table::new(recording.keys, ["source/", "target/", "/ bound"]);
    let mut rows = vec!["source floor", "target floor"];
    if arguments.cluster_target {
        rows.push("nodes in turns");
    }
    let at_once = arguments.cluster_target || arguments.floors_at_once;
    if at_once {
        rows.push(AT_ONCE);
    }
    // The nodes of a cluster are given no certificate.
    let over_tls = certificate.as_ref().filter(|_| !arguments.cluster_target);
    if over_tls.is_some() {
        rows.extend([SOURCE_WITH_TLS, TARGET_WITH_TLS]);
    }
    rows.extend(arguments.variants().iter().map(|variant| variant.name));
    for round in 1..=arguments.runs {
        let (source_floor, keys_read) =
            servers.cost_of(|| floors::read_source(source_port.into(), ask, batch))?;
        ensure!(keys_read == recording.keys, "SCAN gave {keys_read} keys");

        servers.target.empty()?;
        let (target_floor, ()) =
            servers.cost_of(|| floors::write_target(&target_ports, &recording))?;
        ensure!(
            servers.target.keys()? == content.keys,
            "RESTOREs are missing"
        );

        let mut measured = vec![source_floor, target_floor];
        if arguments.cluster_target {
            servers.target.empty()?;
            let (in_turns, ()) =
                servers.cost_of(|| floors::write_in_turns(&target_ports, &recording))?;
            measured.push(in_turns);
        }
        if at_once {
            servers.target.empty()?;
            let (cost, ()) = servers.cost_of(|| {
                std::thread::scope(|scope| {
                    let reader =
                        scope.spawn(|| floors::read_source(source_port.into(), ask, batch));
                    floors::write_target(&target_ports, &recording)?;
                    reader.join().ok().context("the reader panicked")??;
                    Ok(())
                })
            })?;
            measured.push(cost);
        }
        if let Some(certificate) = over_tls {
            let floors = floors_over_tls(&mut servers, certificate, &recording, ask, batch)?;
            measured.extend(floors);
        }
        for variant in arguments.variants() {
            let authority = certificate.as_ref().filter(|_| variant.tls);
            let authority = authority.map(|certificate| certificate.authority.as_path());
            measured.push(migrate(
                &mut servers,
                arguments,
                &content,
                variant.options,
                authority,
            )?);
        }

        let bound = source_floor.wall_seconds.max(target_floor.wall_seconds);
        for (name, cost) in rows.iter().zip(measured) {
            let ratios = [
                cost.source_cpu_seconds / source_floor.source_cpu_seconds,
                cost.target_cpu_seconds / target_floor.target_cpu_seconds,
                cost.wall_seconds / bound,
            ];
            table.add(round, name, cost, ratios);
        }
    }
    if over_tls.is_some() {
        let mut pairs = vec![
            (SOURCE_WITH_TLS, "source floor"),
            (TARGET_WITH_TLS, "target floor"),
        ];
        if !arguments.floors_only {
            pairs.push((WITH_TLS, "redknot"));
        }
        for (with, without) in pairs {
            println!(
                "{with}: {:.2} times the wall time of the same without (median of the rounds)",
                table.wall_over(with, without)
            );
        }
    }
    if arguments.metrics && !arguments.floors_only {
        println!(
            "{WITH_METRICS}: {:.3} times the wall time of the same without (median of the rounds)",
            table.wall_over(WITH_METRICS, "redknot")
        );
    }
    if at_once && !arguments.floors_only {
        println!(
            "redknot: {:.3} times the source's CPU of both floors at once (median of the rounds)",
            table.source_cpu_over("redknot", AT_ONCE)
        );
    }
    table.end();
    if !arguments.floors_only {
        println!(
            "every target had {} keys and the digest of the source",
            content.keys
        );
    }
    Ok(())
}

/// What both servers need for the same when it is encrypted.
fn floors_over_tls(
    servers: &mut Servers,
    certificate: &Certificate,
    recording: &floors::Recording,
    ask: ExpiryQuery,
    batch: u32,
) -> Result<[Cost; 2]> {
    let at = |port| Place {
        port,
        authority: Some(certificate.authority.as_path()),
    };
    let source = at(servers.source.tls_port);
    let (source_floor, keys) = servers.cost_of(|| floors::read_source(source, ask, batch))?;
    ensure!(keys == recording.keys, "SCAN gave {keys} keys");
    servers.target.empty()?;
    let target = at(servers.target.tls_port());
    let (target_floor, ()) =
        servers.cost_of(|| floors::write_target_over_tls(target, recording))?;
    Ok([source_floor, target_floor])
}

/// Empties the target, lets redknot fill it, and compares.
fn migrate(
    servers: &mut Servers,
    arguments: &Arguments,
    expected: &server::Content,
    options: &[&str],
    authority: Option<&Path>,
) -> Result<Cost> {
    servers.target.empty()?;
    let mut all: Vec<&str> = arguments
        .redknot_option
        .iter()
        .map(String::as_str)
        .collect();
    all.extend(options);
    let state = tempfile::tempdir_in(FOLDER)?;
    let mut command = Command::new(&arguments.redknot);
    command
        .arg("migrate")
        .arg("--from")
        .arg(servers.source.url(authority.is_some()))
        .arg("--to")
        .arg(servers.target.url(authority.is_some()))
        .arg("--state-dir")
        .arg(state.path().join("state"))
        .arg("--no-progress")
        .args(all)
        .stdout(Stdio::null());
    if let Some(authority) = authority {
        command.arg("--from-cacert").arg(authority);
        command.arg("--to-cacert").arg(authority);
    }
    let reader = options.contains(&"--metrics").then(Reader::start);
    let cost = servers.cost_of_child(&mut command, &state.path().join("said"))?;
    reader.map_or(Ok(()), Reader::finish)?;
    let content = servers.target.content()?;
    ensure!(
        content == *expected,
        "the target has {} keys and digest {}, the source has {} keys and digest {}",
        content.keys,
        content.digest,
        expected.keys,
        expected.digest,
    );
    Ok(cost)
}
