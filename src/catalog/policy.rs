//! The gate's policy: what has to be shown before a patch may go to a customer. The table `[policy]` of `builds/<customer>/customer.toml`.
//!
//! Invariant: pure. A lane changes what it names and nothing else; what a patch is held to ([`Terms`]) depends on the policy and on the
//! patch's kind and severity alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::patch::{Patch, PatchKind, Severity};
use super::text::Span;
use crate::id::{Digest, Name};

/// What has to be shown before a patch may go to the customer. Without it nothing goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// How long a verdict speaks for the patch after its run has ended, for example `"14d"`.
    pub valid_for: Span,
    /// How long what a case gave unpatched counts as its baseline in later runs on the same images, hardware, suites and host, at most
    /// `"30d"`. With `"0s"` every run has its own.
    #[serde(default = "Policy::default_baseline_valid_for")]
    pub baseline_valid_for: Span,
    /// Whether the person who launched a run may approve what it showed.
    #[serde(default)]
    pub launcher_may_approve: bool,
    /// Customers whose verdicts count as the customer's own where patch, images, hardware and suites are the same by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_from: Vec<Name>,
    /// What must pass.
    #[serde(default)]
    pub require: Require,
    /// Approvals on top of a pass; none when left out.
    #[serde(default, rename = "approval", skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approvals>,
    /// What may be waived; nothing when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<WaiverRule>,
    /// Other terms for some patches. The first lane that fits counts, else the policy itself.
    #[serde(default, rename = "lane", skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<Lane>,
}

/// Which cells must pass. A key left out means all that the customer has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Require {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<Vec<Name>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<Vec<Name>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub hardware: Option<Vec<Name>>,
    /// The health suite is always required besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub suites: Option<Vec<Name>>,
    /// Patch levels of environments: patched roles joined by `+`, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub levels: Option<Vec<String>>,
}

/// Approvals of one role, each by another person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Approvals {
    /// The role, or one above it.
    pub role: Role,
    #[schemars(range(min = 1, max = 9))]
    pub count: u32,
}

/// What a person may do, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Launches runs, proposes waivers.
    Engineer,
    /// Approves, rejects, consents to waivers.
    Approver,
    /// Stands above an approver, where a policy asks for that.
    Administrator,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Engineer => "engineer",
            Self::Approver => "approver",
            Self::Administrator => "administrator",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Viewer, Self::Engineer, Self::Approver, Self::Administrator];
        let found = all.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("expected \"viewer\", \"engineer\", \"approver\" or \"administrator\", found {text:?}"))
    }
}

/// What may be waived and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaiverRule {
    /// Shell patterns of `suite/case` or of a stage's code, for example `"web-server/*"`, `"boot-stalled"`.
    #[schemars(length(min = 1))]
    pub cases: Vec<String>,
    /// The longest time from a waiver's proposal to its end.
    pub longest: Span,
}

/// Other terms for the patches of some kinds and severities. What it leaves out is as the policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lane {
    pub name: Name,
    /// Kinds of patch; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<PatchKind>,
    /// Severities; all when left out, also none at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Severity>,
    /// How long after the gate was first asked a decision is due. What is still pending then is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_for: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Require>,
    #[serde(default, rename = "approval", skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Vec<Approvals>>,
}

/// What one patch is held to: the policy with its lane put in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Terms {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Name>,
    pub valid_for: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    pub launcher_may_approve: bool,
    pub accept_from: Vec<Name>,
    pub require: Require,
    pub approvals: Vec<Approvals>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<WaiverRule>,
}

impl Terms {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}

impl Lane {
    fn fits(&self, patch: &Patch) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&patch.kind);
        kind && (self.severities.is_empty() || patch.severity.is_some_and(|severity| self.severities.contains(&severity)))
    }
}

impl Policy {
    /// Also of a customer without a policy.
    pub const fn default_baseline_valid_for() -> Span {
        Span::secs(24 * 3600)
    }

    /// What this patch is held to.
    pub fn terms(&self, patch: &Patch) -> Terms {
        let lane = self.lanes.iter().find(|lane| lane.fits(patch));
        Terms {
            lane: lane.map(|lane| lane.name.clone()),
            valid_for: lane.and_then(|lane| lane.valid_for).unwrap_or(self.valid_for),
            deadline: lane.and_then(|lane| lane.deadline),
            launcher_may_approve: self.launcher_may_approve,
            accept_from: self.accept_from.clone(),
            require: lane.and_then(|lane| lane.require.clone()).unwrap_or_else(|| self.require.clone()),
            approvals: lane.and_then(|lane| lane.approvals.clone()).unwrap_or_else(|| self.approvals.clone()),
            waiver: self.waiver.clone(),
        }
    }
}
