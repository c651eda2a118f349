//! Checks of the webhooks in `patchlab.toml`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::build::known;
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::lists::twice;
use crate::catalog::load::RawCatalog;
use crate::catalog::source::Source;
use crate::catalog::text::Span;
use crate::catalog::tree::{Tree, join};

const TIMEOUT: (Duration, Duration, &str) = (Duration::from_millis(100), Duration::from_secs(60), "100ms to 60s");
const PATIENCE: (Duration, Duration, &str) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600), "1s to 30d");

pub(super) fn check(raw: &RawCatalog, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let mut names = BTreeSet::new();
    for (at, webhook) in source.tree.get("webhook").map_or(&[][..], Tree::items).iter().enumerate() {
        let path = format!("webhook[{at}]");
        let text = |key: &str| webhook.get(key).and_then(|item| Some((item, item.text()?)));
        if let Some((item, name)) = text("name")
            && !names.insert(name)
        {
            diagnostics.push(source.error(item, join(&path, "name"), format!("there is a webhook {name:?} before it")));
        }
        twice(source, webhook, "customers", diagnostics);
        for (nth, _, item) in webhook.texts_at("customers") {
            known(source, item, &format!("{path}.customers[{nth}]"), "customer", "builds/", &raw.customers, diagnostics);
        }
        if let Some((item, url)) = text("url")
            && url.strip_prefix("http://").is_some_and(|rest| !is_loopback(rest))
        {
            let problem = source.warning(item, join(&path, "url"), "decisions go over the network where everybody can read them");
            diagnostics.push(problem.hint("use https"));
        }
        for (key, (least, most, expected)) in [("timeout", TIMEOUT), ("give-up-after", PATIENCE)] {
            let Some((item, span)) = text(key).and_then(|(item, text)| Some((item, text.parse::<Span>().ok()?))) else { continue };
            if !(least..=most).contains(&span.0) {
                let problem = source.error(item, join(&path, key), "a length of time that no delivery can go by");
                diagnostics.push(problem.found(item.describe()).expected(expected));
            }
        }
    }
}

/// Whether the rest of a URL begins with a name of this very host.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_told_from_others() {
        for here in ["localhost/x", "localhost:80", "127.0.0.1:1/a?b", "127.9.9.9", "[::1]:80/x"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["example.com", "localhost.example.com/", "127.0.0.1.example.com", "[2001:db8::1]", "10.0.0.1:80", ""] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
