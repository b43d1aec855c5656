//! `--keys-from`: the names of a file or of standard input.
//!
//! One a line, escaped as `redknot keys` prints them; what stands behind a tab does not belong to the name, so its output
//! can be given as it is. With `-0` the names are as they are, each followed by a NUL. What is kept, and what the plan
//! says of it, are the names: both forms of one list are the same list.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;

use redknot::error::Error;
use redknot::key;
use redknot::plan::Plan;
use redknot::state::{self, ListWriter, NewList};

use super::failure::Failure;

const HINT: &str = "names stand one a line, escaped as redknot keys prints them; -0 takes them as they are, each followed by a NUL";

/// What `--keys-from` says.
pub struct Said<'a> {
    /// A file; `-` is standard input.
    pub path: &'a Path,
    /// Names are as they are.
    pub null: bool,
    /// Folder of all migrations, on whose disk the list is kept.
    pub state_dir: &'a Path,
    /// Name of the migration, if it has been given.
    pub name: Option<&'a str>,
    /// A state that there is counts no more.
    pub restart: bool,
}

/// Puts the list into the plan. `None`: it is the one that the migration has already.
///
/// # Errors
///
/// If it can't be read or kept, or has no name in it.
pub fn read(said: &Said<'_>, plan: &mut Plan) -> Result<Option<NewList>, Failure> {
    let is_stdin = said.path.as_os_str() == "-";
    let shown = match is_stdin {
        true => "standard input".to_owned(),
        false => said.path.display().to_string(),
    };
    let stdin = std::io::stdin();
    let mut writer = ListWriter::new(said.state_dir).map_err(Error::from)?;
    match is_stdin {
        true if stdin.is_terminal() => {}
        true => names(stdin.lock(), said.null, &shown, &mut writer)?,
        false => {
            let file = File::open(said.path).map_err(|error| unreadable(&shown, &error))?;
            names(BufReader::new(file), said.null, &shown, &mut writer)?;
        }
    }
    let list = writer.finish().map_err(Error::from)?;
    plan.keys_from = Some(list.plan());
    if list.plan().keys > 0 {
        return Ok(Some(list));
    }
    // What came through a pipe once need not come again.
    let name = said.name.map_or_else(|| plan.default_name(), str::to_owned);
    let stored = match is_stdin && !said.restart {
        true => state::plan_of(said.state_dir, &name).ok(),
        false => None,
    };
    match stored.and_then(|stored| stored.keys_from) {
        Some(stored) => {
            plan.keys_from = Some(stored);
            Ok(None)
        }
        None => Err(Failure::usage(
            format!("--keys-from: there is no name in {shown}"),
            "nothing would be moved",
            HINT,
        )),
    }
}

fn names(
    mut input: impl BufRead,
    null: bool,
    shown: &str,
    writer: &mut ListWriter,
) -> Result<(), Failure> {
    let end = if null { b'\0' } else { b'\n' };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = input.read_until(end, &mut line);
        if read.map_err(|error| unreadable(shown, &error))? == 0 {
            return Ok(());
        }
        if line.last() == Some(&end) {
            line.pop();
        }
        if null {
            writer.push(&line).map_err(Error::from)?;
            continue;
        }
        let text = without_rest(&line);
        if text.is_empty() {
            continue;
        }
        let name = key::unescape(text).map_err(|error| {
            Failure::usage(
                format!("{shown}:{number}: this is no name"),
                error.to_string(),
                HINT,
            )
        })?;
        writer.push(&name).map_err(Error::from)?;
    }
    unreachable!("there are fewer lines than numbers")
}

/// The name of a line: neither what stands behind a tab nor the end of a line of another system belongs to it.
fn without_rest(line: &[u8]) -> &[u8] {
    let name = line.split(|byte| *byte == b'\t').next().unwrap_or(line);
    name.strip_suffix(b"\r").unwrap_or(name)
}

fn unreadable(shown: &str, error: &std::io::Error) -> Failure {
    Failure::usage(
        format!("--keys-from: {shown} can't be read"),
        error.to_string(),
        HINT,
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use redknot::plan::KeysFrom;

    use super::*;

    fn list(text: &[u8], null: bool) -> Result<KeysFrom, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ListWriter::new(folder.path()).unwrap();
        names(text, null, "list", &mut writer)?;
        Ok(writer.finish().unwrap().plan())
    }

    #[test]
    fn both_forms_of_a_list_are_the_same_list() {
        let plain = list(b"a\nb\\x00c\\n\n\nuser:1", false).unwrap();
        assert_eq!(plain.keys, 3);
        assert_eq!(list(b"a\0b", true).unwrap().keys, 2);
        let with_classes = b"a\t0\tquarantined\twhy\r\nb\\x00c\\n\r\nuser:1\n";
        assert_eq!(list(with_classes, false).unwrap(), plain);
        assert_eq!(
            list(b"a\0\0b\n\t\0", true).unwrap(),
            list(b"a\0\0b\n\t", true).unwrap()
        );
        assert_eq!(list(b"a\0\0b", true).unwrap().keys, 3);
        assert_eq!(list(b"", false).unwrap().keys, 0);
    }

    #[test]
    fn a_line_that_is_no_name_is_named_by_its_number() {
        let failure = list(b"a\n\nb\\q\n", false).unwrap_err();
        assert_eq!(failure.what, "list:3: this is no name");
        assert!(
            failure.why.contains("`\\` is followed by q"),
            "{}",
            failure.why
        );
    }
}
