use std::time::Duration;

use rustix::process::Signal;

use super::{Pair, last_event};
use crate::support::dataset::{BIG_STRING_BYTES, DataSet, fill};
use crate::support::oracle;
use crate::support::proxy::{Cut, Proxy};
use crate::support::redknot::Redknot;
use crate::support::server::Server;
use crate::support::{seed, wait_for};

/// More than two handfuls of each kind of finding.
const BROKEN: u32 = 300;

impl Pair {
    /// A target that is called through a proxy, and findings of three kinds.
    fn broken(keys: u32) -> Option<(Self, Proxy)> {
        let mut pair = Self::new(0)?;
        let proxy = Proxy::start(pair.target.port(), seed());
        pair.to = proxy.url(0);
        pair.state = tempfile::tempdir().unwrap();
        pair.migrate(&[]);
        pair.breaks(keys);
        Some((pair, proxy))
    }

    fn breaks(&self, keys: u32) {
        let mut source = redis::pipe();
        let mut target = redis::pipe();
        for n in 0..keys {
            source.cmd("SET").arg(format!("missing:{n}")).arg(n);
            source
                .cmd("SADD")
                .arg(format!("value:{n}"))
                .arg(n)
                .arg("ours");
            target
                .cmd("SADD")
                .arg(format!("value:{n}"))
                .arg(n)
                .arg("theirs");
            target.cmd("SET").arg(format!("extra:{n}")).arg(n);
        }
        source.exec(&mut self.source.connection()).unwrap();
        target.exec(&mut self.target.connection()).unwrap();
        self.compare();
    }

    /// The command that repairs everything, extra keys included.
    fn repair_all(&self, keys: u32) -> Redknot {
        let count = keys.to_string();
        self.repair(&["--apply", "--delete-extra", "--yes", &count, "--json"])
    }
}

/// RESTOREs that the target executed with success; those of the handshake are refused.
fn restores(target: &Server) -> u64 {
    let stats = target.info("commandstats");
    let field = |name: &str| -> u64 {
        let fields = stats["cmdstat_restore"].split(',');
        let field = fields.clone().find_map(|field| field.strip_prefix(name));
        field.unwrap_or("0").parse().unwrap()
    };
    field("calls=") - field("failed_calls=")
}

#[test]
fn killed_anywhere_the_same_command_repairs_the_rest() {
    let Some(mut pair) = Pair::new(0) else { return };
    let points = [
        "repair_written=1*off->return",
        "repair_before_delete=2*off->return",
        "repair_deleted=return",
        "repair_compared=3*off->return",
        "repair_recorded=4*off->return",
        "state_written_before_flush=5*off->return",
        "state_flushed_before_fsync=6*off->return",
        "state_fsynced=3*off->return",
    ];
    for point in points {
        Pair::on(&pair.source, &["FLUSHALL"]);
        Pair::on(&pair.target, &["FLUSHALL", "CONFIG RESETSTAT"]);
        pair.state = tempfile::tempdir().unwrap();
        pair.migrate(&[]);
        pair.breaks(BROKEN);
        let killed = pair.repair_all(BROKEN).env("FAILPOINTS", point).run();
        assert!(killed.was_killed(), "{point}: {killed}");
        // Somebody makes a key anew that was deleted: it is not among those whose number was confirmed.
        let deleted: Vec<String> = pair
            .journal("deleted")
            .iter()
            .map(|line| line["key"].as_str().unwrap().to_owned())
            .collect();
        if let Some(again) = deleted.first() {
            Pair::on(&pair.target, &[&format!("SET {again} new")]);
        }
        let expected = usize::from(!deleted.is_empty());
        let finished = pair.repair_all(BROKEN).run().expect_code(0);
        let end = last_event(&finished, "repaired");
        assert_eq!(end["repair"], 1, "{point}: it began anew");
        assert_eq!(end["counters"]["keys_repaired"], 2 * BROKEN, "{point}");
        assert_eq!(end["counters"]["keys_deleted"], BROKEN, "{point}");
        let left = pair.differences();
        assert_eq!(left.len(), expected, "{point}: {left:?}");
        assert_eq!(pair.findings(), 0);
        // At most a handful is done twice.
        let restored = restores(&pair.target);
        let unlinked = pair.target.calls("unlink");
        assert!(
            restored < u64::from(2 * BROKEN) + 128,
            "{point}: {restored}"
        );
        assert!(unlinked <= u64::from(BROKEN) + 128, "{point}: {unlinked}");
    }
}

#[test]
fn lost_connections_and_refusals_that_pass_cost_only_time() {
    let Some((pair, proxy)) = Pair::broken(BROKEN) else {
        return;
    };
    let faults = [
        proxy.on("RESTORE").skip(20).cut_before(Cut::Reset),
        proxy.on("RESTORE").skip(150).lose_replies(),
        proxy
            .on("RESTORE")
            .skip(300)
            .answer("-OOM command not allowed when used memory > 'maxmemory'."),
        proxy.on("UNLINK").skip(10).lose_replies(),
        proxy.on("DUMP").skip(100).cut_in_reply(3, Cut::Reset),
    ];
    let finished = pair.repair_all(BROKEN).run().expect_code(0);
    for fault in faults {
        assert_eq!(proxy.fired(fault), 1, "{finished}");
    }
    let end = last_event(&finished, "repaired");
    assert!(end["retries"].as_u64().unwrap() >= 5, "{end}");
    assert_eq!(end["counters"]["keys_repaired"], 2 * BROKEN);
    assert_eq!(end["counters"]["keys_deleted"], BROKEN);
    oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn a_key_that_the_target_refuses_stays_a_finding_with_its_reason() {
    let Some((pair, proxy)) = Pair::broken(3) else {
        return;
    };
    let refused = proxy.on("RESTORE").key(b"missing:1").always();
    let refused = refused.answer("-ERR Bad data format");
    let finished = pair.repair_all(3).run().expect_code(1);
    assert!(proxy.fired(refused) > 0);
    let told: Vec<_> = finished
        .json_lines()
        .into_iter()
        .filter(|line| line["type"] == "repair" && line["outcome"] == "differs")
        .collect();
    assert_eq!(told.len(), 1, "{finished}");
    assert_eq!(
        (&told[0]["key"], &told[0]["verdict"]),
        (&"missing:1".into(), &"missing".into())
    );
    let listed = pair.redknot("keys", &["--class", "missing"]).run();
    let listed = listed.expect_code(0).stdout();
    assert!(
        listed.contains("the target refuses it: ERR Bad data format"),
        "{listed}"
    );
    proxy.clear();
    pair.repair(&["--apply"]).run().expect_code(0);
    oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn a_target_that_stays_away_ends_the_run_and_the_same_command_goes_on() {
    let Some((pair, proxy)) = Pair::broken(BROKEN) else {
        return;
    };
    let down = proxy.on("RESTORE").skip(200).cut_before(Cut::Reset);
    let refuse = proxy
        .on("PING")
        .skip(3)
        .times(1_000)
        .answer("-LOADING Redis is loading the dataset in memory");
    let finished = pair
        .repair_all(BROKEN)
        .args(["--max-unavailable", "1s"])
        .run()
        .expect_code(11);
    assert!(
        proxy.fired(down) == 1 && proxy.fired(refuse) > 1,
        "{finished}"
    );
    let status = pair.status().repair.unwrap();
    assert_eq!(status.state, ::redknot::progress::RepairState::Stopped);
    proxy.clear();
    pair.repair_all(BROKEN).run().expect_code(0);
    oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn a_stop_lets_a_handful_come_to_its_end() {
    let Some((pair, proxy)) = Pair::broken(BROKEN) else {
        return;
    };
    let all = 3 * u64::from(BROKEN);
    let stalled = proxy.on("RESTORE").key(b"missing:150").stall_reply();
    let count = BROKEN.to_string();
    let running = pair
        .repair(&["--apply", "--delete-extra", "--yes", &count])
        .start();
    wait_for("a stalled handful", Duration::from_secs(30), || {
        (proxy.fired(stalled) == 1).then_some(())
    });
    running.signal(Signal::INT);
    wait_for("an answer to the signal", Duration::from_secs(30), || {
        running
            .stderr_so_far()
            .contains("stopping: Ctrl-C")
            .then_some(())
    });
    proxy.replies().flow();
    let stopped = running.wait().expect_code(130);
    let done = pair.status().repair.unwrap().counters.settled();
    assert!(done > 0 && done < all, "{done} {stopped}");
    assert_eq!(pair.findings() as u64, all - done);
    proxy.clear();
    let rest = pair.repair_all(BROKEN).run().expect_code(0);
    let told = rest.json_lines();
    let told = told.iter().filter(|line| line["type"] == "repair").count();
    assert_eq!(told as u64, all - done, "a finding was tried twice");
    oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn a_repair_that_is_under_way_keeps_others_out() {
    let Some((pair, proxy)) = Pair::broken(3) else {
        return;
    };
    let stalled = proxy.on("RESTORE").skip(1).stall_reply();
    let running = pair.repair_all(3).start();
    wait_for("a stalled repair", Duration::from_secs(30), || {
        (proxy.fired(stalled) == 1).then_some(())
    });
    let refused = pair.repair(&["--apply"]).run().expect_code(14);
    assert!(
        refused.stderr().contains("`redknot repair` with pid"),
        "{refused}"
    );
    let block = pair.redknot("status", &[]).run().expect_code(0).stdout();
    assert!(
        block.contains("\nrepair      of comparison 1 at work: "),
        "{block}"
    );
    proxy.replies().flow();
    running.wait().expect_code(0);
}

#[test]
fn a_string_of_64_mib_and_many_findings_take_bounded_memory() {
    let Some(mut pair) = Pair::new(0) else { return };
    let set = DataSet {
        big_string: true,
        ..DataSet::new(3_000, seed())
    };
    pair.state = tempfile::tempdir().unwrap();
    pair.migrate(&[]);
    fill(&pair.source, 0, &set);
    pair.compare();
    let repaired = pair.repair(&["--apply"]).run().expect_code(0);
    oracle::assert_equal(&pair.source, &pair.target);
    let max = 64 * 1024 * 1024 + 2 * BIG_STRING_BYTES as u64;
    assert!(repaired.rss_max_bytes < max, "{repaired}");
}
