//! The store of sealed images: `<state>/images/`.
//!
//! ```text
//! <sha256>.qcow2   one disk, mode 0444, never written to again
//! <sha256>.seen    how that file looked when it was last read to its end (a cache; may go at any time)
//! <name>.json      which disk an image's name stands for, and what it was made from
//! <name>.packages.tsv  what is installed on that disk, for other tools: package, version, architecture, source package
//! incoming/        where the one command at a time works, a folder an image; emptied by the next
//! ```
//!
//! Invariants: a `.qcow2` appears only complete, flushed and under the digest of its contents; a record appears only after its
//! disk. So a crash at any moment leaves either the old state or the new one, and at most files in `incoming`.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::header;
use super::progress::{Progress, Step, Watcher};
use super::source::{blocking, digest_of};
use crate::id::{Digest, Name};

/// The mode of a sealed file.
const SEALED: u32 = 0o444;

/// The store below a lab's state directory.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    pub name: Name,
    /// The disk.
    pub image: Digest,
    /// The digest of the description that it was made from.
    pub source: Digest,
    pub made: Timestamp,
    /// Bytes of the file.
    pub size: u64,
    /// Installed packages and their versions; of an import the lab can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<BTreeMap<String, String>>,
}

/// A disk that is ready to be sealed: for which name, made from what, and what is known of its contents.
#[derive(Clone, Debug)]
pub struct Draft {
    pub name: Name,
    pub source: Digest,
    pub disk: PathBuf,
    /// Package, version, architecture and source package, a line each, with tabs between.
    pub packages: Option<String>,
}

/// A disk that was found to be the one it is named for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub image: Digest,
    pub path: PathBuf,
    pub size: u64,
}

/// How a file looked. A file that was written to, replaced or given another mode since has another look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    size: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The right to add to the store, and an empty folder to work in. When the last clone is dropped, the folder is emptied.
#[derive(Clone, Debug)]
pub struct Incoming(Arc<Held>);

#[derive(Debug)]
struct Held {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Record {
    /// Installed packages and their versions, where they are known.
    pub fn packages(&self) -> Option<BTreeMap<String, String>> {
        self.packages.clone()
    }
}

impl Incoming {
    /// The folder for the work on one image, made if there is none.
    pub fn folder(&self, name: &Name) -> Result<PathBuf, ImageError> {
        let folder = self.0.folder.join(name.as_str());
        fs::create_dir_all(&folder).map_err(ImageError::io("make", &folder))?;
        Ok(folder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next build, which says so if it can't either.
        let _ = empty(&self.folder);
    }
}

impl Store {
    /// The store of a state directory, made if there is none.
    pub fn open(state: &Path) -> Result<Self, ImageError> {
        let folder = state.join("images");
        fs::create_dir_all(&folder).map_err(ImageError::io("make", &folder))?;
        let folder = fs::canonicalize(&folder).map_err(ImageError::io("find", &folder))?;
        Ok(Self { folder })
    }

    /// Where the disk of this digest is, or would be.
    pub fn path_of(&self, image: Digest) -> PathBuf {
        self.folder.join(format!("{}.qcow2", image.hex()))
    }

    /// What the name stands for, if it was ever made.
    pub fn record(&self, name: &Name) -> Result<Option<Record>, ImageError> {
        let path = self.folder.join(format!("{name}.json"));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io("read", &path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| ImageError::Record { path, source })
    }

    /// All records, by name.
    pub fn records(&self) -> Result<Vec<Record>, ImageError> {
        let mut records = Vec::new();
        for path in self.files("json")? {
            let text = fs::read(&path).map_err(ImageError::io("read", &path))?;
            records.push(serde_json::from_slice(&text).map_err(|source| ImageError::Record { path, source })?);
        }
        records.sort_by(|a: &Record, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Disks that no name stands for any more. Runs may still speak of them: whoever removes one must ask the journal first.
    pub fn nameless(&self) -> Result<Vec<PathBuf>, ImageError> {
        let named: Vec<PathBuf> = self.records()?.iter().map(|record| self.path_of(record.image)).collect();
        Ok(self.files("qcow2")?.into_iter().filter(|path| !named.contains(path)).collect())
    }

    /// Removes a disk that [`Store::nameless`] named, with the note of its last check.
    ///
    /// # Errors
    /// `Io` when it cannot be removed.
    pub fn discard(&self, path: &Path) -> Result<(), ImageError> {
        for file in [path.with_extension("seen"), path.to_owned()] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(ImageError::io("remove", &file)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The disk that a name stands for, checked as by [`Store::sealed`].
    pub async fn verify(&self, name: &Name, watcher: &Watcher) -> Result<Sealed, ImageError> {
        let record = self.record(name)?.ok_or_else(|| ImageError::NotMade(name.clone()))?;
        self.check(record.image, reporting(name, watcher)).await
    }

    /// The check before use: at once if the file looks as it did when it was last read to its end, else by reading it again.
    ///
    /// # Errors
    /// [`ImageError::Damaged`] if the contents or the mode are not what was sealed; `Io` if there is no such file.
    pub async fn sealed(&self, image: Digest) -> Result<Sealed, ImageError> {
        self.check(image, |_| Ok(())).await
    }

    async fn check(
        &self,
        image: Digest,
        progress: impl FnMut(f64) -> Result<(), ImageError> + Send + 'static,
    ) -> Result<Sealed, ImageError> {
        let store = self.clone();
        blocking(move || {
            let path = store.path_of(image);
            let look = look_at(&path)?;
            let seen = fs::read(store.seen_of(image)).ok().and_then(|text| serde_json::from_slice::<Look>(&text).ok());
            if seen.as_ref() == Some(&look) {
                check_mode(&path)?;
                return Ok(Sealed { image, path, size: look.size });
            }
            store.read_to_end(image, progress)
        })
        .await
    }

    /// How large the disk is that a guest sees: what an overlay on the image grows to in the worst case.
    ///
    /// # Errors
    /// When the file can't be read or is no qcow2.
    pub fn guest_size(&self, image: Digest) -> Result<u64, ImageError> {
        let path = self.path_of(image);
        File::open(&path).and_then(|mut file| header::guest_size(&mut file)).map_err(ImageError::io("read", &path))
    }

    /// The whole check, whatever was seen before: reads every byte.
    pub async fn verify_fully(&self, name: &Name, watcher: &Watcher) -> Result<Sealed, ImageError> {
        let record = self.record(name)?.ok_or_else(|| ImageError::NotMade(name.clone()))?;
        let (store, progress) = (self.clone(), reporting(name, watcher));
        blocking(move || store.read_to_end(record.image, progress)).await
    }

    /// Takes the right to add to the store.
    ///
    /// # Errors
    /// [`ImageError::Busy`] while another process has it.
    pub async fn incoming(&self) -> Result<Incoming, ImageError> {
        let store = self.clone();
        blocking(move || {
            let folder = store.folder.join("incoming");
            fs::create_dir_all(&folder).map_err(ImageError::io("make", &folder))?;
            let file = File::open(&folder).map_err(ImageError::io("open", &folder))?;
            let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
                Errno::EWOULDBLOCK => ImageError::Busy { store: store.folder.clone() },
                error => ImageError::io("lock", &folder)(error.into()),
            })?;
            empty(&folder)?;
            Ok(Incoming(Arc::new(Held { folder, _lock: lock })))
        })
        .await
    }

    /// Seals a finished disk: copies or moves it in, hashes it, makes it read-only, flushes it, gives it its name, and only then
    /// lets the image's name stand for it. Several images may be sealed at once, each under another name.
    pub async fn publish(&self, incoming: &Incoming, draft: Draft, watcher: &Watcher) -> Result<Record, ImageError> {
        let (store, report, incoming) = (self.clone(), reporting(&draft.name, watcher), incoming.clone());
        blocking(move || {
            let Draft { name, source, disk, packages } = draft;
            let work = incoming.folder(&name)?;
            let own = work.join("sealing.qcow2");
            if fs::rename(&disk, &own).is_err() || !owned(&own)? {
                // From another file system, or made by the namespace's root: the store's file must be the lab's own.
                let from = if own.exists() { &own } else { &disk };
                let copy = work.join("copy.qcow2");
                fs::copy(from, &copy).map_err(ImageError::io("copy", from))?;
                fs::rename(&copy, &own).map_err(ImageError::io("name", &own))?;
            }
            fs::set_permissions(&own, Permissions::from_mode(SEALED)).map_err(ImageError::io("make read-only", &own))?;
            let image = digest_of(&own, report)?;
            let flushed = File::open(&own).and_then(|file| file.sync_all());
            flushed.map_err(ImageError::io("flush", &own))?;

            let path = store.path_of(image);
            fs::rename(&own, &path).map_err(ImageError::io("name", &path))?;
            store.flush_folder()?;
            store.remember(image, &look_at(&path)?);
            let size = look_at(&path)?.size;
            store.write_packages(&name, packages.as_deref(), &work)?;
            let packages = packages.as_deref().map(versions);
            let record = Record { name: name.clone(), image, source, made: Timestamp::now(), size, packages };
            store.write_record(&record, &work)?;
            Ok(record)
        })
        .await
    }

    fn write_record(&self, record: &Record, work: &Path) -> Result<(), ImageError> {
        let path = self.folder.join(format!("{}.json", record.name));
        let mut text = serde_json::to_vec_pretty(record).map_err(|source| ImageError::Record { path: path.clone(), source })?;
        text.push(b'\n');
        self.replace(&path, &text, work)
    }

    fn write_packages(&self, name: &Name, packages: Option<&str>, work: &Path) -> Result<(), ImageError> {
        let path = self.folder.join(format!("{name}.packages.tsv"));
        match (packages, fs::remove_file(&path)) {
            (Some(text), _) => self.replace(&path, text.as_bytes(), work),
            (None, Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(ImageError::io("remove", &path)(error)),
            (None, _) => Ok(()),
        }
    }

    /// Writes a small file as a whole or not at all.
    fn replace(&self, path: &Path, text: &[u8], work: &Path) -> Result<(), ImageError> {
        let draft = work.join("draft");
        let written = File::create(&draft).and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
        written.map_err(ImageError::io("write", &draft))?;
        fs::rename(&draft, path).map_err(ImageError::io("name", path))?;
        self.flush_folder()
    }

    fn flush_folder(&self) -> Result<(), ImageError> {
        let flushed = File::open(&self.folder).and_then(|folder| folder.sync_all());
        flushed.map_err(ImageError::io("flush", &self.folder))
    }

    fn read_to_end(&self, image: Digest, progress: impl FnMut(f64) -> Result<(), ImageError>) -> Result<Sealed, ImageError> {
        let path = self.path_of(image);
        check_mode(&path)?;
        // Looked at before reading: a change during the reading is then not taken for seen.
        let look = look_at(&path)?;
        let found = digest_of(&path, progress)?;
        if found != image {
            let _ = fs::remove_file(self.seen_of(image));
            return Err(ImageError::Damaged { file: path, expected: image.to_string(), found: found.to_string() });
        }
        self.remember(image, &look);
        Ok(Sealed { image, path, size: look.size })
    }

    /// Notes how the file looked. Only a cache: when it can't be written, the next check reads the file again.
    fn remember(&self, image: Digest, look: &Look) {
        let Ok(text) = serde_json::to_vec(look) else { return };
        let draft = self.folder.join(format!("{}.seen.{}", image.hex(), std::process::id()));
        if fs::write(&draft, text).and_then(|()| fs::rename(&draft, self.seen_of(image))).is_err() {
            let _ = fs::remove_file(&draft);
        }
    }

    fn seen_of(&self, image: Digest) -> PathBuf {
        self.folder.join(format!("{}.seen", image.hex()))
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, ImageError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(ImageError::io("list", &self.folder))? {
            let path = entry.map_err(ImageError::io("list", &self.folder))?.path();
            if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// The versions of a package list.
fn versions(list: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    list.lines().filter_map(pair).collect()
}

fn reporting(name: &Name, watcher: &Watcher) -> impl FnMut(f64) -> Result<(), ImageError> + Send + 'static {
    let (name, watcher) = (name.clone(), watcher.clone());
    move |within| watcher.tell(Progress::at(&name, Step::Seal, within, ""))
}

fn look_at(path: &Path) -> Result<Look, ImageError> {
    let meta = fs::symlink_metadata(path).map_err(ImageError::io("look at", path))?;
    Ok(Look {
        size: meta.len(),
        device: meta.dev(),
        inode: meta.ino(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

fn check_mode(path: &Path) -> Result<(), ImageError> {
    let meta = fs::symlink_metadata(path).map_err(ImageError::io("look at", path))?;
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_file() && mode == SEALED {
        return Ok(());
    }
    let found = if meta.is_file() { format!("mode {mode:04o}") } else { "something else than a file".to_owned() };
    Err(ImageError::Damaged { file: path.to_owned(), expected: format!("a file of mode {SEALED:04o}"), found })
}

fn owned(path: &Path) -> Result<bool, ImageError> {
    let meta = fs::metadata(path).map_err(ImageError::io("look at", path))?;
    Ok(meta.uid() == nix::unistd::geteuid().as_raw())
}

fn empty(folder: &Path) -> Result<(), ImageError> {
    for entry in fs::read_dir(folder).map_err(ImageError::io("list", folder))? {
        let path = entry.map_err(ImageError::io("list", folder))?.path();
        let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(ImageError::io("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
