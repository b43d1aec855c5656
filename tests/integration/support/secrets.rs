//! Whether a secret lies around: in the state folder, in a report, in an output.

use std::path::{Path, PathBuf};

/// Where secrets were found: each place with the number of the secret. Empty means that `searched` things were clean.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files and outputs that were looked at.
    pub searched: usize,
    /// File or output, and which of the secrets (0 is the first).
    pub places: Vec<(String, usize)>,
}

/// Looks for every secret in every file under `folder` (names of files included) and in every output.
pub fn search(folder: &Path, outputs: &[&[u8]], secrets: &[&[u8]]) -> Found {
    let mut found = search_outputs(outputs, secrets);
    for path in files(folder) {
        let content =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.display().to_string();
        found.look(&name, &content, secrets);
        found.look(
            &format!("name of {name}"),
            path.as_os_str().as_encoded_bytes(),
            secrets,
        );
    }
    found
}

/// As [`search`], in outputs alone.
pub fn search_outputs(outputs: &[&[u8]], secrets: &[&[u8]]) -> Found {
    let mut found = Found::default();
    for (number, output) in outputs.iter().enumerate() {
        found.look(&format!("output {number}"), output, secrets);
    }
    found
}

/// Panics if a secret is anywhere, or if there was nothing to search.
#[track_caller]
pub fn assert_absent(folder: &Path, outputs: &[&[u8]], secrets: &[&[u8]]) {
    let found = search(folder, outputs, secrets);
    assert!(
        found.searched > 0,
        "nothing was searched: that proves nothing"
    );
    assert!(found.places.is_empty(), "secrets in {:?}", found.places);
}

impl Found {
    fn look(&mut self, place: &str, content: &[u8], secrets: &[&[u8]]) {
        self.searched += 1;
        for (number, secret) in secrets.iter().enumerate() {
            assert!(
                secret.len() >= 8,
                "a secret this short would be found by chance"
            );
            if content
                .windows(secret.len())
                .any(|window| window == *secret)
            {
                self.places.push((place.to_owned(), number));
            }
        }
    }
}

/// Every file under `folder`, symbolic links not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.expect("an entry of a folder that is ours");
            let kind = entry.file_type().expect("its type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}
