//! Whether a file was written to since it was last looked at, without reading it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// A clock tick of the kernel and more: two writes within it may leave the same time.
const TICK: Duration = Duration::from_millis(50);

/// Which file it was, its size, and when it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64, u64),
    written: SystemTime,
}

impl Stamp {
    fn of(about: &Metadata) -> Option<Self> {
        Some(Self { file: (about.dev(), about.ino(), about.size()), written: about.modified().ok()? })
    }

    /// The stamp, if another write from now on is sure to change it.
    pub fn settled(self) -> Option<Self> {
        SystemTime::now().duration_since(self.written).is_ok_and(|since| since > TICK).then_some(self)
    }
}

/// A file or folder that is looked at again and again. It is held open, because walking its path takes longer than the look itself.
pub struct Watched {
    path: PathBuf,
    open: RwLock<Option<File>>,
}

impl Watched {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: RwLock::default() }
    }

    /// `None` where nothing can be said; nobody may go by it then.
    pub fn stamp(&self) -> Option<Stamp> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let about = open.as_ref().and_then(|file| file.metadata().ok());
        // What was removed, or replaced, has no name any more.
        if let Some(about) = about.filter(|about| about.nlink() > 0) {
            return Stamp::of(&about);
        }
        drop(open);
        self.again();
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        Stamp::of(&open.as_ref()?.metadata().ok()?)
    }

    /// Opens what the path names now: what was moved away keeps a name.
    pub fn again(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = File::open(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_takes_a_files_place_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        let watched = Watched::new(&path);
        assert_eq!(watched.stamp(), None);
        let mut seen = Vec::new();
        let mut differs = |stamp: Option<Stamp>| {
            assert!(stamp.is_some() && !seen.contains(&stamp), "{stamp:?}: {seen:?}");
            seen.push(stamp);
        };
        std::fs::write(&path, "1").expect("written");
        differs(watched.stamp());
        std::fs::write(&path, "12").expect("written");
        differs(watched.stamp());
        std::fs::write(&other, "123").expect("written");
        std::fs::rename(&other, &path).expect("replaced");
        differs(watched.stamp());
        std::fs::rename(&path, &other).expect("moved away");
        std::fs::write(&path, "1234").expect("written");
        watched.again();
        differs(watched.stamp());
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(watched.stamp(), None);
    }
}
