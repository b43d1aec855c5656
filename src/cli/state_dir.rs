//! The folder of the states, and the names of migrations in it.
//!
//! What is inside a migration's folder is the state store's business. Here is only decided whether a path can be meant.

use std::path::{Path, PathBuf};

use redknot::config::limits::NAME_BYTES_MAX;
use redknot::state::status;

use super::exit_code::ExitCode;
use super::failure::Failure;

/// Files that belong to the folder itself.
const OWN_FILES: [&str; 2] = ["README.md", ".gitignore"];

/// Refuses a name that is no plain folder name: it could lead out of the folder of the states.
///
/// # Errors
///
/// If it is one.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it is too long to be a folder's name"
    } else if !name.chars().all(plain) || name.starts_with(['.', '-']) {
        "it is a folder's name: letters, digits, `.`, `_` and `-`, beginning with a letter, digit or `_`"
    } else {
        return Ok(());
    };
    let shown = redknot::key::Escaped(name.as_bytes());
    Err(Failure::usage(
        format!("a migration can't be named `{shown}`"),
        why,
        "for example --name shop-cache",
    ))
}

/// `dir`, if a migration may put its state there: it does not exist, is empty, or has states in it already.
///
/// # Errors
///
/// If `dir` is a folder of something else. What is wrong with a folder that may be meant, the state store says.
pub fn for_writing(dir: PathBuf) -> Result<PathBuf, Failure> {
    if is_strange(&dir) {
        return Err(Failure::usage(
            format!("{} is no folder of redknot's states", dir.display()),
            "it has other files in it, and no migration; nothing was written",
            "name a folder that is empty or does not exist: --state-dir DIR",
        ));
    }
    Ok(dir)
}

/// Whether there are things in `dir`, none of them ours.
fn is_strange(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return false;
    };
    let mut strangers = false;
    for entry in entries.flatten() {
        let path = entry.path();
        // A state that was just created, or set aside, has a store but perhaps no status yet.
        if path.join("status.json").exists() || path.join("db").is_dir() {
            return false;
        }
        strangers |= !OWN_FILES.iter().any(|own| entry.file_name() == *own);
    }
    strangers
}

/// The migrations in `dir`, by name.
///
/// # Errors
///
/// If there is something at `dir` that is no folder.
pub fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    if dir.exists() && !dir.is_dir() {
        return Err(Failure::new(
            ExitCode::StateIo,
            format!("{} is no folder", dir.display()),
            "the states of migrations lie in a folder",
        )
        .hint("--state-dir DIR"));
    }
    Ok(status::list(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_the_folder() {
        for name in ["shop", "a.b_c-D9", "_", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "../x",
            "a b",
            "\u{e4}",
            "a\0",
            &"x".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_folder_of_something_else_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().expect("temp dir");
        let check = |ours: bool| assert_eq!(for_writing(dir.path().to_owned()).is_ok(), ours);
        check(true);
        std::fs::write(dir.path().join("README.md"), "").expect("write");
        check(true);
        std::fs::write(dir.path().join("passwd"), "").expect("write");
        check(false);
        std::fs::create_dir_all(dir.path().join("shop/db")).expect("mkdir");
        check(true);
        assert!(for_writing("/does/not/exist".into()).is_ok());
    }
}
