//! Suites that others have written: their packages in a fresh clone, and their tests one by one, with the restarts that they ask for.

use std::time::Duration;

use super::jobs::JobEnd;
use super::observing::CASE_OUTPUT;
use super::runner::{CellRunner, Stop};
use crate::catalog::autopkgtest::Test;
use crate::catalog::suite::Case;
use crate::cell::{Cause, Point, Stage, Trouble};
use crate::guest::linux::autopkgtest::{prepare_step, test_step};
use crate::guest::{JobStep, StepEnd, StepReport};
use crate::id::Name;
use crate::journal::Event;
use crate::plan::{PlannedCell, PlannedSuite};
use crate::verdict::results::autopkgtest::{Part, part, read, restless, skipped};
use crate::verdict::results::{CaseResult, ScriptReport};

/// How often a test may have the machine restarted.
const MOST_RESTARTS: u32 = 12;
/// What is left of a test's time after a restart, at the least.
const LEAST: Duration = Duration::from_secs(10);

impl CellRunner {
    /// Makes the clone fit for the tests of others that the pass runs.
    pub(super) async fn prepare_suites(&mut self, stage: Stage) -> Result<(), Stop> {
        let work = self.pass.as_ref().map(|pass| pass.work.cases.clone()).unwrap_or_default();
        let wanted: Vec<_> = to_prepare(&self.cell, &work).cloned().collect();
        for suite in wanted {
            self.tell(stage, &format!("preparing {}", suite.name));
            let packages: Vec<String> = suite.packages.iter().map(|package| package.file.clone()).collect();
            let reports = self.engine_job(stage, 0, "prepare", vec![prepare_step(suite.name.as_str(), &packages)]).await?;
            if let Some(report) = reports.first().filter(|report| report.end != StepEnd::Exit(0)) {
                let output = super::evidence::tail(&report.output, 40, 8192);
                let said = output.lines().last().unwrap_or("it did not end within its time");
                let message = format!("the machine could not be prepared for suite {}: {said}", suite.name);
                return Err(Trouble::new(Cause::ProbeFailed, message).with_detail(output).into());
            }
        }
        Ok(())
    }

    /// Runs one test to its end, over the restarts that it asks for.
    pub(super) async fn run_test(&mut self, stage: Stage, point: Point, suite: &Name, case: &Case, test: &Test) -> Result<Event, Stop> {
        if let Some(reason) = &test.skip {
            return self.seen(suite, &case.name, point, skipped(reason), Duration::ZERO, &[]).await;
        }
        let mut output: Vec<u8> = Vec::new();
        let mut elapsed = Duration::ZERO;
        for restarts in 0..=MOST_RESTARTS {
            let limit = case.time_limit.0.saturating_sub(elapsed).max(LEAST);
            let step = with_names(
                test_step(suite.as_str(), case.name.as_str(), test, case.destructive, restarts > 0, limit),
                suite,
                &case.name,
                point,
            );
            let mut tell = self.teller(stage);
            let place = format!("{suite}/{}", case.name);
            let report = match self.session(0)?.run("suite", vec![step], |_| tell(&place)).await? {
                JobEnd::Done(mut reports) => reports.pop(),
                JobEnd::Restarted(_) => {
                    let (budget, tell) = (self.restart_budget(0), self.teller(stage));
                    self.session(0)?.come_up(budget, tell).await?;
                    continue;
                }
            };
            let Some(mut report) = report else {
                return Err(Trouble::new(Cause::ProbeFailed, format!("{place} gave no result")).into());
            };
            elapsed += report.elapsed;
            output.append(&mut report.output);
            match part(report.result.as_deref()) {
                Part::Reboot(mark) => {
                    output.extend(format!("[the machine is restarted; the mark is {mark}]\n").into_bytes());
                    let (budget, tell) = (self.restart_budget(0), self.teller(stage));
                    self.session(0)?.reboot(budget, tell).await?;
                }
                Part::Unasked => {
                    let message = format!("the machine restarted by itself during case {place}");
                    return Err(Trouble::new(Cause::UnexpectedReboot, message)
                        .with_detail(super::evidence::tail(&output, 20, 4096))
                        .into());
                }
                Part::Ended => {
                    let result = judged(test, &report, &output);
                    return self.seen(suite, &case.name, point, result, elapsed, &output).await;
                }
            }
        }
        let result = restless(test, MOST_RESTARTS, &output);
        self.seen(suite, &case.name, point, result, elapsed, &output).await
    }
}

fn judged(test: &Test, report: &StepReport, output: &[u8]) -> CaseResult {
    let end = report.end.clone().into();
    read(test, &ScriptReport { end: &end, output, truncated: report.truncated, result: report.result.as_deref() })
}

/// The suites of these cases whose tests want the clone prepared before it is patched.
pub(super) fn to_prepare<'a>(cell: &'a PlannedCell, cases: &'a [(Name, Name)]) -> impl Iterator<Item = &'a PlannedSuite> {
    let runs = move |suite: &PlannedSuite| {
        let mut mine = cases.iter().filter(|(other, _)| *other == suite.name).filter_map(|(suite, case)| cell.case(suite, case));
        mine.any(|case| case.autopkgtest.as_ref().is_some_and(|test| test.skip.is_none()))
    };
    cell.suites.iter().map(|suite| &**suite).filter(move |suite| runs(suite))
}

/// The step as a case's, for who reads the guest's process list and for the simulator.
fn with_names(mut step: JobStep, suite: &Name, case: &Name, point: Point) -> JobStep {
    let env = [
        ("PATCHLAB_SUITE_NAME", suite.to_string()),
        ("PATCHLAB_CASE", case.to_string()),
        ("PATCHLAB_PHASE", point.phase().as_str().to_owned()),
        ("PATCHLAB_FORM", "autopkgtest".to_owned()),
    ];
    step.env.extend(env.map(|(key, value)| (key.to_owned(), value)));
    step.output_cap = CASE_OUTPUT;
    step
}
