//! Attempts at a yes that is not deserved, and what has to hold whatever the inputs are.

mod applied;
pub(super) mod fixture;
mod people;
mod properties;
mod together;

use fixture::{Case, DAY, Outcome, at, case, cell, name, requirements, run, suite};

use super::*;
use crate::catalog::text::Span;
use Outcome::{Abandoned, Fault, Flaky, Pass, Queued, Red, Running, Unconfirmed};

/// (runs in their order, how the cell stands, the decision)
const TABLE: &[(&[Outcome], Reason, Status)] = &[
    (&[], Reason::Missing, Status::Pending),
    (&[Pass], Reason::Passed, Status::Approved),
    (&[Red("a")], Reason::Failed, Status::Rejected),
    (&[Fault], Reason::Errored, Status::Inconclusive),
    (&[Flaky("a")], Reason::Flaky, Status::Inconclusive),
    (&[Unconfirmed("a")], Reason::Flaky, Status::Inconclusive),
    (&[Queued], Reason::Queued, Status::Pending),
    (&[Running], Reason::Running, Status::Pending),
    // A lab that has made up its mind later.
    (&[Fault, Pass], Reason::Passed, Status::Approved),
    (&[Pass, Fault], Reason::Errored, Status::Inconclusive),
    (&[Fault, Running], Reason::Running, Status::Pending),
    (&[Pass, Running], Reason::Passed, Status::Approved),
    (&[Pass, Queued], Reason::Passed, Status::Approved),
    // Trying again until it is green.
    (&[Red("a"), Pass], Reason::Flaky, Status::Rejected),
    (&[Pass, Red("a")], Reason::Flaky, Status::Rejected),
    (&[Red("a"), Pass, Pass, Pass], Reason::Flaky, Status::Rejected),
    (&[Flaky("a"), Pass], Reason::Flaky, Status::Inconclusive),
    (&[Unconfirmed("a"), Pass], Reason::Flaky, Status::Inconclusive),
    (&[Red("a"), Fault], Reason::Failed, Status::Rejected),
    (&[Red("a"), Running], Reason::Failed, Status::Rejected),
    // Giving a run up when it turns red.
    (&[Abandoned("a")], Reason::Running, Status::Pending),
    (&[Abandoned("a"), Pass], Reason::Running, Status::Pending),
    (&[Pass, Abandoned("a")], Reason::Running, Status::Pending),
];

#[test]
fn one_cell_by_table() {
    for (outcomes, reason, status) in TABLE {
        let case = case(outcomes);
        let decision = decide(&case.inputs, at(DAY));
        let stands = &decision.requirements[0];
        assert_eq!((stands.reason, decision.status), (*reason, *status), "{outcomes:?}: {}", decision.summary);
        assert!(!decision.status.is_open() || decision.is_final);
        assert_eq!(decision.is_final, *status != Status::Pending && *reason != Reason::Running, "{outcomes:?}");
    }
}

#[test]
fn a_deadline_turns_pending_into_inconclusive_and_nothing_else() {
    for (outcomes, _, status) in TABLE {
        let mut case = case(outcomes);
        case.inputs.requirements.deadline = Some(at(DAY));
        assert_eq!(decide(&case.inputs, at(DAY - 1)).status, *status, "{outcomes:?}");
        let late = if *status == Status::Pending { Status::Inconclusive } else { *status };
        assert_eq!(decide(&case.inputs, at(DAY)).status, late, "{outcomes:?}");
    }
}

#[test]
fn the_summary_names_first_what_the_status_follows_from() {
    for (outcome, status, told) in [
        (Red("a"), Status::Rejected, "rejected: acme.web@uefi failed: a; 1 more open"),
        (Fault, Status::Inconclusive, "inconclusive: acme.web@uefi errored: "),
        (Running, Status::Pending, "pending: acme.web@bios missing: not tried; 1 more open"),
    ] {
        // The first of two cells was not tried.
        let mut inputs = case(&[]).inputs;
        let second = cell("web", "uefi");
        inputs.requirements.plan.cells.push(second.clone());
        inputs.runs.push(run(1, &[second], &[outcome]));
        let decision = decide(&inputs, at(DAY));
        assert_eq!(decision.status, status, "{outcome:?}");
        assert!(decision.summary.starts_with(told), "{outcome:?}: {}", decision.summary);
        assert_eq!(decision.requirements[0].what, "acme.web@bios", "the order of the requirements stays");
    }
    let mut inputs = case(&[]).inputs;
    let rejection = Rejection { patch: inputs.requirements.patch, customer: name("acme"), by: "carol".to_owned(), reason: "no".to_owned() };
    inputs.rejections = vec![RejectionRecord { id: Uuid::from_u128(9), rejection, at: at(1), revoked: None }];
    let decision = decide(&inputs, at(DAY));
    assert!(decision.summary.starts_with("rejected: rejection failed: rejected by carol"), "{}", decision.summary);
    inputs.superseded_by = Some(DecidedPatch { id: name("other"), sha256: Digest::of("other") });
    let decision = decide(&inputs, at(DAY));
    assert!(decision.summary.starts_with("superseded: patch superseded: other ("), "{}", decision.summary);
}

#[test]
fn a_verdict_speaks_as_long_as_the_policy_says() {
    let case = case(&[Pass]);
    let ended = fixture::ended(0);
    let last = ended.checked_add(jiff::SignedDuration::from_hours(14 * 24)).expect("a moment");
    let nanosecond = jiff::SignedDuration::from_nanos(1);
    let decision = decide(&case.inputs, last);
    assert_eq!(decision.status, Status::Approved);
    let end = decision.until.expect("an end");
    assert_eq!(end, last.checked_add(nanosecond).expect("a moment"));
    let late = decide(&case.inputs, end);
    assert_eq!((late.status, late.requirements[0].reason), (Status::Expired, Reason::Stale));
    // Before the run had ended there was no verdict.
    let early = decide(&case.inputs, ended.checked_sub(nanosecond).expect("a moment"));
    assert!(!early.status.is_open(), "{}", early.summary);
    assert_eq!(decide(&case.inputs, at(-DAY)).requirements[0].reason, Reason::Missing);
}

#[test]
fn nothing_required_is_nothing_shown() {
    let mut case = case(&[Pass]);
    case.inputs.requirements.plan.cells.clear();
    let decision = decide(&case.inputs, at(DAY));
    assert_eq!(decision.status, Status::Inconclusive);
    assert!(decision.summary.contains("nothing is required"), "{}", decision.summary);
    // A plan for another patch requires nothing of this one.
    let mut case = fixture::case(&[Pass]);
    case.inputs.requirements.plan.patch.sha256 = Digest::of("other");
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::Inconclusive);
}

/// What a run tried instead, and how the requirement stands then.
type Other = (&'static str, fn(&mut Case), Reason);

#[test]
fn other_bytes_speak_for_nothing() {
    fn tried(case: &mut Case) -> &mut crate::plan::PlannedCell {
        &mut case.inputs.runs[0].state.plan.cells[0]
    }
    let others: &[Other] = &[
        ("patch", |case| case.inputs.runs[0].state.plan.patch.sha256 = Digest::of("x"), Reason::Missing),
        ("how it is installed", |case| case.inputs.runs[0].state.plan.patch.brings = true, Reason::Missing),
        ("image", |case| tried(case).machines[0].image.sha256 = Digest::of("x"), Reason::Superseded),
        ("hardware", |case| tried(case).machines[0].hardware.sha256 = Digest::of("x"), Reason::Superseded),
        ("who is patched", |case| tried(case).machines[0].patched = false, Reason::Superseded),
        ("services", |case| tried(case).machines[0].services.clear(), Reason::Superseded),
        ("volatile", |case| tried(case).machines[0].volatile.push("/".to_owned()), Reason::Superseded),
        ("a suite's bytes", |case| tried(case).suites[0].sha256 = Digest::of("x"), Reason::Superseded),
        ("fewer cases", |case| tried(case).suites[0].cases.truncate(1), Reason::Superseded),
        ("fewer suites", |case| tried(case).suites.truncate(1), Reason::Missing),
        ("another customer", |case| tried(case).customer = name("umbrella"), Reason::Missing),
        ("the simulator", |case| case.inputs.runs[0].state.controllers[0].hypervisor = "sim:x.toml".to_owned(), Reason::Missing),
    ];
    for (what, change, reason) in others {
        let mut case = case(&[Pass]);
        change(&mut case);
        let decision = decide(&case.inputs, at(DAY));
        assert!(!decision.status.is_open(), "{what}: {}", decision.summary);
        assert_eq!(decision.requirements[0].reason, *reason, "{what}");
    }
    // One that was approved is superseded when an image is built anew.
    let mut case = case(&[Pass]);
    case.inputs.requirements.plan.cells[0].machines[0].image.sha256 = Digest::of("new");
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::Superseded);
    // A real run never speaks for the simulator either.
    let mut case = fixture::case(&[Pass]);
    case.inputs.requirements.simulated = true;
    assert!(!decide(&case.inputs, at(DAY)).status.is_open());
}

#[test]
fn more_suites_than_required_are_welcome_and_their_findings_count() {
    let mut case = case(&[Pass]);
    case.inputs.runs[0].state.plan.cells[0].suites.push(suite("extra").into());
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::Approved);
    let mut case = fixture::case(&[Red("extra/case")]);
    case.inputs.runs[0].state.plan.cells[0].suites.push(suite("extra").into());
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::Rejected);
}

#[test]
fn a_failure_in_a_run_of_fewer_suites_is_not_forgotten() {
    let mut case = case(&[Red("web/a"), Pass]);
    case.inputs.runs[0].state.plan.cells[0].suites.truncate(1);
    let decision = decide(&case.inputs, at(DAY));
    assert_eq!((decision.requirements[0].reason, decision.status), (Reason::Flaky, Status::Rejected));
    // Of another edition of the suite it is.
    case.inputs.runs[0].state.plan.cells[0].suites[0].sha256 = Digest::of("x");
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::Approved);
}

#[test]
fn another_customers_verdict_counts_where_the_policy_says_so_and_is_named() {
    let elsewhere = |case: &mut Case| {
        let tried = &mut case.inputs.runs[0].state.plan.cells[0];
        tried.customer = name("umbrella");
        tried.subject = crate::plan::Subject::Build(name("portal"));
        tried.machines[0].build = name("portal");
    };
    let mut own = case(&[Pass]);
    elsewhere(&mut own);
    assert_eq!(decide(&own.inputs, at(DAY)).requirements[0].reason, Reason::Missing);
    own.inputs.requirements.policy.accept_from = vec![name("umbrella")];
    let decision = decide(&own.inputs, at(DAY));
    assert_eq!((decision.status, decision.requirements[0].from.clone()), (Status::Approved, Some(name("umbrella"))));
    // So do its failures.
    let mut red = case(&[Red("web/a"), Pass]);
    elsewhere(&mut red);
    red.inputs.requirements.policy.accept_from = vec![name("umbrella")];
    assert_eq!(decide(&red.inputs, at(DAY)).status, Status::Rejected);
}

#[test]
fn every_required_cell_has_to_pass() {
    let mut case = case(&[Pass]);
    let second = cell("web", "uefi");
    case.inputs.requirements.plan.cells.push(second.clone());
    let decision = decide(&case.inputs, at(DAY));
    assert_eq!((decision.status, decision.requirements[1].reason), (Status::Pending, Reason::Missing));
    case.inputs.runs.push(run(7, &[second], &[Pass]));
    let decision = decide(&case.inputs, at(DAY));
    assert_eq!(decision.status, Status::Approved);
    assert_eq!(decision.digests.runs.len(), 2, "it names both runs that it rests on");
}

#[test]
fn a_cell_that_ended_well_in_an_unfinished_run_has_not_passed() {
    let mut case = case(&[Pass]);
    case.inputs.runs[0].state.ended = None;
    case.inputs.runs[0].judgement.finished = false;
    let decision = decide(&case.inputs, at(DAY));
    assert_eq!((decision.requirements[0].reason, decision.status), (Reason::Running, Status::Pending));
}

#[test]
fn who_stops_a_run_when_it_turns_red_has_seen_red() {
    use crate::cell::{CaseObservation, CaseOutcome, Cause, Point, Stage, StageOutcome, Trouble};
    use crate::journal::StageRecord;
    let seen = |point, outcome| CaseObservation {
        suite: name("web"),
        case: name("a"),
        point,
        outcome,
        elapsed_ms: 1,
        message: "no page".to_owned(),
        detail: String::new(),
        fingerprint: None,
        skipped: Vec::new(),
        notes: Vec::new(),
        evidence: Vec::new(),
        origin: None,
    };
    // The first run was cut short after the case had failed; what it was taken up with, and the next run, went well.
    let decided = |after: CaseOutcome, cause: Cause| {
        let mut case = case(&[Pass, Pass]);
        let record = case.inputs.runs[0].state.cells.values_mut().next().expect("the cell");
        let stopped = StageOutcome::Failed { trouble: Trouble::new(cause, "stopped") };
        let stage = StageRecord { stage: Stage::Suites, started: at(1), ended: Some((at(2), stopped)) };
        let mut cut = record.passes[0].clone();
        cut.stages = vec![stage];
        cut.cases = vec![seen(Point::Baseline, CaseOutcome::Pass), seen(Point::Applied, after)];
        record.passes.insert(0, cut);
        decide(&case.inputs, at(DAY)).requirements[0].reason
    };
    for cause in [Cause::Cancelled, Cause::ControllerEnded] {
        assert_eq!(decided(CaseOutcome::Fail, cause.clone()), Reason::Flaky);
        assert_eq!(decided(CaseOutcome::Pass, cause), Reason::Passed);
    }
    // What a host that failed spoilt is nobody's word.
    assert_eq!(decided(CaseOutcome::Fail, Cause::HostDiskFull), Reason::Passed);
}

#[test]
fn a_waiver_does_not_speak_for_stages_that_were_never_tried() {
    use crate::cell::{Cause, Stage, StageOutcome, Trouble};
    use crate::journal::StageRecord;
    // Where it ended, the last stage that was tried all the same, whether the patch can be taken back, and why it does not count.
    for (ended, tried, way_back, why) in [
        (Stage::Rollback, Stage::Rollback, true, None),
        (Stage::Reapply, Stage::Reapply, true, Some("rollback was not tried")),
        (Stage::Reapply, Stage::Rollback, true, None),
        (Stage::Reapply, Stage::Reapply, false, None),
        (Stage::Verify, Stage::Suites, false, Some("reapply was not tried")),
        (Stage::Teardown, Stage::Rollback, true, None),
    ] {
        for outcome in [Red("web/a"), Flaky("web/a")] {
            let mut case = case(&[outcome]);
            let run = &mut case.inputs.runs[0];
            run.state.plan.patch.manifest.uninstall = way_back.then(|| "./undo".to_owned());
            run.state.plan.cells[0].machines.iter_mut().for_each(|machine| machine.patched = true);
            let stage = |stage: Stage| {
                let trouble = Trouble::new(Cause::NotIdempotent, "changed");
                let outcome = if stage == ended { StageOutcome::Failed { trouble } } else { StageOutcome::Passed };
                StageRecord { stage, started: at(1), ended: Some((at(2), outcome)) }
            };
            let stages = Stage::ALL.into_iter().filter(|one| *one <= tried || *one == Stage::Teardown);
            let stages = stages.filter(|one| *one != Stage::ColdBoot).map(stage).collect();
            run.state.cells.values_mut().next().expect("the cell").passes[0].stages = stages;
            let finding = decide(&case.inputs, at(DAY)).requirements[0].findings[0].clone();
            case.inputs.waivers = vec![people::waiver()];
            case.inputs.waivers[0].waiver.fingerprint = finding.fingerprint;
            let decision = decide(&case.inputs, at(DAY));
            let expected = if why.is_some() { Reason::Errored } else { Reason::Waived };
            let first = &decision.requirements[0];
            assert_eq!(first.reason, expected, "{ended} {tried} {way_back} {outcome:?}: {}", decision.summary);
            assert!(why.is_none_or(|why| first.message.contains(why)), "{}", first.message);
        }
    }
}

/// Has the run of this number rest on a baseline that was seen at a moment.
fn take_over(case: &mut Case, number: usize, seen: i64) {
    use crate::cell::{CaseObservation, CaseOutcome, Origin, Point};
    let record = case.inputs.runs[number].state.cells.values_mut().next().expect("the cell");
    let cell = cell("web", "bios").id;
    let origin = Origin { run: RunId::from_parts(9, [1; 10]), cell, attempt: 1, at: at(seen), sha256: Digest::of("seen") };
    record.passes[0].cases.push(CaseObservation {
        suite: name("web"),
        case: name("a"),
        point: Point::Baseline,
        outcome: CaseOutcome::Pass,
        elapsed_ms: 1,
        message: String::new(),
        detail: String::new(),
        fingerprint: None,
        skipped: Vec::new(),
        notes: Vec::new(),
        evidence: Vec::new(),
        origin: Some(Box::new(origin)),
    });
}

/// For how long baselines count for the customer.
fn let_count(case: &mut Case, seconds: i64) {
    case.inputs.requirements.plan.cells[0].baseline_valid_for = Span::secs(seconds.unsigned_abs());
}

#[test]
fn a_pass_speaks_no_longer_than_the_oldest_baseline_that_it_rests_on() {
    let decided = |seen: i64, asked: i64| {
        let mut case = case(&[Pass]);
        let_count(&mut case, 30 * DAY);
        take_over(&mut case, 0, seen);
        let decision = decide(&case.inputs, at(asked));
        (decision.status, decision.requirements[0].message.contains("by baselines of"))
    };
    assert_eq!(decided(-5 * DAY, 8 * DAY), (Status::Approved, false));
    assert_eq!(decided(-5 * DAY, 10 * DAY), (Status::Expired, true));
    assert_eq!(decided(DAY, 10 * DAY), (Status::Approved, false), "a clock that was ahead makes nothing younger");
    assert_eq!(decided(DAY, 15 * DAY), (Status::Expired, false));
}

#[test]
fn baselines_of_earlier_runs_count_as_long_as_the_customer_says() {
    let own = "by the customer's policy every run has its own";
    // How long they count; when the baseline was seen, from the run's planning on; why the run does not count.
    for (limit, seen, why) in [
        (DAY, -DAY + 1, None),
        (DAY, -DAY, Some("by the customer's policy they count for 1day")),
        (DAY, -3 * DAY, Some("they count for 1day")),
        (DAY, 60, None),
        (0, -1, Some(own)),
        (0, 60, Some(own)),
    ] {
        let mut case = case(&[Pass]);
        let_count(&mut case, limit);
        take_over(&mut case, 0, seen);
        let decision = decide(&case.inputs, at(DAY));
        let first = &decision.requirements[0];
        let status = if why.is_some() { Status::Expired } else { Status::Approved };
        assert_eq!(decision.status, status, "{limit} {seen}: {}", decision.summary);
        assert_eq!(first.reason, if why.is_some() { Reason::Stale } else { Reason::Passed });
        assert!(why.is_none_or(|why| first.message.contains(why)), "{limit} {seen}: {}", first.message);
    }
}

#[test]
fn a_run_by_baselines_that_do_not_count_takes_nothing_from_one_that_does() {
    // What came out one run after the other, which of them rest on what does not count, and how the cell stands.
    for (outcomes, worn, reason) in [
        (&[Pass, Pass][..], &[1][..], Reason::Passed),
        (&[Pass, Pass], &[0], Reason::Passed),
        (&[Pass, Pass], &[0, 1], Reason::Stale),
        (&[Pass, Running], &[0], Reason::Running),
        (&[Pass, Fault, Pass], &[2], Reason::Errored),
        (&[Fault, Pass], &[1], Reason::Errored),
        (&[Pass, Fault], &[1], Reason::Errored),
        (&[Pass, Red("a")], &[1], Reason::Flaky),
    ] {
        let mut case = case(outcomes);
        worn.iter().for_each(|number| take_over(&mut case, *number, -DAY));
        let decision = decide(&case.inputs, at(DAY));
        assert_eq!(decision.requirements[0].reason, reason, "{outcomes:?} {worn:?}: {}", decision.summary);
    }
    // Nor does a waiver make it count.
    let mut red = case(&[Red("web/a")]);
    red.inputs.waivers = vec![people::waiver()];
    assert_eq!(decide(&red.inputs, at(DAY)).requirements[0].reason, Reason::Waived);
    take_over(&mut red, 0, -DAY);
    assert_eq!(decide(&red.inputs, at(DAY)).requirements[0].reason, Reason::Stale);
    // What another customer takes over, this one need not.
    let mut other = case(&[Pass]);
    let tried = &mut other.inputs.runs[0].state.plan.cells[0];
    (tried.customer, tried.baseline_valid_for) = (name("umbrella"), Span::secs(30 * DAY.unsigned_abs()));
    take_over(&mut other, 0, -2 * DAY);
    other.inputs.requirements.policy.accept_from = vec![name("umbrella")];
    assert_eq!(decide(&other.inputs, at(DAY)).status, Status::Expired);
    let_count(&mut other, 3 * DAY);
    assert_eq!(decide(&other.inputs, at(DAY)).status, Status::Approved);
}

#[test]
fn a_pass_by_a_clock_that_was_ahead_counts_for_nothing_and_a_failure_does() {
    // (runs in their order, those that ended by a clock that was ahead, how the cell stands, the decision)
    let table: &[(&[Outcome], &[usize], Reason, Status)] = &[
        (&[Pass], &[0], Reason::Stale, Status::Expired),
        // What is known to be newer counts, although its moment is an earlier one.
        (&[Pass, Pass], &[1], Reason::Passed, Status::Approved),
        (&[Fault, Pass], &[1], Reason::Errored, Status::Inconclusive),
        (&[Pass, Fault], &[1], Reason::Passed, Status::Approved),
        (&[Pass, Pass], &[0, 1], Reason::Stale, Status::Expired),
        (&[Pass, Running], &[0], Reason::Running, Status::Pending),
        (&[Pass, Queued], &[0], Reason::Running, Status::Pending),
        (&[Red("web/a")], &[0], Reason::Failed, Status::Rejected),
        (&[Pass, Red("web/a")], &[1], Reason::Flaky, Status::Rejected),
        (&[Flaky("web/a")], &[0], Reason::Flaky, Status::Inconclusive),
    ];
    for (outcomes, ahead, reason, status) in table {
        let mut case = case(outcomes);
        ahead.iter().for_each(|at| case.inputs.runs[*at].ahead = true);
        let decision = decide(&case.inputs, at(DAY));
        let stands = &decision.requirements[0];
        assert_eq!((stands.reason, decision.status), (*reason, *status), "{outcomes:?} {ahead:?}: {}", decision.summary);
        assert!(*reason != Reason::Stale || stands.message.contains("a clock that was ahead"), "{}", stands.message);
    }
    // A waiver speaks for the failure, not for how old it is.
    let mut case = case(&[Red("web/a")]);
    case.inputs.waivers.push(people::waiver());
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::ApprovedWithWaivers);
    case.inputs.runs[0].ahead = true;
    assert_eq!(decide(&case.inputs, at(DAY)).status, Status::Expired);
}

#[test]
fn a_clock_that_says_less_than_when_a_run_ended_is_noticed_once() {
    let mut case = case(&[Pass]);
    let noticed = |inputs: &GateInputs, seconds: i64| is_put_back(inputs, at(seconds));
    // It ended at 300.
    for (now, put_back) in [(DAY, false), (300, false), (0, false), (-1, true), (-DAY, true), (-at(0).as_second(), false)] {
        assert_eq!(noticed(&case.inputs, now), put_back, "{now}");
    }
    case.inputs.runs[0].ahead = true;
    assert!(!noticed(&case.inputs, -DAY), "it is known");
    // The simulator's time is its own.
    let mut case = fixture::case(&[Pass]);
    case.inputs.runs[0].state.controllers[0].hypervisor = "sim".to_owned();
    assert!(!noticed(&case.inputs, -DAY));
    let mut case = fixture::case(&[Running]);
    case.inputs.requirements.simulated = false;
    assert!(!noticed(&case.inputs, -DAY), "it has not ended");
}

#[test]
fn what_came_after_it_supersedes_a_patch() {
    let mut case = case(&[Pass]);
    case.inputs.superseded_by = Some(DecidedPatch { id: name("sample"), sha256: Digest::of("other bytes") });
    let decision = decide(&case.inputs, at(DAY));
    assert_eq!(decision.status, Status::Superseded);
    assert!(decision.requirements.iter().any(|one| one.what == "patch" && one.reason == Reason::Superseded));
}

#[test]
fn the_order_of_the_runs_changes_nothing() {
    for (outcomes, _, _) in TABLE {
        let mut case = case(outcomes);
        let there = decide(&case.inputs, at(DAY));
        case.inputs.runs.reverse();
        assert_eq!(decide(&case.inputs, at(DAY)), there, "{outcomes:?}");
    }
}

#[test]
fn a_revision_grows_by_one_when_something_differs() {
    let mut case = case(&[Pass]);
    let first = decide(&case.inputs, at(DAY));
    assert_eq!(first.revision, 1);
    case.inputs.last = Some(first.clone());
    let later = decide(&case.inputs, at(DAY + 60));
    assert_eq!(later.revision, 1, "a later moment is no other decision");
    case.inputs.runs.push(run(3, &[case.inputs.requirements.plan.cells[0].clone()], &[Red("web/a")]));
    assert_eq!(decide(&case.inputs, at(DAY)).revision, 2);
    assert_eq!(requirements().policy.digest(), first.digests.policy);
}
