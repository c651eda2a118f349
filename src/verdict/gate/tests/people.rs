//! Waivers and approvals that do not count, and those that do.

use uuid::Uuid;

use super::fixture::{DAY, Outcome, after, asks_for, at, case, cell, fingerprint, name, run};
use crate::catalog::policy::Role;
use crate::id::Digest;
use crate::verdict::gate::{
    Act, Approval, ApprovalRecord, GateInputs, Reason, Rejection, RejectionRecord, Status, Unfit, Waiver, WaiverRecord, decide,
    unfit_to_approve, unfit_to_consent,
};

fn act(by: &str, seconds: i64) -> Act {
    Act { by: by.to_owned(), at: at(seconds), reason: String::new() }
}

/// A good waiver of `web/a`: proposed by alice in hour 1, consented to by bob in hour 2, for ten days.
pub(super) fn waiver() -> WaiverRecord {
    let waiver = Waiver {
        patch: crate::plan::examples::planned("script").sha256,
        customer: name("acme"),
        case: "web/a".to_owned(),
        hardware: None,
        fingerprint: fingerprint("web/a"),
        expires: at(10 * DAY),
        reason: "known".to_owned(),
    };
    WaiverRecord { id: Uuid::from_u128(1), waiver, proposed: act("alice", 3600), consented: Some(act("bob", 7200)), revoked: None }
}

fn red(waivers: Vec<WaiverRecord>) -> GateInputs {
    GateInputs { waivers, ..case(&[Outcome::Red("web/a")]).inputs }
}

#[test]
fn a_waiver_by_two_people_covers_its_finding_until_it_ends() {
    let inputs = red(vec![waiver()]);
    let decision = decide(&inputs, at(DAY));
    assert_eq!((decision.status, decision.requirements[0].reason), (Status::ApprovedWithWaivers, Reason::Waived));
    assert_eq!(decision.requirements[0].findings[0].waiver, Some(Uuid::from_u128(1)));
    assert_eq!(decision.until, Some(at(10 * DAY)));
    assert_eq!(decide(&inputs, at(10 * DAY)).status, Status::Rejected, "from that moment on it counts no more");
    assert_eq!(decide(&inputs, at(7199)).status, Status::Rejected, "before the consent it does not count");
}

type Change = fn(&mut WaiverRecord);

#[test]
fn a_waiver_for_a_run_that_goes_on_ends_too() {
    let inputs = GateInputs { waivers: vec![waiver()], ..case(&[Outcome::Abandoned("web/a")]).inputs };
    let decision = decide(&inputs, at(DAY));
    assert_eq!(decision.until, Some(at(10 * DAY)), "{}", decision.summary);
    assert_ne!(decision.requirements[0].message, decide(&inputs, at(10 * DAY)).requirements[0].message);
}

#[test]
fn waivers_that_do_not_count() {
    let changes: &[(&str, Change)] = &[
        ("nobody consented", |one| one.consented = None),
        ("the proposer consented", |one| one.consented = Some(act("alice", 7200))),
        ("the proposer consented in other letters", |one| one.consented = Some(act(" Alice", 7200))),
        ("consent comes later", |one| one.consented = Some(act("bob", 2 * DAY))),
        ("proposed later", |one| one.proposed.at = at(2 * DAY)),
        ("revoked", |one| one.revoked = Some(act("carol", 8000))),
        ("expired", |one| one.waiver.expires = at(DAY)),
        ("for longer than the policy allows", |one| one.waiver.expires = at(31 * DAY)),
        ("another patch", |one| one.waiver.patch = Digest::of("x")),
        ("another customer", |one| one.waiver.customer = name("umbrella")),
        ("another case", |one| one.waiver.case = "web/b".to_owned()),
        ("a pattern instead of a case", |one| one.waiver.case = "web/*".to_owned()),
        ("other hardware", |one| one.waiver.hardware = Some(name("uefi"))),
        ("another fingerprint", |one| one.waiver.fingerprint = Digest::of("x")),
    ];
    for (what, change) in changes {
        let mut changed = waiver();
        change(&mut changed);
        let decision = decide(&red(vec![changed]), at(DAY));
        assert_eq!((decision.status, decision.requirements[0].reason), (Status::Rejected, Reason::Failed), "{what}");
    }
    let mut here = waiver();
    here.waiver.hardware = Some(name("bios"));
    assert_eq!(decide(&red(vec![here]), at(DAY)).status, Status::ApprovedWithWaivers);
}

#[test]
fn a_policy_that_allows_no_waiver_of_it_outranks_everyone() {
    let mut inputs = red(vec![waiver()]);
    inputs.requirements.policy.waiver = None;
    assert_eq!(decide(&inputs, at(DAY)).status, Status::Rejected);
    let mut other = waiver();
    other.waiver.case = "ssh/a".to_owned();
    other.waiver.fingerprint = fingerprint("ssh/a");
    let inputs = GateInputs { waivers: vec![other], ..case(&[Outcome::Red("ssh/a")]).inputs };
    assert_eq!(decide(&inputs, at(DAY)).status, Status::Rejected, "only web/* may be waived");
}

#[test]
fn a_waiver_covers_flaky_cases_and_neither_faults_nor_what_was_not_tried() {
    let flaky = |outcomes: &[Outcome]| {
        let mut inputs = case(outcomes).inputs;
        let fingerprint = decide(&inputs, at(DAY)).requirements[0].findings[0].fingerprint;
        let mut waived = waiver();
        waived.waiver.fingerprint = fingerprint;
        inputs.waivers = vec![waived];
        decide(&inputs, at(DAY)).requirements[0].reason
    };
    assert_eq!(flaky(&[Outcome::Flaky("web/a")]), Reason::Waived);
    assert_eq!(flaky(&[Outcome::Red("web/a"), Outcome::Pass]), Reason::Waived);
    assert_eq!(flaky(&[Outcome::Red("web/a"), Outcome::Fault]), Reason::Errored);
    for outcome in [Outcome::Fault, Outcome::Running, Outcome::Queued] {
        let inputs = GateInputs { waivers: vec![waiver()], ..case(&[outcome]).inputs };
        assert!(!decide(&inputs, at(DAY)).status.is_open(), "{outcome:?}");
    }
    // A finding that ended the pass leaves cases untried; who waives it has not seen them pass.
    let mut inputs = red(vec![waiver()]);
    inputs.runs[0].judgement.cells[0].cases[0].comparison = crate::verdict::Comparison::Missing;
    let decision = decide(&inputs, at(DAY));
    assert_eq!((decision.status, decision.requirements[0].reason), (Status::Inconclusive, Reason::Errored));
}

#[test]
fn a_waived_finding_on_one_cell_does_not_cover_the_other() {
    let mut inputs = red(vec![waiver()]);
    inputs.waivers[0].waiver.hardware = Some(name("bios"));
    let second = cell("web", "uefi");
    inputs.requirements.plan.cells.push(second.clone());
    inputs.runs.push(run(5, &[second], &[Outcome::Red("web/a")]));
    let reasons: Vec<_> = decide(&inputs, at(DAY)).requirements.into_iter().map(|one| one.reason).collect();
    assert_eq!(reasons, [Reason::Waived, Reason::Failed]);
}

/// A pass that asks for approvals, and these: person, role.
fn approved(asked: &[(Role, u32)], given: &[(&str, Role)]) -> GateInputs {
    let mut inputs = case(&[Outcome::Pass]).inputs;
    inputs.requirements.policy.approvals = asked.iter().map(|(role, count)| asks_for(*role, *count)).collect();
    let seen = decide(&inputs, at(DAY));
    let record = |(number, (by, role)): (usize, &(&str, Role))| ApprovalRecord {
        id: Uuid::from_u128(number as u128),
        approval: Approval {
            patch: seen.patch.sha256,
            customer: name("acme"),
            revision: seen.revision,
            basis: seen.digests.basis,
            role: *role,
            by: (*by).to_owned(),
            comment: String::new(),
        },
        at: after(at(DAY), 60),
        revoked: None,
    };
    inputs.approvals = given.iter().enumerate().map(record).collect();
    inputs
}

/// What is asked for, who approved, and whether that opens the gate.
type Row = (&'static [(Role, u32)], &'static [(&'static str, Role)], bool);

#[test]
fn approvals_by_table() {
    use Role::{Administrator, Approver, Engineer};
    let table: &[Row] = &[
        (&[(Approver, 1)], &[], false),
        (&[(Approver, 1)], &[("bob", Approver)], true),
        (&[(Approver, 1)], &[("bob", Administrator)], true),
        (&[(Approver, 1)], &[("bob", Engineer)], false),
        // The run was launched by alice.
        (&[(Approver, 1)], &[("alice", Approver)], false),
        (&[(Approver, 1)], &[("ALICE ", Administrator)], false),
        (&[(Approver, 1)], &[("alice", Approver), ("bob", Approver)], true),
        // The same person twice is one person.
        (&[(Approver, 2)], &[("bob", Approver), ("bob", Approver)], false),
        (&[(Approver, 2)], &[("bob", Approver), ("Bob", Administrator)], false),
        (&[(Approver, 2)], &[("bob", Approver), ("carol", Approver)], true),
        (&[(Approver, 1), (Administrator, 1)], &[("bob", Administrator)], false),
        (&[(Approver, 1), (Administrator, 1)], &[("bob", Approver), ("bob", Administrator)], false),
        (&[(Approver, 1), (Administrator, 1)], &[("bob", Administrator), ("carol", Approver)], true),
        (&[(Approver, 1), (Administrator, 1)], &[("bob", Approver), ("carol", Approver)], false),
        (&[(Engineer, 1), (Approver, 1)], &[("bob", Approver), ("carol", Engineer)], true),
        // None of nobody is no approval.
        (&[(Approver, 0)], &[], false),
    ];
    for (asked, given, open) in table {
        let decision = decide(&approved(asked, given), at(2 * DAY));
        let status = if *open { Status::Approved } else { Status::Pending };
        assert_eq!(decision.status, status, "{asked:?} {given:?}: {}", decision.summary);
    }
    let mut inputs = approved(&[(Approver, 1)], &[("alice", Approver)]);
    inputs.requirements.policy.launcher_may_approve = true;
    // The policy is part of what was approved.
    assert_eq!(decide(&inputs, at(2 * DAY)).status, Status::Pending);
    let basis = decide(&inputs, at(2 * DAY)).digests.basis;
    inputs.approvals[0].approval.basis = basis;
    assert_eq!(decide(&inputs, at(2 * DAY)).status, Status::Approved);
}

#[test]
fn who_may_approve_by_table() {
    use Role::{Administrator, Approver, Engineer};
    let asked = [(Approver, 1), (Administrator, 1)];
    let given = [("Bob", Approver)];
    let run = case(&[Outcome::Pass]).inputs.runs[0].state.run;
    let own_run = |by: &str| Some(Unfit::OwnRun { by: by.to_owned(), run });
    let again = |by: &str| Some(Unfit::Approved { by: by.to_owned(), id: Uuid::from_u128(0) });
    for (asked, by, role, expected) in [
        (&asked[..], "carol", Approver, None),
        (&asked, "carol", Administrator, None),
        (&asked, "carol", Engineer, Some(Unfit::Role(Engineer))),
        // Who launched the run, in whatever letters.
        (&asked, "alice", Approver, own_run("alice")),
        (&asked, " Alice", Administrator, own_run(" Alice")),
        // Once in a role is enough; in a higher one it is another word.
        (&asked, "bob", Approver, again("bob")),
        (&asked, "BOB", Approver, again("BOB")),
        (&asked, "bob", Administrator, None),
        (&[], "carol", Administrator, Some(Unfit::NotAsked)),
    ] {
        let inputs = approved(asked, &given);
        let decision = decide(&inputs, at(2 * DAY));
        assert_eq!(unfit_to_approve(&decision, &inputs, by, role), expected, "{asked:?} {by} {role}");
    }
    let mut inputs = approved(&asked, &given);
    inputs.requirements.policy.launcher_may_approve = true;
    assert_eq!(unfit_to_approve(&decide(&inputs, at(2 * DAY)), &inputs, "alice", Approver), None);
    let mut inputs = approved(&asked, &given);
    inputs.approvals[0].revoked = Some(act("bob", DAY + 90));
    assert_eq!(unfit_to_approve(&decide(&inputs, at(2 * DAY)), &inputs, "bob", Approver), None, "taken back");
    // What nobody may approve: a cell that did not pass, and what a person is against.
    let red = GateInputs { runs: case(&[Outcome::Red("web/a")]).inputs.runs, ..approved(&asked, &[]) };
    let open = unfit_to_approve(&decide(&red, at(2 * DAY)), &red, "carol", Administrator);
    assert!(matches!(open, Some(Unfit::Open { reason: Reason::Failed, .. })), "{open:?}");
}

#[test]
fn who_may_consent_by_table() {
    let rule = crate::verdict::gate::tests::requirements().policy.waiver;
    let proposed = || WaiverRecord { consented: None, ..waiver() };
    let own = |by: &str| Some(Unfit::OwnWaiver { by: by.to_owned() });
    for (record, rule, by, expected) in [
        (proposed(), rule.as_ref(), "bob", None),
        (proposed(), rule.as_ref(), "alice", own("alice")),
        (proposed(), rule.as_ref(), "ALICE ", own("ALICE ")),
        (waiver(), rule.as_ref(), "carol", Some(Unfit::Consented)),
        (proposed(), None, "bob", Some(Unfit::Waiver("the policy allows no waivers"))),
        (WaiverRecord { revoked: Some(act("alice", 7300)), ..proposed() }, rule.as_ref(), "bob", Some(Unfit::Waiver("it is revoked"))),
    ] {
        assert_eq!(unfit_to_consent(&record, rule, by, at(DAY)), expected, "{by}: {record:?}");
    }
    let late = unfit_to_consent(&proposed(), rule.as_ref(), "bob", at(10 * DAY));
    assert_eq!(late, Some(Unfit::Waiver("it has expired")));
}

type Later = (&'static str, fn(&mut GateInputs));

#[test]
fn an_approval_does_not_outlive_what_was_approved() {
    let changes: &[Later] = &[
        ("a new failure", |inputs| inputs.runs.push(run(9, &[cell("web", "bios")], &[Outcome::Red("web/a")]))),
        ("a new failure that is waived", |inputs| {
            inputs.runs.push(run(9, &[cell("web", "bios")], &[Outcome::Red("web/a")]));
            inputs.waivers.push(waiver());
        }),
        ("other terms", |inputs| inputs.requirements.policy.valid_for = crate::catalog::text::Span::secs(1_000_000)),
        ("fewer suites required", |inputs| inputs.requirements.plan.cells[0].suites.truncate(1)),
        ("revoked", |inputs| {
            inputs.approvals[0].revoked = Some(Act { by: "carol".to_owned(), at: at(DAY + 120), reason: String::new() });
        }),
    ];
    for (what, change) in changes {
        let mut inputs = approved(&[(Role::Approver, 1)], &[("bob", Role::Approver)]);
        assert_eq!(decide(&inputs, at(2 * DAY)).status, Status::Approved);
        change(&mut inputs);
        let decision = decide(&inputs, at(2 * DAY));
        assert!(!decision.status.is_open(), "{what}: {}", decision.summary);
    }
    let inputs = approved(&[(Role::Approver, 1)], &[("bob", Role::Approver)]);
    assert_eq!(decide(&inputs, at(DAY)).status, Status::Pending, "before it was given it does not count");
    // Another pass of the same changes nothing that was approved.
    let mut inputs = inputs;
    inputs.runs.push(run(9, &[cell("web", "bios")], &[Outcome::Pass]));
    assert_eq!(decide(&inputs, at(2 * DAY)).status, Status::Approved);
}

#[test]
fn a_rejection_outranks_passes_and_approvals_until_it_is_revoked() {
    let mut inputs = approved(&[(Role::Approver, 1)], &[("bob", Role::Approver)]);
    let rejection =
        Rejection { patch: inputs.requirements.patch, customer: name("acme"), by: "carol".to_owned(), reason: "not this month".to_owned() };
    inputs.rejections = vec![RejectionRecord { id: Uuid::from_u128(9), rejection, at: at(DAY + 90), revoked: None }];
    assert_eq!(decide(&inputs, at(2 * DAY)).status, Status::Rejected);
    inputs.rejections[0].revoked = Some(act("carol", DAY + 95));
    assert_eq!(decide(&inputs, at(2 * DAY)).status, Status::Approved);
}
