//! Which migration a command means.

use std::path::Path;

use redknot::state::status;

use super::failure::Failure;

/// The name that is asked for, or the only one there is. Whether it exists says whoever opens it, with the names there are.
///
/// # Errors
///
/// If none is asked for and there is none, or there are several. `doing` completes "there is no migration to …".
pub fn one(dir: &Path, asked: Option<&str>, doing: &str) -> Result<String, Failure> {
    if let Some(asked) = asked {
        return Ok(asked.to_owned());
    }
    let mut names = status::list(dir);
    match (names.pop(), names.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Failure::usage(
            format!("there is no migration to {doing}"),
            format!("{} has none", dir.display()),
            "redknot migrate begins one; --state-dir DIR names another folder",
        )),
        (Some(last), false) => {
            names.push(last);
            Err(Failure::usage(
                "which migration is meant has to be said",
                format!("{} has several", dir.display()),
                format!("there are: {}", names.join(", ")),
            ))
        }
    }
}
