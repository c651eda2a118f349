//! What can go wrong, and the blame table: one pure function with one exhaustive match.
//!
//! Invariant: a fault is never a finding. Adding a cause does not compile until its row is written.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Name};

/// Whether the patch had touched the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Before,
    After,
}

/// Who is to blame for bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The patch: a finding.
    Patch,
    /// The lab: a fault.
    Lab,
}

/// How far a boot got, seen from its console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPhase {
    /// Nothing was seen yet, or only the firmware.
    Firmware,
    BootLoader,
    Kernel,
    Userspace,
    /// The agent's port is open but it does not answer.
    Agent,
}

impl BootPhase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::BootLoader => "boot loader",
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
            Self::Agent => "agent",
        }
    }
}

/// Why a stage was cut short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum Cause {
    /// The hypervisor is unreachable or refused an operation that it should do.
    Hypervisor,
    /// The host has no room left.
    HostDiskFull,
    /// The image is missing or its bytes are not those of the plan.
    ImageDamaged,
    /// The candidate's or a suite's bytes are missing or not those of the plan.
    PayloadDamaged,
    /// The controller ended in the middle of the stage.
    ControllerEnded,
    /// A person or pipeline stopped the run.
    Cancelled,
    /// The emulator itself ended or could not run the machine.
    EmulatorDied,
    /// The guest reported an I/O error on a disk that the host serves; `nospace` when the host ran full.
    DiskError { nospace: bool },
    /// The machine did not come up within its budget.
    BootStalled { reached: BootPhase },
    /// The machine started over again and again without coming up.
    BootLoop,
    /// The machine switched itself off instead of coming up.
    PoweredOff,
    /// The machine came up and did not become what its peers wait for.
    NotReady,
    /// The kernel panicked.
    KernelPanic,
    /// The guest agent stopped answering while the machine ran on.
    AgentLost,
    /// The guest answered with something that the agent's protocol does not allow.
    AgentNonsense,
    /// The machine restarted when nobody had asked for it.
    UnexpectedReboot,
    /// A guest command that the lab relies on (facts, job runner) failed.
    ProbeFailed,
    /// The machine is not what its hardware profile claims: a device without its driver, Secure Boot not enforced, another TPM.
    HardwareUnmet,
    /// The guest's own disk ran full.
    GuestDiskFull,
    /// Applying ended with a failure.
    ApplyFailed { exit: i64 },
    /// Applying did not end within the manifest's time.
    ApplyTimedOut,
    /// Applying waited for an answer on its terminal.
    ApplyAsked,
    /// Applying would have removed packages that the manifest does not name.
    UndeclaredRemovals,
    /// The patch's own confirmation failed.
    NotEffective,
    /// The plan asked for a patch that this build has nothing for: none of its packages is installed, the architecture differs.
    NotApplicable,
    /// Applying the patch again failed or changed something.
    NotIdempotent,
    /// Taking the patch back failed or left something behind.
    RollbackFailed,
}

impl Cause {
    /// Whether it speaks against the host that the machine was on, and not against the machine.
    pub const fn is_of_host(&self) -> bool {
        matches!(self, Self::Hypervisor | Self::HostDiskFull | Self::EmulatorDied | Self::DiskError { .. })
    }

    /// The stable code that reports carry.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Hypervisor => "hypervisor",
            Self::HostDiskFull => "host-disk-full",
            Self::ImageDamaged => "image-damaged",
            Self::PayloadDamaged => "payload-damaged",
            Self::ControllerEnded => "controller-ended",
            Self::Cancelled => "cancelled",
            Self::EmulatorDied => "emulator-died",
            Self::DiskError { .. } => "disk-error",
            Self::BootStalled { .. } => "boot-stalled",
            Self::BootLoop => "boot-loop",
            Self::PoweredOff => "powered-off",
            Self::NotReady => "not-ready",
            Self::KernelPanic => "kernel-panic",
            Self::AgentLost => "agent-lost",
            Self::AgentNonsense => "agent-nonsense",
            Self::UnexpectedReboot => "unexpected-reboot",
            Self::ProbeFailed => "probe-failed",
            Self::HardwareUnmet => "hardware-unmet",
            Self::GuestDiskFull => "guest-disk-full",
            Self::ApplyFailed { .. } => "apply-failed",
            Self::ApplyTimedOut => "apply-timed-out",
            Self::ApplyAsked => "apply-asked",
            Self::UndeclaredRemovals => "undeclared-removals",
            Self::NotEffective => "not-effective",
            Self::NotApplicable => "not-applicable",
            Self::NotIdempotent => "not-idempotent",
            Self::RollbackFailed => "rollback-failed",
        }
    }
}

/// The blame table (rule 3 of the design).
///
/// Before the patch everything is the lab's. After it, what the guest does is the patch's, because its twin did better without;
/// what the host does stays the lab's.
pub const fn blame(cause: &Cause, side: Side) -> Blame {
    match cause {
        Cause::Hypervisor
        | Cause::HostDiskFull
        | Cause::ImageDamaged
        | Cause::PayloadDamaged
        | Cause::ControllerEnded
        | Cause::Cancelled
        | Cause::EmulatorDied
        | Cause::DiskError { nospace: true | false }
        | Cause::NotApplicable => Blame::Lab,
        Cause::BootStalled { .. }
        | Cause::BootLoop
        | Cause::PoweredOff
        | Cause::NotReady
        | Cause::KernelPanic
        | Cause::AgentLost
        | Cause::AgentNonsense
        | Cause::UnexpectedReboot
        | Cause::ProbeFailed
        | Cause::HardwareUnmet
        | Cause::GuestDiskFull
        | Cause::ApplyFailed { .. }
        | Cause::ApplyTimedOut
        | Cause::ApplyAsked
        | Cause::UndeclaredRemovals
        | Cause::NotEffective
        | Cause::NotIdempotent
        | Cause::RollbackFailed => match side {
            Side::Before => Blame::Lab,
            Side::After => Blame::Patch,
        },
    }
}

/// Bad news: its cause, and what a person needs to understand it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trouble {
    pub cause: Cause,
    /// What was tried, what was expected, what was found.
    pub message: String,
    /// The machine that it happened on, by its role, where the cell has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// The end of the console or of the output that shows it. Guest text: capped, never trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Files kept with the run (console log, screenshot, full output), by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl Trouble {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), role: None, detail: String::new(), evidence: Vec::new() }
    }

    /// On this machine of several.
    pub fn on(mut self, role: &Name) -> Self {
        if self.role.is_none() {
            self.message = format!("{role}: {}", self.message);
            self.role = Some(role.clone());
        }
        self
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// A file kept with a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Evidence {
    /// What it is, for example `console` or `screenshot`.
    pub name: String,
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}
