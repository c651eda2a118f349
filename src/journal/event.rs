//! What the journal holds: versioned events, from which everything else is folded.
//!
//! Invariant: an event is never changed or removed once written. A new meaning is a new variant or an optional field.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::cell::identity::Start;
use crate::cell::{Anew, CaseAt, CaseObservation, Evidence, Pass, Point, Stage, StageOutcome};
use crate::id::{CellId, Digest, Name, RunId};
use crate::plan::Plan;
use crate::verdict::Verdict;
use crate::verdict::trend::{Gauge, Past};

/// The version of the events' form, kept with each.
pub const VERSION: u32 = 1;

/// One entry of the journal, as it is stored and hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// 1 and up, without gaps.
    pub seq: u64,
    pub version: u32,
    pub at: Timestamp,
    /// `None` for a record, which belongs to no run.
    pub run: Option<RunId>,
    pub event: Event,
    /// The hash of the entry before; zeros for the first.
    pub previous: Digest,
    /// The sha256 over all of the above.
    pub hash: Digest,
}

/// Something that happened in a run, or was put on record beside the runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A run begins: its whole plan, and who asked.
    RunPlanned {
        plan: Box<Plan>,
        plan_digest: Digest,
        by: String,
        /// The run that tested the whole bundle, where this one tests some of it to find out who is to blame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<RunId>,
    },
    /// A controller works on the run; the first time, or again after one that ended.
    RunTaken {
        controller: Controller,
    },
    /// What earlier runs gave, to hold this one's samples against.
    HistoryDrawn {
        past: Vec<Past>,
    },
    /// About to be created for a pass: the machine's name and folder, or how the names of its machines begin (rule 8, intent before effect).
    PassStarted {
        cell: CellId,
        pass: Pass,
        attempt: u32,
        machine: String,
        /// Where, in a lab of several hosts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        placed: Option<Box<Placed>>,
    },
    /// The machine as libvirt made it: evidence of its effective XML.
    MachineDefined {
        cell: CellId,
        machine: String,
        xml: String,
    },
    /// A machine of the pass runs, and how it came to do so.
    MachineStarted {
        cell: CellId,
        machine: String,
        start: Start,
    },
    StageStarted {
        cell: CellId,
        stage: Stage,
    },
    /// What the guest was like: digest of the facts, the evidence that holds them, and what of them is compared between runs.
    FactsTaken {
        cell: CellId,
        point: Point,
        facts: BTreeMap<String, Digest>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        gauges: BTreeMap<Gauge, u64>,
    },
    CaseObserved {
        cell: CellId,
        observation: Box<CaseObservation>,
    },
    /// What the health checks gave, all that were made at one point of a pass.
    HealthObserved {
        cell: CellId,
        observations: Vec<CaseObservation>,
    },
    /// Before a pass runs its baseline: which cases have one already, copied here with where it was seen, and why the others have not.
    BaselinesChosen {
        cell: CellId,
        reused: Vec<CaseObservation>,
        anew: Vec<Anew>,
    },
    /// Files kept once a case was over, or of the pass as a whole.
    EvidenceKept {
        cell: CellId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        case: Option<CaseAt>,
        evidence: Vec<Evidence>,
    },
    StageEnded {
        cell: CellId,
        stage: Stage,
        outcome: StageOutcome,
    },
    /// The pass's machine is gone, or kept for a person to look at.
    PassEnded {
        cell: CellId,
        kept: bool,
    },
    CellEnded {
        cell: CellId,
    },
    /// The run is to go no further; its cells under way are given up, the others are not begun.
    RunCalledOff {
        /// Who called it off; the lab itself where it can't be worked on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        reason: String,
    },
    RunEnded {
        verdict: Verdict,
    },
    /// A kept machine was let go.
    MachineReleased {
        machine: String,
        /// Who let it go; older entries do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Something about a patch and a customer, beside the runs.
    Recorded {
        record: Box<Record>,
    },
}

/// The process that works on a run, and what it works with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Controller {
    pub patchlab: String,
    pub hypervisor: String,
    pub host: HostReport,
}

impl Controller {
    /// Whether its machines are the simulator's.
    pub fn is_simulated(&self) -> bool {
        self.hypervisor == "sim" || self.hypervisor.starts_with("sim:")
    }
}

/// One of several hosts, and what it was when it was given a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Placed {
    pub host: Name,
    pub controller: Controller,
}

/// The host that machines run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostReport {
    /// For example `kvm` or `tcg`, and why.
    pub accelerator: String,
    pub accelerator_reason: String,
    pub qemu: String,
    pub libvirt: String,
    pub kernel: String,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
}
