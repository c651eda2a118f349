//! What holds for any history.

use proptest::prelude::*;
use uuid::Uuid;

use super::fixture::{DAY, Outcome, at, case, cell, fingerprint, name, run};
use crate::verdict::gate::{Act, GateInputs, Reason, Waiver, WaiverRecord, decide};

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Pass),
        2 => Just(Outcome::Red("web/a")),
        1 => Just(Outcome::Red("web/b")),
        1 => Just(Outcome::Red("ssh/a")),
        1 => Just(Outcome::Fault),
        1 => Just(Outcome::Flaky("web/a")),
        1 => Just(Outcome::Unconfirmed("web/a")),
        1 => Just(Outcome::Queued),
        1 => Just(Outcome::Running),
        1 => Just(Outcome::Abandoned("web/a")),
    ]
}

fn waiver() -> impl Strategy<Value = WaiverRecord> {
    let case = prop_oneof![Just("web/a"), Just("web/b"), Just("ssh/a")];
    let who = || prop_oneof![Just("alice"), Just("bob")];
    (case, who(), proptest::option::of((who(), -2..20i64)), -2..20i64, -2..40i64, proptest::option::of(-2..20i64)).prop_map(
        |(case, by, consent, proposed, ends, revoked)| {
            let act = |by: &str, hours: i64| Act { by: by.to_owned(), at: at(hours * DAY), reason: String::new() };
            let waiver = Waiver {
                patch: crate::plan::examples::planned("script").sha256,
                customer: name("acme"),
                case: case.to_owned(),
                hardware: None,
                fingerprint: fingerprint(case),
                expires: at(ends * DAY),
                reason: "x".to_owned(),
            };
            WaiverRecord {
                id: Uuid::from_u128(7),
                waiver,
                proposed: act(by, proposed),
                consented: consent.map(|(by, at)| act(by, at)),
                revoked: revoked.map(|at| act("carol", at)),
            }
        },
    )
}

prop_compose! {
    fn inputs()(outcomes in prop::collection::vec(outcome(), 0..6), waivers in prop::collection::vec(waiver(), 0..4)) -> GateInputs {
        GateInputs { waivers, ..case(&outcomes).inputs }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Nothing is approved without an ended run that covers the cell and gave a verdict.
    #[test]
    fn no_approval_without_evidence(inputs in inputs(), day in 0..30i64) {
        let as_of = at(day * DAY);
        let decision = decide(&inputs, as_of);
        if decision.status.is_open() {
            let spoke = |one: &crate::verdict::gate::RunEvidence| {
                one.state.ended.is_some_and(|(at, _)| at <= as_of) && one.judgement.cells[0].faults.iter().all(|fault| fault.code != "host-disk-full")
            };
            prop_assert!(inputs.runs.iter().any(spoke));
            prop_assert!(decision.requirements.iter().all(|one| one.reason.is_met()));
            prop_assert!(decision.requirements.iter().flat_map(|one| &one.findings).all(|finding| finding.waiver.is_some()));
        }
    }

    /// More bad news never opens the gate.
    #[test]
    fn a_finding_never_opens_it(inputs in inputs(), day in 0..30i64, fault in any::<bool>()) {
        let before = decide(&inputs, at(day * DAY));
        let mut more = inputs.clone();
        let outcome = if fault { Outcome::Fault } else { Outcome::Red("ssh/b") };
        more.runs.push(run(90, &[cell("web", "bios")], &[outcome]));
        let after = decide(&more, at(day * DAY));
        prop_assert!(before.status.is_open() || !after.status.is_open(), "{} -> {}", before.summary, after.summary);
    }

    /// A finding that nobody waives keeps it closed whatever else is tried.
    #[test]
    fn nothing_outweighs_an_open_finding(inputs in inputs(), day in 1..30i64) {
        let mut red = inputs;
        red.runs.push(run(0, &[cell("web", "bios")], &[Outcome::Red("ssh/z")]));
        prop_assert!(!decide(&red, at(day * DAY)).status.is_open());
    }

    /// The clock alone, put forward, opens nothing: waivers that are there end, verdicts get old.
    #[test]
    fn time_alone_opens_nothing(inputs in inputs(), day in 20..60i64, more in 0..60i64) {
        // Whatever is in the inputs has happened by day 20.
        let before = decide(&inputs, at(day * DAY));
        let after = decide(&inputs, at((day + more) * DAY));
        prop_assert!(before.status.is_open() || !after.status.is_open(), "{} -> {}", before.summary, after.summary);
    }

    /// What is later than the moment has no part in it: a clock put back sees no approval, consent or pass of the future.
    #[test]
    fn what_is_later_is_not_there(inputs in inputs(), day in 0..20i64) {
        let as_of = at(day * DAY);
        let mut known = inputs.clone();
        known.runs.retain(|one| one.state.planned <= as_of);
        known.waivers.retain(|one| one.proposed.at <= as_of);
        for waiver in &mut known.waivers {
            waiver.consented = waiver.consented.take().filter(|act| act.at <= as_of);
            waiver.revoked = waiver.revoked.take().filter(|act| act.at <= as_of);
        }
        prop_assert_eq!(decide(&inputs, as_of), decide(&known, as_of));
    }

    /// The same inputs and moment give the same decision, and its own `until` is honest.
    #[test]
    fn it_can_be_replayed_and_holds_as_long_as_it_says(inputs in inputs(), day in 20..40i64, part in 0.0..1.0f64) {
        let as_of = at(day * DAY);
        let decision = decide(&inputs, as_of);
        prop_assert_eq!(&decision, &decide(&inputs, as_of));
        let end = decision.until.unwrap_or_else(|| at(400 * DAY));
        let span = end.duration_since(as_of).as_secs_f64() * part;
        let between = super::fixture::after(as_of, span as i64);
        let later = decide(&inputs, between);
        prop_assert!(between >= end || (later.status == decision.status && later.digests == decision.digests), "{} then {}", decision.summary, later.summary);
    }

    /// The reasons and the status go together.
    #[test]
    fn the_status_follows_from_the_reasons(inputs in inputs(), day in 0..30i64) {
        let decision = decide(&inputs, at(day * DAY));
        let met = decision.requirements.iter().all(|one| one.reason.is_met());
        prop_assert_eq!(decision.status.is_open(), met);
        prop_assert!(decision.requirements[0].reason != Reason::Passed || decision.requirements[0].findings.is_empty());
    }
}
