//! Checks of what `patchlab.toml` says of templates, of the hosts and of the server.

use std::time::Duration;

use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::settings::{EMBEDDED, Server, is_embedded};
use crate::catalog::source::Source;
use crate::catalog::text::{Size, Span};
use crate::catalog::tree::Tree;

const SIZE: (Size, Size, &str) = (Size::mib(64), Size::mib(16 << 20), "64MiB to 16TiB");
const AGE: (Duration, Duration, &str) = (Duration::from_secs(60), Duration::from_secs(365 * 24 * 3600), "1m to 365d");
const MEMORY: (Size, Size, &str) = (Size::mib(640), Size::mib(64 << 20), "640MiB to 64TiB");
const DISK: (Size, Size, &str) = (Size::mib(64), Size::mib(1 << 30), "64MiB to 1024TiB");
/// The largest number of connections that the schema lets through.
const MOST: i64 = 16384;

pub(super) fn check(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    templates(source, diagnostics);
    hosts(source, diagnostics);
    server(source, diagnostics);
}

/// Hosts that can't be told apart, and what each has for machines.
fn hosts(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let Some(hosts) = source.tree.get("host").map(Tree::items) else { return };
    // One that says nothing is the one that --hypervisor names, which is the one inside this process where that says nothing.
    let uri = |host: &Tree| host.get("uri").and_then(Tree::text).unwrap_or(EMBEDDED).to_owned();
    for (at, host) in hosts.iter().enumerate() {
        let before = hosts.get(..at).unwrap_or_default();
        if let Some(name) = host.get("name").filter(|name| before.iter().any(|other| other.get("name").and_then(Tree::text) == name.text()))
        {
            let problem = source.error(name, format!("host[{at}].name"), "another host has this name");
            diagnostics.push(problem.found(name.describe()).hint("the journal knows hosts by their names: give it another"));
        }
        let (mine, item) = (uri(host), host.get("uri").unwrap_or(host));
        if before.iter().any(|other| uri(other) == mine || (is_embedded(&uri(other)) && is_embedded(&mine))) {
            let own = is_embedded(&mine);
            let problem = if own { "a process has one libvirt of its own, and another host is it" } else { "another host has this uri" };
            let problem = source.error(item, format!("host[{at}].uri"), problem);
            diagnostics.push(problem.found(mine).expected("the uri of another libvirt").hint("one host may leave uri out"));
        }
        if let Some(pool) = host.get("pool")
            && host.get("uri").is_none_or(|uri| uri.text().is_some_and(is_here))
        {
            let problem = source.error(pool, format!("host[{at}].pool"), "its machines are in the state folder, not in a storage pool");
            diagnostics.push(problem.found(pool.describe()).expected("a uri of a libvirt outside this process").hint("leave pool out"));
        }
        bounds(source, (at, host), diagnostics);
    }
}

/// Whether machines at this uri are in this process, or pretended.
fn is_here(uri: &str) -> bool {
    is_embedded(uri) || uri == "sim" || uri.starts_with("sim:")
}

/// What no machine fits into, or says nothing.
fn bounds(source: &Source, (at, host): (usize, &Tree), diagnostics: &mut Vec<Diagnostic>) {
    for (key, (least, most, expected)) in [("memory", MEMORY), ("disk", DISK)] {
        let Some(item) = host.get(key) else { continue };
        if item.text().and_then(|text| text.parse::<Size>().ok()).is_some_and(|size| !(least..=most).contains(&size)) {
            let problem = source.error(item, format!("host[{at}].{key}"), "a size that no machine fits into, or that no host has");
            diagnostics.push(problem.found(item.describe()).expected(expected).hint("left out, it is what is free"));
        }
    }
    let number = |key| host.get(key).and_then(|item| Some((item, item.json().as_i64()?)));
    if let (Some((_, cores)), Some((item, boots))) = (number("cores"), number("boots"))
        && boots > cores
    {
        let problem = source.error(item, format!("host[{at}].boots"), "more machines that boot than machines at work");
        diagnostics.push(problem.found(boots.to_string()).expected(format!("at most cores, which are {cores}")));
    }
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
