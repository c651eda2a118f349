//! Reads a candidate patch from a directory: its manifest, what its payload says of itself, and whether the two agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{deb, diff, rules};
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::inside;
use crate::catalog::patch::{Patch, PatchKind};
use crate::catalog::schema::Kind;
use crate::catalog::source::{self, Source};
use crate::id::Digest;
use crate::plan::{PayloadFacts, PlannedPatch};

/// The manifest's file name.
pub const MANIFEST: &str = "patch.toml";

/// A candidate as its bytes are.
#[derive(Clone, Debug)]
pub struct StoredPatch {
    /// Over the manifest and the payload files. Other files of the folder don't count.
    pub sha256: Digest,
    pub manifest: Patch,
    pub facts: PayloadFacts,
    /// The folder with `patch.toml` and the payload.
    pub folder: PathBuf,
    /// What a careful reader should know: the manifest and the payload disagree, but a run can be made.
    pub warnings: Vec<Diagnostic>,
}

impl StoredPatch {
    /// The candidate as plans hold it.
    pub fn planned(&self) -> PlannedPatch {
        PlannedPatch { sha256: self.sha256, manifest: self.manifest.clone(), facts: self.facts.clone(), brings: false }
    }
}

/// The files that a candidate is made of: manifest and payload.
pub(super) fn files(manifest: &Patch) -> BTreeSet<String> {
    manifest.payload.iter().map(String::as_str).chain([MANIFEST]).map(str::to_owned).collect()
}

/// Reads and checks the candidate in a folder, which diagnostics name `shown`. It runs `dpkg-deb`.
///
/// # Errors
/// Every mistake in the manifest and the payload, and the warnings among them.
pub(super) fn read(folder: &Path, shown: &Path) -> Result<StoredPatch, Vec<Diagnostic>> {
    let (source, manifest, mut diagnostics) = read_manifest(folder, shown)?;
    let facts = facts(&source, folder, &manifest, &mut diagnostics);
    Diagnostic::sort(&mut diagnostics);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    match inside::folder_digest(folder, &files(&manifest)) {
        Ok(sha256) => Ok(StoredPatch { sha256, manifest, facts, folder: folder.to_owned(), warnings: diagnostics }),
        Err(error) => Err(vec![Diagnostic::error(shown, format!("can't be read: {error}"))]),
    }
}

/// Reads and checks the manifest, and that the payload files are there. Gives the warnings, too.
pub(super) fn read_manifest(folder: &Path, shown: &Path) -> Result<(Source, Patch, Vec<Diagnostic>), Vec<Diagnostic>> {
    if !folder.is_dir() {
        return Err(vec![Diagnostic::error(shown, "not a directory").expected("a directory with a patch.toml")]);
    }
    let file = folder.join(MANIFEST);
    if file.symlink_metadata().is_err() {
        let hint = "a candidate is a directory with a patch.toml and its payload files";
        return Err(vec![Diagnostic::error(shown, "there is no patch.toml in this directory").hint(hint)]);
    }
    let reading = source::read::<Patch>(&file, &shown.join(MANIFEST), Kind::Patch);
    let mut diagnostics = reading.diagnostics;
    let Some(source) = reading.source else { return Err(diagnostics) };
    rules::check(&source, folder, &mut diagnostics);
    Diagnostic::sort(&mut diagnostics);
    match reading.value.filter(|_| !diagnostics.iter().any(Diagnostic::is_error)) {
        Some(manifest) => Ok((source, manifest, diagnostics)),
        None => Err(diagnostics),
    }
}

/// What the payload says of itself.
fn facts(source: &Source, folder: &Path, manifest: &Patch, diagnostics: &mut Vec<Diagnostic>) -> PayloadFacts {
    let mut bytes = 0u64;
    for file in &manifest.payload {
        match fs::metadata(folder.join(file)) {
            Ok(about) => bytes = bytes.saturating_add(about.len()),
            Err(error) => diagnostics.push(Diagnostic::error(source.file.with_file_name(file), format!("can't be read: {error}"))),
        }
    }
    let (packages, paths) = match manifest.kind {
        PatchKind::Deb => (deb::packages(source, folder, manifest, diagnostics), Vec::new()),
        PatchKind::Script => (Vec::new(), Vec::new()),
        PatchKind::Files => {
            let paths: BTreeSet<_> = manifest.files.iter().map(|file| file.target.clone()).collect();
            (Vec::new(), paths.into_iter().collect())
        }
        PatchKind::Diff => (Vec::new(), diff::paths(source, folder, manifest, diagnostics)),
    };
    PayloadFacts { packages, paths, bytes }
}
