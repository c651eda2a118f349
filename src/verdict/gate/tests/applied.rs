//! Which policy a run is said to have been judged against.

use super::fixture::{at, cell, name, requirements, run};
use super::*;
use crate::journal::{Entry, Event, Record};
use crate::plan::PlannedCell;

/// The entry that ended the run.
const ENDED: u64 = 100;

fn set(seq: u64, requirements: &Requirements) -> Entry {
    let event = Event::Recorded { record: Box::new(Record::RequirementsSet { requirements: Box::new(requirements.clone()) }) };
    let zero = Digest::of("");
    Entry { seq, version: 1, at: at(0), run: None, event, previous: zero, hash: zero }
}

/// Requirements that differ by how long a verdict is valid.
fn valid_for(days: u64) -> Requirements {
    let mut requirements = requirements();
    requirements.policy.valid_for = crate::catalog::text::Span::secs(days * 24 * 3600);
    requirements.policy_digest = requirements.policy.digest();
    requirements
}

fn of(cells: &[PlannedCell], records: &[Entry]) -> Option<Digest> {
    let tried = run(0, cells, &vec![Pass; cells.len()]);
    applied(&tried.state, ENDED, records).map(|policy| {
        assert_eq!(policy.customer, name("acme"));
        policy.sha256
    })
}

#[test]
fn it_is_the_one_that_was_required_when_the_run_ended_or_first_after_that() {
    let [one, two, three] = [1, 2, 3].map(valid_for);
    let cells = [cell("web", "bios")];
    let digest = |requirements: &Requirements| Some(requirements.policy_digest);
    for (records, expected) in [
        (vec![], None),
        (vec![set(1, &one)], digest(&one)),
        (vec![set(1, &one), set(99, &two)], digest(&two)),
        (vec![set(1, &one), set(99, &two), set(101, &three)], digest(&two)),
        (vec![set(101, &two), set(102, &three)], digest(&two)),
    ] {
        assert_eq!(of(&cells, &records), expected, "{:?}", records.iter().map(|entry| entry.seq).collect::<Vec<_>>());
    }
}

#[test]
fn it_is_named_only_where_all_that_it_requires_was_tried() {
    let (web, other) = (cell("web", "bios"), cell("web", "uefi"));
    let mut both = requirements();
    both.plan.cells.push(other.clone());
    let digest = Some(both.policy_digest);
    let records = [set(1, &both)];
    assert_eq!(of(&[web.clone(), other.clone()], &records), digest);
    assert_eq!(of(&[web.clone(), other.clone(), cell("desktop", "bios")], &records), digest, "more is fine");
    assert_eq!(of(std::slice::from_ref(&web), &records), None, "a cell is missing");
    let mut part = other.clone();
    part.suites.truncate(1);
    assert_eq!(of(&[web.clone(), part], &records), None, "a suite is missing");
    let mut bytes = other.clone();
    bytes.machines[0].image.sha256 = Digest::of("another image");
    assert_eq!(of(&[web.clone(), bytes], &records), None, "other bytes");
    let mut nothing = requirements();
    nothing.plan.cells.clear();
    assert_eq!(of(std::slice::from_ref(&web), &[set(1, &nothing)]), None, "to require nothing is no policy to pass");
    let mut foreign = requirements();
    foreign.patch = Digest::of("another patch");
    assert_eq!(of(std::slice::from_ref(&web), &[set(1, &foreign)]), None);
    let mut simulated = requirements();
    simulated.simulated = true;
    assert_eq!(of(&[web], &[set(1, &simulated)]), None, "the gate was asked about other machines");
}

#[test]
fn it_is_not_named_where_the_baselines_are_too_old_for_it() {
    let mut wanted = requirements();
    for (limit, seen, named) in [(DAY, -DAY + 1, true), (DAY, -DAY, false), (0, 60, false)] {
        wanted.plan.cells[0].baseline_valid_for = Span::secs(limit.unsigned_abs());
        let mut case = case(&[Pass]);
        take_over(&mut case, 0, seen);
        let policy = applied(&case.inputs.runs[0].state, ENDED, &[set(1, &wanted)]);
        assert_eq!(policy.is_some(), named, "{limit} {seen}");
    }
}

#[test]
fn a_run_for_several_customers_or_none_has_no_policy() {
    let mut foreign = cell("web", "bios");
    foreign.customer = name("contoso");
    let records = [set(1, &requirements())];
    assert_eq!(of(&[cell("web", "bios"), foreign.clone()], &records), None);
    assert_eq!(of(&[foreign], &records), None, "another customer's");
    assert_eq!(of(&[], &records), None);
}
