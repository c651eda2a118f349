//! The port to the machines: what the lab needs of a hypervisor. Adapters: `libvirt` (the only place that names `virt`) and `sim`.
//! [`segments`] is the network between machines on this host.
//!
//! Invariants: every object an adapter makes bears the [`Tag`] it was given; `destroy` is idempotent and removes all that
//! `create` made, half-made machines included; a machine is addressed by name, never by a handle that can go stale.

pub mod libvirt;
mod screen;
pub mod segments;
pub mod sim;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::broadcast;

use crate::catalog::hardware::Hardware;
use crate::id::{CellId, Digest, Name, RunId};
use crate::journal::HostReport;
use segments::{Fault, LinkEvent, Mac, NetworkSpec, SegmentStats};

/// What the lab needs of a hypervisor. Calls may take long; every one has a deadline of its own inside the adapter.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// What the machines run on.
    async fn host(&self) -> Result<HostReport, HypervisorError>;

    /// Makes the network of a pass, before its machines. It bears the tag of its folder, where the captures go. On error nothing is left.
    async fn open_network(&self, name: &str, tag: &Tag, spec: &NetworkSpec) -> Result<(), HypervisorError>;

    /// Does something to a network. It is in force when this returns.
    async fn disturb(&self, network: &str, fault: &Fault) -> Result<(), HypervisorError>;

    /// What happened on a network so far: its events, its counters, and each segment's capture, written out up to now.
    async fn wire(&self, network: &str) -> Result<WireReport, HypervisorError>;

    /// Makes the overlay and defines the machine, switched off. On error nothing is left.
    /// Returns the effective definition (domain XML).
    async fn create(&self, spec: &MachineSpec) -> Result<String, HypervisorError>;

    /// Whether machines are ever frozen here; where not, nobody need be told why.
    fn freezes(&self) -> bool;

    /// Why no machine of this hardware can be frozen here; `None` when it can.
    fn unfreezable(&self, hardware: &Hardware) -> Option<String>;

    /// Ends a running machine and keeps what it was in that moment, its memory, its disk and its firmware's variables, as a template:
    /// files in the folder `into`, which is there and empty. The machine stays defined and is fit for nothing but to be destroyed.
    /// It may have been made on a template itself, but not on one whose machine had been, and not in a storage pool. On error it may
    /// still run, and `into` may hold anything.
    async fn freeze(&self, machine: &str, into: &Path) -> Result<(), HypervisorError>;

    /// Instead of [`Self::start`]: a machine that was created on a template goes on where that was frozen, its media in the drive.
    /// Only once in a machine's life.
    async fn thaw(&self, machine: &str) -> Result<(), HypervisorError>;

    /// Switches the machine on.
    async fn start(&self, machine: &str) -> Result<(), HypervisorError>;

    /// Asks the guest to switch itself off, as a person at the power button would (ACPI). A guest that has not settled may not hear it.
    async fn shutdown(&self, machine: &str) -> Result<(), HypervisorError>;

    /// Cuts the power at once. The machine stays defined. No error when it is off already.
    async fn power_off(&self, machine: &str) -> Result<(), HypervisorError>;

    /// Presses reset.
    async fn reset(&self, machine: &str) -> Result<(), HypervisorError>;

    /// Removes the machine with its overlay, firmware variables and logs, or a network with its captures. No error when nothing is left
    /// to remove.
    async fn destroy(&self, machine: &str) -> Result<(), HypervisorError>;

    /// Whether it runs, and signs of work.
    async fn vitals(&self, machine: &str) -> Result<Vitals, HypervisorError>;

    /// The console's bytes from `offset` on, 1 MiB at the most.
    async fn console(&self, machine: &str, offset: u64) -> Result<Vec<u8>, HypervisorError>;

    /// A picture of the screen as PNG, where there is a screen.
    async fn screenshot(&self, machine: &str) -> Result<Option<Vec<u8>>, HypervisorError>;

    /// One command to the guest agent, as JSON, and its answer. Only guest adapters call it.
    async fn agent(&self, machine: &str, command: &str, within: Duration) -> Result<String, AgentError>;

    /// What happens to machines from now on.
    fn events(&self) -> broadcast::Receiver<MachineEvent>;

    /// What happens to this machine and to the connection from now on. Other machines' events may be among it.
    fn events_of(&self, _machine: &str) -> broadcast::Receiver<MachineEvent> {
        self.events()
    }

    /// All that bears this lab's tag: machines defined or running, and folders without a machine.
    async fn owned(&self) -> Result<Vec<Owned>, HypervisorError>;

    /// The storage pool that its machines' files are in, where they have none in common with the lab.
    fn pool(&self) -> Option<&str> {
        None
    }

    /// What of the lab was sent to where the machines are; nothing where they have files in common with the lab.
    async fn sent(&self) -> Result<Vec<Sent>, HypervisorError> {
        Ok(Vec::new())
    }

    /// Removes what was sent, but nothing of a template that a machine is on. On an image none may be. No error when it is not there.
    async fn discard(&self, _sent: Digest) -> Result<(), HypervisorError> {
        Ok(())
    }

    /// Bytes that are free for machines' disks, where these are not in the state folder.
    async fn free(&self) -> Result<Option<u64>, HypervisorError> {
        Ok(None)
    }
}

/// Who owns an object: written into its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tag {
    /// The lab, by the id kept in its state folder.
    pub lab: String,
    pub run: RunId,
    pub cell: CellId,
    /// The lease: equal to the machine's name, which is unique.
    pub lease: String,
}

/// A machine to be made.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Unique in the lab, usable as a file name, at most 60 bytes.
    pub name: String,
    pub tag: Tag,
    pub hardware: Hardware,
    /// The sealed image's file, qcow2, read-only.
    pub image: PathBuf,
    /// The image's digest, for error messages and the simulator.
    pub image_digest: Digest,
    /// A template that was frozen on the same image and hardware, with as many NICs: the disk begins as it was then.
    pub template: Option<OnTemplate>,
    /// The ISO with job runner, suites and payload, put into the read-only removable drive that every machine has.
    pub media: Option<PathBuf>,
    pub nics: Vec<MachineNic>,
}

/// What a machine begins as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnTemplate {
    /// Where [`Hypervisor::freeze`] put it.
    pub folder: PathBuf,
    /// The hardware addresses that its NICs had, in order. The thawed guest has them until it is told otherwise.
    pub macs: Vec<Mac>,
    /// Whether its drive held the media, which then are in use by the guest.
    pub media: bool,
    /// Of the files in the folder, by their names. A storage pool needs them.
    pub digests: BTreeMap<String, Digest>,
}

/// A NIC of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineNic {
    pub mac: Mac,
    /// `None` is a wire that leads nowhere.
    pub at: Option<Plug>,
}

/// A NIC's place on a segment of an open network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    pub network: String,
    pub segment: Name,
    /// The NIC's name in the segment.
    pub nic: Name,
}

/// What happened on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireReport {
    pub timeline: Vec<LinkEvent>,
    pub segments: Vec<SegmentStats>,
    /// Each segment's capture so far (pcap).
    pub captures: Vec<(Name, PathBuf)>,
    /// Why it stopped carrying frames, if it did: the lab is to blame for what was seen since.
    pub broken: Option<String>,
    /// Why it is not known what crossed it, where that is so.
    pub unseen: Option<String>,
}

/// Something that bears the lab's tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub machine: String,
    /// `None` for a folder whose tag file is missing: left by a crash before it was written.
    pub tag: Option<Tag>,
    pub running: bool,
    /// Bytes on disk.
    pub bytes: u64,
}

/// A copy of a file, sent to where the machines are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub what: Copied,
    pub digest: Digest,
    /// Bytes on disk there.
    pub bytes: u64,
}

/// What a copy is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    Image,
    /// A template's disk or memory.
    Template,
}

/// Signs of life. All counters only grow while the machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    pub running: bool,
    pub cpu_ns: u64,
    pub disk_bytes: u64,
    pub console_bytes: u64,
}

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineEvent {
    pub machine: String,
    pub kind: MachineEventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEventKind {
    Started,
    /// The guest switched itself off, or was switched off.
    Stopped,
    /// The emulator ended by itself.
    Crashed,
    /// The guest restarted.
    Rebooted,
    /// The guest's kernel said that it panicked.
    Panicked,
    /// The host could not serve the guest's disk.
    DiskError {
        nospace: bool,
    },
    AgentConnected,
    AgentDisconnected,
    /// The connection to the hypervisor is gone: nothing more is known of any machine.
    ConnectionLost,
}

/// The hypervisor could not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{tried}: {found}")]
pub struct HypervisorError {
    pub kind: HypervisorErrorKind,
    pub tried: String,
    pub found: String,
    pub hint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypervisorErrorKind {
    /// The connection is gone.
    Gone,
    /// The host has no room left.
    NoSpace,
    /// There is no such machine, or it is not in the state that the call needs.
    NoMachine,
    /// A call outlived its deadline.
    TimedOut,
    /// Anything else that it refused.
    Refused,
}

/// The guest agent's channel could not carry a command.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AgentError {
    /// Nothing is connected or nothing answered in time; the machine may be booting, busy or broken.
    #[error("the guest agent does not answer: {0}")]
    Unresponsive(String),
    /// The agent answered with an error of its own.
    #[error("the guest agent refused: {0}")]
    Refused(String),
    /// The machine is off or gone.
    #[error("the machine is not running: {0}")]
    NotRunning(String),
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}
