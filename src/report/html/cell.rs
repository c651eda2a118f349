//! One cell on the page: its timeline, its cases, its evidence.

use std::collections::BTreeSet;

use crate::cell::cause::Evidence;
use crate::cell::identity::Start;
use crate::cell::{Blame, CaseObservation, CaseOutcome, Pass, Phase, StageOutcome, blame};
use crate::journal::{PassRecord, StageRecord};
use crate::plan::{PlannedCell, PlannedMachine};
use crate::report::baselines;
use crate::report::standing::{self, Standing};
use crate::report::view::CellView;
use crate::report::{Source, picture, text};
use crate::verdict::{CaseJudgement, Comparison};

use super::detail::{Budget, Detail};
use super::{Sign, place_sign};

/// What the engine calls the timeline of a case.
const TIMELINE: &str = "timeline";
/// Bytes of one case's output, one kept text, one machine's XML.
const CASE: usize = 6_000;
const EVIDENCE: usize = 16_000;
const XML: usize = 24_000;
/// Bytes of one picture, as it stands on the page.
const PICTURE: usize = 256_000;
/// Cases of one cell that are listed one by one although they passed.
const LISTED: usize = 400;

pub struct CellPage {
    pub id: String,
    pub title: String,
    pub sign: Sign,
    pub word: &'static str,
    pub open: bool,
    pub summary: String,
    pub took: String,
    pub about: Vec<(String, String)>,
    pub passes: Vec<PassPage>,
    /// Cases that a reader should look at.
    pub odd: Vec<CasePage>,
    /// Cases that are the same before and after.
    pub same: Vec<CasePage>,
    pub same_count: usize,
    pub evidence: Vec<EvidencePage>,
    /// The machines' effective definitions, by name.
    pub xml: Vec<(String, Detail)>,
    pub repeat: String,
}

pub struct PassPage {
    pub title: String,
    pub machine: String,
    pub took: String,
    pub kept: bool,
    /// Whether its stages are unfolded from the start.
    pub open: bool,
    pub stages: Vec<StagePage>,
}

pub struct StagePage {
    pub name: &'static str,
    pub sign: Sign,
    pub word: &'static str,
    /// Where its bar begins and how long it is, in percent of the pass.
    pub left: String,
    pub width: String,
    pub took: String,
    pub message: String,
}

pub struct CasePage {
    pub suite: String,
    pub case: String,
    pub baseline: &'static str,
    pub patched: &'static str,
    pub comparison: &'static str,
    pub sign: Sign,
    pub took: String,
    pub message: String,
    pub detail: Option<Detail>,
    /// What happened on all machines and on the wire, where that was kept.
    pub timeline: Option<Detail>,
}

pub struct EvidencePage {
    pub name: String,
    pub size: String,
    pub digest: String,
    pub text: Option<Detail>,
    pub picture: Option<String>,
}

pub fn cell_page(source: &Source<'_>, cell: &CellView<'_>, budget: &Budget) -> CellPage {
    let planned = cell.planned;
    let sign = place_sign(cell);
    let (same, odd): (Vec<_>, Vec<_>) = cell.cases.iter().partition(|case| is_same(cell, case));
    let suites = planned.suites.iter().map(|suite| format!("{} {}", suite.name, suite.sha256.short())).collect::<Vec<_>>().join(", ");
    CellPage {
        id: planned.id.to_string(),
        title: cell.title(),
        sign,
        word: cell.word(),
        open: sign != Sign::Good && !cell.record.passes.is_empty(),
        summary: summary(cell),
        took: if cell.record.passes.is_empty() { String::new() } else { text::duration(cell.elapsed_ms()) },
        about: planned
            .machines
            .iter()
            .flat_map(|machine| about(planned, machine))
            .chain(came_up(cell))
            .chain([("Suites".to_owned(), suites)])
            .chain(baselines::of_cell(cell).iter().map(|told| ("Baselines".to_owned(), told.line())))
            .collect(),
        passes: cell.record.passes.iter().map(pass_page).collect(),
        odd: odd.iter().map(|case| CasePage { timeline: timeline(source, cell, case, budget), ..case_page(cell, case, budget) }).collect(),
        same: same.iter().take(LISTED).filter(|_| budget.spend(420)).map(|case| case_page(cell, case, budget)).collect(),
        same_count: same.len(),
        evidence: evidence(source, cell, budget),
        xml: cell
            .main_pass()
            .iter()
            .flat_map(|pass| &pass.xml)
            .filter_map(|(machine, xml)| Some((machine.clone(), budget.detail(xml, XML)?)))
            .collect(),
        repeat: source.repeat(planned),
    }
}

/// How the machines of the main pass came up, where there was a choice.
fn came_up(cell: &CellView<'_>) -> Vec<(String, String)> {
    let starts = cell.main_pass().map(|pass| &pass.starts).into_iter().flatten();
    let told = |(machine, start): (&String, &Start)| {
        let how = match start {
            Start::Cold { why } => format!("booted: {}", text::one_line(why, 200)),
            Start::Warm { template, frozen, identity, .. } => format!(
                "from template {}, frozen {}; a machine of its own: machine-id {}, clock {} ms ahead, random numbers and addresses its own",
                template.short(),
                text::moment(*frozen),
                text::one_line(&identity.machine_id, 40),
                identity.clock_ahead_ms
            ),
        };
        let label = if cell.planned.is_environment() { format!("{machine} came up") } else { "Came up".to_owned() };
        (label, how)
    };
    starts.map(told).collect()
}

/// What a machine is, each line with its role where there are several.
fn about(cell: &PlannedCell, machine: &PlannedMachine) -> Vec<(String, String)> {
    let hardware = &machine.hardware;
    let of = |label: &str| if cell.is_environment() { format!("{}: {label}", machine.role) } else { label.to_owned() };
    let patched = if machine.patched { "patched" } else { "as it was" };
    let role = cell.is_environment().then(|| (of("build"), format!("{}.{}, {patched}", cell.customer, machine.build)));
    role.into_iter()
        .chain([
            (of("Hardware"), format!("{} ({})", hardware.name, text::one_line(&hardware.profile.title, 120))),
            (of("Image"), machine.image.name.to_string()),
            (of("Image sha256"), machine.image.sha256.hex()),
            (of("Hardware sha256"), hardware.sha256.hex()),
        ])
        .collect()
}

fn is_same(cell: &CellView<'_>, case: &CaseJudgement) -> bool {
    case.comparison == Comparison::Unchanged && standing::of_case(cell, case) == Standing::Passed { note: None }
}

/// `10 checks: 8 unchanged, 2 regression`.
fn summary(cell: &CellView<'_>) -> String {
    let counts: Vec<_> = cell.counts().iter().map(|(of, number)| format!("{number} {}", word_of(cell, *of))).collect();
    if counts.is_empty() { "no checks".to_owned() } else { format!("{}: {}", text::count(cell.cases.len(), "check"), counts.join(", ")) }
}

/// The comparison in a word. What is missing while the cell goes on is only outstanding.
fn word_of(cell: &CellView<'_>, comparison: Comparison) -> &'static str {
    if comparison == Comparison::Missing && !cell.finished { "outstanding" } else { comparison.as_str() }
}

fn case_page(cell: &CellView<'_>, case: &CaseJudgement, budget: &Budget) -> CasePage {
    let sign = match standing::of_case(cell, case) {
        Standing::Fault(_) if case.comparison == Comparison::Missing && !cell.finished => Sign::Open,
        Standing::Passed { .. } => Sign::Good,
        Standing::Skipped { .. } => Sign::Quiet,
        Standing::Finding(_) => Sign::Bad,
        Standing::Fault(_) => Sign::Odd,
    };
    CasePage {
        suite: case.suite.to_string(),
        case: case.case.to_string(),
        baseline: case.baseline.map_or("none", |outcome| outcome.as_str()),
        patched: case.patched.map_or("none", |outcome| outcome.as_str()),
        comparison: word_of(cell, case.comparison),
        sign,
        took: case.patched_ms.or(case.baseline_ms).map(text::duration).unwrap_or_default(),
        message: text::one_line(&case.message, 400),
        detail: budget.detail(&case.detail, CASE),
        timeline: None,
    }
}

/// The timeline of the attempt at a case that says most: one that did not pass, rather after the patch than before it.
fn timeline(source: &Source<'_>, cell: &CellView<'_>, case: &CaseJudgement, budget: &Budget) -> Option<Detail> {
    let seen = cell.record.passes.iter().flat_map(|pass| &pass.cases).filter(|seen| seen.suite == case.suite && seen.case == case.case);
    let telling = |seen: &&CaseObservation| (seen.outcome == CaseOutcome::Pass, seen.point.phase() == Phase::Baseline);
    let kept = seen.min_by_key(telling)?.evidence.iter().find(|kept| kept.name == TIMELINE)?;
    budget.detail(&String::from_utf8_lossy(&(source.evidence)(&kept.sha256)?), EVIDENCE)
}

fn pass_page(pass: &PassRecord) -> PassPage {
    let starts = pass.stages.iter().map(|stage| stage.started);
    let ends = pass.stages.iter().map(|stage| stage.ended.as_ref().map_or(stage.started, |(at, _)| *at));
    let (from, to) = (starts.min().unwrap_or_default(), ends.max().unwrap_or_default());
    let whole = text::elapsed(from, to);
    let again = if pass.attempt > 1 { format!(", attempt {}", pass.attempt) } else { String::new() };
    let on = pass.placed.as_ref().map_or_else(String::new, |placed| format!(", host {}", placed.host));
    let stages: Vec<_> = pass.stages.iter().map(|stage| stage_page(stage, text::elapsed(from, stage.started), whole)).collect();
    PassPage {
        open: pass.pass == Pass::Main || stages.iter().any(|stage| matches!(stage.sign, Sign::Bad | Sign::Odd | Sign::Open)),
        title: format!("{}{again}{on}", pass.pass),
        machine: text::one_line(&pass.machine, 80),
        took: text::duration(whole),
        kept: pass.kept,
        stages,
    }
}

pub fn stage_page(record: &StageRecord, begin: u64, whole: u64) -> StagePage {
    let length = record.ended.as_ref().map_or(0, |(at, _)| text::elapsed(record.started, *at));
    let (sign, word, message) = match record.ended.as_ref().map(|(_, outcome)| outcome) {
        None => (Sign::Open, "not ended", String::new()),
        Some(StageOutcome::Passed) => (Sign::Good, "passed", String::new()),
        Some(StageOutcome::Skipped { reason }) => (Sign::Quiet, "skipped", text::one_line(reason, 200)),
        Some(StageOutcome::Failed { trouble }) => {
            let sign = match blame(&trouble.cause, record.stage.side()) {
                Blame::Patch => Sign::Bad,
                Blame::Lab => Sign::Odd,
            };
            (sign, "failed", format!("{}: {}", trouble.cause.code(), text::one_line(&trouble.message, 300)))
        }
    };
    StagePage {
        name: record.stage.as_str(),
        sign,
        word,
        left: percent(begin, whole),
        width: percent(length, whole),
        took: if record.ended.is_some() && word != "skipped" { text::duration(length) } else { String::new() },
        message,
    }
}

/// One decimal, as CSS wants it, at most `100.0`.
pub fn percent(part: u64, whole: u64) -> String {
    let thousandths = part.saturating_mul(1000).checked_div(whole).unwrap_or(0).min(1000);
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

/// Every file kept with the cell, once.
fn evidence(source: &Source<'_>, cell: &CellView<'_>, budget: &Budget) -> Vec<EvidencePage> {
    let reported = cell.findings.iter().flat_map(|finding| &finding.evidence).chain(cell.faults.iter().flat_map(|fault| &fault.evidence));
    let troubles = cell.record.passes.iter().filter_map(PassRecord::trouble).flat_map(|(_, trouble)| &trouble.evidence);
    let cases = cell.record.passes.iter().flat_map(|pass| &pass.cases).flat_map(|case| &case.evidence);
    let mut known = BTreeSet::new();
    let passes = cell.record.passes.iter().flat_map(|pass| &pass.evidence);
    // Timelines are told with their cases.
    let all = reported.chain(troubles).chain(cases).chain(passes).filter(|kept| kept.name != TIMELINE && known.insert(kept.sha256));
    all.take(40).map(|kept| evidence_page(source, kept, budget)).collect()
}

fn evidence_page(source: &Source<'_>, kept: &Evidence, budget: &Budget) -> EvidencePage {
    let bytes = if budget.left() == 0 { None } else { (source.evidence)(&kept.sha256) };
    let picture = bytes.as_deref().and_then(|bytes| picture::data_uri(bytes, PICTURE)).filter(|uri| budget.spend(uri.len()));
    let shown = bytes.as_deref().filter(|bytes| picture.is_none() && is_text(bytes)).and_then(|bytes| {
        let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4 * EVIDENCE)..]);
        budget.detail(text::tail(&end, EVIDENCE), EVIDENCE)
    });
    EvidencePage { name: text::one_line(&kept.name, 80), size: text::size(kept.size), digest: kept.sha256.hex(), text: shown, picture }
}

/// Whether the bytes are more text than anything else. A console log may hold a few that are not.
fn is_text(bytes: &[u8]) -> bool {
    let probe = &bytes[..bytes.len().min(4096)];
    let odd = String::from_utf8_lossy(probe).chars().filter(|c| *c == '\u{fffd}' || *c == '\0').count();
    odd * 10 <= probe.len()
}
