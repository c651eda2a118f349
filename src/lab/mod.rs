//! The engine: takes a plan through the ports to its end.
//!
//! `desk` is where requests come in, and where runs wait; `scheduler` runs their cells as the host has room; `runner` takes one cell through its passes,
//! asking [`crate::cell::next()`] what comes next and journaling before and after each effect; `session` watches one machine; `stages`
//! are the effects and `observing` what they look at; `warm` brings machines up, on `templates` where it can; `foreign` runs suites that
//! others have written, and `baselines` spares those that an earlier run has seen; `network`, `play`, `unwell`, `chronicle` and `timeline` are for machines among each other; `reaper` removes what
//! a dead controller left; `sites` are the hosts, and `proof` is what each of several must give; `gate` asks [`crate::verdict::gate`] and keeps the answer, and `policy` finds which policy
//! a run was judged against. Nothing here decides who is to blame or what a
//! result means: that is `cell` and `verdict`.

mod again;
pub mod baselines;
mod checkpoint;
mod chronicle;
pub mod clock;
pub mod desk;
pub mod evidence;
mod foreign;
pub mod gate;
pub mod history;
pub mod images;
pub mod jobs;
pub mod keys;
pub mod media;
pub mod memory;
mod network;
mod observing;
pub mod patches;
pub mod pause;
mod play;
pub mod policy;
pub mod prepared;
pub mod proof;
pub mod reaper;
pub mod runner;
pub mod scheduler;
pub mod session;
pub mod sites;
pub mod stages;
pub mod state;
pub mod templates;
mod timeline;
mod unwell;
mod warm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::cell::Stage;
use crate::guest::Guests;
use crate::hypervisor::Hypervisor;
use crate::id::{CellId, Digest, Name, RunId};
use crate::journal::{Journal, Placed};
use baselines::Baselines;
use clock::Clock;
use evidence::EvidenceStore;
use history::History;
use scheduler::choice::Lane;
use scheduler::host::Hosts;
use sites::Sites;
use templates::Templates;

/// The ports and stores that a run works with.
#[derive(Clone)]
pub struct Lab {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub guests: Arc<dyn Guests>,
    pub journal: Journal,
    pub clock: Clock,
    pub evidence: EvidenceStore,
    pub history: Arc<History>,
    /// What earlier runs have seen of unpatched machines.
    pub baselines: Baselines,
    /// Frozen machines to begin on; `None` where machines are always booted.
    pub templates: Option<Arc<Templates>>,
    /// Whether the machines' processors are emulated: slow, and slower still after a restart.
    pub emulated: bool,
    /// The lab's id, written on everything it makes.
    pub id: String,
    pub settings: Settings,
    /// Where its machines find room, and those of other runs.
    pub hosts: Hosts,
    /// What machines run on elsewhere.
    pub sites: Arc<Sites>,
    /// Which of several hosts hypervisor, guests, history, baselines and templates are of.
    pub placed: Option<Arc<Placed>>,
    /// How soon each customer's policy wants an answer about the run's patch, where it says so.
    pub lanes: Arc<BTreeMap<Name, Lane>>,
    /// What is being done right now, for those who watch. Not journaled.
    pub activity: broadcast::Sender<Activity>,
    /// Turns true when the run is to be given up.
    pub cancelled: watch::Receiver<bool>,
}

/// How a run is done, apart from what the plan fixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Leave the machines of failed passes for a person to look at.
    pub keep_failed: bool,
    /// Boot every machine, whatever templates there are.
    pub cold: bool,
    /// Run every baseline, whichever of them earlier runs have seen.
    pub fresh_baselines: bool,
}

/// The files that a plan's digests stand for, checked before the run.
#[derive(Clone, Debug, Default)]
pub struct RunFiles {
    pub images: BTreeMap<Digest, PathBuf>,
    /// How large each image's disk is for its guest, in bytes.
    pub disks: BTreeMap<Digest, u64>,
    pub media: Option<PathBuf>,
}

/// What a cell is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    pub run: RunId,
    pub cell: CellId,
    pub stage: Stage,
    /// For example `kernel` or `web-server/tls`.
    pub what: String,
    /// How long the stage usually takes.
    pub expected: Duration,
}
