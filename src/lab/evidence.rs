//! Files kept with the runs, by digest: console logs, screenshots, facts, full outputs.
//!
//! Invariant: a file under its digest's name has that digest; it appears whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cell::cause::Evidence;
use crate::id::Digest;

/// What is kept of one file at the most. The middle of a longer one is left out.
pub const CAP: usize = 8 * 1024 * 1024;

/// The store of evidence in the lab's state folder.
#[derive(Clone, Debug)]
pub struct EvidenceStore {
    folder: PathBuf,
}

impl EvidenceStore {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("evidence");
        std::fs::create_dir_all(&folder).map_err(|error| {
            let told = format!("could not make the folder {}: {error}", folder.display());
            io::Error::new(error.kind(), told)
        })?;
        Ok(Self { folder })
    }

    /// Keeps these bytes.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> io::Result<Evidence> {
        let bytes = cut_middle(bytes, CAP);
        let sha256 = Digest::of(&bytes);
        let path = self.path(&sha256);
        if !path.exists() {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
        }
        Ok(Evidence { name: name.to_owned(), sha256, size: bytes.len() as u64 })
    }

    /// The same without holding up those who share the caller's thread. What many keep at once goes to disk together.
    ///
    /// # Errors
    /// See [`EvidenceStore::keep`].
    pub async fn keep_apart(&self, name: &str, bytes: &[u8]) -> io::Result<Evidence> {
        let (store, name, bytes) = (self.clone(), name.to_owned(), bytes.to_vec());
        tokio::task::spawn_blocking(move || store.keep(&name, &bytes)).await.map_err(io::Error::other)?
    }

    /// The bytes kept under a digest; `None` when they are gone or altered.
    pub fn get(&self, sha256: &Digest) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.path(sha256)).ok()?;
        (Digest::of(&bytes) == *sha256).then_some(bytes)
    }

    /// Removes what a controller that was killed had half written. Only the holder of the state lock may ask.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn sweep(&self) -> io::Result<()> {
        for file in std::fs::read_dir(&self.folder)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with('.') {
                std::fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    pub fn path(&self, sha256: &Digest) -> PathBuf {
        self.folder.join(sha256.hex())
    }
}

/// At most `cap` bytes: the start and the end, with a line between them that says what is missing.
pub fn cut_middle(bytes: &[u8], cap: usize) -> Vec<u8> {
    if bytes.len() <= cap {
        return bytes.to_vec();
    }
    let half = cap / 2;
    let note = format!("\n[... {} bytes left out ...]\n", bytes.len() - 2 * half);
    [&bytes[..half], note.as_bytes(), &bytes[bytes.len() - half..]].concat()
}

/// The last lines of a guest's text, at most `lines` of them and `cap` bytes, decoded with replacement characters.
pub fn tail(bytes: &[u8], lines: usize, cap: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(cap)..]).into_owned();
    let all: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_and_notices_damage() {
        let state = tempfile::tempdir().expect("a folder");
        let store = EvidenceStore::open(state.path()).expect("a store");
        let kept = store.keep("console", b"hello").expect("kept");
        assert_eq!((store.get(&kept.sha256), kept.size), (Some(b"hello".to_vec()), 5));
        std::fs::write(state.path().join("evidence/.tmp123"), b"half").expect("written");
        store.sweep().expect("swept");
        assert_eq!(std::fs::read_dir(state.path().join("evidence")).map(Iterator::count).ok(), Some(1));
        std::fs::write(store.path(&kept.sha256), b"hullo").expect("altered");
        assert_eq!(store.get(&kept.sha256), None);
    }

    #[test]
    fn long_texts_lose_their_middle_and_say_so() {
        let cut = cut_middle(&[b'x'; 100], 10);
        assert!(String::from_utf8_lossy(&cut).starts_with("xxxxx\n[... 90 bytes left out ...]\nxxxxx"));
        assert_eq!(cut_middle(b"short", 10), b"short");
        assert_eq!(tail(b"a\r\nb\r\nc\xff", 2, 100), "b\nc\u{fffd}");
    }
}
