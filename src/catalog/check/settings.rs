//! Checks of what `patchlab.toml` says of templates and of the server.

use std::time::Duration;

use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::settings::Server;
use crate::catalog::source::Source;
use crate::catalog::text::{Size, Span};

const SIZE: (Size, Size, &str) = (Size::mib(64), Size::mib(16 << 20), "64MiB to 16TiB");
const AGE: (Duration, Duration, &str) = (Duration::from_secs(60), Duration::from_secs(365 * 24 * 3600), "1m to 365d");
/// The largest number of connections that the schema lets through.
const MOST: i64 = 16384;

pub(super) fn check(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    templates(source, diagnostics);
    server(source, diagnostics);
}

fn templates(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
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

/// One address that may have all connections shuts out everybody else.
fn server(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let Some(server) = source.tree.get("server") else { return };
    let usual = Server::default();
    let number = |key: &str, least: i64, usual: u32| match server.get(key) {
        None => Some((server, i64::from(usual))),
        Some(item) => item.json().as_i64().filter(|number| (least..=MOST).contains(number)).map(|number| (item, number)),
    };
    let Some((_, all)) = number("connections", 8, usual.connections) else { return };
    for (key, usual) in
        [("connections-per-address", usual.connections_per_address), ("connections-from-this-host", usual.connections_from_this_host)]
    {
        if let Some((item, share)) = number(key, 1, usual)
            && share >= all
        {
            let problem = source.error(item, format!("server.{key}"), "one address could hold all connections, and nobody else be heard");
            diagnostics.push(problem.found(share.to_string()).expected(format!("less than connections, which are {all}")));
        }
    }
}
