//! Which patches of a bundle are to blame, found by testing some of them together.
//!
//! Patches are known by their place in the bundle, where each comes behind those that it requires; a set is tested only together with all
//! that its patches require. The whole is tested first. In a set that fails, the smallest prefix that fails is found by halving: its last
//! patch is needed for the failure. With that one held fast the same is done again, until what is held fast fails by itself: that is a
//! smallest failing set. What can still be tested without completing such a set is then tested again, all of it together, until each patch
//! is to blame or passed with everything that it can be tested with.
//!
//! Invariants: pure, and the same results always ask for the same set next, so that whoever takes a bundle up needs nothing but the
//! results. A patch is cleared by a trial that passed with it in, and by nothing else. A trial that gave no answer neither clears nor blames,
//! and no set is asked for twice. Between trials it is taken for granted that more patches do not mend what fewer break.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

/// Patches of a bundle, by their places.
pub type Set = BTreeSet<usize>;

/// What a trial gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Inconclusive,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These together. Never empty.
    Test(Set),
    Done(Answer),
}

/// What all trials mean together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of each patch.
    pub fates: Vec<Fate>,
    /// What failed and can't be made smaller, in the order in which it was found.
    pub bad: Vec<Bad>,
}

/// What became of one patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passed in this trial, the largest of those.
    Cleared { trial: Set },
    /// It fails with nothing but what it requires.
    Culprit,
    /// It passes without these and fails with them.
    Conflict { with: Set },
    /// It can't be tested without these, which are to blame.
    Blocked { by: Set },
    /// It can't be tested apart from these, with which it failed; the trials that would tell them apart gave no answer.
    Entangled { with: Set },
    /// No trial with it gave an answer.
    Untold,
}

/// A failing set that could not be made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Those to blame, each of them needed for the failure. Where it is not `sure`: at least one of them is.
    pub members: Set,
    /// The trial that failed: those to blame and what they require.
    pub trial: Set,
    /// Whether no trial on the way to it was without an answer.
    pub sure: bool,
}

/// What comes next for a bundle, given what each patch requires directly (places before its own) and what the trials so far gave.
pub fn next(requires: &[Set], results: &BTreeMap<Set, Outcome>) -> Next {
    let search = Search::new(requires, results);
    match search.answer() {
        Ok(answer) => Next::Done(answer),
        Err(set) => Next::Test(set),
    }
}

/// The most trials for a bundle of so many patches with one culprit, and the most that another one adds.
pub fn most_trials(patches: usize) -> (usize, usize) {
    let halvings = patches.next_power_of_two().trailing_zeros() as usize;
    match patches {
        0 | 1 => (patches, 0),
        // The whole, the halving, the culprit by itself, all others.
        _ => (halvings + 3, halvings + 2),
    }
}

/// Known, or this set has to be tested first.
type Known<T> = Result<T, Set>;

struct Search<'a> {
    results: &'a BTreeMap<Set, Outcome>,
    /// Each patch with all that it requires.
    closures: Vec<Set>,
}

/// How a patch stands for now.
enum Standing {
    Settled,
    Bad(Bad),
}

impl<'a> Search<'a> {
    fn new(requires: &[Set], results: &'a BTreeMap<Set, Outcome>) -> Self {
        let mut closures: Vec<Set> = Vec::new();
        for (place, direct) in requires.iter().enumerate() {
            let mut closure: Set = direct.iter().filter_map(|one| closures.get(*one)).flatten().copied().collect();
            closure.insert(place);
            closures.push(closure);
        }
        Self { results, closures }
    }

    fn closure<'b>(&self, of: impl IntoIterator<Item = &'b usize>) -> Set {
        of.into_iter().filter_map(|place| self.closures.get(*place)).flatten().copied().collect()
    }

    fn tested(&self, set: &Set) -> Known<Outcome> {
        self.results.get(set).copied().ok_or_else(|| set.clone())
    }

    /// The same, where what other trials gave tells as much.
    fn told(&self, set: &Set) -> Known<Outcome> {
        let gave = |outcome: Outcome| self.results.iter().filter(move |(_, gave)| **gave == outcome).map(|(tested, _)| tested);
        match self.results.get(set) {
            Some(outcome @ (Outcome::Pass | Outcome::Fail)) => Ok(*outcome),
            _ if gave(Outcome::Pass).any(|tested| set.is_subset(tested)) => Ok(Outcome::Pass),
            _ if gave(Outcome::Fail).any(|tested| tested.is_subset(set)) => Ok(Outcome::Fail),
            _ => self.tested(set),
        }
    }

    /// Whether all trials so far were without an answer.
    fn is_dark(&self) -> bool {
        self.results.values().all(|outcome| *outcome == Outcome::Inconclusive)
    }

    /// The largest trial that passed with this patch in.
    fn passed(&self, place: usize) -> Option<&'a Set> {
        let with = self.results.iter().filter(|(set, outcome)| **outcome == Outcome::Pass && set.contains(&place));
        with.map(|(set, _)| set).max_by_key(|set| set.len())
    }

    fn answer(&self) -> Known<Answer> {
        let mut bad: Vec<Bad> = Vec::new();
        let mut place = 0;
        loop {
            while place < self.closures.len() {
                match self.settle(place, &bad)? {
                    // Nobody's trial gave an answer, neither with others nor without: that is no patch's doing, and more of it tells nothing.
                    Standing::Settled if place > 0 && self.is_dark() => break,
                    Standing::Settled => place += 1,
                    Standing::Bad(found) => {
                        bad.push(found);
                        place = 0;
                    }
                }
            }
            // A trial may have failed that by now nobody would have asked for.
            let Some(failed) = self.unexplained(&bad) else { break };
            bad.push(self.smallest(failed)?);
            place = 0;
        }
        let fates = (0..self.closures.len()).map(|place| self.fate(place, &bad)).collect();
        Ok(Answer { fates, bad })
    }

    /// A trial that failed, with nothing in it that is known to fail.
    fn unexplained(&self, bad: &[Bad]) -> Option<&'a Set> {
        self.results.iter().find(|(set, outcome)| **outcome == Outcome::Fail && !completes(set, bad)).map(|(set, _)| set)
    }

    /// Tests a patch with everything that it can be tested with, or with less where that gives no answer.
    fn settle(&self, place: usize, bad: &[Bad]) -> Known<Standing> {
        let own = self.closure([&place]);
        if completes(&own, bad) || self.passed_with_all(place, bad) {
            return Ok(Standing::Settled);
        }
        let mut most = own.clone();
        for other in &self.closures {
            let with: Set = most.union(other).copied().collect();
            if !completes(&with, bad) {
                most = with;
            }
        }
        // Those of which nothing is known yet come first.
        let (known, unknown): (Vec<usize>, Vec<usize>) = most.difference(&own).partition(|other| self.passed(**other).is_some());
        let others: Vec<usize> = unknown.into_iter().chain(known).collect();
        let mut take = others.len();
        let mut set = most;
        loop {
            match self.tested(&set)? {
                Outcome::Pass => return Ok(Standing::Settled),
                Outcome::Fail => return Ok(Standing::Bad(self.smallest(&set)?)),
                Outcome::Inconclusive if take == 0 || self.passed(place).is_some() => return Ok(Standing::Settled),
                Outcome::Inconclusive => {
                    take /= 2;
                    set = self.closure(others.iter().take(take).chain([&place]));
                }
            }
        }
    }

    /// Whether it passed in a trial to which nothing can be added.
    fn passed_with_all(&self, place: usize, bad: &[Bad]) -> bool {
        let full = |set: &Set| {
            let fits = |other: &Set| !other.is_subset(set) && !completes(&set.union(other).copied().collect(), bad);
            !self.closures.iter().any(fits)
        };
        self.results.iter().any(|(set, outcome)| *outcome == Outcome::Pass && set.contains(&place) && full(set))
    }

    /// A smallest failing set within one that failed.
    fn smallest(&self, failed: &Set) -> Known<Bad> {
        let mut members = Set::new();
        let mut left: Vec<usize> = failed.iter().copied().collect();
        loop {
            let base = self.closure(&members);
            let with = |count: usize| -> Set { base.iter().chain(left.iter().take(count)).copied().collect() };
            let alone = if members.is_empty() { Outcome::Pass } else { self.tested(&base)? };
            if alone == Outcome::Fail {
                return Ok(Bad { members, trial: base, sure: true });
            }
            // The smallest prefix that fails lies behind `low`, where that is known, and not behind `high`.
            let (mut low, mut high) = ((alone == Outcome::Pass).then_some(0), left.len());
            let mut untold = BTreeSet::new();
            loop {
                let middle = (low.unwrap_or(0) + high) / 2;
                let between = low.unwrap_or(0) + 1..high;
                let Some(count) = between.filter(|count| !untold.contains(count)).min_by_key(|count| count.abs_diff(middle)) else { break };
                match self.told(&with(count))? {
                    Outcome::Pass => low = Some(count),
                    Outcome::Fail => high = count,
                    Outcome::Inconclusive => {
                        untold.insert(count);
                    }
                }
            }
            match left.get(high.wrapping_sub(1)).copied().filter(|_| low.is_some_and(|low| low + 1 == high)) {
                Some(member) => members.insert(member),
                None => {
                    let suspects = left.iter().take(high).skip(low.unwrap_or(0)).chain(&members).copied().collect();
                    return Ok(Bad { members: suspects, trial: with(high), sure: false });
                }
            };
            left.truncate(high - 1);
            let held = self.closure(&members);
            left.retain(|place| !held.contains(place));
        }
    }

    fn fate(&self, place: usize, bad: &[Bad]) -> Fate {
        let own = self.closure([&place]);
        let others = |sets: Vec<&Bad>| -> Set { sets.iter().flat_map(|one| &one.members).copied().filter(|one| *one != place).collect() };
        let blaming: Vec<&Bad> = bad.iter().filter(|one| one.sure && one.members.contains(&place)).collect();
        let holding = |sure: bool| -> Vec<&Bad> { bad.iter().filter(|one| one.sure == sure && one.trial.is_subset(&own)).collect() };
        match self.passed(place) {
            _ if blaming.iter().any(|one| one.members.len() == 1) => Fate::Culprit,
            _ if !blaming.is_empty() => Fate::Conflict { with: others(blaming) },
            Some(trial) => Fate::Cleared { trial: trial.clone() },
            None if !holding(true).is_empty() => Fate::Blocked { by: others(holding(true)) },
            None if !holding(false).is_empty() => Fate::Entangled { with: others(holding(false)) },
            None => Fate::Untold,
        }
    }
}

/// Whether all of a failing set is in there.
fn completes(set: &Set, bad: &[Bad]) -> bool {
    bad.iter().any(|one| one.trial.is_subset(set))
}
