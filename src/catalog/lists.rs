//! Checks that lists and limits of several file kinds share.

use std::collections::BTreeSet;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::source::Source;
use super::text::Span;
use super::tree::{Tree, join};

/// The longest time that one step of a run may be given.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reports texts that a list holds twice.
pub fn twice(source: &Source, tree: &Tree, key: &str, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    for (at, text, item) in tree.texts_at(key) {
        if !seen.insert(text) {
            diagnostics.push(source.error(item, format!("{key}[{at}]"), format!("{text:?} is in the list twice")).hint("remove one"));
        }
    }
}

/// Reports a duration that no step of a run can have. Unreadable ones are the schema's to report.
pub fn time_limit(source: &Source, table: &Tree, path: &str, key: &str, diagnostics: &mut Vec<Diagnostic>) {
    let Some(at) = table.get(key) else { return };
    let Some(span) = at.text().and_then(|text| text.parse::<Span>().ok()) else { return };
    if !(Duration::from_secs(1)..=LONGEST).contains(&span.0) {
        let problem = source.error(at, join(path, key), "a time limit that can't be kept");
        diagnostics.push(problem.found(at.describe()).expected("1s to 24h"));
    }
}

/// Reports shell patterns that can match no path.
pub fn patterns(source: &Source, tree: &Tree, key: &str, diagnostics: &mut Vec<Diagnostic>) {
    for (at, pattern, item) in tree.texts_at(key) {
        if !pattern.starts_with(['/', '*']) || pattern.contains('\0') {
            let problem = source.error(item, format!("{key}[{at}]"), "a pattern that matches no path").found(item.describe());
            diagnostics.push(problem.expected("a pattern of absolute paths, for example \"/var/lib/app/*\""));
        }
    }
}
