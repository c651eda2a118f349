//! The stages' effects. What they give goes to the journal as observations; what cuts them short comes back as a [`Stop`].

use std::sync::Arc;

use super::jobs::JobEnd;
use super::runner::{CellRunner, MachineState, Stop, no_pass};
use super::session::{Budget, Session};
use crate::catalog::patch::Reboot;
use crate::cell::{Cause, Pass, Point, Stage, StageOutcome, Trouble};
use crate::guest::linux::apply::{PatchSteps, steps};
use crate::guest::linux::judge;
use crate::guest::{JobStep, StepReport};
use crate::id::Name;
use crate::journal::PassRecord;
use crate::plan::PlannedPatch;
use crate::verdict::evidence::is_clean;
use crate::verdict::health;
use crate::verdict::health::facts::Facts;

/// What was learnt on the clone under way and is needed later on it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub(super) baseline: Option<Arc<Facts>>,
    /// Read behind the last cases. Nothing was done since.
    pub(super) after_cases: Option<Arc<Facts>>,
    /// Why the machine will be restarted; `None` when it will not.
    pub(super) reboot: Option<String>,
    /// The patch restarted the machine itself.
    restarted_itself: bool,
    /// Why the patch does not fit this build: found before the patch touched anything, told when it is to be applied.
    pub(super) misfit: Option<Trouble>,
    /// Where in the pass the guest is.
    pub(super) point: Option<Point>,
    /// Whether it began on a checkpoint, so that nothing is left to do before its cases.
    patched_before: bool,
}

impl Memory {
    /// Begins where a template was frozen behind a patch, if it was.
    pub(super) fn begin_behind(&mut self, point: Option<Point>) {
        (self.point, self.patched_before) = (point, point.is_some());
    }
}

/// A patch as it goes onto a machine.
pub(super) struct Laid {
    pub(super) id: Name,
    pub(super) reboot: Reboot,
    pub(super) steps: PatchSteps,
}

/// Whether none of these may restart the machine.
fn never(laid: &[Laid]) -> bool {
    laid.iter().all(|patch| patch.reboot == Reboot::Never)
}

impl CellRunner {
    /// Runs a stage to its end.
    pub(super) async fn effect(&mut self, stage: Stage) -> Result<StageOutcome, Stop> {
        match stage {
            Stage::Clone => self.clone_machines().await,
            Stage::Boot => self.boot().await,
            Stage::Baseline => self.baseline().await,
            Stage::Apply | Stage::Reboot if self.memory(0)?.patched_before => {
                Ok(StageOutcome::Skipped { reason: "the clone went on from a checkpoint behind it".to_owned() })
            }
            Stage::Apply => self.apply().await,
            Stage::Reboot => {
                let outcome = self.reboot().await?;
                self.keep_checkpoint().await?;
                Ok(outcome)
            }
            Stage::Verify => self.verify().await,
            Stage::Suites => self.suites().await,
            Stage::ColdBoot => self.cold_boot().await,
            Stage::Reapply => self.reapply().await,
            Stage::Rollback => self.rollback().await,
            Stage::Teardown => Ok(StageOutcome::Passed),
        }
    }

    pub(super) fn session(&mut self, at: usize) -> Result<&mut Session, Stop> {
        self.machine(at).map(|machine| &mut machine.session)
    }

    pub(super) fn memory(&mut self, at: usize) -> Result<&mut Memory, Stop> {
        self.machine(at).map(|machine| &mut machine.memory)
    }

    pub(super) fn machine(&mut self, at: usize) -> Result<&mut MachineState, Stop> {
        self.pass.as_mut().and_then(|pass| pass.machines.get_mut(at)).ok_or_else(|| no_pass().into())
    }

    /// The machines that the patch goes onto.
    fn patched(&self) -> Vec<usize> {
        self.cell.patched().collect()
    }

    /// Names the machine, where there are several.
    pub(super) fn on(&self, at: usize, stop: Stop) -> Stop {
        match (stop, self.cell.machines.as_slice()) {
            (Stop::Trouble(trouble), machines @ [_, _, ..]) => match machines.get(at) {
                Some(machine) => trouble.on(&machine.role).into(),
                None => Stop::Trouble(trouble),
            },
            (stop, _) => stop,
        }
    }

    /// Where in the pass the patched machines are.
    pub(super) fn point(&self) -> Point {
        let points = self.pass.iter().flat_map(|pass| &pass.machines).filter_map(|machine| machine.memory.point);
        points.max().unwrap_or(Point::Applied)
    }

    /// What goes onto a machine, in its order.
    pub(super) fn laid(&self, at: usize) -> Vec<Laid> {
        let of = |(place, patch): (usize, &PlannedPatch)| {
            let mut steps = steps(patch).beside(place);
            steps.say("PATCHLAB_PATCH", patch.manifest.id.as_str());
            Laid { id: patch.manifest.id.clone(), reboot: patch.manifest.reboot, steps }
        };
        self.cell.machines.get(at).map(|machine| self.plan.patches_for(machine).map(of).collect()).unwrap_or_default()
    }

    /// Names the patch, where there are several.
    pub(super) fn about(&self, patch: &Laid, stop: impl Into<Stop>) -> Stop {
        match stop.into() {
            Stop::Trouble(trouble) if self.plan.is_together() => {
                let message = format!("{}: {}", patch.id, trouble.message);
                Trouble { message, ..*trouble }.into()
            }
            stop => stop,
        }
    }

    async fn boot(&mut self) -> Result<StageOutcome, Stop> {
        for at in 0..self.cell.machines.len() {
            self.boot_machine(at).await.map_err(|stop| self.on(at, stop))?;
        }
        if self.memory(0)?.patched_before {
            return Ok(StageOutcome::Passed);
        }
        self.prepare_suites(Stage::Boot).await?;
        let stages = self.pass.as_ref().map(|pass| pass.work.stages.as_slice()).unwrap_or_default();
        if stages.contains(&Stage::Apply) && !stages.contains(&Stage::Baseline) {
            self.preflight(Stage::Boot).await?;
        }
        Ok(StageOutcome::Passed)
    }

    async fn boot_machine(&mut self, at: usize) -> Result<(), Stop> {
        self.come_up(at).await?;
        self.join_network(Stage::Boot, at).await?;
        if self.must_prove_restart() && self.patched().contains(&at) {
            let budget = self.restart_budget(at);
            let tell = self.teller(Stage::Boot);
            self.session(at)?.reboot(budget, tell).await?;
        }
        self.become_ready(Stage::Boot, at).await
    }

    /// Whether this clone confirms bad news that came with a restart. It is then restarted unpatched first: what cannot even do that
    /// is no evidence against the patch.
    fn must_prove_restart(&self) -> bool {
        // A destructive case's first round has not seen any bad news yet.
        let confirms = matches!(self.pass.as_ref().map(|pass| &pass.pass), Some(Pass::Confirm { .. } | Pass::Twin { round: 1.., .. }));
        let first = self.record.passes.iter().find(|pass| pass.pass == Pass::Main && is_clean(pass));
        let restarted = |pass: &PassRecord| {
            let came = |stage| pass.outcome(stage).is_some_and(|outcome| !matches!(outcome, StageOutcome::Skipped { .. }));
            came(Stage::Reboot) || came(Stage::ColdBoot)
        };
        confirms && first.is_some_and(restarted)
    }

    /// Asks whether the patch fits its builds, before it touches anything.
    async fn preflight(&mut self, stage: Stage) -> Result<(), Stop> {
        for at in self.patched() {
            // Whether the others fit is asked once those before them are there.
            if let Some(first) = self.laid(at).into_iter().next() {
                self.memory(at)?.misfit = self.misfit(stage, at, &first).await.map_err(|stop| self.on(at, stop))?;
            }
        }
        Ok(())
    }

    async fn misfit(&mut self, stage: Stage, at: usize, patch: &Laid) -> Result<Option<Trouble>, Stop> {
        let reports = self.engine_job(stage, at, "preflight", patch.steps.preflight.clone()).await?;
        match judge::preflight(&reports) {
            Err(trouble) if matches!(trouble.cause, Cause::ProbeFailed) => Err(self.about(patch, trouble)),
            judged => Ok(judged.err()),
        }
    }

    /// What tells the watchers how far a stage is, without borrowing the runner.
    pub(super) fn teller(&self, stage: Stage) -> impl FnMut(&str) + use<> {
        let activity = super::Activity {
            run: self.run,
            cell: self.cell.id.clone(),
            stage,
            what: String::new(),
            expected: self.lab.history.expected(&self.cell, stage),
        };
        let to = self.lab.activity.clone();
        let mut last = String::new();
        move |what| {
            if what != last {
                last = what.to_owned();
            }
            // Nobody watching is no error.
            let _ = to.send(super::Activity { what: last.clone(), ..activity.clone() });
        }
    }

    async fn baseline(&mut self) -> Result<StageOutcome, Stop> {
        self.choose_baselines().await?;
        // The suites leave their marks too (logins in the journal, say): after them, these are no news any more.
        self.run_cases(Stage::Baseline, Point::Baseline).await?;
        let stages = self.pass.as_ref().map(|pass| pass.work.stages.as_slice()).unwrap_or_default();
        // A clone that is never patched has nothing to be compared with, and its destructive case may have left it in ruins.
        if !stages.contains(&Stage::Apply) {
            return Ok(StageOutcome::Passed);
        }
        if !self.cell.is_environment() {
            let facts = self.take_facts(Stage::Baseline, Point::Baseline).await?;
            let results = health::baseline(&facts, &self.health_context(Point::Baseline, false)?);
            let unmet = health::unmet(&results).map(|claim| {
                let message = format!("the machine is not what its profile {} claims: {}", self.cell.hardware_label(), claim.message);
                Trouble::new(Cause::HardwareUnmet, message).with_detail(claim.detail.clone())
            });
            self.observe_health(Point::Baseline, results).await?;
            if let Some(unmet) = unmet {
                return Err(unmet.into());
            }
            self.memory(0)?.baseline = Some(facts);
        }
        self.preflight(Stage::Baseline).await?;
        Ok(StageOutcome::Passed)
    }

    async fn apply(&mut self) -> Result<StageOutcome, Stop> {
        for at in self.patched() {
            self.apply_on(at).await.map_err(|stop| self.on(at, stop))?;
        }
        Ok(StageOutcome::Passed)
    }

    async fn apply_on(&mut self, at: usize) -> Result<(), Stop> {
        let laid = self.laid(at);
        let mut wanted = Vec::new();
        for (nth, patch) in laid.iter().enumerate() {
            let misfit = match nth {
                0 => self.memory(at)?.misfit.take(),
                _ => self.misfit(Stage::Apply, at, patch).await?,
            };
            if let Some(misfit) = misfit {
                return Err(self.about(patch, misfit));
            }
            wanted = self.apply_one(at, patch).await.map_err(|stop| self.about(patch, stop))?;
        }
        let required = laid.iter().find(|patch| patch.reboot == Reboot::Required);
        let reason = match required {
            Some(patch) if self.plan.is_together() => Some(format!("the manifest of {} requires it", patch.id)),
            Some(_) => Some("the manifest requires it".to_owned()),
            None if never(&laid) || wanted.is_empty() => None,
            None => Some(wanted.join("; ")),
        };
        let memory = self.memory(at)?;
        let point = if memory.restarted_itself { Point::Rebooted } else { Point::Applied };
        memory.point = Some(point);
        memory.reboot = reason.clone();
        // Without a restart the verify stage looks at this very point.
        if reason.is_some() && matches!(self.pass.as_ref().map(|pass| &pass.pass), Some(Pass::Main | Pass::Confirm { .. })) {
            match self.look_at_health(Stage::Apply, point, true).await {
                Err(Stop::Trouble(trouble)) if trouble.cause == Cause::UnexpectedReboot && !never(&laid) => {
                    self.come_back(Stage::Apply, at).await?;
                    self.memory(at)?.point = Some(Point::Rebooted);
                }
                looked => drop(looked?),
            }
        }
        // Its peers may have to wait for what the patch restarted, as they did for its start.
        if self.memory(at)?.reboot.is_none() {
            self.become_ready(Stage::Apply, at).await?;
        }
        Ok(())
    }

    /// Applies one patch. What comes back is why the guest wants a reboot now.
    async fn apply_one(&mut self, at: usize, patch: &Laid) -> Result<Vec<String>, Stop> {
        let (never, patch) = (patch.reboot == Reboot::Never, &patch.steps);
        match self.patch_job(Stage::Apply, at, "apply", patch.apply.clone()).await? {
            JobEnd::Done(reports) => judge::apply(&reports)?,
            JobEnd::Restarted(_) if never => return Err(unasked("applying the patch").into()),
            JobEnd::Restarted(finished) => match self.come_back_from(Stage::Apply, at, finished).await? {
                Some(reports) => judge::apply(&reports)?,
                None if patch.confirm.is_empty() => {
                    let message = "applying restarted the machine before it had ended, and the patch brings no `verify` that could tell \
                                   whether it was done";
                    return Err(Trouble::new(Cause::UnexpectedReboot, message).into());
                }
                None => {}
            },
        }
        let reports = match self.patch_job(Stage::Apply, at, "reboot-wanted", patch.reboot_wanted.clone()).await? {
            JobEnd::Done(reports) => reports,
            JobEnd::Restarted(_) if never => return Err(unasked("a moment after its end, applying the patch").into()),
            // It had told the machine to restart before it ended.
            JobEnd::Restarted(_) => {
                self.come_back(Stage::Apply, at).await?;
                self.engine_job(Stage::Apply, at, "reboot-wanted", patch.reboot_wanted.clone()).await?
            }
        };
        Ok(judge::reboot_reasons(&reports)?)
    }

    /// Waits for a machine that the patch restarted itself.
    async fn come_back(&mut self, stage: Stage, at: usize) -> Result<(), Stop> {
        let budget = self.restart_budget(at);
        let tell = self.teller(stage);
        self.session(at)?.come_up(budget, tell).await?;
        self.memory(at)?.restarted_itself = true;
        Ok(())
    }

    /// The same, and what the patch's step that the restart cut short had written down, if it had come to its end.
    pub(super) async fn come_back_from(
        &mut self,
        stage: Stage,
        at: usize,
        finished: Vec<StepReport>,
    ) -> Result<Option<Vec<StepReport>>, Stop> {
        self.come_back(stage, at).await?;
        Ok(self.session(at)?.reports_of_old(finished).await?)
    }

    pub(super) fn restart_budget(&mut self, at: usize) -> Budget {
        let usual = self.session(at).ok().and_then(|session| session.boot_took);
        Budget::from_usual(usual)
    }

    async fn reboot(&mut self) -> Result<StageOutcome, Stop> {
        let mut wanted = Vec::new();
        for at in self.patched() {
            if self.memory(at)?.reboot.is_some() {
                wanted.push(at);
            }
        }
        if wanted.is_empty() {
            let reason = match self.plan.reboot() {
                Reboot::Never => "the manifest says reboot = \"never\"",
                Reboot::Auto | Reboot::Required => "neither the manifest nor the guest wants one",
            };
            return Ok(StageOutcome::Skipped { reason: reason.to_owned() });
        }
        for at in wanted {
            self.reboot_machine(at).await.map_err(|stop| self.on(at, stop))?;
        }
        Ok(StageOutcome::Passed)
    }

    /// Whether the machine came up without starting over on the way.
    fn came_up_at_once(&mut self, at: usize) -> Result<(), Stop> {
        match self.session(at)?.unasked {
            0 => Ok(()),
            times => {
                let often = if times == 1 { "once".to_owned() } else { format!("{times} times") };
                let message = format!("the machine restarted by itself {often} before it came up");
                Err(Trouble::new(Cause::UnexpectedReboot, message).into())
            }
        }
    }

    async fn reboot_machine(&mut self, at: usize) -> Result<(), Stop> {
        let budget = self.restart_budget(at);
        let tell = self.teller(Stage::Reboot);
        self.session(at)?.reboot(budget, tell).await?;
        self.came_up_at_once(at)?;
        self.memory(at)?.point = Some(Point::Rebooted);
        self.become_ready(Stage::Reboot, at).await
    }

    async fn verify(&mut self) -> Result<StageOutcome, Stop> {
        let mut confirmed = Ok(());
        for at in self.patched() {
            for patch in self.laid(at) {
                let steps = patch.steps.confirm.clone();
                let reports = self.engine_job(Stage::Verify, at, "confirm", steps).await.map_err(|stop| self.on(at, stop))?;
                let judged = judge::confirm(&patch.steps, &reports);
                confirmed = confirmed.and(judged.map_err(|trouble| self.on(at, self.about(&patch, trouble))));
            }
        }
        // The machine's state may say why a confirmation fails.
        match self.look_at_health(Stage::Verify, self.point(), false).await {
            Err(Stop::Journal(error)) => return Err(error.into()),
            looked => {
                confirmed?;
                looked?;
            }
        }
        Ok(StageOutcome::Passed)
    }

    async fn suites(&mut self) -> Result<StageOutcome, Stop> {
        self.run_cases(Stage::Suites, self.point()).await?;
        self.look_again(Stage::Suites, self.point()).await?;
        Ok(StageOutcome::Passed)
    }

    async fn cold_boot(&mut self) -> Result<StageOutcome, Stop> {
        for at in self.patched() {
            if self.cell.machines.get(at).is_some_and(|machine| machine.hardware.profile.second_cold_boot) {
                self.cold_boot_machine(at).await.map_err(|stop| self.on(at, stop))?;
            }
        }
        self.look_at_health(Stage::ColdBoot, Point::ColdBooted, false).await?;
        self.run_cases(Stage::ColdBoot, Point::ColdBooted).await?;
        self.look_again(Stage::ColdBoot, Point::ColdBooted).await?;
        Ok(StageOutcome::Passed)
    }

    async fn cold_boot_machine(&mut self, at: usize) -> Result<(), Stop> {
        let budget = self.restart_budget(at);
        let tell = self.teller(Stage::ColdBoot);
        self.session(at)?.cold_boot(budget, tell).await?;
        self.came_up_at_once(at)?;
        self.memory(at)?.point = Some(Point::ColdBooted);
        self.become_ready(Stage::ColdBoot, at).await
    }

    /// Runs steps of the lab's own that must not restart the machine.
    pub(super) async fn engine_job(&mut self, stage: Stage, at: usize, what: &str, steps: Vec<JobStep>) -> Result<Vec<StepReport>, Stop> {
        match self.patch_job(stage, at, what, steps).await? {
            JobEnd::Done(reports) => Ok(reports),
            JobEnd::Restarted(_) => {
                let message = format!("the machine restarted by itself during {what}");
                Err(Trouble::new(Cause::UnexpectedReboot, message).into())
            }
        }
    }

    pub(super) async fn patch_job(&mut self, stage: Stage, at: usize, what: &str, steps: Vec<JobStep>) -> Result<JobEnd, Stop> {
        self.tell(stage, what);
        let steps = steps.into_iter().map(|step| named(step, what)).collect();
        let mut tell = self.teller(stage);
        Ok(self.session(at)?.run(what, steps, |_| tell(what)).await?)
    }
}

/// The step with its name in the environment, for who reads the guest's process list and for the simulator.
pub(super) fn named(mut step: JobStep, what: &str) -> JobStep {
    step.env.insert("PATCHLAB_STEP".to_owned(), what.to_owned());
    step
}

/// A restart that the manifest rules out.
pub(super) fn unasked(when: &str) -> Trouble {
    Trouble::new(Cause::UnexpectedReboot, format!("{when} restarted the machine, and the manifest says reboot = \"never\""))
}
