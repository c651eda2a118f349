//! Templates: machines frozen after their first boot, from which later clones go on.
//!
//! ```text
//! <state>/templates/<key>/   template.json  memory.save  disk.qcow2  variables.fd  console.log     read-only
//!                            clones.jsonl   who went on from it; its time is that of the last use
//! <state>/templates/.draft-PID-* one being made by that process, or a checkpoint of it
//! ```
//! Invariants: a template is found only under everything that it depends on; it appears as a whole or not at all; its files are what
//! their digests say, looked at anew whenever a file's size, time or place has changed; machines hold links of their own, so one that
//! is removed harms nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::images::digest_of;
use crate::catalog::settings;
use crate::cell::Point;
use crate::cell::identity::Identity;
use crate::hypervisor::segments::Mac;
use crate::id::Digest;

/// Changes whenever machines of another version of patchlab would differ in what a frozen one remembers.
const FORM: u32 = 3;
const RECORD: &str = "template.json";
const CLONES: &str = "clones.jsonl";
const DRAFT: &str = ".draft-";
/// How often in a row a template may prove useless before no other is made of its kind, by this controller.
const PATIENCE: u32 = 2;
/// The most clones that a new one is compared with.
const COMPARED: usize = 1000;

/// All that a template depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Key {
    pub image: Digest,
    pub hardware: Digest,
    /// The job runner that is in place.
    pub runner: Digest,
    pub nics: usize,
    pub accelerator: String,
    pub qemu: String,
    pub libvirt: String,
    /// The storage pool that its disk's image is in, where that is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    form: u32,
}

impl Key {
    pub fn new(image: Digest, hardware: Digest, runner: Digest, nics: usize, host: &crate::journal::HostReport) -> Self {
        let (accelerator, qemu, libvirt) = (host.accelerator.clone(), host.qemu.clone(), host.libvirt.clone());
        Self { image, hardware, runner, nics, accelerator, qemu, libvirt, pool: None, form: FORM }
    }

    /// The same of machines whose files are in a storage pool.
    #[must_use]
    pub fn in_pool(self, pool: Option<&str>) -> Self {
        Self { pool: pool.map(str::to_owned), ..self }
    }

    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}

/// What is known of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    pub key: Key,
    pub frozen: Timestamp,
    /// What the boot before took, in milliseconds.
    pub boot_ms: u64,
    pub identity: Identity,
    /// The hardware addresses of its NICs.
    pub macs: Vec<Mac>,
    /// Empty until it is published.
    #[serde(default)]
    pub files: BTreeMap<String, Sealed>,
}

impl Record {
    /// The digests of its files, by their names.
    pub fn digests(&self) -> BTreeMap<String, Digest> {
        self.files.iter().map(|(name, file)| (name.clone(), file.sha256)).collect()
    }
}

/// A file of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sealed {
    sha256: Digest,
    bytes: u64,
    /// Where and from when it was when its digest was taken: device, inode, seconds and nanoseconds of its last change.
    seen: (u64, u64, i64, i64),
}

/// A template that may be used.
#[derive(Clone, Debug)]
pub struct Template {
    pub digest: Digest,
    pub folder: PathBuf,
    pub record: Record,
    /// Where in a pass its machine was frozen, where that was behind a patch.
    pub behind: Option<Point>,
}

impl Template {
    /// What was frozen behind a patch, in a [draft](Templates::draft) that is never published.
    ///
    /// # Errors
    /// The disk's.
    pub fn behind(draft: &Path, record: Record, point: Point) -> io::Result<Self> {
        fs::write(draft.join(CLONES), "")?;
        Ok(Self { digest: record.key.digest(), folder: draft.to_owned(), record, behind: Some(point) })
    }
}

/// How many templates may be kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub count: usize,
    pub bytes: u64,
    pub age: Duration,
}

impl From<&settings::Templates> for Limits {
    fn from(wanted: &settings::Templates) -> Self {
        Self { count: wanted.at_most as usize, bytes: wanted.size.0, age: wanted.age.0 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&settings::Templates::default())
    }
}

/// The lab's templates.
#[derive(Debug)]
pub struct Templates {
    folder: PathBuf,
    limits: Limits,
    gates: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Templates that could not be made or used, in a row, and why.
    failed: Mutex<HashMap<Digest, (u32, String)>>,
    /// Held while a clone is compared with earlier ones.
    admitting: Mutex<()>,
}

impl Templates {
    /// The templates below a state folder.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(state: &Path, limits: Limits) -> io::Result<Self> {
        let folder = state.join("templates");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, limits, gates: Mutex::default(), failed: Mutex::default(), admitting: Mutex::default() })
    }

    /// Removes what controllers that ended have left half made.
    ///
    /// # Errors
    /// The disk's.
    pub fn sweep(&self) -> io::Result<()> {
        for draft in fs::read_dir(&self.folder)? {
            let draft = draft?;
            let name = draft.file_name();
            let maker = name.to_str().and_then(|name| name.strip_prefix(DRAFT)?.split_once('-')).map(|(pid, _)| pid.to_owned());
            let at_work = |pid: &String| *pid != std::process::id().to_string() && Path::new("/proc").join(pid).exists();
            if maker.is_some_and(|pid| !at_work(&pid)) {
                fs::remove_dir_all(draft.path())?;
            }
        }
        Ok(())
    }

    /// The template of this key, if there is one that holds. One that does not is removed. Blocks while it reads.
    ///
    /// # Errors
    /// The disk's.
    pub fn find(&self, key: &Key, now: Timestamp) -> io::Result<Option<Template>> {
        let digest = key.digest();
        let folder = self.folder.join(digest.hex());
        let text = match fs::read(folder.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let why = match serde_json::from_slice::<Record>(&text) {
            Err(error) => format!("its record cannot be read: {error}"),
            Ok(record) if record.key != *key => "it is another's".to_owned(),
            Ok(record) if now.duration_since(record.frozen).unsigned_abs() > self.limits.age => "it is too old".to_owned(),
            Ok(mut record) => match verify(&folder, &mut record)? {
                None => return Ok(Some(Template { digest, folder, record, behind: None })),
                Some(why) => why,
            },
        };
        tracing::info!(template = digest.short(), why, "template removed");
        self.remove(digest)?;
        Ok(None)
    }

    /// Lets one at a time look for a template of this key and make it.
    pub async fn gate(&self, key: &Key) -> OwnedMutexGuard<()> {
        let gate = self.gates.lock().unwrap_or_else(PoisonError::into_inner).entry(key.digest()).or_default().clone();
        gate.lock_owned().await
    }

    /// Why no more templates of this key are made.
    pub fn given_up(&self, key: &Key) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(&key.digest()).filter(|(times, _)| *times >= PATIENCE).map(|(_, why)| why.clone())
    }

    /// A template of this key could not be made, or a clone of it not be used. It is removed.
    pub fn fail(&self, key: &Key, why: &str) {
        let digest = key.digest();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = failed.entry(digest).or_default();
        *entry = (entry.0 + 1, why.to_owned());
        if let Err(error) = self.remove(digest) {
            tracing::warn!(template = digest.short(), %error, "useless template not removed");
        }
    }

    /// An empty folder for a template, or for what is to stay this process's: it is removed when that is gone. The name tells it from
    /// others of this process, `memory` is the machine's, in bytes.
    ///
    /// # Errors
    /// The disk's; too little room is one.
    pub fn draft(&self, name: &str, memory: u64) -> io::Result<PathBuf> {
        let room = nix::sys::statvfs::statvfs(&self.folder).map(|found| found.blocks_available() * found.fragment_size())?;
        if room < memory.saturating_mul(2) {
            let found = format!("{} MiB are free where the state folder is, and twice the machine's memory is wanted", room >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, found));
        }
        let folder = self.folder.join(format!("{DRAFT}{}-{name}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Makes a draft the template of its key, and removes those that are too many.
    ///
    /// # Errors
    /// The disk's. The draft is removed then.
    pub fn publish(&self, draft: &Path, record: Record) -> io::Result<Template> {
        let digest = record.key.digest();
        let folder = self.folder.join(digest.hex());
        let made = seal(draft).and_then(|files| {
            let record = Record { files, ..record };
            fs::write(draft.join(CLONES), "")?;
            fs::write(draft.join(RECORD), serde_json::to_vec_pretty(&record).map_err(io::Error::other)?)?;
            self.remove(digest)?;
            fs::rename(draft, &folder)?;
            Ok(Template { digest, folder: folder.clone(), record, behind: None })
        });
        let made = made.inspect_err(|_| drop(fs::remove_dir_all(draft)))?;
        self.evict(digest)?;
        Ok(made)
    }

    /// Notes that a clone goes on from a template, unless it is unfit in the light of earlier ones. Gives what `wrong` found. Of two clones
    /// at once, the second sees the first.
    ///
    /// # Errors
    /// The disk's.
    pub fn admit(&self, template: &Template, clone: &Identity, wrong: impl FnOnce(&[Identity]) -> Vec<String>) -> io::Result<Vec<String>> {
        let _alone = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = wrong(&self.clones(template));
        if wrong.is_empty() {
            self.note(template, clone)?;
        }
        Ok(wrong)
    }

    /// Earlier clones of a template, the latest.
    fn clones(&self, template: &Template) -> Vec<Identity> {
        let text = fs::read_to_string(template.folder.join(CLONES)).unwrap_or_default();
        text.lines().rev().take(COMPARED).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn note(&self, template: &Template, clone: &Identity) -> io::Result<()> {
        let mut line = serde_json::to_string(clone).map_err(io::Error::other)?;
        line.push('\n');
        OpenOptions::new().append(true).open(template.folder.join(CLONES))?.write_all(line.as_bytes())?;
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).remove(&template.digest);
        Ok(())
    }

    /// Removes all templates, and gives how many there were. Clones of them go on.
    ///
    /// # Errors
    /// The disk's.
    pub fn clear(&self) -> io::Result<usize> {
        self.sweep()?;
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(DRAFT) {
                discard(&entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// All templates with what they take on disk and when they were last used, the least recently used first.
    ///
    /// # Errors
    /// The disk's.
    pub fn all(&self) -> io::Result<Vec<(Timestamp, u64, Record)>> {
        Ok(self.by_use()?.into_iter().map(|(used, bytes, _, record)| (used, bytes, record)).collect())
    }

    /// The digests of all templates' files.
    ///
    /// # Errors
    /// The disk's.
    pub fn held(&self) -> io::Result<BTreeSet<Digest>> {
        Ok(self.by_use()?.into_iter().flat_map(|(.., record)| record.digests().into_values()).collect())
    }

    fn by_use(&self) -> io::Result<Vec<(Timestamp, u64, Digest, Record)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            let Ok(text) = fs::read(folder.join(RECORD)) else { continue };
            let Ok(record) = serde_json::from_slice::<Record>(&text) else { continue };
            let used = fs::metadata(folder.join(CLONES))?.modified()?;
            let bytes = record.files.values().map(|file| file.bytes).sum();
            all.push((Timestamp::try_from(used).map_err(io::Error::other)?, bytes, record.key.digest(), record));
        }
        all.sort_by_key(|(used, ..)| *used);
        Ok(all)
    }

    /// Removes the least recently used while there are too many, but never `kept`.
    fn evict(&self, kept: Digest) -> io::Result<()> {
        let all = self.by_use()?;
        let (mut count, mut bytes) = (all.len(), all.iter().map(|(_, bytes, ..)| bytes).sum::<u64>());
        for (_, size, digest, _) in all.iter().filter(|(_, _, digest, _)| *digest != kept) {
            if count <= self.limits.count && bytes <= self.limits.bytes {
                break;
            }
            tracing::info!(template = digest.short(), "template removed: least recently used");
            self.remove(*digest)?;
            (count, bytes) = (count - 1, bytes - size);
        }
        Ok(())
    }

    fn remove(&self, digest: Digest) -> io::Result<()> {
        discard(&self.folder.join(digest.hex()))
    }
}

/// Removes a template's folder. The record goes first: without it there is no template.
fn discard(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(RECORD)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of a draft with their digests.
fn seal(draft: &Path) -> io::Result<BTreeMap<String, Sealed>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(draft)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let about = entry.metadata()?;
        files.insert(name, Sealed { sha256: digest(&path)?, bytes: about.len(), seen: place(&about) });
    }
    Ok(files)
}

/// What is wrong with a template's files. Files that lie elsewhere by now but hold the same are remembered as they are.
fn verify(folder: &Path, record: &mut Record) -> io::Result<Option<String>> {
    let mut moved = false;
    for (name, sealed) in &mut record.files {
        let path = folder.join(name);
        let about = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(format!("its file {name} is gone"))),
            other => other?,
        };
        if about.len() != sealed.bytes {
            return Ok(Some(format!("its file {name} has {} bytes, expected {}", about.len(), sealed.bytes)));
        }
        if place(&about) != sealed.seen {
            let found = digest(&path)?;
            if found != sealed.sha256 {
                return Ok(Some(format!("its file {name} has the digest {}, expected {}", found.short(), sealed.sha256.short())));
            }
            sealed.seen = place(&about);
            moved = true;
        }
    }
    if moved {
        fs::write(folder.join(RECORD), serde_json::to_vec_pretty(record).map_err(io::Error::other)?)?;
    }
    Ok(None)
}

fn place(about: &fs::Metadata) -> (u64, u64, i64, i64) {
    (about.dev(), about.ino(), about.mtime(), about.mtime_nsec())
}

fn digest(path: &Path) -> io::Result<Digest> {
    digest_of(path, |_| Ok(())).map_err(io::Error::other)
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
