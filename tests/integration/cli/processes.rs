//! What other users of the machine can see of a password that was given on the command line.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::redknot::{Redknot, Running};
use crate::support::wait_for;

const PASSWORD: &str = "sword#@:/?%fish";
const ENCODED: &str = "sword%23%40%3A%2F%3F%25fish";

/// The command line of the process, once it is that of the second program in it.
fn masked_command_line(running: &Running) -> Vec<String> {
    wait_for(
        "the command line to be masked",
        Duration::from_secs(60),
        || {
            let bytes = fs::read(format!("/proc/{}/cmdline", running.pid())).ok()?;
            let words: Vec<String> = bytes
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            words
                .iter()
                .any(|word| word.contains("***@"))
                .then_some(words)
        },
    )
}

/// A run that waits for a server that is not there, so that it can be looked at.
fn waiting(state: &Path, words: &[&str]) -> Redknot {
    Redknot::new(["--state-dir"]).arg(state).args(words)
}

#[test]
fn the_list_of_processes_shows_no_password_of_a_url() {
    let state = tempfile::tempdir().unwrap();
    let with_user = format!("redis://user:{ENCODED}@127.0.0.1:1/3");
    let joined = format!("--to=redis://:{ENCODED}@127.0.0.1:2");
    let command_lines = [
        waiting(state.path(), &["migrate", "--from", &with_user, &joined]),
        waiting(
            state.path(),
            &["rump", "-from", &with_user, "-to", "redis://127.0.0.1:2"],
        ),
        waiting(state.path(), &["compare", "--from", &with_user, &joined]),
    ];
    for command_line in command_lines {
        let running = command_line.start();
        let words = masked_command_line(&running);
        assert!(
            words.contains(&"redis://***@127.0.0.1:1/3".to_owned()),
            "{words:?}"
        );
        let all = words.join(" ");
        assert!(!all.contains(PASSWORD) && !all.contains(ENCODED), "{all}");
        assert!(words[0].ends_with("redknot"), "{all}");
        let name = fs::read_to_string(format!("/proc/{}/comm", running.pid())).unwrap();
        assert_eq!(name.trim_end(), "redknot");
        running.kill_9();
    }
}

#[test]
fn a_variable_that_was_meant_for_another_process_is_no_command_line() {
    let finished = Redknot::new(["--version"])
        .env("REDKNOT_COMMAND_LINE", "1 redknot help")
        .run()
        .expect_code(0);
    assert!(finished.stdout().starts_with("redknot "), "{finished}");
}
