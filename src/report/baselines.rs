//! Where baselines come from: which an earlier run has seen, and why the others ran anew.

use jiff::Timestamp;

use crate::cell::Origin;
use crate::id::{CellId, RunId};

use super::text;
use super::view::CellView;

/// Names of cases that are told one by one.
const NAMED: usize = 8;

/// Cases whose baselines come from the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub from: From,
    /// `suite/case`, in the order of the plan.
    pub cases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A main pass of an earlier cell.
    Earlier { run: RunId, cell: CellId, at: Timestamp },
    /// The cell's own pass, with the reason.
    Own { why: String },
}

impl Told {
    /// `web/pages, web/tls: seen in run …`.
    pub fn line(&self) -> String {
        format!("{}: {}", self.names(), self.from.told())
    }

    fn names(&self) -> String {
        let shown: Vec<_> = self.cases.iter().take(NAMED).map(|case| text::one_line(case, 140)).collect();
        let rest = self.cases.len().saturating_sub(NAMED);
        if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
    }
}

impl From {
    /// In words.
    pub fn told(&self) -> String {
        match self {
            Self::Earlier { run, cell, at } => format!("seen in run {run}, {cell}, {}", text::moment(*at)),
            Self::Own { why } => format!("run anew: {}", text::one_line(why, 200)),
        }
    }
}

impl std::convert::From<&Origin> for From {
    fn from(origin: &Origin) -> Self {
        Self::Earlier { run: origin.run, cell: origin.cell.clone(), at: origin.at }
    }
}

/// Puts cases of one origin together, in the order of their first.
pub fn gathered(all: impl IntoIterator<Item = (From, String)>) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for (from, case) in all {
        match told.iter_mut().find(|known| known.from == from) {
            Some(known) => known.cases.push(case),
            None => told.push(Told { from, cases: vec![case] }),
        }
    }
    told
}

/// Where a cell's baselines come from. Empty where every run has its own.
pub fn of_cell(cell: &CellView<'_>) -> Vec<Told> {
    let reused = cell.cases.iter().filter_map(|case| {
        let from = case.baseline_from.as_ref()?.into();
        Some((from, format!("{}/{}", case.suite, case.case)))
    });
    let anew = cell.main_pass().map(|pass| pass.anew.as_slice()).unwrap_or_default();
    let anew = anew.iter().map(|one| (From::Own { why: one.why.clone() }, format!("{}/{}", one.suite, one.case)));
    gathered(reused.chain(anew))
}

/// The same of all cells: one line a place.
pub fn summary(cells: &[CellView<'_>]) -> Vec<String> {
    let single = cells.len() == 1;
    let all = cells.iter().flat_map(|cell| {
        let place = |case: String| if single { case } else { format!("{} {case}", cell.planned.id) };
        of_cell(cell).into_iter().flat_map(move |told| told.cases.into_iter().map(move |case| (told.from.clone(), place(case))))
    });
    let told = gathered(all.collect::<Vec<_>>());
    told.iter().map(|told| format!("{}, {}", text::count(told.cases.len(), "case"), told.from.told())).collect()
}
