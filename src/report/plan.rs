//! A plan before it is run, for `patchlab plan`: the cells with their cases, what is left out and why, what weakens it, how long it takes.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::cell::{Anew, Origin};
use crate::id::{CellId, Digest, Name};
use crate::plan::{Exclusion, Lint, Plan, PlannedCell, PlannedPatch, Subject};
use crate::verdict::baselines::Expected;
use crate::verdict::bisect::most_trials;

use super::baselines::{Told, gathered};
use super::json::{MachineReport, machine_report};
use super::{ReportError, text};

/// The JSON form's name and version.
pub const SCHEMA: &str = "patchlab.plan/v1";

/// The plan for a terminal.
pub fn human(plan: &Plan, estimate: Duration, baselines: &[Expected]) -> String {
    let mut out = String::new();
    for patch in plan.patches() {
        let _ = writeln!(out, "{}  {}", patch.manifest.id, text::one_line(&patch.manifest.title, 120));
    }
    let cases: usize = plan.cells.iter().map(|cell| cell.cases().count()).sum();
    let cells = text::count(plan.cells.len(), "cell");
    let _ = writeln!(out, "{cells}, {} besides the health checks, about {}", text::count(cases, "case"), minutes(estimate));
    if let Some(trials) = trials(plan, estimate) {
        let _ = writeln!(out, "tested together: {}", trials.told());
    }
    for cell in &plan.cells {
        let _ = writeln!(out, "\n{}", cell.id);
        let environment = cell.is_environment();
        for machine in &cell.machines {
            if environment {
                let patched = if machine.patched { "patched" } else { "as it was" };
                let _ = writeln!(out, "  {:9} {}.{}, {patched}", machine.role, cell.customer, machine.build);
            }
            let _ = writeln!(out, "  image     {} {}", machine.image.name, machine.image.sha256.short());
            let hardware = &machine.hardware;
            let _ = writeln!(out, "  hardware  {} ({})", hardware.name, text::one_line(&hardware.profile.title, 80));
        }
        if !environment {
            let _ = writeln!(out, "  health    the built-in checks, before and after");
        }
        for suite in &cell.suites {
            let star = |destructive: bool| if destructive { "*" } else { "" };
            let names: Vec<_> = suite.cases.iter().map(|case| format!("{}{}", case.name, star(case.destructive))).collect();
            let _ = writeln!(out, "  {:9} {}", suite.name, names.join(", "));
        }
        for told in baselines.iter().filter(|expected| expected.cell == cell.id).flat_map(reused) {
            let _ = writeln!(out, "  baselines {}", told.line());
        }
    }
    if plan.cells.iter().flat_map(PlannedCell::cases).any(|(_, case)| case.destructive) {
        out.push_str("\n* destructive: on clones of its own\n");
    }
    if !plan.excluded.is_empty() {
        out.push_str("\nLeft out\n");
        for left in &plan.excluded {
            let _ = writeln!(out, "  {}: {}", text::one_line(&left.what, 120), text::one_line(&left.reason, 300));
        }
    }
    if !plan.lint.is_empty() {
        out.push_str("\nTo know before you believe its verdict\n");
        for lint in &plan.lint {
            let _ = writeln!(out, "  {} ({})", text::one_line(&lint.message, 300), text::one_line(&lint.code, 60));
        }
    }
    let _ = writeln!(
        out,
        "\nplan {}, patch {}",
        plan.digest().short(),
        plan.patches().map(|patch| patch.sha256.short()).collect::<Vec<_>>().join(" ")
    );
    out
}

/// The baselines that will be taken over, by where they were seen.
fn reused(expected: &Expected) -> Vec<Told> {
    let of = |seen: &crate::cell::CaseObservation| {
        let from = seen.origin.as_deref()?.into();
        Some((from, format!("{}/{}", seen.suite, seen.case)))
    };
    gathered(expected.reused.iter().filter_map(of))
}

/// What a bundle costs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trials {
    /// Where all patches pass.
    at_least: usize,
    /// The most, where one patch is to blame.
    with_one_culprit: usize,
    /// The most that another one adds.
    each_further_culprit: usize,
    /// Of one trial.
    estimate_seconds: u64,
}

/// How many trials a bundle takes, each as long as this at least; `None` for a patch by itself.
pub fn trials(plan: &Plan, estimate: Duration) -> Option<Trials> {
    let (with_one_culprit, each_further_culprit) = most_trials(plan.patches().count());
    plan.is_together().then_some(Trials { at_least: 1, with_one_culprit, each_further_culprit, estimate_seconds: estimate.as_secs() })
}

impl Trials {
    /// In a line.
    pub fn told(&self) -> String {
        let minutes = |trials: usize| {
            let trials = u32::try_from(trials).unwrap_or(u32::MAX);
            minutes(Duration::from_secs(self.estimate_seconds).saturating_mul(trials))
        };
        format!(
            "1 trial where all pass ({}); with one to blame at most {} ({} and what confirming takes), each further one at most {} more ({})",
            minutes(1),
            self.with_one_culprit,
            minutes(self.with_one_culprit),
            self.each_further_culprit,
            minutes(self.each_further_culprit)
        )
    }
}

fn minutes(estimate: Duration) -> String {
    format!("{} min", estimate.as_secs().div_ceil(60).max(1))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlanReport<'a> {
    schema: &'static str,
    digest: Digest,
    patch: PatchReport<'a>,
    /// All patches in the order in which they are applied, where several are tested together; the one above is the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    together: Vec<PatchReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trials: Option<Trials>,
    estimate_seconds: u64,
    cells: Vec<CellReport<'a>>,
    excluded: &'a [Exclusion],
    lint: &'a [Lint],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PatchReport<'a> {
    id: &'a Name,
    sha256: Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CellReport<'a> {
    id: &'a CellId,
    customer: &'a Name,
    /// The build or environment.
    subject: &'a Subject,
    /// The patched roles: `server`, `client+db`, `all`.
    level: String,
    machines: Vec<MachineReport<'a>>,
    /// `suite/case`; the health checks come on top.
    cases: Vec<String>,
    /// The cases whose baselines an earlier run has seen, if the run begins soon and on the same host. Left out where nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    baselines: Option<BaselinesReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BaselinesReport<'a> {
    reused: Vec<ReusedReport<'a>>,
    anew: &'a [Anew],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReusedReport<'a> {
    suite: &'a Name,
    case: &'a Name,
    from: &'a Origin,
}

fn told(expected: &Expected) -> BaselinesReport<'_> {
    let Expected { reused, anew, .. } = expected;
    let reused =
        reused.iter().filter_map(|seen| Some(ReusedReport { suite: &seen.suite, case: &seen.case, from: seen.origin.as_deref()? }));
    BaselinesReport { reused: reused.collect(), anew }
}

fn patch_report(patch: &PlannedPatch) -> PatchReport<'_> {
    PatchReport { id: &patch.manifest.id, sha256: patch.sha256 }
}

/// The plan as JSON, indented, with a line end.
///
/// # Errors
/// Never for the lab's own types; see [`ReportError::Json`].
pub fn json(plan: &Plan, estimate: Duration, baselines: &[Expected]) -> Result<String, ReportError> {
    let cases = |cell: &PlannedCell| cell.cases().map(|(suite, case)| format!("{}/{}", suite.name, case.name)).collect();
    let report = PlanReport {
        schema: SCHEMA,
        digest: plan.digest(),
        patch: patch_report(&plan.patch),
        together: if plan.is_together() { plan.patches().map(patch_report).collect() } else { Vec::new() },
        trials: trials(plan, estimate),
        estimate_seconds: estimate.as_secs(),
        cells: plan
            .cells
            .iter()
            .map(|planned| CellReport {
                id: &planned.id,
                customer: &planned.customer,
                subject: &planned.subject,
                level: planned.level(),
                machines: planned.machines.iter().map(machine_report).collect(),
                cases: cases(planned),
                baselines: baselines.iter().find(|expected| expected.cell == planned.id).map(told),
            })
            .collect(),
        excluded: &plan.excluded,
        lint: &plan.lint,
    };
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    Ok(text)
}
