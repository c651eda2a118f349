//! Several hosts: the verdict is that of one, whichever of them vanishes, hangs, lies or is not fit for work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use patchlab::catalog::patch::Reboot;
use patchlab::cell::Stage;
use patchlab::journal::{CellRecord, PassRecord};
use patchlab::lab::scheduler::room::Room;
use patchlab::verdict::Verdict;

use crate::common::{SimHost, Story, Told, script_patch};

const CELLS: usize = 4;

fn story() -> Story {
    Story::new(script_patch(Reboot::Required)).cells(CELLS)
}

/// How many passes each host was given.
fn passes(told: &Told) -> BTreeMap<String, usize> {
    let mut hosts = BTreeMap::new();
    for pass in told.state.cells.values().flat_map(|cell| &cell.passes) {
        let host = pass.placed.as_ref().expect("a host").host.to_string();
        *hosts.entry(host).or_default() += 1;
    }
    hosts
}

fn spoilt(cell: &CellRecord) -> Vec<&PassRecord> {
    cell.passes.iter().filter(|pass| pass.trouble().is_some()).collect()
}

fn host(pass: &PassRecord) -> &str {
    pass.placed.as_ref().expect("a host").host.as_str()
}

/// The same verdict, cell by cell and case by case, with nothing left behind.
#[track_caller]
fn is_as_on_one_host(told: &Told) {
    static ALONE: OnceLock<Vec<String>> = OnceLock::new();
    let seen = |told: &Told| told.judgement.cells.iter().map(|cell| format!("{:?}", (&cell.id, cell.verdict, &cell.cases))).collect();
    let same: Vec<String> = seen(told);
    assert_eq!(&same, ALONE.get_or_init(|| seen(&story().room(Room::cores(2)).run())));
    assert!(told.faults().is_empty(), "{:?}", told.faults());
    assert_eq!(told.left, Vec::<String>::new());
}

#[test]
fn cells_are_run_on_each_host_and_the_journal_says_on_which() {
    let told = story().hosts(&[SimHost::new("alpha", ""), SimHost::new("beta", "")]).run();
    is_as_on_one_host(&told);
    let passes = passes(&told);
    assert!(passes.len() == 2 && passes.values().all(|count| *count >= 2), "{passes:?}");
    let hypervisors: Vec<_> = told.state.placed().iter().map(|placed| placed.controller.hypervisor.clone()).collect();
    assert_eq!(hypervisors, ["sim:alpha", "sim:beta"]);
    // A cell whose passes all went well stayed where it was.
    for cell in told.state.cells.values() {
        assert!(cell.passes.iter().all(|pass| pass.placed == cell.passes[0].placed));
    }
}

#[test]
fn a_host_that_vanishes_in_the_middle_spoils_no_verdict_and_is_cleaned_up_when_it_is_back() {
    let vanishes = "[[fault]]\non = { boot = 'userspace' }\nwhen = { cell = 'acme.web@machine-3', side = 'after' }\n\
                    times = 1\ndoes = { lose-connection = { for = '3m' } }";
    // Room on it alone at first, so that the cell is sure to be there.
    let beta = SimHost { away: 1, ..SimHost::new("beta", "") };
    let told = story().hosts(&[SimHost { room: Room::cores(6), ..SimHost::new("alpha", vanishes) }, beta]).run();
    is_as_on_one_host(&told);
    let lost: Vec<_> = told.state.cells.values().flat_map(spoilt).collect();
    assert!(!lost.is_empty() && lost.iter().all(|pass| host(pass) == "alpha"), "{lost:?}");
    assert!(passes(&told)["beta"] >= lost.len(), "{:?}", passes(&told));
}

#[test]
fn a_host_that_lies_about_what_it_can_is_given_work_ever_more_seldom_and_no_cell_twice() {
    // Its first machine starts, so that it proves itself; whatever else is to start there does not.
    let lies: String = (1..CELLS)
        .map(|number| {
            format!("[[fault]]\non = 'start'\nwhen = {{ cell = 'acme.web@machine-{number}' }}\ndoes = {{ refuse = 'refused' }}\n")
        })
        .collect();
    let told = story().hosts(&[SimHost { room: Room::cores(8), ..SimHost::new("alpha", &lies) }, SimHost::new("beta", "")]).run();
    is_as_on_one_host(&told);
    let cells: Vec<_> = told.state.cells.values().map(spoilt).collect();
    assert!(cells.iter().any(|lost| !lost.is_empty()), "it has lied to nobody");
    assert!(cells.iter().all(|lost| lost.len() <= 1), "{cells:?}");
}

#[test]
fn a_host_that_fails_its_proof_gets_no_work() {
    for unfit in [
        "[[fault]]\non = 'start'\ndoes = { refuse = 'refused' }",
        "[[fault]]\non = 'start'\ndoes = { refuse = 'timed-out' }",
        "[[fault]]\non = { boot = 'kernel' }\ndoes = { stall = {} }",
        "[[fault]]\non = { boot = 'kernel' }\ndoes = 'panic'",
    ] {
        let told = story().hosts(&[SimHost::new("alpha", unfit), SimHost::new("beta", "")]).run();
        is_as_on_one_host(&told);
        assert_eq!(passes(&told).keys().collect::<Vec<_>>(), ["beta"], "{unfit}");
        assert!(told.state.cells.values().all(|cell| spoilt(cell).is_empty()), "{unfit}");
    }
}

#[test]
fn a_run_is_called_off_where_no_host_is_fit_for_work_for_half_an_hour() {
    let unfit = "[[fault]]\non = 'start'\ndoes = { refuse = 'refused' }";
    let away = SimHost { away: u32::MAX, ..SimHost::new("beta", "") };
    let told = story().hosts(&[SimHost::new("alpha", unfit), away]).run();
    assert_eq!(told.judgement.verdict, Verdict::Inconclusive);
    assert!(told.state.cells.values().all(|cell| cell.passes.is_empty()) && told.left.is_empty());
    let off = told.state.called_off.as_ref().expect("called off");
    assert_eq!(off.by, None);
    let expected = ["for 30 min no host was fit for work", "alpha: a known-good machine of image", "beta: no route to it"];
    assert!(expected.iter().all(|part| off.reason.contains(part)), "{}", off.reason);
    let waited = told.state.ended.expect("an end").0 - told.state.planned;
    assert!((30 * 60..60 * 60).contains(&waited.get_seconds()), "{waited}");
}

#[test]
fn a_host_that_is_away_holds_nobody_up_and_gets_work_once_it_is_there() {
    let away = SimHost { away: 3, ..SimHost::new("beta", "") };
    let alpha = SimHost { room: Room::cores(1), ..SimHost::new("alpha", "") };
    let told = story().hosts(&[alpha, away]).run();
    is_as_on_one_host(&told);
    assert_eq!(passes(&told).len(), 2, "{:?}", passes(&told));
    let first = |name: &str| {
        let mine = told.state.cells.values().flat_map(|cell| &cell.passes).filter(|pass| host(pass) == name);
        mine.filter_map(|pass| pass.stages.first()).map(|stage| stage.started).min().expect("a pass")
    };
    // It was tried at once, after 20 s, after 40 and after 80.
    assert!((first("beta") - first("alpha")).get_seconds() >= 100, "{} {}", first("alpha"), first("beta"));
}

#[test]
fn what_the_patch_does_is_a_finding_on_every_host_and_speaks_against_none() {
    let panics = "[[fault]]\non = { boot = 'kernel' }\nwhen = { side = 'after' }\ndoes = 'panic'";
    let alone = story().scenario(panics).run();
    let told = story().hosts(&[SimHost::new("alpha", panics), SimHost::new("beta", panics)]).run();
    assert_eq!((told.findings(), told.faults()), (alone.findings(), alone.faults()));
    assert!(!told.findings().is_empty() && told.left.is_empty());
    // Nobody had to prove itself anew: each cell has all of its passes on one host.
    for cell in told.state.cells.values() {
        assert!(cell.passes.iter().all(|pass| pass.placed == cell.passes[0].placed));
        assert!(cell.passes.iter().all(|pass| pass.outcome(Stage::Teardown).is_some()));
    }
}

/// The first cells ask for a host with this label.
fn asking(story: Story, cells: usize, label: &str) -> Story {
    let labels: BTreeSet<_> = [label.parse().expect("a name")].into();
    story.with(|plan| plan.cells.iter_mut().take(cells).for_each(|cell| cell.host_labels.clone_from(&labels)))
}

#[test]
fn what_asks_for_a_label_touches_no_host_without_it() {
    let [alpha, beta] =
        ["alpha", "beta"].map(|host| SimHost { labels: if host == "beta" { &["site-b"] } else { &[] }, ..SimHost::new(host, "") });
    let told = asking(story(), 2, "site-b").hosts(&[SimHost { room: Room::cores(8), ..alpha }, beta]).run();
    is_as_on_one_host(&told);
    for (at, cell) in told.state.plan.cells.iter().enumerate() {
        let hosts: BTreeSet<_> = told.state.cells[&cell.id].passes.iter().map(host).collect();
        assert!(!hosts.is_empty() && (at >= 2 || hosts == ["beta"].into()), "{}: {hosts:?}", cell.id);
    }
}

#[test]
fn a_run_does_not_wait_for_ever_for_the_one_host_with_a_label() {
    let beta = SimHost { labels: &["site-b"], away: u32::MAX, ..SimHost::new("beta", "") };
    let told = asking(story(), 1, "site-b").hosts(&[SimHost::new("alpha", ""), beta]).run();
    assert_eq!(told.judgement.verdict, Verdict::Inconclusive);
    let off = told.state.called_off.as_ref().expect("called off");
    assert!(off.reason.contains("beta: no route to it") && !off.reason.contains("alpha"), "{}", off.reason);
    let ended: Vec<_> = told.state.plan.cells.iter().map(|cell| told.state.cells.get(&cell.id).is_some_and(|cell| cell.ended)).collect();
    assert_eq!(ended, [false, true, true, true]);
}

#[test]
fn an_environments_machines_are_on_one_host() {
    let told = Story::of_environment(script_patch(Reboot::Required)).hosts(&[SimHost::new("alpha", ""), SimHost::new("beta", "")]).run();
    let alone = Story::of_environment(script_patch(Reboot::Required)).room(Room::cores(2)).run();
    assert_eq!(format!("{:?}", told.judgement), format!("{:?}", alone.judgement));
    assert_eq!((passes(&told).len(), told.left.len()), (2, 0));
}

#[test]
fn a_controller_that_dies_anywhere_leaves_nothing_on_any_host() {
    let told = |entries| {
        let story = story().hosts(&[SimHost::new("alpha", ""), SimHost::new("beta", "")]);
        if entries == 0 { story.run() } else { story.dies_after(entries).run() }
    };
    let whole = told(0);
    for entries in (3..whole.entries).step_by(whole.entries / 6) {
        is_as_on_one_host(&told(entries));
    }
}
