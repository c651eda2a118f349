//! Several patches tested together: whom a run of them speaks for, and whom against.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixture::{Outcome, at, case, cell, name, run};
use super::*;
use crate::plan::PlannedPatch;
use crate::plan::examples::planned;
use crate::verdict::bisect::{self, Next, Set, next};

fn patch(id: &str) -> PlannedPatch {
    let mut patch = planned("script");
    patch.sha256 = Digest::of(id);
    patch.manifest.id = name(id);
    patch
}

/// A run of the required cell with these patches. `example` is the one that the gate is asked about.
fn tried(number: u64, patches: &[&str], outcome: Outcome) -> RunEvidence {
    let mut evidence = run(number, &[cell("web", "bios")], &[outcome]);
    let mut patches: Vec<_> = patches.iter().map(|id| if *id == "example" { planned("script") } else { patch(id) }).collect();
    evidence.state.plan.patch = patches.remove(0);
    evidence.state.plan.beside = patches;
    evidence
}

fn decided(runs: Vec<RunEvidence>) -> (Status, Reason, String) {
    let mut case = case(&[]);
    case.inputs.runs = runs;
    let decision = decide(&case.inputs, at(3600 * 24));
    let first = &decision.requirements[0];
    (decision.status, first.reason, first.message.clone())
}

#[test]
fn a_pass_speaks_for_each_and_says_in_whose_company() {
    for patches in [["example", "b", "c"], ["b", "example", "c"], ["b", "c", "example"]] {
        let told = decided(vec![tried(0, &patches, Pass)]);
        assert_eq!(told, (Status::Approved, Reason::Passed, "passed, tested together with b and c".to_owned()), "{patches:?}");
    }
    let (status, reason, _) = decided(vec![tried(0, &["b", "c"], Pass)]);
    assert_eq!((status, reason), (Status::Pending, Reason::Missing), "others' passes say nothing");
}

#[test]
fn bad_news_about_several_is_bad_news_about_nobody() {
    for outcome in [Red("web/a"), Flaky("web/a"), Unconfirmed("web/a"), Fault] {
        let (status, reason, _) = decided(vec![tried(0, &["example", "b"], outcome)]);
        assert_eq!((status, reason), (Status::Pending, Reason::Missing), "{outcome:?}: nothing speaks for it either");
        let (status, ..) = decided(vec![tried(0, &["example"], Pass), tried(1, &["example", "b"], outcome)]);
        assert_eq!(status, Status::Approved, "{outcome:?}: what passed alone still stands");
        let (status, ..) = decided(vec![tried(0, &["example", "b"], outcome), tried(1, &["example", "c"], Pass)]);
        assert_eq!(status, Status::Approved, "{outcome:?}: b is to blame, or nobody knows");
    }
}

#[test]
fn bad_news_counts_against_the_one_without_whom_the_others_pass() {
    let conflict =
        |more: Vec<RunEvidence>| decided([vec![tried(0, &["example", "b"], Red("web/a")), tried(1, &["b"], Pass)], more].concat());
    let (status, reason, message) = conflict(vec![]);
    assert_eq!((status, reason), (Status::Rejected, Reason::Failed));
    assert_eq!(message, "web/a, tested together with b");
    let (status, reason, _) = conflict(vec![tried(2, &["example"], Pass)]);
    assert_eq!((status, reason), (Status::Rejected, Reason::Failed), "a pass alone does not mend it, and it is not called flaky");
    // Not all of the others passed, or not on such machines, or not for certain.
    for (patches, outcome) in [(&["b"][..], Red("web/a")), (&["c"], Pass), (&["b"], Flaky("web/a")), (&["b"], Running)] {
        let (status, ..) =
            decided(vec![tried(0, &["example", "b"], Red("web/a")), tried(1, patches, outcome), tried(2, &["example"], Pass)]);
        assert_eq!(status, Status::Approved, "{patches:?} {outcome:?}");
    }
    let three = |passed: &[&str]| {
        decided(vec![tried(0, &["example", "b", "c"], Red("web/a")), tried(1, passed, Pass), tried(2, &["example"], Pass)]).0
    };
    assert_eq!([three(&["b", "c"]), three(&["b", "c", "d"]), three(&["b"])], [Status::Rejected, Status::Rejected, Status::Approved]);
}

#[test]
fn what_requires_a_culprit_is_not_blamed_for_it() {
    // `example` can't go without `b`, which fails by itself.
    let (status, reason, _) = decided(vec![tried(0, &["b", "example"], Red("web/a")), tried(1, &["b"], Red("web/a"))]);
    assert_eq!((status, reason), (Status::Pending, Reason::Missing));
}

#[test]
fn an_approval_is_for_the_company_that_was_seen() {
    let basis = |runs| {
        let mut case = case(&[]);
        case.inputs.runs = runs;
        decide(&case.inputs, at(3600 * 24)).digests.basis
    };
    let alone = basis(vec![tried(0, &["example"], Pass)]);
    let (with_b, with_c) = (basis(vec![tried(0, &["example", "b"], Pass)]), basis(vec![tried(0, &["example", "c"], Pass)]));
    assert!(alone != with_b && with_b != with_c);
}

/// Every trial that a bundle's search makes where these sets fail, in their order.
fn searched(patches: usize, bad: &[Set]) -> Vec<(Set, bool)> {
    let (mut results, mut trials) = (BTreeMap::new(), Vec::new());
    while let Next::Test(set) = next(&vec![Set::new(); patches], &results) {
        let fails = bad.iter().any(|bad| bad.is_subset(&set));
        results.insert(set.clone(), if fails { bisect::Outcome::Fail } else { bisect::Outcome::Pass });
        trials.push((set, fails));
    }
    trials
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn after_a_bundle_the_innocent_may_go_and_the_guilty_may_not(
        bad in proptest::collection::vec(proptest::collection::btree_set(0usize..6, 1..=2), 0..3),
    ) {
        let trials = searched(6, &bad);
        // What a smaller failing set is part of is not what fails.
        let smallest = |set: &Set| !bad.iter().any(|other| other != set && other.is_subset(set));
        for place in 0..6 {
            let guilty = bad.iter().any(|set| set.contains(&place) && smallest(set));
            let ids = |set: &Set| -> Vec<String> {
                set.iter().map(|one| if *one == place { "example".to_owned() } else { format!("p{one}") }).collect()
            };
            let runs = trials.iter().enumerate().map(|(number, (set, fails))| {
                let ids = ids(set);
                tried(number as u64, &ids.iter().map(String::as_str).collect::<Vec<_>>(), if *fails { Red("web/a") } else { Pass })
            });
            let (status, _, message) = decided(runs.collect());
            prop_assert_eq!(status, if guilty { Status::Rejected } else { Status::Approved }, "{}: {} after {:?}", place, message, trials);
        }
    }
}
