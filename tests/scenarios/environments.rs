//! Two machines that work together, at each patch level.

use std::collections::BTreeSet;

use patchlab::catalog::patch::Reboot;
use patchlab::catalog::step::Step;
use patchlab::catalog::suite::ResultForm;
use patchlab::verdict::Verdict;

use crate::common::{Story, Told, case, script_patch};

fn tell(scenario: &str) -> Told {
    Story::of_environment(script_patch(Reboot::Required)).scenario(scenario).run()
}

/// Each cell with the codes and places of its findings.
fn findings(told: &Told) -> Vec<(String, String, String)> {
    let cells = told.judgement.cells.iter();
    let of = |cell: &patchlab::verdict::CellJudgement| {
        let level = cell.id.as_str().split(':').next_back().unwrap_or_default().to_owned();
        cell.findings.iter().map(move |one| (level.clone(), one.code.clone(), one.message.clone())).collect::<Vec<_>>()
    };
    cells.flat_map(of).collect()
}

#[test]
fn a_good_patch_passes_at_every_level() {
    let told = tell("");
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
    let levels: Vec<_> = told.judgement.cells.iter().map(|cell| cell.id.as_str().to_owned()).collect();
    assert_eq!(levels, ["acme.office@virtio-bios:client", "acme.office@virtio-bios:server", "acme.office@virtio-bios:all"]);
    assert!(told.left.is_empty(), "{:?}", told.left);
}

#[test]
fn what_breaks_one_level_is_found_there_and_nowhere_else() {
    let told =
        tell("[[step]]\non={case='http/page'}\nwhen={cell='*:server', role='server', side='after'}\nends={exit=1}\noutput='no page'");
    let found = findings(&told);
    assert_eq!(told.judgement.verdict, Verdict::Fail);
    assert!(found.iter().all(|(level, code, _)| level == "server" && code == "regression"), "{found:?}");
    assert!(found.iter().any(|(_, _, message)| message.contains("step 1, server runs own-page.sh")), "{found:?}");
}

#[test]
fn a_machine_that_does_not_come_back_is_named() {
    let told = tell("[[fault]]\non={boot='kernel'}\nwhen={role='server', side='after'}\ndoes='panic'");
    let found = findings(&told);
    assert!(
        found.iter().all(|(level, code, message)| level != "client" && code == "kernel-panic" && message.contains("server: ")),
        "{found:?}"
    );
    assert_eq!(found.len(), 2, "with the server patched alone, and with all: {found:?}");
}

#[test]
fn an_unpatched_machine_that_dies_of_its_patched_peer_is_a_finding() {
    // The client is never patched at this level; ten minutes after the case first began its peer is.
    let dies = "[[fault]]\non={case='http/page'}\nwhen={cell='*:server', role='client'}\nafter='AFTER'\ntimes=1\ndoes='power-off'\n\
                [[step]]\non={case='http/page'}\nwhen={cell='*:server', role='client'}\ntakes='59s'";
    let late = tell(&dies.replace("AFTER", "150s"));
    let found = findings(&late);
    assert!(
        found.iter().any(|(level, code, message)| level == "server" && code == "powered-off" && message.contains("client: ")),
        "{found:?}"
    );
    // Before its peer is patched, the same is the lab's.
    let early = tell(&dies.replace("AFTER", "5s"));
    assert_eq!(early.findings(), Vec::<String>::new());
    assert!(early.faults().contains(&"powered-off".to_owned()), "{:?}", early.faults());
}

#[test]
fn a_machine_that_is_not_ready_for_its_peers_is_blamed_by_the_table() {
    let never = "[[step]]\non={step='ready'}\nwhen={role='server', side='SIDE'}\nends={exit=66}\noutput='tcp 80'";
    let after = tell(&never.replace("SIDE", "after"));
    assert!(findings(&after).iter().any(|(_, code, message)| code == "not-ready" && message.contains("tcp 80")), "{:?}", findings(&after));
    let before = tell(&never.replace("SIDE", "before"));
    assert_eq!((before.findings(), before.judgement.verdict), (Vec::new(), Verdict::Inconclusive));
    assert!(before.faults().contains(&"not-ready".to_owned()));
}

#[test]
fn peers_wait_for_what_a_patch_restarted_without_a_reboot() {
    let never = "[[step]]\non={step='ready'}\nwhen={role='server', side='after'}\nends={exit=66}\noutput='tcp 80'";
    let told = Story::of_environment(script_patch(Reboot::Never)).scenario(never).run();
    assert!(findings(&told).iter().any(|(level, code, _)| level == "server" && code == "not-ready"), "{:?}", findings(&told));
}

#[test]
fn a_background_script_that_falls_over_fails_the_case() {
    let told =
        tell("[[step]]\non={case='http/stream'}\nwhen={cell='*:all', role='server', side='after'}\nends={exit=3}\noutput='port in use'");
    let found = findings(&told);
    assert!(found.iter().all(|(level, _, _)| level == "all") && !found.is_empty(), "{found:?}");
}

#[test]
fn what_is_expected_in_vain_is_told_by_the_last_try_that_came_to_its_end() {
    let told = tell(
        "[[step]]\non={case='http/stream'}\nwhen={cell='*:client', role='client', side='after'}\nends={exit=1}\ntakes='7s'\noutput='no light'",
    );
    let found = findings(&told);
    assert!(found.iter().any(|(level, _, message)| level == "client" && message.contains("no light")), "{found:?}");
    let (_, text) = told
        .files
        .iter()
        .find(|(path, text)| path.ends_with(".timeline") && text.contains("no light"))
        .expect("a timeline with the reason");
    assert_eq!(text.matches("not yet: exit code 1: no light").count(), 1, "said once for all tries\n{text}");
}

#[test]
fn a_failure_is_the_same_however_much_time_was_left_for_it() {
    let takes = |side, time| format!("[[step]]\non={{case='http/stands'}}\nwhen={{role='client', side='{side}'}}\ntakes='{time}'\n");
    let fails = "[[step]]\non={case='http/stands'}\nwhen={role='server'}\nends={exit=1}\noutput='no light'\n";
    let step = |role: &str| Step { role: Some(role.parse().expect("a name")), ..Step::default() };
    let mut stands = case("stands", false);
    stands.run = None;
    stands.steps =
        vec![Step { run: Some("slow.sh".to_owned()), ..step("client") }, Step { expect: Some("watch.sh".to_owned()), ..step("server") }];
    let scenario = takes("before", "2s") + &takes("after", "9s") + fails;
    let told = Story::of_environment(script_patch(Reboot::Required)).with_suite("http", vec![stands]).scenario(&scenario).run();
    assert_eq!(findings(&told), Vec::new());
    let within = told
        .journal
        .iter()
        .filter_map(|entry| Some(entry.split_once("is expected to pass watch.sh within ")?.1.split(' ').next()?.to_owned()));
    let times: BTreeSet<_> = within.collect();
    assert!(times.len() >= 2, "it failed before and after, with different times: {times:?}");
}

#[test]
fn a_barrier_waits_for_scripts_that_were_started_without_waiting() {
    let step = |role: &str| Step { role: Some(role.parse().expect("a name")), ..Step::default() };
    let start = |role: &str| Step { start: Some("watch.sh".to_owned()), name: Some(role.parse().expect("a name")), ..step(role) };
    let both = ["server", "client"].map(|role| role.parse().expect("a name")).to_vec();
    let mut stands = case("stands", false);
    stands.run = None;
    let runs = Step { run: Some("look.sh".to_owned()), ..step("client") };
    stands.steps = vec![start("server"), start("client"), Step { barrier: both, ..Step::default() }, runs];
    let told = Story::of_environment(script_patch(Reboot::Required)).with_suite("http", vec![stands]).run();
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
}

#[test]
fn what_is_expected_in_tap_is_tried_again_until_it_is_ok() {
    let late = "[[step]]\non={case='http/stands'}\nwhen={role='client'}\nchance=70\noutput=\"1..1\\nnot ok 1 - not yet\"\n\
                [[step]]\non={case='http/stands'}\noutput=\"1..1\\nok 1 - there\"";
    let mut case = case("stands", false);
    case.run = None;
    let role = Some("client".parse().expect("a name"));
    case.steps = vec![Step { role, expect: Some("watch.sh".to_owned()), result: ResultForm::Tap, ..Step::default() }];
    let told = Story::of_environment(script_patch(Reboot::Required)).with_suite("http", vec![case]).scenario(late).run();
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
}

#[test]
fn what_a_background_script_says_in_tap_counts_where_it_is_waited_for() {
    let step = |role: &str| Step { role: Some(role.parse().expect("a name")), ..Step::default() };
    let name = || Some("watch".parse().expect("a name"));
    let starts = Step { start: Some("watch.sh".to_owned()), name: name(), result: ResultForm::Tap, ..step("client") };
    let ends = Step { wait: name(), ..Step::default() };
    let mut case = case("stands", false);
    case.run = None;
    case.steps = vec![starts, ends];
    let said = |output: &str| {
        let scenario = format!("[[step]]\non={{case='http/stands'}}\nwhen={{side='after'}}\noutput=\"{output}\"");
        let before = "[[step]]\non={case='http/stands'}\nwhen={side='before'}\noutput=\"1..1\\nok 1 - all well\"\n";
        let story = Story::of_environment(script_patch(Reboot::Required)).with_suite("http", vec![case.clone()]);
        story.scenario(&format!("{before}{scenario}")).run()
    };
    assert_eq!(findings(&said("1..1\\nok 1 - all well")), Vec::new());
    let found = findings(&said("1..1\\nnot ok 1 - a light is out"));
    assert!(found.iter().any(|(level, _, message)| level == "client" && message.contains("a light is out")), "{found:?}");
}

#[test]
fn a_controller_may_die_at_any_moment() {
    let whole = tell("");
    for entries in (2..whole.entries).step_by(11) {
        let told = Story::of_environment(script_patch(Reboot::Required)).dies_after(entries).run();
        assert_eq!(told.judgement.verdict, Verdict::Pass, "after {entries}: {:?} {:?}", told.findings(), told.faults());
        assert!(told.left.is_empty(), "after {entries}: {:?}", told.left);
    }
}

/// A step of a scenario in which the server's journal has a line for each second.
fn talkative() -> String {
    let lines: Vec<String> = (0..2000).map(|second| format!("[{second:5}.000000] server sshd[7]: tick {second}")).collect();
    format!("[[step]]\non={{step='journal'}}\nwhen={{role='server'}}\noutput='''\n{}\n'''\n", lines.join("\n"))
}

#[test]
fn a_timeline_tells_what_lab_and_machines_did_in_one_order() {
    let slow = "[[step]]\non={case='http/page'}\nwhen={role='server'}\ntakes='20s'\noutput=\"line one\\nline two\"\n";
    let told = tell(&format!("{}{slow}", talkative()));
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?}", told.faults());
    let timelines: Vec<_> = told.files.iter().filter(|(path, _)| path.ends_with(".timeline")).collect();
    let all: Vec<_> = timelines.iter().filter(|(path, _)| path.contains("http.page")).collect();
    assert!(all.len() >= 6, "before and after, at three levels: {}", all.len());
    for (path, text) in all {
        let lines: Vec<_> = text.lines().collect();
        let ticks = lines.iter().filter(|line| line.contains("  server        server sshd[7]: tick")).count();
        assert!((20..=23).contains(&ticks), "{path}: {ticks} in some 21 s\n{text}");
        assert!(text.contains("server runs own-page.sh") && text.contains("it said 17 bytes: line one"), "{path}\n{text}");
        assert!(text.contains("nothing crosses a simulated network"), "{path}");
        let times: Vec<f64> = lines.iter().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert!(times.is_sorted(), "{path}\n{text}");
    }
}

#[test]
fn a_case_that_a_machine_did_not_survive_has_a_timeline_too() {
    let told = tell("[[fault]]\non={case='http/page'}\nwhen={cell='*:server', role='server', side='after'}\ndoes='power-off'");
    let (path, text) = told.files.iter().find(|(path, _)| path.ends_with("timeline-of-http-page")).expect("a timeline");
    assert!(path.contains("server") && text.contains("server runs own-page.sh"), "{path}\n{text}");
    assert!(text.contains("server        [it could not be asked:"), "{text}");
    assert!(text.contains("lab           http/page is cut short: server: the machine switched itself off"), "{text}");
}

#[test]
fn a_machine_that_cannot_tell_its_journal_says_so_and_harms_nothing() {
    let told = tell("[[step]]\non={step='journal'}\nwhen={role='client'}\nends={lacks='awk'}");
    assert_eq!(told.judgement.verdict, Verdict::Pass, "{:?} {:?}", told.findings(), told.faults());
    let silent = |(path, text): &&(String, String)| {
        path.ends_with(".timeline") && text.contains("client        [its journal could not be read: Lacks")
    };
    assert!(told.files.iter().filter(silent).count() >= 6, "{:?}", told.files.first());
}
