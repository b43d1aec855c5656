use std::collections::BTreeSet;

use super::{NAME, clusters, reshard_until_ended};
use crate::acl::{denied, least_privileged_user, may_use_a_cluster, paste};
use crate::support::cluster::Cluster;
use crate::support::comparing::Compared;
use crate::support::dataset::DataSet;
use crate::support::oracle::Oracle;
use crate::support::redknot::Redknot;
use crate::support::seed;
use crate::support::version::{REDIS_7_0, VALKEY_9_1};

/// The password of every user that is pasted.
const PASSWORD: &str = "swordfish-of-the-acl-tests";

fn redknot(
    command: &str,
    sides: [&Cluster; 2],
    users: [&str; 2],
    state: &std::path::Path,
) -> Redknot {
    let url = |side: usize| {
        let port = sides[side].nodes()[0].port();
        format!("redis://{}@127.0.0.1:{port}", users[side])
    };
    Redknot::new([command, "--from", &url(0), "--to", &url(1)])
        .arg("--state-dir")
        .arg(state)
        .env("REDKNOT_FROM_PASSWORD", PASSWORD)
        .env("REDKNOT_TO_PASSWORD", PASSWORD)
}

#[test]
fn the_printed_users_suffice_for_clusters_whose_slots_move() {
    for binary in clusters(&[REDIS_7_0, VALKEY_9_1]) {
        let source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet::new(10_000, seed()));
        let target = Cluster::start(&binary, 3, 0);
        for (cluster, side) in [(&source, "source"), (&target, "target")] {
            for node in cluster.nodes() {
                least_privileged_user(node, side);
                may_use_a_cluster(node, side);
            }
        }
        let state = tempfile::tempdir().unwrap();
        let run = |command: &str| {
            redknot(
                command,
                [&source, &target],
                ["redknot-source", "redknot-target"],
                state.path(),
            )
        };
        let migrate = run("migrate").args(["--name", NAME, "--batch", "50"]);
        let running = super::Slowed::new(migrate.start());
        let moved = reshard_until_ended(&source, &running);
        assert!(moved > 0, "no slot moved meanwhile");
        let finished = running.release().wait().expect_code(0);
        assert!(!finished.stderr().contains("NOPERM"), "{finished}");
        let keys = Oracle::between(&source, &target).assert_equal() as u64;
        let compare = run("compare").args([NAME, "--json", "--settle", "50ms"]);
        Compared::of(compare.run().expect_code(0)).assert_equal(keys);
        // What they were denied, nobody needs.
        let may_lack = ["client|no-touch", "config|get", "module|list"];
        for node in source.nodes().iter().chain(target.nodes()) {
            let mut denied: BTreeSet<String> = denied(node);
            denied.retain(|command| !may_lack.contains(&command.as_str()));
            assert!(denied.is_empty(), "{}: {denied:?}", binary.kind.name);
        }
    }
}

#[test]
fn a_right_that_is_missing_in_a_cluster_is_named_with_its_node() {
    for binary in clusters(&[REDIS_7_0]) {
        let source = Cluster::start(&binary, 3, 0);
        source.fill(&DataSet::new(500, seed()));
        let target = Cluster::start(&binary, 3, 0);
        for (cluster, side) in [(&source, "source"), (&target, "target")] {
            for node in cluster.nodes() {
                least_privileged_user(node, side);
                may_use_a_cluster(node, side);
            }
        }
        for (cluster, side, lacking) in [
            (&source, "source", "cluster|slots"),
            (&source, "source", "cluster|getkeysinslot"),
            (&target, "target", "cluster|slots"),
        ] {
            let node = match lacking {
                "cluster|slots" => &cluster.nodes()[0],
                _ => &cluster.nodes()[1],
            };
            paste(node, &format!("ACL SETUSER redknot-{side} -{lacking}"));
            let state = tempfile::tempdir().unwrap();
            let users = ["redknot-source", "redknot-target"];
            let finished = redknot("migrate", [&source, &target], users, state.path())
                .args(["--on-conflict", "replace"])
                .run()
                .expect_code(20);
            let said = finished.stderr();
            // Some versions leave the user's name out.
            let hint = said.lines().find(|line| line.contains("ACL SETUSER"));
            let hint = hint.unwrap_or_else(|| panic!("no hint\n{finished}"));
            let (on, grant) = (format!("on the {side}: "), format!(" +{lacking} "));
            assert!(hint.contains(&on) && hint.contains(&grant), "{finished}");
            if lacking == "cluster|getkeysinslot" {
                let node = format!("node 127.0.0.1:{}", node.port());
                assert!(said.contains(&node), "{node}: {finished}");
            }
            paste(node, &format!("ACL SETUSER redknot-{side} +{lacking}"));
        }
    }
}
