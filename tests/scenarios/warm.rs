//! Machines that go on from templates: the verdicts are those of machines that were booted, and what goes wrong costs time alone.

use std::collections::BTreeSet;

use patchlab::catalog::patch::Reboot;
use patchlab::cell::identity::Start;
use patchlab::verdict::Verdict;

use super::{TABLE, hold};
use crate::common::{Story, Told, script_patch};

const FREEZE: &str = "\n[templates]\nfreeze = true\n";

fn tell(scenario: &str) -> Told {
    Story::new(script_patch(Reboot::Required)).scenario(&format!("{scenario}{FREEZE}")).run()
}

/// How the machines of each pass came up, in order.
fn starts(told: &Told) -> Vec<Start> {
    told.state.cells.values().flat_map(|cell| &cell.passes).flat_map(|pass| pass.starts.values().cloned()).collect()
}

fn why(told: &Told) -> Vec<String> {
    let cold = |start| match start {
        Start::Cold { why } => Some(why),
        Start::Warm { .. } => None,
    };
    starts(told).into_iter().filter_map(cold).collect()
}

#[test]
fn every_row_of_the_blame_table_holds_on_templates() {
    // The machine that becomes the template is a clone too, so faults that count clones strike another one.
    let rows = TABLE.iter().filter(|(_, scenario, ..)| !scenario.contains("nth"));
    hold(rows, |patch, scenario| Story::new(patch).scenario(&format!("{scenario}{FREEZE}")).run());
}

#[test]
fn one_boot_serves_all_clones() {
    let told = tell("[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=1}");
    assert_eq!(told.judgement.verdict, Verdict::Fail);
    let starts = starts(&told);
    assert!(starts.len() >= 3, "the main pass and its confirmations: {starts:?}");
    let templates: BTreeSet<_> = starts
        .iter()
        .map(|start| match start {
            Start::Warm { template, frozen, .. } => (*template, *frozen),
            Start::Cold { why } => panic!("cold: {why}"),
        })
        .collect();
    assert_eq!(templates.len(), 1, "{starts:?}");
    let ids: BTreeSet<_> = starts
        .iter()
        .map(|start| match start {
            Start::Warm { identity, .. } => (identity.machine_id.clone(), identity.random),
            Start::Cold { .. } => unreachable!("looked at above"),
        })
        .collect();
    assert_eq!(ids.len(), starts.len(), "each is a machine of its own");
}

#[test]
fn a_clone_that_is_not_a_machine_of_its_own_is_booted_instead() {
    for (flaw, said) in [
        ("same-random", "random numbers are those of another"),
        ("same-machine-id", "is another clone's"),
        ("old-clock", "clock is -3600000 ms"),
        ("old-addresses", "no NIC has the address"),
        ("silent", "does not answer"),
    ] {
        // The first clone has nobody to be the same as.
        let again = "[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=1}\n";
        let told = Story::new(script_patch(Reboot::Required)).scenario(&format!("{again}{FREEZE}flaw = '{flaw}'")).run();
        assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Fail, Vec::new()), "{flaw}");
        assert!(why(&told).iter().any(|why| why.contains(said)), "{flaw}: {:?}", starts(&told));
        assert!(told.left.is_empty(), "{flaw}: {:?}", told.left);
    }
}

#[test]
fn what_cannot_be_frozen_or_thawed_is_booted() {
    for (call, refusal) in [("freeze", "no-space"), ("freeze", "timed-out"), ("thaw", "refused")] {
        let told = tell(&format!("[[fault]]\non='{call}'\ndoes={{refuse='{refusal}'}}"));
        assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()), "{call}");
        assert_eq!(why(&told).len(), starts(&told).len(), "{call}: {:?}", starts(&told));
        assert!(told.left.is_empty(), "{call}: {:?}", told.left);
    }
}

#[test]
fn a_boot_can_be_asked_for() {
    let told = Story::new(script_patch(Reboot::Required)).scenario(FREEZE).cold().run();
    assert_eq!(told.judgement.verdict, Verdict::Pass);
    assert!(why(&told).len() == starts(&told).len() && why(&told).iter().all(|why| why == "it was asked for"), "{:?}", starts(&told));
}

#[test]
fn machines_of_one_kind_share_a_template_also_within_a_cell() {
    let told = Story::of_environment(script_patch(Reboot::Required)).scenario(FREEZE).run();
    assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()));
    assert_eq!(why(&told), Vec::<String>::new());
    assert!(starts(&told).len() >= 6, "two machines at three levels");
}

#[test]
fn a_controller_that_dies_anywhere_leaves_no_half_template() {
    let whole = tell("");
    for entries in (3..whole.entries).step_by(3) {
        let told = Story::new(script_patch(Reboot::Required)).scenario(FREEZE).dies_after(entries).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "died after {entries} entries: {:?}", told.faults());
        assert!(told.left.is_empty(), "died after {entries} entries: left {:?}", told.left);
    }
}

#[test]
fn the_same_story_on_templates_gives_the_same_journal() {
    let (one, two) = (tell("seed = 5"), tell("seed = 5"));
    assert_eq!(one.journal, two.journal);
}
