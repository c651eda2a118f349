//! The run as JSON, `patchlab.run/v1`. Fields are only ever added; what is there keeps its meaning.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::catalog::hardware::Difference;
use crate::cell::cause::Evidence;
use crate::cell::identity::Start;
use crate::cell::{Anew, CaseOutcome, Origin, Stage, StageOutcome};
use crate::id::{CellId, Digest, Name, RunId};
use crate::journal::{CalledOff, Controller, Placed};
use crate::plan::{Exclusion, Lint, PlannedMachine, PlannedPatch, Subject};
use crate::verdict::{Comparison, Verdict};

use super::rollout::{Rollout, rollouts};
use super::view::CellView;
use super::{ReportError, Source};

/// The form's name and version.
pub const SCHEMA: &str = "patchlab.run/v1";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RunReport<'a> {
    schema: &'static str,
    run: RunId,
    patch: PatchReport<'a>,
    /// All patches in the order in which they were applied, where several were tested together; the one above is the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    together: Vec<PatchReport<'a>>,
    /// The run that tested the whole bundle, where this one tested some of it to find out who is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<RunId>,
    plan: PlanReport<'a>,
    verdict: Verdict,
    /// Whether the run has ended. Where not, the verdict is inconclusive.
    finished: bool,
    reason: String,
    by: &'a str,
    planned: String,
    ended: Option<String>,
    /// Who called the run off and why, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    called_off: Option<&'a CalledOff>,
    controllers: &'a [Controller],
    /// In a lab of several hosts, those that the run's machines were on, each as it was then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<&'a Placed>,
    /// Whether any of its machines were the simulator's: the verdict then says nothing about real ones.
    simulated: bool,
    kept: &'a [String],
    cells: Vec<CellReport<'a>>,
    /// The orders in which environments' machines may be patched.
    rollouts: Vec<Rollout>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PatchReport<'a> {
    id: &'a Name,
    sha256: Digest,
    title: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlanReport<'a> {
    digest: Digest,
    /// How many there are.
    cells: usize,
    excluded: &'a [Exclusion],
    lint: &'a [Lint],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CellReport<'a> {
    id: &'a CellId,
    customer: &'a Name,
    /// The build or the environment that is validated.
    #[serde(flatten)]
    subject: SubjectReport<'a>,
    /// The patched roles of an environment: `server`, `client+db`, `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    machines: Vec<MachineReport<'a>>,
    verdict: Verdict,
    /// Whether the cell has ended.
    finished: bool,
    stages: Vec<StageReport<'a>>,
    cases: Vec<CaseReport<'a>>,
    /// The cases that could not take over an earlier run's baseline, each with the reason. Left out where every run has its own.
    #[serde(skip_serializing_if = "<[Anew]>::is_empty")]
    baselines_anew: &'a [Anew],
    findings: Vec<FindingReport<'a>>,
    faults: Vec<FaultReport<'a>>,
    notes: &'a [String],
    suites: Vec<SuiteReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum SubjectReport<'a> {
    Build(&'a Name),
    Environment(&'a Name),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MachineReport<'a> {
    role: &'a Name,
    build: &'a Name,
    hardware: &'a Name,
    /// Whether the patch goes onto this machine.
    patched: bool,
    hardware_sha256: Digest,
    image: &'a Name,
    image_sha256: Digest,
    /// What the profile declares to be different from production.
    differences: &'a [Difference],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SuiteReport<'a> {
    name: &'a Name,
    sha256: Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StageReport<'a> {
    stage: Stage,
    /// How often the cell has begun this stage, this time included; on whichever clone.
    attempt: u32,
    started: String,
    ended: Option<String>,
    /// `passed`, `skipped`, `failed`; null while it runs or when its controller ended in the middle.
    outcome: Option<&'static str>,
    pass: String,
    machine: &'a str,
    /// Where it was, in a lab of several hosts; what each of these was is in `hosts` of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a Name>,
    /// Of a boot: how each machine came up, where there was a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts: Option<&'a BTreeMap<String, Start>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CaseReport<'a> {
    suite: Name,
    case: Name,
    baseline: Option<CaseOutcome>,
    patched: Option<CaseOutcome>,
    comparison: Comparison,
    message: String,
    baseline_ms: Option<u64>,
    patched_ms: Option<u64>,
    /// The earlier run that has seen the baseline, where that was not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_from: Option<Origin>,
    /// Every attempt, in the order they were made.
    attempts: Vec<AttemptReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AttemptReport<'a> {
    pass: String,
    point: crate::cell::Point,
    outcome: CaseOutcome,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Digest>,
    /// Where it was seen, where that was not in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a Origin>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FindingReport<'a> {
    code: &'a str,
    message: &'a str,
    stage: Option<Stage>,
    case: Option<&'a str>,
    confirmed: Confirmed,
    detail: &'a str,
    evidence: &'a [Evidence],
    /// What a waiver of this finding names.
    fingerprint: Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Confirmed {
    again: u32,
    tried: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FaultReport<'a> {
    code: &'a str,
    message: &'a str,
    stage: Option<Stage>,
    case: Option<&'a str>,
    /// Whether trying again made up for it.
    recovered: bool,
    detail: &'a str,
    evidence: &'a [Evidence],
}

/// The run as JSON, indented, with a line end.
///
/// # Errors
/// Never for the lab's own types; see [`ReportError::Json`].
pub fn render(source: &Source<'_>) -> Result<String, ReportError> {
    let run = source.run;
    let report = RunReport {
        schema: SCHEMA,
        run: run.run,
        patch: patch_report(&run.plan.patch),
        together: if run.plan.is_together() { run.plan.patches().map(patch_report).collect() } else { Vec::new() },
        bundle: run.bundle,
        plan: PlanReport { digest: run.plan_digest, cells: run.plan.cells.len(), excluded: &run.plan.excluded, lint: &run.plan.lint },
        verdict: source.verdict(),
        finished: source.is_finished(),
        reason: source.reason(),
        by: &run.by,
        planned: run.planned.to_string(),
        ended: run.ended.map(|(at, _)| at.to_string()),
        called_off: run.called_off.as_ref(),
        controllers: &run.controllers,
        hosts: run.placed(),
        simulated: run.is_simulated(),
        kept: &run.kept,
        cells: source.cells().iter().map(cell_report).collect(),
        rollouts: rollouts(source),
    };
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    Ok(text)
}

fn patch_report(patch: &PlannedPatch) -> PatchReport<'_> {
    PatchReport { id: &patch.manifest.id, sha256: patch.sha256, title: &patch.manifest.title }
}

fn cell_report<'a>(cell: &CellView<'a>) -> CellReport<'a> {
    let planned = cell.planned;
    CellReport {
        id: &planned.id,
        customer: &planned.customer,
        subject: match &planned.subject {
            Subject::Build(name) => SubjectReport::Build(name),
            Subject::Environment(name) => SubjectReport::Environment(name),
        },
        level: planned.is_environment().then(|| planned.level()),
        machines: planned.machines.iter().map(machine_report).collect(),
        verdict: cell.verdict(),
        finished: cell.finished,
        stages: stages(cell),
        cases: cases(cell),
        baselines_anew: cell.main_pass().map(|pass| pass.anew.as_slice()).unwrap_or_default(),
        findings: cell.findings.iter().map(finding_report).collect(),
        faults: cell.faults.iter().map(fault_report).collect(),
        notes: cell.notes,
        suites: planned.suites.iter().map(|suite| SuiteReport { name: &suite.name, sha256: suite.sha256 }).collect(),
    }
}

pub(super) fn machine_report(machine: &PlannedMachine) -> MachineReport<'_> {
    MachineReport {
        role: &machine.role,
        build: &machine.build,
        hardware: &machine.hardware.name,
        patched: machine.patched,
        hardware_sha256: machine.hardware.sha256,
        image: &machine.image.name,
        image_sha256: machine.image.sha256,
        differences: &machine.hardware.profile.differences,
    }
}

fn finding_report(finding: &crate::verdict::Finding) -> FindingReport<'_> {
    FindingReport {
        code: &finding.code,
        message: &finding.message,
        stage: finding.stage,
        case: finding.case.as_deref(),
        confirmed: Confirmed { again: finding.confirmed.0, tried: finding.confirmed.1 },
        detail: &finding.detail,
        evidence: &finding.evidence,
        fingerprint: finding.fingerprint,
    }
}

fn fault_report(fault: &crate::verdict::Fault) -> FaultReport<'_> {
    FaultReport {
        code: &fault.code,
        message: &fault.message,
        stage: fault.stage,
        case: fault.case.as_deref(),
        recovered: fault.recovered,
        detail: &fault.detail,
        evidence: &fault.evidence,
    }
}

fn stages<'a>(cell: &CellView<'a>) -> Vec<StageReport<'a>> {
    let mut begun = std::collections::BTreeMap::<Stage, u32>::new();
    let records = cell.record.passes.iter().flat_map(|pass| pass.stages.iter().map(move |record| (pass, record)));
    records
        .map(|(pass, record)| {
            let attempt = begun.entry(record.stage).or_default();
            *attempt += 1;
            let (outcome, code, message) = match record.ended.as_ref().map(|(_, outcome)| outcome) {
                None => (None, None, None),
                Some(StageOutcome::Passed) => (Some("passed"), None, None),
                Some(StageOutcome::Skipped { reason }) => (Some("skipped"), None, Some(reason.as_str())),
                Some(StageOutcome::Failed { trouble }) => (Some("failed"), Some(trouble.cause.code()), Some(trouble.message.as_str())),
            };
            StageReport {
                stage: record.stage,
                starts: Some(&pass.starts).filter(|starts| record.stage == Stage::Boot && !starts.is_empty()),
                attempt: *attempt,
                started: record.started.to_string(),
                ended: record.ended.as_ref().map(|(at, _)| at.to_string()),
                outcome,
                pass: pass.pass.to_string(),
                machine: &pass.machine,
                host: pass.placed.as_ref().map(|placed| &placed.host),
                code,
                message,
            }
        })
        .collect()
}

fn cases<'a>(cell: &CellView<'a>) -> Vec<CaseReport<'a>> {
    let report = |case: &crate::verdict::CaseJudgement| CaseReport {
        suite: case.suite.clone(),
        case: case.case.clone(),
        baseline: case.baseline,
        patched: case.patched,
        comparison: case.comparison,
        message: case.message.clone(),
        baseline_ms: case.baseline_ms,
        patched_ms: case.patched_ms,
        baseline_from: case.baseline_from.clone(),
        attempts: attempts(cell, &case.suite, &case.case),
    };
    cell.cases.iter().map(|case| report(case)).collect()
}

fn attempts<'a>(cell: &CellView<'a>, suite: &Name, case: &Name) -> Vec<AttemptReport<'a>> {
    let seen = cell.record.passes.iter().flat_map(|pass| pass.cases.iter().map(move |observed| (pass, observed)));
    seen.filter(|(_, observed)| observed.suite == *suite && observed.case == *case)
        .map(|(pass, observed)| AttemptReport {
            pass: pass.pass.to_string(),
            point: observed.point,
            outcome: observed.outcome,
            elapsed_ms: observed.elapsed_ms,
            message: &observed.message,
            fingerprint: observed.fingerprint,
            origin: observed.origin.as_deref(),
        })
        .collect()
}
