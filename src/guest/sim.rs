//! The guests of a simulated world. See [`crate::hypervisor::sim`] for what they do by themselves and what a scenario makes of them.
//!
//! Invariant: every call takes some of the world's time, an unanswered one about a second, so that polling never stops the clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Guest, GuestError, Guests, Job, JobState, Renewal, Renewed};
use crate::catalog::image::Os;
use crate::cell::identity::Identity;
use crate::hypervisor::sim::{Agent, Effects, Machine, State, World, connected, no_machine};

/// How long a call waits for an agent that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The guests of one world.
pub struct SimGuests {
    world: Arc<World>,
}

impl SimGuests {
    pub fn new(world: Arc<World>) -> Self {
        Self { world }
    }
}

impl Guests for SimGuests {
    fn connect(&self, machine: &str, _os: Os) -> Arc<dyn Guest> {
        Arc::new(SimGuest { world: self.world.clone(), machine: machine.to_owned() })
    }
}

struct SimGuest {
    world: Arc<World>,
    machine: String,
}

impl SimGuest {
    /// One call to the agent.
    async fn call<T>(
        &self,
        tried: &str,
        act: impl FnOnce(&mut Machine, &mut Effects<'_>) -> Result<T, GuestError>,
    ) -> Result<T, GuestError> {
        let takes = self.world.scenario().pace.call.0;
        let done = self
            .world
            .operate(takes, |core, now| {
                connected(core, now, tried)?;
                let answered = core.machine(&self.machine, now, |machine, fx| {
                    answers(machine, tried)?;
                    act(machine, fx)
                });
                answered.unwrap_or_else(|| Err(no_machine(tried, "there is no such machine").into()))
            })
            .await;
        if matches!(done, Err(GuestError::Unresponsive { .. })) {
            self.world.pass(PATIENCE).await;
        }
        done
    }
}

#[async_trait]
impl Guest for SimGuest {
    async fn ping(&self) -> Result<(), GuestError> {
        self.call("ping", |_, _| Ok(())).await
    }

    async fn boot_id(&self) -> Result<String, GuestError> {
        self.call("read the boot id", |machine, fx| Ok(machine.boot_id(fx.scenario))).await
    }

    async fn is_settled(&self) -> Result<bool, GuestError> {
        self.call("ask whether it has settled", |machine, _| Ok(matches!(machine.state, State::Up { settled: true, .. }))).await
    }

    async fn identity(&self) -> Result<Identity, GuestError> {
        self.call("ask who it is", |machine, fx| Ok(machine.identity(fx.scenario, false))).await
    }

    async fn renew(&self, _renewal: &Renewal) -> Result<Renewed, GuestError> {
        self.call("become a machine of its own", |machine, fx| {
            let (identity, boot_id) = (machine.identity(fx.scenario, true), machine.boot_id(fx.scenario));
            let settled = match &mut machine.state {
                State::Up { prepared, settled, .. } => {
                    *prepared = true;
                    *settled
                }
                State::Off | State::Booting { .. } | State::Hung { .. } => false,
            };
            Ok(Renewed { identity, boot_id, settled })
        })
        .await
    }

    async fn install(&self) -> Result<(), GuestError> {
        self.call("put the job runner in place", |_, _| Ok(())).await
    }

    async fn prepare(&self) -> Result<(), GuestError> {
        self.call("prepare", |machine, _| {
            if let State::Up { prepared, .. } = &mut machine.state {
                *prepared = true;
            }
            Ok(())
        })
        .await
    }

    async fn start(&self, job: &Job) -> Result<(), GuestError> {
        self.call("start a job", |machine, fx| {
            if !matches!(machine.state, State::Up { prepared: true, .. }) {
                return Err(refused("start a job", "the job runner is not there: the guest was not prepared since it booted"));
            }
            if machine.start_job(job, fx) {
                Ok(())
            } else {
                Err(refused("start a job", &format!("there is another job {} already", job.id)))
            }
        })
        .await
    }

    async fn poll(&self, job: &str) -> Result<JobState, GuestError> {
        self.call("ask for a job", |machine, _| match &machine.state {
            State::Up { jobs, .. } => Ok(jobs.state(job)),
            State::Off | State::Booting { .. } | State::Hung { .. } => Ok(JobState::Unknown),
        })
        .await
    }

    async fn interrupt(&self, job: &str) -> Result<(), GuestError> {
        self.call("interrupt a job", |machine, _| {
            if let State::Up { jobs, .. } = &mut machine.state {
                jobs.interrupt(job);
            }
            Ok(())
        })
        .await
    }

    async fn kill(&self, job: &str) -> Result<(), GuestError> {
        self.call("end a job", |machine, _| {
            if let State::Up { jobs, .. } = &mut machine.state {
                jobs.kill(job);
            }
            Ok(())
        })
        .await
    }

    async fn read(&self, path: &str, cap: usize) -> Result<(Vec<u8>, bool), GuestError> {
        self.call("read a file", |machine, fx| {
            let job = path.strip_prefix("/run/patchlab/tmp/").and_then(|file| file.strip_suffix("-ready"));
            if let (Some(job), State::Up { jobs, .. }) = (job, &mut machine.state)
                && jobs.is_ready(job)
            {
                return Ok((Vec::new(), false));
            }
            let text = match (fx.scenario.files.get(path), path) {
                (Some(text), _) => text.clone(),
                (None, "/etc/hostname") => "sim\n".to_owned(),
                (None, "/etc/os-release") => "ID=debian\nVERSION_ID=\"12\"\n".to_owned(),
                // The machines of a world have been up since it was opened.
                (None, "/proc/uptime") => format!("{:.2} 0.00\n", fx.now.as_secs_f64()),
                (None, "/proc/sys/kernel/random/boot_id") => machine.boot_id(fx.scenario) + "\n",
                (None, _) => return Err(refused("read a file", &format!("{path}: No such file or directory"))),
            };
            Ok((text.bytes().take(cap).collect(), text.len() > cap))
        })
        .await
    }

    async fn reboot(&self) -> Result<(), GuestError> {
        self.call("restart the guest", |machine, fx| {
            machine.go_down(true, fx);
            Ok(())
        })
        .await
    }

    async fn shutdown(&self) -> Result<(), GuestError> {
        self.call("switch the guest off", |machine, fx| {
            machine.go_down(false, fx);
            Ok(())
        })
        .await
    }
}

/// Whether the machine's agent gives a sensible answer.
fn answers(machine: &Machine, tried: &str) -> Result<(), GuestError> {
    let tried = tried.to_owned();
    let unresponsive = |found: &str| GuestError::Unresponsive { tried: tried.clone(), found: found.to_owned() };
    match &machine.state {
        State::Off => Err(GuestError::NotRunning { tried, found: "it is off".to_owned() }),
        State::Booting { .. } => Err(unresponsive("no agent is connected")),
        State::Hung { .. } => Err(unresponsive("no answer in time")),
        State::Up { mood, .. } => match mood.agent {
            Agent::Well => Ok(()),
            Agent::Lost { .. } => Err(unresponsive("no agent is connected")),
            Agent::Nonsense { .. } => Err(failed(&tried, "expected JSON, found \"\\u{fffd}\\u{fffd}{\\\"retur\"")),
        },
    }
}

fn failed(tried: &str, found: &str) -> GuestError {
    GuestError::Failed { tried: tried.to_owned(), found: found.to_owned() }
}

fn refused(tried: &str, found: &str) -> GuestError {
    GuestError::Refused { tried: tried.to_owned(), found: found.to_owned() }
}
