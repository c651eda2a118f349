//! Destructive cases on one checkpoint behind the patch: it is applied once for all of them, and what goes wrong with it costs time alone.

use std::collections::BTreeSet;

use patchlab::catalog::patch::Reboot;
use patchlab::cell::identity::Start;
use patchlab::cell::{Pass, Phase, Point, Stage, StageOutcome};
use patchlab::journal::PassRecord;
use patchlab::verdict::Verdict;

use crate::common::{Story, Told, case, script_patch};

const FREEZE: &str = "\n[templates]\nfreeze = true\n";

fn story(reboot: Reboot, scenario: &str) -> Story {
    let cases = vec![case("pages", false), case("crash", true), case("flood", true), case("starve", true)];
    Story::new(script_patch(reboot)).with_suite("web", cases).scenario(&format!("{scenario}{FREEZE}"))
}

/// The patched passes of destructive cases, in order, and whether each tries bad news again.
fn patched(told: &Told) -> Vec<(&PassRecord, bool)> {
    let passes = told.state.cells.values().flat_map(|cell| &cell.passes);
    let twin = |pass: &PassRecord| match pass.pass {
        Pass::Twin { phase: Phase::Patched, round, .. } => Some(round > 0),
        Pass::Twin { phase: Phase::Baseline, .. } | Pass::Main | Pass::Confirm { .. } => None,
    };
    passes.filter_map(|pass| twin(pass).map(|again| (pass, again))).collect()
}

fn was_applied(pass: &PassRecord) -> bool {
    pass.outcome(Stage::Apply) == Some(&StageOutcome::Passed)
}

/// Where the machine's last start was, if on a checkpoint.
fn behind(pass: &PassRecord) -> Option<Point> {
    pass.starts.values().find_map(|start| match start {
        Start::Warm { behind, .. } => *behind,
        Start::Cold { .. } => None,
    })
}

#[test]
fn the_patch_is_applied_once_for_all_destructive_cases() {
    for (reboot, point) in [(Reboot::Required, Point::Rebooted), (Reboot::Never, Point::Applied)] {
        let told = story(reboot, "").run();
        assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()));
        let passes = patched(&told);
        assert_eq!(passes.iter().map(|(pass, _)| was_applied(pass)).collect::<Vec<_>>(), [true, false, false]);
        for (pass, _) in &passes {
            assert_eq!(behind(pass), Some(point), "also the first one's case runs on what the others begin on");
            assert_eq!(pass.cases.iter().map(|seen| seen.point).collect::<Vec<_>>(), [point]);
        }
        let ids: BTreeSet<_> = passes.iter().map(|(pass, _)| format!("{:?}", pass.starts)).collect();
        assert_eq!(ids.len(), passes.len(), "each is a machine of its own");
        assert!(told.left.is_empty(), "{:?}", told.left);
    }
}

#[test]
fn one_destructive_case_alone_has_no_use_for_a_checkpoint() {
    let told = Story::new(script_patch(Reboot::Required)).scenario(FREEZE).run();
    let passes = patched(&told);
    assert!(passes.len() == 1 && was_applied(passes[0].0) && behind(passes[0].0).is_none(), "{passes:?}");
}

#[test]
fn where_nothing_is_frozen_each_clone_is_patched() {
    for told in [story(Reboot::Required, "").cold().run(), story(Reboot::Required, "").scenario("").run()] {
        assert_eq!(told.judgement.verdict, Verdict::Pass);
        let passes = patched(&told);
        assert!(passes.len() == 3 && passes.iter().all(|(pass, _)| was_applied(pass)), "{passes:?}");
    }
}

#[test]
fn bad_news_is_tried_again_on_a_clone_that_is_patched_anew() {
    let told = story(Reboot::Required, "[[step]]\non={case='web/flood'}\nwhen={side='after'}\nends={exit=1}").run();
    assert_eq!(told.judgement.verdict, Verdict::Fail);
    let passes = patched(&told);
    assert!(passes.iter().any(|(_, again)| *again));
    for (pass, again) in passes {
        assert_eq!(behind(pass).is_none(), again, "{:?}", pass.pass);
        assert!(!again || was_applied(pass), "{:?}", pass.pass);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_made_or_used_costs_time_alone() {
    for fault in ["on='freeze'\nwhen={side='after'}", "on='thaw'\nwhen={side='after'}"] {
        let told = story(Reboot::Required, &format!("[[fault]]\n{fault}\ndoes={{refuse='refused'}}")).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "{fault}");
        let clean = patched(&told).into_iter().filter(|(pass, _)| pass.trouble().is_none());
        assert_eq!(clean.map(|(pass, _)| (was_applied(pass), behind(pass))).collect::<Vec<_>>(), [(true, None); 3], "{fault}");
        assert!(told.left.is_empty(), "{fault}: {:?}", told.left);
    }
}

#[test]
fn a_controller_that_dies_anywhere_leaves_no_checkpoint() {
    let whole = story(Reboot::Required, "").run();
    for entries in (3..whole.entries).step_by(3) {
        let told = story(Reboot::Required, "").dies_after(entries).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "died after {entries} entries: {:?}", told.faults());
        assert!(told.left.is_empty(), "died after {entries} entries: left {:?}", told.left);
    }
}
