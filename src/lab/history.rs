//! How long things usually take: medians of earlier stages, by image and hardware; and what earlier runs measured, for the verdict to hold
//! a patch's samples against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::clock::between;
use crate::cell::identity::Start;
use crate::cell::{Pass, Phase, Stage, StageOutcome};
use crate::id::Digest;
use crate::journal::{CellRecord, HostReport, RunState};
use crate::plan::{Plan, PlannedCell};
use crate::verdict::baselines::Expected;
use crate::verdict::rank;
use crate::verdict::trend::{self, Measured, Past, Place, median};

/// What cells have in common whose stages take alike: images and hardware of their machines, and which of them are patched.
type Likeness = Vec<(Digest, Digest, bool)>;

fn likeness(cell: &PlannedCell) -> Likeness {
    cell.machines.iter().map(|machine| (machine.image.sha256, machine.hardware.sha256, machine.patched)).collect()
}

/// What was measured unpatched, and with each patch; the newest first.
#[derive(Clone, Debug, Default)]
struct Samples {
    unpatched: Vec<u64>,
    patched: HashMap<Digest, Vec<u64>>,
}

/// Durations of stages that went well.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Runs on another accelerator teach nothing about this one, and samples with another QEMU are no samples of this. `None` learns from all.
    host: Option<HostReport>,
    /// By host where there are several, image, hardware and what was measured.
    measured: BTreeMap<(Option<Place>, Digest, Digest, Measured), Samples>,
    samples: HashMap<(Likeness, Stage), Vec<Duration>>,
    /// Boots that went on from templates: they say how long the next one takes, and nothing of how long a machine may take to boot.
    warm: HashMap<Likeness, Vec<Duration>>,
    /// Baselines of which so many cases were taken over from an earlier run.
    spared: HashMap<(Likeness, usize), Vec<Duration>>,
}

impl History {
    /// Learns from runs on a host like this alone.
    pub fn of(host: HostReport) -> Self {
        Self { host: Some(host), ..Self::default() }
    }

    /// Learns from a run. The newest comes first.
    pub fn learn(&mut self, run: &RunState) {
        let wanted = self.host.clone();
        let on = |record: &CellRecord, like: fn(&HostReport) -> &String| {
            let fits = |wanted: &HostReport| run.on_of(record).all(|controller| like(&controller.host) == like(wanted));
            wanted.as_ref().is_none_or(fits)
        };
        for cell in &run.plan.cells {
            let Some(record) = run.cells.get(&cell.id) else { continue };
            let is_alike = on(record, |host| &host.accelerator);
            // A run that goes on speaks for itself.
            if run.is_finished() {
                self.measure(run, cell, record, is_alike && on(record, |host| &host.qemu));
            }
            if !is_alike {
                continue;
            }
            let mains = record.passes.iter().filter(|pass| pass.pass == Pass::Main);
            for (pass, stage) in mains.flat_map(|pass| pass.stages.iter().map(move |stage| (pass, stage))) {
                let Some((ended, StageOutcome::Passed)) = &stage.ended else { continue };
                let warm = stage.stage == Stage::Boot && pass.starts.values().any(|start| matches!(start, Start::Warm { .. }));
                let of_kind = likeness(cell);
                let spared = pass.cases.iter().filter(|seen| stage.stage == Stage::Baseline && seen.origin.is_some()).count();
                let samples = match spared {
                    0 if warm => self.warm.entry(of_kind).or_default(),
                    0 => self.samples.entry((of_kind, stage.stage)).or_default(),
                    _ => self.spared.entry((of_kind, spared)).or_default(),
                };
                samples.push(between(stage.started, *ended));
            }
        }
    }

    /// Samples of one of several hosts are its own; others count where the host was the same.
    fn measure(&mut self, run: &RunState, cell: &PlannedCell, record: &CellRecord, is_same: bool) {
        let [machine] = cell.machines.as_slice() else { return };
        for (on, of, phase, value) in trend::samples(cell, record).into_iter().filter(|(on, ..)| on.is_some() || is_same) {
            let samples = self.measured.entry((on, machine.image.sha256, machine.hardware.sha256, of)).or_default();
            let side = match phase {
                Phase::Baseline => &mut samples.unpatched,
                Phase::Patched => samples.patched.entry(run.plan.tested()).or_default(),
            };
            if side.len() < rank::MOST {
                side.push(value);
            }
        }
    }

    /// What earlier runs measured on the images and the hardware of a plan, unpatched and with its patch.
    pub fn past(&self, plan: &Plan) -> Vec<Past> {
        let places: BTreeSet<_> = plan.machines().map(|machine| (machine.image.sha256, machine.hardware.sha256)).collect();
        let newest_last = |samples: &[u64]| samples.iter().rev().copied().collect();
        let of_plan = self.measured.iter().filter(|((_, image, hardware, _), _)| places.contains(&(*image, *hardware)));
        let past = of_plan.map(|((on, image, hardware, of), samples)| Past {
            on: on.clone(),
            image: *image,
            hardware: *hardware,
            of: of.clone(),
            unpatched: newest_last(&samples.unpatched),
            patched: samples.patched.get(&plan.tested()).map(|samples| newest_last(samples)).unwrap_or_default(),
        });
        past.collect()
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

    /// What a cell's main pass will take where so many cases have a baseline already.
    fn cell_sparing(&self, cell: &PlannedCell, spared: usize) -> Duration {
        let usual = self.expected(cell, Stage::Baseline);
        let all = u32::try_from(cell.cases().filter(|(_, case)| !case.destructive).count()).unwrap_or(u32::MAX).max(1);
        let left = all.saturating_sub(u32::try_from(spared).unwrap_or(u32::MAX));
        let seen = self.spared.get(&(likeness(cell), spared)).and_then(|samples| median(samples));
        self.cell(cell) - usual + seen.unwrap_or(usual * left / all)
    }

    /// What a plan will take with so many cells at once, and with these baselines.
    pub fn plan(&self, cells: &[PlannedCell], baselines: &[Expected], at_once: usize) -> Duration {
        let mut lanes = vec![Duration::ZERO; at_once.max(1)];
        for cell in cells {
            if let Some(lane) = lanes.iter_mut().min() {
                let spared = baselines.iter().find(|expected| expected.cell == cell.id).map_or(0, |expected| expected.reused.len());
                *lane += self.cell_sparing(cell, spared);
            }
        }
        lanes.into_iter().max().unwrap_or_default()
    }
}
