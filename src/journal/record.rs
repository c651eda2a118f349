//! What people and policies add to the facts: entries of the journal that belong to no run.
//!
//! Invariant: a record changes no fact and no other record. What it means is for [`crate::verdict::gate`] to say.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{Digest, Name};
use crate::verdict::gate::{Approval, Decision, Rejection, Requirements, Waiver};

/// Something about a patch and a customer that is kept besides the runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// What a patch is held to for a customer, from now on.
    RequirementsSet {
        requirements: Box<Requirements>,
    },
    /// A candidate came in. Earlier ones with its id and other bytes, and those that it supersedes, are superseded.
    PatchAdded {
        patch: Digest,
        id: Name,
        supersedes: Vec<Name>,
        by: String,
    },
    WaiverProposed {
        id: Uuid,
        waiver: Waiver,
        by: String,
    },
    /// Another person agrees.
    WaiverConsented {
        id: Uuid,
        by: String,
    },
    WaiverRevoked {
        id: Uuid,
        by: String,
        reason: String,
    },
    Approved {
        id: Uuid,
        approval: Approval,
    },
    Rejected {
        id: Uuid,
        rejection: Rejection,
    },
    /// An approval or a rejection is taken back.
    ApprovalRevoked {
        id: Uuid,
        by: String,
        reason: String,
    },
    /// A decision that differs from the one before it.
    Decided {
        decision: Box<Decision>,
    },
    /// The clock says less than it said when a run had ended: it was ahead then.
    ClockPutBack {
        clock: Timestamp,
    },
    /// Something that was asked for and not done.
    Refused {
        /// For example `approve`, `waive`, `token`.
        what: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patch: Option<Digest>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<Name>,
        by: String,
        reason: String,
    },
}

impl Record {
    /// The kind of the record that concerns every patch.
    pub const CLOCK_PUT_BACK: &'static str = "clock-put-back";

    /// The kind, as it is written in the entry.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RequirementsSet { .. } => "requirements-set",
            Self::PatchAdded { .. } => "patch-added",
            Self::WaiverProposed { .. } => "waiver-proposed",
            Self::WaiverConsented { .. } => "waiver-consented",
            Self::WaiverRevoked { .. } => "waiver-revoked",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::ApprovalRevoked { .. } => "approval-revoked",
            Self::Decided { .. } => "decided",
            Self::ClockPutBack { .. } => Self::CLOCK_PUT_BACK,
            Self::Refused { .. } => "refused",
        }
    }

    /// The patch and the customer that it names itself. What is done about an earlier record has that one's.
    pub fn scope(&self) -> (Option<Digest>, Option<&Name>) {
        match self {
            Self::RequirementsSet { requirements } => (Some(requirements.patch), Some(&requirements.customer)),
            Self::PatchAdded { patch, .. } => (Some(*patch), None),
            Self::WaiverProposed { waiver, .. } => (Some(waiver.patch), Some(&waiver.customer)),
            Self::Approved { approval, .. } => (Some(approval.patch), Some(&approval.customer)),
            Self::Rejected { rejection, .. } => (Some(rejection.patch), Some(&rejection.customer)),
            Self::Decided { decision } => (Some(decision.patch.sha256), Some(&decision.customer)),
            Self::Refused { patch, customer, .. } => (*patch, customer.as_ref()),
            Self::WaiverConsented { .. } | Self::WaiverRevoked { .. } | Self::ApprovalRevoked { .. } | Self::ClockPutBack { .. } => {
                (None, None)
            }
        }
    }

    /// The id that later records name it by.
    pub const fn id(&self) -> Option<Uuid> {
        match self {
            Self::WaiverProposed { id, .. }
            | Self::WaiverConsented { id, .. }
            | Self::WaiverRevoked { id, .. }
            | Self::Approved { id, .. }
            | Self::Rejected { id, .. }
            | Self::ApprovalRevoked { id, .. } => Some(*id),
            Self::RequirementsSet { .. }
            | Self::PatchAdded { .. }
            | Self::Decided { .. }
            | Self::ClockPutBack { .. }
            | Self::Refused { .. } => None,
        }
    }
}
