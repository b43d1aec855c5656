//! Clusters as source, as target, as both: complete and equal, also while slots move and masters change.

/// Slots half of which stay where they are, nodes that never come back, slots at nobody.
mod broken;
/// Damage that is found and repaired, slots that move and masters that change while it is compared.
mod comparing;
/// Several databases in one cluster.
mod databases;
/// Users with few rights.
mod rights;
/// Nodes that were named and are gone, and several that are named.
mod seeds;
/// Strings, slot by slot.
mod strings;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ::redknot::progress::{RunState, Status};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::Cluster;
use crate::support::comparing::{Compared, compare, compare_urls};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Oracle, Servers};
use crate::support::redknot::{Finished, Redknot, Running, status};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{Binary, Kind, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};
use crate::support::{seed, wait_for};

const NAME: &str = "clustered";
const KINDS: [Kind; 3] = [REDIS_7_0, REDIS_8_2, VALKEY_9_1];
/// Enough that slots move and masters change in the middle of a run.
const KEYS: u32 = 60_000;
/// Enough for a run to be met in its middle, which then has to wait for the failover.
const SOME_KEYS: u32 = 30_000;
/// Enough for every slot to have some, and for none to be special.
const FEW_KEYS: u32 = 20_000;

/// A migration between two sides, each of which may be a cluster.
struct Migration {
    from: String,
    to: String,
    state: tempfile::TempDir,
}

impl Migration {
    fn new(from: String, to: String) -> Self {
        Self {
            from,
            to,
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self) -> Redknot {
        Redknot::migrate(&self.from, &self.to, self.state.path())
            .args(["--name", NAME, "--json", "--batch", "100"])
    }

    fn status(&self) -> Status {
        status(NAME, self.state.path())
    }

    /// Starts it slowly, and waits until so many keys are durable.
    fn started(&self, keys: u64) -> Slowed {
        let running = Slowed::new(self.command().start());
        wait_until_begun(self, &running, keys);
        running
    }

    /// A comparison that waits for nobody, since nobody writes.
    fn compare(&self) -> Redknot {
        compare(NAME, self.state.path()).args(["--settle", "50ms", "--batch", "100"])
    }

    /// Its accounts are whole, and both sides are equal: by an independent look, and by its own comparison.
    fn expect_complete(&self, finished: Finished, source: impl Fn() -> u64, oracle: Oracle<'_>) {
        let finished = finished.expect_code(0);
        let keys = oracle.assert_equal();
        assert_eq!(keys as u64, source());
        let status = self.status();
        assert_eq!(status.state, RunState::Complete, "{finished}");
        assert!(status.counters.balance(), "{status:?}");
        assert_eq!(status.counters.keys_quarantined, 0, "{status:?}");
        assert!(status.counters.keys_written >= keys as u64, "{status:?}");
        // By the URLs, which may have passwords.
        let compare = compare_urls(&self.from, &self.to, self.state.path());
        let compared = compare.args(["--settle", "50ms"]).run().expect_code(0);
        Compared::of(compared).assert_equal(keys as u64);
    }
}

/// Waits until so many keys are durable.
fn wait_until_begun(migration: &Migration, running: &Slowed, keys: u64) {
    wait_for(
        "the run to be in its middle",
        Duration::from_secs(60),
        || {
            let said = running.running.stderr_so_far();
            assert!(running.is_running(), "the run ended too early: {said}");
            scanned(migration.state.path()).filter(|scanned| *scanned >= keys)
        },
    );
}

/// A run that is frozen most of the time, so that something can happen in its middle.
pub struct Slowed {
    running: Running,
    done: Arc<AtomicBool>,
    freezer: Option<JoinHandle<()>>,
}

impl Slowed {
    /// Slows it from now on.
    pub fn new(running: Running) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let pid = Pid::from_raw(running.pid().try_into().unwrap()).unwrap();
        let until = Arc::clone(&done);
        let freezer = std::thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                // It may have ended; its process id stays its own until it is waited for, after this thread.
                let _ = kill_process(pid, Signal::STOP);
                std::thread::sleep(FROZEN);
                let _ = kill_process(pid, Signal::CONT);
                std::thread::sleep(THAWED);
            }
        });
        Self {
            running,
            done,
            freezer: Some(freezer),
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        // Not by waiting for it: see above.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.running.pid()));
        stat.is_ok_and(|stat| !stat.contains(") Z"))
    }

    /// At full speed from here on.
    pub fn release(mut self) -> Running {
        self.thaw();
        let nothing = Redknot::new(["--version"]).start();
        std::mem::replace(&mut self.running, nothing)
    }

    fn thaw(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(freezer) = self.freezer.take() {
            freezer.join().unwrap();
        }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        self.thaw();
    }
}

/// How long a slowed run stands still, and how long it then goes on.
const FROZEN: Duration = Duration::from_millis(25);
const THAWED: Duration = Duration::from_millis(3);

/// The durable keys of a run, as its status file says.
fn scanned(state: &Path) -> Option<u64> {
    let status = crate::support::redknot::status_file(NAME, state)?;
    (status.batches_durable > 0).then_some(status.counters.keys_scanned)
}

/// Moves slots back and forth until the run has ended. Returns how many it moved while it was running.
fn reshard_until_ended(cluster: &Cluster, running: &Slowed) -> usize {
    let mut moved = 0;
    for (from, to) in [(0, 1), (1, 2), (2, 0)].into_iter().cycle() {
        if !running.is_running() {
            break;
        }
        cluster.reshard(from, to, SLOTS_MOVED);
        if running.is_running() {
            moved += SLOTS_MOVED;
        }
    }
    eprintln!("{moved} slots moved while it was running");
    moved
}

/// As [`reshard_until_ended`], by the nodes themselves.
fn move_until_ended(cluster: &Cluster, running: &Slowed) -> usize {
    let mut moved = 0;
    for (from, to) in [(1, 0), (2, 1), (0, 2)].into_iter().cycle() {
        if !running.is_running() {
            break;
        }
        cluster.move_at_once(from, to, SLOTS_MOVED);
        if running.is_running() {
            moved += SLOTS_MOVED;
        }
    }
    eprintln!("{moved} slots moved while it was running");
    moved
}

/// Slots of one reshard.
const SLOTS_MOVED: usize = 100;

fn clusters(kinds: &[Kind]) -> impl Iterator<Item = Binary> {
    kinds.iter().filter_map(|kind| require(*kind))
}

#[test]
fn a_cluster_arrives_whole_at_a_single_server() {
    for binary in clusters(&KINDS) {
        let source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet::new(FEW_KEYS, seed()));
        let target = Server::plain(&binary);
        let migration = Migration::new(source.url(), target.url(0));
        let finished = migration.command().run();
        let said = finished.json_lines();
        let said = said.iter().find(|line| line["type"] == "cluster").unwrap();
        assert_eq!(
            (said["side"].as_str(), said["masters"].as_u64()),
            (Some("source"), Some(3))
        );
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(finished, || source.keys(), oracle);
    }
}

#[test]
fn a_single_server_arrives_whole_at_a_cluster() {
    for binary in clusters(&KINDS) {
        let source = Server::plain(&binary);
        fill(&source, 0, &DataSet::new(FEW_KEYS, seed()));
        let target = Cluster::start(&binary, 3, 0);
        let migration = Migration::new(source.url(0), target.url());
        let finished = migration.command().run();
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(finished, || source.keys(0), oracle);
        assert!(
            target
                .masters()
                .iter()
                .all(|node| node.keys(0) > u64::from(FEW_KEYS) / 4)
        );
    }
}

/// The names of a slot are in memory all at once: so many bytes each, beside the name.
const BYTES_PER_NAME: u64 = 96;

#[test]
fn a_slot_with_very_many_keys_costs_memory_in_proportion_to_them_and_to_nothing_else() {
    const MANY_KEYS: u64 = 200_000;
    const NAME_BYTES: u64 = 24;
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Cluster::start(&binary, 2, 0);
    let slot = source.slot_of(b"{one tag}");
    let mut connection = source.owner_of(slot).connection();
    let names: Vec<String> = (0..MANY_KEYS)
        .map(|number| format!("{{one tag}}:user:{number:09}"))
        .collect();
    for names in names.chunks(10_000) {
        let mut pipe = redis::pipe();
        for name in names {
            assert_eq!(name.len() as u64, NAME_BYTES);
            pipe.set(name, "value").ignore();
        }
        pipe.exec(&mut connection).unwrap();
    }
    let target = Server::plain(&binary);
    let migration = Migration::new(source.url(), target.url(0));
    let bytes_max = (24 << 20) + MANY_KEYS * (NAME_BYTES + BYTES_PER_NAME);
    for command in [migration.command(), migration.compare()] {
        let finished = command.run().expect_code(0);
        let bytes = finished.rss_max_bytes;
        assert!(
            bytes < bytes_max,
            "{bytes} bytes, {bytes_max} at most: {finished}"
        );
    }
    assert_eq!(target.keys(0), MANY_KEYS);
}

#[test]
fn a_cluster_arrives_whole_at_a_cluster_whose_slots_lie_otherwise() {
    for binary in clusters(&KINDS) {
        let source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet::new(FEW_KEYS, seed()));
        let target = Cluster::start(&binary, 2, 0);
        let migration = Migration::new(source.url(), target.url());
        let finished = migration.command().arg("--compare").run();
        let said = finished.json_lines();
        let compared = said.iter().find(|line| line["type"] == "compared");
        let equal = compared.and_then(|line| line["counters"]["equal"].as_u64());
        assert_eq!(equal, Some(source.keys()), "{finished}");
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(finished, || source.keys(), oracle);
    }
}

#[test]
fn names_and_types_are_filtered_in_a_cluster_as_in_a_single_server() {
    for binary in clusters(&KINDS) {
        let single = Server::plain(&binary);
        fill(&single, 0, &DataSet::new(5_000, seed()));
        let cluster = Cluster::start(&binary, 3, 0);
        cluster.carry_from(&single);
        for filter in [["--match", "user:*[1-3]*"], ["--type", "hash"]] {
            let (of_single, of_cluster) = (Server::plain(&binary), Server::plain(&binary));
            let migrate = |from: String, to: &Server| {
                let migration = Migration::new(from, to.url(0));
                migration.command().args(filter).run().expect_code(0);
                migration.status().counters
            };
            let single = migrate(single.url(0), &of_single);
            let cluster = migrate(cluster.url(), &of_cluster);
            assert_eq!(single.keys_written, cluster.keys_written, "{filter:?}");
            Oracle::between(&of_single, &of_cluster).assert_equal();
        }
    }
}

#[test]
fn slots_that_move_on_the_source_lose_no_key() {
    for binary in clusters(&KINDS) {
        let source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet::new(KEYS, seed()));
        let target = Server::plain(&binary);
        let migration = Migration::new(source.url(), target.url(0));
        let running = migration.started(100);
        let moved = reshard_until_ended(&source, &running);
        assert!(moved > 0, "no slot moved while the run was under way");
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(running.release().wait(), || source.keys(), oracle);
        assert!(source.redirections() > 0, "nobody was sent elsewhere");
    }
}

#[test]
fn slots_that_move_on_the_target_lose_no_key() {
    for binary in clusters(&KINDS) {
        let source = Server::plain(&binary);
        fill(&source, 0, &DataSet::new(KEYS, seed()));
        let target = Cluster::start(&binary, 3, 0);
        let migration = Migration::new(source.url(0), target.url());
        let running = migration.started(100);
        let moved = reshard_until_ended(&target, &running);
        assert!(moved > 0, "no slot moved while the run was under way");
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(running.release().wait(), || source.keys(0), oracle);
        assert_eq!(migration.status().passes.len(), 1);
        assert!(target.redirections() > 0, "nobody was sent elsewhere");
    }
}

/// Valkey 9 hands a slot over in one step: until then the old node has all of it, from then on the new one. It writes
/// streams anew as commands meanwhile, and loses of their groups what no command can say; so there are none here. Seen on
/// 9.1.2 with valkey alone, by XINFO STREAM FULL on both nodes around CLUSTER MIGRATESLOTS: an entry that is pending
/// though its message was deleted (XADD, XREADGROUP, XDEL) is gone from the group and from its consumer, since XCLAIM
/// makes none for a message that is not there; seen-time and active-time of consumers become those of the move. All
/// else, counts of deliveries and groups' positions among it, arrives.
#[test]
fn slots_that_move_at_once_lose_no_key_on_either_side() {
    for binary in clusters(&[VALKEY_9_1]) {
        let source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet {
            streams: false,
            ..DataSet::new(KEYS, seed())
        });
        let target = Cluster::start(&binary, 3, 0);
        let migration = Migration::new(source.url(), target.url());
        let running = migration.started(100);
        let moved = std::thread::scope(|scope| {
            let on_source = scope.spawn(|| move_until_ended(&source, &running));
            let on_target = move_until_ended(&target, &running);
            on_target.min(on_source.join().unwrap())
        });
        assert!(moved > 0, "no slot moved while the run was under way");
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(running.release().wait(), || source.keys(), oracle);
        assert!(target.redirections() > 0 && source.redirections() > 0);
    }
}

#[test]
fn every_node_is_logged_in_to_as_the_endpoint_says() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Cluster::of(&binary, 3, 0, |spec| spec.password("of-the-source"));
    source.fill(&DataSet::new(2_000, seed()));
    let target = Cluster::of(&binary, 3, 0, |spec| spec.password("of-the-target"));
    let migration = Migration::new(source.url(), target.url());
    let finished = migration.command().args(["--connections", "2"]).run();
    let oracle = Oracle::between(&source, &target);
    migration.expect_complete(finished, || source.keys(), oracle);
}

#[test]
fn a_master_of_the_source_that_is_replaced_loses_no_key() {
    for binary in clusters(&KINDS) {
        for killed in [false, true] {
            let mut source = Cluster::start(&binary, 3, 1);
            source.fill(&DataSet::new(SOME_KEYS, seed()));
            source.wait_until_replicated();
            let target = Server::plain(&binary);
            let migration = Migration::new(source.url(), target.url(0));
            let running = migration.started(100);
            // The node that is read last, and the one that was named.
            match killed {
                true => source.kill_master(2, 5),
                false => source.fail_over_to(3),
            }
            let under_way = running.is_running();
            let oracle = Oracle::between(&source, &target);
            migration.expect_complete(running.release().wait(), || source.keys(), oracle);
            assert!(under_way, "the master was replaced too late");
        }
    }
}

#[test]
fn a_master_of_the_target_that_is_replaced_loses_no_key() {
    for binary in clusters(&KINDS) {
        for killed in [false, true] {
            let source = Server::plain(&binary);
            fill(&source, 0, &DataSet::new(SOME_KEYS, seed()));
            let mut target = Cluster::start(&binary, 3, 1);
            let migration = Migration::new(source.url(0), target.url());
            let running = migration.started(100);
            match killed {
                true => target.kill_master(1, 4),
                false => target.fail_over_to(3),
            }
            let finished = running.release().wait();
            let oracle = Oracle::between(&source, &target);
            migration.expect_complete(finished, || source.keys(0), oracle);
            let passes = migration.status().passes;
            assert!(
                passes.last().unwrap().reason.contains("suspect"),
                "what the lost master had acknowledged was counted on: {passes:?}"
            );
        }
    }
}

#[test]
fn a_run_that_was_killed_goes_on_at_its_slot_though_all_processes_are_new() {
    for binary in clusters(&KINDS) {
        let mut source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet::new(FEW_KEYS, seed()));
        let target = Cluster::start(&binary, 3, 0);
        let migration = Migration::new(source.url(), target.url());
        let running = migration.started(u64::from(FEW_KEYS) / 4);
        assert!(running.release().kill_9().was_killed());
        let restored = target.writes();
        for node in 0..3 {
            source.node_mut(node).restart();
        }
        source.wait_until_agreed();
        source.reshard(2, 0, 500);
        let finished = migration.command().run();
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(finished, || source.keys(), oracle);
        assert_eq!(migration.status().passes.len(), 1);
        let again = target.writes() - restored;
        assert!(
            again < u64::from(FEW_KEYS) * 9 / 10,
            "{again} RESTOREs after the resume: it began anew"
        );
    }
}

#[test]
fn runs_that_are_killed_again_and_again_while_slots_move_lose_no_key() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Cluster::start(&binary, 3, 0);
    source.fill(&DataSet::new(KEYS, seed()));
    let target = Cluster::start(&binary, 3, 0);
    let migration = Migration::new(source.url(), target.url());
    let mut killed = 0;
    for round in 0..5 {
        let mut running = migration.command().start();
        let side = if round % 2 == 0 { &source } else { &target };
        side.reshard(round % 3, (round + 1) % 3, SLOTS_MOVED);
        if running.is_running() {
            killed += usize::from(running.kill_9().was_killed());
        }
    }
    assert!(killed > 0, "no run was killed");
    let finished = migration.command().run();
    let oracle = Oracle::between(&source, &target);
    migration.expect_complete(finished, || source.keys(), oracle);
}

#[test]
fn our_own_writes_are_known_again_in_a_cluster() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Cluster::start(&binary, 3, 0);
    source.fill(&DataSet::new(FEW_KEYS, seed()));
    let target = Cluster::start(&binary, 3, 0);
    let migration = Migration::new(source.url(), target.url());
    let fail = || migration.command().args(["--on-conflict", "fail"]);
    let running = Slowed::new(fail().start());
    wait_for("a quarter of the keys", Duration::from_secs(60), || {
        (target.keys() > u64::from(FEW_KEYS) / 4).then_some(())
    });
    assert!(running.release().kill_9().was_killed());
    let finished = fail().run();
    let oracle = Oracle::between(&source, &target);
    migration.expect_complete(finished, || source.keys(), oracle);
}

#[test]
fn a_complete_migration_of_clusters_started_again_sends_nothing() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Cluster::start(&binary, 3, 0);
    source.fill(&DataSet::new(1_000, seed()));
    let target = Cluster::start(&binary, 3, 0);
    let migration = Migration::new(source.url(), target.url());
    migration.command().run().expect_code(0);
    let restored = target.writes();
    let finished = migration.command().run().expect_code(0);
    assert_eq!(target.writes(), restored);
    assert!(finished.stderr().contains("already complete"), "{finished}");
}

#[test]
fn clusters_that_can_not_be_used_are_refused_with_the_reason() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let cluster = Cluster::start(&binary, 3, 1);
    let single = Server::plain(&binary);
    let empty = Server::start(ServerSpec::new(binary.clone()).config("cluster-enabled", "yes"));
    let check = |from: &str, to: &str, code: i32, said: &str| {
        let migration = Migration::new(from.to_owned(), to.to_owned());
        let finished = migration.command().run().expect_code(code);
        assert!(finished.stderr().contains(said), "{said}\n{finished}");
    };
    let nodes = cluster.nodes();
    check(&nodes[0].url(0), &nodes[1].url(0), 22, "the same cluster");
    let select = "SELECT is not allowed in cluster mode";
    check(&nodes[0].url(3), &single.url(0), 2, select);
    check(&single.url(0), &nodes[0].url(3), 2, select);
    check(
        &single.url(0),
        &empty.url(0),
        22,
        "16384 of 16384 slots are at no node",
    );
    check(
        &empty.url(0),
        &single.url(0),
        22,
        "16384 of 16384 slots are at no node",
    );
    // A replica leads to its masters.
    fill(&single, 0, &DataSet::new(1_000, seed()));
    let migration = Migration::new(single.url(0), nodes[4].url(0));
    let finished = migration.command().run();
    let oracle = Oracle::between(Servers::from(&single), &cluster);
    migration.expect_complete(finished, || single.keys(0), oracle);
}
