//! How the API's description writes decisions, which [`crate::verdict::gate`] defines.

use utoipa::ToSchema;

use crate::api::schema::{DigestText, NameText, RunText, TimeText};

/// `approved` and `approved-with-waivers` open the gate; nothing else does.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum StatusText {
    Approved,
    ApprovedWithWaivers,
    Rejected,
    Pending,
    Inconclusive,
    Superseded,
    Expired,
}

/// How one requirement stands. `passed` and `waived` meet it.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum ReasonText {
    Passed,
    Waived,
    Failed,
    Flaky,
    Errored,
    Missing,
    Queued,
    Running,
    Stale,
    Superseded,
}

/// What the gate says about a patch and a customer. Fields are only ever added.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "describes what crate::verdict::gate::Decision is written as; tests/decisions.rs holds the two together")]
pub struct DecisionReport {
    patch: crate::api::runs::PatchRow,
    #[schema(value_type = NameText)]
    customer: (),
    #[schema(value_type = StatusText)]
    status: (),
    /// One line for people.
    summary: String,
    /// Cells first, then approvals, then what else stands in the way.
    requirements: Vec<ReportedRequirement>,
    digests: ReportedDigests,
    /// 1 and up; another whenever anything but the moment differs.
    revision: u32,
    /// Whether nothing is under way or awaited that could change it. Time and people still can.
    r#final: bool,
    /// Since when it says so; in a replay the moment that was asked about.
    #[schema(value_type = TimeText)]
    as_of: (),
    /// Until when it holds if nothing happens.
    #[schema(value_type = Option<TimeText>, required = false)]
    until: (),
    /// When a decision is due.
    #[schema(value_type = Option<TimeText>, required = false)]
    deadline: (),
    /// The policy's lane that the patch goes by.
    #[schema(value_type = Option<NameText>, required = false)]
    lane: (),
    /// There and true where the machines were the simulator's.
    #[schema(required = false)]
    simulated: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "as above")]
pub struct ReportedRequirement {
    /// A cell's id, `approval:ROLE`, `rejection` or `patch`.
    what: String,
    #[schema(value_type = ReasonText)]
    reason: (),
    message: String,
    /// The run that says so.
    #[schema(value_type = Option<RunText>, required = false)]
    run: (),
    /// The customer whose run it is, where that is another.
    #[schema(value_type = Option<NameText>, required = false)]
    from: (),
    /// The patches that were tested together with this one, where it was not alone.
    #[schema(required = false)]
    together: Vec<crate::api::runs::PatchRow>,
    #[schema(required = false)]
    findings: Vec<ReportedGateFinding>,
}

/// Bad news about a cell, as a waiver names it.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "as above")]
pub struct ReportedGateFinding {
    code: String,
    /// `suite/case`; else the code says which stage.
    #[schema(required = false, nullable = false)]
    case: Option<String>,
    #[schema(value_type = DigestText)]
    fingerprint: (),
    /// The waiver that covers it.
    #[schema(required = false, nullable = false)]
    waiver: Option<uuid::Uuid>,
}

/// What the decision is bound to.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "as above")]
pub struct ReportedDigests {
    #[schema(value_type = DigestText)]
    policy: (),
    #[schema(value_type = DigestText)]
    plan: (),
    /// What approvals are given for.
    #[schema(value_type = DigestText)]
    basis: (),
    /// The digest of the plan of each run that it rests on.
    runs: std::collections::BTreeMap<String, String>,
}
