//! Whether a file was written to since it was last looked at, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
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
    /// `None` where that can't be said; nobody may go by it then.
    pub fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self { file: (about.dev(), about.ino(), about.size()), written: about.modified().ok()? })
    }

    /// The stamp, if another write from now on is sure to change it.
    pub fn settled(self) -> Option<Self> {
        SystemTime::now().duration_since(self.written).is_ok_and(|since| since > TICK).then_some(self)
    }
}
