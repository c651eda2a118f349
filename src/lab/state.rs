//! The state folder: the lab's id, and the lock that keeps one controller at work in it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// The state folder could not be used.
#[derive(Debug, Error)]
pub enum StateError {
    #[error("could not use the state folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} is not what this lab wrote there: expected a UUID, found {found:?}; restore it from a backup: machines are known by it", path.display())]
    Id { path: PathBuf, found: String },
    #[error("another patchlab (process {holder}) is at work in {}; wait for it, or name another folder with --state", path.display())]
    Busy { path: PathBuf, holder: String },
}

/// The state folder, made when it is not there.
#[derive(Clone, Debug)]
pub struct State {
    pub folder: PathBuf,
    /// Identifies this lab in the metadata of everything it makes.
    pub lab: String,
}

impl State {
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => failed(io::ErrorKind::NotADirectory.into()),
            _ => failed(error),
        })?;
        let folder = folder.canonicalize().map_err(failed)?;
        let id = folder.join("lab-id");
        let known = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).trim().chars().take(80).collect::<String>();
            match uuid::Uuid::try_parse(&text) {
                Ok(_) => Ok(text),
                Err(_) => Err(StateError::Id { path: id.clone(), found: text }),
            }
        };
        let lab = match std::fs::read(&id) {
            Ok(bytes) => known(bytes)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StateError::Folder { path: id, source: error }),
            Err(_) => {
                let lab = uuid::Uuid::now_v7().to_string();
                let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(failed)?;
                writeln!(file, "{lab}").map_err(failed)?;
                file.as_file().sync_all().map_err(failed)?;
                // Two first starts at once: the one that is there wins.
                match file.persist_noclobber(&id) {
                    Ok(_) => lab,
                    Err(_) => known(std::fs::read(&id).map_err(failed)?)?,
                }
            }
        };
        Ok(Self { folder, lab })
    }

    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal.sqlite")
    }

    /// Takes the lock on working with machines. It is let go when the value is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let path = self.folder.join("controller.lock");
        let failed = |source| StateError::Folder { path: path.clone(), source };
        let file = std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0).map_err(failed)?;
                write!(*lock, "{}", std::process::id()).map_err(failed)?;
                Ok(Lock(lock))
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                Err(StateError::Busy { path: self.folder.clone(), holder })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

/// The right to work with this lab's machines.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<std::fs::File>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_keeps_its_id_and_lets_one_controller_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(&folder.path().join("deep/state")).expect("a state");
        let again = State::open(&state.folder).expect("a state");
        assert_eq!(state.lab, again.lab);
        let lock = state.lock().expect("the lock");
        assert!(matches!(again.lock(), Err(StateError::Busy { holder, .. }) if holder == std::process::id().to_string()));
        drop(lock);
        again.lock().expect("free again");
    }
}
