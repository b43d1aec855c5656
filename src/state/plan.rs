//! What a migration moves, told without its lock: its plan never changes.

use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::reader::Reader;
use super::{folder, status};
use crate::audit::journal::Journal;
use crate::plan::Plan;

/// The path of the journal of the migration `name`, which can be read beside a run.
///
/// # Errors
///
/// [`StoreError::Unknown`] with the names there are.
pub fn journal_of(state_dir: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let known = status::list(state_dir);
    match known.iter().any(|known| known == name) {
        true => Ok(state_dir.join(name).join(folder::JOURNAL)),
        false => Err(StoreError::Unknown {
            name: name.to_owned(),
            state_dir: state_dir.to_owned(),
            known,
        }),
    }
}

/// The plan of the migration `name`.
///
/// # Errors
///
/// [`StoreError::Unknown`] with the names there are; what a run would refuse, if the journal does not tell the plan.
pub fn plan_of(state_dir: &Path, name: &str) -> Result<Plan, StoreError> {
    let path = journal_of(state_dir, name)?;
    match Journal::plan(&path).map_err(|error| StoreError::io("read", &path, &error))? {
        Some(plan) => Ok(plan),
        // A journal that was lost and begun anew.
        None => Ok(Reader::open(state_dir, name, "redknot compare")?
            .meta()
            .plan
            .clone()),
    }
}
