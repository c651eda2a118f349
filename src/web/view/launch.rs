//! Launching a run: what there is to choose from, and the plan that a choice gives.

use std::collections::BTreeSet;

use askama::Template;

use crate::catalog::Catalog;
use crate::id::{Digest, Name};
use crate::plan::{Plan, Request};
use crate::report::text;

use super::frame::Frame;

#[derive(Template)]
#[template(path = "launch.html", config = "src/web/askama.toml")]
pub struct LaunchPage {
    pub frame: Frame,
    pub launch: LaunchView,
}

pub struct LaunchView {
    /// Candidates: digest, what is shown, whether it is chosen.
    pub patches: Vec<Choice>,
    pub groups: Vec<Group>,
    pub keep: bool,
    pub preview: Option<Preview>,
    /// Why there is no plan.
    pub problems: Vec<String>,
}

/// Boxes to tick that belong together; none ticked means all.
pub struct Group {
    pub field: &'static str,
    pub legend: &'static str,
    pub choices: Vec<Choice>,
}

pub struct Choice {
    pub value: String,
    pub shown: String,
    pub chosen: bool,
}

/// What a run would do.
pub struct Preview {
    pub digest: String,
    pub summary: String,
    pub cells: Vec<(String, String)>,
    pub excluded: Vec<(String, String)>,
    pub lint: Vec<String>,
    /// Fields of the request, for the form that launches it.
    pub fields: Vec<(&'static str, String)>,
    /// Keeps a form that is sent twice from launching twice.
    pub key: String,
}

/// Candidates to choose from: digest, id, title.
pub type Candidates<'a> = &'a [(Digest, &'a Name, &'a str)];

impl LaunchView {
    pub fn of(catalog: &Catalog, candidates: Candidates<'_>, patch: Option<&str>, request: &Request, keep: bool) -> Self {
        let patches = candidates.iter().map(|(sha256, id, title)| Choice {
            value: sha256.to_string(),
            shown: format!("{id} — {} ({})", text::one_line(title, 60), sha256.short()),
            chosen: patch == Some(sha256.to_string().as_str()) || patch == Some(id.as_str()),
        });
        Self { patches: patches.collect(), groups: groups(catalog, request), keep, preview: None, problems: Vec::new() }
    }
}

impl LaunchView {
    /// Of a catalog that has mistakes.
    pub fn nothing(problems: Vec<String>) -> Self {
        Self { patches: Vec::new(), groups: Vec::new(), keep: false, preview: None, problems }
    }
}

fn groups(catalog: &Catalog, request: &Request) -> Vec<Group> {
    let names = |it: &mut dyn Iterator<Item = &Name>| it.cloned().collect::<BTreeSet<_>>();
    let group = |field, legend, all: BTreeSet<Name>, chosen: &[Name]| Group {
        field,
        legend,
        choices: all
            .into_iter()
            .map(|name| Choice { chosen: chosen.contains(&name), shown: name.to_string(), value: name.to_string() })
            .collect(),
    };
    let all = [
        group("customer", "Customers", names(&mut catalog.customers.keys()), &request.customers),
        group("build", "Builds", names(&mut catalog.customers.values().flat_map(|entry| entry.builds.keys())), &request.builds),
        group(
            "environment",
            "Environments",
            names(&mut catalog.customers.values().flat_map(|entry| entry.environments.keys())),
            &request.environments,
        ),
        group("hardware", "Hardware", names(&mut catalog.hardware.keys()), &request.hardware),
        group("suite", "Suites", names(&mut catalog.suites.keys()), &request.suites),
    ];
    all.into_iter().filter(|group| !group.choices.is_empty()).collect()
}

impl Preview {
    pub fn of(plan: &Plan, request: &Request, minutes: u64, keep: bool, key: String) -> Self {
        let cases: usize = plan.cells.iter().map(|cell| cell.cases().count()).sum();
        let told = |names: &[Name], field: &'static str| names.iter().map(|name| (field, name.to_string())).collect::<Vec<_>>();
        let mut fields = vec![("patch", plan.patch.sha256.to_string()), ("plan", plan.digest().to_string())];
        fields.extend(told(&request.customers, "customer"));
        fields.extend(told(&request.builds, "build"));
        fields.extend(told(&request.environments, "environment"));
        fields.extend(request.levels.iter().map(|level| ("level", level.clone())));
        fields.extend(told(&request.hardware, "hardware"));
        fields.extend(told(&request.suites, "suite"));
        fields.extend(keep.then(|| ("keep", "yes".to_owned())));
        let suites =
            |cell: &crate::plan::PlannedCell| cell.suites.iter().map(|suite| suite.name.to_string()).collect::<Vec<_>>().join(", ");
        Self {
            digest: plan.digest().to_string(),
            summary: format!(
                "{}, {} besides the health checks, about {minutes} min",
                text::count(plan.cells.len(), "cell"),
                text::count(cases, "case")
            ),
            cells: plan.cells.iter().map(|cell| (cell.id.to_string(), suites(cell))).collect(),
            excluded: plan.excluded.iter().map(|it| (text::one_line(&it.what, 120), text::one_line(&it.reason, 300))).collect(),
            lint: plan.lint.iter().map(|it| text::one_line(&it.message, 300)).collect(),
            fields,
            key,
        }
    }
}
