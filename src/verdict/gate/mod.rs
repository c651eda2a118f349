//! The gate: what a policy makes of verdicts, waivers and approvals. May this patch go to this customer?
//!
//! Invariants: pure; the same inputs and the same moment always give the same decision, so that a past one can be replayed. Only what
//! was seen to pass opens the gate: whatever is unknown, missing, too old or about other bytes keeps it closed, with a reason.

mod applied;
mod clocks;
mod cover;
mod decide;
mod evidence;
mod inputs;
mod people;
#[cfg(test)]
mod tests;

pub use applied::{AppliedPolicy, applied, sole_customer};
pub use clocks::{Readings, is_put_back, was_ahead};
pub use decide::decide;
pub use evidence::findings;
pub use inputs::{GateInputs, Records, RunEvidence, same_person, until};
pub use people::{Unfit, flaw, unfit_to_approve, unfit_to_consent, void};

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::policy::{Role, Terms};
use crate::id::{Digest, Name, RunId};
use crate::plan::Plan;
use crate::verdict::Finding;

/// May this patch go to this customer?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Approved,
    /// With findings that people have waived.
    ApprovedWithWaivers,
    Rejected,
    /// Something is still to be done: a run, an approval.
    Pending,
    /// The lab could not say, or not in time.
    Inconclusive,
    /// Another patch took its place, or its verdicts are about other bytes.
    Superseded,
    /// All was well, too long ago.
    Expired,
}

impl Status {
    pub const ALL: [Self; 7] =
        [Self::Approved, Self::ApprovedWithWaivers, Self::Rejected, Self::Pending, Self::Inconclusive, Self::Superseded, Self::Expired];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::ApprovedWithWaivers => "approved-with-waivers",
            Self::Rejected => "rejected",
            Self::Pending => "pending",
            Self::Inconclusive => "inconclusive",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }

    /// Whether the patch may go.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Approved | Self::ApprovedWithWaivers)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How one requirement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Passed,
    /// Bad news, all of it waived.
    Waived,
    /// Bad news that the patch is to blame for.
    Failed,
    /// The same bytes gave good news and bad news.
    Flaky,
    /// The lab could not say.
    Errored,
    /// Nobody has tried, or not all that is required.
    Missing,
    /// Launched and not begun.
    Queued,
    Running,
    /// It passed too long ago, by baselines that do not count for the customer, or nobody knows how long ago.
    Stale,
    /// What was tried were other bytes, or what was approved was something else.
    Superseded,
}

impl Reason {
    pub const ALL: [Self; 10] = [
        Self::Passed,
        Self::Waived,
        Self::Failed,
        Self::Flaky,
        Self::Errored,
        Self::Missing,
        Self::Queued,
        Self::Running,
        Self::Stale,
        Self::Superseded,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Waived => "waived",
            Self::Failed => "failed",
            Self::Flaky => "flaky",
            Self::Errored => "errored",
            Self::Missing => "missing",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Stale => "stale",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the requirement is met.
    pub const fn is_met(self) -> bool {
        matches!(self, Self::Passed | Self::Waived)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a patch is held to for a customer, frozen: from here on the catalog is not read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requirements {
    pub patch: Digest,
    pub patch_id: Name,
    pub customer: Name,
    pub policy: Terms,
    pub policy_digest: Digest,
    /// The cells that must have passed, as the gate would have them run.
    pub plan: Box<Plan>,
    /// When a decision is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Whether the machines are the simulator's. Its runs never speak for real ones, nor the other way round.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
    /// Who asked the gate.
    pub by: String,
}

/// A finding that people take upon themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Waiver {
    /// The patch's digest.
    pub patch: Digest,
    pub customer: Name,
    /// `suite/case`, or the code of a finding about a stage.
    pub case: String,
    /// On this hardware profile; on all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Name>,
    /// The finding's.
    pub fingerprint: Digest,
    /// From this moment on it counts no more.
    pub expires: Timestamp,
    pub reason: String,
}

/// A waiver with all that was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaiverRecord {
    pub id: Uuid,
    pub waiver: Waiver,
    pub proposed: Act,
    /// The first consent of another person than the proposer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consented: Option<Act>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Act>,
}

/// Something that a person did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Act {
    pub by: String,
    pub at: Timestamp,
    /// Why, where the person said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A person's word for a patch, given for one revision of its decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Approval {
    /// The patch's digest.
    pub patch: Digest,
    pub customer: Name,
    pub revision: u32,
    /// What the person saw: [`Digests::basis`] of that revision. Where it is another now, the approval does not count.
    pub basis: Digest,
    pub role: Role,
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// An approval with all that was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ApprovalRecord {
    pub id: Uuid,
    pub approval: Approval,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Act>,
}

/// A person's word against a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rejection {
    /// The patch's digest.
    pub patch: Digest,
    pub customer: Name,
    pub by: String,
    pub reason: String,
}

/// A rejection with all that was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RejectionRecord {
    pub id: Uuid,
    pub rejection: Rejection,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Act>,
}

/// What the gate says about a patch and a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Decision {
    pub patch: DecidedPatch,
    pub customer: Name,
    pub status: Status,
    /// One line for people.
    pub summary: String,
    /// Cells first, then approvals, then what else stands in the way.
    pub requirements: Vec<Requirement>,
    pub digests: Digests,
    /// 1 and up, for this patch digest and customer; another whenever anything but the moment differs.
    pub revision: u32,
    /// Whether nothing is under way or awaited that could change it. Time and people still can.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The moment that it was made for.
    pub as_of: Timestamp,
    /// Until when it holds if nothing happens: a waiver ends then, a verdict gets too old, or the deadline passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The policy's lane that the patch goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Name>,
    /// Whether the machines were the simulator's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DecidedPatch {
    pub id: Name,
    pub sha256: Digest,
}

/// What a decision is bound to. Where one of these changes, it no longer speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Digests {
    pub policy: Digest,
    /// Of the plan that the gate wants.
    pub plan: Digest,
    /// Of what approvals are given for: policy, plan, how each cell stands, findings and waivers.
    pub basis: Digest,
    /// The runs that it rests on, each with its plan's digest.
    pub runs: BTreeMap<RunId, Digest>,
}

/// One thing that has to be so, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requirement {
    /// A cell's id, `approval:ROLE`, `rejection` or `patch`.
    pub what: String,
    pub reason: Reason,
    /// One line for people.
    pub message: String,
    /// The run that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The customer whose run it is, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
    /// The patches that were tested together with this one, where it was not alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<DecidedPatch>,
    /// The bad news about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<GateFinding>,
}

/// Bad news about a cell, as a waiver names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GateFinding {
    pub code: String,
    /// `suite/case`; else the code says which stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    pub fingerprint: Digest,
    /// The waiver that covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<Uuid>,
}

impl From<&Finding> for GateFinding {
    fn from(finding: &Finding) -> Self {
        Self { code: finding.code.clone(), case: finding.case.clone(), fingerprint: finding.fingerprint, waiver: None }
    }
}

impl GateFinding {
    /// What a waiver's `case` has to be.
    pub fn subject(&self) -> &str {
        self.case.as_deref().unwrap_or(&self.code)
    }
}
