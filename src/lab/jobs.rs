//! Running jobs in a guest that may restart, lose its agent or never answer.

use std::time::Duration;

use tokio::time::Instant;

use super::session::{AGENT_PATIENCE, Session, guest_trouble};
use super::stages::named;
use crate::cell::{Cause, Trouble};
use crate::guest::linux::apply::facts_step;
use crate::guest::linux::exit_file;
use crate::guest::{GuestError, Job, JobState, JobStep, StepEnd, StepReport};

/// The first and the longest pause between two polls of a job: most of the lab's own are short, and a poll costs the guest work.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));
/// On top of the steps' own limits.
const SLACK: Duration = Duration::from_secs(120);

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Done(Vec<StepReport>),
    /// The machine restarted in the middle; what had been finished until then.
    Restarted(Vec<StepReport>),
}

impl Session {
    /// Runs a job and waits for its end. `tell` hears the number of the step at work.
    ///
    /// # Errors
    /// When the machine or its agent is lost, or the job outlives the limits of its steps.
    pub async fn run(&mut self, what: &str, steps: Vec<JobStep>, mut tell: impl FnMut(usize)) -> Result<JobEnd, Trouble> {
        if steps.is_empty() {
            return Ok(JobEnd::Done(Vec::new()));
        }
        let limit = steps.iter().map(|step| step.limit).sum::<Duration>() + SLACK;
        let job = Job { id: self.job_id(what), steps };
        let guest = self.guest.clone();
        let began = Instant::now();
        match self.patiently(|| guest.start(&job)).await {
            Err(trouble) if trouble.cause == Cause::UnexpectedReboot => return Ok(JobEnd::Restarted(Vec::new())),
            started => started?,
        }
        let started = Instant::now();
        let mut last_answer = started;
        let mut finished = Vec::new();
        let mut pause = POLL.0;
        loop {
            let look = self.look().await?;
            if look.stopped {
                return Err(Trouble::new(Cause::PoweredOff, format!("the machine switched itself off during {what}")));
            }
            if look.restarts > 0 {
                return Ok(JobEnd::Restarted(finished));
            }
            match self.guest.poll(&job.id).await {
                Ok(JobState::Ended { steps }) if steps.len() == job.steps.len() => {
                    let inside: Duration = steps.iter().map(|step| step.elapsed).sum();
                    tracing::debug!(machine = self.machine, job = job.id, took = ?began.elapsed(), ?inside, "job ended");
                    return Ok(JobEnd::Done(steps));
                }
                Ok(JobState::Ended { steps }) => {
                    let message = format!("the guest's job runner ended {what} after {} of {} steps", steps.len(), job.steps.len());
                    return Err(Trouble::new(Cause::ProbeFailed, message));
                }
                Ok(JobState::Running { at, finished: so_far }) => {
                    tell(at);
                    finished = so_far;
                    last_answer = Instant::now();
                }
                // Gone: with the boot that it ran in, or removed by what it ran.
                Ok(JobState::Unknown) => {
                    match self.patiently(|| guest.boot_id()).await {
                        Ok(boot) if boot == self.boot_id => {}
                        Ok(_) => return Ok(JobEnd::Restarted(finished)),
                        Err(trouble) if trouble.cause == Cause::UnexpectedReboot => return Ok(JobEnd::Restarted(finished)),
                        Err(trouble) => return Err(trouble),
                    }
                    return Err(Trouble::new(Cause::ProbeFailed, format!("the guest's job runner was removed during {what}")));
                }
                Err(GuestError::Unresponsive { found, .. }) if last_answer.elapsed() > AGENT_PATIENCE => {
                    let message = format!("the guest agent stopped answering during {what} while the machine ran on ({found})");
                    return Err(Trouble::new(Cause::AgentLost, message));
                }
                Err(GuestError::Unresponsive { .. }) => {}
                Err(GuestError::NotRunning { .. }) => {
                    // The stop's own event, if it comes, tells more than this.
                    tokio::time::sleep(POLL.1).await;
                    self.look().await?;
                    return Err(Trouble::new(Cause::PoweredOff, format!("the machine switched itself off during {what}")));
                }
                Err(other) => return Err(guest_trouble(other)),
            }
            if started.elapsed() > limit {
                // It is given up whether or not the guest manages to end it.
                let _ = self.guest.kill(&job.id).await;
                let message = format!("{what} had not ended after {} s, beyond the limits of its steps", started.elapsed().as_secs());
                return Err(Trouble::new(Cause::ProbeFailed, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 4 / 3).min(POLL.1);
        }
    }

    /// The reports of a job of one step on a terminal, after a restart cut it short: the step may have exited and written that down.
    ///
    /// # Errors
    /// When the machine is lost.
    pub async fn reports_of_old(&mut self, finished: Vec<StepReport>) -> Result<Option<Vec<StepReport>>, Trouble> {
        if !finished.is_empty() {
            return Ok(Some(finished));
        }
        let (guest, path) = (self.guest.clone(), exit_file(&self.job, 0));
        let written = self
            .patiently(|| async {
                match guest.read(&path, 16).await {
                    Ok((bytes, _)) => Ok(Some(bytes)),
                    Err(GuestError::Refused { .. }) => Ok(None),
                    Err(lost) => Err(lost),
                }
            })
            .await?;
        let code = written.and_then(|bytes| String::from_utf8_lossy(&bytes).trim().parse::<u8>().ok());
        Ok(code.map(|code| {
            let output = b"(what it said was lost with the restart)".to_vec();
            vec![StepReport { end: StepEnd::Exit(code.into()), elapsed: Duration::ZERO, output, truncated: true, result: None }]
        }))
    }

    /// Has a machine that is to be a template do what every clone of it will do first, so that they find programs and files in memory. It
    /// makes the template a third larger.
    ///
    /// # Errors
    /// When the machine is lost. A step that fails costs speed alone.
    pub async fn rehearse(&mut self) -> Result<(), Trouble> {
        const WHAT: &str = "rehearsal";
        match self.run(WHAT, vec![named(facts_step(), WHAT)], |_| {}).await {
            Ok(_) => {}
            Err(trouble) if trouble.cause == Cause::ProbeFailed => tracing::debug!(machine = self.machine, %trouble.message, "rehearsal"),
            Err(trouble) => return Err(trouble),
        }
        let (guest, job) = (self.guest.clone(), self.job.clone());
        self.patiently(|| guest.kill(&job)).await
    }

    /// Runs one step that the lab relies on.
    ///
    /// # Errors
    /// As [`Session::run`]; also when the machine restarted or the step did not exit with 0.
    pub async fn probe(&mut self, what: &str, step: JobStep) -> Result<StepReport, Trouble> {
        match self.run(what, vec![step], |_| {}).await? {
            JobEnd::Done(mut steps) => match steps.pop() {
                Some(report) if report.end == StepEnd::Exit(0) => Ok(report),
                Some(report) => {
                    let text = super::evidence::tail(&report.output, 20, 4096);
                    Err(Trouble::new(Cause::ProbeFailed, format!("{what}: expected exit code 0, found {:?}", report.end)).with_detail(text))
                }
                None => Err(Trouble::new(Cause::ProbeFailed, format!("{what} gave no result"))),
            },
            JobEnd::Restarted(_) => Err(Trouble::new(Cause::UnexpectedReboot, format!("the machine restarted by itself during {what}"))),
        }
    }
}
