//! Selection and renaming: the right keys arrive under the right names, and nothing else is looked at afterwards.

use super::{
    Keys, NAME, Pair, compare, found, migrate, one_damage_is_found_and_mended, set, strings, url,
};
use crate::support::comparing::repair;
use crate::support::dataset::{DataSet, fill};
use crate::support::redknot::Redknot;
use crate::support::version::{Kind, REDIS_6_0, REDIS_7_0, REDIS_8_2, VALKEY_9_1};

/// Keys in the source of these tests.
const KEYS: u32 = 600;

/// `user:0`, `tmp:1`, `app:2:x` and so on.
fn source_keys() -> Vec<(String, String)> {
    (0..KEYS)
        .map(|n| {
            let name = match n % 3 {
                0 => format!("user:{n}"),
                1 => format!("tmp:{n}"),
                _ => format!("app:{n}:x"),
            };
            (name, format!("value {n}"))
        })
        .collect()
}

/// A plan's flags, and what they mean for a name: what it is called on the target, if it is moved.
struct Case {
    flags: &'static [&'static str],
    there: fn(&str) -> Option<String>,
    /// A name of the target that the plan could have put there, of no key of the source.
    extra: &'static str,
    /// A name of the target that no plan of this kind looks at.
    foreign: &'static str,
}

const CASES: &[(Kind, Case)] = &[
    (
        REDIS_7_0,
        Case {
            flags: &["--exclude", "tmp:*", "--exclude", "*[0-4]:x"],
            there: |name| {
                let excluded = name.starts_with("tmp:")
                    || name
                        .strip_suffix(":x")
                        .is_some_and(|name| name.ends_with(['0', '1', '2', '3', '4']));
                (!excluded).then(|| name.to_owned())
            },
            extra: "user:extra",
            foreign: "tmp:foreign",
        },
    ),
    (
        REDIS_6_0,
        Case {
            flags: &["--prefix", "new[*]:"],
            there: |name| Some(format!("new[*]:{name}")),
            extra: "new[*]:extra",
            foreign: "new*:foreign",
        },
    ),
    (
        REDIS_8_2,
        Case {
            flags: &["--strip-prefix", "user:"],
            there: |name| name.strip_prefix("user:").map(str::to_owned),
            extra: "extra",
            // Of a whole database nothing is foreign: any name can be one without its prefix.
            foreign: "",
        },
    ),
    (
        VALKEY_9_1,
        Case {
            flags: &[
                "--strip-prefix",
                "user:",
                "--prefix",
                "u/",
                "--match",
                "*[02468]",
            ],
            there: |name| {
                let rest = name.strip_prefix("user:")?;
                rest.ends_with(['0', '2', '4', '6', '8'])
                    .then(|| format!("u/{rest}"))
            },
            extra: "u/x8",
            foreign: "u/x7",
        },
    ),
    (
        REDIS_7_0,
        Case {
            flags: &["--match", "user:*", "--exclude", "*9", "--type", "string"],
            there: |name| {
                (name.starts_with("user:") && !name.ends_with('9')).then(|| name.to_owned())
            },
            extra: "user:extra",
            foreign: "user:9",
        },
    ),
];

#[test]
fn what_is_selected_arrives_as_it_is_to_be_called_and_is_compared_and_repaired_so() {
    for (kind, case) in CASES {
        let Some(pair) = Pair::new(*kind) else {
            continue;
        };
        let mut source = pair.source.connection();
        let mut target = pair.target.connection();
        set(&mut source, source_keys());
        let finished = pair
            .migrate(case.flags)
            .args(["--json"])
            .run()
            .expect_code(0);
        let wanted: Keys = source_keys()
            .into_iter()
            .filter_map(|(name, value)| Some(((case.there)(&name)?.into_bytes(), value.into())))
            .collect();
        assert!(
            wanted.len() > 50 && strings(&mut target) == wanted,
            "{:?}",
            case.flags
        );
        let counters = &finished
            .json_lines()
            .into_iter()
            .rfind(|line| line["type"] == "complete")
            .unwrap()["counters"];
        assert_eq!(counters["keys_written"], wanted.len(), "{finished}");

        let compared = compare(pair.state(), 0);
        assert_eq!(compared.count("equal"), wanted.len() as u64);
        // One that can have come from here, and one that can not.
        set(&mut target, [(case.extra.to_owned(), "x".to_owned())]);
        if !case.foreign.is_empty() {
            set(&mut target, [(case.foreign.to_owned(), "x".to_owned())]);
        }
        let compared = compare(pair.state(), 1);
        assert_eq!(
            compared.count("extra"),
            1,
            "{:?}\n{}",
            case.flags,
            compared.finished
        );
        assert_eq!(compared.findings(), 1);
        repair(NAME, pair.state())
            .args(["--apply", "--delete-extra", "--yes", "1"])
            .run()
            .expect_code(0);
        let left = strings(&mut target);
        assert_eq!(
            left.len(),
            wanted.len() + usize::from(!case.foreign.is_empty())
        );
        assert!(case.foreign.is_empty() || left.contains_key(case.foreign.as_bytes()));

        let (name, there) = source_keys()
            .into_iter()
            .find_map(|(name, _)| (case.there)(&name).map(|there| (name, there)))
            .unwrap();
        one_damage_is_found_and_mended(&mut target, pair.state(), (0, &name), &there);
        assert_eq!(strings(&mut source).len() as u32, KEYS);
    }
}

#[test]
fn a_renamed_copy_of_every_type_is_equal_and_expires_when_it_should() {
    let Some(pair) = Pair::new(REDIS_8_2) else {
        return;
    };
    let keys = fill(
        &pair.source,
        0,
        &DataSet {
            field_ttls: true,
            ..DataSet::new(2_000, 3)
        },
    );
    let flags = [
        "--prefix",
        "{copy}:",
        "--on-conflict",
        "skip",
        "--connections",
        "2",
    ];
    pair.migrate(&flags).run().expect_code(0);
    let compared = compare(pair.state(), 0);
    compared.assert_equal(keys - keys / 20);
    assert_eq!(pair.target.keys(0), pair.source.keys(0));
    // Without overwriting, and with everything there already, each is looked at by its name there.
    pair.migrate(&flags).arg("--new-pass").run().expect_code(0);
    compare(pair.state(), 0);
}

#[test]
fn the_shards_together_are_all_keys_and_none_is_in_two() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    set(&mut pair.source.connection(), source_keys());
    let mut arrived = 0;
    for shard in ["1/3", "2/3", "3/3"] {
        let name = format!("shard-{}", &shard[..1]);
        // A key that were in two shards would be in the way of itself.
        let finished = Redknot::migrate(&url(&pair.source), &url(&pair.target), pair.state())
            .args([
                "--name",
                &name,
                "--shard",
                shard,
                "--on-conflict",
                "fail",
                "--json",
            ])
            .run()
            .expect_code(0);
        let counters = finished
            .json_lines()
            .into_iter()
            .rfind(|line| line["type"] == "complete")
            .unwrap()["counters"]
            .clone();
        let written = counters["keys_written"].as_u64().unwrap();
        assert_eq!(
            written + counters["keys_filtered"].as_u64().unwrap(),
            u64::from(KEYS)
        );
        assert!((150..250).contains(&written), "{written} in shard {shard}");
        arrived += written;
        assert_eq!(pair.target.keys(0), arrived);
        let compared =
            Redknot::new(["compare", &name, "--settle", "10ms", "--state-dir"]).arg(pair.state());
        compared.run().expect_code(0);
    }
    assert_eq!(
        strings(&mut pair.target.connection()),
        strings(&mut pair.source.connection())
    );
}

#[test]
fn a_copy_that_is_killed_goes_on_under_the_same_names() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    set(
        &mut pair.source.connection(),
        (0..20_000).map(|n| (format!("user:{n}"), format!("{n}"))),
    );
    let flags = [
        "--strip-prefix",
        "user:",
        "--prefix",
        "u:",
        "--exclude",
        "*7",
        "--batch",
        "100",
        "--on-conflict",
        "fail",
    ];
    let killed = pair
        .migrate(&flags)
        .env(
            "FAILPOINTS",
            "acknowledged_before_state_write=30*off->return",
        )
        .run();
    assert!(killed.was_killed(), "{killed}");
    assert!(pair.target.keys(0) > 0);
    pair.migrate(&flags).run().expect_code(0);
    let wanted: Keys = (0..20_000)
        .filter(|n| n % 10 != 7)
        .map(|n| (format!("u:{n}").into_bytes(), format!("{n}").into_bytes()))
        .collect();
    assert!(strings(&mut pair.target.connection()) == wanted);
    compare(pair.state(), 0).assert_equal(18_000);
    let both = Redknot::new(["compare", NAME, "--shard", "1/2", "--state-dir"])
        .arg(pair.state())
        .run()
        .expect_code(2);
    assert!(
        both.stderr()
            .starts_with("error: --shard and the name of a migration contradict each other\n"),
        "{both}"
    );
    // The status shows it, also as events.
    let status = Redknot::new(["status", NAME, "--state-dir"])
        .arg(pair.state())
        .run()
        .expect_code(0);
    assert!(
        status
            .stdout()
            .contains("--exclude *7  --strip-prefix user:  --prefix u:  --on-conflict fail"),
        "{status}"
    );
    // Another plan is another migration, and says in what.
    let other = pair
        .migrate(&["--prefix", "v:", "--exclude", "*7"])
        .run()
        .expect_code(26);
    let said = other.stderr();
    for wanted in [
        "--strip-prefix: previous user:, now (none)",
        "--prefix: previous u:, now v:",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn a_configuration_file_and_the_environment_say_the_same() {
    let Some(mut pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    set(&mut pair.source.connection(), source_keys());
    set(&mut pair.source.connection_to(2), source_keys());
    let by_flags = [
        "--exclude",
        "tmp:*",
        "--exclude",
        "a[,]b*",
        "--db-map",
        "0:1,2:1",
        "--db-prefix=db{db}-",
        "--shard",
        "1/2",
    ];
    pair.migrate(&by_flags).run().expect_code(0);
    let wanted = strings(&mut pair.target.connection_to(1));
    assert!(wanted.len() > 200 && wanted.keys().any(|name| name.starts_with(b"db2-user:")));
    // The same plan, so it is complete.
    let file = pair.file("config", b"exclude = [\"tmp:*\", \"a[,]b*\"]\ndb-map = [\"0:1\", \"2:1\"]\ndb-prefix = \"db{db}-\"\nshard = \"1/2\"\n");
    let again = pair.migrate(&["--config"]).arg(&file).run().expect_code(0);
    assert!(again.stdout().contains("already complete"), "{again}");
    pair.clear();
    let by_environment = pair
        .migrate(&[])
        .env("REDKNOT_EXCLUDE", "tmp:*")
        .env("REDKNOT_DB_MAP", "0:1,2:1")
        .env("REDKNOT_DB_PREFIX", "db{db}-")
        .env("REDKNOT_SHARD", "1/2");
    by_environment.run().expect_code(0);
    assert_eq!(strings(&mut pair.target.connection_to(1)), wanted);
}

#[test]
fn a_renamed_copy_within_one_server_needs_another_database() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    set(&mut pair.source.connection(), source_keys());
    let port = pair.source.port();
    // By another name, it is the same server all the same.
    let (from, to) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    for to in [&from, &to] {
        let refused = migrate(&from, to, pair.state(), &["--restart", "--prefix", "x:"])
            .run()
            .expect_code(22);
        let said = refused.stderr();
        assert!(
            said.contains("source and target are the same server")
                && said.contains("database 0 is both read and written"),
            "{said}"
        );
    }
    let flags = ["--restart", "--db-map", "0:3"];
    let finished = migrate(&from, &to, pair.state(), &flags)
        .run()
        .expect_code(0);
    assert!(
        finished
            .stderr()
            .contains("its keys are copied from one to the other (0:3)"),
        "{finished}"
    );
    assert_eq!(
        strings(&mut pair.source.connection_to(3)),
        strings(&mut pair.source.connection())
    );
    let compared = Redknot::new(["compare", NAME, "--state-dir"]).arg(pair.state());
    compared.run().expect_code(0);
    assert!(found(pair.state()).is_empty());
}
