//! What a stage looks at: the guest's facts against those before, and the suites' cases. All of it becomes observations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::jobs::JobEnd;
use super::runner::{CellRunner, Stop, no_pass};
use super::stages::named;
use crate::catalog::suite::Case;
use crate::cell::{CaseObservation, CaseOutcome, Cause, Pass, Phase, Point, Stage, Trouble};
use crate::guest::linux::apply::facts_step;
use crate::guest::{JobStep, StepEnd};
use crate::id::Name;
use crate::journal::Event;
use crate::verdict::evidence::came_with_cases;
use crate::verdict::health::facts::Facts;
use crate::verdict::health::{self, HealthContext, HealthResult};
use crate::verdict::results::{self, CaseResult, ScriptEnd, ScriptReport};
use crate::verdict::trend;

/// Bytes kept of a case's output.
pub(super) const CASE_OUTPUT: usize = 256 * 1024;

impl CellRunner {
    /// Takes facts and compares them with the baseline's. Gives the facts.
    pub(super) async fn look_at_health(&mut self, stage: Stage, point: Point, reboot_pending: bool) -> Result<Option<Arc<Facts>>, Stop> {
        // A build's health is judged on the build by itself.
        if self.cell.is_environment() {
            return Ok(None);
        }
        let after = self.take_facts(stage, point).await?;
        if let Some(before) = self.memory(0)?.baseline.clone() {
            let results = health::compare(&before, &after, &self.health_context(point, reboot_pending)?);
            self.observe_health(point, results).await?;
        }
        Ok(Some(after))
    }

    /// Looks at what the cases have made of the machine: the facts of the baseline come from behind its cases too.
    pub(super) async fn look_again(&mut self, stage: Stage, point: Point) -> Result<(), Stop> {
        let wanted = match self.pass.as_ref().map(|pass| &pass.pass) {
            Some(Pass::Main) => self.cell.cases().next().is_some(),
            Some(Pass::Confirm { .. }) => came_with_cases(&self.record),
            Some(Pass::Twin { .. }) | None => false,
        };
        if wanted {
            self.memory(0)?.after_cases = self.look_at_health(stage, point, false).await?;
        }
        Ok(())
    }

    /// The failures of a comparison that were not there before, as one message and one detail.
    pub(super) fn news(&self, before: &Facts, after: &Facts, point: Point) -> Result<Option<(String, String)>, Stop> {
        let context = self.health_context(point, false)?;
        let known: BTreeMap<_, _> = health::baseline(before, &context).into_iter().map(|seen| (seen.check, seen.fingerprint)).collect();
        let failed: Vec<HealthResult> = health::compare(before, after, &context)
            .into_iter()
            .filter(|seen| {
                matches!(seen.outcome, CaseOutcome::Fail | CaseOutcome::TimedOut) && known.get(&seen.check) != Some(&seen.fingerprint)
            })
            .collect();
        let messages = failed.iter().map(|seen| format!("{}: {}", seen.check, seen.message)).collect::<Vec<_>>().join("; ");
        let details = failed.iter().map(|seen| seen.detail.as_str()).collect::<Vec<_>>().join("\n");
        Ok((!failed.is_empty()).then_some((messages, details)))
    }

    pub(super) fn health_context(&self, point: Point, reboot_pending: bool) -> Result<HealthContext, Stop> {
        let machine = self.cell.machines.first().ok_or_else(no_pass)?;
        Ok(HealthContext {
            point,
            reboot_pending,
            patches: self.plan.patches_for(machine).map(|(_, patch)| patch.clone()).collect(),
            hardware: machine.hardware.profile.clone(),
            services: machine.services.to_vec(),
            volatile: machine.volatile.to_vec(),
        })
    }

    pub(super) async fn observe_health(&mut self, point: Point, results: Vec<HealthResult>) -> Result<(), Stop> {
        let suite = Name::constant(health::SUITE);
        let observation = |result: HealthResult| CaseObservation {
            suite: suite.clone(),
            case: result.check,
            point,
            outcome: result.outcome,
            elapsed_ms: 0,
            message: result.message,
            detail: result.detail,
            fingerprint: result.fingerprint,
            skipped: Vec::new(),
            notes: if point.phase() == Phase::Patched { result.notes } else { Vec::new() },
            evidence: Vec::new(),
            origin: None,
        };
        let observations = results.into_iter().map(observation).collect();
        Ok(self.append(Event::HealthObserved { cell: self.cell.id.clone(), observations }).await?)
    }

    pub(super) async fn take_facts(&mut self, stage: Stage, point: Point) -> Result<Arc<Facts>, Stop> {
        self.tell(stage, "reading the machine's state");
        let report = self.session(0)?.probe("facts", named(facts_step(), "facts")).await?;
        let bytes = report.result.as_deref().unwrap_or(&report.output);
        let facts = Facts::parse(bytes).map_err(|reason| {
            let message = format!("the guest's facts cannot be read: {reason}");
            Trouble::new(Cause::ProbeFailed, message)
        })?;
        let mut digests = BTreeMap::new();
        match self.lab.evidence.keep_apart("facts", bytes).await {
            Ok(kept) => digests.insert("facts".to_owned(), kept.sha256),
            Err(error) => return Err(disk_trouble(&error).into()),
        };
        let gauges = trend::gauges(&facts);
        self.append(Event::FactsTaken { cell: self.cell.id.clone(), point, facts: digests, gauges }).await?;
        Ok(Arc::new(facts))
    }

    /// Runs the pass's cases, one job a suite; tests that others have written have one each.
    pub(super) async fn run_cases(&mut self, stage: Stage, point: Point) -> Result<(), Stop> {
        let work = self.pass.as_ref().map(|pass| pass.work.cases.clone()).unwrap_or_default();
        let cases: Vec<(Name, Case)> = work
            .into_iter()
            .filter(|(suite, case)| !self.has_baseline(suite, case, point))
            .filter_map(|(suite, case)| self.cell.case(&suite, &case).cloned().map(|case| (suite, case)))
            .collect();
        if self.cell.is_environment() {
            return self.play_cases(stage, point, &cases).await;
        }
        for chunk in cases.chunk_by(|a, b| a.0 == b.0) {
            if chunk.iter().any(|(_, case)| case.autopkgtest.is_some()) {
                for (suite, case) in chunk {
                    if let Some(test) = &case.autopkgtest {
                        let seen = self.run_test(stage, point, suite, case, test).await?;
                        self.append(seen).await?;
                    }
                }
                continue;
            }
            let job: Vec<JobStep> = chunk.iter().map(|(suite, case)| case_step(suite, case, point)).collect();
            let places: Vec<String> = chunk.iter().map(|(suite, case)| format!("{suite}/{}", case.name)).collect();
            let mut tell = self.teller(stage);
            let told = |at: usize| tell(places.get(at).map_or("", String::as_str));
            let reports = match self.session(0)?.run("suite", job, told).await? {
                JobEnd::Done(reports) => reports,
                JobEnd::Restarted(done) => {
                    let at = places.get(done.len()).cloned().unwrap_or_default();
                    let message = format!("the machine restarted by itself during case {at}");
                    return Err(Trouble::new(Cause::UnexpectedReboot, message).into());
                }
            };
            let mut seen = Vec::with_capacity(reports.len());
            for ((suite, case), report) in chunk.iter().zip(reports) {
                let end = report.end.into();
                let script =
                    ScriptReport { end: &end, output: &report.output, truncated: report.truncated, result: report.result.as_deref() };
                let read = results::read(case.result, &script);
                seen.push(self.seen(suite, &case.name, point, read, report.elapsed, &report.output).await?);
            }
            self.append_all(seen).await?;
        }
        Ok(())
    }

    /// What a case gave, its output kept where it did not pass.
    pub(super) async fn seen(
        &self,
        suite: &Name,
        case: &Name,
        point: Point,
        read: CaseResult,
        elapsed: Duration,
        output: &[u8],
    ) -> Result<Event, Stop> {
        let mut evidence = Vec::new();
        if read.outcome != CaseOutcome::Pass && !output.is_empty() {
            evidence.push(self.lab.evidence.keep_apart("output", output).await.map_err(|error| disk_trouble(&error))?);
        }
        let observation = CaseObservation {
            suite: suite.clone(),
            case: case.clone(),
            point,
            outcome: read.outcome,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            message: read.message,
            detail: read.detail,
            fingerprint: read.fingerprint,
            skipped: read.skipped,
            notes: Vec::new(),
            evidence,
            origin: None,
        };
        Ok(Event::CaseObserved { cell: self.cell.id.clone(), observation: Box::new(observation) })
    }
}

impl From<StepEnd> for ScriptEnd {
    fn from(end: StepEnd) -> Self {
        match end {
            StepEnd::Exit(code) => Self::Exit(code),
            StepEnd::Signal(signal) => Self::Signal(signal),
            StepEnd::TimedOut => Self::TimedOut,
            StepEnd::Asked => Self::Asked,
            StepEnd::Lacks(command) => Self::Lacks(command),
        }
    }
}

fn case_step(suite: &Name, case: &Case, point: Point) -> JobStep {
    let mut step = script_step(suite, &case.name, case.run.as_deref().unwrap_or_default(), point);
    step.env.insert("PATCHLAB_FORM".to_owned(), case.result.as_str().to_owned());
    JobStep { limit: case.time_limit.0, needs: case.needs.clone(), ..step }
}

/// A script of a suite as a step of a job.
pub(super) fn script_step(suite: &Name, case: &Name, script: &str, point: Point) -> JobStep {
    let phase = match point.phase() {
        Phase::Baseline => "baseline",
        Phase::Patched => "patched",
    };
    let env = [
        ("PATCHLAB_SUITE", format!("/run/patchlab/media/suites/{suite}")),
        ("PATCHLAB_SUITE_NAME", suite.to_string()),
        ("PATCHLAB_CASE", case.to_string()),
        ("PATCHLAB_PHASE", phase.to_owned()),
        ("PATCHLAB_RUN", script.to_owned()),
    ];
    JobStep {
        command: "exec \"$PATCHLAB_SUITE/$PATCHLAB_RUN\"".to_owned(),
        folder: None,
        env: env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        limit: Duration::ZERO,
        output_cap: CASE_OUTPUT,
        terminal: false,
        needs: Vec::new(),
    }
}

pub(super) fn disk_trouble(error: &std::io::Error) -> Trouble {
    let cause = if error.kind() == std::io::ErrorKind::StorageFull { Cause::HostDiskFull } else { Cause::Hypervisor };
    Trouble::new(cause, format!("could not keep evidence: {error}"))
}
