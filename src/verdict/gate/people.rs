//! What people's words count for: waivers and approvals.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::inputs::{GateInputs, same_person};
use super::{Act, ApprovalRecord, GateFinding, Reason, Requirement, WaiverRecord};
use crate::catalog::policy::{Approvals, Role, WaiverRule};
use crate::id::Digest;
use crate::plan::PlannedCell;
use crate::verdict::health::pattern::matches;

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
        told.push(Requirement { what: format!("approval:{role}"), reason, message, run: None, from: None, findings: Vec::new() });
    }
    told
}
