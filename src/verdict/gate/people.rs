//! What people's words count for: waivers and approvals. Whose are taken.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use uuid::Uuid;

use super::inputs::{GateInputs, same_person};
use super::{Act, ApprovalRecord, Decision, GateFinding, Reason, Requirement, WaiverRecord};
use crate::catalog::policy::{Approvals, Role, WaiverRule};
use crate::id::{Digest, RunId};
use crate::plan::PlannedCell;
use crate::verdict::health::pattern::matches;

/// Why a person's word is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    #[error("it can't be approved as it stands: {what} {reason}: {message}")]
    Open { what: String, reason: Reason, message: String },
    #[error("the policy asks for no approval: what passes is approved")]
    NotAsked,
    #[error("the policy asks for no approval that the role {0} could give")]
    Role(Role),
    #[error("{by} launched run {run} that it rests on; another person has to approve it")]
    OwnRun { by: String, run: RunId },
    #[error("{by} has approved it already ({id})")]
    Approved { by: String, id: Uuid },
    #[error("{by} has proposed it; another person has to consent")]
    OwnWaiver { by: String },
    #[error("it has a second person's consent already")]
    Consented,
    #[error("{0}")]
    Waiver(&'static str),
}

/// Why this person may not approve this decision in this role.
pub fn unfit_to_approve(decision: &Decision, inputs: &GateInputs, by: &str, role: Role) -> Option<Unfit> {
    let policy = &inputs.requirements.policy;
    let open = decision.requirements.iter().find(|one| !one.what.starts_with("approval:") && !one.reason.is_met());
    let launched = inputs.runs.iter().find(|run| decision.digests.runs.contains_key(&run.state.run) && same_person(&run.state.by, by));
    let given = inputs.approvals.iter().find(|record| {
        let approval = &record.approval;
        record.revoked.is_none() && approval.basis == decision.digests.basis && same_person(&approval.by, by) && approval.role >= role
    });
    match (open, launched, given) {
        (Some(open), _, _) => Some(Unfit::Open { what: open.what.clone(), reason: open.reason, message: open.message.clone() }),
        _ if policy.approvals.is_empty() => Some(Unfit::NotAsked),
        _ if !policy.approvals.iter().any(|asked| asked.role <= role) => Some(Unfit::Role(role)),
        (_, Some(run), _) if !policy.launcher_may_approve => Some(Unfit::OwnRun { by: by.to_owned(), run: run.state.run }),
        (_, _, Some(record)) => Some(Unfit::Approved { by: by.to_owned(), id: record.id }),
        _ => None,
    }
}

/// Why this person may not consent to this waiver.
pub fn unfit_to_consent(record: &WaiverRecord, rule: Option<&WaiverRule>, by: &str, as_of: Timestamp) -> Option<Unfit> {
    match flaw(record, rule, as_of) {
        _ if same_person(by, &record.proposed.by) => Some(Unfit::OwnWaiver { by: by.to_owned() }),
        _ if record.consented.is_some() => Some(Unfit::Consented),
        flaw => flaw.map(Unfit::Waiver),
    }
}

/// What is wrong with a waiver, whoever consents.
pub fn flaw(record: &WaiverRecord, rule: Option<&WaiverRule>, as_of: Timestamp) -> Option<&'static str> {
    let Some(rule) = rule else { return Some("the policy allows no waivers") };
    let waiver = &record.waiver;
    let longest = SignedDuration::try_from(rule.longest.0).unwrap_or(SignedDuration::ZERO);
    match () {
        () if record.proposed.at > as_of => Some("it is not proposed yet"),
        () if record.revoked.as_ref().is_some_and(|act| act.at <= as_of) => Some("it is revoked"),
        () if waiver.expires <= as_of => Some("it has expired"),
        () if !rule.cases.iter().any(|pattern| matches(pattern, &waiver.case)) => Some("the policy does not let this case be waived"),
        () if waiver.expires.duration_since(record.proposed.at) > longest => Some("the policy does not let it be waived for so long"),
        () => None,
    }
}

/// Why a waiver does not count, whatever it is about.
pub fn void(record: &WaiverRecord, rule: Option<&WaiverRule>, as_of: Timestamp) -> Option<&'static str> {
    let second = |act: &Act| act.at <= as_of && !same_person(&act.by, &record.proposed.by);
    let alone = (!record.consented.as_ref().is_some_and(second)).then_some("a second person has yet to consent");
    flaw(record, rule, as_of).or(alone)
}

/// The waiver that covers a finding about a cell.
pub(super) fn waiver<'a>(inputs: &'a GateInputs, cell: &PlannedCell, finding: &GateFinding, as_of: Timestamp) -> Option<&'a WaiverRecord> {
    let requirements = &inputs.requirements;
    inputs.waivers.iter().find(|record| {
        let waiver = &record.waiver;
        let here = waiver.hardware.as_ref().is_none_or(|name| cell.machines.iter().all(|machine| machine.hardware.name == *name));
        waiver.patch == requirements.patch
            && waiver.customer == requirements.customer
            && waiver.case == finding.subject()
            && waiver.fingerprint == finding.fingerprint
            && here
            && void(record, requirements.policy.waiver.as_ref(), as_of).is_none()
    })
}

/// How the approvals stand that the policy asks for, each by another person. A person counts once, for one role.
pub(super) fn approvals(inputs: &GateInputs, basis: Digest, launchers: &BTreeSet<String>, as_of: Timestamp) -> Vec<Requirement> {
    let policy = &inputs.requirements.policy;
    let there = |record: &&ApprovalRecord| record.at <= as_of && record.revoked.as_ref().is_none_or(|act| act.at > as_of);
    let given: Vec<&ApprovalRecord> = inputs.approvals.iter().filter(there).collect();
    let launched = |by: &str| !policy.launcher_may_approve && launchers.iter().any(|launcher| same_person(launcher, by));
    // Who may stand for each role: the highest role that each person approved in.
    let mut people: Vec<(String, Role, Uuid)> = Vec::new();
    for record in given.iter().filter(|record| record.approval.basis == basis && !launched(&record.approval.by)) {
        let approval = &record.approval;
        match people.iter_mut().find(|(by, _, _)| same_person(by, &approval.by)) {
            Some(known) if known.1 < approval.role => *known = (approval.by.clone(), approval.role, record.id),
            Some(_) => {}
            None => people.push((approval.by.clone(), approval.role, record.id)),
        }
    }
    people.sort_by_key(|(_, role, id)| (*role, *id));
    let mut asked: Vec<&Approvals> = policy.approvals.iter().collect();
    // The highest role chooses first: few people have it.
    asked.sort_by_key(|approvals| std::cmp::Reverse(approvals.role));
    let mut told = Vec::new();
    for Approvals { role, count } in asked {
        let mut by = Vec::new();
        while by.len() < *count as usize
            && let Some(at) = people.iter().position(|(_, has, _)| has >= role)
        {
            by.push(people.remove(at).0);
        }
        let old = given.iter().filter(|record| record.approval.basis != basis && record.approval.role >= *role).count();
        let own = given.iter().find(|record| record.approval.basis == basis && launched(&record.approval.by));
        let (reason, message) = match () {
            // An approval by nobody is a mistake in the policy, and no approval.
            () if by.len() >= *count as usize && *count > 0 => (Reason::Passed, format!("approved by {}", by.join(", "))),
            () if old > 0 => {
                let what = format!("{} of {count}; an earlier approval was given for something else", by.len());
                (Reason::Superseded, what)
            }
            () if own.is_some() => {
                let who = own.map(|record| record.approval.by.as_str()).unwrap_or_default();
                (Reason::Missing, format!("{} of {count}; {who} launched a run that it rests on and can't approve it", by.len()))
            }
            () => (Reason::Missing, format!("{} of {count}", by.len())),
        };
        told.push(Requirement {
            what: format!("approval:{role}"),
            reason,
            message,
            run: None,
            from: None,
            together: Vec::new(),
            findings: Vec::new(),
        });
    }
    told
}
