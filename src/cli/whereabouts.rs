//! Where the server of a state folder is: `<state>/server.json`, there while it runs.
//!
//! Invariant: the server that wrote the file keeps it locked as long as it lives, however it ends. So whoever reads it knows whether it
//! still counts, whoever else may be at work in the folder by then, and whoever looks stands in nobody's way: the lock that keeps one
//! controller at work there is another.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::error::Failure;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Whereabouts {
    pub url: String,
    pub process: u32,
    pub since: Timestamp,
}

/// What is said for as long as this is kept.
pub struct Published {
    path: PathBuf,
    _locked: File,
}

impl Drop for Published {
    fn drop(&mut self) {
        // Left there, it would be no server's.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("server.json")
}

impl Whereabouts {
    /// Says it in the state folder. The caller holds the state lock.
    ///
    /// # Errors
    /// When it can't be written there.
    pub fn publish(&self, state: &Path) -> Result<Published, Failure> {
        let path = path(state);
        let written = || -> io::Result<File> {
            let mut draft = NamedTempFile::new_in(state)?;
            writeln!(draft, "{}", serde_json::to_string_pretty(self)?)?;
            draft.as_file().set_permissions(Permissions::from_mode(0o644))?;
            // Before anybody can find it.
            draft.as_file().lock()?;
            Ok(draft.persist(&path)?)
        };
        match written() {
            Ok(locked) => Ok(Published { path, _locked: locked }),
            Err(error) => Err(Failure::lab(format!("could not write {}: {error}", path.display()))),
        }
    }

    /// Where the server is that runs; `None` where none does.
    ///
    /// # Errors
    /// When what it says can't be read.
    pub fn find(state: &Path) -> Result<Option<Self>, Failure> {
        let path = path(state);
        let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}; start the server again", path.display()));
        let Ok(file) = File::open(&path) else { return Ok(None) };
        match file.try_lock_shared() {
            // Whoever wrote it did not come to removing it.
            Ok(()) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
            Err(TryLockError::WouldBlock) => serde_json::from_reader(file).map(Some).map_err(|bad| failed(&bad)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_as_long_as_it_lives() {
        let folder = tempfile::tempdir().expect("a folder");
        let find = || Whereabouts::find(folder.path()).expect("readable").map(|about| about.url);
        let about = |url: &str| Whereabouts { url: url.to_owned(), process: std::process::id(), since: Timestamp::UNIX_EPOCH };
        assert_eq!(find(), None);
        let first = about("http://first").publish(folder.path()).expect("written");
        for _ in 0..2 {
            assert_eq!(find().as_deref(), Some("http://first"), "whoever looks changes nothing");
        }
        // One that is killed does not remove it.
        let text = std::fs::read(path(folder.path())).expect("there");
        drop(first);
        assert_eq!(find(), None);
        std::fs::write(path(folder.path()), text).expect("written");
        assert_eq!(find(), None, "nobody keeps it locked");
        let _second = about("http://second").publish(folder.path()).expect("in the place of the other");
        assert_eq!(find().as_deref(), Some("http://second"));
    }
}
