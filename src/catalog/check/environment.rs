//! Checks of environments: `builds/<customer>/<name>.environment.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::build::known;
use crate::catalog::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::catalog::environment::{Environment, Subnet, start_order};
use crate::catalog::lists::{time_limit, twice};
use crate::catalog::load::{Found, FoundCustomer, RawCatalog};
use crate::catalog::source::Source;
use crate::catalog::step::{Action, Disturbance, Site};
use crate::catalog::suite::{Suite, SuiteKind};
use crate::catalog::tree::{Tree, join};
use crate::id::Name;

/// The longest role: it becomes part of machine names, and a host name.
const LONGEST_ROLE: usize = 20;

pub(super) fn check(
    raw: &RawCatalog,
    customer: &FoundCustomer,
    found: &Found<Environment>,
    source: &Source,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let tree = &source.tree;
    twice(source, tree, "suites", diagnostics);
    for (at, _, item) in tree.texts_at("suites") {
        known(source, item, &format!("suites[{at}]"), "suite", "test-suites/", &raw.suites, diagnostics);
    }
    let roles = tree.get("role").map_or(&[][..], Tree::entries);
    if let ([_], Some(entry)) = (roles, tree.entry("role")) {
        let problem = source.error(&entry.value, "role", "an environment of one machine has nobody to talk to");
        diagnostics.push(problem.expected("two roles or more").hint("one machine alone is a build: its suites go into its build's file"));
    }
    for role in roles {
        let path = join("role", &role.key);
        role_name(source, role.key.as_str(), &role.key_span, &path, diagnostics);
        member(raw, customer, source, &role.value, &path, diagnostics);
    }
    let Some(environment) = &found.reading.value else { return };
    addresses(environment, source, diagnostics);
    names(environment, source, diagnostics);
    order(environment, source, diagnostics);
    suites(raw, environment, source, diagnostics);
}

fn role_name(source: &Source, role: &str, span: &crate::catalog::tree::Bytes, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    // What is no name at all, the schema says.
    if role.parse::<Name>().is_err() {
        return;
    }
    let label = role.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') && !role.ends_with('-');
    if !label || role.len() > LONGEST_ROLE || role == "all" {
        let problem = Diagnostic::error(&source.file, "a role that can't be the name of a machine").at(source.place(span)).key(path);
        let expected = format!("lower-case letters, digits and '-', at most {LONGEST_ROLE}, and not \"all\"");
        diagnostics.push(problem.found(format!("{role:?}")).expected(expected));
    }
}

fn member(raw: &RawCatalog, customer: &FoundCustomer, source: &Source, table: &Tree, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    time_limit(source, table, path, "ready-within", diagnostics);
    let Some(at) = table.get("build") else { return };
    known(source, at, &join(path, "build"), "build", "the customer's own folder", &customer.builds, diagnostics);
    let build = at.text().and_then(|name| name.parse::<Name>().ok()).and_then(|name| customer.builds.get(&name));
    for (at, name, item) in table.texts_at("hardware") {
        let key = format!("{path}.hardware[{at}]");
        known(source, item, &key, "hardware profile", "builds/hardware/", &raw.hardware, diagnostics);
        let lives_on = build.and_then(|build| build.reading.value.as_ref()).map(|build| &build.hardware);
        if let Some(hardware) = lives_on.filter(|all| !all.iter().any(|one| one.as_str() == name)) {
            let problem = source.error(item, &key, format!("its build does not live on the hardware {name:?}"));
            diagnostics.push(problem.expected(one_of(hardware.iter().map(Name::as_str))).hint("add it to the build's own list first"));
        }
    }
}

fn at<'a>(source: &'a Source, path: &[&str]) -> &'a Tree {
    path.iter().fold(&source.tree, |here, key| here.get(key).unwrap_or(here))
}

fn addresses(environment: &Environment, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<(&Name, Ipv4Addr), &Name> = BTreeMap::new();
    for (role, member) in &environment.roles {
        for (segment, address) in &member.address {
            let place = at(source, &["role", role.as_str(), "address", segment.as_str()]);
            let key = format!("role.{role}.address.{segment}");
            let Some(found) = environment.segments.get(segment) else {
                known(source, &text_at(segment, place), &key, "segment", "this file as [segment.NAME]", &environment.segments, diagnostics);
                continue;
            };
            if !found.subnet.has_host(*address) {
                let problem = source.error(place, &key, format!("{address} is no address of a machine on segment {segment}"));
                diagnostics.push(problem.expected(format!("an address in {}", found.subnet)));
            }
            if let Some(other) = taken.insert((segment, *address), role) {
                let problem = source.error(place, &key, format!("{address} on segment {segment} is taken by role {other}"));
                diagnostics.push(problem.expected("an address of its own for each machine"));
            }
        }
    }
    let mut nets: Vec<(&Name, Subnet)> = environment.segments.iter().map(|(name, segment)| (name, segment.subnet)).collect();
    while let Some((name, net)) = nets.pop() {
        if let Some((other, _)) = nets.iter().find(|(_, other)| net.overlaps(*other)) {
            let problem = format!("the subnets of segments {other} and {name} overlap: a machine on both could not tell them apart");
            diagnostics.push(source.error(at(source, &["segment", name.as_str()]), format!("segment.{name}.subnet"), problem));
        }
    }
}

/// A name in the place of a value, for reports about keys.
fn text_at(name: &Name, place: &Tree) -> Tree {
    Tree { data: crate::catalog::tree::Data::Text(name.to_string()), span: place.span.clone() }
}

fn names(environment: &Environment, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<&str, &Name> = environment.roles.keys().map(|role| (role.as_str(), role)).collect();
    for (role, member) in &environment.roles {
        for (index, name) in member.names.iter().enumerate() {
            let place = at(source, &["role", role.as_str(), "names"]);
            let key = format!("role.{role}.names[{index}]");
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            if name.len() > 253 || !name.split('.').all(label) {
                let problem = source.error(place, &key, format!("{name:?} is not a host name"));
                diagnostics.push(problem.expected("labels of letters, digits and '-', joined by dots"));
            } else if let Some(other) = taken.insert(name, role) {
                diagnostics
                    .push(source.error(place, &key, format!("the name {name:?} belongs to role {other} already")).hint("remove one"));
            }
        }
    }
}

fn order(environment: &Environment, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    for (role, member) in &environment.roles {
        for (index, other) in member.after.iter().enumerate() {
            let place = at(source, &["role", role.as_str(), "after"]);
            known(
                source,
                &text_at(other, place),
                &format!("role.{role}.after[{index}]"),
                "role",
                "this file",
                &environment.roles,
                diagnostics,
            );
        }
    }
    let after = environment.roles.iter().map(|(role, member)| (role.clone(), member.after.clone())).collect();
    if let Err(looped) = start_order(&after) {
        let waiting = looped.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        let problem =
            source.error(at(source, &["role"]), "role", format!("these machines wait for each other and none can start: {waiting}"));
        diagnostics.push(problem.hint("take one of them out of the `after` of another"));
    }
}

fn suites(raw: &RawCatalog, environment: &Environment, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    for suite in environment.cast.keys().filter(|suite| !environment.suites.contains(suite)) {
        let place = at(source, &["cast", suite.as_str()]);
        diagnostics.push(source.error(place, format!("cast.{suite}"), "a cast for a suite that is not in `suites`").hint("remove it"));
    }
    for (index, name) in environment.suites.iter().enumerate() {
        let Some(suite) = raw.suites.get(name).and_then(|(found, _)| found.reading.value.as_ref()) else { continue };
        let place = at(source, &["suites"]);
        let key = format!("suites[{index}]");
        if suite.kind != SuiteKind::Interoperability {
            let problem = source.error(place, &key, format!("the suite {name} is for one machine"));
            diagnostics.push(problem.expected("a suite of kind interoperability").hint("regression suites go into the file of a build"));
            continue;
        }
        let cast = environment.cast.get(name);
        for role in cast.iter().flat_map(|cast| cast.keys()).filter(|role| !suite.roles.contains(role)) {
            let problem = format!("the suite {name} has no role {role}");
            let problem = source.error(at(source, &["cast", name.as_str(), role.as_str()]), format!("cast.{name}.{role}"), problem);
            diagnostics.push(problem.expected(one_of(suite.roles.iter().map(Name::as_str))));
        }
        let mut players = BTreeSet::new();
        for role in &suite.roles {
            let player = cast.and_then(|cast| cast.get(role)).unwrap_or(role);
            if !environment.roles.contains_key(player) {
                let problem = source.error(place, &key, format!("nobody plays the role {role} of suite {name}"));
                let roles = one_of(environment.roles.keys().map(Name::as_str));
                diagnostics.push(problem.expected(roles).hint(format!("say who does: [cast.{name}] {role} = \"...\"")));
            } else if !players.insert(player) {
                let problem = format!("{player} plays two roles of suite {name}: the other one is missing");
                diagnostics.push(source.error(place, &key, problem).expected("another machine for each role"));
            }
        }
        for (case, what) in disturbances(suite) {
            if let Some(nowhere) = nowhere(environment, name, suite, what) {
                let problem = source.error(place, &key, format!("the suite {name} can't be played here: {}", nowhere.problem));
                let problem = problem.found(format!("network = \"{what}\" in its case {case}"));
                diagnostics.push(problem.expected(nowhere.expected).hint(nowhere.hint));
            }
        }
    }
}

/// Why a disturbance happens nowhere.
struct Nowhere {
    problem: String,
    expected: String,
    hint: String,
}

/// The disturbances of a suite's steps, each kind once, with a case that has it.
fn disturbances(suite: &Suite) -> Vec<(&Name, &Disturbance)> {
    let mut all: Vec<(&Name, &Disturbance)> = Vec::new();
    for case in &suite.cases {
        for step in &case.steps {
            let Ok(Action::Network(what)) = step.action() else { continue };
            if !all.iter().any(|(_, other)| *other == what || other.site().is_some() && other.site() == what.site()) {
                all.push((&case.name, what));
            }
        }
    }
    all
}

/// Why a disturbance would happen nowhere in this environment, if so.
fn nowhere(environment: &Environment, name: &Name, suite: &Suite, what: &Disturbance) -> Option<Nowhere> {
    let player = |role: &Name| environment.cast.get(name).and_then(|cast| cast.get(role)).unwrap_or(role).clone();
    let unknown = |segment: &Name, roles: &[Name], problem: String| {
        let known = || roles.iter().chain(environment.segments.keys()).map(Name::as_str);
        let hint = did_you_mean(segment.as_str(), known()).unwrap_or_else(|| format!("add [segment.{segment}], or leave the suite out"));
        (!environment.segments.contains_key(segment)).then(|| Nowhere { problem, expected: one_of(known()), hint })
    };
    match what {
        Disturbance::Partition(roles) => {
            let parted: BTreeSet<Name> = roles.iter().map(player).collect();
            environment.roles.keys().all(|role| parted.contains(role)).then(|| Nowhere {
                problem: "it parts nobody from anybody".to_owned(),
                expected: "the roles of one side".to_owned(),
                hint: "leave out those of the other side".to_owned(),
            })
        }
        other => match other.site()? {
            Site::Whole(place) if suite.roles.contains(place) => None,
            Site::Whole(place) => {
                unknown(place, &suite.roles, format!("{place} is neither a role of it nor a segment of this environment"))
            }
            Site::Nic { role, segment } => unknown(segment, &[], format!("there is no segment {segment}")).or_else(|| {
                let player = player(role);
                let member = environment.roles.get(&player).filter(|member| !member.address.contains_key(segment))?;
                Some(Nowhere {
                    problem: format!("{player} has no NIC on the segment {segment}"),
                    expected: one_of(member.address.keys().map(Name::as_str)),
                    hint: format!("give {player} an address on {segment}, or leave the suite out"),
                })
            }),
        },
    }
}
