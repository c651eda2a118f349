//! Baselines that an earlier run has seen: they spare work, and no verdict is another one.

use jiff::{SignedDuration, Timestamp};
use patchlab::catalog::patch::Reboot;
use patchlab::catalog::text::Span;
use patchlab::cell::{CaseObservation, Origin, Pass, Phase};
use patchlab::id::Digest;
use patchlab::verdict::{Comparison, Verdict};

use super::{TABLE, hold};
use crate::common::{Bench, Story, Told, script_patch};

const FAILS_AFTER: &str = "[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=1}";
const FAILS_BEFORE: &str = "[[step]]\non={case='web/pages'}\nwhen={side='before'}\nends={exit=1}";
const FAILS: &str = "[[step]]\non={case='web/pages'}\nends={exit=1}";

fn hours(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

/// All cases but the destructive one say that they leave nothing, and the policy lets their baselines count for a day.
fn reusing(story: Story) -> Story {
    story.with(|plan| {
        for cell in &mut plan.cells {
            cell.baseline_valid_for = Span::secs(24 * 3600);
            cell.suites.iter_mut().flat_map(|suite| &mut suite.cases).for_each(|case| case.leaves_nothing = !case.destructive);
        }
    })
}

fn story(scenario: &str) -> Story {
    reusing(Story::new(script_patch(Reboot::Required)).scenario(scenario))
}

/// A run in which all is well, and an hour later another one.
fn after_a_good_one(later: Story) -> Told {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(story("")).judgement.verdict, Verdict::Pass);
    bench.now = hours(1);
    bench.tell(later)
}

/// The suites' baselines of the passes of a kind, and whether they were taken over.
fn baselines(told: &Told, of: fn(&Pass) -> bool) -> Vec<(String, bool)> {
    let passes = told.state.cells.values().flat_map(|cell| &cell.passes).filter(|pass| of(&pass.pass));
    let seen = passes.flat_map(|pass| &pass.cases);
    let seen = seen.filter(|seen: &&CaseObservation| seen.point.phase() == Phase::Baseline && seen.suite.as_str() != "health");
    seen.map(|seen| (seen.case.to_string(), seen.origin.is_some())).collect()
}

fn main_pass(told: &Told) -> Vec<(String, bool)> {
    baselines(told, |pass| *pass == Pass::Main)
}

fn confirmations(told: &Told) -> Vec<(String, bool)> {
    baselines(told, |pass| matches!(pass, Pass::Confirm { .. }))
}

fn all(reused: bool) -> Vec<(String, bool)> {
    [("pages", reused), ("tls", reused)].map(|(case, reused)| (case.to_owned(), reused)).to_vec()
}

fn origin(told: &Told, case: &str) -> Option<Origin> {
    let mut cases = told.judgement.cells.iter().flat_map(|cell| &cell.cases);
    cases.find(|judged| judged.case.as_str() == case).and_then(|judged| judged.baseline_from.clone())
}

/// Why cases ran anew.
fn why(told: &Told) -> Vec<String> {
    let passes = told.state.cells.values().flat_map(|cell| &cell.passes);
    passes.flat_map(|pass| &pass.anew).map(|anew| format!("{}: {}", anew.case, anew.why)).collect()
}

#[test]
fn what_was_seen_once_is_not_looked_at_again() {
    let told = after_a_good_one(story(""));
    assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()));
    assert_eq!(main_pass(&told), all(true));
    assert_eq!([told.comparison("pages"), told.comparison("tls"), told.comparison("crash")], [Comparison::Unchanged; 3]);
    let origin = origin(&told, "pages").expect("it is told");
    assert!(origin.run != told.state.run && origin.at < hours(1), "{origin:?}");
    let observed = |text: &&String| text.contains("case-observed") && text.contains("\"baseline\"");
    let ran: Vec<_> = told.journal.iter().filter(observed).filter(|text| text.contains("pages") || text.contains("\"tls\"")).collect();
    assert!(ran.is_empty(), "{ran:?}");
    assert!(told.journal.iter().any(|text| text.contains("baselines-chosen") && text.contains("pages")), "the run has a copy of its own");
}

#[test]
fn the_first_run_has_its_own_and_says_why() {
    let told = Bench::new().tell(story(""));
    assert_eq!(main_pass(&told), all(false));
    assert_eq!(why(&told).len(), 2);
    assert!(why(&told).iter().all(|why| why.contains("none was seen")), "{:?}", why(&told));
}

#[test]
fn every_row_of_the_blame_table_holds_on_earlier_baselines() {
    hold(TABLE.iter(), |patch, scenario| after_a_good_one(reusing(Story::new(patch).scenario(scenario))));
}

#[test]
fn a_verdict_is_the_same_with_and_without() {
    for scenario in ["", FAILS, FAILS_AFTER, FAILS_BEFORE, "[[step]]\non={case='web/tls'}\nwhen={side='after'}\nends={exit=77}"] {
        let (with, without) = (after_a_good_one(story(scenario)), after_a_good_one(story(scenario).fresh_baselines()));
        assert_eq!(main_pass(&without), all(false), "{scenario}");
        let told = |told: &Told| (told.judgement.verdict, told.findings(), told.faults(), told.comparison("tls"));
        assert_eq!(told(&with), told(&without), "{scenario}");
    }
}

#[test]
fn what_fails_after_it_is_tried_with_a_baseline_of_its_own_before_the_patch_is_blamed() {
    let told = after_a_good_one(story(FAILS_AFTER));
    assert_eq!((told.judgement.verdict, told.findings()), (Verdict::Fail, vec!["regression".to_owned()]));
    assert_eq!(main_pass(&told), all(true));
    assert_eq!(confirmations(&told), [("pages".to_owned(), false)]);
    assert_eq!(origin(&told, "pages"), None, "this run has seen both sides");
    assert!(origin(&told, "tls").is_some());
}

#[test]
fn a_machine_that_got_worse_by_itself_is_not_the_patchs() {
    let told = after_a_good_one(story(FAILS));
    assert_eq!((told.judgement.verdict, told.comparison("pages")), (Verdict::Pass, Comparison::PreExisting));
    assert_eq!(main_pass(&told), all(true));
    assert_eq!(confirmations(&told), [("pages".to_owned(), false)]);
}

#[test]
fn a_failure_that_no_fresh_clone_could_be_asked_about_blames_nobody() {
    // Every clone after the main pass's and the destructive case's two is lost to the host.
    let told =
        after_a_good_one(story(&format!("{FAILS_AFTER}\n[[fault]]\non='create'\nwhen={{nth=[4, 5, 6, 7]}}\ndoes={{refuse='refused'}}")));
    assert_eq!(told.findings(), Vec::<String>::new());
    assert_eq!(told.judgement.verdict, Verdict::Inconclusive);
}

#[test]
fn only_a_pass_is_taken_over() {
    for scenario in [FAILS, FAILS_BEFORE, "[[step]]\non={case='web/pages'}\nends={exit=77}"] {
        let mut bench = Bench::new();
        bench.tell(story(scenario));
        bench.now = hours(1);
        let told = bench.tell(story(""));
        assert_eq!(main_pass(&told), [("tls".to_owned(), true), ("pages".to_owned(), false)], "{scenario}");
        assert!(why(&told)[0].contains("pages: its last outcome but a pass was "), "{:?}", why(&told));
    }
}

#[test]
fn what_is_too_old_other_or_not_wanted_runs_anew() {
    let mut old = Bench::new();
    old.tell(story(""));
    old.now = hours(25);
    let told = old.tell(story(""));
    assert_eq!(main_pass(&told), all(false));
    assert!(why(&told)[0].contains("the policy's limit is 1day"), "{:?}", why(&told));
    let other = after_a_good_one(story("").with(|plan| plan.cells[0].suites[0].sha256 = Digest::of("edited")));
    assert_eq!(main_pass(&other), all(false));
    let marks = after_a_good_one(story("").with(|plan| plan.cells[0].suites[0].cases[0].leaves_nothing = false));
    assert_eq!(main_pass(&marks), all(false), "and a suite that says so is another");
    let asked = after_a_good_one(story("").fresh_baselines());
    assert_eq!((main_pass(&asked), why(&asked)[0].as_str()), (all(false), "pages: it was asked for"));
    let off = after_a_good_one(story("").with(|plan| plan.cells[0].baseline_valid_for = Span::secs(0)));
    assert_eq!((main_pass(&off), why(&off).len()), (all(false), 0));
}

#[test]
fn a_baseline_is_as_old_as_when_it_was_seen_however_often_it_was_taken_over() {
    let mut bench = Bench::new();
    bench.tell(story(""));
    for (at, reused) in [(12, true), (23, true), (25, false), (48, true)] {
        bench.now = hours(at);
        let told = bench.tell(story(""));
        assert_eq!(main_pass(&told), all(reused), "after {at} h");
    }
}

#[test]
fn a_controller_that_dies_anywhere_takes_over_the_same() {
    let mut bench = Bench::new();
    bench.tell(story(""));
    bench.now = hours(1);
    let whole = bench.tell(story(""));
    assert!(origin(&whole, "pages").is_some());
    for entries in (3..whole.entries).step_by(7) {
        let mut bench = Bench::new();
        let first = bench.tell(story(""));
        bench.now = hours(1);
        let told = bench.tell(story("").dies_after(first.entries + entries));
        assert_eq!(told.judgement.verdict, Verdict::Pass, "died after {entries} entries: {:?}", told.faults());
        assert_eq!(origin(&told, "pages"), origin(&whole, "pages"), "died after {entries} entries");
        assert!(told.left.is_empty(), "died after {entries} entries: left {:?}", told.left);
    }
}

#[test]
fn the_levels_of_an_environment_share_one_baseline() {
    let told = Bench::new().tell(reusing(Story::of_environment(script_patch(Reboot::Required))));
    assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()));
    let taken: Vec<_> = main_pass(&told).into_iter().map(|(_, reused)| reused).collect();
    assert_eq!(taken.iter().filter(|reused| !**reused).count(), 2, "once for each of the two cases: {taken:?}");
    assert_eq!(taken.iter().filter(|reused| **reused).count(), 4, "{taken:?}");
}
