//! The jobs of a simulated guest: steps one after the other, each decided when it starts and ended by the world's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::{Effects, Happening, Machine, State};
use super::scenario::Moment;
use super::step;
use crate::cell::observation::Point;
use crate::guest::{Job, JobState, JobStep, StepEnd, StepReport};

/// All jobs since the boot, by id.
#[derive(Debug, Default)]
pub struct Jobs(BTreeMap<String, Run>);

#[derive(Debug)]
struct Run {
    steps: Vec<JobStep>,
    finished: Vec<StepReport>,
    /// The step that runs, as it will end, and when. `None` once the job has ended.
    current: Option<(StepReport, Duration)>,
    /// Whether somebody looked whether it is ready.
    seen: bool,
}

impl Jobs {
    pub fn any_running(&self) -> bool {
        self.0.values().any(|run| run.current.is_some())
    }

    pub fn state(&self, job: &str) -> JobState {
        match self.0.get(job) {
            None => JobState::Unknown,
            Some(Run { finished, current: None, .. }) => JobState::Ended { steps: finished.clone() },
            Some(Run { finished, .. }) => JobState::Running { at: finished.len(), finished: finished.clone() },
        }
    }

    /// The guest's disk is full: what runs will fail for it.
    pub fn run_out_of_room(&mut self) {
        for run in self.0.values_mut() {
            if let (Some(step), Some((report, ends))) = (run.steps.get(run.finished.len()), run.current.take()) {
                run.current = Some((step::out_of_room(report, step), ends));
            }
        }
    }

    /// Ends the step that runs, and with it the job.
    pub fn interrupt(&mut self, job: &str) {
        if let Some(run) = self.0.get_mut(job)
            && let Some((report, _)) = run.current.take()
        {
            run.finished.push(StepReport { end: StepEnd::Signal(15), ..report });
        }
    }

    /// Whether a background script has said that it is ready: not at the first look, unless it has done its work by then.
    pub fn is_ready(&mut self, job: &str) -> bool {
        let done = |run: &Run| run.current.is_none() && run.finished.iter().all(|report| report.end == StepEnd::Exit(0));
        self.0.get_mut(job).is_some_and(|run| std::mem::replace(&mut run.seen, true) || done(run))
    }

    /// Ends a job and forgets it.
    pub fn kill(&mut self, job: &str) {
        self.0.remove(job);
    }
}

impl Machine {
    /// Starts a job, once. `false` when another one has that id, or the guest is not up.
    pub fn start_job(&mut self, job: &Job, fx: &mut Effects<'_>) -> bool {
        let State::Up { jobs, .. } = &mut self.state else { return false };
        if let Some(known) = jobs.0.get(&job.id) {
            return known.steps == job.steps;
        }
        jobs.0.insert(job.id.clone(), Run { steps: job.steps.clone(), finished: Vec::new(), current: None, seen: false });
        self.begin_step(&job.id, fx);
        true
    }

    /// A step's time is up.
    pub fn end_step(&mut self, job: &str, at: usize, fx: &mut Effects<'_>) {
        let State::Up { jobs, .. } = &mut self.state else { return };
        let Some(run) = jobs.0.get_mut(job).filter(|run| run.finished.len() == at) else { return };
        // A job of the same id may have been ended and begun anew.
        let Some((report, _)) = run.current.take_if(|(_, ends)| *ends <= fx.now) else { return };
        let rolled_back = |step: &&JobStep| report.end == StepEnd::Exit(0) && step::is_engine_step(step, "rollback");
        let took_back = run.steps.get(at).filter(rolled_back).map(|step| step::patch(step).to_owned());
        run.finished.push(report);
        if let Some(patch) = took_back {
            self.record.applied = false;
            self.record.patches.remove(&patch);
            self.record.point = Point::RolledBack;
        }
        self.begin_step(job, fx);
    }

    fn begin_step(&mut self, job: &str, fx: &mut Effects<'_>) {
        let State::Up { jobs, .. } = &self.state else { return };
        let Some(run) = jobs.0.get(job) else { return };
        let at = run.finished.len();
        let Some(step) = run.steps.get(at).cloned() else { return };
        let name = step::name(&step);
        let label = match &name {
            Some(Moment::Step(name) | Moment::Case(name)) => name.as_str(),
            _ => "",
        };
        let before = self.record.ran.get(label).copied().unwrap_or(0);
        let (boot_id, record) = (self.boot_id(fx.scenario), &self.record);
        let touched = match label {
            "apply" if matches!(record.point, Point::Baseline | Point::RolledBack) => Point::Applied,
            "reapply" => Point::Reapplied,
            _ => record.point,
        };
        self.record.point = touched;
        if label == "apply" {
            self.record.patches.insert(step::patch(&step).to_owned());
        }
        let (applied, disk_full) = (self.record.applied, self.record.disk_full);
        let (situation, hardware) = (self.situation(), &self.record.hardware);
        let guest = step::Guest { situation, boot_id: &boot_id, hardware, applied, disk_full, before };
        let report = step::decide(fx.scenario, &guest, &step);
        if matches!(label, "apply" | "reapply") && report.end == StepEnd::Exit(0) {
            self.record.applied = true;
        }
        if !label.is_empty() {
            self.record.ran.insert(label.to_owned(), before.saturating_add(1));
        }
        let takes = report.elapsed;
        let ends = fx.now.saturating_add(takes);
        if let State::Up { jobs, .. } = &mut self.state
            && let Some(run) = jobs.0.get_mut(job)
        {
            run.current = Some((report, ends));
        }
        if name.is_none_or(|name| self.strike(&name, fx)) {
            fx.later(takes, self.epoch, Happening::StepEnds { job: job.to_owned(), at });
        }
    }
}
