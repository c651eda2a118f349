//! What a schema can't say: names that lead nowhere, files that are not there, hardware that can't exist, names that collide.
//!
//! Checks walk the trees of the files, so they also speak where other parts of a file are broken. A value that the schema already
//! refused is passed over in silence.

mod build;
mod environment;
mod image;
mod labels;
mod policy;
mod settings;
mod suite;
mod webhook;

use super::diagnostic::Diagnostic;
use super::inside;
use super::load::{Found, RawCatalog};
use super::source::Source;
use super::tree::Tree;

/// Adds everything that is wrong with a lab beyond the structure of its files.
pub(super) fn check(raw: &RawCatalog, diagnostics: &mut Vec<Diagnostic>) {
    for found in raw.images.values() {
        each(found, diagnostics, image::check);
    }
    for found in raw.hardware.values() {
        each(found, diagnostics, hardware);
    }
    for (found, _) in raw.suites.values() {
        each(found, diagnostics, suite::check);
    }
    for customer in raw.customers.values() {
        for (name, found) in &customer.builds {
            each(found, diagnostics, |found, source, diagnostics| build::check(raw, customer, name, found, source, diagnostics));
        }
    }
    for customer in raw.customers.values() {
        for found in customer.environments.values() {
            each(found, diagnostics, |found, source, diagnostics| environment::check(raw, customer, found, source, diagnostics));
        }
    }
    for (name, customer) in &raw.customers {
        policy::check(raw, name, customer, diagnostics);
    }
    if let Some(found) = &raw.settings {
        each(found, diagnostics, |_, source, diagnostics| {
            settings::check(source, diagnostics);
            webhook::check(raw, source, diagnostics);
        });
    }
    labels::check(raw, diagnostics);
    build::customers(raw, diagnostics);
    let mut builds = raw.customers.values().flat_map(|customer| customer.builds.values());
    if builds.all(|found| found.reading.source.is_some()) {
        build::unused(raw, diagnostics);
    }
}

/// Runs a check where there is at least a tree to check.
fn each<T>(found: &Found<T>, diagnostics: &mut Vec<Diagnostic>, check: impl FnOnce(&Found<T>, &Source, &mut Vec<Diagnostic>)) {
    if let Some(source) = &found.reading.source {
        check(found, source, diagnostics);
    }
}

fn hardware(found: &Found<super::hardware::Hardware>, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let Some(profile) = &found.reading.value else { return };
    for (key, reason, hint) in profile.impossible() {
        let (at, _) = source.tree.follow(&format!("/{}", key.replace('.', "/")));
        diagnostics.push(source.error(at, key, format!("impossible hardware: {reason}")).hint(hint));
    }
}

/// Reports a file that a description names and that is not inside its folder.
fn named_file<T>(found: &Found<T>, source: &Source, at: &Tree, key: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<std::path::PathBuf> {
    let path = at.text()?;
    match inside::file(&found.folder, path) {
        Ok(file) => Some(file),
        Err(outside) => {
            let expected = format!("a file inside {}", found.shown.display());
            diagnostics.push(
                source.error(at, key, format!("{key} names {outside}")).found(format!("{path:?}")).expected(expected).hint(outside.hint()),
            );
            None
        }
    }
}
