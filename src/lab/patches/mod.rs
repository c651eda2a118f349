//! The patch store: candidates by the digest of their bytes, in `<state>/patches/`.
//!
//! ```text
//! patches/<64 hex digits>/content/patch.toml   the manifest and the payload, read-only, and nothing else
//! patches/<64 hex digits>/facts.json           what the payload said of itself when it was added
//! patches/.new-…/                              a candidate on its way in
//! ```
//!
//! Invariants: a candidate appears whole or not at all (it is renamed into place); what is there is never written to again; the
//! same id with other bytes is another candidate. An id that several candidates have names none of them: the person chooses by
//! digest. The newest is said in the error but never assumed, because a verdict must not move to other bytes by itself.

mod candidate;
mod command;
mod deb;
mod diff;
mod relations;
mod rules;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use self::candidate::MANIFEST;
pub use self::candidate::StoredPatch;
use crate::catalog::diagnostic::{Diagnostic, Problems};
use crate::catalog::inside;
use crate::catalog::patch::Patch;
use crate::catalog::schema::Kind;
use crate::catalog::source;
use crate::id::Digest;
use crate::plan::PayloadFacts;

const CONTENT: &str = "content";
const FACTS: &str = "facts.json";
const ARRIVING: &str = ".new-";
const ADD_AGAIN: &str = "add the candidate again from its source: patchlab patch add DIR";

/// An arrival that is older than this was given up by a process that died.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The store of one lab's state directory. Its functions block; async callers give them a thread.
#[derive(Clone, Debug)]
pub struct PatchStore {
    root: PathBuf,
}

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Newest last.
    pub candidates: Vec<StoredPatch>,
    /// Entries that can't be used.
    pub problems: Vec<Diagnostic>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Facts {
    facts: PayloadFacts,
}

impl PatchStore {
    /// Opens the store, creating its folder where there is none, and removes what dead processes left on its way in.
    pub fn open(state: &Path) -> Result<Self, Box<Diagnostic>> {
        let root = state.join("patches");
        fs::create_dir_all(&root).map_err(|error| Box::new(Diagnostic::failed(&root, "can't be created", &error)))?;
        let store = Self { root };
        store.sweep();
        Ok(store)
    }

    /// Copies a candidate into the store. The same bytes again change nothing. Its warnings include those about others in the store.
    ///
    /// # Errors
    /// Every mistake of the candidate, or that it would need itself by way of others.
    pub fn add(&self, folder: &Path) -> Result<StoredPatch, Problems> {
        let (_, manifest, _) = candidate::read_manifest(folder, folder)?;
        let failed = |error: io::Error| Problems::from(Diagnostic::failed(&self.root, "the candidate can't be stored", &error));
        let arriving = self.copy(folder, &manifest).map_err(failed)?;
        // What is said from here on is about the copy, which nobody else writes to.
        let StoredPatch { sha256, manifest, facts, mut warnings, .. } = candidate::read(&arriving.path().join(CONTENT), folder)?;
        relations::check(&manifest, &sha256, &folder.join(MANIFEST), &self.listing().candidates, &mut warnings);
        if warnings.iter().any(Diagnostic::is_error) {
            return Err(Problems(warnings));
        }
        let place = self.place(&sha256);
        let candidate = StoredPatch { sha256, manifest, facts, folder: place.join(CONTENT), warnings };
        if self.holds(&candidate) {
            return Ok(candidate);
        }
        seal(arriving.path(), &candidate.facts).map_err(failed)?;
        if place.exists() {
            // It is not what its name promises.
            fs::remove_dir_all(&place).map_err(failed)?;
        }
        match fs::rename(arriving.path(), &place) {
            Ok(()) => drop(arriving.keep()),
            // Another process was faster with the same bytes.
            Err(_) if self.holds(&candidate) => return Ok(candidate),
            Err(error) => return Err(failed(error)),
        }
        sync(&self.root).map_err(failed)?;
        Ok(candidate)
    }

    /// Whether a candidate is in the store, undamaged.
    fn holds(&self, candidate: &StoredPatch) -> bool {
        self.verify(candidate).is_ok() && self.load(candidate.sha256).is_ok_and(|stored| stored.facts == candidate.facts)
    }

    /// Every candidate in the store, newest last.
    ///
    /// # Errors
    /// What is wrong with entries that can't be used. [`Self::listing`] gives the good ones all the same.
    pub fn list(&self) -> Result<Vec<StoredPatch>, Problems> {
        let Listing { candidates, problems } = self.listing();
        if problems.is_empty() { Ok(candidates) } else { Err(Problems(problems)) }
    }

    /// Everything in the store, the usable and the damaged.
    pub fn listing(&self) -> Listing {
        let mut listing = Listing::default();
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let Some(digest) = entry.file_name().to_str().and_then(|name| format!("sha256:{name}").parse::<Digest>().ok()) else {
                continue;
            };
            let added = entry.path().join(FACTS).metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push((added, digest));
        }
        entries.sort();
        for (_, digest) in entries {
            match self.load(digest) {
                Ok(candidate) => listing.candidates.push(candidate),
                Err(problem) => listing.problems.push(*problem),
            }
        }
        listing
    }

    /// The candidate with this id, digest (with or without `sha256:`) or unique start of a digest of at least 6 digits.
    ///
    /// # Errors
    /// None such, more than one such, or one that can't be read. Its bytes are not checked here: see [`Self::verify`].
    pub fn get(&self, wanted: &str) -> Result<StoredPatch, Box<Diagnostic>> {
        let listing = self.listing();
        let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
        let is_start = (6..=64).contains(&hex.len()) && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        let by_id = |candidate: &&StoredPatch| candidate.manifest.id.as_str() == wanted;
        let by_digest = |candidate: &&StoredPatch| is_start && candidate.sha256.hex().starts_with(hex);
        let mut found: Vec<_> = listing.candidates.iter().filter(by_id).collect();
        if found.is_empty() {
            found = listing.candidates.iter().filter(by_digest).collect();
        }
        match found.as_slice() {
            [only] => Ok((*only).clone()),
            [] => {
                let damaged = listing.problems.into_iter().find(|problem| is_start && problem.file.to_string_lossy().contains(hex));
                Err(Box::new(damaged.unwrap_or_else(|| self.unknown(wanted, &listing.candidates))))
            }
            [.., newest] => {
                let digests: Vec<_> = found.iter().map(|candidate| candidate.sha256.to_string()).collect();
                let problem = format!("{} candidates are meant by {wanted:?}", found.len());
                let hint = format!("name one by its digest; the newest is {}", newest.sha256.short());
                Err(Box::new(Diagnostic::error(&self.root, problem).found(digests.join(", ")).expected("one candidate").hint(hint)))
            }
        }
    }

    /// The candidate with this very digest, if it is there and can be read. Its bytes are not checked: see [`Self::verify`].
    pub fn find(&self, sha256: Digest) -> Option<StoredPatch> {
        self.load(sha256).ok()
    }

    /// Checks that a candidate's bytes are those that its digest names. Do this before every use.
    pub fn verify(&self, candidate: &StoredPatch) -> Result<(), Box<Diagnostic>> {
        let damaged = |what: String| {
            let problem = Diagnostic::error(&candidate.folder, format!("the stored patch is damaged: {what}"));
            Box::new(problem.expected(candidate.sha256.to_string()).hint(ADD_AGAIN))
        };
        let files = inside::files(&candidate.folder, &candidate.folder).map_err(|problem| damaged(problem.problem))?;
        let digest = inside::folder_digest(&candidate.folder, &files).map_err(|error| damaged(error.to_string()))?;
        if digest == candidate.sha256 { Ok(()) } else { Err(damaged(format!("its bytes have the digest {digest}"))) }
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.hex())
    }

    fn load(&self, sha256: Digest) -> Result<StoredPatch, Box<Diagnostic>> {
        let place = self.place(&sha256);
        let folder = place.join(CONTENT);
        let file = folder.join(MANIFEST);
        let reading = source::read::<Patch>(&file, &file, Kind::Patch);
        let Some(manifest) = reading.value else {
            let first = reading.diagnostics.into_iter().next();
            return Err(Box::new(first.unwrap_or_else(|| Diagnostic::error(&file, "can't be read")).hint(ADD_AGAIN)));
        };
        let facts = fs::read(place.join(FACTS)).map_err(|error| error.to_string());
        let facts = facts.and_then(|text| serde_json::from_slice::<Facts>(&text).map_err(|error| error.to_string()));
        let unreadable = |error| Box::new(Diagnostic::error(place.join(FACTS), format!("can't be read: {error}")).hint(ADD_AGAIN));
        let Facts { facts } = facts.map_err(unreadable)?;
        Ok(StoredPatch { sha256, manifest, facts, folder, warnings: Vec::new() })
    }

    fn unknown(&self, wanted: &str, candidates: &[StoredPatch]) -> Diagnostic {
        let ids = || candidates.iter().map(|candidate| candidate.manifest.id.as_str());
        Diagnostic::error(&self.root, format!("there is no patch {wanted:?}"))
            .expected("the id or digest of a patch in the store, or a directory with a patch.toml")
            .hint("see what there is: patchlab patch list")
            .hint_if(crate::catalog::diagnostic::did_you_mean(wanted, ids()))
    }

    /// Copies manifest and payload into a new folder, durable and read-only.
    fn copy(&self, folder: &Path, manifest: &Patch) -> io::Result<tempfile::TempDir> {
        let arriving = tempfile::Builder::new().prefix(ARRIVING).tempdir_in(&self.root)?;
        let content = arriving.path().join(CONTENT);
        for path in candidate::files(manifest) {
            let (from, to) = (folder.join(&path), content.join(&path));
            let parent = to.parent().unwrap_or(&content);
            fs::create_dir_all(parent)?;
            let mut reader = File::open(&from)?;
            let executable = reader.metadata()?.permissions().mode() & 0o111 != 0;
            let mut writer = File::create_new(&to)?;
            io::copy(&mut reader, &mut writer)?;
            writer.set_permissions(fs::Permissions::from_mode(if executable { 0o555 } else { 0o444 }))?;
            writer.sync_all()?;
            sync(parent)?;
        }
        sync(&content)?;
        Ok(arriving)
    }

    fn sweep(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let arriving = entry.file_name().to_string_lossy().starts_with(ARRIVING);
            let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|at| at.elapsed().ok());
            if arriving && age.is_some_and(|age| age > ABANDONED) {
                // Best effort: what stays is swept next time.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Writes down what the payload said of itself, and makes an arrival ready for its place.
fn seal(arriving: &Path, facts: &PayloadFacts) -> io::Result<()> {
    let mut file = File::create_new(arriving.join(FACTS))?;
    file.write_all(&serde_json::to_vec_pretty(&Facts { facts: facts.clone() })?)?;
    file.sync_all()?;
    fs::set_permissions(arriving, fs::Permissions::from_mode(0o755))?;
    sync(arriving)
}

/// Makes a folder's entries durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
