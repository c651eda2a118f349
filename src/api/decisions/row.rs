//! A decision as lists show it.

use jiff::Timestamp;

use crate::id::{Digest, Name};
use crate::verdict::gate::{Decision, Requirement, Status};

#[derive(Clone, Debug)]
pub struct Row {
    pub sha256: Digest,
    pub customer: Name,
    /// The patch's id.
    pub id: Name,
    pub status: Status,
    pub revision: u32,
    pub is_final: bool,
    pub summary: Box<str>,
    pub as_of: Timestamp,
    pub until: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    pub lane: Option<Name>,
    pub simulated: bool,
    /// The approvals that are missing, where nothing else is.
    pub lacks: Box<[Requirement]>,
    /// The entry that put it on record, where that is known.
    pub seq: u64,
}

impl Row {
    pub fn of(decision: &Decision, seq: u64) -> Self {
        let open = || decision.requirements.iter().filter(|one| !one.reason.is_met());
        let waits = decision.status == Status::Pending && open().all(|one| one.what.starts_with("approval:"));
        Self {
            sha256: decision.patch.sha256,
            customer: decision.customer.clone(),
            id: decision.patch.id.clone(),
            status: decision.status,
            revision: decision.revision,
            is_final: decision.is_final,
            summary: decision.summary.as_str().into(),
            as_of: decision.as_of,
            until: decision.until,
            deadline: decision.deadline,
            lane: decision.lane.clone(),
            simulated: decision.simulated,
            lacks: open().filter(|_| waits).cloned().collect(),
            seq,
        }
    }

    /// How it stands at a moment.
    pub fn status_at(&self, now: Timestamp) -> Status {
        let over = self.until.is_some_and(|until| until <= now);
        match self.status {
            Status::Approved | Status::ApprovedWithWaivers if over => Status::Expired,
            Status::Pending if over => Status::Inconclusive,
            status => status,
        }
    }

    /// The decision as it stands at a moment. One whose time is over is never shown as open.
    pub fn at(self, now: Timestamp) -> Self {
        let status = self.status_at(now);
        if status == self.status {
            return self;
        }
        Self { status, summary: "its time is over; open it to have it decided again".into(), lacks: Box::default(), ..self }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn decision(status: &str, reasons: &[(&str, &str)]) -> Decision {
        let digest = Digest::of("x");
        let requirement = |(what, reason): &(&str, &str)| serde_json::json!({ "what": what, "reason": reason, "message": "" });
        let decision = serde_json::json!({
            "patch": { "id": "one", "sha256": digest }, "customer": "acme", "status": status, "summary": "as it was",
            "requirements": reasons.iter().map(requirement).collect::<Vec<_>>(), "revision": 1, "final": true,
            "digests": { "policy": digest, "plan": digest, "basis": digest, "runs": {} },
            "as-of": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z",
        });
        serde_json::from_value(decision).expect("a decision")
    }

    #[test]
    fn what_is_over_is_not_shown_as_open() {
        let over: Timestamp = "2026-03-02T00:00:00Z".parse().expect("a moment");
        let before = over.checked_sub(jiff::SignedDuration::from_nanos(1)).expect("a moment");
        for status in Status::ALL {
            let row = Row::of(&decision(status.as_str(), &[]), 1);
            let (then, now) = (row.clone().at(before), row.at(over));
            assert_eq!((then.status, &*then.summary), (status, "as it was"));
            assert!(!now.status.is_open() && now.status != Status::Pending, "{status}");
        }
    }

    #[test]
    fn an_approval_is_lacking_where_nothing_else_is() {
        let (met, missing, approval) = (("cell", "passed"), ("cell", "missing"), ("approval:approver", "missing"));
        for (status, reasons, lacks) in [
            ("pending", &[met, approval][..], 1),
            ("pending", &[missing, approval], 0),
            ("pending", &[missing], 0),
            ("inconclusive", &[met, approval], 0),
            ("approved", &[met, ("approval:approver", "passed")], 0),
        ] {
            assert_eq!(Row::of(&decision(status, reasons), 1).lacks.len(), lacks, "{status} {reasons:?}");
        }
    }
}
