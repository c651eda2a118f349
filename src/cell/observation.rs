//! What one attempt at a case gave. Immutable.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cause::Evidence;
use crate::id::{CellId, Digest, Name, RunId};

/// Which side of the comparison an observation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Baseline,
    Patched,
}

impl Phase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Patched => "patched",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// When in a pass facts were taken or cases run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    Baseline,
    /// After apply, before any reboot.
    Applied,
    Rebooted,
    ColdBooted,
    Reapplied,
    RolledBack,
}

impl Point {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Applied => "after apply",
            Self::Rebooted => "after the reboot",
            Self::ColdBooted => "after the second cold boot",
            Self::Reapplied => "after applying again",
            Self::RolledBack => "after the rollback",
        }
    }

    pub const fn phase(self) -> Phase {
        match self {
            Self::Baseline => Phase::Baseline,
            Self::Applied | Self::Rebooted | Self::ColdBooted | Self::Reapplied | Self::RolledBack => Phase::Patched,
        }
    }
}

/// A case of a pass, at a point of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CaseAt {
    pub suite: Name,
    pub case: Name,
    pub point: Point,
}

/// One attempt at one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CaseObservation {
    pub suite: Name,
    pub case: Name,
    pub point: Point,
    pub outcome: CaseOutcome,
    /// Milliseconds in the guest.
    pub elapsed_ms: u64,
    /// One line: why it is not a pass, or what was measured. Guest text: capped, never trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its output or a unified diff, capped. Guest text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What kind of failure it is: equal for failures that differ only in numbers, addresses and times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Digest>,
    /// Where it passed: those of its own tests that it skipped, as often as it did, folded and sorted. Guest text, capped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// What people should know and what is no failure, of a check of the health. Guest text, capped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// Where it was seen, where that was not in this pass: a baseline that counts here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<Origin>>,
}

/// The pass that a baseline comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Origin {
    pub run: RunId,
    pub cell: CellId,
    /// Which attempt at the cell's main pass.
    pub attempt: u32,
    /// When the stage began in which it was seen.
    pub at: Timestamp,
    /// The digest of the observation as it stands there.
    pub sha256: Digest,
}

/// A case that had its baseline on the pass's own clone, where another could have counted, and why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Anew {
    pub suite: Name,
    pub case: Name,
    pub why: String,
}

impl CaseObservation {
    pub fn is_of(&self, at: &CaseAt) -> bool {
        self.suite == at.suite && self.case == at.case && self.point == at.point
    }
}

/// How one attempt at a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseOutcome {
    Pass,
    Fail,
    /// Ended at its time limit.
    TimedOut,
    /// The case said that it does not apply, or what it needs is not there.
    Skip,
    /// It failed, and its suite declares that it does now and then: says nothing about the patch.
    FlakyFailure,
    /// The case's own harness failed (exit code 99, unreadable result): says nothing about the patch.
    HarnessError,
}

impl CaseOutcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TimedOut => "timed-out",
            Self::Skip => "skip",
            Self::FlakyFailure => "flaky-failure",
            Self::HarnessError => "harness-error",
        }
    }
}
