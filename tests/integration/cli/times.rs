//! Runs that may only take so long, or work only in some hours of the day.

use std::time::{Duration, Instant};

use super::pair::{KEYS, Pair};
use crate::support::redknot::{Redknot, status};

impl Pair {
    fn migrated(&self) -> Redknot {
        self.migrate_named("m", &self.target.url(0))
    }

    fn compare(&self) -> Redknot {
        Redknot::new(["compare", "m", "--state-dir"]).arg(self.state.path())
    }

    /// So slow that it does not come to its end by itself within a few seconds.
    fn slowly(&self) -> Redknot {
        self.migrated().args(["--rate", "5000/s"])
    }
}

/// A time zone in which the clock shows this time now. Its name is `HERE`.
fn zone_where_it_is(hour: u64, minute: u64, second: u64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    // POSIX says what has to be added to the local time.
    let day = 24 * 3600;
    let add = (now + day - (hour * 3600 + minute * 60 + second)) % day;
    format!("HERE{}:{:02}:{:02}", add / 3600, add / 60 % 60, add % 60)
}

#[test]
fn a_run_whose_time_is_over_saves_a_checkpoint_and_is_continued() {
    let Some(pair) = Pair::new() else { return };
    let began = Instant::now();
    let finished = pair
        .slowly()
        .args(["--max-duration", "1s", "--json"])
        .run()
        .expect_code(15);
    let took = began.elapsed();
    let in_time = Duration::from_secs(1)..Duration::from_secs(4);
    assert!(in_time.contains(&took), "{took:?}\n{finished}");
    let last = finished.stdout();
    let last = last.lines().last().unwrap();
    assert!(last.contains(r#""class":"time_up","code":15"#), "{last}");
    let status = status("m", pair.state.path());
    assert_eq!(status.end.as_deref(), Some("stopped by --max-duration"));
    let written = status.counters.keys_written;
    assert!((1..KEYS).contains(&written), "{written}");

    let finished = pair.migrated().run().expect_code(0);
    assert!(finished.stderr().contains("resumed at"), "{finished}");
    assert_eq!(pair.target.keys(0), KEYS);
}

#[test]
fn a_comparison_ends_with_its_time_and_is_continued() {
    let Some(pair) = Pair::new() else { return };
    pair.migrated().run().expect_code(0);
    let finished = pair
        .compare()
        .args(["--batch", "1", "--max-duration", "1s"])
        .run()
        .expect_code(15);
    let said = "stopping: --max-duration is over, saving a checkpoint";
    assert!(finished.stderr().contains(said), "{finished}");
    assert!(finished.stdout().contains("exit 15"), "{finished}");
    pair.compare().run().expect_code(0);
}

#[test]
fn a_run_ends_with_its_hours() {
    let Some(pair) = Pair::new() else { return };
    let finished = pair
        .slowly()
        .args(["--window", "22:00-06:00"])
        .env("TZ", zone_where_it_is(5, 59, 58))
        .run()
        .expect_code(15);
    let said = "stopping: --window has closed, saving a checkpoint";
    assert!(finished.stderr().contains(said), "{finished}");
    let written = pair.target.keys(0);
    assert!((1..KEYS).contains(&written), "{written}");
    pair.migrated()
        .args(["--window", "22:00-06:00"])
        .env("TZ", zone_where_it_is(23, 0, 0))
        .run()
        .expect_code(0);
    assert_eq!(pair.target.keys(0), KEYS);
}

#[test]
fn outside_of_its_hours_nothing_is_begun() {
    let Some(pair) = Pair::new() else { return };
    let finished = pair
        .migrated()
        .args(["--window", "22:00-06:00"])
        .env("TZ", zone_where_it_is(14, 3, 0))
        .run()
        .expect_code(15);
    assert_eq!(
        finished.stderr(),
        "error: it is outside of --window 22:00-06:00\n  here it is 14:03 HERE; nothing was sent\nhint: run the same command again from 22:00 on\n"
    );
    assert_eq!(pair.target.keys(0), 0);
    assert!(!pair.state.path().join("m").exists());
}

#[test]
fn times_can_stand_in_the_environment_and_in_a_file() {
    let Some(pair) = Pair::new() else { return };
    let file = pair.state.path().join("flags.toml");
    std::fs::write(&file, "window = \"22:00-06:00\"\n").unwrap();
    let here = ("TZ", zone_where_it_is(14, 3, 0));
    pair.migrated()
        .arg("--config")
        .arg(&file)
        .env(here.0, &here.1)
        .run()
        .expect_code(15);
    pair.migrated()
        .env("REDKNOT_WINDOW", "22:00-06:00")
        .env(here.0, &here.1)
        .run()
        .expect_code(15);
}
