//! Reads a lab directory into a catalog, reporting every mistake of every file in one pass.
//!
//! Two steps: read each file by itself (`source`), then check what files say about each other (`check`). A file that is broken by
//! itself still counts as being there, so that one mistake gives one error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::build::{Build, Customer};
use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::hardware::Hardware;
use super::image::Image;
use super::schema::Kind;
use super::settings::{self, Settings};
use super::source::{self, Reading};
use super::suite::Suite;
use super::{Catalog, CustomerEntry, ImageEntry, SuiteEntry, autopkgtest, check, inside};
use crate::id::{Digest, Name};

/// How the file name of an environment ends.
const ENVIRONMENT: &str = ".environment.toml";

/// What loading a lab directory gave: the catalog if nothing is wrong, and everything that there is to say.
#[derive(Debug)]
pub struct Loading {
    pub catalog: Option<Catalog>,
    /// Sorted by file and place.
    pub diagnostics: Vec<Diagnostic>,
}

/// One named thing of the lab, as far as it could be read.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub reading: Reading<T>,
    /// Its folder on disk, and as people name it.
    pub folder: PathBuf,
    pub shown: PathBuf,
}

/// A customer's folder.
#[derive(Debug)]
pub(super) struct FoundCustomer {
    pub customer: Found<Customer>,
    pub builds: BTreeMap<Name, Found<Build>>,
    pub environments: BTreeMap<Name, Found<Environment>>,
}

/// Everything that lies in a lab directory, unchecked.
#[derive(Debug, Default)]
pub(super) struct RawCatalog {
    pub images: BTreeMap<Name, Found<Image>>,
    pub hardware: BTreeMap<Name, Found<Hardware>>,
    pub customers: BTreeMap<Name, FoundCustomer>,
    pub suites: BTreeMap<Name, (Found<Suite>, Option<Digest>)>,
    /// What `patchlab.toml` says, where there is one.
    pub settings: Option<Found<Settings>>,
}

impl Catalog {
    /// Reads and checks a lab directory.
    ///
    /// # Errors
    /// Every mistake found, and the warnings among them, sorted by file and place. For the warnings of a valid lab, see
    /// [`load`].
    pub fn load(lab: &Path) -> Result<Self, Vec<Diagnostic>> {
        let Loading { catalog, diagnostics } = load(lab);
        catalog.ok_or(diagnostics)
    }
}

/// Reads and checks a lab directory.
pub fn load(lab: &Path) -> Loading {
    let mut walk = Walk { lab, diagnostics: Vec::new() };
    let raw = walk.all();
    let mut diagnostics = walk.diagnostics;
    check::check(&raw, &mut diagnostics);
    Diagnostic::sort(&mut diagnostics);
    let catalog = if diagnostics.iter().any(Diagnostic::is_error) { None } else { Some(raw.into_catalog()) };
    Loading { catalog, diagnostics }
}

impl RawCatalog {
    /// The typed catalog. Call only when there is no error: what could not be read is left out.
    fn into_catalog(self) -> Catalog {
        let images = self.images.into_iter().filter_map(|(name, found)| Some((name, found.reading.value?, found.folder)));
        let customers = self.customers.into_iter().filter_map(|(name, found)| {
            let builds = found.builds.into_iter().filter_map(|(name, found)| Some((name, found.reading.value?)));
            let environments = found.environments.into_iter().filter_map(|(name, found)| Some((name, found.reading.value?)));
            let (builds, environments) = (builds.collect(), environments.collect());
            Some((name, CustomerEntry { customer: found.customer.reading.value?, builds, environments }))
        });
        let suites = self.suites.into_iter().filter_map(|(name, (found, sha256))| {
            Some((name, SuiteEntry { suite: found.reading.value?, folder: found.folder, sha256: sha256? }))
        });
        Catalog {
            images: images.map(|(name, image, folder)| (name, ImageEntry { image, folder })).collect(),
            hardware: self.hardware.into_iter().filter_map(|(name, found)| Some((name, found.reading.value?))).collect(),
            customers: customers.collect(),
            suites: suites.collect(),
        }
    }
}

/// A walk through a lab directory, collecting what it trips over.
struct Walk<'a> {
    lab: &'a Path,
    diagnostics: Vec<Diagnostic>,
}

/// One entry of a folder.
struct Entry {
    /// Its path from the top of the lab.
    shown: PathBuf,
    name: String,
    is_dir: bool,
}

impl Walk<'_> {
    fn all(&mut self) -> RawCatalog {
        let mut raw = RawCatalog::default();
        if !self.lab.join("builds").is_dir() {
            let problem = Diagnostic::error(self.lab, "not a lab directory: there is no folder \"builds\" in it");
            self.diagnostics.push(
                problem
                    .expected("a folder with builds/, images/ and test-suites/")
                    .hint("go to the lab's top folder or name it with --lab"),
            );
            return raw;
        }
        for (name, entry) in self.named_folders("images", None) {
            raw.images.insert(name, self.described(&entry.shown, "image.toml", Kind::Image));
        }
        for (name, entry) in self.named_folders("test-suites", Some("health")) {
            let mut found: Found<Suite> = self.described(&entry.shown, "suite.toml", Kind::Suite);
            if let Some(suite) = &mut found.reading.value {
                self.diagnostics.extend(autopkgtest::load::fill(&found.folder, &found.shown, suite));
            }
            let digest = self.digest(&entry.shown);
            raw.suites.insert(name, (found, digest));
        }
        for (name, entry) in self.named_folders("builds", None) {
            if name.as_str() == "hardware" {
                self.hardware(&entry.shown, &mut raw);
            } else {
                let found = self.customer(&entry.shown);
                raw.customers.insert(name, found);
            }
        }
        if self.lab.join(settings::FILE).symlink_metadata().is_ok() {
            raw.settings = Some(self.found(Path::new(settings::FILE), Path::new(""), Kind::Settings));
        }
        for stray in self.entries(Path::new("builds")).into_iter().filter(|entry| !entry.is_dir && entry.name.ends_with(".toml")) {
            let problem = Diagnostic::error(stray.shown, "a file in builds/ itself is never read");
            self.diagnostics.push(problem.hint("builds go into builds/<customer>/, hardware profiles into builds/hardware/"));
        }
        raw
    }

    fn hardware(&mut self, shown: &Path, raw: &mut RawCatalog) {
        for (name, entry) in self.named_files(shown, ".toml") {
            if name.as_str() == "customer" {
                let problem = Diagnostic::error(entry.shown, "no customer can be called \"hardware\": builds/hardware/ holds the profiles");
                self.diagnostics.push(problem.hint("rename the customer's folder"));
                continue;
            }
            let found = self.found(&entry.shown, shown, Kind::Hardware);
            raw.hardware.insert(name, found);
        }
    }

    fn customer(&mut self, shown: &Path) -> FoundCustomer {
        let customer = self.described(shown, "customer.toml", Kind::Customer);
        let mut builds = BTreeMap::new();
        for (name, entry) in self.named_files(shown, ".toml") {
            if name.as_str() != "customer" {
                let found = self.found(&entry.shown, shown, Kind::Build);
                builds.insert(name, found);
            }
        }
        let environments = self.named_files(shown, ENVIRONMENT).into_iter();
        let environments = environments.map(|(name, entry)| (name, self.found(&entry.shown, shown, Kind::Environment))).collect();
        FoundCustomer { customer, builds, environments }
    }

    /// The folders in one of the lab's folders, by their names.
    fn named_folders(&mut self, parent: &str, reserved: Option<&str>) -> Vec<(Name, Entry)> {
        let folders: Vec<_> = self.entries(Path::new(parent)).into_iter().filter(|entry| entry.is_dir).collect();
        let mut named = Vec::new();
        for entry in folders {
            if reserved == Some(entry.name.as_str()) {
                let problem = Diagnostic::error(entry.shown, format!("the name {:?} is reserved for the built-in suite", entry.name));
                self.diagnostics.push(problem.hint("rename the folder"));
                continue;
            }
            match entry.name.parse::<Name>() {
                Ok(name) => named.push((name, entry)),
                Err(bad) => self.diagnostics.push(bad_name(&entry, bad.expected)),
            }
        }
        named
    }

    /// The files in a folder with this ending, by their names without it. Environments are files of their own kind.
    fn named_files(&mut self, shown: &Path, ending: &str) -> Vec<(Name, Entry)> {
        let mine = |entry: &Entry| entry.name.ends_with(ending) && (ending == ENVIRONMENT || !entry.name.ends_with(ENVIRONMENT));
        let files: Vec<_> = self.entries(shown).into_iter().filter(mine).collect();
        let mut named = Vec::new();
        for entry in files {
            match entry.name.strip_suffix(ending).unwrap_or_default().parse::<Name>() {
                Ok(name) => named.push((name, entry)),
                Err(bad) => self.diagnostics.push(bad_name(&entry, bad.expected)),
            }
        }
        named
    }

    /// What lies in a folder, sorted, without hidden files. A folder that is not there is empty.
    fn entries(&mut self, shown: &Path) -> Vec<Entry> {
        let path = self.lab.join(shown);
        let listing = match fs::read_dir(&path) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.diagnostics.push(Diagnostic::error(shown, format!("can't be read: {error}")));
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for entry in listing.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                self.diagnostics.push(Diagnostic::error(shown.join(&name), "a name that is not UTF-8").hint("rename it"));
                continue;
            };
            if !name.starts_with('.') {
                entries.push(Entry { shown: shown.join(name), name: name.to_owned(), is_dir: entry.path().is_dir() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// The description in a folder that must have one.
    fn described<T: DeserializeOwned>(&mut self, folder: &Path, file: &str, kind: Kind) -> Found<T> {
        let shown = folder.join(file);
        if self.lab.join(&shown).symlink_metadata().is_err() {
            let problem = Diagnostic::error(folder, format!("there is no {file} in this folder"));
            self.diagnostics.push(problem.expected(shown.display().to_string()).hint("write it, or remove the folder"));
            let reading = Reading { source: None, value: None, diagnostics: Vec::new() };
            return Found { reading, folder: self.lab.join(folder), shown: folder.to_owned() };
        }
        self.found(&shown, folder, kind)
    }

    fn found<T: DeserializeOwned>(&mut self, file: &Path, folder: &Path, kind: Kind) -> Found<T> {
        let mut reading = source::read(&self.lab.join(file), file, kind);
        self.diagnostics.append(&mut reading.diagnostics);
        Found { reading, folder: self.lab.join(folder), shown: folder.to_owned() }
    }

    fn digest(&mut self, shown: &Path) -> Option<Digest> {
        let folder = self.lab.join(shown);
        let digest = inside::files(&folder, shown).and_then(|files| {
            inside::folder_digest(&folder, &files).map_err(|error| Box::new(Diagnostic::error(shown, format!("can't be read: {error}"))))
        });
        digest.map_err(|diagnostic| self.diagnostics.push(*diagnostic)).ok()
    }
}

fn bad_name(entry: &Entry, expected: &str) -> Diagnostic {
    Diagnostic::error(&entry.shown, "a name that nothing in the lab can have")
        .found(format!("{:?}", entry.name))
        .expected(expected)
        .hint("rename it")
}
