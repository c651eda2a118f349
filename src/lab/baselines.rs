//! Baselines that earlier runs have seen, kept at hand for the cells of this controller, and what a pass takes over from them.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::runner::{CellRunner, Stop};
use crate::cell::{Anew, Pass, Point};
use crate::id::{Digest, Name, RunId};
use crate::journal::{CellRecord, Controller, Event, RunState};
use crate::plan::PlannedCell;
use crate::verdict::baselines::{self, Expected, Known};

/// What is known of baselines on this controller's host.
#[derive(Clone, Debug)]
pub struct Baselines {
    host: Digest,
    simulated: bool,
    known: Arc<Mutex<Known>>,
}

impl Baselines {
    /// Nothing yet, for a controller like this one.
    pub fn new(controller: &Controller) -> Self {
        Self { host: baselines::host(controller), simulated: controller.is_simulated(), known: Arc::default() }
    }

    /// Learns from a run of any controller.
    pub fn learn(&self, run: &RunState) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).learn(run);
    }

    /// Learns from a cell that this controller saw from its beginning to its end.
    pub(super) fn learn_cell(&self, run: RunId, cell: &PlannedCell, record: &CellRecord) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).learn_cell(run, cell, record, self.host);
    }

    /// Where a cell's baselines come from.
    pub fn expected(&self, cell: &PlannedCell, now: Timestamp) -> Expected {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Simulated time runs ahead of the wall's, with which the next controller begins.
        let now = if self.simulated { known.newest().map_or(now, |newest| newest.max(now)) } else { now };
        known.expected(cell, self.host, now)
    }
}

impl CellRunner {
    /// Settles where the baselines of a main pass come from. All other passes see their own.
    pub(super) async fn choose_baselines(&mut self) -> Result<(), Stop> {
        let main = self.pass.as_ref().is_some_and(|pass| pass.pass == Pass::Main);
        if !main || self.cell.baseline_valid_for.0.is_zero() || self.cell.cases().next().is_none() {
            return Ok(());
        }
        let mut expected = self.lab.baselines.expected(&self.cell, self.lab.clock.now());
        if self.lab.settings.fresh_baselines {
            let asked = |suite: Name, case: Name| Anew { suite, case, why: "it was asked for".to_owned() };
            let reused = expected.reused.drain(..).map(|seen| asked(seen.suite, seen.case));
            expected.anew.extend(reused);
        }
        let Expected { cell, reused, anew } = expected;
        Ok(self.append(Event::BaselinesChosen { cell, reused, anew }).await?)
    }

    /// Whether the pass under way has taken over the baseline of a case.
    pub(super) fn has_baseline(&self, suite: &Name, case: &Name, point: Point) -> bool {
        let seen = self.record.passes.last().into_iter().flat_map(|pass| &pass.cases);
        point == Point::Baseline && seen.filter(|seen| seen.origin.is_some()).any(|seen| seen.suite == *suite && seen.case == *case)
    }
}
