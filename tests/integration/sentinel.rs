//! Services that sentinels watch, as source and as target: found, followed through failovers, and refused with reasons.

use std::time::Duration;

use ::redknot::progress::{CompareState, RunState, Status};
use rustix::process::Signal;

use crate::cluster::Slowed;
use crate::support::comparing::{Compared, compare, compare_urls, repair};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::assert_equal;
use crate::support::redknot::{Finished, Redknot, Running, status, status_file};
use crate::support::sentinel::{Sentinel, Service, ServiceSpec};
use crate::support::server::Server;
use crate::support::version::{Binary, Kind, REDIS_7_0, VALKEY_9_1, require};
use crate::support::{seed, wait_for};

const NAME: &str = "watched";
const KINDS: [Kind; 2] = [REDIS_7_0, VALKEY_9_1];
/// Enough for a run to be met in its middle, which then has to wait for the failover.
const KEYS: u32 = 20_000;

fn migrate(from: &str, to: &str, state: &tempfile::TempDir) -> Redknot {
    Redknot::migrate(from, to, state.path()).args(["--name", NAME, "--json", "--batch", "100"])
}

/// Starts it, and holds it in its middle while something happens.
fn held(command: &Redknot, state: &tempfile::TempDir, meanwhile: impl FnOnce()) -> Running {
    let running = slowed(command, state).release();
    running.signal(Signal::STOP);
    meanwhile();
    running.signal(Signal::CONT);
    running
}

/// Starts it slowly, and waits until some of its keys are durable.
fn slowed(command: &Redknot, state: &tempfile::TempDir) -> Slowed {
    let running = Slowed::new(command.start());
    wait_for(
        "the run to be in its middle",
        Duration::from_secs(60),
        || {
            assert!(running.is_running(), "the run ended too early");
            status_file(NAME, state.path()).filter(|status| status.batches_durable > 0)
        },
    );
    running
}

/// Its accounts are whole, and `compare` finds both sides equal as well as the oracle does.
fn expect_complete(
    finished: Finished,
    state: &tempfile::TempDir,
    source: &Server,
    target: &Server,
) -> Status {
    let finished = finished.expect_code(0);
    let keys = assert_equal(source, target);
    assert_eq!(keys as u64, source.keys(0));
    let status = status(NAME, state.path());
    assert_eq!(status.state, RunState::Complete, "{finished}");
    assert!(status.counters.balance(), "{status:?}");
    let compared = Compared::of(compare(NAME, state.path()).run().expect_code(0));
    compared.assert_equal(keys as u64);
    status
}

/// Each kind of server at the same time: most of it is waiting for sentinels.
fn with_each_kind(test: impl Fn(Binary) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for binary in KINDS.into_iter().filter_map(require) {
            scope.spawn(move || test(binary));
        }
    });
}

#[test]
fn a_service_is_migrated_from_and_to_by_its_name() {
    with_each_kind(|binary| {
        let data = DataSet::new(2_000, seed());
        let mut source = Service::start(&ServiceSpec {
            password: Some("of-the-servers"),
            sentinel_password: Some("of-the-sentinels"),
            data: Some(&data),
            ..ServiceSpec::new(&binary, 2)
        });
        let target = Service::start(&ServiceSpec::new(&binary, 1));
        let state = tempfile::tempdir().unwrap();
        // The first to be asked is dead.
        let dead = source
            .sentinels()
            .iter_mut()
            .min_by_key(|sentinel| sentinel.port())
            .unwrap();
        dead.kill_9();
        let login = |command: Redknot| {
            command
                .env("REDKNOT_FROM_PASSWORD", "of-the-servers")
                .env("REDKNOT_FROM_SENTINEL_PASSWORD", "of-the-sentinels")
        };
        let finished = login(migrate(&source.url(), &target.url(), &state)).run();
        finished.expect_code(0);
        let (from, to) = (source.master(), target.master());
        let keys = assert_equal(from, to) as u64;

        let status = status(NAME, state.path());
        let address = source.url().replace("redis-sentinel://", "");
        let (hosts, service) = address.split_once('/').unwrap();
        let mut hosts: Vec<&str> = hosts.split(',').collect();
        hosts.sort_unstable();
        assert_eq!(
            status.source,
            format!("redis-sentinel://{}/{service}/0", hosts.join(","))
        );

        // By the name of the migration alone: where the servers are stands in its plan.
        redis::cmd("DEL")
            .arg("user:1")
            .arg("gone")
            .query::<()>(&mut to.connection())
            .unwrap();
        redis::cmd("SET")
            .arg("only-here")
            .arg("1")
            .query::<()>(&mut from.connection())
            .unwrap();
        login(compare(NAME, state.path())).run().expect_code(1);
        login(repair(NAME, state.path()))
            .args(["--apply"])
            .run()
            .expect_code(0);
        let compared = Compared::of(login(compare(NAME, state.path())).run().expect_code(0));
        compared.assert_equal(keys);
        let by_urls = login(compare_urls(&source.url(), &target.url(), state.path())).run();
        Compared::of(by_urls.expect_code(0)).assert_equal(keys);

        // Not one of the passwords was left anywhere.
        crate::support::secrets::assert_absent(
            state.path(),
            &[],
            &[b"of-the-servers", b"of-the-sentinels"],
        );
    });
}

#[test]
fn a_failover_of_the_source_loses_no_key() {
    with_each_kind(|binary| {
        let data = DataSet::new(KEYS, seed());
        let source = Service::start(&ServiceSpec {
            data: Some(&data),
            ..ServiceSpec::new(&binary, 3)
        });
        let target = Server::plain(&binary);
        let state = tempfile::tempdir().unwrap();
        let command = migrate(&source.url(), &target.url(0), &state);
        let finished = held(&command, &state, || source.fail_over()).wait();
        let status = expect_complete(finished, &state, source.master(), &target);
        // It came in the middle: otherwise there would be no second pass.
        let last = status.passes.last().unwrap();
        assert!(
            last.reason.contains("run_id changed"),
            "the old master's cursor went on: {:?}",
            status.passes
        );
    });
}

#[test]
fn a_failover_of_the_target_makes_its_acknowledgements_suspect_and_loses_no_key() {
    with_each_kind(|binary| {
        let source = Server::plain(&binary);
        fill(&source, 0, &DataSet::new(KEYS, seed()));
        let target = Service::start(&ServiceSpec::new(&binary, 1));
        let state = tempfile::tempdir().unwrap();
        let command = migrate(&source.url(0), &target.url(), &state);
        let finished = held(&command, &state, || target.fail_over()).wait();
        let status = expect_complete(finished, &state, &source, target.master());
        let last = status.passes.last().unwrap();
        assert!(last.reason.contains("suspect"), "{:?}", status.passes);
    });
}

/// From the moment that the replica is a master, to the one in which the old master hears of it, both take writes.
#[test]
fn a_migration_is_not_called_complete_while_its_target_is_being_replaced() {
    with_each_kind(|binary| {
        let source = Server::plain(&binary);
        fill(&source, 0, &DataSet::new(KEYS / 2, seed()));
        let target = Service::start(&ServiceSpec::new(&binary, 1));
        let state = tempfile::tempdir().unwrap();
        let running = slowed(&migrate(&source.url(0), &target.url(), &state), &state);
        let old = target.master().port();
        target.begin_failover();
        let finished = running.release().wait();
        target.wait_for_another_master_than(old);
        expect_complete(finished, &state, &source, target.master());
    });
}

/// A comparison, held in its middle, meanwhile whose sentinels make another master.
fn compared_through_a_failover(
    command: &Redknot,
    state: &tempfile::TempDir,
    service: &Service,
) -> Finished {
    let running = Slowed::new(command.start());
    wait_for(
        "the comparison to be in its middle",
        Duration::from_secs(60),
        || {
            assert!(running.is_running(), "it ended too early");
            let compare = status_file(NAME, state.path())?.compare?;
            let begun =
                compare.state == CompareState::Comparing && compare.counters.keys_compared > 0;
            begun.then_some(())
        },
    );
    let running = running.release();
    running.signal(Signal::STOP);
    service.fail_over();
    running.signal(Signal::CONT);
    running.wait()
}

/// The old master goes on to answer for some time. What it says counts no more.
#[test]
fn a_comparison_follows_both_sides_through_a_failover() {
    with_each_kind(|binary| {
        let data = DataSet::new(KEYS, seed());
        let source = Service::start(&ServiceSpec {
            data: Some(&data),
            ..ServiceSpec::new(&binary, 1)
        });
        let target = Service::start(&ServiceSpec::new(&binary, 1));
        let state = tempfile::tempdir().unwrap();
        migrate(&source.url(), &target.url(), &state)
            .run()
            .expect_code(0);
        wait_for_copies(&target);
        let keys = source.master().keys(0);
        for service in [&source, &target] {
            let command = compare(NAME, state.path()).args(["--batch", "100", "--restart"]);
            let finished = compared_through_a_failover(&command, &state, service);
            let compared = Compared::of(finished.expect_code(0));
            compared.assert_equal(keys);
            let lanes = compared.finished.json_lines();
            let lanes: Vec<_> = lanes
                .iter()
                .filter(|line| line["type"] == "compare_lane")
                .map(|line| line["reason"].as_str().unwrap_or_default().to_owned())
                .collect();
            assert!(lanes.len() > 1, "it was not begun anew: {lanes:?}");
            let last = lanes.last().unwrap();
            let why = ["another process", "another master"];
            assert!(why.iter().any(|why| last.contains(why)), "{lanes:?}");
        }
    });
}

/// Until the replica has all keys that its master has.
fn wait_for_copies(service: &Service) {
    let (master, replica) = (service.master(), service.replica());
    wait_for(
        "the replica to have all keys",
        Duration::from_secs(30),
        || (replica.keys(0) == master.keys(0)).then_some(()),
    );
}

#[test]
fn a_repair_follows_its_target_through_a_failover() {
    const MISSING: u32 = 3_000;
    with_each_kind(|binary| {
        let source = Server::plain(&binary);
        fill(&source, 0, &DataSet::new(100, seed()));
        let target = Service::start(&ServiceSpec::new(&binary, 1));
        let state = tempfile::tempdir().unwrap();
        migrate(&source.url(0), &target.url(), &state)
            .run()
            .expect_code(0);
        let mut pipe = redis::pipe();
        for n in 0..MISSING {
            pipe.cmd("SET").arg(format!("missing:{n}")).arg(n);
        }
        pipe.exec(&mut source.connection()).unwrap();
        compare(NAME, state.path()).run().expect_code(1);
        let old = target.master().port();
        let running = Slowed::new(
            repair(NAME, state.path())
                .args(["--apply", "--json"])
                .start(),
        );
        wait_for("some keys to be repaired", Duration::from_secs(60), || {
            assert!(running.is_running(), "it ended too early");
            (target.master().calls("restore") > 300).then_some(())
        });
        let running = running.release();
        running.signal(Signal::STOP);
        target.fail_over();
        running.signal(Signal::CONT);
        let finished = running.wait().expect_code(0);
        assert_ne!(target.master().port(), old);
        // Who was repaired before the failover is on the new master too: it was in step.
        assert_equal(&source, target.master());
        let said = format!("{}{}", finished.stdout(), finished.stderr());
        let told = "the target is another process than at the beginning";
        assert!(said.contains(told), "{finished}");
        Compared::of(compare(NAME, state.path()).run().expect_code(0)).assert_equal(1);
    });
}

#[test]
fn a_migration_that_was_stopped_goes_on_with_the_new_masters_of_both_sides() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let data = DataSet::new(KEYS, seed());
    let source = Service::start(&ServiceSpec {
        data: Some(&data),
        ..ServiceSpec::new(&binary, 1)
    });
    let target = Service::start(&ServiceSpec::new(&binary, 1));
    let state = tempfile::tempdir().unwrap();
    let command = migrate(&source.url(), &target.url(), &state);
    let killed = slowed(&command, &state).release().kill_9();
    assert!(killed.was_killed());
    source.fail_over();
    target.fail_over();
    let finished = command.run();
    let status = expect_complete(finished, &state, source.master(), target.master());
    assert_eq!(status.run, 2, "it is the same migration");
    assert_eq!(status.passes.len(), 2, "{:?}", status.passes);
}

#[test]
fn what_sentinels_do_not_know_or_allow_is_said() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let service = Service::start(&ServiceSpec {
        sentinel_password: Some("of-the-sentinels"),
        ..ServiceSpec::new(&binary, 1)
    });
    let plain = Server::plain(&binary);
    let state = tempfile::tempdir().unwrap();
    let mut said = String::new();
    let mut run = |url: &str, env: Option<(&str, &str)>, args: &[&str]| {
        let mut command = Redknot::migrate(url, &plain.url(0), state.path())
            .args(["--name", "m", "-q", "--restart", "--max-unavailable", "0s"])
            .args(args);
        if let Some((name, value)) = env {
            command = command.env(name, value);
        }
        let finished = command.run();
        said += &format!("exit {}\n{}\n", finished.code().unwrap(), finished.stderr());
    };
    let login = Some(("REDKNOT_FROM_SENTINEL_PASSWORD", "of-the-sentinels"));
    run(&service.url(), None, &[]);
    run(
        &service.url(),
        Some(("REDKNOT_FROM_SENTINEL_PASSWORD", "of-other-sentinels")),
        &[],
    );
    run(&service.url().replace("shop", "shoe"), login, &[]);
    run(
        &format!("redis-sentinel://127.0.0.1:{}/shop", plain.port()),
        None,
        &[],
    );
    let nobody = Sentinel::start(&binary, None, "");
    run(
        &format!("redis-sentinel://127.0.0.1:{}/shop", nobody.port()),
        None,
        &[],
    );
    run(&plain.url(0), None, &["--from-sentinel-user", "me"]);
    run(&service.url(), None, &["--from-sentinel-user", "me"]);
    for (port, name) in [
        (plain.port(), "PLAIN"),
        (nobody.port(), "NOBODY"),
        (
            service.url()[27..]
                .split('/')
                .next()
                .unwrap()
                .parse()
                .unwrap(),
            "SENTINEL",
        ),
    ] {
        said = said.replace(&port.to_string(), name);
    }
    insta::assert_snapshot!(said, @r#"
    exit 20
    error: source: failed to ask the sentinels
      the sentinel 127.0.0.1:SENTINEL answers "NOAUTH Authentication required."
    hint: the sentinels' password is not the servers': --from-sentinel-pass-file FILE or REDKNOT_FROM_SENTINEL_PASSWORD, and --from-sentinel-user

    exit 20
    error: source: failed to ask the sentinels
      the sentinel 127.0.0.1:SENTINEL answers "WRONGPASS invalid username-password pair or user is disabled."
    hint: the sentinels' password is not the servers': --from-sentinel-pass-file FILE or REDKNOT_FROM_SENTINEL_PASSWORD, and --from-sentinel-user

    exit 2
    error: source: failed to ask the sentinels
      they know no service "shoe"; they know shop
    hint: --from redis-sentinel://host:26379/SERVICE

    exit 2
    error: source: failed to ask the sentinels
      what answers at 127.0.0.1:PLAIN is a server and no sentinel
    hint: the address of a server itself is --from redis://host:6379; sentinels usually listen at 26379

    exit 2
    error: source: failed to ask the sentinels
      they know no service "shop", nor any other
    hint: --from redis-sentinel://host:26379/SERVICE

    exit 2
    error: --from-sentinel-user has no effect without sentinels
      --from names a server itself
    hint: write redis-sentinel://host:26379/SERVICE, or leave --from-sentinel-user away

    exit 2
    error: --from-sentinel-user needs a password
      a user without one can't log in
    hint: give it with --from-sentinel-pass-file or REDKNOT_FROM_SENTINEL_PASSWORD
    "#);
}
