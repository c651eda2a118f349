//! The search against worlds of which everything is known.

use proptest::prelude::*;

use super::*;

fn set<const N: usize>(places: [usize; N]) -> Set {
    places.into()
}

/// What is true of a bundle: what each patch requires, what fails together, and which trials the lab can't bring to an end.
#[derive(Clone, Debug)]
struct World {
    requires: Vec<Set>,
    bad: Vec<Set>,
    untold: Vec<Set>,
}

impl World {
    fn of(patches: usize, bad: impl IntoIterator<Item = Set>) -> Self {
        Self { requires: vec![Set::new(); patches], bad: bad.into_iter().collect(), untold: Vec::new() }
    }

    fn closure(&self, of: &Set) -> Set {
        let mut closed = of.clone();
        for place in (0..self.requires.len()).rev() {
            if closed.contains(&place) {
                closed.extend(self.requires[place].iter().copied());
            }
        }
        closed
    }

    fn fails(&self, tested: &Set) -> bool {
        self.bad.iter().any(|bad| bad.is_subset(tested))
    }

    fn outcome(&self, tested: &Set) -> Outcome {
        match () {
            () if self.untold.iter().any(|untold| untold.is_subset(tested)) => Outcome::Inconclusive,
            () if self.fails(tested) => Outcome::Fail,
            () => Outcome::Pass,
        }
    }

    /// Searches to the end. Every trial is looked at on the way.
    fn search(&self) -> (Answer, BTreeMap<Set, Outcome>) {
        let mut results = BTreeMap::new();
        loop {
            match next(&self.requires, &results) {
                Next::Done(answer) => return (answer, results),
                Next::Test(wanted) => {
                    assert!(!wanted.is_empty() && self.closure(&wanted) == wanted, "{wanted:?} lacks what it requires");
                    assert!(wanted.last() < Some(&self.requires.len()));
                    let outcome = self.outcome(&wanted);
                    assert!(results.insert(wanted.clone(), outcome).is_none(), "{wanted:?} was tested before");
                    assert!(results.len() <= 4096, "no end");
                }
            }
        }
    }
}

#[test]
fn a_good_bundle_takes_one_trial() {
    let (answer, results) = World::of(16, []).search();
    assert_eq!(results.len(), 1);
    assert!(answer.bad.is_empty() && answer.fates.iter().all(|fate| matches!(fate, Fate::Cleared { trial } if trial.len() == 16)));
}

#[test]
fn one_culprit_among_sixteen_takes_seven_trials_at_most() {
    let trials = |culprit| {
        let (answer, results) = World::of(16, [set([culprit])]).search();
        for (place, fate) in answer.fates.iter().enumerate() {
            match fate {
                Fate::Culprit => assert_eq!(place, culprit),
                other => assert!(matches!(other, Fate::Cleared { trial } if trial.len() == 15), "{culprit}: {other:?}"),
            }
        }
        results.len()
    };
    let all: Vec<usize> = (0..16).map(trials).collect();
    assert_eq!(all.iter().max(), Some(&7), "{all:?}");
    assert_eq!(most_trials(16), (7, 6));
}

#[test]
fn two_culprits_are_told_from_two_that_do_not_get_along() {
    let (apart, _) = World::of(8, [set([1]), set([6])]).search();
    assert_eq!((&apart.fates[1], &apart.fates[6]), (&Fate::Culprit, &Fate::Culprit));
    let (together, _) = World::of(8, [set([1, 6])]).search();
    assert_eq!(together.fates[1], Fate::Conflict { with: set([6]) });
    assert_eq!(together.fates[6], Fate::Conflict { with: set([1]) });
    for (answer, blamed) in [(apart, 2), (together, 2)] {
        assert_eq!(answer.fates.iter().filter(|fate| matches!(fate, Fate::Cleared { .. })).count(), 8 - blamed);
    }
}

#[test]
fn what_requires_a_culprit_is_not_to_blame_and_not_cleared() {
    let mut world = World::of(5, [set([1])]);
    world.requires[3] = set([1]);
    world.requires[4] = set([3, 0]);
    let (answer, _) = world.search();
    assert_eq!(answer.fates[1], Fate::Culprit);
    assert_eq!((&answer.fates[3], &answer.fates[4]), (&Fate::Blocked { by: set([1]) }, &Fate::Blocked { by: set([1]) }));
    assert!(matches!((&answer.fates[0], &answer.fates[2]), (Fate::Cleared { .. }, Fate::Cleared { .. })));
}

#[test]
fn what_requires_one_side_of_a_conflict_is_tested_without_the_other() {
    let mut world = World::of(4, [set([0, 1])]);
    world.requires[2] = set([0]);
    world.requires[3] = set([1]);
    let (answer, _) = world.search();
    assert_eq!(answer.fates[2], Fate::Cleared { trial: set([0, 2]) });
    assert_eq!(answer.fates[3], Fate::Cleared { trial: set([1, 3]) });
}

#[test]
fn a_patch_that_the_lab_cannot_test_spoils_nobody_elses_answer() {
    let world = World { untold: vec![set([5])], ..World::of(8, [set([2])]) };
    let (answer, _) = world.search();
    assert_eq!((&answer.fates[2], &answer.fates[5]), (&Fate::Culprit, &Fate::Untold));
    assert_eq!(answer.fates.iter().filter(|fate| matches!(fate, Fate::Cleared { .. })).count(), 6);
}

#[test]
fn a_lab_that_can_bring_nothing_to_an_end_is_not_asked_for_ever() {
    let dark = World { untold: vec![Set::new()], ..World::of(16, []) };
    let (answer, results) = dark.search();
    assert!(answer.fates.iter().all(|fate| *fate == Fate::Untold));
    assert!(results.len() <= 9, "{} trials", results.len());
}

#[test]
fn what_was_found_on_the_way_is_not_forgotten() {
    let mut world = World::of(14, [set([0, 5]), set([11, 12]), set([11, 13])]);
    world.requires[13] = set([5]);
    let (answer, _) = world.search();
    let found: Vec<&Set> = answer.bad.iter().map(|bad| &bad.members).collect();
    assert_eq!(found, [&set([0, 5]), &set([11, 12]), &set([11, 13])]);
    assert_eq!(answer.fates[13], Fate::Conflict { with: set([11]) });
    assert_eq!(answer.fates[11], Fate::Conflict { with: set([12, 13]) });
}

#[test]
fn no_patches_are_no_trouble() {
    assert_eq!(next(&[], &BTreeMap::new()), Next::Done(Answer { fates: Vec::new(), bad: Vec::new() }));
    assert_eq!((most_trials(0), most_trials(1), most_trials(2), most_trials(5)), ((0, 0), (1, 0), (4, 3), (6, 5)));
}

fn some(patches: usize, most: usize) -> impl Strategy<Value = Set> {
    proptest::collection::btree_set(0..patches, 1..=most)
}

fn worlds(untold: usize) -> impl Strategy<Value = World> {
    (1usize..20).prop_flat_map(move |patches| {
        let requires: Vec<_> = (0..patches)
            .map(|place| {
                let few = if place == 0 { 0..1 } else { 0..2 };
                (proptest::bool::weighted(0.2), proptest::collection::btree_set(0..place.max(1), few))
                    .prop_map(|(any, some)| if any { some } else { Set::new() })
            })
            .collect();
        let bad = proptest::collection::vec(some(patches, 3), 0..4);
        let untold = proptest::collection::vec(some(patches, 3), 0..=untold);
        (requires, bad, untold).prop_map(|(requires, bad, untold)| {
            let requires = requires.into_iter().enumerate().map(|(place, set)| set.into_iter().filter(|one| *one < place).collect());
            World { requires: requires.collect(), bad, untold }
        })
    })
}

/// What must hold of every answer, whatever the lab could not say.
fn holds(world: &World, answer: &Answer, results: &BTreeMap<Set, Outcome>) {
    for (failed, _) in results.iter().filter(|(_, gave)| **gave == Outcome::Fail) {
        assert!(completes(failed, &answer.bad), "nothing is said to fail in {failed:?}");
    }
    for bad in answer.bad.iter().filter(|bad| bad.sure) {
        assert_eq!(results.get(&bad.trial), Some(&Outcome::Fail), "blamed without a trial: {bad:?}");
        assert_eq!(world.closure(&bad.members), bad.trial);
        for member in &bad.members {
            let without: Set = bad.trial.iter().copied().filter(|one| one != member).collect();
            assert!(!world.fails(&without), "{bad:?} fails without {member}");
        }
    }
    for (place, fate) in answer.fates.iter().enumerate() {
        let own = world.closure(&set([place]));
        match fate {
            Fate::Cleared { trial } => {
                assert!(trial.contains(&place) && results.get(trial) == Some(&Outcome::Pass));
                assert!(!world.fails(&own), "a culprit was cleared: {place}");
            }
            Fate::Culprit => {
                let without: Set = own.iter().copied().filter(|one| *one != place).collect();
                assert!(world.fails(&own) && !world.fails(&without), "an innocent was blamed: {place}");
            }
            Fate::Conflict { with } => {
                assert!(!world.fails(&own) && !with.is_empty(), "{place} fails by itself");
                assert!(world.bad.iter().any(|bad| world.closure(bad).contains(&place)), "an innocent was blamed: {place}");
            }
            Fate::Blocked { by } => assert!(world.fails(&own) && by.is_subset(&own)),
            Fate::Entangled { with } => assert!(with.is_subset(&own) && world.fails(&own)),
            Fate::Untold => assert!(!results.iter().any(|(tested, gave)| tested.contains(&place) && *gave == Outcome::Pass)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn where_the_lab_always_answers_every_patch_has_its_answer(world in worlds(0)) {
        let (answer, results) = world.search();
        holds(&world, &answer, &results);
        prop_assert!(answer.bad.iter().all(|bad| bad.sure));
        let lost = |fate: &Fate| matches!(fate, Fate::Untold | Fate::Entangled { .. });
        prop_assert!(!answer.fates.iter().any(lost), "{:?}", answer);
        // Nobody fails by himself and is not named.
        for (place, fate) in answer.fates.iter().enumerate() {
            let own = world.closure(&set([place]));
            prop_assert_eq!(world.fails(&own), matches!(fate, Fate::Culprit | Fate::Blocked { .. }), "{}: {:?}", place, fate);
        }
        // Whoever is cleared passed with everybody with whom that is possible.
        for (place, fate) in answer.fates.iter().enumerate().filter(|(_, fate)| matches!(fate, Fate::Cleared { .. })) {
            let full = results.iter().any(|(tested, gave)| {
                let more = |other: usize| !tested.contains(&other) && {
                    let with: Set = tested.union(&world.closure(&set([other]))).copied().collect();
                    !answer.bad.iter().any(|bad| bad.trial.is_subset(&with))
                };
                *gave == Outcome::Pass && tested.contains(&place) && !(0..answer.fates.len()).any(more)
            });
            prop_assert!(full, "{}: {:?}", place, fate);
        }
        let halvings = world.requires.len().next_power_of_two().trailing_zeros() as usize;
        let most: usize = answer.bad.iter().map(|bad| bad.members.len() * (halvings + 2)).sum();
        let blocked = answer.fates.iter().filter(|fate| !matches!(fate, Fate::Cleared { .. } | Fate::Culprit)).count();
        prop_assert!(results.len() <= 1 + most + blocked, "{} trials for {:?}", results.len(), answer);
        // Single culprits are what the estimate speaks of.
        if world.requires.iter().all(Set::is_empty) && answer.bad.iter().all(|bad| bad.members.len() == 1) {
            let (one, more) = most_trials(world.requires.len());
            let bound = match answer.bad.len() { 0 => 1, culprits => one + (culprits - 1) * more };
            prop_assert!(results.len() <= bound, "{} trials, {} foreseen", results.len(), bound);
        }
    }

    #[test]
    fn what_the_lab_cannot_say_neither_clears_nor_blames(world in worlds(3)) {
        let (answer, results) = world.search();
        holds(&world, &answer, &results);
        let patches = world.requires.len();
        let halvings = patches.next_power_of_two().trailing_zeros() as usize;
        prop_assert!(results.len() <= 1 + (answer.bad.len() + 1) * patches * (halvings + 3), "{} trials", results.len());
    }
}
