//! One cell from its first clone to its end: asks what comes next, journals it, does it, journals how it ended.
//!
//! Invariant: nothing is done that the journal does not announce first, and nothing is remembered here that a later controller
//! needs: it starts a pass anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::scheduler::host::Lease;
use super::session::{Session, lab_trouble};
use super::stages::Memory;
use super::warm::Offer;
use super::{Activity, Lab, RunFiles};
use crate::cell::next::{Work, work};
use crate::cell::{Blame, Cause, Next, Pass, Stage, StageOutcome, Trouble, blame, next};
use crate::id::{Name, RunId};
use crate::journal::fold::KEEP;
use crate::journal::{CellRecord, Event, JournalError};
use crate::plan::{Plan, PlannedCell};
use crate::verdict::Verdict;
use crate::verdict::evidence::{Observations, keys};
use crate::verdict::judge::judge_cell;

/// Why a stage did not come to an end of its own.
#[derive(Debug)]
pub enum Stop {
    Trouble(Box<Trouble>),
    /// Nothing can be recorded any more, so nothing more may be done.
    Journal(JournalError),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(Box::new(trouble))
    }
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// What became of a cell.
pub enum Done {
    /// It has ended, or was given up, and means this.
    Judged(Verdict),
    /// Its host is in doubt: it goes on elsewhere, from what has happened so far.
    Elsewhere(Box<CellRecord>),
}

/// Takes one cell through its life.
pub struct CellRunner {
    pub(super) lab: Lab,
    pub(super) run: RunId,
    pub(super) plan: Arc<Plan>,
    pub(super) cell: PlannedCell,
    /// Its place in the plan.
    place: usize,
    pub(super) files: Arc<RunFiles>,
    pub(super) record: CellRecord,
    /// The pass under way: its machine and what was learnt on it.
    pub(super) pass: Option<PassState>,
    /// Its room on the host.
    lease: Lease,
    /// Whether a pass was begun here.
    begun: bool,
    pub(super) checkpoint: Checkpoint,
}

/// What lives only as long as a pass.
pub(super) struct PassState {
    pub pass: Pass,
    pub work: Work,
    /// The pass's name in the hypervisor.
    pub name: String,
    /// In the order of the cell; those that were made.
    pub machines: Vec<MachineState>,
    /// How far each segment's capture was read.
    pub read: BTreeMap<Name, u64>,
}

/// One machine of the pass under way.
pub(super) struct MachineState {
    pub session: Session,
    pub memory: Memory,
    /// What it is to begin on.
    pub offer: Offer,
}

impl CellRunner {
    /// The cell at this place of the plan, and what has happened to it.
    pub fn new(
        lab: Lab,
        run: RunId,
        plan: Arc<Plan>,
        (place, cell): (usize, PlannedCell),
        files: Arc<RunFiles>,
        record: CellRecord,
        lease: Lease,
    ) -> Self {
        Self { lab, run, plan, cell, place, files, record, pass: None, lease, begun: false, checkpoint: Checkpoint::None }
    }

    /// Runs the cell to its end, or until its host is in doubt, and says what it means.
    ///
    /// # Errors
    /// Only when the journal cannot be written.
    pub async fn run(mut self) -> Result<Done, JournalError> {
        let ended = self.go().await?;
        Ok(if ended { Done::Judged(judge_cell(&self.cell, &self.record).verdict) } else { Done::Elsewhere(Box::new(self.record)) })
    }

    /// Whether it has come to its end here.
    async fn go(&mut self) -> Result<bool, JournalError> {
        let whole = self.record.passes.is_empty();
        loop {
            match next(&self.cell, &self.record) {
                // What is cancelled stays unended: a later controller may take it up.
                Next::Begin { .. } if *self.lab.cancelled.borrow() => return Ok(true),
                Next::Begin { .. } if self.is_in_doubt() => return Ok(false),
                Next::Begin { pass, attempt } => self.begin(pass, attempt).await?,
                Next::Run(stage) => self.stage(stage).await?,
                Next::EndPass => {
                    let kept = self.record.passes.last().and_then(|pass| pass.outcome(Stage::Teardown));
                    let kept = matches!(kept, Some(StageOutcome::Skipped { .. }));
                    self.append(Event::PassEnded { cell: self.cell.id.clone(), kept }).await?;
                    self.pass = None;
                }
                Next::End => {
                    let doubted = self.is_in_doubt();
                    self.append(Event::CellEnded { cell: self.cell.id.clone() }).await?;
                    if let Some(placed) = self.lab.placed.as_ref().filter(|_| self.begun && !doubted) {
                        self.lab.hosts.did_well(&placed.host);
                    }
                    if whole {
                        self.lab.baselines.learn_cell(self.run, &self.cell, &self.record);
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// Whether the last pass here was spoilt in a way that speaks against one of several hosts, which then has to prove itself.
    fn is_in_doubt(&self) -> bool {
        let (Some(placed), Some(last)) = (&self.lab.placed, self.record.passes.last()) else { return false };
        let here = last.placed.as_ref().is_some_and(|on| on.host == placed.host);
        match last.troubles().find(|(_, trouble)| trouble.cause.is_of_host()).filter(|_| here && self.begun) {
            Some((stage, trouble)) => {
                self.lab.hosts.doubt(
                    &placed.host,
                    &format!("{} failed at {stage}: {}", self.cell.id, trouble.message),
                    self.lab.clock.now(),
                );
                true
            }
            None => false,
        }
    }

    /// Writes an event to the journal and to this cell's record.
    pub(super) async fn append(&mut self, event: Event) -> Result<(), JournalError> {
        self.append_all(vec![event]).await
    }

    /// The same with events that belong together: all of them, or none.
    pub(super) async fn append_all(&mut self, events: Vec<Event>) -> Result<(), JournalError> {
        let now = self.lab.clock.now();
        for entry in self.lab.journal.append_all(self.run, events.into_iter().map(|event| (now, event)).collect()).await? {
            let bad = |reason: &str| crate::journal::fold::BadHistory { seq: entry.seq, reason: reason.to_owned() };
            self.record.apply(&entry).map_err(bad)?;
        }
        Ok(())
    }

    async fn begin(&mut self, pass: Pass, attempt: u32) -> Result<(), JournalError> {
        let lab: String = self.lab.id.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
        let run = self.run.to_string();
        let run = &run[run.len() - 8..];
        let machine = format!("patchlab-{lab}-{run}-{}-{}", self.place, self.record.passes.len());
        tracing::info!(run = %self.run, cell = %self.cell.id, %pass, attempt, machine, "pass started");
        let placed = self.lab.placed.as_deref().cloned().map(Box::new);
        self.begun = true;
        let event = Event::PassStarted { cell: self.cell.id.clone(), pass: pass.clone(), attempt, machine: machine.clone(), placed };
        let work = work(&self.cell, &self.record, &pass);
        self.append(event).await?;
        self.pass = Some(PassState { pass, work, name: machine, machines: Vec::new(), read: BTreeMap::new() });
        Ok(())
    }

    async fn stage(&mut self, stage: Stage) -> Result<(), JournalError> {
        self.append(Event::StageStarted { cell: self.cell.id.clone(), stage }).await?;
        self.tell(stage, "");
        let ended = if stage == Stage::Teardown {
            self.teardown().await
        } else {
            let mut cancelled = self.lab.cancelled.clone();
            tokio::select! {
                ended = self.effect(stage) => ended,
                // A sender that is gone can cancel nothing.
                Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => Err(Trouble::new(Cause::Cancelled, "the run was cancelled").into()),
            }
        };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(Stop::Journal(error)) => return Err(error),
            Err(Stop::Trouble(trouble)) => StageOutcome::Failed { trouble: self.illustrate(stage, *trouble).await },
        };
        if stage == Stage::Boot {
            self.lease.booted();
        }
        tracing::info!(run = %self.run, cell = %self.cell.id, %stage, ?outcome, "stage ended");
        self.append(Event::StageEnded { cell: self.cell.id.clone(), stage, outcome }).await
    }

    /// Adds console and screen where the guest is what went wrong.
    async fn illustrate(&self, stage: Stage, trouble: Trouble) -> Trouble {
        let place = |role: &Name| self.cell.machines.iter().position(|machine| machine.role == *role);
        let at = trouble.role.as_ref().and_then(place).unwrap_or(0);
        let machine = self.pass.as_ref().and_then(|pass| pass.machines.get(at));
        let telling = blame(&trouble.cause, crate::cell::Side::After) == Blame::Patch && stage != Stage::Teardown;
        match machine {
            Some(machine) if telling => machine.session.illustrate(trouble).await,
            _ => trouble,
        }
    }

    /// Says what the cell is doing now.
    pub(super) fn tell(&self, stage: Stage, what: &str) {
        let expected = self.lab.history.expected(&self.cell, stage);
        // Nobody watching is no error.
        let what = what.to_owned();
        let _ = self.lab.activity.send(Activity { run: self.run, cell: self.cell.id.clone(), stage, what, expected });
    }

    /// Removes the pass's machines, or keeps them for a person when that was asked for and there is something to see.
    async fn teardown(&mut self) -> Result<StageOutcome, Stop> {
        self.keep_captures().await?;
        let Some(pass) = self.record.passes.last() else { return Ok(StageOutcome::Passed) };
        let machines = self.cell.objects(&pass.machine);
        let created = pass.outcome(Stage::Clone) == Some(&StageOutcome::Passed);
        let cancelled = pass.trouble().is_some_and(|(_, trouble)| trouble.cause == Cause::Cancelled);
        let bad = || pass.trouble().is_some() || shows_bad_news(pass, &keys(&self.cell, &self.record));
        if self.lab.settings.keep_failed && created && !cancelled && bad() {
            let until = self
                .lab
                .clock
                .now()
                .checked_add(KEEP)
                .map_or_else(|_| "further notice".to_owned(), |until| until.strftime("%F %H:%M UTC").to_string());
            // A network ends with its controller, so it is not kept.
            for network in machines.iter().skip(self.cell.machines.len()) {
                self.lab.hypervisor.destroy(network).await.map_err(lab_trouble)?;
            }
            let what = if self.cell.machines.len() == 1 { "machine" } else { "machines" };
            return Ok(StageOutcome::Skipped { reason: format!("{what} kept until {until}") });
        }
        for machine in machines {
            self.lab.hypervisor.destroy(&machine).await.map_err(lab_trouble)?;
        }
        Ok(StageOutcome::Passed)
    }
}

/// Whether this pass alone shows bad news about one of these cases.
fn shows_bad_news(pass: &crate::journal::PassRecord, keys: &[crate::verdict::evidence::CaseKey]) -> bool {
    let alone = CellRecord { passes: vec![crate::journal::PassRecord { ended: true, ..pass.clone() }], ended: false };
    let observations = Observations::of(&alone);
    keys.iter().any(|key| observations.pairs(key).iter().any(crate::verdict::compare::Pair::is_suspect))
}

/// A stage was asked for outside a pass: a mistake in the lab, and so a fault.
pub(super) fn no_pass() -> Trouble {
    Trouble::new(Cause::ControllerEnded, "no pass of this cell is under way in this controller")
}
