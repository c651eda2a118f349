//! Labels that machines ask for and no host has.

use std::collections::BTreeSet;

use super::each;
use crate::catalog::diagnostic::{Diagnostic, did_you_mean};
use crate::catalog::load::RawCatalog;
use crate::catalog::source::Source;
use crate::catalog::tree::Tree;

/// It is no mistake: a host that is gone for a while closes no gate. What asks for such a label is refused when it is launched.
pub(super) fn check(raw: &RawCatalog, diagnostics: &mut Vec<Diagnostic>) {
    let hosts = raw.settings.as_ref().and_then(|found| found.reading.source.as_ref()?.tree.get("host"));
    let listed = hosts.map(Tree::items).unwrap_or_default().iter().filter_map(|host| host.get("labels"));
    let had: BTreeSet<&str> = listed.flat_map(Tree::items).filter_map(Tree::text).collect();
    let asked = |source: &Source, diagnostics: &mut Vec<Diagnostic>| {
        let labels = source.tree.get("host-labels").map(Tree::items).unwrap_or_default();
        for (at, item) in labels.iter().enumerate() {
            let Some(label) = item.text().filter(|label| !had.contains(label)) else { continue };
            let problem = source.warning(item, format!("host-labels[{at}]"), "no host has this label, so nothing that asks for it can run");
            let hint = did_you_mean(label, had.iter().copied());
            let hint = hint.unwrap_or_else(|| "give it to a [[host]] in patchlab.toml: labels".to_owned());
            diagnostics.push(problem.found(item.describe()).hint(hint));
        }
    };
    for found in raw.hardware.values() {
        each(found, diagnostics, |_, source, diagnostics| asked(source, diagnostics));
    }
    for found in raw.customers.values() {
        each(&found.customer, diagnostics, |_, source, diagnostics| asked(source, diagnostics));
    }
}
