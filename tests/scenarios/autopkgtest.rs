//! Suites that others have written: restrictions, restarts on demand, and what counts for the verdict.

use patchlab::catalog::autopkgtest::{Source, cases};
use patchlab::catalog::patch::Reboot;
use patchlab::catalog::text::Span;
use patchlab::cell::CaseOutcome;
use patchlab::verdict::{Comparison, Verdict};

use crate::common::{Story, Told, script_patch};

const CONTROL: &str = "Tests: plain, other\nDepends:\n\nTests: now-and-then\nDepends:\nRestrictions: flaky\n\nTests: weak\nDepends:\n\
                       Restrictions: superficial, needs-root\n\nTests: wrecks\nDepends:\nRestrictions: breaks-testbed\n\nTests: again\nDepends:\n\
                       Restrictions: needs-reboot, needs-root\n\nTests: online\nDepends:\nRestrictions: needs-internet\n";

fn tell_of(control: &str, scenario: &str) -> Told {
    let settings = Source { source: "source".to_owned(), time_limit: Span::secs(600), leaves_nothing: false };
    let cases = cases(control, &settings, None).expect("a control file");
    Story::new(script_patch(Reboot::Required)).with_suite("sed", cases).scenario(scenario).run()
}

fn tell(scenario: &str) -> Told {
    tell_of(CONTROL, scenario)
}

/// How often the case was seen, and how its last patched observation ended.
fn seen(told: &Told, case: &str) -> (usize, Option<CaseOutcome>) {
    let all =
        told.state.cells.values().flat_map(|record| &record.passes).flat_map(|pass| &pass.cases).filter(|one| one.case.as_str() == case);
    let all: Vec<_> = all.collect();
    (all.len(), all.last().map(|one| one.outcome))
}

const REBOOTS: &str = "[[step]]\non={case='sed/again'}\nwhen={boot=[1]}\nresult='reboot first'\n\
                       [[step]]\non={case='sed/again'}\nwhen={boot=[2], side='before'}\nresult='reboot second'\n";

#[test]
fn a_good_patch_passes_and_the_weak_pass_is_told_as_such() {
    let told = tell(REBOOTS);
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
    for (case, comparison) in [
        ("plain", Comparison::Unchanged),
        ("weak", Comparison::Unchanged),
        ("wrecks", Comparison::Unchanged),
        ("again", Comparison::Unchanged),
        ("online", Comparison::Skipped),
    ] {
        assert_eq!(told.comparison(case), comparison, "{case}");
    }
    let cell = &told.judgement.cells[0];
    assert!(cell.notes.contains(&"sed/weak: passed, and is superficial: weak evidence".to_owned()), "{:?}", cell.notes);
    let online = cell.cases.iter().find(|case| case.case.as_str() == "online").expect("a planned case");
    assert!(online.message.contains("no way out to any network"), "{}", online.message);
    assert_eq!(told.journal.iter().filter(|entry| entry.contains("\"PassStarted\"") || entry.contains("pass-started")).count(), 5);
}

#[test]
fn a_restart_on_demand_comes_back_to_the_test_with_its_mark() {
    // Unpatched: twice. Patched: its clone is at its second boot when the test begins.
    let marks = "[[step]]\non={case='sed/again'}\nwhen={side='after', boot=[2]}\nresult='reboot third'\n\
                 [[step]]\non={case='sed/again'}\nwhen={side='after', boot=[3]}\nends={exit=1}\noutput='the service is gone'\n";
    let told = tell(&format!("{marks}{REBOOTS}"));
    assert_eq!((told.judgement.verdict, told.comparison("again")), (Verdict::Fail, Comparison::Regression), "{:?}", told.faults());
    let finding = &told.judgement.cells[0].findings[0];
    assert_eq!((finding.case.as_deref(), finding.confirmed), (Some("sed/again"), (1, 1)));
    assert!(finding.detail.contains("[the machine is restarted; the mark is third]"), "{}", finding.detail);
    assert!(finding.message.contains("the service is gone"), "{}", finding.message);
}

#[test]
fn a_test_that_restarts_for_ever_fails() {
    let told = tell("[[step]]\non={case='sed/again'}\nresult='reboot more'\n");
    assert_eq!(told.comparison("again"), Comparison::PreExisting, "{:?}", told.faults());
    let told = tell(&format!("{REBOOTS}[[step]]\non={{case='sed/again'}}\nwhen={{side='after'}}\nresult='reboot more'\n"));
    assert_eq!(told.comparison("again"), Comparison::Regression, "{:?}", told.faults());
}

#[test]
fn a_machine_that_does_not_come_back_from_a_tests_restart_is_the_patchs() {
    // The clones of the twin passes: the main one is the first, then two for `wrecks`, then two for each round of `again`.
    let dies = "[[fault]]\non={boot='kernel'}\nwhen={side='SIDE', boot=[BOOT], nth=[4, 5, 6, 7]}\ndoes='panic'\n\
                [[step]]\non={case='sed/again'}\nwhen={side='after', boot=[2]}\nresult='reboot x'\n";
    let after = tell(&format!("{}{REBOOTS}", dies.replace("SIDE", "after").replace("BOOT", "3")));
    assert_eq!(after.judgement.verdict, Verdict::Fail, "{:?}", after.faults());
    assert!(after.judgement.cells[0].findings.iter().any(|one| one.code == "kernel-panic"), "{:?}", after.findings());
    let before = tell(&format!("{}{REBOOTS}", dies.replace("SIDE", "before").replace("BOOT", "2")));
    assert_eq!((before.findings(), before.judgement.verdict), (Vec::new(), Verdict::Inconclusive));
}

#[test]
fn a_restart_that_nobody_asked_for_is_one_still() {
    let told = tell(&format!(
        "{REBOOTS}[[fault]]\non={{case='sed/plain'}}\nwhen={{side='after', boot=[2]}}\nafter='1s'\ndoes='reboot'\n\
         [[step]]\non={{case='sed/plain'}}\nwhen={{side='after', boot=[2]}}\ntakes='30s'\n\
         [[step]]\non={{case='sed/plain'}}\nwhen={{side='after', boot=[3]}}\nresult='unasked'\n"
    ));
    assert!(told.findings().contains(&"unexpected-reboot".to_owned()), "{:?} {:?}", told.findings(), told.faults());
}

#[test]
fn a_restart_that_the_test_prepared_for_is_none_of_the_patchs_doing() {
    let told = tell(&format!(
        "{REBOOTS}[[fault]]\non={{case='sed/plain'}}\nwhen={{side='after', boot=[2]}}\nafter='1s'\ndoes='reboot'\n\
         [[step]]\non={{case='sed/plain'}}\nwhen={{side='after', boot=[2]}}\ntakes='30s'\n"
    ));
    assert_eq!((told.judgement.verdict, told.comparison("plain")), (Verdict::Pass, Comparison::Unchanged), "{:?}", told.findings());
}

#[test]
fn a_declared_flaky_failure_blocks_nothing_and_is_never_a_pass() {
    for side in ["before", "after"] {
        let told =
            tell(&format!("{REBOOTS}[[step]]\non={{case='sed/now-and-then'}}\nwhen={{side='{side}'}}\nends={{exit=1}}\noutput='late'\n"));
        assert_eq!(
            (told.judgement.verdict, told.comparison("now-and-then")),
            (Verdict::Pass, Comparison::Skipped),
            "{side}: {:?}",
            told.faults()
        );
        let judged = told.judgement.cells[0].cases.iter().find(|case| case.case.as_str() == "now-and-then").expect("a planned case");
        assert!(judged.message.contains("declares it flaky"), "{side}: {}", judged.message);
    }
}

#[test]
fn what_writes_to_standard_error_fails() {
    let told = tell(&format!("{REBOOTS}[[step]]\non={{case='sed/plain'}}\nwhen={{side='after'}}\nresult='''stderr deprecated\nran'''\n"));
    assert_eq!((told.judgement.verdict, told.comparison("plain")), (Verdict::Fail, Comparison::Regression));
    assert!(told.judgement.cells[0].findings[0].message.contains("standard error: deprecated"));
}

#[test]
fn superficial_passes_alone_do_not_speak_for_a_patch() {
    let told = tell_of("Tests: weak\nDepends:\nRestrictions: superficial\n\nTests: online\nDepends:\nRestrictions: needs-internet\n", "");
    assert_eq!((told.judgement.verdict, told.comparison("weak")), (Verdict::Inconclusive, Comparison::Unchanged));
    assert_eq!(told.faults(), ["no-required-cases"]);
}

#[test]
fn where_the_only_case_is_a_finding_the_lab_lacks_nothing() {
    let told = tell_of("Tests: only\nDepends:\n", "[[step]]\non={case='sed/only'}\nwhen={side='after'}\nresult='ran'\nends={exit=1}\n");
    assert_eq!((told.judgement.verdict, told.comparison("only")), (Verdict::Fail, Comparison::Regression));
    assert_eq!(told.faults(), [""; 0]);
}

#[test]
fn a_clone_that_cannot_be_prepared_is_the_labs() {
    let told = tell("[[step]]\non={step='prepare'}\nends={exit=67}\noutput='the packages could not be installed'\n");
    assert_eq!((told.findings(), told.judgement.verdict), (Vec::new(), Verdict::Inconclusive));
    assert!(told.judgement.cells[0].faults.iter().any(|fault| fault.message.contains("could not be prepared for suite sed")));
    // Nothing to run, nothing to prepare.
    let idle = tell_of("Tests: online\nDepends:\nRestrictions: needs-internet\n", "[[step]]\non={step='prepare'}\nends={exit=67}\n");
    assert_eq!(seen(&idle, "online"), (3, Some(CaseOutcome::Skip)));
}

#[test]
fn a_controller_may_die_at_any_moment() {
    let whole = tell(REBOOTS);
    for entries in (2..whole.entries).step_by(13) {
        let settings = Source { source: "source".to_owned(), time_limit: Span::secs(600), leaves_nothing: false };
        let cases = cases(CONTROL, &settings, None).expect("a control file");
        let story = Story::new(script_patch(Reboot::Required)).with_suite("sed", cases).scenario(REBOOTS);
        let told = story.dies_after(entries).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "after {entries}: {:?} {:?}", told.findings(), told.faults());
    }
}
