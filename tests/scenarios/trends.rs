//! What gets slower with a patch, against what earlier runs measured.

use patchlab::catalog::patch::Reboot;
use patchlab::id::{Digest, Name};
use patchlab::lab::history::History;
use patchlab::plan::PlannedPatch;
use patchlab::verdict::Verdict;
use patchlab::verdict::trend::Past;

use crate::common::{SimHost, Story, Told, script_patch};

const SLOW: &str = "[[step]]\non={case='web/tls'}\nwhen={side='after'}\ntakes='5s'";

/// Of this many earlier runs, all alike.
fn past(runs: usize) -> Vec<Past> {
    let told = Story::new(script_patch(Reboot::Auto)).run();
    let mut history = History::default();
    (0..runs).for_each(|_| history.learn(&told.state));
    history.past(&Story::new(other()).plan)
}

/// A patch that no earlier run had.
fn other() -> PlannedPatch {
    PlannedPatch { sha256: Digest::of("another"), ..script_patch(Reboot::Auto) }
}

fn slow() -> Story {
    Story::new(other()).scenario(SLOW)
}

fn warnings(told: &Told) -> Vec<&String> {
    let notes = told.judgement.cells.iter().flat_map(|cell| &cell.notes);
    notes.filter(|note| note.starts_with("warning: ")).collect()
}

#[test]
fn what_takes_longer_with_a_patch_is_a_warning_and_no_finding() {
    let told = slow().past(past(20)).run();
    let warnings = warnings(&told);
    assert!(matches!(warnings[..], [one] if one.starts_with("warning: web/tls takes 5.0 s instead of 0.4 s")), "{warnings:?}");
    assert_eq!((told.judgement.verdict, told.findings(), told.faults()), (Verdict::Pass, vec![], vec![]));
}

#[test]
fn without_enough_samples_and_without_a_difference_nothing_is_said() {
    for (why, story) in
        [("nothing to hold it against", slow()), ("too few", slow().past(past(5))), ("no difference", Story::new(other()).past(past(20)))]
    {
        let told = story.run();
        assert_eq!(warnings(&told), Vec::<&String>::new(), "{why}");
    }
}

#[test]
fn what_the_same_patch_gave_before_stands_on_its_side() {
    let told = slow().run();
    let mut history = History::default();
    history.learn(&told.state);
    let sides = |patch: PlannedPatch| {
        let past = history.past(&Story::new(patch).plan);
        let tls = past.into_iter().find(|past| serde_json::to_string(&past.of).is_ok_and(|of| of.contains("\"tls\"")));
        tls.map(|past| (past.unpatched.len(), past.patched))
    };
    // Twice after the patch: the profile has a second cold boot.
    assert_eq!(sides(other()), Some((1, vec![5000, 5000])));
    assert_eq!(sides(script_patch(Reboot::Auto)), Some((1, vec![])));
}

#[test]
fn what_was_measured_on_one_host_says_nothing_of_another() {
    let host = |name: &'static str| SimHost { labels: if name == "alpha" { &["alpha"] } else { &["beta"] }, ..SimHost::new(name, SLOW) };
    let on = |story: Story, label: &str| {
        let label: Name = label.parse().expect("a name");
        let story = story.with(|plan| plan.cells.iter_mut().for_each(|cell| cell.host_labels = [label.clone()].into()));
        story.hosts(&[host("alpha"), host("beta")])
    };
    let mut history = History::default();
    let told = on(Story::new(script_patch(Reboot::Auto)), "alpha").run();
    (0..20).for_each(|_| history.learn(&told.state));
    for (host, expected) in [("alpha", Some("warning: on alpha web/tls takes 5.0 s instead of 0.4 s")), ("beta", None)] {
        let told = on(Story::new(other()), host).past(history.past(&Story::new(other()).plan)).run();
        let warnings = warnings(&told);
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{host}: {warnings:?}");
        assert!(warnings.iter().all(|one| expected.is_some_and(|expected| one.starts_with(expected))), "{host}: {warnings:?}");
    }
}
