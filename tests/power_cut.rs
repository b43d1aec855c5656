//! Power cuts: what the store has acknowledged must be there when the lights come back.
//!
//! A child process commits batches on an ext4 file system that lives in a file, and tells each acknowledgement through
//! a pipe. At a random moment the file is copied: the copy holds what the "disk" had received, and nothing of what the
//! kernel still kept in memory. It is mounted, and the state on it is opened.
//!
//! A copy takes some milliseconds. Taken while the child goes on, it is torn, as a disk's last writes are; but it may
//! also hold a late write without an earlier one that had been synced in between, which no disk does. A log that only
//! grows does not mind. Where files replace each other, the child is stopped first ([`Copy::Stopped`]).
//!
//! Mounting needs root and loop devices. Without them the tests say why they do nothing; where `CI=true` and the
//! devices are there, not being able to mount is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on has failed, and one that can't run says why"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redknot::plan::{LanePlan, Plan};
use redknot::progress::{Arrived, Counters, Makeup};
use redknot::recorded::{Entry, Outcome};
use redknot::state::record::ServerIdentity;
use redknot::state::{AcknowledgedBatch, Commit, Durability, OpenRequest, Store, StoreError, open};

/// Power cuts in a run of a test; `REDKNOT_REPEAT` asks for so many times as many.
const CUTS: u64 = 20;

/// Cuts of a store that does not sync. Each loses something with near certainty.
const CUTS_WITHOUT_SYNC: u64 = 5;

/// Keys of a batch of which a digest is kept.
const KEYS_RECORDED: u64 = 20;

/// Until a child has opened its state.
const START_MAX: Duration = Duration::from_secs(30);

const CHILD: &str = "child_that_commits_until_it_is_killed";
const CHILD_STATE_DIR: &str = "REDKNOT_TEST_STATE_DIR";
const CHILD_HABIT: &str = "REDKNOT_TEST_HABIT";

/// What the child does to its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Commits without end.
    Commits,
    /// Closes and opens the state after every few commits: the engine rewrites files of its own then.
    Reopens,
    /// Commits and never syncs.
    NeverSyncs,
}

/// How the disk is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    /// While the child goes on.
    Running,
    /// After the child was stopped and what it was just doing in the kernel came to its end.
    Stopped,
}

#[test]
fn acknowledged_batches_survive_a_power_cut() {
    let Some(()) = can_mount() else { return };
    let mut acknowledged_total = 0;
    for seed in 0..cuts() {
        let (habit, copy) = match seed % 3 {
            0 => (Habit::Commits, Copy::Running),
            1 => (Habit::Commits, Copy::Stopped),
            _ => (Habit::Reopens, Copy::Stopped),
        };
        acknowledged_total += check(seed, copy, || {
            let mut child = Writer::start(habit);
            child.wait_until_open();
            child
        });
    }
    assert!(
        acknowledged_total > 0,
        "no cut came after an acknowledgement"
    );
}

#[test]
fn a_power_cut_while_a_state_is_created_leaves_one_that_opens() {
    let Some(()) = can_mount() else { return };
    for seed in 0..cuts() {
        check(seed, Copy::Stopped, || Writer::start(Habit::Reopens));
    }
}

/// Cuts the power of a child at a moment that `seed` decides, and returns how many batches it had acknowledged: all of
/// them are there, and the state can be used.
fn check(seed: u64, copy: Copy, start: impl Fn() -> Writer) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    // A copy takes some milliseconds. If the file system rewrote a block of its own meanwhile, the copy has half of it,
    // which no disk has: its checksum is wrong, the kernel says so, and another moment is tried.
    for _ in 0..10 {
        let child = start();
        let wait = random.random_range(0..400);
        // A child that is just being started does in its first milliseconds what we want to interrupt.
        let wait = Duration::from_millis(if child.is_open() { wait } else { wait / 8 });
        let cut = child.cut_power(wait, copy);
        let acknowledged = cut.acknowledged;
        match cut.reopen() {
            Ok(store) => return usable(seed, acknowledged, copy, store),
            Err(error) if matches!(copy, Copy::Running) && is_torn(&error) => {
                eprintln!("seed {seed}: a torn copy, cut again: {error}");
            }
            Err(error) => panic!("seed {seed}: {acknowledged} acknowledged, then: {error}"),
        }
    }
    panic!("seed {seed}: ten copies in a row were torn");
}

/// Whether the file system itself, not a file's content, is of two moments: EBADMSG or EUCLEAN of ext4's checksums.
fn is_torn(error: &StoreError) -> bool {
    let said = error.to_string();
    said.contains("(os error 74)") || said.contains("(os error 117)")
}

fn usable(seed: u64, acknowledged: u64, copy: Copy, mut store: Store) -> u64 {
    if store.lanes()[0].pass == 0 {
        begin_pass(&mut store);
    }
    let found = store.lanes()[0].next_seq;
    assert!(
        found >= acknowledged,
        "seed {seed}: {acknowledged} acknowledged, {found} found"
    );
    // Two files: a copy of a child that went on may have the later write without the earlier one.
    if copy == Copy::Stopped {
        let mut recorded = 0;
        if let Err(error) = store.visit_recorded(0, |_| recorded += 1) {
            panic!("seed {seed}: the digests of {found} batches: {error}");
        }
        assert_eq!(recorded, found * KEYS_RECORDED, "seed {seed}");
    }
    commit_some(&mut store, 10);
    store.end_run("stopped").unwrap();
    acknowledged
}

fn cuts() -> u64 {
    match std::env::var("REDKNOT_REPEAT") {
        Ok(times) => CUTS * times.parse::<u64>().unwrap(),
        Err(_) => CUTS,
    }
}

/// Otherwise the test above would pass for whatever the store does.
#[test]
fn a_store_that_does_not_sync_is_caught() {
    let Some(()) = can_mount() else { return };
    let mut lost = 0;
    for cut in 0..CUTS_WITHOUT_SYNC {
        let copy = if cut % 2 == 0 {
            Copy::Running
        } else {
            Copy::Stopped
        };
        let mut child = Writer::start(Habit::NeverSyncs);
        child.wait_until_open();
        let cut = child.cut_power(Duration::from_millis(200), copy);
        let found = cut.reopen().map(|store| store.lanes()[0].next_seq);
        lost += u64::from(found.is_err() || found.is_ok_and(|found| found < cut.acknowledged));
    }
    assert!(
        lost > 0,
        "all {CUTS_WITHOUT_SYNC} states survived without any fsync: this proves nothing here"
    );
}

#[test]
#[ignore = "is started by the tests above"]
fn child_that_commits_until_it_is_killed() {
    let state_dir =
        PathBuf::from(std::env::var_os(CHILD_STATE_DIR).expect("is started by the tests above"));
    let (durability, commits) = match std::env::var(CHILD_HABIT).unwrap().as_str() {
        "Commits" => (Durability::Fsync, usize::MAX),
        "Reopens" => (Durability::Fsync, 3),
        _ => (Durability::None, usize::MAX),
    };
    let mut stdout = std::io::stdout().lock();
    loop {
        let mut store = open_state(&state_dir, durability).unwrap();
        if store.lanes()[0].pass == 0 {
            begin_pass(&mut store);
        }
        for _ in 0..commits {
            writeln!(stdout, "durable {}", store.lanes()[0].next_seq).unwrap();
            stdout.flush().unwrap();
            commit_some(&mut store, 4);
        }
    }
}

/// What a power cut left.
struct Cut {
    /// Batches that the child had told to be durable before the copy began.
    acknowledged: u64,
    mount: Mount,
}

impl Cut {
    fn reopen(&self) -> Result<Store, StoreError> {
        open_state(&self.mount.folder.path().join("state"), Durability::Fsync)
    }
}

/// A child that commits on a file system of its own, and what it has told.
struct Writer {
    child: Child,
    told: Arc<AtomicU64>,
    image: PathBuf,
    /// Held for its destructor, which runs after that of the whole.
    _mount: Mount,
}

impl Writer {
    fn start(habit: Habit) -> Self {
        let images = tempfile::tempdir().unwrap();
        let image = images.path().join("image");
        make_file_system(&image);
        let mount = Mount::new(&image, images);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", CHILD, "--nocapture"])
            .env(CHILD_STATE_DIR, mount.folder.path().join("state"))
            .env(CHILD_HABIT, format!("{habit:?}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // One more than it has told, so that 0 is "nothing yet".
        let told = Arc::new(AtomicU64::new(0));
        let heard = Arc::clone(&told);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            // The test harness of the child prints on the same pipe.
            let durable = lines.map_while(Result::ok).filter_map(|line| {
                let (_, number) = line.split_once("durable ")?;
                number.parse::<u64>().ok()
            });
            durable.for_each(|number| heard.store(number + 1, Ordering::SeqCst));
        });
        Self {
            child,
            told,
            image,
            _mount: mount,
        }
    }

    /// Stops the child where it is; what it is just doing in the kernel still comes to its end.
    fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }

    fn is_open(&self) -> bool {
        self.told.load(Ordering::SeqCst) > 0
    }

    fn wait_until_open(&mut self) {
        let began = Instant::now();
        while !self.is_open() {
            assert!(self.child.try_wait().unwrap().is_none(), "the child ended");
            assert!(
                began.elapsed() < START_MAX,
                "the child has not opened its state"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Copies what the disk has received after `wait`, and mounts the copy.
    fn cut_power(mut self, wait: Duration, copy: Copy) -> Cut {
        std::thread::sleep(wait);
        let acknowledged = self.told.load(Ordering::SeqCst).saturating_sub(1);
        let content = match copy {
            Copy::Running => std::fs::read(&self.image).unwrap(),
            Copy::Stopped => {
                self.stop();
                read_quiet(&self.image)
            }
        };
        let copies = tempfile::tempdir().unwrap();
        let copy = copies.path().join("image");
        std::fs::write(&copy, content).unwrap();
        assert!(
            self.child.try_wait().unwrap().is_none(),
            "the child ended before the power did"
        );
        drop(self);
        Cut {
            acknowledged,
            mount: Mount::new(&copy, copies),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended, if the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The content of an image that nobody writes to any more.
fn read_quiet(image: &Path) -> Vec<u8> {
    let mut last = std::fs::read(image).unwrap();
    loop {
        let now = std::fs::read(image).unwrap();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn begin_pass(store: &mut Store) {
    let server = ServerIdentity {
        run_id: Some("abc".into()),
        version: "redis 7.0.15".into(),
    };
    let next = store.lanes()[0].next_pass(server.clone(), server);
    store.begin_pass(0, next, "first pass").unwrap();
}

fn open_state(state_dir: &Path, durability: Durability) -> Result<Store, StoreError> {
    let plan = Plan {
        source: "source:6379".into(),
        target: "target:6379".into(),
        lanes: vec![LanePlan {
            source_db: 0,
            target_db: 0,
        }],
        ..Plan::default()
    };
    open(&OpenRequest {
        state_dir,
        name: "shop",
        plan: &plan,
        restart: false,
        durability,
        command: "test",
    })
}

fn commit_some(store: &mut Store, count: u64) {
    let first = store.lanes()[0].next_seq;
    let batches = (first..first + count)
        .map(|seq| AcknowledgedBatch {
            run: store.run(),
            cursor_in: seq,
            cursor_out: seq + 1,
            count: 500,
            keyspace: Some(1_000_000),
            counters: Counters {
                keys_scanned: 500,
                keys_written: 500,
                ..Counters::default()
            },
            makeup: Box::new(Makeup::of(Arrived::UNSEEN, 500)),
            keys_digest: *blake3::hash(&seq.to_le_bytes()).as_bytes(),
            scanned_ms: 1_700_000_000_000 + seq,
            acknowledged_ms: 1_700_000_000_005 + seq,
            canary_keys: (0..64)
                .map(|n| format!("user:{seq}:{n}").into_bytes())
                .collect(),
            quarantined: vec![],
            recorded: Some(entries(seq)),
        })
        .collect();
    store.commit(&Commit { lane: 0, batches }).unwrap();
}

/// What is kept of the keys of a batch.
fn entries(seq: u64) -> Vec<u8> {
    (0..KEYS_RECORDED)
        .flat_map(|n| *Entry::new(format!("user:{seq}:{n}").as_bytes(), Outcome::Gone).as_bytes())
        .collect()
}

/// A mounted image; unmounted when dropped.
struct Mount {
    folder: tempfile::TempDir,
    /// Keeps the image until it is unmounted.
    _image: tempfile::TempDir,
}

impl Mount {
    fn new(image: &Path, keep: tempfile::TempDir) -> Self {
        match Self::try_new(image, keep) {
            Ok(mount) => mount,
            Err(why) => panic!("mount says {why}"),
        }
    }

    fn try_new(image: &Path, keep: tempfile::TempDir) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        run(tool("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(image)
            .arg(folder.path()))?;
        Ok(Self {
            folder,
            _image: keep,
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, since the engine closes its files some time after it was dropped.
        let _ = run(tool("umount").arg("-l").arg(self.folder.path()));
    }
}

fn make_file_system(image: &Path) {
    std::fs::File::create(image)
        .unwrap()
        .set_len(24 << 20)
        .unwrap();
    run(tool("mkfs.ext4").arg("-q").arg(image)).unwrap();
}

/// `None`, with the reason on stderr, where there is no way to mount an image.
fn can_mount() -> Option<()> {
    let skip = |why: &str| {
        eprintln!("skipped: {why}");
        None
    };
    if !rustix::process::geteuid().is_root() {
        return skip("only root can mount a file system");
    }
    if !Path::new("/dev/loop-control").exists() {
        return skip("this machine has no loop devices");
    }
    if let Err(why) = run(tool("mkfs.ext4").arg("-V")) {
        return skip(&format!("mkfs.ext4 can't be run: {why}"));
    }
    let images = tempfile::tempdir().unwrap();
    let image = images.path().join("image");
    make_file_system(&image);
    match Mount::try_new(&image, images) {
        Ok(_) => Some(()),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("there are loop devices, and mounting fails: {why}")
        }
        Err(why) => skip(&format!("mount says {why}")),
    }
}

/// A system tool, also where they are not in the search path of ordinary users.
fn tool(name: &str) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let mut command = Command::new(name);
    command.env("PATH", path).stdin(Stdio::null());
    command
}

/// Runs a tool to its end; what it says on stderr if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
