//! The fold: a run's events in their order give its state. Everything that shows, decides or resumes reads this state.
//!
//! Invariant: pure. The same events always give the same state.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::event::{Controller, Entry, Event, Placed};
use crate::cell::identity::Start;
use crate::cell::{Anew, CaseObservation, Evidence, Pass, Point, Stage, StageOutcome, Trouble};
use crate::id::{CellId, Digest, Name, RunId};
use crate::plan::Plan;
use crate::verdict::Verdict;
use crate::verdict::trend::{Gauge, Past};

/// A run as its events tell it.
#[derive(Clone, Debug)]
pub struct RunState {
    pub run: RunId,
    pub plan: Plan,
    pub plan_digest: Digest,
    /// Who asked for it.
    pub by: String,
    /// The run that tested the whole bundle, where this one tests some of it.
    pub bundle: Option<RunId>,
    pub planned: Timestamp,
    /// Every controller that worked on it, the last one last.
    pub controllers: Vec<Controller>,
    pub cells: BTreeMap<CellId, CellRecord>,
    /// What earlier runs gave, see [`Event::HistoryDrawn`].
    pub past: Vec<Past>,
    /// Why it is to go no further, and who said so; see [`Event::RunCalledOff`].
    pub called_off: Option<CalledOff>,
    /// When it ended and with which verdict; `None` for an unfinished run.
    pub ended: Option<(Timestamp, Verdict)>,
    /// Machines that were kept and not yet let go.
    pub kept: Vec<String>,
    /// Until when each of them is kept, see [`KEEP`].
    pub leases: BTreeMap<String, Timestamp>,
}

/// How long a machine is kept for a person to look at. After that it is anybody's to remove.
pub const KEEP: SignedDuration = SignedDuration::from_hours(24);

/// Why a run goes no further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CalledOff {
    /// The lab itself where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub reason: String,
}

/// What happened to one cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellRecord {
    pub passes: Vec<PassRecord>,
    pub ended: bool,
}

/// One use of a fresh clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassRecord {
    pub pass: Pass,
    /// 1 and up, counted per pass.
    pub attempt: u32,
    /// The pass's name in the hypervisor: of its machine, or with the role behind it where there are several.
    pub machine: String,
    /// Where it was, in a lab of several hosts.
    pub placed: Option<Box<Placed>>,
    /// Each machine's effective definition, by its name.
    pub xml: BTreeMap<String, String>,
    /// How each machine came to run, where the lab had a choice.
    pub starts: BTreeMap<String, Start>,
    pub stages: Vec<StageRecord>,
    pub facts: BTreeMap<Point, BTreeMap<String, Digest>>,
    pub gauges: BTreeMap<Point, BTreeMap<Gauge, u64>>,
    pub cases: Vec<CaseObservation>,
    /// The cases that could not take over an earlier run's baseline.
    pub anew: Vec<Anew>,
    /// Files kept of the pass as a whole.
    pub evidence: Vec<Evidence>,
    pub ended: bool,
    pub kept: bool,
}

/// One attempt at a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRecord {
    pub stage: Stage,
    pub started: Timestamp,
    /// `None` while it runs, or when its controller ended in the middle.
    pub ended: Option<(Timestamp, StageOutcome)>,
}

/// Entries that cannot be a run's history.
#[derive(Debug, thiserror::Error)]
#[error("journal entry {seq} does not fit the history of its run: {reason}")]
pub struct BadHistory {
    pub seq: u64,
    pub reason: String,
}

impl RunState {
    /// Whether any of its machines were the simulator's: what they did says nothing about real ones.
    pub fn is_simulated(&self) -> bool {
        self.on().any(Controller::is_simulated)
    }

    /// All that its machines were made with: its controllers, and what these found on each host.
    pub fn on(&self) -> impl Iterator<Item = &Controller> {
        let passes = self.cells.values().flat_map(|cell| &cell.passes);
        self.controllers.iter().chain(passes.filter_map(|pass| Some(&pass.placed.as_ref()?.controller)))
    }

    /// What a cell's machines were made with: the hosts that it was on, or where the lab had one that of every controller.
    pub fn on_of<'a>(&'a self, cell: &'a CellRecord) -> impl Iterator<Item = &'a Controller> {
        let placed = cell.passes.iter().filter_map(|pass| Some(&pass.placed.as_ref()?.controller));
        let unplaced = cell.passes.is_empty() || cell.passes.iter().any(|pass| pass.placed.is_none());
        placed.chain(self.controllers.iter().filter(move |_| unplaced))
    }

    /// In a lab of several hosts, those that its machines were on, each once for each thing that it was then.
    pub fn placed(&self) -> Vec<&Placed> {
        let mut all: Vec<&Placed> = Vec::new();
        for placed in self.cells.values().flat_map(|cell| &cell.passes).filter_map(|pass| pass.placed.as_deref()) {
            if !all.contains(&placed) {
                all.push(placed);
            }
        }
        all.sort_by(|a, b| a.host.cmp(&b.host));
        all
    }

    /// The host that a pass with this machine was on, in a lab of several.
    pub fn host_of(&self, machine: &str) -> Option<&Name> {
        let passes = self.plan.cells.iter().flat_map(|cell| {
            self.cells.get(&cell.id).into_iter().flat_map(move |record| record.passes.iter().map(move |pass| (cell, pass)))
        });
        let mut mine = passes.filter(|(cell, pass)| cell.objects(&pass.machine).iter().any(|one| one == machine));
        mine.find_map(|(_, pass)| Some(&pass.placed.as_ref()?.host))
    }

    /// The state after these entries, which are those of one run in the journal's order. `None` for no entries.
    ///
    /// # Errors
    /// When the first is not a plan, or an entry speaks of a cell that the plan does not have or of a pass that was not begun.
    pub fn fold(entries: &[Entry]) -> Result<Option<Self>, BadHistory> {
        let Some((first, rest)) = entries.split_first() else { return Ok(None) };
        let (Event::RunPlanned { plan, plan_digest, by, bundle }, Some(run)) = (&first.event, first.run) else {
            return Err(BadHistory { seq: first.seq, reason: "a run's first entry must be its plan".to_owned() });
        };
        let cells = plan.cells.iter().map(|cell| (cell.id.clone(), CellRecord::default())).collect();
        let mut state = Self {
            run,
            plan: (**plan).clone(),
            plan_digest: *plan_digest,
            by: by.clone(),
            bundle: *bundle,
            planned: first.at,
            controllers: Vec::new(),
            cells,
            past: Vec::new(),
            called_off: None,
            ended: None,
            kept: Vec::new(),
            leases: BTreeMap::new(),
        };
        for entry in rest {
            state.apply(entry)?;
        }
        Ok(Some(state))
    }

    /// The state after one entry more.
    ///
    /// # Errors
    /// See [`RunState::fold`].
    pub fn apply(&mut self, entry: &Entry) -> Result<(), BadHistory> {
        let bad = |reason: &str| BadHistory { seq: entry.seq, reason: reason.to_owned() };
        match &entry.event {
            Event::RunPlanned { .. } => return Err(bad("a run has one plan")),
            Event::Recorded { .. } => return Err(bad("a record belongs to no run")),
            Event::RunTaken { controller } => self.controllers.push(controller.clone()),
            Event::HistoryDrawn { past } => self.past = past.clone(),
            Event::RunCalledOff { .. } if self.is_finished() => {}
            Event::RunCalledOff { by, reason } => {
                self.called_off.get_or_insert_with(|| CalledOff { by: by.clone(), reason: reason.clone() });
            }
            Event::RunEnded { verdict } => self.ended = Some((entry.at, *verdict)),
            Event::MachineReleased { machine, .. } => self.kept.retain(|kept| kept != machine),
            Event::PassStarted { cell, .. }
            | Event::CellEnded { cell }
            | Event::MachineDefined { cell, .. }
            | Event::MachineStarted { cell, .. }
            | Event::StageStarted { cell, .. }
            | Event::FactsTaken { cell, .. }
            | Event::CaseObserved { cell, .. }
            | Event::HealthObserved { cell, .. }
            | Event::BaselinesChosen { cell, .. }
            | Event::EvidenceKept { cell, .. }
            | Event::StageEnded { cell, .. }
            | Event::PassEnded { cell, .. } => {
                let record = self.cells.get_mut(cell).ok_or_else(|| bad("the plan has no such cell"))?;
                record.apply(entry).map_err(bad)?;
                if let (Event::PassEnded { kept: true, .. }, Some(pass), Some(cell)) =
                    (&entry.event, record.passes.last(), self.plan.cell(cell))
                {
                    for machine in cell.machine_names(&pass.machine) {
                        self.leases.insert(machine.clone(), entry.at.checked_add(KEEP).unwrap_or(Timestamp::MAX));
                        self.kept.push(machine);
                    }
                }
            }
        }
        Ok(())
    }

    pub fn is_finished(&self) -> bool {
        self.ended.is_some()
    }
}

impl CellRecord {
    /// Takes one more event of this cell.
    ///
    /// # Errors
    /// When it speaks of a pass that was not begun or a stage that was not started.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), &'static str> {
        match &entry.event {
            Event::PassStarted { pass, attempt, machine, placed, .. } => self.passes.push(PassRecord {
                pass: pass.clone(),
                attempt: *attempt,
                machine: machine.clone(),
                placed: placed.clone(),
                xml: BTreeMap::new(),
                starts: BTreeMap::new(),
                stages: Vec::new(),
                facts: BTreeMap::new(),
                gauges: BTreeMap::new(),
                cases: Vec::new(),
                anew: Vec::new(),
                evidence: Vec::new(),
                ended: false,
                kept: false,
            }),
            Event::CellEnded { .. } => self.ended = true,
            _ => {
                let pass = self.passes.last_mut().filter(|pass| !pass.ended).ok_or("no pass of the cell is under way")?;
                pass.apply(entry)?;
            }
        }
        Ok(())
    }
}

impl PassRecord {
    fn apply(&mut self, entry: &Entry) -> Result<(), &'static str> {
        match &entry.event {
            Event::MachineDefined { machine, xml, .. } => {
                self.xml.insert(machine.clone(), xml.clone());
            }
            Event::MachineStarted { machine, start, .. } => {
                self.starts.insert(machine.clone(), start.clone());
            }
            Event::StageStarted { stage, .. } => self.stages.push(StageRecord { stage: *stage, started: entry.at, ended: None }),
            Event::FactsTaken { point, facts, gauges, .. } => {
                self.facts.insert(*point, facts.clone());
                self.gauges.insert(*point, gauges.clone());
            }
            Event::CaseObserved { observation, .. } => self.cases.push((**observation).clone()),
            Event::HealthObserved { observations, .. } => self.cases.extend(observations.iter().cloned()),
            Event::BaselinesChosen { reused, anew, .. } => {
                self.cases.extend(reused.iter().cloned());
                self.anew.clone_from(anew);
            }
            Event::EvidenceKept { case, evidence, .. } => {
                let of = case.as_ref().and_then(|at| self.cases.iter_mut().rev().find(|observation| observation.is_of(at)));
                of.map_or(&mut self.evidence, |observation| &mut observation.evidence).extend(evidence.iter().cloned());
            }
            Event::StageEnded { stage, outcome, .. } => {
                let open = self.stages.last_mut().filter(|open| open.stage == *stage && open.ended.is_none());
                open.ok_or("a stage ended that had not started")?.ended = Some((entry.at, outcome.clone()));
            }
            Event::PassEnded { kept, .. } => {
                self.ended = true;
                self.kept = *kept;
            }
            Event::RunPlanned { .. }
            | Event::RunTaken { .. }
            | Event::HistoryDrawn { .. }
            | Event::RunCalledOff { .. }
            | Event::RunEnded { .. }
            | Event::PassStarted { .. }
            | Event::CellEnded { .. }
            | Event::MachineReleased { .. }
            | Event::Recorded { .. } => return Err("not an event of a pass"),
        }
        Ok(())
    }

    /// How the stage ended in this pass, if it did.
    pub fn outcome(&self, stage: Stage) -> Option<&StageOutcome> {
        self.stages.iter().find(|record| record.stage == stage).and_then(|record| record.ended.as_ref()).map(|(_, outcome)| outcome)
    }

    /// The stages that were cut short, with their troubles.
    pub fn troubles(&self) -> impl Iterator<Item = (Stage, &Trouble)> {
        self.stages.iter().filter_map(|record| match &record.ended {
            Some((_, StageOutcome::Failed { trouble })) => Some((record.stage, trouble)),
            _ => None,
        })
    }

    /// The first of them.
    pub fn trouble(&self) -> Option<(Stage, &Trouble)> {
        self.troubles().next()
    }
}
