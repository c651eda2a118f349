//! One self-contained page: verdict and reason, findings, machines, faults, then each cell with its timeline, cases and evidence.
//!
//! The template is `run.html` beside this file; the parts and the style that the dashboard shares are in `look/`. It escapes
//! everything; no value is marked safe, and the page's own policy forbids scripts and every outside resource, so that a hostile
//! guest has two walls before it.
//!
//! Invariant: the page stays below [`MAX`] bytes, whatever a guest said.

pub mod cell;
pub mod detail;

use askama::Template;

use crate::catalog::hardware::Difference;
use crate::journal::{Placed, RunState};
use crate::verdict::Verdict;

use super::rollout::{Rollout, Safety, rollouts};
use super::view::{CellView, confirmation, difference, heading_of, place};
use super::{ReportError, Source, text};
use cell::{CellPage, cell_page};
use detail::{Budget, Detail};

/// Bytes that the page stays below for any plan of ordinary size.
pub const MAX: usize = 2_000_000;
/// Bytes of guest text, pictures and long tables in it.
pub const ROOM: usize = 1_300_000;
/// Bytes of one finding's detail.
const DETAIL: usize = 24_000;
/// Findings, faults and notes that are listed one by one.
pub const SHOWN: usize = 100;

/// A sign with its colour; always beside a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Good,
    Bad,
    Odd,
    Quiet,
    Open,
}

impl Sign {
    /// The CSS class.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Odd => "odd",
            Self::Quiet => "quiet",
            Self::Open => "open",
        }
    }

    pub const fn mark(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✕",
            Self::Odd => "?",
            Self::Quiet => "–",
            Self::Open => "…",
        }
    }
}

pub const fn sign_of(verdict: Verdict) -> Sign {
    match verdict {
        Verdict::Pass => Sign::Good,
        Verdict::Fail => Sign::Bad,
        Verdict::Inconclusive => Sign::Odd,
    }
}

/// A cell's sign: one that goes on is open unless it has failed already.
pub fn place_sign(cell: &CellView<'_>) -> Sign {
    if cell.finished || cell.verdict() == Verdict::Fail { sign_of(cell.verdict()) } else { Sign::Open }
}

/// What the template shows.
#[derive(Template)]
#[template(path = "run.html", config = "src/report/askama.toml")]
struct Page {
    patch: String,
    title: String,
    sign: Sign,
    word: &'static str,
    reason: String,
    facts: Vec<(&'static str, String)>,
    findings: Vec<NewsPage>,
    more_findings: usize,
    hardware: Vec<String>,
    rows: Vec<(String, Vec<Option<PlacePage>>)>,
    rollouts: Vec<(Sign, String, String, String)>,
    faults: FaultsPage,
    notes: Vec<(String, Vec<(String, String)>)>,
    excluded: Vec<(String, String)>,
    lint: Vec<(String, String)>,
    kept: Vec<String>,
    /// Of each profile.
    differences: Vec<(String, Vec<Difference>)>,
    cells: Vec<CellPage>,
    commands: Vec<(String, &'static str)>,
    /// Writes the files that a page cannot show.
    evidence_command: String,
    digests: Vec<(&'static str, String)>,
    tools: Vec<(&'static str, String)>,
}

/// A finding or a fault.
pub struct NewsPage {
    pub sign: Sign,
    pub code: String,
    pub cell: String,
    pub title: String,
    pub place: String,
    pub message: String,
    pub remark: String,
    pub detail: Option<Detail>,
}

/// The faults that are listed, and how many are not.
pub struct FaultsPage {
    pub heading: &'static str,
    pub lead: &'static str,
    pub news: Vec<NewsPage>,
    pub more: usize,
}

/// A cell's place in the matrix.
pub struct PlacePage {
    pub cell: String,
    pub sign: Sign,
    pub word: &'static str,
    pub summary: String,
}

/// The run as one HTML page.
///
/// # Errors
/// [`ReportError::Html`], when the template cannot be written out.
pub fn render(source: &Source<'_>) -> Result<String, ReportError> {
    Ok(page(source).render()?)
}

fn page(source: &Source<'_>) -> Page {
    let budget = Budget::new(ROOM);
    let run = source.run;
    let plan = &run.plan;
    let cells = source.cells();
    let matrix = source.matrix();
    let (findings, more_findings) = findings(&cells, &budget);
    let place = |at: usize| cells.get(at).map(place_page);
    Page {
        patch: source.title(),
        title: text::one_line(&plan.patch.manifest.title, 200),
        sign: if source.is_finished() { sign_of(source.verdict()) } else { Sign::Open },
        word: if source.is_finished() { source.verdict().as_str() } else { "unfinished" },
        reason: source.reason(),
        facts: facts(source),
        findings,
        more_findings,
        hardware: matrix.hardware,
        rows: matrix.rows.into_iter().map(|(build, places)| (build, places.into_iter().map(|at| at.and_then(place)).collect())).collect(),
        rollouts: rollouts(source).iter().map(rollout_row).collect(),
        faults: faults(&cells, &budget),
        notes: source.notes().into_iter().take(SHOWN).collect(),
        excluded: plan.excluded.iter().map(|left| (text::one_line(&left.what, 120), text::one_line(&left.reason, 300))).collect(),
        lint: plan.lint.iter().map(|lint| (text::one_line(&lint.code, 60), text::one_line(&lint.message, 300))).collect(),
        kept: run.kept.iter().map(|machine| text::one_line(machine, 80)).collect(),
        differences: differences(source, &budget),
        cells: cells.iter().map(|cell| cell_page(source, cell, &budget)).collect(),
        commands: source.next_commands(),
        evidence_command: format!("patchlab report {} --evidence evidence", run.run),
        digests: vec![("Run", run.run.to_string()), ("Plan", run.plan_digest.to_string()), ("Patch", plan.patch.sha256.to_string())],
        tools: tools(run),
    }
}

/// Sign, place, order, what is to be said of it.
pub fn rollout_row(one: &Rollout) -> (Sign, String, String, String) {
    let sign = match one.safety {
        Safety::Safe => Sign::Good,
        Safety::Unsafe => Sign::Bad,
        Safety::Unknown => Sign::Odd,
    };
    (sign, format!("{} on {}", one.environment, one.hardware), one.told_order(), one.told())
}

/// What a reader wants to know of the run first.
pub fn facts(source: &Source<'_>) -> Vec<(&'static str, String)> {
    let run = source.run;
    let manifest = &run.plan.patch.manifest;
    let mut facts = vec![
        (if run.plan.is_together() { "Patches, tested together" } else { "Patch" }, source.patches().join(", ")),
        ("Begun", text::moment(run.planned)),
        ("Took", text::duration(source.elapsed_ms())),
        ("Machines", run.plan.machines().count().to_string()),
        ("Asked for by", text::one_line(&run.by, 80)),
    ];
    if !manifest.cves.is_empty() {
        facts.push(("Answers", text::one_line(&manifest.cves.join(", "), 200)));
    }
    facts
}

/// The findings that are listed, and how many are not.
pub fn findings(cells: &[CellView<'_>], budget: &Budget) -> (Vec<NewsPage>, usize) {
    let all: Vec<_> = cells.iter().flat_map(|cell| cell.findings.iter().map(move |finding| (cell, finding))).collect();
    let shown = all.iter().take(SHOWN).map(|(cell, finding)| {
        let place = place(finding.stage, finding.case.as_deref());
        NewsPage {
            sign: Sign::Bad,
            code: text::one_line(&finding.code, 60),
            cell: cell.planned.id.to_string(),
            title: cell.title(),
            place: text::one_line(&place, 140),
            message: text::one_line(&finding.message, 400),
            remark: confirmation(finding.confirmed),
            detail: budget.detail(&finding.detail, DETAIL),
        }
    });
    (shown.collect(), all.len().saturating_sub(SHOWN))
}

/// The faults of these cells.
pub fn faults(cells: &[CellView<'_>], budget: &Budget) -> FaultsPage {
    let (heading, lead) = heading_of(cells.iter().flat_map(|cell| cell.faults));
    let all: Vec<_> = cells.iter().flat_map(|cell| cell.told_faults().into_iter().map(move |fault| (cell, fault))).collect();
    let shown = all.iter().take(SHOWN).map(|(cell, fault)| {
        let place = place(fault.stage, fault.case.as_deref());
        NewsPage {
            sign: if fault.recovered { Sign::Quiet } else { Sign::Odd },
            code: text::one_line(&fault.code, 60),
            cell: cell.planned.id.to_string(),
            title: cell.title(),
            place: text::one_line(&place, 140),
            message: text::one_line(&fault.message, 400),
            remark: if fault.recovered { "made up for by trying again; blocks nothing".to_owned() } else { String::new() },
            detail: budget.detail(&fault.detail, DETAIL),
        }
    });
    FaultsPage { heading, lead, news: shown.collect(), more: all.len().saturating_sub(SHOWN) }
}

/// What each profile declares to be different from production, as far as the page has room.
pub fn differences(source: &Source<'_>, budget: &Budget) -> Vec<(String, Vec<Difference>)> {
    let room = |one: &Difference| budget.spend(60 + 6 * (one.device.len() + one.production.len() + one.lab.len()));
    let told = |all: &[Difference]| all.iter().take(SHOWN).map(difference).filter(room).collect();
    source.differences().into_iter().map(|(hardware, all)| (hardware.to_string(), told(all))).collect()
}

pub fn place_page(cell: &CellView<'_>) -> PlacePage {
    let bad = cell.findings.len();
    let faults = cell.told_faults().iter().filter(|fault| !fault.recovered).count();
    let mut summary = vec![text::count(cell.cases.len(), "check")];
    if bad > 0 {
        summary.push(text::count(bad, "finding"));
    }
    if faults > 0 {
        summary.push(text::count(faults, "fault"));
    }
    PlacePage { cell: cell.planned.id.to_string(), sign: place_sign(cell), word: cell.word(), summary: summary.join(", ") }
}

/// What the run was made with, from its last controller.
pub fn tools(run: &RunState) -> Vec<(&'static str, String)> {
    let Some(controller) = run.controllers.last() else { return Vec::new() };
    let host = &controller.host;
    let on = |placed: &&Placed| {
        let Placed { host, controller } = placed;
        format!("{host} ({}, {}, QEMU {})", controller.hypervisor, controller.host.accelerator, controller.host.qemu)
    };
    let placed = run.placed().iter().map(on).collect::<Vec<_>>().join("; ");
    let mut tools = vec![
        ("patchlab", controller.patchlab.clone()),
        ("Hypervisor", text::one_line(&controller.hypervisor, 200)),
        ("QEMU", text::one_line(&host.qemu, 80)),
        ("libvirt", text::one_line(&host.libvirt, 80)),
        ("Accelerator", format!("{} ({})", text::one_line(&host.accelerator, 40), text::one_line(&host.accelerator_reason, 200))),
        ("Host kernel", text::one_line(&host.kernel, 80)),
        ("Host", format!("{}, {} memory", text::count(host.cpus as usize, "processor"), text::size(host.memory))),
        ("Controllers", run.controllers.len().to_string()),
    ];
    if !placed.is_empty() {
        tools.push(("Hosts of its machines", text::one_line(&placed, 600)));
    }
    tools
}
