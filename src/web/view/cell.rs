//! One cell: baseline against patched, its stages, its evidence, and the commands that do it again.

use askama::Template;

use crate::id::CellId;
use crate::report::html::cell::{CellPage as Told, cell_page};
use crate::report::html::detail::Budget;
use crate::report::html::{self, FaultsPage, NewsPage, ROOM};
use crate::report::view::CellView as Seen;
use crate::report::{Source, text};
use crate::verdict::Finding;
use crate::verdict::gate::GateFinding;

use super::frame::Frame;
use super::gate::waive;

/// The page of a cell.
#[derive(Template)]
#[template(path = "cell.html", config = "src/web/askama.toml")]
pub struct CellPage {
    pub frame: Frame,
    pub cell: CellView,
}

/// What is shown of a cell.
pub struct CellView {
    pub run: String,
    pub patch: String,
    pub patch_sha256: String,
    pub customer: String,
    pub title: String,
    pub finished: bool,
    /// Whether the run was on the simulator.
    pub simulated: bool,
    pub findings: Vec<NewsPage>,
    pub faults: FaultsPage,
    pub notes: Vec<String>,
    pub told: Told,
    /// What to type, each with what it is for.
    pub commands: Vec<(String, String)>,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl CellView {
    /// `None` when the plan has no such cell.
    pub fn of(source: &Source<'_>, id: &CellId) -> Option<Self> {
        let budget = Budget::new(ROOM);
        let (run, plan) = (source.run, &source.run.plan);
        let at = plan.cells.iter().position(|cell| cell.id == *id)?;
        let cell = source.cell(plan.cells.get(at)?);
        let one = std::slice::from_ref(&cell);
        let beside = |at: Option<usize>| at.and_then(|at| plan.cells.get(at)).map(|cell| cell.id.to_string());
        Some(Self {
            run: run.run.to_string(),
            patch: plan.patch.manifest.id.to_string(),
            patch_sha256: plan.patch.sha256.to_string(),
            customer: cell.planned.customer.to_string(),
            title: text::one_line(&plan.patch.manifest.title, 200),
            finished: cell.finished,
            simulated: run.is_simulated(),
            findings: html::findings(one, &budget).0,
            faults: html::faults(one, &budget),
            notes: cell.notes.iter().map(|note| text::one_line(note, 300)).collect(),
            told: cell_page(source, &cell, &budget),
            commands: commands(source, &cell),
            before: beside(at.checked_sub(1)),
            after: beside(at.checked_add(1)),
        })
    }
}

/// Does the cell again, looks into what was kept of it, waives what it found.
fn commands(source: &Source<'_>, cell: &Seen<'_>) -> Vec<(String, String)> {
    let (run, patch) = (source.run, &source.run.plan.patch);
    let machines = cell.record.passes.iter().flat_map(|pass| cell.planned.machine_names(&pass.machine));
    let kept = machines.filter(|machine| run.kept.contains(machine)).map(|machine| {
        (format!("patchlab shell {} {}", run.run, text::one_line(&machine, 80)), "look into a machine that was kept".to_owned())
    });
    let hardware = cell.planned.hardware_label();
    let hardware = Some(hardware.as_str()).filter(|hardware| !hardware.contains('+'));
    let waivers = cell.findings.iter().take(html::SHOWN).map(|finding| {
        let Finding { code, case, fingerprint, .. } = finding.clone();
        let finding = GateFinding { code, case, fingerprint, waiver: None };
        let purpose = format!("propose to bear {}; a second person has to consent", text::one_line(finding.subject(), 140));
        (waive(patch.sha256, &cell.planned.customer, &finding, hardware), purpose)
    });
    let again = (source.repeat(cell.planned), "this cell again, on the same bytes".to_owned());
    std::iter::once(again).chain(kept).chain(waivers).collect()
}
