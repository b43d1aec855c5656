//! Strings of a cluster by MGET, slot by slot, also while the slots move; and one number in place of their expiries, which
//! each node tells of itself.

use super::*;

/// Keys that share a slot with others, half of what a batch may have.
const OF_A_SLOT: u32 = 40;

/// Strings in a tenth as many slots as a cluster has, and a few hashes. Every `expiring`th string expires.
fn fill_strings(cluster: &Cluster, strings: u32, hashes: u32, expiring: Option<u32>) {
    let scratch = Server::plain(&require(REDIS_7_0).unwrap());
    let mut pipe = redis::pipe();
    for number in 0..strings {
        let tag = number / OF_A_SLOT;
        let set = pipe.cmd("SET").arg(format!("{{{tag}}}text:{number}"));
        set.arg(format!("value {number}"));
        if expiring.is_some_and(|one_of| number % one_of == 0) {
            set.arg("PX").arg(100_000_000 + number);
        }
        pipe.ignore();
    }
    for number in 0..hashes {
        pipe.cmd("HSET")
            .arg(format!("{{{number}}}hash"))
            .arg(&["field", "value"])
            .ignore();
    }
    pipe.exec(&mut scratch.connection()).unwrap();
    cluster.carry_from(&scratch);
}

#[test]
fn strings_are_read_slot_by_slot_and_one_number_stands_for_their_expiries() {
    const STRINGS: u32 = 16_000;
    const HASHES: u32 = 200;
    for binary in clusters(&KINDS) {
        let source = Cluster::start(&binary, 3, 0);
        fill_strings(&source, STRINGS, HASHES, None);
        let target = Server::plain(&binary);
        let migration = Migration::new(source.url(), target.url(0));
        migration.command().run().expect_code(0);
        assert_eq!(target.keys(0), u64::from(STRINGS + HASHES));
        assert_eq!(source.calls("dump"), u64::from(HASHES));
        let (mget, exec) = (source.calls("mget"), source.calls("exec"));
        assert!(mget >= u64::from(STRINGS / OF_A_SLOT), "{mget} MGETs");
        // A look at each node, and the rest behind MGETs.
        assert!(exec > mget / 2 + 3, "{exec} transactions, {mget} MGETs");
        // The walk asks by PTTL for each slot.
        let of_keys = source.calls("pexpiretime");
        assert!(of_keys < u64::from(HASHES) + 500, "{of_keys}");
        // The handshake asks every node about one name, which one of them has. No MGET was of two slots.
        assert!(source.redirections() <= 2, "{}", source.redirections());
        assert_eq!(target.calls("set"), u64::from(STRINGS));
        // It asks for every expiry itself.
        Oracle::between(&source, &target).assert_equal();
    }
}

#[test]
fn strings_whose_slots_move_while_they_are_read_arrive_with_their_expiries() {
    for (binary, expiring) in clusters(&KINDS).zip([None, Some(3), None]) {
        let source = Cluster::start(&binary, 3, 0);
        fill_strings(&source, SOME_KEYS, 500, expiring);
        let target = Server::plain(&binary);
        let migration = Migration::new(source.url(), target.url(0));
        // Frozen as it is most of the time, it would still be faster than the tool that moves slots.
        let running = Slowed::new(migration.command().args(["--rate", "8000/s"]).start());
        wait_until_begun(&migration, &running, 100);
        let moved = reshard_until_ended(&source, &running);
        assert!(moved > 0, "no slot moved while the run was under way");
        let oracle = Oracle::between(&source, &target);
        migration.expect_complete(running.release().wait(), || source.keys(), oracle);
        assert!(source.redirections() > 0, "nobody was sent elsewhere");
        let mget = source.calls("mget");
        assert!(mget >= u64::from(SOME_KEYS / OF_A_SLOT / 2), "{mget} MGETs");
    }
}
