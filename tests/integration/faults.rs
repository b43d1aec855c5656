//! Bad days of networks and servers: after each, both sides are equal, nothing hangs, and memory stays bounded.

use std::time::Duration;

use ::redknot::progress::Status;
use rustix::process::Signal;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::proxy::{Cut, Proxy};
use crate::support::redknot::{Finished, Redknot, Running, status};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{Binary, REDIS_7_0, require};
use crate::support::{seed, wait_for};

const NAME: &str = "faulty";
/// No value of these data sets is large, so this is what any run may take.
const RSS_MAX: u64 = 64 * 1024 * 1024;

/// Two servers, a proxy in front of each, and a migration between the proxies.
struct Bad {
    source: Server,
    target: Server,
    source_proxy: Proxy,
    target_proxy: Proxy,
    state: tempfile::TempDir,
}

impl Bad {
    fn new(binary: &Binary, keys: u32) -> Self {
        let (source, target) = (Server::plain(binary), Server::plain(binary));
        let seed = seed();
        fill(&source, 0, &DataSet::new(keys, seed));
        let source_proxy = Proxy::start(source.port(), seed);
        let target_proxy = Proxy::start(target.port(), seed + 1);
        Self {
            source,
            target,
            source_proxy,
            target_proxy,
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn migrate(&self) -> Redknot {
        Redknot::migrate(
            &self.source_proxy.url(0),
            &self.target_proxy.url(0),
            self.state.path(),
        )
        .args([
            "--name",
            NAME,
            "--json",
            "--batch",
            "100",
            "--timeout",
            "2s",
        ])
        .time_limit(Duration::from_secs(180))
    }

    /// The run reaches its end, and what it leaves is right.
    fn finish(&self, finished: Finished) -> Status {
        let finished = finished.expect_code(0);
        assert!(
            finished.rss_max_bytes < RSS_MAX,
            "{} bytes of memory\n{finished}",
            finished.rss_max_bytes
        );
        let keys = Oracle::between(&self.source, &self.target).assert_equal();
        assert_eq!(keys as u64, self.source.keys(0));
        let status = status(NAME, self.state.path());
        assert!(
            status.counters.balance() && status.counters.keys_quarantined == 0,
            "{status:?}"
        );
        assert_eq!(
            status.passes.len(),
            1,
            "no fault of a network begins a new pass: {:?}",
            status.passes
        );
        status
    }

    fn run(&self) -> Status {
        self.finish(self.migrate().run())
    }

    /// Waits until so many keys are on the target.
    fn wait_for_keys(&self, running: &mut Running, keys: u64) {
        let mut connection = self.target.connection();
        wait_for("keys on the target", Duration::from_secs(60), || {
            assert!(
                running.is_running(),
                "the run ended too early: {}",
                running.stderr_so_far()
            );
            let there: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
            (there >= keys).then_some(())
        });
    }
}

#[test]
fn connections_that_break_again_and_again_cost_only_what_was_in_flight() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for cut in [Cut::Reset, Cut::Close] {
        let bad = Bad::new(&redis, 10_000);
        bad.source_proxy
            .replies()
            .cut_each_after(100_000..400_000, cut);
        bad.target_proxy
            .requests()
            .cut_each_after(100_000..400_000, cut);
        let status = bad.run();
        assert!(
            status.retries >= 4,
            "only {} retries: the proxies cut too little",
            status.retries
        );
        assert!(bad.source_proxy.connections() > 4 && bad.target_proxy.connections() > 4);
    }
}

#[test]
fn a_reply_that_breaks_off_is_never_half_a_payload() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 5_000);
    let rules = [
        bad.source_proxy
            .on("DUMP")
            .skip(500)
            .cut_in_reply(20, Cut::Reset),
        bad.source_proxy
            .on("DUMP")
            .skip(1500)
            .cut_in_reply(0, Cut::Close),
        bad.source_proxy
            .on("SCAN")
            .skip(5)
            .cut_in_reply(30, Cut::Reset),
        bad.source_proxy
            .on("PEXPIRETIME")
            .skip(2500)
            .cut_in_reply(u64::MAX, Cut::Reset),
    ];
    bad.run();
    for rule in rules {
        assert_eq!(bad.source_proxy.fired(rule), 1);
    }
}

#[test]
fn restores_whose_answers_are_lost_are_sent_again() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 5_000);
    let rules: Vec<_> = (1..=8)
        .map(|round| {
            bad.target_proxy
                .on_writes()
                .skip(round * 400)
                .lose_replies()
        })
        .collect();
    let status = bad.run();
    assert!(
        rules
            .iter()
            .filter(|rule| bad.target_proxy.fired(**rule) > 0)
            .count()
            >= 8
    );
    assert!(status.retries >= 2, "{status:?}");
}

#[test]
fn our_own_writes_whose_answers_were_lost_are_no_conflicts() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for policy in ["skip", "fail"] {
        let bad = Bad::new(&redis, 3_000);
        for round in 1..=4 {
            bad.target_proxy
                .on_writes()
                .skip(round * 400)
                .lose_replies();
        }
        let status = bad.finish(bad.migrate().args(["--on-conflict", policy]).run());
        assert_eq!(status.counters.keys_kept, 0, "{policy}: {status:?}");
    }
}

#[test]
fn errors_of_a_whole_server_are_waited_out() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let of_the_target = [
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-READONLY You can't write against a read only replica.",
        "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "-LOADING Redis is loading the dataset in memory",
        "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "-NOREPLICAS Not enough good replicas to write.",
    ];
    let bad = Bad::new(&redis, 5_000);
    let rules: Vec<_> = of_the_target
        .iter()
        .zip(1..)
        .map(|(line, round)| {
            bad.target_proxy
                .on_writes()
                .skip(round * 500)
                .times(3)
                .answer(line)
        })
        .collect();
    let of_the_source = [
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    ];
    let source_rules: Vec<_> = of_the_source
        .iter()
        .zip(1..)
        .map(|(line, round)| bad.source_proxy.on("DUMP").skip(round * 1500).answer(line))
        .collect();
    let scan = bad
        .source_proxy
        .on("SCAN")
        .skip(20)
        .answer("-LOADING Redis is loading the dataset in memory");
    let status = bad.run();
    assert!(rules.iter().all(|rule| bad.target_proxy.fired(*rule) > 0));
    assert!(
        source_rules
            .iter()
            .chain([&scan])
            .all(|rule| bad.source_proxy.fired(*rule) > 0)
    );
    assert!(status.retries as usize >= rules.len(), "{status:?}");
}

#[test]
fn too_many_clients_are_waited_out() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 2_000);
    let rule = bad
        .target_proxy
        .on("PING")
        .times(2)
        .answer("-ERR max number of clients reached");
    bad.run();
    assert_eq!(bad.target_proxy.fired(rule), 2);
}

#[test]
fn a_flipped_bit_is_seen_before_the_target_sees_it() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 3_000);
    // In the middle of payloads, where RESP notices nothing. A string that MGET reads has no checksum of the source's.
    // Once for each of these keys: two in a row at one key would quarantine it.
    let rules: Vec<_> = [0, 609, 1_212, 1_815, 2_418]
        .map(|index| format!("user:{index}:profile"))
        .map(|key| bad.source_proxy.on("DUMP").key(key.as_bytes()).flip_byte(3))
        .into();
    bad.target_proxy.record();
    bad.finish(bad.migrate().args(["--read-with", "dump"]).run());
    assert!(rules.iter().all(|rule| bad.source_proxy.fired(*rule) == 1));
    let restore = bad.target.info("commandstats")["cmdstat_restore"].clone();
    // An empty payload, and one for each version of the format.
    let probes = 1 + ::redknot::rdb::dialect::PROBED.len();
    assert!(
        restore.ends_with(&format!("failed_calls={probes}")),
        "all but the handshake's probes were whole: {restore}"
    );
}

#[test]
fn a_stalled_network_is_noticed_and_left() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 20_000);
    let mut running = bad.migrate().start();
    bad.wait_for_keys(&mut running, 4_000);
    bad.source_proxy.replies().stall();
    wait_for(
        "a retry because of silence",
        Duration::from_secs(30),
        || {
            running
                .stdout_so_far()
                .contains("no answer for")
                .then_some(())
        },
    );
    bad.source_proxy.replies().flow();
    bad.wait_for_keys(&mut running, 10_000);
    bad.target_proxy.requests().stall();
    std::thread::sleep(Duration::from_secs(3));
    bad.target_proxy.requests().flow();
    bad.finish(running.wait());
}

#[test]
fn a_side_that_goes_away_for_a_while_is_waited_for() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 20_000);
    let mut running = bad.migrate().start();
    for (proxy, keys) in [(&bad.source_proxy, 4_000), (&bad.target_proxy, 10_000)] {
        bad.wait_for_keys(&mut running, keys);
        proxy.down();
        std::thread::sleep(Duration::from_secs(1));
        proxy.up();
    }
    let status = bad.finish(running.wait());
    assert!(status.retries >= 2, "{status:?}");
}

#[test]
fn a_side_that_stays_away_ends_the_run_with_its_own_code() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for (of_source, code) in [(true, 10), (false, 11)] {
        let bad = Bad::new(&redis, 10_000);
        let mut running = bad.migrate().args(["--max-unavailable", "2s"]).start();
        bad.wait_for_keys(&mut running, 2_000);
        let proxy = if of_source {
            &bad.source_proxy
        } else {
            &bad.target_proxy
        };
        proxy.down();
        let finished = running.wait().expect_code(code);
        assert!(
            finished
                .stderr()
                .contains("run the same command to continue"),
            "{finished}"
        );
        proxy.up();
        bad.run();
    }
}

#[test]
fn a_full_target_ends_the_run_and_more_memory_lets_it_go_on() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let target = Server::start(
        ServerSpec::new(redis.clone())
            .config("maxmemory", "4mb")
            .config("maxmemory-policy", "noeviction")
            .user("blind", "on >secret ~* +@all -info"),
    );
    // Who may not look at the memory does not know before it is refused.
    let blind = format!("redis://blind:secret@127.0.0.1:{}/0", target.port());
    let source = Server::plain(&redis);
    fill(&source, 0, &DataSet::new(20_000, seed()));
    let state = tempfile::tempdir().unwrap();
    let migrate = || {
        Redknot::migrate(&source.url(0), &blind, state.path()).args([
            "--name",
            NAME,
            "--max-unavailable",
            "2s",
        ])
    };
    let finished = migrate().run().expect_code(12);
    assert!(
        finished.stderr().contains("OOM") && finished.stderr().contains("maxmemory"),
        "{finished}"
    );
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("0")
        .exec(&mut target.connection())
        .unwrap();
    migrate().run().expect_code(0);
    Oracle::between(&source, &target).assert_equal();
}

#[test]
fn single_bytes_are_as_good_as_whole_pieces() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 300);
    for proxy in [&bad.source_proxy, &bad.target_proxy] {
        proxy.requests().pieces(1);
        proxy.replies().pieces(1);
    }
    bad.run();
}

#[test]
fn latency_and_a_narrow_link_slow_it_down_and_nothing_else() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 3_000);
    bad.source_proxy
        .replies()
        .latency(Duration::from_millis(100), Duration::from_millis(50));
    bad.target_proxy.requests().bandwidth(1_000_000);
    let status = bad.run();
    assert_eq!(status.retries, 0, "slow is not dead: {status:?}");
}

#[test]
fn one_bad_key_is_quarantined_and_the_others_arrive() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 2_000);
    redis::cmd("SET")
        .arg("bad\x1bkey")
        .arg("value")
        .exec(&mut bad.source.connection())
        .unwrap();
    bad.target_proxy
        .on("RESTORE")
        .key(b"bad\x1bkey")
        .always()
        .answer("-ERR Bad data format");
    let finished = bad
        .migrate()
        .args(["--write-with", "restore"])
        .run()
        .expect_code(1);
    assert!(
        finished.stdout().contains("bad\\\\x1bkey")
            && finished.stdout().contains("Bad data format"),
        "{finished}"
    );
    let status = status(NAME, bad.state.path());
    assert_eq!(status.counters.keys_quarantined, 1);
    assert!(status.counters.balance());
    assert_eq!(bad.target.keys(0), bad.source.keys(0) - 1);
}

/// Both directions of rule 2: the canary alone decides where INFO tells nothing.
#[test]
fn without_info_the_canary_tells_a_live_cursor_from_a_dead_one() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for restart in [false, true] {
        let mut bad = Bad::new(&redis, 20_000);
        bad.source_proxy
            .on("INFO")
            .always()
            .answer("-NOPERM this user has no permissions to run the 'info' command");
        let mut running = bad.migrate().start();
        bad.wait_for_keys(&mut running, 8_000);
        running.kill_9();
        if restart {
            bad.source.restart();
        }
        let finished = bad.migrate().run().expect_code(0);
        let status = status(NAME, bad.state.path());
        let reason = &status.passes.last().unwrap().reason;
        let passes = if restart { 2 } else { 1 };
        assert_eq!(status.passes.len(), passes, "{reason}\n{finished}");
        assert!(
            finished.stdout().contains("canary"),
            "the reason is said\n{finished}"
        );
        Oracle::between(&bad.source, &bad.target).assert_equal();
    }
}

/// The same while running: behind a balancer the process changes without the address changing.
#[test]
fn a_failover_behind_one_address_begins_a_new_pass() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 20_000);
    let other = Server::plain(&redis);
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(bad.source.port())
        .exec(&mut other.connection())
        .unwrap();
    wait_for("the replica", Duration::from_secs(30), || {
        (other
            .info("replication")
            .get("master_link_status")
            .map(String::as_str)
            == Some("up"))
        .then_some(())
    });
    redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .exec(&mut other.connection())
        .unwrap();
    let mut running = bad.migrate().start();
    bad.wait_for_keys(&mut running, 6_000);
    bad.source_proxy.switch_upstream(other.port());
    bad.source_proxy.cut_now(Cut::Reset);
    running.wait().expect_code(0);
    assert_eq!(status(NAME, bad.state.path()).passes.len(), 2);
    Oracle::between(&bad.source, &bad.target).assert_equal();
}

#[test]
fn a_frozen_process_goes_on_where_it_was() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let bad = Bad::new(&redis, 20_000);
    let mut running = bad.migrate().start();
    bad.wait_for_keys(&mut running, 6_000);
    running.signal(rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_secs(7));
    running.signal(rustix::process::Signal::CONT);
    bad.finish(running.wait());
}

/// What its earlier process acknowledged is gone, though nothing of it may have been recorded yet. And numbers of
/// connections begin anew with each process, so a number of ours is somebody else's there.
#[test]
fn a_target_that_restarts_empty_at_the_beginning_loses_no_key_and_no_connection_of_others() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let (source, mut target) = (Server::plain(&binary), Server::plain(&binary));
    fill(&source, 0, &DataSet::new(30_000, seed()));
    let state = tempfile::tempdir().unwrap();
    let running = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--batch", "100"])
        .start();
    wait_for("some keys to arrive", Duration::from_secs(30), || {
        (target.keys(0) > 0).then_some(())
    });
    running.signal(Signal::STOP);
    let list: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query(&mut target.connection())
        .unwrap();
    let ours = list.lines().filter(|line| line.contains("name=redknot:"));
    let numbers = ours.filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    let last = numbers
        .filter_map(|number| number.parse::<u64>().ok())
        .max();
    let last = last.unwrap_or_else(|| panic!("it had ended already: {list}"));
    target.restart_empty();
    let mut others = Vec::new();
    loop {
        let mut other = target.connection();
        let number: u64 = redis::cmd("CLIENT").arg("ID").query(&mut other).unwrap();
        others.push(other);
        if number > last {
            break;
        }
    }
    running.signal(Signal::CONT);
    running.wait().expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    for other in &mut others {
        redis::cmd("PING").exec(other).expect("it was left alone");
    }
}
