//! One run: the verdict so far, findings first, the matrix, the time line.

use askama::Template;

use crate::catalog::hardware::Difference;
use crate::lab::scheduler::standing::Waiting;
use crate::report::html::detail::Budget;
use crate::report::html::{self, FaultsPage, NewsPage, PlacePage, ROOM, SHOWN, Sign};
use crate::report::{Source, text};

use super::frame::Frame;
use super::lab::WaitingLine;
use super::lane::{TimeLine, time_line};

/// The page of a run.
#[derive(Template)]
#[template(path = "run.html", config = "src/web/askama.toml")]
pub struct RunPage {
    pub frame: Frame,
    pub run: RunView,
}

/// The part of it that changes while the run goes on.
#[derive(Template)]
#[template(path = "run-part.html", config = "src/web/askama.toml")]
pub struct RunPart {
    pub run: RunView,
}

/// What is shown of a run.
pub struct RunView {
    pub id: String,
    pub patch: String,
    pub patch_sha256: String,
    pub title: String,
    pub customers: Vec<String>,
    pub sign: Sign,
    pub word: &'static str,
    pub reason: String,
    pub finished: bool,
    /// Cells that have ended, of all.
    pub progress: (usize, usize),
    pub facts: Vec<(&'static str, String)>,
    /// Cells that wait for room on the host, and how many more do.
    pub waiting: Vec<WaitingLine>,
    pub more_waiting: usize,
    pub findings: Vec<NewsPage>,
    pub more_findings: usize,
    pub hardware: Vec<String>,
    pub rows: Vec<(String, Vec<Option<PlacePage>>)>,
    pub rollouts: Vec<(Sign, String, String, String)>,
    pub faults: FaultsPage,
    pub time_line: TimeLine,
    pub notes: Vec<(String, Vec<(String, String)>)>,
    pub excluded: Vec<(String, String)>,
    pub lint: Vec<(String, String)>,
    /// Machines that are kept, and until when.
    pub kept: Vec<(String, String)>,
    pub differences: Vec<(String, Vec<Difference>)>,
    pub commands: Vec<(String, &'static str)>,
    pub digests: Vec<(&'static str, String)>,
    pub tools: Vec<(&'static str, String)>,
}

impl RunView {
    /// The same with what its cells wait for.
    pub fn with(self, waiting: &[Waiting]) -> Self {
        let more_waiting = waiting.len().saturating_sub(SHOWN);
        Self { waiting: waiting.iter().take(SHOWN).map(WaitingLine::of).collect(), more_waiting, ..self }
    }

    pub fn of(source: &Source<'_>) -> Self {
        let budget = Budget::new(ROOM);
        let (run, plan) = (source.run, &source.run.plan);
        let cells = source.cells();
        let matrix = source.matrix();
        let (findings, more_findings) = html::findings(&cells, &budget);
        let place = |at: usize| cells.get(at).map(html::place_page);
        let mut customers: Vec<_> = plan.cells.iter().map(|cell| cell.customer.to_string()).collect();
        customers.sort();
        customers.dedup();
        Self {
            id: run.run.to_string(),
            patch: source.title(),
            patch_sha256: plan.patch.sha256.to_string(),
            title: text::one_line(&plan.patch.manifest.title, 200),
            customers,
            sign: if source.is_finished() { html::sign_of(source.verdict()) } else { Sign::Open },
            word: if source.is_finished() { source.verdict().as_str() } else { "unfinished" },
            reason: source.reason(),
            finished: source.is_finished(),
            progress: (cells.iter().filter(|cell| cell.finished).count(), cells.len()),
            facts: html::facts(source),
            waiting: Vec::new(),
            more_waiting: 0,
            findings,
            more_findings,
            hardware: matrix.hardware,
            rows: matrix.rows.into_iter().map(|(build, row)| (build, row.into_iter().map(|at| at.and_then(place)).collect())).collect(),
            rollouts: crate::report::rollout::rollouts(source).iter().map(html::rollout_row).collect(),
            faults: html::faults(&cells, &budget),
            time_line: time_line(run),
            notes: source.notes().into_iter().take(SHOWN).collect(),
            excluded: plan
                .excluded
                .iter()
                .take(SHOWN)
                .map(|left| (text::one_line(&left.what, 120), text::one_line(&left.reason, 300)))
                .collect(),
            lint: plan.lint.iter().map(|lint| (text::one_line(&lint.code, 60), text::one_line(&lint.message, 300))).collect(),
            kept: run.kept.iter().map(|machine| (text::one_line(machine, 80), until(run, machine))).collect(),
            differences: html::differences(source, &budget),
            commands: source.next_commands(),
            digests: vec![("Run", run.run.to_string()), ("Plan", run.plan_digest.to_string()), ("Patch", plan.patch.sha256.to_string())],
            tools: html::tools(run),
        }
    }
}

fn until(run: &crate::journal::RunState, machine: &str) -> String {
    run.leases.get(machine).map(|at| text::moment(*at)).unwrap_or_default()
}
