//! Checks of what `patchlab.toml` says of templates.

use std::time::Duration;

use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::source::Source;
use crate::catalog::text::{Size, Span};

const SIZE: (Size, Size, &str) = (Size::mib(64), Size::mib(16 << 20), "64MiB to 16TiB");
const AGE: (Duration, Duration, &str) = (Duration::from_secs(60), Duration::from_secs(365 * 24 * 3600), "1m to 365d");

pub(super) fn check(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let Some(templates) = source.tree.get("templates") else { return };
    let mut within = |key: &str, fits: &dyn Fn(&str) -> Option<bool>, problem: &str, expected: &str| {
        let Some(item) = templates.get(key) else { return };
        if item.text().and_then(fits) == Some(false) {
            let problem = source.error(item, format!("templates.{key}"), problem);
            diagnostics.push(problem.found(item.describe()).expected(expected).hint("at-most = 0 switches templates off"));
        }
    };
    let (least, most, expected) = SIZE;
    let size = |text: &str| Some((least..=most).contains(&text.parse().ok()?));
    within("size", &size, "a size that no machine's memory fits into, or that no disk has", expected);
    let (least, most, expected) = AGE;
    let age = |text: &str| Some((least..=most).contains(&text.parse::<Span>().ok()?.0));
    within("age", &age, "a length of time that no template is kept for", expected);
}
