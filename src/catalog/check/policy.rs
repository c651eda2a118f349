//! Checks of the gate's policies: `[policy]` of `builds/<customer>/customer.toml`. A policy that requires nothing, or what can never be met,
//! is a mistake: it would be found out when a patch waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::build::known;
use crate::catalog::diagnostic::{Diagnostic, one_of};
use crate::catalog::lists::twice;
use crate::catalog::load::{Found, FoundCustomer, RawCatalog};
use crate::catalog::source::Source;
use crate::catalog::text::Span;
use crate::catalog::tree::{Data, Tree, join};
use crate::id::Name;

const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);
const LONGEST_BASELINE: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) fn check(raw: &RawCatalog, customer: &Name, all: &FoundCustomer, diagnostics: &mut Vec<Diagnostic>) {
    let Found { reading, .. } = &all.customer;
    let Some(source) = &reading.source else { return };
    let Some(policy) = source.tree.get("policy") else { return };
    let place = Place { customer, all, source };
    for key in ["valid-for", "deadline"] {
        place.span(policy, "policy", key, diagnostics);
    }
    place.baselines(policy, diagnostics);
    twice(source, policy, "accept-from", diagnostics);
    for (at, name, item) in policy.texts_at("accept-from") {
        let key = format!("policy.accept-from[{at}]");
        known(source, item, &key, "customer", "builds/", &raw.customers, diagnostics);
        if name == customer.as_str() {
            let problem = source.error(item, key, "a customer's own verdicts count without being named");
            diagnostics.push(problem.hint("remove it"));
        }
    }
    place.require(policy.get("require"), policy, "policy", diagnostics);
    place.approvals(policy, "policy", diagnostics);
    if let Some(waiver) = policy.get("waiver") {
        place.span(waiver, "policy.waiver", "longest", diagnostics);
        for (at, pattern, item) in waiver.texts_at("cases") {
            if pattern.trim().is_empty() {
                let problem = source.error(item, format!("policy.waiver.cases[{at}]"), "a pattern that matches no case");
                diagnostics.push(problem.expected("a shell pattern of suite/case or of a stage's code, for example \"web-server/*\""));
            }
        }
    }
    place.lanes(policy, diagnostics);
}

struct Place<'a> {
    customer: &'a Name,
    all: &'a FoundCustomer,
    source: &'a Source,
}

/// What a cell of the customer can be made of.
#[derive(Default)]
struct Offer {
    hardware: BTreeSet<Name>,
    suites: BTreeSet<Name>,
    roles: BTreeSet<Name>,
}

impl Place<'_> {
    fn span(&self, table: &Tree, path: &str, key: &str, diagnostics: &mut Vec<Diagnostic>) {
        let Some(at) = table.get(key) else { return };
        let Some(span) = at.text().and_then(|text| text.parse::<Span>().ok()) else { return };
        if !(SHORTEST..=LONGEST).contains(&span.0) {
            let problem = self.source.error(at, join(path, key), "a length of time that no gate can go by");
            diagnostics.push(problem.found(at.describe()).expected("1m to 3650d"));
        }
    }

    fn baselines(&self, policy: &Tree, diagnostics: &mut Vec<Diagnostic>) {
        let Some(at) = policy.get("baseline-valid-for") else { return };
        let Some(span) = at.text().and_then(|text| text.parse::<Span>().ok()) else { return };
        if span.0 > LONGEST_BASELINE {
            let problem = self.source.error(at, "policy.baseline-valid-for", "too long for what a machine did to stand for what it does");
            diagnostics.push(problem.found(at.describe()).expected("0s (every run has its own) to 30d"));
        }
    }

    fn approvals(&self, table: &Tree, path: &str, diagnostics: &mut Vec<Diagnostic>) {
        let mut seen = BTreeSet::new();
        for (at, approval) in table.get("approval").map_or(&[][..], Tree::items).iter().enumerate() {
            let Some((item, role)) = approval.get("role").and_then(|item| Some((item, item.text()?))) else { continue };
            let key = format!("{path}.approval[{at}].role");
            if role == "viewer" {
                let problem = self.source.error(item, &key, "a viewer can't approve, so nobody ever will");
                diagnostics.push(problem.expected(one_of(["engineer", "approver", "administrator"])));
            }
            if !seen.insert(role) {
                let problem = self.source.error(item, key, format!("approvals of the role {role:?} are asked for twice"));
                diagnostics.push(problem.hint("say it once and raise its count"));
            }
        }
    }

    fn lanes(&self, policy: &Tree, diagnostics: &mut Vec<Diagnostic>) {
        let lanes = policy.get("lane").map_or(&[][..], Tree::items);
        let mut names = BTreeSet::new();
        for (at, lane) in lanes.iter().enumerate() {
            let path = format!("policy.lane[{at}]");
            if let Some((item, name)) = lane.get("name").and_then(|item| Some((item, item.text()?)))
                && !names.insert(name)
            {
                diagnostics.push(self.source.error(item, format!("{path}.name"), format!("there is a lane {name:?} before it")));
            }
            for key in ["valid-for", "deadline"] {
                self.span(lane, &path, key, diagnostics);
            }
            if let Some(require) = lane.get("require") {
                self.require(Some(require), lane, &path, diagnostics);
            }
            self.approvals(lane, &path, diagnostics);
            let set = |lane: &Tree, key: &str| lane.texts_at(key).map(|(_, text, _)| text.to_owned()).collect::<BTreeSet<_>>();
            let takes = |earlier: &Tree, key: &str| {
                set(earlier, key).is_empty() || (!set(lane, key).is_empty() && set(earlier, key).is_superset(&set(lane, key)))
            };
            if lanes[..at].iter().any(|earlier| takes(earlier, "kinds") && takes(earlier, "severities")) {
                let problem = self.source.warning(lane, path, "no patch goes by this lane: one before it takes them all");
                diagnostics.push(problem.hint("put the narrower lane first"));
            }
        }
    }

    /// Reports a requirement that names what is not there, is empty, or can never be met.
    fn require(&self, require: Option<&Tree>, around: &Tree, path: &str, diagnostics: &mut Vec<Diagnostic>) {
        let nothing = Tree { data: Data::Table(Vec::new()), span: around.span.clone() };
        let tree = require.unwrap_or(&nothing);
        let path = join(path, "require");
        for key in ["builds", "environments", "hardware", "suites", "levels"] {
            twice(self.source, tree, key, diagnostics);
        }
        self.names(tree, &path, "builds", "build of this customer", &self.all.builds, diagnostics);
        self.names(tree, &path, "environments", "environment of this customer", &self.all.environments, diagnostics);
        let mut offers = BTreeMap::new();
        for build in chosen(tree, "builds", &self.all.builds) {
            offers.insert(build, self.build(build));
        }
        for environment in chosen(tree, "environments", &self.all.environments) {
            offers.insert(environment, self.environment(environment));
        }
        if offers.is_empty() {
            let problem = self.source.error(tree, &path, "nothing is required, so the gate would never open");
            diagnostics.push(problem.expected(format!("a build or an environment of {}", self.customer)));
            return;
        }
        self.offered(tree, &path, "hardware", &offers, |offer| &offer.hardware, diagnostics);
        self.offered(tree, &path, "suites", &offers, |offer| &offer.suites, diagnostics);
        for (at, level, item) in tree.texts_at("levels") {
            let roles: BTreeSet<&str> = level.split('+').collect();
            let has = |offer: &Offer| level == "all" || roles.iter().all(|role| offer.roles.iter().any(|one| one.as_str() == *role));
            if !offers.values().any(|offer| !offer.roles.is_empty() && has(offer)) {
                let problem =
                    self.source.error(item, format!("{path}.levels[{at}]"), format!("no required environment has the level {level:?}"));
                diagnostics.push(problem.expected("roles of an environment joined by \"+\", or \"all\""));
            }
        }
    }

    fn names<T>(&self, tree: &Tree, path: &str, key: &str, what: &str, names: &BTreeMap<Name, T>, diagnostics: &mut Vec<Diagnostic>) {
        for (at, _, item) in tree.texts_at(key) {
            known(self.source, item, &format!("{path}.{key}[{at}]"), what, "the customer's own folder", names, diagnostics);
        }
    }

    /// Reports what none of the required builds and environments has, and those of them that are left with nothing.
    fn offered(
        &self,
        tree: &Tree,
        path: &str,
        key: &str,
        offers: &BTreeMap<&Name, Offer>,
        of: fn(&Offer) -> &BTreeSet<Name>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Some(list) = tree.get(key) else { return };
        for (at, name, item) in tree.texts_at(key) {
            if !offers.values().any(|offer| of(offer).iter().any(|one| one.as_str() == name)) {
                let there: BTreeSet<&str> = offers.values().flat_map(of).map(Name::as_str).collect();
                let problem = format!("no required build or environment has the {} {name:?}", key.trim_end_matches('s'));
                diagnostics.push(self.source.error(item, format!("{path}.{key}[{at}]"), problem).expected(one_of(there)));
            }
        }
        let wanted: BTreeSet<&str> = tree.texts_at(key).map(|(_, name, _)| name).collect();
        if wanted.is_empty() {
            return;
        }
        for (subject, offer) in offers {
            // Where a build could not be read, its own mistakes say enough.
            if !of(offer).is_empty() && !of(offer).iter().any(|one| wanted.contains(one.as_str())) {
                let problem = match key {
                    "suites" => format!("{subject} runs none of these suites: only the health checks would be required of it"),
                    _ => format!("{subject} has none of this hardware: nothing would be required of it"),
                };
                diagnostics.push(self.source.warning(list, format!("{path}.{key}"), problem));
            }
        }
    }

    fn build(&self, name: &Name) -> Offer {
        let build = self.all.builds.get(name).and_then(|found| found.reading.value.as_ref());
        let Some(build) = build else { return Offer::default() };
        Offer { hardware: build.hardware.iter().cloned().collect(), suites: build.suites.iter().cloned().collect(), roles: BTreeSet::new() }
    }

    fn environment(&self, name: &Name) -> Offer {
        let environment = self.all.environments.get(name).and_then(|found| found.reading.value.as_ref());
        let Some(environment) = environment else { return Offer::default() };
        let mut offer = Offer { suites: environment.suites.iter().cloned().collect(), ..Offer::default() };
        for (role, member) in &environment.roles {
            offer.roles.insert(role.clone());
            let own = self.build(&member.build).hardware;
            offer.hardware.extend(if member.hardware.is_empty() { own } else { member.hardware.iter().cloned().collect() });
        }
        offer
    }
}

/// The things that a requirement chooses: those it names, or all.
fn chosen<'a, T>(require: &Tree, key: &str, all: &'a BTreeMap<Name, T>) -> Vec<&'a Name> {
    let named: Option<Vec<&str>> = require.get(key).map(|_| require.texts_at(key).map(|(_, name, _)| name).collect());
    all.keys().filter(|name| named.as_ref().is_none_or(|named| named.contains(&name.as_str()))).collect()
}
