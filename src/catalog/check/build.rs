//! Checks of customers and builds: `builds/<customer>/`.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::build::Build;
use crate::catalog::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::catalog::hardware::Firmware;
use crate::catalog::lists::{patterns, twice};
use crate::catalog::load::{Found, FoundCustomer, RawCatalog};
use crate::catalog::source::Source;
use crate::catalog::suite::SuiteKind;
use crate::catalog::tree::{Data, Tree};
use crate::id::Name;

pub(super) fn check(
    raw: &RawCatalog,
    customer: &FoundCustomer,
    own: &Name,
    found: &Found<Build>,
    source: &Source,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let tree = &source.tree;
    if let Some(image) = tree.get("image") {
        known(source, image, "image", "image", "images/", &raw.images, diagnostics);
    }
    for (at, _, item) in tree.texts_at("hardware") {
        known(source, item, &format!("hardware[{at}]"), "hardware profile", "builds/hardware/", &raw.hardware, diagnostics);
    }
    for (at, name, item) in tree.texts_at("suites") {
        let key = format!("suites[{at}]");
        if name == "health" {
            diagnostics.push(source.error(item, key, "the health suite always runs and is not listed").hint("remove it"));
        } else {
            known(source, item, &key, "suite", "test-suites/", &raw.suites, diagnostics);
            let suite =
                name.parse::<Name>().ok().and_then(|name| raw.suites.get(&name)).and_then(|(found, _)| found.reading.value.as_ref());
            if suite.is_some_and(|suite| suite.kind == SuiteKind::Interoperability) {
                let problem = source.error(item, &key, format!("the suite {name:?} needs several machines"));
                diagnostics.push(problem.expected("a suite of kind regression").hint("name it in an environment's file"));
            }
        }
    }
    if let Some(entry) = tree.entry("segment") {
        let problem = source.error(&entry.value, "segment", "this is an environment, and its file is called like a build's");
        diagnostics.push(problem.expected(format!("{own}.environment.toml")).hint("rename the file"));
    }
    twice(source, tree, "hardware", diagnostics);
    twice(source, tree, "suites", diagnostics);
    twice(source, tree, "services", diagnostics);
    if let Some(suites) = tree.get("suites").filter(|suites| matches!(suites.data, Data::List(_)))
        && suites.items().is_empty()
        && !plays_a_role(customer, own)
    {
        diagnostics.push(source.warning(suites, "suites", "no suites: only the health suite judges patches for this build"));
    }
    for (at, unit, item) in tree.texts_at("services") {
        if let Some(hint) = unit_problem(unit) {
            let problem = source.error(item, format!("services[{at}]"), "not the name of a systemd unit").found(item.describe());
            diagnostics.push(problem.expected("a unit with its type, for example \"nginx.service\"").hint(hint));
        }
    }
    patterns(source, tree, "volatile", diagnostics);
    firmware(raw, found, source, diagnostics);
}

/// Whether an environment of the customer has a machine of this build: its suites judge patches too.
fn plays_a_role(customer: &FoundCustomer, build: &Name) -> bool {
    let environments = customer.environments.values().filter_map(|found| found.reading.source.as_ref());
    let roles = environments.filter_map(|source| source.tree.get("role")).flat_map(Tree::entries);
    roles.filter_map(|role| role.value.get("build")?.text()).any(|name| name == build.as_str())
}

/// Reports a name that nothing in the catalog has.
pub(super) fn known<T>(
    source: &Source,
    at: &Tree,
    key: &str,
    what: &str,
    folder: &str,
    names: &BTreeMap<Name, T>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(name) = at.text().and_then(|text| text.parse::<Name>().ok()) else { return };
    if !names.contains_key(&name) {
        let words = || names.keys().map(Name::as_str);
        let problem = source.error(at, key, format!("there is no {what} {:?}", name.as_str()));
        let hint = did_you_mean(name.as_str(), words()).unwrap_or_else(|| format!("{what}s are described in {folder}"));
        diagnostics.push(problem.expected(one_of(words())).hint(hint));
    }
}

/// What to do about a text that is not a unit name (systemd.unit(5)), if it is not one.
fn unit_problem(unit: &str) -> Option<String> {
    const TYPES: [&str; 11] = ["service", "socket", "timer", "mount", "target", "path", "slice", "scope", "device", "swap", "automount"];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if unit.is_empty() || unit.len() > 255 || !unit.chars().all(plain) {
        return Some("letters, digits and : - _ . \\ @ make a unit name".to_owned());
    }
    match unit.rsplit_once('.') {
        Some((name, kind)) if TYPES.contains(&kind) && !name.is_empty() => {
            name.ends_with('@').then(|| format!("a template is not a unit: name an instance, for example \"{name}main.{kind}\""))
        }
        _ => Some(format!("did you mean \"{unit}.service\"?")),
    }
}

/// Reports hardware whose firmware the build's image does not boot on.
fn firmware(raw: &RawCatalog, found: &Found<Build>, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let Some(build) = &found.reading.value else { return };
    let Some(image) = raw.images.get(&build.image).and_then(|image| image.reading.value.as_ref()) else { return };
    for (at, name, item) in source.tree.texts_at("hardware") {
        let profile = name.parse::<Name>().ok().and_then(|name| raw.hardware.get(&name)).and_then(|found| found.reading.value.as_ref());
        if let Some(profile) = profile.filter(|profile| !image.firmware.contains(&profile.firmware)) {
            let shown = |firmware: Firmware| firmware.as_str().to_uppercase().replace('-', " ");
            let wanted = shown(profile.firmware);
            let boots: Vec<_> = image.firmware.iter().map(|firmware| shown(*firmware)).collect();
            let problem = format!("the image {:?} does not boot on the {wanted} firmware of {name:?}", build.image.as_str());
            diagnostics.push(
                source
                    .error(item, format!("hardware[{at}]"), problem)
                    .expected(format!("hardware with {}", boots.join(" or ")))
                    .hint("leave the profile out, or make the image boot on it and add the firmware to its image.toml"),
            );
        }
    }
}

/// Checks of customers among each other.
pub(super) fn customers(raw: &RawCatalog, diagnostics: &mut Vec<Diagnostic>) {
    let mut cells: BTreeMap<String, (&Name, &Name)> = BTreeMap::new();
    for (customer, found) in &raw.customers {
        if found.builds.is_empty() {
            diagnostics.push(Diagnostic::warning(&found.customer.shown, format!("the customer {:?} has no builds", customer.as_str())));
        }
        for both in found.environments.keys().filter(|name| found.builds.contains_key(name)) {
            let file = found.customer.shown.join(format!("{both}.environment.toml"));
            let problem = format!("a build of this customer is called {:?} too", both.as_str());
            diagnostics.push(Diagnostic::error(file, problem).hint("rename one of the two: their cells would have the same ids"));
        }
        for build in found.builds.keys().chain(found.environments.keys()) {
            let cell = format!("{customer}.{build}");
            if let Some((other_customer, other_build)) =
                cells.insert(cell.clone(), (customer, build)).filter(|(other, _)| *other != customer)
            {
                let file = found.customer.shown.join(format!("{build}.toml"));
                let problem = format!("its cells would have the same ids as those of builds/{other_customer}/{other_build}.toml");
                diagnostics.push(Diagnostic::error(file, problem).found(format!("{cell:?}")).hint("rename one of the two"));
            }
        }
    }
}

/// Warns of what no build uses: often a name that was changed in one place only.
pub(super) fn unused(raw: &RawCatalog, diagnostics: &mut Vec<Diagnostic>) {
    let trees = || raw.customers.values().flat_map(|customer| customer.builds.values()).filter_map(|b| b.reading.source.as_ref());
    let images: BTreeSet<_> = trees().filter_map(|source| source.tree.get("image")?.text()).collect();
    let environments = raw.customers.values().flat_map(|customer| customer.environments.values());
    let users = trees().chain(environments.filter_map(|found| found.reading.source.as_ref()));
    let suites: BTreeSet<_> = users.flat_map(|source| source.tree.texts_at("suites").map(|(_, name, _)| name)).collect();
    for (name, found) in &raw.images {
        if !images.contains(name.as_str()) {
            diagnostics.push(Diagnostic::warning(&found.shown, format!("no build uses the image {:?}", name.as_str())));
        }
    }
    for (name, (found, _)) in &raw.suites {
        if !suites.contains(name.as_str()) {
            diagnostics.push(Diagnostic::warning(&found.shown, format!("no build or environment runs the suite {:?}", name.as_str())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names() {
        for good in ["nginx.service", "getty@tty1.service", "dev-sda1.device", "a.b.service", "srv-www\\x2dx.mount"] {
            assert_eq!(unit_problem(good), None, "{good}");
        }
        for bad in ["", "nginx", "getty@.service", "a b.service", ".service", "x.serivce", "é.service", "$(reboot).service"] {
            assert!(unit_problem(bad).is_some(), "{bad:?}");
        }
    }
}
