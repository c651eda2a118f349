//! The stages' effects. What they give goes to the journal as observations; what cuts them short comes back as a [`Stop`].

use std::sync::Arc;

use super::jobs::JobEnd;
use super::runner::{CellRunner, Stop, no_pass};
use super::session::{Budget, Session};
use crate::catalog::patch::Reboot;
use crate::cell::{Cause, Pass, Point, Stage, StageOutcome, Trouble};
use crate::guest::linux::apply::{PatchSteps, steps};
use crate::guest::linux::judge;
use crate::guest::{JobStep, StepReport};
use crate::journal::PassRecord;
use crate::verdict::evidence::is_clean;
use crate::verdict::health;
use crate::verdict::health::facts::Facts;

/// What was learnt on the clone under way and is needed later on it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub(super) baseline: Option<Arc<Facts>>,
    /// Why the machine will be restarted; `None` when it will not.
    pub(super) reboot: Option<String>,
    /// The patch restarted the machine itself.
    restarted_itself: bool,
    /// Why the patch does not fit this build: found before the patch touched anything, told when it is to be applied.
    pub(super) misfit: Option<Trouble>,
    /// Where in the pass the guest is.
    pub(super) point: Option<Point>,
}

impl CellRunner {
    /// Runs a stage to its end.
    pub(super) async fn effect(&mut self, stage: Stage) -> Result<StageOutcome, Stop> {
        match stage {
            Stage::Clone => self.clone_machine().await,
            Stage::Boot => self.boot().await,
            Stage::Baseline => self.baseline().await,
            Stage::Apply => self.apply().await,
            Stage::Reboot => self.reboot().await,
            Stage::Verify => self.verify().await,
            Stage::Suites => self.suites().await,
            Stage::ColdBoot => self.cold_boot().await,
            Stage::Reapply => self.reapply().await,
            Stage::Rollback => self.rollback().await,
            Stage::Teardown => Ok(StageOutcome::Passed),
        }
    }

    pub(super) fn session(&mut self) -> Result<&mut Session, Stop> {
        self.pass.as_mut().and_then(|pass| pass.session.as_mut()).ok_or_else(|| no_pass().into())
    }

    pub(super) fn memory(&mut self) -> Result<&mut Memory, Stop> {
        self.pass.as_mut().map(|pass| &mut pass.memory).ok_or_else(|| no_pass().into())
    }

    fn patch(&self) -> PatchSteps {
        steps(&self.plan.patch)
    }

    async fn boot(&mut self) -> Result<StageOutcome, Stop> {
        let budget = Budget::from_usual(self.lab.history.usual(&self.cell, Stage::Boot));
        let tell = self.teller(Stage::Boot);
        self.session()?.start(budget, tell).await?;
        if self.must_prove_restart() {
            let budget = self.restart_budget();
            let tell = self.teller(Stage::Boot);
            self.session()?.reboot(budget, tell).await?;
        }
        let stages = self.pass.as_ref().map(|pass| pass.work.stages.as_slice()).unwrap_or_default();
        if stages.contains(&Stage::Apply) && !stages.contains(&Stage::Baseline) {
            self.preflight(Stage::Boot).await?;
        }
        Ok(StageOutcome::Passed)
    }

    /// Whether this clone confirms bad news that came with a restart. It is then restarted unpatched first: what cannot even do that
    /// is no evidence against the patch.
    fn must_prove_restart(&self) -> bool {
        let confirms = matches!(self.pass.as_ref().map(|pass| &pass.pass), Some(Pass::Confirm { .. }));
        let first = self.record.passes.iter().find(|pass| pass.pass == Pass::Main && is_clean(pass));
        let restarted = |pass: &PassRecord| {
            let came = |stage| pass.outcome(stage).is_some_and(|outcome| !matches!(outcome, StageOutcome::Skipped { .. }));
            came(Stage::Reboot) || came(Stage::ColdBoot)
        };
        confirms && first.is_some_and(restarted)
    }

    /// Asks whether the patch fits this build, before it touches anything.
    async fn preflight(&mut self, stage: Stage) -> Result<(), Stop> {
        let reports = self.engine_job(stage, "preflight", self.patch().preflight).await?;
        match judge::preflight(&reports) {
            Err(trouble) if matches!(trouble.cause, Cause::ProbeFailed) => Err(trouble.into()),
            judged => {
                self.memory()?.misfit = judged.err();
                Ok(())
            }
        }
    }

    /// What tells the watchers how far a stage is, without borrowing the runner.
    pub(super) fn teller(&self, stage: Stage) -> impl FnMut(&str) + use<> {
        let activity = super::Activity {
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
        self.memory()?.point = Some(Point::Baseline);
        // The suites leave their marks too (logins in the journal, say): after them, these are no news any more.
        self.run_cases(Stage::Baseline, Point::Baseline).await?;
        let facts = self.take_facts(Stage::Baseline, Point::Baseline).await?;
        let results = health::baseline(&facts, &self.health_context(Point::Baseline, false));
        self.observe_health(Point::Baseline, results).await?;
        self.memory()?.baseline = Some(facts);
        let stages = self.pass.as_ref().map(|pass| pass.work.stages.as_slice()).unwrap_or_default();
        if stages.contains(&Stage::Apply) {
            self.preflight(Stage::Baseline).await?;
        }
        Ok(StageOutcome::Passed)
    }

    async fn apply(&mut self) -> Result<StageOutcome, Stop> {
        let patch = self.patch();
        if let Some(misfit) = self.memory()?.misfit.take() {
            return Err(misfit.into());
        }
        let never = self.never_restarts();
        match self.patch_job(Stage::Apply, "apply", patch.apply.clone()).await? {
            JobEnd::Done(reports) => judge::apply(&reports)?,
            JobEnd::Restarted(_) if never => return Err(unasked("applying the patch").into()),
            JobEnd::Restarted(finished) => match self.come_back_from(Stage::Apply, finished).await? {
                Some(reports) => judge::apply(&reports)?,
                None if patch.confirm.is_empty() => {
                    let message = "applying restarted the machine before it had ended, and the patch brings no `verify` that could tell \
                                   whether it was done";
                    return Err(Trouble::new(Cause::UnexpectedReboot, message).into());
                }
                None => {}
            },
        }
        let reports = match self.patch_job(Stage::Apply, "reboot-wanted", patch.reboot_wanted.clone()).await? {
            JobEnd::Done(reports) => reports,
            JobEnd::Restarted(_) if never => return Err(unasked("a moment after its end, applying the patch").into()),
            // It had told the machine to restart before it ended.
            JobEnd::Restarted(_) => {
                self.come_back(Stage::Apply).await?;
                self.engine_job(Stage::Apply, "reboot-wanted", patch.reboot_wanted.clone()).await?
            }
        };
        let wanted = judge::reboot_reasons(&reports)?;
        let reason = match self.plan.patch.manifest.reboot {
            Reboot::Required => Some("the manifest requires it".to_owned()),
            Reboot::Auto if !wanted.is_empty() => Some(wanted.join("; ")),
            Reboot::Auto | Reboot::Never => None,
        };
        let restarted = self.memory()?.restarted_itself;
        let point = if restarted { Point::Rebooted } else { Point::Applied };
        self.memory()?.point = Some(point);
        self.memory()?.reboot = reason.clone();
        // Without a restart the verify stage looks at this very point.
        if reason.is_some() && matches!(self.pass.as_ref().map(|pass| &pass.pass), Some(Pass::Main | Pass::Confirm { .. })) {
            match self.look_at_health(Stage::Apply, point, true).await {
                Err(Stop::Trouble(trouble)) if trouble.cause == Cause::UnexpectedReboot && !never => {
                    self.come_back(Stage::Apply).await?;
                    self.memory()?.point = Some(Point::Rebooted);
                }
                looked => looked?,
            }
        }
        Ok(StageOutcome::Passed)
    }

    fn never_restarts(&self) -> bool {
        self.plan.patch.manifest.reboot == Reboot::Never
    }

    /// Waits for a machine that the patch restarted itself.
    async fn come_back(&mut self, stage: Stage) -> Result<(), Stop> {
        let budget = self.restart_budget();
        let tell = self.teller(stage);
        self.session()?.come_up(budget, tell).await?;
        self.memory()?.restarted_itself = true;
        Ok(())
    }

    /// The same, and what the patch's step that the restart cut short had written down, if it had come to its end.
    async fn come_back_from(&mut self, stage: Stage, finished: Vec<StepReport>) -> Result<Option<Vec<StepReport>>, Stop> {
        self.come_back(stage).await?;
        Ok(self.session()?.reports_of_old(finished).await?)
    }

    fn restart_budget(&mut self) -> Budget {
        let usual = self.session().ok().and_then(|session| session.boot_took);
        Budget::from_usual(usual)
    }

    async fn reboot(&mut self) -> Result<StageOutcome, Stop> {
        if self.memory()?.reboot.is_none() {
            let reason = match self.plan.patch.manifest.reboot {
                Reboot::Never => "the manifest says reboot = \"never\"",
                Reboot::Auto | Reboot::Required => "neither the manifest nor the guest wants one",
            };
            return Ok(StageOutcome::Skipped { reason: reason.to_owned() });
        }
        let budget = self.restart_budget();
        let tell = self.teller(Stage::Reboot);
        self.session()?.reboot(budget, tell).await?;
        self.memory()?.point = Some(Point::Rebooted);
        Ok(StageOutcome::Passed)
    }

    async fn verify(&mut self) -> Result<StageOutcome, Stop> {
        let patch = self.patch();
        let reports = self.engine_job(Stage::Verify, "confirm", patch.confirm.clone()).await?;
        let confirmed = judge::confirm(&patch, &reports);
        // The machine's state may say why a confirmation fails.
        let point = self.memory()?.point.unwrap_or(Point::Applied);
        match self.look_at_health(Stage::Verify, point, false).await {
            Err(Stop::Journal(error)) => return Err(error.into()),
            looked => {
                confirmed?;
                looked?;
            }
        }
        Ok(StageOutcome::Passed)
    }

    async fn suites(&mut self) -> Result<StageOutcome, Stop> {
        let point = self.memory()?.point.unwrap_or(Point::Applied);
        self.run_cases(Stage::Suites, point).await?;
        Ok(StageOutcome::Passed)
    }

    async fn cold_boot(&mut self) -> Result<StageOutcome, Stop> {
        let budget = self.restart_budget();
        let tell = self.teller(Stage::ColdBoot);
        self.session()?.cold_boot(budget, tell).await?;
        self.memory()?.point = Some(Point::ColdBooted);
        self.look_at_health(Stage::ColdBoot, Point::ColdBooted, false).await?;
        self.run_cases(Stage::ColdBoot, Point::ColdBooted).await?;
        Ok(StageOutcome::Passed)
    }

    async fn reapply(&mut self) -> Result<StageOutcome, Stop> {
        let point = self.memory()?.point.unwrap_or(Point::Applied);
        let before = self.take_facts(Stage::Reapply, point).await?;
        let patch = self.patch();
        match self.patch_job(Stage::Reapply, "reapply", patch.reapply.clone()).await? {
            JobEnd::Done(reports) => judge::reapply(&reports)?,
            JobEnd::Restarted(_) if self.never_restarts() => return Err(unasked("applying the patch again").into()),
            JobEnd::Restarted(finished) => {
                if let Some(reports) = self.come_back_from(Stage::Reapply, finished).await? {
                    judge::reapply(&reports)?;
                }
            }
        }
        let after = self.take_facts(Stage::Reapply, Point::Reapplied).await?;
        if let Some((message, detail)) = self.news(&before, &after, Point::Reapplied) {
            let message = format!("applying the patch a second time changed the machine: {message}");
            return Err(Trouble::new(Cause::NotIdempotent, message).with_detail(detail).into());
        }
        Ok(StageOutcome::Passed)
    }

    async fn rollback(&mut self) -> Result<StageOutcome, Stop> {
        let Some(rollback) = self.patch().rollback else {
            let reason = "this patch cannot be taken back from inside; the way back is the image, whose digest was checked before the run";
            return Ok(StageOutcome::Skipped { reason: reason.to_owned() });
        };
        match self.patch_job(Stage::Rollback, "rollback", rollback).await? {
            JobEnd::Done(reports) => judge::rollback(&reports)?,
            JobEnd::Restarted(_) if self.never_restarts() => return Err(unasked("taking the patch back").into()),
            JobEnd::Restarted(finished) => {
                if let Some(reports) = self.come_back_from(Stage::Rollback, finished).await? {
                    judge::rollback(&reports)?;
                }
            }
        }
        let before = self.memory()?.baseline.clone();
        let after = self.take_facts(Stage::Rollback, Point::RolledBack).await?;
        if let Some(before) = before
            && let Some((message, detail)) = self.news(&before, &after, Point::RolledBack)
        {
            let message = format!("taking the patch back left the machine different from before: {message}");
            return Err(Trouble::new(Cause::RollbackFailed, message).with_detail(detail).into());
        }
        Ok(StageOutcome::Passed)
    }

    /// Runs steps of the lab's own that must not restart the machine.
    async fn engine_job(&mut self, stage: Stage, what: &str, steps: Vec<JobStep>) -> Result<Vec<StepReport>, Stop> {
        match self.patch_job(stage, what, steps).await? {
            JobEnd::Done(reports) => Ok(reports),
            JobEnd::Restarted(_) => {
                let message = format!("the machine restarted by itself during {what}");
                Err(Trouble::new(Cause::UnexpectedReboot, message).into())
            }
        }
    }

    async fn patch_job(&mut self, stage: Stage, what: &str, steps: Vec<JobStep>) -> Result<JobEnd, Stop> {
        self.tell(stage, what);
        let steps = steps.into_iter().map(|step| named(step, what)).collect();
        let mut tell = self.teller(stage);
        Ok(self.session()?.run(what, steps, |_| tell(what)).await?)
    }
}

/// The step with its name in the environment, for who reads the guest's process list and for the simulator.
pub(super) fn named(mut step: JobStep, what: &str) -> JobStep {
    step.env.insert("PATCHLAB_STEP".to_owned(), what.to_owned());
    step
}

/// A restart that the manifest rules out.
fn unasked(when: &str) -> Trouble {
    Trouble::new(Cause::UnexpectedReboot, format!("{when} restarted the machine, and the manifest says reboot = \"never\""))
}
