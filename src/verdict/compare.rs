//! Baseline against patched: one pair of outcomes, and then all pairs of a case together.
//!
//! Invariant: a case counts as unchanged only when a clone passed it unpatched and patched. Whatever differs between clones is
//! flaky, whichever way it differs.

use crate::cell::{CaseObservation, CaseOutcome};

use super::Comparison;

/// Skipped tests kept of a case.
pub const SKIPPED: usize = 500;

/// What one clone gave for a case, or one pair of twins.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub baseline: Option<&'a CaseObservation>,
    /// The worst of all points after the patch.
    pub patched: Option<&'a CaseObservation>,
}

/// What one pair means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairMeaning {
    Same,
    Worse,
    Better,
    SameFailure,
    OtherFailure,
    NotApplicable,
    NewPass,
    /// It failed and there is nothing to hold it against.
    NewFailure,
    /// A side failed, and its suite declares that it does now and then.
    Excused,
    /// A side is missing, or its harness failed.
    Unclear,
}

/// What a pair means, from its outcomes and whether both failures have one fingerprint.
pub const fn meaning(baseline: CaseOutcome, patched: CaseOutcome, same_fingerprint: bool) -> PairMeaning {
    use CaseOutcome::{Fail, FlakyFailure, HarnessError, Pass, Skip, TimedOut};
    match (baseline, patched) {
        (Pass, Pass) => PairMeaning::Same,
        // A case that ran before and says now that it cannot has lost what it needs: a skip is not a pass.
        (Pass, Fail | TimedOut | Skip) => PairMeaning::Worse,
        (Fail | TimedOut, Pass) => PairMeaning::Better,
        (Fail, Fail) | (TimedOut, TimedOut) => {
            if same_fingerprint {
                PairMeaning::SameFailure
            } else {
                PairMeaning::OtherFailure
            }
        }
        (Fail, TimedOut) | (TimedOut, Fail) => PairMeaning::OtherFailure,
        (Fail | TimedOut, Skip) => PairMeaning::OtherFailure,
        (Skip, Pass) => PairMeaning::NewPass,
        (Skip, Fail | TimedOut) => PairMeaning::NewFailure,
        (Skip, Skip) => PairMeaning::NotApplicable,
        (FlakyFailure, Pass | Fail | TimedOut | Skip | FlakyFailure) | (Pass | Fail | TimedOut | Skip, FlakyFailure) => {
            PairMeaning::Excused
        }
        (HarnessError, Pass | Fail | TimedOut | Skip | FlakyFailure | HarnessError)
        | (Pass | Fail | TimedOut | Skip | FlakyFailure, HarnessError) => PairMeaning::Unclear,
    }
}

impl Pair<'_> {
    pub fn meaning(&self) -> PairMeaning {
        match (self.baseline, self.patched) {
            _ if !self.newly_skipped().is_empty() => PairMeaning::Worse,
            (Some(baseline), Some(patched)) => meaning(baseline.outcome, patched.outcome, baseline.fingerprint == patched.fingerprint),
            (None, _) | (_, None) => PairMeaning::Unclear,
        }
    }

    /// Tests of a case that passed both times, which it skipped more often after the patch than before. A test that is merely gone is
    /// left alone: their names may vary.
    pub fn newly_skipped(&self) -> Vec<&str> {
        let passed = |seen: &&CaseObservation| seen.outcome == CaseOutcome::Pass;
        let (Some(baseline), Some(patched)) = (self.baseline.filter(passed), self.patched.filter(passed)) else { return Vec::new() };
        // Nobody knows what else was skipped then.
        if baseline.skipped.len() >= SKIPPED {
            return Vec::new();
        }
        let times = |seen: &CaseObservation, name: &str| seen.skipped.iter().filter(|skipped| *skipped == name).count();
        let mut names: Vec<&str> = patched.skipped.iter().map(String::as_str).collect();
        names.dedup();
        names.retain(|name| times(patched, name) > times(baseline, name));
        names
    }

    /// Whether it has to be tried again on a fresh clone before it is believed.
    pub fn is_suspect(&self) -> bool {
        match self.meaning() {
            PairMeaning::Worse | PairMeaning::OtherFailure | PairMeaning::NewFailure => true,
            // A missing side is the pass's trouble; a harness that failed deserves another try.
            PairMeaning::Unclear => self.baseline.is_some() && self.patched.is_some(),
            PairMeaning::Same
            | PairMeaning::Better
            | PairMeaning::SameFailure
            | PairMeaning::NotApplicable
            | PairMeaning::NewPass
            | PairMeaning::Excused => false,
        }
    }
}

/// What all pairs of a case give together.
pub fn comparison(pairs: &[Pair<'_>]) -> Comparison {
    let complete = || pairs.iter().map(Pair::meaning).filter(|meaning| *meaning != PairMeaning::Unclear);
    // What is declared to fail now and then says nothing beside what another clone showed.
    let telling: Vec<PairMeaning> = complete().filter(|meaning| *meaning != PairMeaning::Excused).collect();
    let Some((first, rest)) = telling.split_first() else {
        return if complete().next().is_some() { Comparison::Skipped } else { Comparison::Missing };
    };
    if rest.iter().any(|other| other != first) {
        return Comparison::Flaky;
    }
    match first {
        PairMeaning::Same => Comparison::Unchanged,
        PairMeaning::Worse => Comparison::Regression,
        PairMeaning::Better => Comparison::Fixed,
        PairMeaning::SameFailure => Comparison::PreExisting,
        PairMeaning::OtherFailure => Comparison::ChangedFailure,
        PairMeaning::NotApplicable | PairMeaning::Excused => Comparison::Skipped,
        PairMeaning::NewPass | PairMeaning::NewFailure => Comparison::New,
        PairMeaning::Unclear => Comparison::Missing,
    }
}

/// How bad a meaning is, for choosing the worst of several points.
pub const fn rank(meaning: PairMeaning) -> u8 {
    match meaning {
        PairMeaning::Worse | PairMeaning::OtherFailure | PairMeaning::NewFailure => 3,
        PairMeaning::Unclear => 2,
        PairMeaning::SameFailure | PairMeaning::Excused => 1,
        PairMeaning::Same | PairMeaning::Better | PairMeaning::NotApplicable | PairMeaning::NewPass => 0,
    }
}

/// How bad an outcome is, where there is nothing to hold it against.
pub const fn badness(outcome: CaseOutcome) -> u8 {
    match outcome {
        CaseOutcome::Pass => 0,
        CaseOutcome::Skip => 1,
        CaseOutcome::FlakyFailure => 2,
        CaseOutcome::HarnessError => 3,
        CaseOutcome::TimedOut => 4,
        CaseOutcome::Fail => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Point;
    use crate::id::Digest;

    const OUTCOMES: [CaseOutcome; 6] = [
        CaseOutcome::Pass,
        CaseOutcome::Fail,
        CaseOutcome::TimedOut,
        CaseOutcome::Skip,
        CaseOutcome::FlakyFailure,
        CaseOutcome::HarnessError,
    ];

    fn seen(point: Point, outcome: CaseOutcome, fingerprint: &str) -> CaseObservation {
        CaseObservation {
            suite: "web".parse().expect("a name"),
            case: "tls".parse().expect("a name"),
            point,
            outcome,
            elapsed_ms: 1,
            message: String::new(),
            detail: String::new(),
            fingerprint: (outcome != CaseOutcome::Pass).then(|| Digest::of(fingerprint)),
            skipped: Vec::new(),
            notes: Vec::new(),
            evidence: Vec::new(),
            origin: None,
        }
    }

    fn compare(sides: &[(CaseOutcome, CaseOutcome, bool)]) -> Comparison {
        let kept: Vec<_> = sides
            .iter()
            .map(|(b, p, same)| (seen(Point::Baseline, *b, "one"), seen(Point::Rebooted, *p, if *same { "one" } else { "two" })))
            .collect();
        comparison(&kept.iter().map(|(b, p)| Pair { baseline: Some(b), patched: Some(p) }).collect::<Vec<_>>())
    }

    #[test]
    fn one_pair_by_table() {
        use CaseOutcome::*;
        let table = [
            (Pass, Pass, true, Comparison::Unchanged),
            (Pass, Fail, true, Comparison::Regression),
            (Pass, TimedOut, true, Comparison::Regression),
            (Pass, Skip, true, Comparison::Regression),
            (Fail, Pass, true, Comparison::Fixed),
            (Fail, Fail, true, Comparison::PreExisting),
            (Fail, Fail, false, Comparison::ChangedFailure),
            (Fail, TimedOut, true, Comparison::ChangedFailure),
            (TimedOut, TimedOut, true, Comparison::PreExisting),
            (Skip, Skip, true, Comparison::Skipped),
            (Skip, Pass, true, Comparison::New),
            (Skip, Fail, true, Comparison::New),
            (Pass, FlakyFailure, true, Comparison::Skipped),
            (FlakyFailure, Pass, true, Comparison::Skipped),
            (FlakyFailure, FlakyFailure, false, Comparison::Skipped),
            (FlakyFailure, HarnessError, true, Comparison::Missing),
            (HarnessError, Pass, true, Comparison::Missing),
            (Pass, HarnessError, true, Comparison::Missing),
        ];
        for (baseline, patched, same, expected) in table {
            assert_eq!(compare(&[(baseline, patched, same)]), expected, "{baseline:?} then {patched:?}");
        }
    }

    #[test]
    fn what_a_passed_case_skips_since_the_patch_is_a_regression() {
        let table: [(&[&str], &[&str], &[&str]); 7] = [
            (&[], &[], &[]),
            (&[], &["tls"], &["tls"]),
            (&["tls"], &["tls"], &[]),
            (&["tls"], &[], &[]),
            (&["ipv#", "tls"], &["tls", "udp"], &["udp"]),
            (&["port #"], &["port #", "port #"], &["port #"]),
            (&[""; SKIPPED], &["tls"], &[]),
        ];
        for (before, after, expected) in table {
            let skipping = |point, names: &[&str]| CaseObservation {
                skipped: names.iter().map(|name| (*name).to_owned()).collect(),
                ..seen(point, CaseOutcome::Pass, "")
            };
            let (baseline, patched) = (skipping(Point::Baseline, before), skipping(Point::Rebooted, after));
            let pair = Pair { baseline: Some(&baseline), patched: Some(&patched) };
            assert_eq!(pair.newly_skipped(), expected, "{before:?} then {after:?}");
            assert_eq!(comparison(&[pair]) == Comparison::Regression, !expected.is_empty(), "{before:?} then {after:?}");
            assert_eq!(pair.is_suspect(), !expected.is_empty());
        }
    }

    #[test]
    fn a_missing_side_is_missing() {
        let only = seen(Point::Baseline, CaseOutcome::Pass, "");
        assert_eq!(comparison(&[]), Comparison::Missing);
        assert_eq!(comparison(&[Pair { baseline: Some(&only), patched: None }]), Comparison::Missing);
        assert_eq!(comparison(&[Pair { baseline: None, patched: Some(&only) }]), Comparison::Missing);
    }

    #[test]
    fn clones_that_disagree_are_flaky_whichever_way() {
        use CaseOutcome::*;
        assert_eq!(compare(&[(Pass, Fail, true), (Pass, Pass, true)]), Comparison::Flaky);
        assert_eq!(compare(&[(Pass, Fail, true), (Fail, Fail, true)]), Comparison::Flaky);
        assert_eq!(compare(&[(Pass, Fail, true), (Pass, TimedOut, true)]), Comparison::Regression);
    }

    #[test]
    fn a_declared_flaky_failure_is_never_bad_news() {
        for other in OUTCOMES {
            for (baseline, patched) in [(CaseOutcome::FlakyFailure, other), (other, CaseOutcome::FlakyFailure)] {
                let pair = (seen(Point::Baseline, baseline, "one"), seen(Point::Rebooted, patched, "two"));
                let pair = Pair { baseline: Some(&pair.0), patched: Some(&pair.1) };
                assert_eq!(pair.is_suspect(), other == CaseOutcome::HarnessError, "{baseline:?} then {patched:?}");
            }
        }
        use CaseOutcome::*;
        assert_eq!(compare(&[(Pass, FlakyFailure, true), (Pass, Pass, true)]), Comparison::Unchanged);
    }

    #[test]
    fn nothing_but_a_double_pass_is_unchanged() {
        for baseline in OUTCOMES {
            for patched in OUTCOMES {
                for same in [true, false] {
                    let unchanged = compare(&[(baseline, patched, same)]) == Comparison::Unchanged;
                    assert_eq!(unchanged, baseline == CaseOutcome::Pass && patched == CaseOutcome::Pass);
                }
            }
        }
    }
}
