//! The engine on the simulator: one scenario a row of the blame table, and the rules that a verdict rests on. Time is virtual.

#[path = "scenarios/autopkgtest.rs"]
mod autopkgtest;
#[path = "scenarios/baselines.rs"]
mod baselines;
#[path = "scenarios/checkpoints.rs"]
mod checkpoints;
mod common;
#[path = "scenarios/environments.rs"]
mod environments;
#[path = "scenarios/hosts.rs"]
mod hosts;
#[path = "scenarios/scheduling.rs"]
mod scheduling;
#[path = "scenarios/trends.rs"]
mod trends;
#[path = "scenarios/warm.rs"]
mod warm;

use common::{Story, Told, deb_patch, script_patch};
use patchlab::catalog::patch::Reboot;
use patchlab::cell::Pass;
use patchlab::journal::PassRecord;
use patchlab::plan::PlannedPatch;
use patchlab::verdict::{Comparison, Verdict};

/// (what, scenario, verdict, finding or fault code, whether that code is a finding)
type Row = (&'static str, &'static str, Verdict, &'static str, bool);

const TABLE: &[Row] = &[
    // Before the patch everything is the lab's.
    ("create is refused", "[[fault]]\non='create'\ndoes={refuse='refused'}", Verdict::Inconclusive, "hypervisor", false),
    ("the host is full", "[[fault]]\non='create'\ndoes={refuse='no-space'}", Verdict::Inconclusive, "host-disk-full", false),
    ("start is refused", "[[fault]]\non='start'\ndoes={refuse='gone'}", Verdict::Inconclusive, "hypervisor", false),
    (
        "stalls before the patch",
        "[[fault]]\non={boot='kernel'}\nwhen={side='before'}\ndoes={stall={}}",
        Verdict::Inconclusive,
        "boot-stalled",
        false,
    ),
    (
        "panics before the patch",
        "[[fault]]\non={boot='kernel'}\nwhen={side='before'}\ndoes='panic'",
        Verdict::Inconclusive,
        "kernel-panic",
        false,
    ),
    (
        "loops before the patch",
        "[[fault]]\non={boot='kernel'}\nwhen={side='before'}\ndoes='reboot'",
        Verdict::Inconclusive,
        "boot-loop",
        false,
    ),
    (
        "switches off before the patch",
        "[[fault]]\non={boot='userspace'}\nwhen={side='before'}\ndoes='power-off'",
        Verdict::Inconclusive,
        "powered-off",
        false,
    ),
    (
        "loses its agent before the patch",
        "[[fault]]\non={step='facts'}\nwhen={side='before'}\ndoes={agent-lost={}}",
        Verdict::Inconclusive,
        "agent-lost",
        false,
    ),
    (
        "restarts in a case before the patch",
        "[[fault]]\non={case='web/*'}\nwhen={side='before'}\ndoes='reboot'",
        Verdict::Inconclusive,
        "unexpected-reboot",
        false,
    ),
    (
        "facts fail before the patch",
        "[[step]]\non={step='facts'}\nwhen={side='before'}\nends={exit=1}",
        Verdict::Inconclusive,
        "probe-failed",
        false,
    ),
    (
        "a device of the profile has no driver before the patch",
        "[[facts]]\nsection='devices'\ndrop='network'",
        Verdict::Inconclusive,
        "hardware-unmet",
        false,
    ),
    (
        "a device of the profile loses its driver to the patch",
        "[[facts]]\nsection='devices'\nfrom='applied'\ndrop='network'",
        Verdict::Fail,
        "regression",
        true,
    ),
    // After it, the host's doings stay the lab's.
    (
        "the emulator dies after the patch",
        "[[fault]]\non={case='web/*'}\nwhen={side='after'}\ndoes='emulator-crash'",
        Verdict::Inconclusive,
        "emulator-died",
        false,
    ),
    (
        "the host's disk fails after the patch",
        "[[fault]]\non={case='web/*'}\nwhen={side='after'}\ndoes={disk-error={nospace=true}}",
        Verdict::Inconclusive,
        "disk-error",
        false,
    ),
    (
        "the connection is lost after the patch",
        "[[fault]]\non={case='web/*'}\nwhen={side='after'}\ndoes={lose-connection={}}",
        Verdict::Inconclusive,
        "hypervisor",
        false,
    ),
    (
        "the patch does not fit the build",
        "[[step]]\non={step='preflight'}\nends={exit=64}\noutput='none of the packages is installed'",
        Verdict::Inconclusive,
        "not-applicable",
        false,
    ),
    // What the guest does is the patch's.
    ("stalls after the patch", "[[fault]]\non={boot='kernel'}\nwhen={side='after'}\ndoes={stall={}}", Verdict::Fail, "boot-stalled", true),
    ("loops after the patch", "[[fault]]\non={boot='kernel'}\nwhen={side='after'}\ndoes='reboot'", Verdict::Fail, "boot-loop", true),
    (
        "restarts by itself twice on its way up after the patch",
        "[[fault]]\non={boot='kernel'}\nwhen={side='after'}\ntimes=2\ndoes='reboot'",
        Verdict::Fail,
        "unexpected-reboot",
        true,
    ),
    (
        "a case that passes makes the kernel stumble",
        "[[facts]]\nsection='kernel-log'\nfrom='rebooted'\nuntil='rebooted'\nread-before=3\nadd='[ 12.3] BUG: unable to handle page fault'",
        Verdict::Fail,
        "regression",
        true,
    ),
    ("panics after the patch", "[[fault]]\non={boot='kernel'}\nwhen={side='after'}\ndoes='panic'", Verdict::Fail, "kernel-panic", true),
    (
        "switches off after the patch",
        "[[fault]]\non={boot='userspace'}\nwhen={side='after'}\ndoes='power-off'",
        Verdict::Fail,
        "powered-off",
        true,
    ),
    ("loses its agent while applying", "[[fault]]\non={step='apply'}\ndoes={agent-lost={}}", Verdict::Fail, "agent-lost", true),
    (
        "restarts in a case after the patch",
        "[[fault]]\non={case='web/*'}\nwhen={side='after'}\ndoes='reboot'",
        Verdict::Fail,
        "unexpected-reboot",
        true,
    ),
    (
        "an old failure does not hide another one at a later boot",
        "[[step]]\non={case='web/pages'}\nwhen={at=['cold-booted']}\nends={exit=1}\noutput='no server'\n[[step]]\non={case='web/pages'}\nends={exit=1}\noutput='no page'",
        Verdict::Fail,
        "changed-failure",
        true,
    ),
    (
        "a destructive case loses its machine after the patch",
        "[[fault]]\non={case='web/crash'}\nwhen={side='after'}\ndoes='panic'",
        Verdict::Fail,
        "kernel-panic",
        true,
    ),
    (
        "a destructive case passes on no clone that was restarted",
        "[[step]]\non={case='web/crash'}\nwhen={boot=[2,3,4,5]}\nends={exit=1}",
        Verdict::Inconclusive,
        "flaky",
        false,
    ),
    (
        "no clone can restart unpatched either",
        "[[fault]]\non={boot='kernel'}\nwhen={boot=[2]}\ndoes={stall={}}",
        Verdict::Inconclusive,
        "unconfirmed",
        false,
    ),
    ("its agent talks nonsense", "[[fault]]\non={step='apply'}\ndoes={agent-nonsense={}}", Verdict::Fail, "agent-nonsense", true),
    ("facts fail after the patch", "[[step]]\non={step='facts'}\nwhen={side='after'}\nends={exit=1}", Verdict::Fail, "probe-failed", true),
    ("apply fails", "[[step]]\non={step='apply'}\nends={exit=7}", Verdict::Fail, "apply-failed", true),
    ("apply never ends", "[[step]]\non={step='apply'}\nends='times-out'", Verdict::Fail, "apply-timed-out", true),
    ("apply asks a question", "[[step]]\non={step='apply'}\nends='asks'", Verdict::Fail, "apply-asked", true),
    (
        "apply would remove packages",
        "[[step]]\non={step='preflight'}\nends={exit=65}\noutput='would remove nginx'",
        Verdict::Fail,
        "undeclared-removals",
        true,
    ),
    ("it has no effect", "[[step]]\non={step='confirm'}\nends={exit=1}", Verdict::Fail, "not-effective", true),
    (
        "apply fills the disk",
        "[[fault]]\non={step='apply'}\ndoes='fill-disk'\n[[step]]\non={step='apply'}\nends={exit=1}\noutput='write error: No space left on device'",
        Verdict::Fail,
        "guest-disk-full",
        true,
    ),
    ("applying again fails", "[[step]]\non={step='reapply'}\nends={exit=3}", Verdict::Fail, "not-idempotent", true),
    ("taking it back fails", "[[step]]\non={step='rollback'}\nends={exit=3}", Verdict::Fail, "rollback-failed", true),
    (
        "a case fails after the patch",
        "[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=1}",
        Verdict::Fail,
        "regression",
        true,
    ),
    (
        "a case hangs after the patch",
        "[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends='times-out'",
        Verdict::Fail,
        "regression",
        true,
    ),
    (
        "a case cannot run after the patch",
        "[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=77}",
        Verdict::Fail,
        "regression",
        true,
    ),
    (
        "a destructive case fails after the patch",
        "[[step]]\non={case='web/crash'}\nwhen={side='after'}\nends={exit=1}",
        Verdict::Fail,
        "regression",
        true,
    ),
    (
        "a failure changes",
        "[[step]]\non={case='web/pages'}\nwhen={side='before'}\nends={exit=1}\noutput='no page'\n[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=1}\noutput='no server'",
        Verdict::Fail,
        "changed-failure",
        true,
    ),
    (
        "it breaks only at the second boot",
        "[[step]]\non={case='web/pages'}\nwhen={at=['cold-booted']}\nends={exit=1}",
        Verdict::Fail,
        "regression",
        true,
    ),
    (
        "a service is gone after the patch",
        "[[facts]]\nsection='units'\nfrom='applied'\ndrop='nginx.service'\nadd='nginx.service loaded failed failed'",
        Verdict::Fail,
        "regression",
        true,
    ),
    // What is bad on one clone and good on another is neither.
    (
        "a case fails on one clone only",
        "[[step]]\non={case='web/pages'}\nwhen={side='after', nth=[1]}\nends={exit=1}",
        Verdict::Inconclusive,
        "flaky",
        false,
    ),
    (
        "a boot stalls on one clone only",
        "[[fault]]\non={boot='kernel'}\nwhen={side='after', nth=[1]}\ndoes={stall={}}",
        Verdict::Inconclusive,
        "flaky",
        false,
    ),
    ("a case's harness fails", "[[step]]\non={case='web/pages'}\nends={exit=99}", Verdict::Inconclusive, "harness-error", false),
    (
        "a case has no baseline and fails",
        "[[step]]\non={case='web/pages'}\nwhen={side='before'}\nends={exit=77}\n[[step]]\non={case='web/pages'}\nwhen={side='after'}\nends={exit=1}",
        Verdict::Inconclusive,
        "no-baseline",
        false,
    ),
];

/// Every row holds, of these, in runs of a patch and a scenario that are told like this.
fn hold(rows: impl Iterator<Item = &'static Row>, tell: impl Fn(PlannedPatch, &str) -> Told) {
    let mut wrong = Vec::new();
    for (what, scenario, verdict, code, finding) in rows {
        // Only packages have a preflight.
        let patch = if scenario.contains("preflight") { deb_patch() } else { script_patch(Reboot::Required) };
        let told = tell(patch, scenario);
        let found = |list: &[String]| list.iter().any(|one| one == code);
        let sound = told.judgement.verdict == *verdict
            && if *finding { found(&told.findings()) } else { found(&told.faults()) && told.findings().is_empty() };
        if !sound || !told.left.is_empty() {
            let (verdict_found, findings, faults) = (told.judgement.verdict, told.findings(), told.faults());
            wrong.push(format!(
                "{what}: expected {verdict} with {code}, found {verdict_found} with findings {findings:?} and faults {faults:?}; left {:?}",
                told.left
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_row_of_the_blame_table() {
    hold(TABLE.iter(), |patch, scenario| Story::new(patch).scenario(scenario).run());
}

#[test]
fn a_good_patch_passes_and_every_case_is_compared() {
    let told = Story::new(script_patch(Reboot::Required)).run();
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
    let cell = &told.judgement.cells[0];
    assert!(cell.cases.iter().all(|case| matches!(case.comparison, Comparison::Unchanged | Comparison::Skipped)), "{:#?}", cell.cases);
    assert!(cell.cases.iter().any(|case| case.case.as_str() == "crash"), "the destructive case has its twins");
}

#[test]
fn a_fault_that_passes_is_made_up_for() {
    for scenario in [
        "[[fault]]\non='start'\ntimes=1\nwhen={nth=[1]}\ndoes={refuse='refused'}",
        "[[fault]]\non={boot='kernel'}\nwhen={side='before', nth=[1]}\ndoes={stall={}}",
        "[[fault]]\non={case='web/*'}\nwhen={side='after', nth=[1]}\ndoes='emulator-crash'",
    ] {
        let told = Story::new(script_patch(Reboot::Required)).scenario(scenario).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "{scenario}: {:?}", told.judgement.cells[0].faults);
        assert!(told.judgement.cells[0].faults.iter().any(|fault| fault.recovered), "{scenario}: the fault is shown");
    }
}

#[test]
fn what_failed_before_the_lab_spoilt_the_pass_is_tried_again() {
    let failing = |clones: &str| {
        let scenario = format!(
            "[[step]]\non={{case='web/pages'}}\nwhen={{side='after', nth={clones}}}\nends={{exit=1}}\n\
             [[fault]]\non={{step='reapply'}}\nwhen={{nth=[1]}}\ndoes='emulator-crash'"
        );
        Story::new(script_patch(Reboot::Required)).scenario(&scenario).run()
    };
    let once = failing("[1]");
    assert_eq!(once.judgement.verdict, Verdict::Pass, "{:?}", once.faults());
    let cell = &once.judgement.cells[0];
    let confirmed = |pass: &PassRecord| matches!(pass.pass, Pass::Confirm { .. });
    assert!(once.state.cells.values().flat_map(|cell| &cell.passes).any(confirmed), "it was looked at again");
    assert!(cell.notes.iter().any(|note| note.starts_with("web/pages: failed in an attempt that the lab spoilt")), "{:?}", cell.notes);
    let always: Vec<String> = (1..20).map(|nth| nth.to_string()).collect();
    let always = failing(&format!("[{}]", always.join(",")));
    assert_eq!(always.judgement.verdict, Verdict::Fail, "{:?}", always.faults());
}

#[test]
fn what_failed_before_and_fails_the_same_way_blocks_nothing() {
    let scenario = "[[step]]\non={case='web/pages'}\nends={exit=1}\noutput='no page'";
    let told = Story::new(script_patch(Reboot::Required)).scenario(scenario).run();
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?}", told.faults());
    assert_eq!(told.comparison("pages"), Comparison::PreExisting);
}

#[test]
fn reboots_happen_when_patch_or_guest_want_them() {
    let wanting = "[[step]]\non={step='reboot-wanted'}\noutput=\"reboot: a newer kernel is installed\\n\"";
    for (reboot, scenario, expected) in
        [(Reboot::Never, wanting, false), (Reboot::Auto, "", false), (Reboot::Auto, wanting, true), (Reboot::Required, "", true)]
    {
        let told = Story::new(script_patch(reboot)).scenario(scenario).run();
        assert_eq!(told.stage_passed("reboot"), expected, "{reboot:?} {scenario}");
    }
}

#[test]
fn a_patch_that_restarts_by_itself_is_judged_by_its_manifest() {
    let scenario = "[[fault]]\non={step='apply'}\nafter='2s'\ndoes='reboot'\ntimes=1";
    let never = Story::new(script_patch(Reboot::Never)).scenario(scenario).run();
    assert!(never.findings().contains(&"unexpected-reboot".to_owned()), "{:?} {:?}", never.findings(), never.faults());

    // It says that it restarts the machine. Whether it had come to its end is what it wrote down, or else its own word.
    let unverified = || {
        let mut patch = script_patch(Reboot::Required);
        patch.manifest.verify = None;
        patch
    };
    let ended = |code: u8| {
        let files: Vec<String> = (1..20).map(|n| format!("'/var/lib/patchlab/ended/apply-{n}-0'=\"{code}\\n\"")).collect();
        format!("{scenario}\n[files]\n{}", files.join("\n"))
    };
    for (patch, scenario, verdict, finding) in [
        (unverified(), scenario.to_owned(), Verdict::Fail, Some("unexpected-reboot")),
        (script_patch(Reboot::Required), scenario.to_owned(), Verdict::Pass, None),
        (unverified(), ended(0), Verdict::Pass, None),
        (unverified(), ended(3), Verdict::Fail, Some("apply-failed")),
    ] {
        let told = Story::new(patch).scenario(&scenario).run();
        assert_eq!(told.judgement.verdict, verdict, "{scenario}: {:?} {:?}", told.findings(), told.faults());
        assert_eq!(told.findings().first().map(String::as_str), finding, "{scenario}");
    }
}

#[test]
fn a_restart_between_two_jobs_is_seen() {
    // Around the end of applying: in it, after it, while the next job starts, in that.
    for after in (11_500..14_000).step_by(250) {
        let scenario = format!("[[fault]]\non={{step='apply'}}\nafter='{after}ms'\ndoes='reboot'\ntimes=1");
        let told = Story::new(script_patch(Reboot::Required)).scenario(&scenario).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "after {after} ms: {:?} {:?}", told.findings(), told.faults());
        let told = Story::new(script_patch(Reboot::Never)).scenario(&scenario).run();
        assert_eq!(told.findings(), ["unexpected-reboot"], "after {after} ms: {:?}", told.faults());
    }
}

#[test]
fn a_failed_confirmation_is_explained_by_the_machines_state() {
    let scenario = "[[step]]\non={step='confirm'}\nends={exit=1}\n\
                    [[facts]]\nsection='units'\nfrom='applied'\ndrop='nginx.service'\nadd='nginx.service loaded failed failed'";
    let told = Story::new(script_patch(Reboot::Never)).scenario(scenario).run();
    assert_eq!(told.findings().first().map(String::as_str), Some("not-effective"));
    assert!(told.findings().contains(&"regression".to_owned()), "{:?} {:?}", told.findings(), told.faults());
}

#[test]
fn a_tool_that_is_cut_off_is_the_patchs_doing_only_when_it_always_is() {
    let cut = |when: &str| format!("[[facts]]\nsection='firewall'\n{when}\nadd='cut-off: nft did not end within 240 seconds'");
    for (when, verdict, code) in [
        ("from='baseline'", Verdict::Inconclusive, "harness-error"),
        ("from='applied'\nwhen={nth=[1]}", Verdict::Inconclusive, "flaky"),
        ("from='applied'", Verdict::Fail, "regression"),
    ] {
        let told = Story::new(script_patch(Reboot::Never)).scenario(&cut(when)).run();
        let all = [told.findings(), told.faults()].concat();
        assert!(told.judgement.verdict == verdict && all.contains(&code.to_owned()), "{when}: {} {all:?}", told.judgement.verdict);
    }
}

#[test]
fn what_a_destructive_case_leaves_of_its_unpatched_clone_is_not_measured() {
    // The second clone is the unpatched twin, the third its next attempt if there has to be one.
    let told = Story::new(script_patch(Reboot::Required))
        .scenario("[[step]]\non={step='facts'}\nwhen={nth=[2, 3], side='before'}\nends={exit=1}")
        .run();
    assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()));
}

#[test]
fn on_an_emulated_processor_a_restart_goes_on_in_a_new_emulator() {
    let story = || Story::new(script_patch(Reboot::Required)).emulated();
    let told = story().run();
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
    assert!(told.stage_passed("reboot") && told.stage_passed("cold-boot"));
    // libvirt may see the emulator's monitor break off before it knows of the end that it was asked for.
    let told = story().scenario("[[fault]]\non='power-off'\ndoes='emulator-crash'").run();
    assert_eq!((told.judgement.verdict, told.faults()), (Verdict::Pass, Vec::new()));
    let told = story().scenario("[[fault]]\non={boot='kernel'}\nwhen={side='after'}\ndoes='panic'").run();
    assert_eq!((told.judgement.verdict, told.findings()), (Verdict::Fail, vec!["kernel-panic".to_owned()]));
}

#[test]
fn a_controller_that_dies_anywhere_is_followed_by_one_that_ends_the_run() {
    let whole = Story::new(script_patch(Reboot::Required)).run();
    for entries in (3..whole.entries).step_by(7) {
        let told = Story::new(script_patch(Reboot::Required)).dies_after(entries).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "died after {entries} entries: {:?}", told.faults());
        assert!(told.left.is_empty(), "died after {entries} entries: left {:?}", told.left);
    }
}

#[test]
fn the_same_story_gives_the_same_journal() {
    let story =
        || Story::new(script_patch(Reboot::Required)).scenario("seed = 5\n[[step]]\non={case='web/*'}\nchance=50\nends={exit=1}").run();
    let (one, two) = (story(), story());
    assert_eq!(one.journal, two.journal);
}
