//! Whether a file was written to since it was last looked at, without reading it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// A clock tick of the kernel and more: two changes within it may leave the same time.
const TICK: Duration = Duration::from_millis(50);

/// When a file, or what is said of it, was changed: seconds and nanoseconds since 1970.
type Changed = (i64, i64);

/// Which file it was, its size, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64, u64),
    changed: Changed,
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self { file: (about.dev(), about.ino(), about.size()), changed: changed(about) }
    }

    /// The stamp, if another change from now on is sure to change it.
    pub fn settled(self) -> Option<Self> {
        let (seconds, nanoseconds) = self.changed;
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        let changed = SystemTime::UNIX_EPOCH.checked_add(since)?;
        SystemTime::now().duration_since(changed).is_ok_and(|since| since > TICK).then_some(self)
    }
}

fn changed(about: &Metadata) -> Changed {
    (about.ctime(), about.ctime_nsec())
}

/// A file or folder that is looked at again and again. It is held open, because walking its path takes longer than the look itself.
pub struct Watched {
    path: PathBuf,
    open: RwLock<Option<Held>>,
}

struct Held {
    file: File,
    /// When it was changed last before it was opened. Losing a name is a change, too.
    changed: Changed,
}

impl Watched {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: RwLock::default() }
    }

    /// `None` where nothing can be said; nobody may go by it then.
    pub fn stamp(&self) -> Option<Stamp> {
        if let Some(held) = &*self.open.read().unwrap_or_else(PoisonError::into_inner)
            && let Ok(about) = held.file.metadata()
            && changed(&about) == held.changed
            // What was removed, or replaced, has no name any more.
            && about.nlink() > 0
        {
            return Some(Stamp::of(&about));
        }
        self.again()
    }

    /// Opens what the path names now.
    pub fn again(&self) -> Option<Stamp> {
        let opened = File::open(&self.path).and_then(|file| file.metadata().map(|about| (file, about))).ok();
        let stamp = opened.as_ref().map(|(_, about)| Stamp::of(about));
        // What is so new that it could be replaced without a trace is not held on to.
        let is_settled = stamp.and_then(Stamp::settled).is_some();
        let held = opened.filter(|_| is_settled).map(|(file, about)| Held { file, changed: changed(&about) });
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = held;
        stamp
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
        // What a backup has a name for, too, is replaced.
        std::fs::hard_link(&path, folder.path().join("backup")).expect("linked");
        std::fs::write(&other, "1234").expect("written");
        std::fs::rename(&other, &path).expect("replaced");
        differs(watched.stamp());
        std::fs::rename(&path, &other).expect("moved away");
        std::fs::write(&path, "12345").expect("written");
        watched.again();
        differs(watched.stamp());
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(watched.stamp(), None);
    }
}
