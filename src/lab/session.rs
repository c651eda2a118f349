//! One machine under watch: bringing it up, running jobs in it, and noticing at once what happens to it.
//!
//! ```text
//! off --start--> booting --agent answers, services settled--> up --reboot--> booting ...
//!                   |                                          |
//!                   +---- panic, loop, power-off, silence -----+--> Trouble
//! ```
//! Invariants: every wait ends, by an event, by success or by its budget; budgets are multiples of what this machine needed before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio::time::{Instant, timeout_at};

use super::Lab;
use super::evidence::tail;
use crate::catalog::image::Os;
use crate::cell::boot::{BootWatch, DeadEnd};
use crate::cell::console;
use crate::cell::identity::Identity;
use crate::cell::{BootPhase, Cause, Trouble};
use crate::guest::{Guest, GuestError, Renewal};
use crate::hypervisor::{HypervisorError, HypervisorErrorKind, MachineEvent, MachineEventKind, Vitals};

/// Processor time in nanoseconds between two looks that counts as work.
const BUSY: u64 = 50_000_000;
/// How long the event of a stop may come after the stop itself.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// How long an agent may be silent before it is called lost: a restart of its service takes seconds, on a busy host many.
pub const AGENT_PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a machine, unless an event comes first.
const LOOK: Duration = Duration::from_millis(400);
/// Between two tries to reach a guest that was just thawed.
const WAKING: Duration = Duration::from_millis(20);
/// How often a machine may start over before it is called a loop.
const LOOP: u32 = 3;
/// After a prompt that waits for a person was seen.
const PROMPT_PATIENCE: Duration = Duration::from_secs(20);

/// How long a boot may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In all.
    pub total: Duration,
    /// Without a sign of work on console or disk.
    pub quiet: Duration,
}

impl Budget {
    /// From what such a boot usually takes: ample, because a wrong finding costs more than a long wait.
    pub fn from_usual(usual: Option<Duration>) -> Self {
        match usual {
            Some(usual) => Self { total: (usual * 8).max(Duration::from_secs(240)), quiet: (usual * 3).max(Duration::from_secs(90)) },
            None => Self { total: Duration::from_secs(900), quiet: Duration::from_secs(240) },
        }
    }
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub restarts: u32,
    pub stopped: bool,
    pub progress: bool,
}

/// A machine under watch.
pub struct Session {
    lab: Lab,
    pub machine: String,
    pub guest: Arc<dyn Guest>,
    events: broadcast::Receiver<MachineEvent>,
    boot: BootWatch,
    console_at: u64,
    /// Where on the console that began which the lab asked for last.
    since: u64,
    vitals: Vitals,
    /// The job that was started last.
    pub job: String,
    /// Of the boot that is up.
    pub boot_id: String,
    /// What the slowest boot so far took.
    pub boot_took: Option<Duration>,
    /// How often it started over before it came up last.
    pub unasked: u32,
    /// Counts jobs, so that each has its own name.
    jobs: u32,
}

impl Session {
    pub fn new(lab: &Lab, machine: &str, os: Os) -> Self {
        Self {
            lab: lab.clone(),
            machine: machine.to_owned(),
            guest: lab.guests.connect(machine, os),
            events: lab.hypervisor.events_of(machine),
            boot: BootWatch::new(),
            console_at: 0,
            since: 0,
            vitals: Vitals::default(),
            job: String::new(),
            boot_id: String::new(),
            boot_took: None,
            unasked: 0,
            jobs: 0,
        }
    }

    /// A name for a job that begins now.
    pub fn job_id(&mut self, what: &str) -> String {
        self.since = self.console_at;
        self.jobs += 1;
        self.job = format!("{what}-{}", self.jobs);
        self.job.clone()
    }

    /// Waits a moment, or less when something happens to the machine.
    async fn pause(&mut self, look: &mut Look) -> Result<(), Trouble> {
        let until = Instant::now() + LOOK;
        loop {
            match timeout_at(until, self.events.recv()).await {
                Ok(Ok(event)) if !self.concerns(&event) => {}
                Ok(Ok(event)) => return self.note(&event, look),
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
        }
    }

    fn concerns(&self, event: &MachineEvent) -> bool {
        event.machine == self.machine || event.kind == MachineEventKind::ConnectionLost
    }

    fn note(&mut self, event: &MachineEvent, look: &mut Look) -> Result<(), Trouble> {
        if !self.concerns(event) {
            return Ok(());
        }
        match event.kind {
            MachineEventKind::Panicked => Err(Trouble::new(Cause::KernelPanic, "the guest's kernel panicked")),
            MachineEventKind::Crashed => Err(Trouble::new(Cause::EmulatorDied, "the emulator ended by itself")),
            MachineEventKind::ConnectionLost => Err(Trouble::new(Cause::Hypervisor, "the connection to the hypervisor was lost")),
            MachineEventKind::DiskError { nospace } => {
                let why = if nospace { "the host's disk is full" } else { "the host could not read or write the machine's disk" };
                Err(Trouble::new(Cause::DiskError { nospace }, why))
            }
            MachineEventKind::Rebooted => {
                look.restarts += 1;
                self.boot.restart();
                Ok(())
            }
            MachineEventKind::Stopped => {
                look.stopped = true;
                Ok(())
            }
            MachineEventKind::Started | MachineEventKind::AgentConnected | MachineEventKind::AgentDisconnected => Ok(()),
        }
    }

    /// Notes what happened to the machine since the last look.
    ///
    /// # Errors
    /// A panic, a crash, a disk error, the end of the connection.
    pub async fn look(&mut self) -> Result<Look, Trouble> {
        let mut look = Look::default();
        let vitals = self.lab.hypervisor.vitals(&self.machine).await.map_err(lab_trouble)?;
        // What was printed belongs to the boot before a restart that is still to be read of.
        if vitals.console_bytes > self.console_at {
            let printed = self.lab.hypervisor.console(&self.machine, self.console_at).await.map_err(lab_trouble)?;
            self.console_at += printed.len() as u64;
            look.progress |= !printed.is_empty();
            self.boot.feed(&printed);
        }
        loop {
            match self.events.try_recv() {
                Ok(event) => self.note(&event, &mut look)?,
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => return Err(Trouble::new(Cause::Hypervisor, "the hypervisor's events ended")),
            }
        }
        if let Some(DeadEnd::Panic(line)) = self.boot.dead_end() {
            return Err(Trouble::new(Cause::KernelPanic, format!("the guest's kernel panicked: {line}")));
        }
        look.progress |= vitals.disk_bytes > self.vitals.disk_bytes || vitals.cpu_ns > self.vitals.cpu_ns + BUSY;
        self.vitals = vitals;
        // The stop's own event says whose doing it was, and may come after the stop is seen.
        let asked = Instant::now();
        while !vitals.running && !look.stopped && asked.elapsed() < STOP_PATIENCE {
            self.pause(&mut look).await?;
        }
        look.stopped |= !vitals.running;
        Ok(look)
    }

    /// Waits until the guest agent answers and the guest has started its services; then puts the job runner in place.
    ///
    /// # Errors
    /// What kept the machine from coming up.
    pub async fn come_up(&mut self, budget: Budget, tell: impl FnMut(&str)) -> Result<(), Trouble> {
        self.settle(budget, tell).await?;
        self.moved_in().await
    }

    async fn settle(&mut self, budget: Budget, mut tell: impl FnMut(&str)) -> Result<(), Trouble> {
        let started = Instant::now();
        let (mut last_sign, mut restarts, mut answered) = (started, 0, false);
        let mut prompt_since = None;
        loop {
            let mut look = self.look().await?;
            tell(self.boot.phase().as_str());
            self.pause(&mut look).await?;
            restarts += look.restarts;
            if look.restarts > 0 {
                answered = false;
            }
            if restarts >= LOOP {
                return Err(Trouble::new(Cause::BootLoop, format!("the machine started over {restarts} times without coming up")));
            }
            if look.stopped {
                return Err(Trouble::new(
                    Cause::PoweredOff,
                    format!("the machine switched itself off while booting ({})", self.boot.phase().as_str()),
                ));
            }
            if look.progress || look.restarts > 0 {
                last_sign = Instant::now();
            }
            if !answered && self.guest.ping().await.is_ok() {
                answered = true;
                last_sign = Instant::now();
            }
            if answered && self.guest.is_settled().await.unwrap_or(false) {
                self.boot_took = self.boot_took.max(Some(started.elapsed()));
                self.unasked = restarts;
                return Ok(());
            }
            match self.boot.dead_end() {
                Some(DeadEnd::Prompt(prompt)) if !answered => {
                    let since = *prompt_since.get_or_insert(Instant::now());
                    if since.elapsed() > PROMPT_PATIENCE {
                        return Err(self.stalled(format!("the machine stopped at the prompt \"{prompt}\"")));
                    }
                }
                _ => prompt_since = None,
            }
            if started.elapsed() > budget.total {
                let how = if answered { "its services had not finished starting" } else { "the guest agent did not answer" };
                return Err(self.stalled(format!("after {} s {how}", started.elapsed().as_secs())));
            }
            if !answered && last_sign.elapsed() > budget.quiet {
                return Err(self.stalled(format!("nothing was printed or written for {} s", last_sign.elapsed().as_secs())));
            }
        }
    }

    fn stalled(&self, how: String) -> Trouble {
        let reached = self.boot.phase();
        Trouble::new(
            Cause::BootStalled { reached },
            format!("the machine did not come up: {how}; it got as far as the {}", reached.as_str()),
        )
    }

    async fn moved_in(&mut self) -> Result<(), Trouble> {
        let guest = self.guest.clone();
        self.boot_id = self.patiently(|| guest.boot_id()).await?;
        self.patiently(|| guest.prepare()).await
    }

    /// Asks the guest until it answers: an agent that is silent for a moment is not lost yet. For calls that may be made twice.
    ///
    /// # Errors
    /// What happened to the machine meanwhile, or the guest's last answer.
    pub async fn patiently<T, F>(&mut self, ask: impl Fn() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, GuestError>>,
    {
        let started = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(GuestError::Unresponsive { .. } | GuestError::NotRunning { .. }) if started.elapsed() < AGENT_PATIENCE => {
                    let look = self.look().await?;
                    if look.stopped {
                        return Err(Trouble::new(Cause::PoweredOff, "the machine switched itself off"));
                    }
                    if look.restarts > 0 {
                        return Err(Trouble::new(Cause::UnexpectedReboot, "the machine restarted by itself"));
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(guest_trouble(error)),
            }
        }
    }

    /// Restarts the guest from inside and waits until it is up again.
    ///
    /// # Errors
    /// When it does not go down, or does not come up.
    pub async fn reboot(&mut self, budget: Budget, tell: impl FnMut(&str)) -> Result<(), Trouble> {
        self.guest.reboot().await.map_err(guest_trouble)?;
        let asked = Instant::now();
        while self.look_for_restart().await? == 0 {
            if asked.elapsed() > budget.total {
                let message = format!("the guest was asked to restart and had not after {} s", asked.elapsed().as_secs());
                return Err(Trouble::new(Cause::BootStalled { reached: BootPhase::Userspace }, message));
            }
        }
        self.since = self.console_at;
        let before = self.boot_id.clone();
        if self.lab.emulated {
            // An emulator keeps what it translated of the old system, and slows down every byte that the boot loader writes over it: a
            // restart was seen to spend up to six minutes there, a start in a new emulator a few seconds.
            self.cut_power().await?;
            self.start(budget, tell).await?;
        } else {
            self.come_up(budget, tell).await?;
        }
        if self.boot_id == before {
            return Err(Trouble::new(Cause::ProbeFailed, "the machine restarted and shows the same boot id as before"));
        }
        Ok(())
    }

    /// Cuts the power and waits until that has shown. How the emulator's end looks is no news then: its monitor may break off before
    /// libvirt knows that it was told to end.
    pub(super) async fn cut_power(&mut self) -> Result<(), Trouble> {
        self.lab.hypervisor.power_off(&self.machine).await.map_err(lab_trouble)?;
        match self.look().await {
            Err(trouble) if trouble.cause == Cause::EmulatorDied => Ok(()),
            seen => seen.map(drop),
        }
    }

    async fn look_for_restart(&mut self) -> Result<u32, Trouble> {
        let mut look = self.look().await?;
        if look.restarts == 0 {
            self.pause(&mut look).await?;
        }
        if look.stopped {
            return Err(Trouble::new(Cause::PoweredOff, "the machine switched itself off instead of restarting"));
        }
        Ok(look.restarts)
    }

    /// Switches the machine off from inside, or at the plug when it does not go; then on again, and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn cold_boot(&mut self, budget: Budget, tell: impl FnMut(&str)) -> Result<(), Trouble> {
        // A guest that cannot answer is switched off at the plug below.
        let _ = self.guest.shutdown().await;
        let asked = Instant::now();
        loop {
            let mut look = self.look().await?;
            if look.stopped {
                break;
            }
            self.pause(&mut look).await?;
            if look.stopped {
                break;
            }
            if asked.elapsed() > Duration::from_secs(120).min(budget.total) {
                self.cut_power().await?;
                break;
            }
        }
        self.start(budget, tell).await
    }

    /// Switches the machine on and waits until it is up.
    ///
    /// # Errors
    /// When it cannot be started or does not come up.
    pub async fn start(&mut self, budget: Budget, tell: impl FnMut(&str)) -> Result<(), Trouble> {
        self.start_bare(budget, tell).await?;
        self.moved_in().await
    }

    /// The same without the job runner, which may have no media to come from.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_bare(&mut self, budget: Budget, tell: impl FnMut(&str)) -> Result<(), Trouble> {
        // What happened before the machine is switched on is over.
        self.events = self.lab.hypervisor.events_of(&self.machine);
        self.since = self.console_at;
        self.boot.restart();
        self.lab.hypervisor.start(&self.machine).await.map_err(lab_trouble)?;
        self.settle(budget, tell).await
    }

    /// Lets a machine go on that was made on a template, whose boot had taken so long, and waits until its guest answers.
    ///
    /// # Errors
    /// When it can't go on, or its guest does not answer.
    pub async fn thaw(&mut self, patience: Budget, boot: Duration) -> Result<(), Trouble> {
        self.events = self.lab.hypervisor.events_of(&self.machine);
        self.lab.hypervisor.thaw(&self.machine).await.map_err(lab_trouble)?;
        // Later boots are measured by what this one would have been.
        self.boot_took = Some(boot);
        let started = Instant::now();
        while let Err(error) = self.guest.ping().await {
            let look = self.look().await?;
            if look.stopped || started.elapsed() > patience.quiet {
                return Err(Trouble::new(Cause::AgentLost, format!("the thawed guest does not answer: {error}")));
            }
            tokio::time::sleep(WAKING).await;
        }
        Ok(())
    }

    /// Makes a thawed guest a machine of its own, waits until it has done what its new clock set off, and puts the job runner in place.
    ///
    /// # Errors
    /// When it can't be made one, or does not come to rest.
    pub async fn renew(&mut self, renewal: &Renewal, patience: Budget, tell: impl FnMut(&str)) -> Result<Identity, Trouble> {
        let renewed = self.guest.renew(renewal).await.map_err(guest_trouble)?;
        self.boot_id = renewed.boot_id;
        if !renewed.settled {
            let boot = self.boot_took;
            self.settle(patience, tell).await?;
            self.boot_took = boot;
        }
        Ok(renewed.identity)
    }

    /// Adds to a trouble what shows it: what its console had not said before the patch, or the console's end; the whole console and
    /// the screen as evidence.
    pub async fn illustrate(&self, mut trouble: Trouble) -> Trouble {
        let mut console = Vec::new();
        while let Ok(more) = self.lab.hypervisor.console(&self.machine, console.len() as u64).await {
            if more.is_empty() || console.len() > 64 * 1024 * 1024 {
                break;
            }
            console.extend(more);
        }
        let (before, now) = console.split_at(console.len().min(usize::try_from(self.since).unwrap_or(usize::MAX)));
        let news = console::news(before, now);
        if matches!(trouble.cause, Cause::BootStalled { .. } | Cause::BootLoop | Cause::PoweredOff | Cause::KernelPanic) {
            let told = |line: &&str| !trouble.message.contains(*line);
            let quoted: Vec<String> = console::telling(&news, 4).into_iter().filter(told).map(|line| format!("\"{line}\"")).collect();
            if !quoted.is_empty() {
                trouble.message.push_str(&format!("; new on its console: {}", quoted.join(", ")));
            }
        }
        if trouble.detail.is_empty() {
            trouble.detail = if news.is_empty() { tail(&console, 30, 8 * 1024) } else { console::detail(&news) };
        }
        if !console.is_empty()
            && let Ok(kept) = self.lab.evidence.keep("console", &console)
        {
            trouble.evidence.push(kept);
        }
        if let Ok(Some(picture)) = self.lab.hypervisor.screenshot(&self.machine).await
            && let Ok(kept) = self.lab.evidence.keep("screenshot", &picture)
        {
            trouble.evidence.push(kept);
        }
        trouble
    }
}

/// The hypervisor's refusal as a trouble: the lab's.
pub fn lab_trouble(error: HypervisorError) -> Trouble {
    let cause = match error.kind {
        HypervisorErrorKind::NoSpace => Cause::HostDiskFull,
        HypervisorErrorKind::Gone | HypervisorErrorKind::NoMachine | HypervisorErrorKind::TimedOut | HypervisorErrorKind::Refused => {
            Cause::Hypervisor
        }
    };
    let hint = if error.hint.is_empty() { String::new() } else { format!("; {}", error.hint) };
    Trouble::new(cause, format!("{error}{hint}"))
}

/// The guest's silence or nonsense as a trouble.
pub fn guest_trouble(error: GuestError) -> Trouble {
    match error {
        GuestError::Unresponsive { .. } => Trouble::new(Cause::AgentLost, error.to_string()),
        GuestError::NotRunning { .. } => Trouble::new(Cause::PoweredOff, error.to_string()),
        GuestError::Refused { .. } => Trouble::new(Cause::ProbeFailed, error.to_string()),
        GuestError::Failed { .. } => Trouble::new(Cause::AgentNonsense, error.to_string()),
        GuestError::Hypervisor(error) => lab_trouble(error),
    }
}
