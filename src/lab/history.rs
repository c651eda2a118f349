//! How long things usually take: medians of earlier stages, by image and hardware.

use std::collections::HashMap;
use std::time::Duration;

use super::clock::between;
use crate::cell::identity::Start;
use crate::cell::{Pass, Stage, StageOutcome};
use crate::id::Digest;
use crate::journal::RunState;
use crate::plan::PlannedCell;

/// What cells have in common whose stages take alike: images and hardware of their machines, and which of them are patched.
type Likeness = Vec<(Digest, Digest, bool)>;

fn likeness(cell: &PlannedCell) -> Likeness {
    cell.machines.iter().map(|machine| (machine.image.sha256, machine.hardware.sha256, machine.patched)).collect()
}

/// Durations of stages that went well.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Runs on another accelerator teach nothing about this one. `None` learns from all.
    accelerator: Option<String>,
    samples: HashMap<(Likeness, Stage), Vec<Duration>>,
    /// Boots that went on from templates: they say how long the next one takes, and nothing of how long a machine may take to boot.
    warm: HashMap<Likeness, Vec<Duration>>,
}

impl History {
    /// Learns from runs on this accelerator alone.
    pub fn of(accelerator: &str) -> Self {
        Self { accelerator: Some(accelerator.to_owned()), ..Self::default() }
    }

    /// Learns from a run.
    pub fn learn(&mut self, run: &RunState) {
        let fits = |wanted: &String| run.controllers.iter().all(|controller| controller.host.accelerator == *wanted);
        if !self.accelerator.as_ref().is_none_or(fits) {
            return;
        }
        for cell in &run.plan.cells {
            let passes = run.cells.get(&cell.id).map(|record| record.passes.as_slice()).unwrap_or_default();
            let mains = passes.iter().filter(|pass| pass.pass == Pass::Main);
            for (pass, stage) in mains.flat_map(|pass| pass.stages.iter().map(move |stage| (pass, stage))) {
                let Some((ended, StageOutcome::Passed)) = &stage.ended else { continue };
                let warm = stage.stage == Stage::Boot && pass.starts.values().any(|start| matches!(start, Start::Warm { .. }));
                let of_kind = likeness(cell);
                let samples =
                    if warm { self.warm.entry(of_kind).or_default() } else { self.samples.entry((of_kind, stage.stage)).or_default() };
                samples.push(between(stage.started, *ended));
            }
        }
    }

    /// The median of earlier times, of a boot without a template's help; `None` when there are none.
    pub fn usual(&self, cell: &PlannedCell, stage: Stage) -> Option<Duration> {
        median(self.samples.get(&(likeness(cell), stage))?)
    }

    /// What a stage will take: the median, or a guess for an emulated machine that nobody has run yet.
    pub fn expected(&self, cell: &PlannedCell, stage: Stage) -> Duration {
        let warm = self.warm.get(&likeness(cell)).filter(|_| stage == Stage::Boot).and_then(|samples| median(samples));
        warm.or_else(|| self.usual(cell, stage)).unwrap_or(Duration::from_secs(match stage {
            Stage::Clone | Stage::Teardown => 1,
            Stage::Boot | Stage::ColdBoot | Stage::Reboot => 60,
            Stage::Baseline | Stage::Suites => 30,
            Stage::Apply | Stage::Reapply => 40,
            Stage::Verify | Stage::Rollback => 10,
        }))
    }

    /// What a cell's main pass will take.
    pub fn cell(&self, cell: &PlannedCell) -> Duration {
        let stages = crate::cell::next::main_stages(cell).into_iter();
        stages.map(|stage| self.expected(cell, stage)).sum()
    }

    /// What a plan will take with so many cells at once.
    pub fn plan(&self, cells: &[PlannedCell], at_once: usize) -> Duration {
        let mut lanes = vec![Duration::ZERO; at_once.max(1)];
        for cell in cells {
            if let Some(lane) = lanes.iter_mut().min() {
                *lane += self.cell(cell);
            }
        }
        lanes.into_iter().max().unwrap_or_default()
    }
}

fn median(samples: &[Duration]) -> Option<Duration> {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}
