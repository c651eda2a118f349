//! The stages' effects. What they give goes to the journal as observations; what cuts them short comes back as a [`Stop`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::jobs::JobEnd;
use super::runner::{CellRunner, Stop, no_pass};
use super::session::{Budget, Session};
use crate::catalog::patch::Reboot;
use crate::catalog::suite::Case;
use crate::cell::{CaseObservation, CaseOutcome, Cause, Pass, Phase, Point, Stage, StageOutcome, Trouble};
use crate::guest::linux::apply::{PatchSteps, facts_step, steps};
use crate::guest::linux::judge;
use crate::guest::{JobStep, StepEnd, StepReport};
use crate::id::Name;
use crate::journal::{Event, PassRecord};
use crate::verdict::evidence::is_clean;
use crate::verdict::health::facts::Facts;
use crate::verdict::health::{self, HealthContext, HealthResult};
use crate::verdict::results::{self, ScriptEnd, ScriptReport};

/// Bytes kept of a case's output.
const CASE_OUTPUT: usize = 256 * 1024;

/// What was learnt on the clone under way and is needed later on it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    baseline: Option<Arc<Facts>>,
    /// Why the machine will be restarted; `None` when it will not.
    reboot: Option<String>,
    /// The patch restarted the machine itself.
    restarted_itself: bool,
    /// Why the patch does not fit this build: found before the patch touched anything, told when it is to be applied.
    misfit: Option<Trouble>,
    /// Where in the pass the guest is.
    point: Option<Point>,
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

    fn session(&mut self) -> Result<&mut Session, Stop> {
        self.pass.as_mut().and_then(|pass| pass.session.as_mut()).ok_or_else(|| no_pass().into())
    }

    fn memory(&mut self) -> Result<&mut Memory, Stop> {
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
    fn teller(&self, stage: Stage) -> impl FnMut(&str) + use<> {
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
            JobEnd::Restarted(_) => {
                self.come_back(Stage::Apply).await?;
                if patch.confirm.is_empty() {
                    let message = "applying restarted the machine before it had ended, and the patch brings no `verify` that could tell \
                                   whether it was done";
                    return Err(Trouble::new(Cause::NotEffective, message).into());
                }
            }
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
            self.look_at_health(Stage::Apply, point, true).await?;
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
        judge::confirm(&patch, &reports)?;
        let point = self.memory()?.point.unwrap_or(Point::Applied);
        self.look_at_health(Stage::Verify, point, false).await?;
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
            JobEnd::Restarted(_) => self.come_back(Stage::Reapply).await?,
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
            JobEnd::Restarted(_) => self.come_back(Stage::Rollback).await?,
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

    /// Takes facts and compares them with the baseline's.
    async fn look_at_health(&mut self, stage: Stage, point: Point, reboot_pending: bool) -> Result<(), Stop> {
        let after = self.take_facts(stage, point).await?;
        let Some(before) = self.memory()?.baseline.clone() else { return Ok(()) };
        let results = self.compare(&before, &after, point, reboot_pending);
        self.observe_health(point, results).await
    }

    /// The failures of a comparison that were not there before, as one message and one detail.
    fn news(&self, before: &Facts, after: &Facts, point: Point) -> Option<(String, String)> {
        let known: BTreeMap<_, _> =
            health::baseline(before, &self.health_context(point, false)).into_iter().map(|seen| (seen.check, seen.fingerprint)).collect();
        let failed: Vec<HealthResult> = self
            .compare(before, after, point, false)
            .into_iter()
            .filter(|seen| seen.outcome == CaseOutcome::Fail && known.get(&seen.check) != Some(&seen.fingerprint))
            .collect();
        let messages = failed.iter().map(|seen| format!("{}: {}", seen.check, seen.message)).collect::<Vec<_>>().join("; ");
        let details = failed.iter().map(|seen| seen.detail.as_str()).collect::<Vec<_>>().join("\n");
        (!failed.is_empty()).then_some((messages, details))
    }

    fn compare(&self, before: &Facts, after: &Facts, point: Point, reboot_pending: bool) -> Vec<HealthResult> {
        health::compare(before, after, &self.health_context(point, reboot_pending))
    }

    fn health_context(&self, point: Point, reboot_pending: bool) -> HealthContext {
        HealthContext {
            point,
            reboot_pending,
            patch: self.plan.patch.clone(),
            services: self.cell.services.clone(),
            volatile: self.cell.volatile.clone(),
        }
    }

    async fn observe_health(&mut self, point: Point, results: Vec<HealthResult>) -> Result<(), Stop> {
        let Ok(suite) = health::SUITE.parse::<Name>() else { return Ok(()) };
        for result in results {
            let observation = CaseObservation {
                suite: suite.clone(),
                case: result.check,
                point,
                outcome: result.outcome,
                elapsed_ms: 0,
                message: result.message,
                detail: result.detail,
                fingerprint: result.fingerprint,
                evidence: Vec::new(),
            };
            self.append(Event::CaseObserved { cell: self.cell.id.clone(), observation: Box::new(observation) }).await?;
        }
        Ok(())
    }

    async fn take_facts(&mut self, stage: Stage, point: Point) -> Result<Arc<Facts>, Stop> {
        self.tell(stage, "reading the machine's state");
        let mut step = facts_step();
        step.env.insert("PATCHLAB_SERVICES".to_owned(), self.cell.services.join(" "));
        let packages = self.plan.patch.facts.packages.iter().map(|package| package.name.clone()).collect::<Vec<_>>().join(" ");
        step.env.insert("PATCHLAB_PACKAGES".to_owned(), packages);
        let report = self.session()?.probe("facts", named(step, "facts")).await?;
        let bytes = report.result.as_deref().unwrap_or(&report.output);
        let facts = Facts::parse(bytes).map_err(|reason| {
            let message = format!("the guest's facts cannot be read: {reason}");
            Trouble::new(Cause::ProbeFailed, message)
        })?;
        let mut digests = BTreeMap::new();
        match self.lab.evidence.keep("facts", bytes) {
            Ok(kept) => digests.insert("facts".to_owned(), kept.sha256),
            Err(error) => return Err(disk_trouble(&error).into()),
        };
        self.append(Event::FactsTaken { cell: self.cell.id.clone(), point, facts: digests }).await?;
        Ok(Arc::new(facts))
    }

    /// Runs the pass's cases, one job a suite.
    async fn run_cases(&mut self, stage: Stage, point: Point) -> Result<(), Stop> {
        let work = self.pass.as_ref().map(|pass| pass.work.cases.clone()).unwrap_or_default();
        let cases: Vec<(Name, Case)> =
            work.into_iter().filter_map(|(suite, case)| self.cell.case(&suite, &case).cloned().map(|case| (suite, case))).collect();
        for chunk in cases.chunk_by(|a, b| a.0 == b.0) {
            let job: Vec<JobStep> = chunk.iter().map(|(suite, case)| case_step(suite, case, point)).collect();
            let places: Vec<String> = chunk.iter().map(|(suite, case)| format!("{suite}/{}", case.name)).collect();
            let mut tell = self.teller(stage);
            let told = |at: usize| tell(places.get(at).map_or("", String::as_str));
            let reports = match self.session()?.run("suite", job, told).await? {
                JobEnd::Done(reports) => reports,
                JobEnd::Restarted(done) => {
                    let at = places.get(done.len()).cloned().unwrap_or_default();
                    let message = format!("the machine restarted by itself during case {at}");
                    return Err(Trouble::new(Cause::UnexpectedReboot, message).into());
                }
            };
            for ((suite, case), report) in chunk.iter().zip(reports) {
                self.observe_case(suite, case, point, report).await?;
            }
        }
        Ok(())
    }

    async fn observe_case(&mut self, suite: &Name, case: &Case, point: Point, report: StepReport) -> Result<(), Stop> {
        let end = match report.end {
            StepEnd::Exit(code) => ScriptEnd::Exit(code),
            StepEnd::Signal(signal) => ScriptEnd::Signal(signal),
            StepEnd::TimedOut => ScriptEnd::TimedOut,
            StepEnd::Asked => ScriptEnd::Asked,
            StepEnd::Lacks(command) => ScriptEnd::Lacks(command),
        };
        let script = ScriptReport { end: &end, output: &report.output, truncated: report.truncated, result: report.result.as_deref() };
        let read = results::read(case.result, &script);
        let mut evidence = Vec::new();
        if read.outcome != CaseOutcome::Pass && !report.output.is_empty() {
            evidence.push(self.lab.evidence.keep("output", &report.output).map_err(|error| disk_trouble(&error))?);
        }
        let observation = CaseObservation {
            suite: suite.clone(),
            case: case.name.clone(),
            point,
            outcome: read.outcome,
            elapsed_ms: u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
            message: read.message,
            detail: read.detail,
            fingerprint: read.fingerprint,
            evidence,
        };
        self.append(Event::CaseObserved { cell: self.cell.id.clone(), observation: Box::new(observation) }).await?;
        Ok(())
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
fn named(mut step: JobStep, what: &str) -> JobStep {
    step.env.insert("PATCHLAB_STEP".to_owned(), what.to_owned());
    step
}

fn case_step(suite: &Name, case: &Case, point: Point) -> JobStep {
    let phase = match point.phase() {
        Phase::Baseline => "baseline",
        Phase::Patched => "patched",
    };
    let env = [
        ("PATCHLAB_SUITE", format!("/run/patchlab/media/suites/{suite}")),
        ("PATCHLAB_SUITE_NAME", suite.to_string()),
        ("PATCHLAB_CASE", case.name.to_string()),
        ("PATCHLAB_PHASE", phase.to_owned()),
        ("PATCHLAB_FORM", case.result.as_str().to_owned()),
        ("PATCHLAB_RUN", case.run.clone()),
    ];
    JobStep {
        command: "exec \"$PATCHLAB_SUITE/$PATCHLAB_RUN\"".to_owned(),
        folder: None,
        env: env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        limit: case.time_limit.0,
        output_cap: CASE_OUTPUT,
        terminal: false,
        needs: case.needs.clone(),
    }
}

/// A restart that the manifest rules out.
fn unasked(when: &str) -> Trouble {
    Trouble::new(Cause::UnexpectedReboot, format!("{when} restarted the machine, and the manifest says reboot = \"never\""))
}

fn disk_trouble(error: &std::io::Error) -> Trouble {
    let cause = if error.kind() == std::io::ErrorKind::StorageFull { Cause::HostDiskFull } else { Cause::Hypervisor };
    Trouble::new(cause, format!("could not keep evidence: {error}"))
}
