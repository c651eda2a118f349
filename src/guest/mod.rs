//! The port to the guest: what the lab asks of an operating system inside a machine. Adapters: `agent` (QEMU guest agent) and
//! `sim`. What differs between operating systems is data in `linux`.
//!
//! Invariants: a guest is hostile. Whatever it returns is capped before it is kept and decoded with replacement characters. No
//! call trusts a length, an exit code's range or a text's encoding that the guest claims.

pub mod agent;
pub mod linux;
pub mod sim;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

use crate::catalog::image::Os;
use crate::cell::identity::Identity;
use crate::hypervisor::HypervisorError;

/// Gives a way to speak to a machine's guest.
pub trait Guests: Send + Sync {
    fn connect(&self, machine: &str, os: Os) -> Arc<dyn Guest>;
}

/// What the lab asks of a guest.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Whether the agent answers, within a second or two.
    async fn ping(&self) -> Result<(), GuestError>;

    /// Identifies this boot; another value means that the machine restarted.
    async fn boot_id(&self) -> Result<String, GuestError>;

    /// Whether the guest has finished starting its services.
    async fn is_settled(&self) -> Result<bool, GuestError>;

    /// What makes it this machine and no other. The clock is left out.
    async fn identity(&self) -> Result<Identity, GuestError>;

    /// Makes a clone that was just thawed a machine of its own, prepares it for jobs, and says what it is then, its clock included.
    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, GuestError>;

    /// Puts the job runner in place, for a clone to find it there.
    async fn install(&self) -> Result<(), GuestError>;

    /// Mounts the media and puts the job runner in place. Needed once after every boot; harmless twice.
    async fn prepare(&self) -> Result<(), GuestError>;

    /// Starts a job and returns at once. The job outlives the agent, but not the boot. The same job started again, because the first
    /// answer got lost, is one job; another one of that id is refused.
    async fn start(&self, job: &Job) -> Result<(), GuestError>;

    /// How far a job is. Bytes of output come with a step once it ended.
    async fn poll(&self, job: &str) -> Result<JobState, GuestError>;

    /// Asks the processes of a job to end themselves. How the job ended can be polled as ever.
    async fn interrupt(&self, job: &str) -> Result<(), GuestError>;

    /// Ends a job and all its processes, and forgets it.
    async fn kill(&self, job: &str) -> Result<(), GuestError>;

    /// A file's contents, at most `cap` bytes, and whether there was more.
    async fn read(&self, path: &str, cap: usize) -> Result<(Vec<u8>, bool), GuestError>;

    /// Asks the operating system to restart.
    async fn reboot(&self) -> Result<(), GuestError>;

    /// Asks the operating system to switch the machine off.
    async fn shutdown(&self) -> Result<(), GuestError>;
}

/// What a thawed clone needs to become a machine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The lab's time.
    pub now: Timestamp,
    /// For the guest's random numbers: 64 bytes that nobody else gets.
    pub seed: Vec<u8>,
    /// Hardware addresses of the template's NICs, and what they are to be.
    pub macs: Vec<(String, String)>,
    /// Whether it is to make its SSH host keys anew.
    pub makes_host_keys: bool,
}

/// What became of a clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    pub identity: Identity,
    pub boot_id: String,
    /// Whether it is at rest; else its new clock has set something off.
    pub settled: bool,
}

/// Steps that run one after the other in the guest, independent of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Unique per machine and boot: lower-case letters, digits, `-`.
    pub id: String,
    pub steps: Vec<JobStep>,
}

/// One command line of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStep {
    /// Run by `/bin/sh -c` as root. Paths to the media start with `$PATCHLAB_MEDIA`.
    pub command: String,
    /// The working folder; `None` for a fresh scratch folder.
    pub folder: Option<String>,
    pub env: BTreeMap<String, String>,
    pub limit: Duration,
    /// Bytes of output kept: the first half of it from the start, the rest from the end.
    pub output_cap: usize,
    /// Whether it is somebody else's, and run as at a terminal: it gets one, is ended as [`StepEnd::Asked`] when it waits for an
    /// answer there, and what it leaves in the background goes on. What any other step leaves behind is ended with it.
    pub terminal: bool,
    /// Commands that must exist; else the step ends as [`StepEnd::Lacks`].
    pub needs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// At step `at` (0 and up).
    Running {
        at: usize,
        finished: Vec<StepReport>,
    },
    Ended {
        steps: Vec<StepReport>,
    },
    /// The guest knows no such job: it restarted, or something removed it.
    Unknown,
}

/// How one step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    pub end: StepEnd,
    pub elapsed: Duration,
    /// Standard output and error as they came, capped.
    pub output: Vec<u8>,
    /// Whether bytes were dropped from the middle.
    pub truncated: bool,
    /// The contents of `$PATCHLAB_RESULT`, if the step wrote one, capped like the output.
    pub result: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepEnd {
    Exit(i64),
    /// Ended by a signal, by its number (or with the exit code that stands for it: 128 and the number).
    Signal(i64),
    TimedOut,
    /// It waited for an answer on its terminal and was ended.
    Asked,
    /// A command that it needs is not there.
    Lacks(String),
}

/// The guest could not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GuestError {
    /// The agent does not answer, though the machine runs.
    #[error("{tried}: the guest agent does not answer ({found})")]
    Unresponsive { tried: String, found: String },
    /// The machine is off or gone.
    #[error("{tried}: the machine is not running ({found})")]
    NotRunning { tried: String, found: String },
    /// The guest cannot, and says so: a file is not there, a command does not run or fails.
    #[error("{tried}: {found}")]
    Refused { tried: String, found: String },
    /// The guest answered in a way that makes no sense.
    #[error("{tried}: {found}")]
    Failed { tried: String, found: String },
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}
