//! The plan, the record and the judgement of a run side by side: what every form of report walks.
//!
//! Invariant: the walk is the plan's. A cell or case that the judgement does not speak of is there, as missing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::catalog::hardware::Difference;
use crate::cell::Pass;
use crate::id::{Digest, Name};
use crate::journal::{CellRecord, PassRecord, RunState};
use crate::plan::{PlannedCell, Subject, lint};
use crate::verdict::{CaseJudgement, CellJudgement, Comparison, Fault, Finding, Judgement, Verdict};

use super::files::kept_files;
use super::text;

/// Kept machines that a command is told for.
const KEPT: usize = 4;
/// Stands before all that a run on the simulator has to say.
pub(super) const SIMULATED: &str = "The machines were the simulator's; this says nothing about real ones. ";

/// What a report is told from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub run: &'a RunState,
    pub judgement: &'a Judgement,
    /// The bytes of a kept file, if they are still there.
    pub evidence: &'a dyn Fn(&Digest) -> Option<Vec<u8>>,
}

/// One cell of the plan, with all that is known of it.
pub struct CellView<'a> {
    pub planned: &'a PlannedCell,
    pub record: &'a CellRecord,
    pub judged: Option<&'a CellJudgement>,
    /// Every judged case, and every planned one that was not judged.
    pub cases: Vec<Cow<'a, CaseJudgement>>,
    pub findings: &'a [Finding],
    pub faults: &'a [Fault],
    pub notes: &'a [String],
    /// Whether nothing more is to come: the cell or the whole run has ended.
    pub finished: bool,
}

static NOTHING: CellRecord = CellRecord { passes: Vec::new(), ended: false };

impl<'a> Source<'a> {
    pub fn is_finished(&self) -> bool {
        self.run.is_finished() && self.judgement.finished
    }

    /// The run's verdict. An unfinished run has none but inconclusive.
    pub fn verdict(&self) -> Verdict {
        if self.is_finished() { self.judgement.verdict } else { Verdict::Inconclusive }
    }

    pub fn cells(&self) -> Vec<CellView<'a>> {
        self.run.plan.cells.iter().map(|planned| self.cell(planned)).collect()
    }

    /// One cell of the plan.
    pub fn cell(&self, planned: &'a PlannedCell) -> CellView<'a> {
        let record = self.run.cells.get(&planned.id).unwrap_or(&NOTHING);
        let judged = self.judgement.cells.iter().find(|judged| judged.id == planned.id);
        let mut cases: Vec<_> = judged.iter().flat_map(|judged| judged.cases.iter().map(Cow::Borrowed)).collect();
        for (suite, case) in planned.cases() {
            if !cases.iter().any(|judged| judged.suite == suite.name && judged.case == case.name) {
                cases.push(Cow::Owned(CaseJudgement {
                    suite: suite.name.clone(),
                    case: case.name.clone(),
                    baseline: None,
                    patched: None,
                    comparison: Comparison::Missing,
                    message: "planned, and without a result".to_owned(),
                    detail: String::new(),
                    baseline_ms: None,
                    patched_ms: None,
                    baseline_from: None,
                }));
            }
        }
        CellView {
            planned,
            record,
            judged,
            cases,
            findings: judged.map_or(&[], |judged| &judged.findings),
            faults: judged.map_or(&[], |judged| &judged.faults),
            notes: judged.map_or(&[], |judged| &judged.notes),
            finished: record.ended || self.is_finished(),
        }
    }

    /// Milliseconds from the plan to the end, or to the last thing that is known to have happened.
    pub fn elapsed_ms(&self) -> u64 {
        let stages = self.run.cells.values().flat_map(|cell| &cell.passes).flat_map(|pass| &pass.stages);
        let last = stages.map(|stage| stage.ended.as_ref().map_or(stage.started, |(at, _)| *at)).max();
        let end = self.run.ended.map(|(at, _)| at).or(last).unwrap_or(self.run.planned);
        text::elapsed(self.run.planned, end)
    }

    /// What a line of the plan is called: a machine, where none is more than one.
    pub fn noun(&self) -> &'static str {
        if self.run.plan.cells.iter().any(PlannedCell::is_environment) { "cell" } else { "machine" }
    }

    /// The verdict's reason in a sentence or two, and before it what one has to know first: that no real machine ran, or who called the run
    /// off and why.
    pub fn reason(&self) -> String {
        let simulated = if self.run.is_simulated() { SIMULATED } else { "" };
        let off = self.run.called_off.as_ref().map_or_else(String::new, |off| {
            let by = off.by.as_deref().map_or_else(String::new, |by| format!(" by {}", text::one_line(by, 80)));
            format!("The run was called off{by}: {}. ", text::one_line(&off.reason, 800).trim_end_matches('.'))
        });
        let narrowed = match (self.verdict(), self.narrowed()) {
            (Verdict::Pass, Some(narrowed)) => format!(" {narrowed}."),
            _ => String::new(),
        };
        format!("{simulated}{off}{}{narrowed}", self.verdict_reason())
    }

    /// What was left out because it was not asked for, so that the verdict doesn't speak for it.
    pub fn narrowed(&self) -> Option<String> {
        let lint = self.run.plan.lint.iter().find(|lint| lint.code == lint::PARTIAL)?;
        Some(text::one_line(&lint.message, 400))
    }

    /// The ids of the patches that were tested, in the order in which they were applied.
    pub fn patches(&self) -> Vec<&'a str> {
        self.run.plan.patches().map(|patch| patch.manifest.id.as_str()).collect()
    }

    /// The patch, or all of them where several were tested together.
    pub fn title(&self) -> String {
        self.patches().join(" + ")
    }

    fn verdict_reason(&self) -> String {
        let told = self.verdict_told();
        if !self.run.plan.is_together() {
            return told;
        }
        let count = self.patches().len();
        let why = match self.verdict() {
            Verdict::Fail => " Which of them is to blame, or which of them together, this run alone does not tell.",
            Verdict::Pass | Verdict::Inconclusive => "",
        };
        format!("{count} patches were tested together: {}. {told}{why}", self.patches().join(", "))
    }

    fn verdict_told(&self) -> String {
        let subject = if self.run.plan.is_together() { "these patches are" } else { "the patch is" };
        let cells = self.cells();
        let all = cells.len();
        let noun = self.noun();
        let on = |number: usize| if all == 1 { format!("on the one {noun} planned") } else { format!("on {number} of {all} {noun}s") };
        if !self.is_finished() {
            let open = cells.iter().filter(|cell| !cell.finished).count();
            let bad: usize = cells.iter().map(|cell| cell.findings.len()).sum();
            let so_far = if bad == 0 { "No findings so far.".to_owned() } else { format!("Already {}.", text::count(bad, "finding")) };
            return format!("The run has not ended: work is outstanding {}. {so_far}", on(open));
        }
        let failing = cells.iter().filter(|cell| !cell.findings.is_empty()).count();
        let findings: usize = cells.iter().map(|cell| cell.findings.len()).sum();
        let unjudged = cells.iter().filter(|cell| cell.verdict() == Verdict::Inconclusive).count();
        let checks: usize = cells.iter().map(|cell| cell.cases.len()).sum();
        match self.verdict() {
            Verdict::Pass => {
                let known = cells.iter().flat_map(|cell| &cell.cases).filter(|case| case.comparison == Comparison::PreExisting).count();
                let known = if known == 0 { String::new() } else { format!(" {} before and after in the same way.", fails(known)) };
                format!("{} {}: nothing that worked before the patch is broken after it.{known}", text::count(checks, "check"), on(all))
            }
            Verdict::Fail if findings == 0 => "The patch is to blame, and no finding says why; read the journal.".to_owned(),
            Verdict::Fail => {
                let also = if unjudged == 0 { String::new() } else { format!(" The lab could not judge {}.", text::count(unjudged, noun)) };
                format!("{} {} ({}): {subject} to blame.{also}", text::count(findings, "finding"), on(failing), codes(&cells))
            }
            Verdict::Inconclusive if all == 0 => "Nothing was planned, so nothing can be said.".to_owned(),
            Verdict::Inconclusive => match cells.iter().filter(|cell| cell.faults.iter().any(Fault::is_bad_news)).count() {
                0 => format!("The lab could not judge the patch {}. That says nothing about the patch.", on(unjudged)),
                unsettled => {
                    let more = text::count(unjudged - unsettled, noun);
                    let also = if unjudged == unsettled { String::new() } else { format!(" The lab could not judge {more} more.") };
                    let on = on(unsettled);
                    format!(
                        "Something went wrong after the patch {on}, and not each time, or it could not be tried again: {subject} not cleared.{also}"
                    )
                }
            },
        }
    }

    /// What people should know and what blocks nothing, each once, with the cells that it is about: id and title.
    pub fn notes(&self) -> Vec<(String, Vec<(String, String)>)> {
        let mut notes: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for cell in self.cells() {
            let known = cell.counts().get(&Comparison::PreExisting).copied().unwrap_or(0);
            let known = (known > 0).then(|| format!("{} before and after, in the same way", fails(known)));
            for note in cell.notes.iter().map(|note| text::one_line(note, 300)).chain(known) {
                let id = (cell.planned.id.to_string(), cell.title());
                match notes.iter_mut().find(|(told, _)| *told == note) {
                    Some((_, cells)) => cells.push(id),
                    None => notes.push((note, vec![id])),
                }
            }
        }
        notes
    }

    /// What the hardware profiles of this run declare to be different from production, each profile once.
    pub fn differences(&self) -> Vec<(&'a Name, &'a [Difference])> {
        let mut told: Vec<(&Name, &[Difference])> = Vec::new();
        for machine in self.run.plan.machines() {
            let (name, differences) = (&machine.hardware.name, machine.hardware.profile.differences.as_slice());
            if !differences.is_empty() && !told.iter().any(|(known, _)| *known == name) {
                told.push((name, differences));
            }
        }
        told
    }

    /// Builds down, hardware across: the cell at each place, where the plan has one.
    pub fn matrix(&self) -> Matrix {
        let mut hardware: Vec<String> = Vec::new();
        let mut rows: BTreeMap<String, BTreeMap<usize, usize>> = BTreeMap::new();
        for (at, cell) in self.run.plan.cells.iter().enumerate() {
            let name = cell.hardware_label();
            let column = hardware.iter().position(|known| *known == name).unwrap_or_else(|| {
                hardware.push(name);
                hardware.len() - 1
            });
            let level = if cell.is_environment() { format!(" {} patched", cell.level()) } else { String::new() };
            rows.entry(format!("{}.{}{level}", cell.customer, cell.subject_name())).or_default().insert(column, at);
        }
        let rows =
            rows.into_iter().map(|(build, places)| (build, (0..hardware.len()).map(|column| places.get(&column).copied()).collect()));
        Matrix { rows: rows.collect(), hardware }
    }

    /// What to type next, each with what it is for.
    pub fn next_commands(&self) -> Vec<(String, &'static str)> {
        let run = self.run.run;
        let patch = self.patches().join(" ");
        let mut commands = Vec::new();
        match self.verdict() {
            _ if !self.is_finished() => commands.push((format!("patchlab run {patch}"), "finish the run: what is done stays done")),
            Verdict::Pass => {}
            Verdict::Fail | Verdict::Inconclusive => {
                let cells = self.cells();
                if let Some(cell) = cells.iter().find(|cell| cell.verdict() == self.verdict()) {
                    commands.push((self.repeat(cell.planned), "the same again, this one only"));
                }
            }
        }
        if !self.run.kept.is_empty() {
            let shells = self.run.kept.iter().take(KEPT).map(|machine| format!("patchlab shell {run} {machine}"));
            commands.extend(shells.map(|shell| (shell, "look into a machine that was kept")));
            commands.push((format!("patchlab release {run}"), "let the kept machines go"));
        }
        commands.push((format!("patchlab show {run}"), "this summary"));
        commands.push((format!("patchlab report {run} --format html --output report.html"), "everything, as a page"));
        if !kept_files(self.run).is_empty() {
            commands.push((format!("patchlab report {run} --evidence evidence"), self.kept_kinds()));
        }
        commands
    }

    fn kept_kinds(&self) -> &'static str {
        if self.noun() == "cell" {
            "every kept file: timelines, captures of the wire, consoles, outputs"
        } else {
            "every kept file: consoles, outputs, facts"
        }
    }

    /// The command that does one cell again, on the same bytes.
    pub fn repeat(&self, cell: &PlannedCell) -> String {
        let patch = self.patches().join(" ");
        let subject = match &cell.subject {
            Subject::Build(name) => format!("--build {name}"),
            Subject::Environment(name) => format!("--environment {name} --level {}", cell.level()),
        };
        let mut hardware: Vec<_> = cell.machines.iter().map(|machine| format!(" --hardware {}", machine.hardware.name)).collect();
        hardware.sort();
        hardware.dedup();
        format!("patchlab run {patch} --customer {} {subject}{}", cell.customer, hardware.concat())
    }
}

/// The codes of the findings, each once, the first few.
fn codes(cells: &[CellView<'_>]) -> String {
    let mut codes: Vec<_> = cells.iter().flat_map(|cell| cell.findings).map(|finding| text::one_line(&finding.code, 40)).collect();
    codes.sort();
    codes.dedup();
    let more = if codes.len() > 4 { ", …" } else { "" };
    codes.truncate(4);
    format!("{}{more}", codes.join(", "))
}

fn fails(number: usize) -> String {
    if number == 1 { "1 check fails".to_owned() } else { format!("{number} checks fail") }
}

/// Builds down, hardware across.
pub struct Matrix {
    pub hardware: Vec<String>,
    /// A build, and per hardware the index of its cell in the plan.
    pub rows: Vec<(String, Vec<Option<usize>>)>,
}

impl<'a> CellView<'a> {
    /// The cell's name for people: of an environment, who is patched in words.
    pub fn title(&self) -> String {
        let planned = self.planned;
        if !planned.is_environment() {
            return planned.id.to_string();
        }
        format!("{}.{}, {} patched, on {}", planned.customer, planned.subject_name(), planned.level(), planned.hardware_label())
    }

    /// The cell's verdict. One that has not ended, or that nobody judged, has not passed.
    pub fn verdict(&self) -> Verdict {
        match self.judged.map(|judged| judged.verdict) {
            Some(Verdict::Pass) if self.finished => Verdict::Pass,
            Some(Verdict::Fail) => Verdict::Fail,
            Some(Verdict::Pass | Verdict::Inconclusive) | None => Verdict::Inconclusive,
        }
    }

    /// The verdict in a word, or how far the cell is.
    pub fn word(&self) -> &'static str {
        match (self.finished, self.verdict()) {
            (_, Verdict::Fail) => "fail",
            (true, verdict) => verdict.as_str(),
            (false, _) if self.record.passes.is_empty() => "waiting",
            (false, _) => "unfinished",
        }
    }

    /// The faults as lists tell them: what is only outstanding left out, and many missing results as one.
    pub fn told_faults(&self) -> Vec<Cow<'a, Fault>> {
        let is_missing = |fault: &&Fault| fault.code == "missing" && fault.case.is_some();
        let missing: Vec<_> = self.faults.iter().filter(is_missing).filter_map(|fault| fault.case.as_deref()).collect();
        let many = missing.len() > 2;
        let outstanding = |fault: &&Fault| !self.finished && matches!(fault.code.as_str(), "missing" | "no-required-cases" | "unfinished");
        let single = self.faults.iter().filter(|fault| !(outstanding(fault) || many && is_missing(fault)));
        let mut told: Vec<_> = single.map(Cow::Borrowed).collect();
        if let (true, true, Some(first)) = (many, self.finished, self.faults.iter().find(is_missing)) {
            let message = format!("{} gave no result: {}", text::count(missing.len(), "check"), missing.join(", "));
            told.push(Cow::Owned(Fault { message, case: None, detail: String::new(), ..first.clone() }));
        }
        told
    }

    /// The attempt at the main pass that counts: the last.
    pub fn main_pass(&self) -> Option<&'a PassRecord> {
        self.record.passes.iter().rev().find(|pass| pass.pass == Pass::Main)
    }

    /// Milliseconds that its stages took together.
    pub fn elapsed_ms(&self) -> u64 {
        let stages = self.record.passes.iter().flat_map(|pass| &pass.stages);
        stages.filter_map(|stage| stage.ended.as_ref().map(|(at, _)| text::elapsed(stage.started, *at))).sum()
    }

    /// How many cases compare like this.
    pub fn counts(&self) -> BTreeMap<Comparison, usize> {
        self.cases.iter().fold(BTreeMap::new(), |mut counts, case| {
            *counts.entry(case.comparison).or_default() += 1;
            counts
        })
    }
}

/// What a list of faults is headed by, and what is to be thought of them.
pub fn heading_of<'f>(mut faults: impl Iterator<Item = &'f Fault>) -> (&'static str, &'static str) {
    if faults.any(Fault::is_bad_news) {
        let lead = "What is flaky or unconfirmed went wrong after the patch, which may be to blame; the rest says nothing about it.";
        ("Faults: unsettled, or the lab's own trouble", lead)
    } else {
        ("Faults: the lab's own trouble", "They say nothing about the patch.")
    }
}

/// Where a finding or fault showed: `nginx/tls`, `stage boot`, or nothing for the whole cell.
pub fn place(stage: Option<crate::cell::Stage>, case: Option<&str>) -> String {
    match (case, stage) {
        (Some(case), _) => case.to_owned(),
        (None, Some(stage)) => format!("stage {stage}"),
        (None, None) => String::new(),
    }
}

/// How surely a finding is one: `confirmed on 2 of 2 fresh clones`.
pub fn confirmation(confirmed: (u32, u32)) -> String {
    match confirmed {
        (_, 0) => "not tried again".to_owned(),
        (again, tried) => format!("seen again on {again} of {tried} fresh {}", if tried == 1 { "clone" } else { "clones" }),
    }
}

/// A declared difference as it can be shown: each part one line.
pub fn difference(it: &Difference) -> Difference {
    Difference {
        device: text::one_line(&it.device, 80),
        production: text::one_line(&it.production, 300),
        lab: text::one_line(&it.lab, 300),
    }
}
