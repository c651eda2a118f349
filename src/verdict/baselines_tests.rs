use super::*;
use crate::catalog::text::Span;
use crate::cell::{Cause, Point, StageOutcome, Trouble};
use crate::journal::StageRecord;
use crate::plan::examples::{self, name};
use crate::plan::{PlannedSuite, Subject};

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a moment")
}

fn run(number: u64) -> RunId {
    RunId::from_parts(number, [1; 10])
}

fn case() -> Case {
    Case { leaves_nothing: true, ..examples::case("pages") }
}

fn cell() -> PlannedCell {
    let cell = examples::cell("web", "plain", vec![examples::suite("web", vec![case()])]);
    PlannedCell { baseline_valid_for: Span::secs(24 * 3600), ..cell }
}

fn seen(point: Point, outcome: CaseOutcome) -> CaseObservation {
    CaseObservation {
        suite: name("web"),
        case: name("pages"),
        point,
        outcome,
        elapsed_ms: 7,
        message: String::new(),
        detail: String::new(),
        fingerprint: None,
        skipped: Vec::new(),
        notes: Vec::new(),
        evidence: Vec::new(),
        origin: None,
    }
}

fn pass(kind: Pass, from: i64, outcome: CaseOutcome) -> PassRecord {
    let stage = |stage| StageRecord { stage, started: at(from), ended: Some((at(from + 5), StageOutcome::Passed)) };
    PassRecord {
        pass: kind,
        attempt: 1,
        machine: "m".to_owned(),
        placed: None,
        xml: Default::default(),
        starts: Default::default(),
        stages: vec![stage(Stage::Baseline), stage(Stage::Suites), stage(Stage::Teardown)],
        facts: Default::default(),
        gauges: Default::default(),
        cases: vec![seen(Point::Baseline, outcome), seen(Point::Applied, CaseOutcome::Pass)],
        anew: Vec::new(),
        evidence: Vec::new(),
        ended: true,
        kept: false,
    }
}

fn ended(passes: Vec<PassRecord>) -> CellRecord {
    CellRecord { passes, ended: true }
}

fn here() -> Digest {
    Digest::of("this host")
}

/// What a later cell gets `after` seconds, from a cell that ended like this.
fn chosen(record: CellRecord, later: impl FnOnce(&mut PlannedCell), after: i64) -> Result<CaseObservation, String> {
    let mut known = Known::default();
    known.learn_cell(run(1), &cell(), &record, here());
    let mut wanted = cell();
    later(&mut wanted);
    let case = wanted.suites[0].cases[0].clone();
    known.choose(&wanted, likeness(&wanted, here()), (&name("web"), &case), at(after))
}

fn good() -> CellRecord {
    ended(vec![pass(Pass::Main, 0, CaseOutcome::Pass)])
}

#[test]
fn a_pass_is_taken_over_with_its_origin() {
    let taken = chosen(good(), |_| {}, HOUR).expect("it counts");
    let origin = taken.origin.clone().expect("an origin");
    assert_eq!((origin.run, origin.attempt, origin.at, &origin.cell), (run(1), 1, at(0), &cell().id));
    assert_eq!(origin.sha256, Digest::of_json(&seen(Point::Baseline, CaseOutcome::Pass)));
    assert_eq!(CaseObservation { origin: None, ..taken }, seen(Point::Baseline, CaseOutcome::Pass));
}

#[test]
fn a_baseline_counts_for_the_same_bytes_alone() {
    type Change = fn(&mut PlannedCell);
    let others: &[(&str, Change)] = &[
        ("image", |cell| cell.machines[0].image.sha256 = Digest::of("another")),
        ("hardware", |cell| cell.machines[0].hardware.sha256 = Digest::of("another")),
        ("services", |cell| cell.machines[0].services.clear()),
        ("names", |cell| cell.machines[0].names = vec!["www".to_owned()]),
        ("suite", |cell| cell.suites[0].sha256 = Digest::of("another")),
        ("a case's limit", |cell| cell.suites[0].cases[0].time_limit = Span::secs(1)),
        ("packages", |cell| cell.suites[0].packages = vec![crate::plan::PlannedFile { file: "a".to_owned(), sha256: Digest::of("a") }]),
        ("a suite before it", |cell| cell.suites.push(PlannedSuite { name: name("ssh"), ..(*cell.suites[0]).clone() }.into())),
        ("customer", |cell| cell.customer = name("umbrella")),
        ("environment", |cell| cell.subject = Subject::Environment(name("web"))),
    ];
    for (what, change) in others {
        let why = chosen(good(), change, HOUR).expect_err(what);
        assert_eq!(why, "none was seen on such machines, suites and host", "{what}");
    }
    let same: &[(&str, Change)] = &[
        ("another level", |cell| cell.machines[0].patched = false),
        ("another id", |cell| cell.id = CellId::new(&name("acme"), &name("other"), &name("plain"))),
        ("another number of attempts", |cell| cell.attempts = 5),
    ];
    for (what, change) in same {
        assert!(chosen(good(), change, HOUR).is_ok(), "{what}");
    }
}

#[test]
fn a_baseline_counts_on_the_same_host_alone() {
    let mut known = Known::default();
    known.learn_cell(run(1), &cell(), &good(), Digest::of("another host"));
    assert!(known.choose(&cell(), likeness(&cell(), here()), (&name("web"), &case()), at(HOUR)).is_err());
    let controller = |change: fn(&mut Controller)| {
        let report = crate::journal::HostReport {
            accelerator: "kvm".to_owned(),
            accelerator_reason: "/dev/kvm".to_owned(),
            qemu: "9".to_owned(),
            libvirt: "11".to_owned(),
            kernel: "6.1".to_owned(),
            cpus: 2,
            memory: 1,
        };
        let mut controller = Controller { patchlab: "1".to_owned(), hypervisor: "qemu:///embed".to_owned(), host: report };
        change(&mut controller);
        host(&controller)
    };
    let changes: [fn(&mut Controller); 8] = [
        |one| one.patchlab = "2".to_owned(),
        |one| one.hypervisor = "sim".to_owned(),
        |one| one.host.accelerator = "tcg".to_owned(),
        |one| one.host.qemu = "10".to_owned(),
        |one| one.host.libvirt = "12".to_owned(),
        |one| one.host.kernel = "6.12".to_owned(),
        |one| one.host.cpus = 4,
        |one| one.host.memory = 2,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        assert_ne!(controller(change), controller(|_| {}), "change {at}");
    }
    assert_eq!(controller(|one| one.host.accelerator_reason.clear()), controller(|_| {}));
}

#[test]
fn a_baseline_counts_while_it_is_younger_than_the_limit() {
    for (after, counts) in [(0, true), (24 * HOUR - 1, true), (24 * HOUR, false), (25 * HOUR, false), (-1, false)] {
        assert_eq!(chosen(good(), |_| {}, after).is_ok(), counts, "after {after} s");
    }
}

#[test]
fn some_cases_always_run_anew() {
    type Change = fn(&mut PlannedCell);
    let rows: &[(Change, &str)] = &[
        (|cell| cell.baseline_valid_for = Span::secs(0), "policy"),
        (|cell| cell.confirmations = 0, "not tried again"),
        (|cell| cell.suites[0].cases[0].leaves_nothing = false, "leave nothing"),
    ];
    for (change, why) in rows {
        let found = chosen(good(), change, HOUR).expect_err(why);
        assert!(found.contains(why), "{found}");
    }
}

#[test]
fn only_a_clean_and_final_pass_counts() {
    let main = |outcome| pass(Pass::Main, 0, outcome);
    let confirm = |outcome| pass(Pass::Confirm { number: 1 }, 60, outcome);
    let spoilt = |cause| {
        let trouble = Trouble::new(cause, "spoilt");
        let mut pass = main(CaseOutcome::Pass);
        pass.stages[1].ended = Some((at(9), StageOutcome::Failed { trouble }));
        pass
    };
    let flaky = |patched| {
        let mut pass = main(CaseOutcome::Pass);
        pass.cases[1].outcome = patched;
        pass
    };
    let second_hand = || {
        let mut pass = main(CaseOutcome::Pass);
        let origin = Origin { run: run(9), cell: cell().id, attempt: 1, at: at(0), sha256: Digest::of("") };
        pass.cases[0].origin = Some(Box::new(origin));
        pass
    };
    let mut rows = vec![
        ("a cell under way", CellRecord { passes: vec![main(CaseOutcome::Pass)], ended: false }, "no clean pass"),
        ("the host ran full later", ended(vec![spoilt(Cause::HostDiskFull)]), "no clean pass"),
        ("the controller died", ended(vec![spoilt(Cause::ControllerEnded)]), "no clean pass"),
        ("second hand", ended(vec![second_hand()]), "none was seen"),
        ("a confirmation alone", ended(vec![confirm(CaseOutcome::Pass)]), "no clean pass"),
        ("failed on another clone", ended(vec![main(CaseOutcome::Pass), confirm(CaseOutcome::Fail)]), "was fail, in run"),
        ("flaky patched", ended(vec![flaky(CaseOutcome::Fail), confirm(CaseOutcome::Pass)]), "was flaky, in run"),
    ];
    for outcome in [CaseOutcome::Fail, CaseOutcome::TimedOut, CaseOutcome::Skip, CaseOutcome::FlakyFailure, CaseOutcome::HarnessError] {
        rows.push((outcome.as_str(), ended(vec![main(outcome)]), outcome.as_str()));
    }
    for (what, record, why) in rows {
        let found = chosen(record, |_| {}, HOUR).expect_err(what);
        assert!(found.contains(why), "{what}: {found}");
    }
    // Bad news that the patch is to blame for does not spoil what was seen before it.
    assert!(chosen(ended(vec![spoilt(Cause::AgentLost)]), |_| {}, HOUR).is_ok());
    let confirmed = ended(vec![flaky(CaseOutcome::Fail), flaky(CaseOutcome::Fail)]);
    assert!(chosen(confirmed, |_| {}, HOUR).is_ok(), "a regression says nothing against its baseline");
}

#[test]
fn a_failure_anywhere_counts_for_as_long_as_a_pass_would() {
    let (passed, failed) = (CaseOutcome::Pass, CaseOutcome::Fail);
    let learnt = |runs: &[(u64, i64, CaseOutcome)]| {
        let mut known = Known::default();
        for (number, from, outcome) in runs {
            known.learn_cell(run(*number), &cell(), &ended(vec![pass(Pass::Main, *from, *outcome)]), here());
        }
        let told = known.choose(&cell(), likeness(&cell(), here()), (&name("web"), &case()), at(30 * HOUR));
        told.map(|seen| seen.origin.map(|origin| origin.run))
    };
    for mut runs in [vec![(1, 10 * HOUR, passed), (2, 20 * HOUR, failed)], vec![(1, 10 * HOUR, failed), (2, 20 * HOUR, passed)]] {
        assert!(learnt(&runs).is_err(), "{runs:?}");
        runs.reverse();
        assert!(learnt(&runs).is_err(), "{runs:?}");
    }
    let mut runs = vec![(1, 0, failed), (2, 10 * HOUR, passed), (3, 20 * HOUR, passed)];
    assert_eq!(learnt(&runs), Ok(Some(run(3))), "the newest, and what failed long ago is forgotten");
    runs.reverse();
    assert_eq!(learnt(&runs), Ok(Some(run(3))));
}
