//! The guest over the QEMU guest agent: no network, so a patch that breaks networking is still seen.
//!
//! A job is started with one command and then runs without the agent. A look at it costs one file read in the guest; what was
//! read once is kept here and not read again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::channel::{Channel, PATIENT, QUICK, failed};
use super::linux::log::{JobLog, LOG_CAP, Runner};
use super::linux::{Family, RUNNER_ROOT, family, is_job_name, job_script, renew};
use super::{Guest, GuestError, Guests, Job, JobState, Renewal, Renewed};
use crate::catalog::image::Os;
use crate::cell::identity::Identity;
use crate::hypervisor::Hypervisor;

mod channel;
#[cfg(test)]
mod tests;

/// How long a runner that was seen at work is taken to be: a look at it costs as much as one at its job.
const ALIVE: Duration = Duration::from_secs(3);

/// How long a clone may take to become a machine of its own. Making SSH host keys takes an emulated one many seconds.
const RENEWAL: Duration = Duration::from_secs(120);

/// Gives guests that are spoken to through a hypervisor's agent channel.
pub struct AgentGuests {
    pub hypervisor: Arc<dyn Hypervisor>,
}

impl Guests for AgentGuests {
    fn connect(&self, machine: &str, os: Os) -> Arc<dyn Guest> {
        Arc::new(AgentGuest::new(self.hypervisor.clone(), machine, os))
    }
}

/// One machine's guest.
pub struct AgentGuest {
    channel: Channel,
    family: &'static Family,
    /// The jobs of this boot, as far as their logs were read.
    jobs: Mutex<HashMap<String, Followed>>,
}

#[derive(Default)]
struct Followed {
    log: JobLog,
    /// When the job's runner was last seen at work.
    alive: Option<Instant>,
}

impl AgentGuest {
    pub fn new(hypervisor: Arc<dyn Hypervisor>, machine: &str, os: Os) -> Self {
        Self { channel: Channel::new(hypervisor, machine), family: family(os), jobs: Mutex::default() }
    }

    /// Runs a script of the family's in the guest. Other exit codes than 0 are failures.
    async fn script(&self, tried: &str, script: &str, input: Option<&[u8]>) -> Result<(), GuestError> {
        let arguments = [self.family.shell, "-c", script, "sh", RUNNER_ROOT];
        let ended = self.channel.run(tried, &arguments, input, PATIENT).await?;
        succeeded(tried, &ended)
    }

    /// Runs the script that says who the guest is.
    async fn renewal(&self, tried: &str, arguments: &[String], input: Option<&[u8]>) -> Result<channel::Ended, GuestError> {
        let words = [self.family.shell, "-c", renew::SCRIPT, "sh"].into_iter().chain(arguments.iter().map(String::as_str));
        let ended = self.channel.run(tried, &words.collect::<Vec<_>>(), input, RENEWAL).await?;
        succeeded(tried, &ended).map(|()| ended)
    }

    async fn runner(&self, tried: &str, arguments: &[&str], input: Option<&[u8]>) -> Result<(), GuestError> {
        let runner = format!("{RUNNER_ROOT}/runner.sh");
        let arguments: Vec<&str> = [self.family.shell, &runner].into_iter().chain(arguments.iter().copied()).collect();
        let ended = self.channel.run(tried, &arguments, input, PATIENT).await?;
        succeeded(tried, &ended)
    }

    /// Starts a script that ends the agent's session: once the guest took it, the answer to how it ended may be lost.
    async fn farewell(&self, tried: &str, script: &str) -> Result<(), GuestError> {
        let pid = self.channel.launch(tried, &[self.family.shell, "-c", script], None).await?;
        match self.channel.ended(tried, pid, PATIENT).await {
            Ok(ended) => succeeded(tried, &ended),
            Err(GuestError::Unresponsive { .. } | GuestError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn whole(&self, tried: &str, path: &str, cap: usize) -> Result<(Vec<u8>, bool), GuestError> {
        let read = self.channel.read(tried, path, 0, cap).await?;
        read.ok_or_else(|| refused(tried, format!("there is no file {path} that can be opened")))
    }

    /// Whether the runner still is the process that the log named.
    async fn lives(&self, tried: &str, runner: Runner) -> Result<bool, GuestError> {
        match self.channel.read(tried, &format!("/proc/{}/stat", runner.pid), 0, 4096).await {
            Ok(stat) => Ok(stat.and_then(|(bytes, _)| start_time(&bytes)) == Some(runner.started)),
            // It ended between the opening and the reading.
            Err(GuestError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Guest for AgentGuest {
    async fn ping(&self) -> Result<(), GuestError> {
        self.channel.command("ping the guest", "guest-ping", Value::Null, Duration::from_secs(2)).await.map(drop)
    }

    async fn boot_id(&self) -> Result<String, GuestError> {
        let tried = "read the boot id";
        let (bytes, _) = self.whole(tried, self.family.boot_id, 64).await?;
        let id = String::from_utf8_lossy(&bytes).trim().to_owned();
        if id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            Ok(id)
        } else {
            Err(failed(tried, format!("{id:?} is no boot id")))
        }
    }

    async fn is_settled(&self) -> Result<bool, GuestError> {
        let tried = "ask whether the services have started";
        let ended = self.channel.run(tried, &[self.family.shell, "-c", self.family.settled], None, PATIENT).await?;
        match ended.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => succeeded(tried, &ended).map(|()| true),
        }
    }

    async fn identity(&self) -> Result<Identity, GuestError> {
        let ended = self.renewal("ask who the guest is", &["look".to_owned()], None).await?;
        renew::said(&ended.output).map(|said| said.identity).map_err(|found| failed("ask who the guest is", found))
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, GuestError> {
        let tried = "make the clone a machine of its own";
        let ended = self.renewal(tried, &renew::arguments(renewal), Some(&renewal.seed)).await?;
        let renew::Said { mut identity, boot_id, settled } = renew::said(&ended.output).map_err(|found| failed(tried, found))?;
        let asked = Timestamp::now();
        let answer = self.channel.command(tried, "guest-get-time", Value::Null, QUICK).await?;
        let took = Timestamp::now().duration_since(asked);
        let clock = answer.as_i64().ok_or_else(|| failed(tried, format!("guest-get-time gave {answer}")))?;
        let host = i64::try_from((asked.as_nanosecond() + took.as_nanos() / 2) / 1_000_000).unwrap_or(i64::MAX);
        identity.clock_ahead_ms = (clock / 1_000_000).saturating_sub(host);
        Ok(Renewed { identity, boot_id, settled })
    }

    async fn install(&self) -> Result<(), GuestError> {
        self.script("put the job runner in place", self.family.install, Some(self.family.runner.as_bytes())).await
    }

    async fn prepare(&self) -> Result<(), GuestError> {
        let script = format!("{} && /bin/sh \"$1/runner.sh\" media", self.family.install.trim_end());
        self.script("prepare the guest for jobs", &script, Some(self.family.runner.as_bytes())).await
    }

    async fn start(&self, job: &Job) -> Result<(), GuestError> {
        let tried = format!("start the job {}", job.id);
        let script = job_script(job).map_err(|found| failed(&tried, found))?;
        let mut jobs = self.jobs.lock().await;
        // What was read to its end need not stay in the guest's memory.
        let read: Vec<String> =
            jobs.iter().filter(|(id, followed)| followed.log.is_done() && **id != job.id).map(|(id, _)| id.clone()).collect();
        let arguments: Vec<&str> = ["start", &job.id].into_iter().chain(read.iter().map(String::as_str)).collect();
        self.runner(&tried, &arguments, Some(script.as_bytes())).await?;
        jobs.retain(|id, _| !read.contains(id));
        jobs.insert(job.id.clone(), Followed { log: JobLog::new(job.steps.len()), alive: None });
        Ok(())
    }

    async fn poll(&self, job: &str) -> Result<JobState, GuestError> {
        let tried = format!("look at the job {job}");
        if !is_job_name(job) {
            return Err(failed(&tried, "that is no job's name"));
        }
        let mut jobs = self.jobs.lock().await;
        let Followed { log, alive } = jobs.entry(job.to_owned()).or_default();
        if log.is_done() {
            return Ok(log.state());
        }
        let path = format!("{RUNNER_ROOT}/jobs/{job}/log");
        let mut gone = false;
        // A second look, when the runner is gone after the first, finds what it wrote between the two.
        loop {
            let bytes = match self.channel.read(&tried, &path, log.offset, LOG_CAP).await? {
                Some((bytes, false)) => bytes,
                Some((_, true)) => return Err(failed(&tried, format!("its log is longer than {LOG_CAP} bytes"))),
                None => {
                    gone = true;
                    Vec::new()
                }
            };
            log.feed(&bytes).map_err(|found| failed(&tried, found))?;
            if log.is_done() {
                return Ok(log.state());
            }
            if gone {
                jobs.remove(job);
                return Ok(JobState::Unknown);
            }
            match log.runner {
                Some(runner) if alive.is_none_or(|seen| seen.elapsed() >= ALIVE) => {
                    if self.lives(&tried, runner).await? {
                        *alive = Some(Instant::now());
                        return Ok(log.state());
                    }
                    gone = true;
                }
                _ => return Ok(log.state()),
            }
        }
    }

    async fn interrupt(&self, job: &str) -> Result<(), GuestError> {
        let tried = format!("interrupt the job {job}");
        if !is_job_name(job) {
            return Err(failed(&tried, "that is no job's name"));
        }
        self.runner(&tried, &["interrupt", job], None).await
    }

    async fn kill(&self, job: &str) -> Result<(), GuestError> {
        let tried = format!("end the job {job}");
        if !is_job_name(job) {
            return Err(failed(&tried, "that is no job's name"));
        }
        self.runner(&tried, &["kill", job], None).await?;
        self.jobs.lock().await.remove(job);
        Ok(())
    }

    async fn read(&self, path: &str, cap: usize) -> Result<(Vec<u8>, bool), GuestError> {
        self.whole(&format!("read {path}"), path, cap).await
    }

    async fn reboot(&self) -> Result<(), GuestError> {
        self.farewell("ask for a restart", self.family.reboot).await
    }

    async fn shutdown(&self) -> Result<(), GuestError> {
        self.farewell("ask to be switched off", self.family.poweroff).await
    }
}

fn succeeded(tried: &str, ended: &channel::Ended) -> Result<(), GuestError> {
    match ended.code {
        Some(0) => Ok(()),
        Some(code) => Err(refused(tried, format!("exit code {code}: {}", ended.printed()))),
        None => Err(refused(tried, format!("ended by a signal: {}", ended.printed()))),
    }
}

fn refused(tried: &str, found: String) -> GuestError {
    GuestError::Refused { tried: tried.to_owned(), found }
}

/// The start time in a `/proc/PID/stat` (proc(5), field 22) whose process still runs.
fn start_time(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}
