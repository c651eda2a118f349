//! Several patches tested together, as people see it: the command line on the simulator, from one trial to who is to blame, and what the
//! gate makes of it.

use std::fs;
use std::io::{BufRead, BufReader};

use patchlab::verdict::gate::Status;
use serde_json::Value;

use super::lab::{Lab, PLAIN, WEB};

/// A lab with these candidates in its store: id, and lines of its manifest.
fn holding(patches: &[(&str, &str)]) -> Lab {
    let lab = Lab::new(PLAIN);
    for (id, lines) in patches {
        let folder = lab.path(id);
        fs::create_dir_all(&folder).expect("a folder");
        let manifest = format!(
            "id = \"{id}\"\ntitle = \"{id}\"\nkind = \"script\"\npayload = [\"x\"]\nreboot = \"auto\"\ninstall = \"true\"\nuninstall = \"true\"\n{lines}\n"
        );
        fs::write(folder.join("patch.toml"), manifest).expect("written");
        fs::write(folder.join("x"), id).expect("written");
        assert_eq!(lab.code(&["patch", "add", folder.to_str().expect("UTF-8")]), 0, "{id}");
    }
    lab
}

/// These patches break a case, if all of them are there.
fn breaks(together: &[&str]) -> String {
    format!("[[step]]\non = {{ case = 'storage/*' }}\nwhen = {{ side = 'after', patches = {together:?} }}\nends = {{ exit = 1 }}\n")
}

fn sim(lab: &Lab, scenario: &str) -> String {
    let file = lab.path("scenario.toml");
    fs::write(&file, scenario).expect("written");
    format!("sim:{}", file.display())
}

/// What a bundle comes to, with its exit code.
fn tested(lab: &Lab, scenario: &str, patches: &[&str]) -> (i32, Value) {
    let sim = sim(lab, scenario);
    let arguments = [&["--hypervisor", &sim, "run"], patches, &["--customer", "acme", "--format", "json"], &WEB[..]].concat();
    let output = lab.patchlab(&arguments);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("an exit code"), serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{bad}: {text}{said}")))
}

/// `id fate with,...` of each patch.
fn fates(told: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let with = |patch: &Value| patch["with"].as_array().expect("a list").iter().map(word).collect::<Vec<_>>().join(",");
    let patches = told["patches"].as_array().expect("a list").iter();
    patches.map(|patch| format!("{} {} {}", word(&patch["id"]), word(&patch["fate"]), with(patch)).trim_end().to_owned()).collect()
}

fn trials(told: &Value) -> usize {
    told["trials"].as_array().expect("a list").len()
}

/// What the gate says of a patch: its status, and its first requirement.
fn gate(lab: &Lab, patch: &str) -> (Status, String) {
    let (_, decision) = lab.gate_for(patch, &[]);
    let first = &decision.requirements[0];
    (decision.status, format!("{}: {}", first.reason, first.message))
}

#[test]
fn a_good_bundle_takes_one_run_and_speaks_for_each_of_its_patches() {
    let lab = holding(&[("a", ""), ("b", ""), ("c", "")]);
    for patch in ["a", "b", "c"] {
        assert_eq!(gate(&lab, patch).0, Status::Pending, "nobody has tried");
    }
    let (code, told) = tested(&lab, "", &["a", "b", "c"]);
    assert_eq!((code, trials(&told), told["verdict"].as_str()), (0, 1, Some("pass")));
    assert_eq!(fates(&told), ["a cleared b,c", "b cleared a,c", "c cleared a,b"]);
    assert_eq!(gate(&lab, "a"), (Status::Approved, "passed: passed, tested together with b and c".to_owned()));
    assert_eq!(gate(&lab, "c"), (Status::Approved, "passed: passed, tested together with a and b".to_owned()));
    let run = told["trials"][0]["run"].as_str().expect("a run").to_owned();
    for (form, words) in [
        ("json", vec!["\"together\"", "3 patches were tested together: a, b, c"]),
        ("junit", vec!["patches.tested-together", "patchlab a + b + c"]),
        ("html", vec!["Patches, tested together", "a, b, c"]),
        ("markdown", vec!["tested together"]),
    ] {
        let output = lab.patchlab(&["report", &run, "--format", form]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        words.iter().for_each(|word| assert!(text.contains(word), "{form} lacks {word}: {text}"));
    }
    let shown = lab.patchlab(&["show", &run, "--bundle"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("tested together with b, c"), "{shown:?}");
    assert_eq!(lab.code(&["attest", &run]), 2, "a statement is about one patch");
    assert_eq!(lab.code(&["audit", "verify"]), 0);
}

#[test]
fn one_culprit_among_sixteen_is_found_in_seven_runs_and_nobody_else_is_held_up() {
    let ids: Vec<String> = (0..16).map(|at| format!("p{at:02}")).collect();
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let lab = holding(&all.iter().map(|id| (*id, "")).collect::<Vec<_>>());
    let (culprit, innocent) = ("p09", "p00");
    let (code, told) = tested(&lab, &breaks(&[culprit]), &all);
    assert_eq!((code, told["verdict"].as_str()), (1, Some("fail")));
    assert!(trials(&told) <= 7, "{} runs", trials(&told));
    assert_eq!(told["failing"][0]["patches"], serde_json::json!([culprit]));
    assert_eq!(fates(&told).iter().filter(|fate| fate.contains(" cleared ")).count(), 15);
    assert_eq!(gate(&lab, culprit).0, Status::Rejected);
    let (status, why) = gate(&lab, innocent);
    assert_eq!(status, Status::Approved, "{why}");
    assert!(why.starts_with("passed: passed, tested together with "), "{why}");
}

#[test]
fn two_culprits_are_told_from_two_that_do_not_get_along() {
    let four = [("a", ""), ("b", ""), ("c", ""), ("d", "")];
    let lab = holding(&four);
    let (code, told) = tested(&lab, &(breaks(&["b"]) + &breaks(&["d"])), &["a", "b", "c", "d"]);
    assert_eq!((code, fates(&told)), (1, ["a cleared c", "b culprit", "c cleared a", "d culprit"].map(str::to_owned).to_vec()));
    assert_eq!([gate(&lab, "a").0, gate(&lab, "b").0], [Status::Approved, Status::Rejected]);

    let lab = holding(&four);
    let (code, told) = tested(&lab, &breaks(&["b", "d"]), &["a", "b", "c", "d"]);
    let expected = ["a cleared c,d", "b conflict d", "c cleared a,d", "d conflict b"];
    assert_eq!((code, fates(&told)), (1, expected.map(str::to_owned).to_vec()));
    assert_eq!([gate(&lab, "a").0, gate(&lab, "c").0], [Status::Approved; 2]);
    for (patch, other) in [("b", "d"), ("d", "b")] {
        let (status, why) = gate(&lab, patch);
        assert_eq!(status, Status::Rejected);
        assert!(why.starts_with("failed: storage/") && why.contains("tested together with") && why.contains(other), "{why}");
    }
}

#[test]
fn what_requires_a_culprit_waits_and_what_is_replaced_is_left_out() {
    let lab = holding(&[("old", ""), ("new", "supersedes = [\"old\"]"), ("needs", "requires = [\"bad\"]"), ("bad", "")]);
    let (code, told) = tested(&lab, &breaks(&["bad"]), &["needs", "old", "new", "bad"]);
    assert_eq!(code, 1);
    assert_eq!(fates(&told), ["bad culprit", "needs blocked bad", "new cleared", "old superseded new"]);
    assert_eq!(gate(&lab, "needs").0, Status::Pending, "it was never tried without what is to blame");
}

#[test]
fn trouble_in_the_apply_stage_names_the_patch() {
    let lab = holding(&[("a", ""), ("b", "")]);
    let fails = "[[step]]\non = { step = 'apply' }\nwhen = { patches = ['b'] }\nends = { exit = 9 }\n";
    let junit = lab.path("junit.xml");
    let (code, told) = tested(&lab, fails, &["a", "b", "--junit", junit.to_str().expect("UTF-8")]);
    let text = fs::read_to_string(junit).expect("a report");
    assert!(text.contains("name=\"bundle\"") && text.contains("<failure type=\"culprit\""), "{text}");
    assert_eq!((code, fates(&told)), (1, ["a cleared", "b culprit"].map(str::to_owned).to_vec()));
    let run = told["trials"][0]["run"].as_str().expect("a run");
    let text = String::from_utf8(lab.patchlab(&["show", run]).stdout).expect("UTF-8");
    assert!(text.contains("b: applying ended with exit code 9"), "{text}");
}

#[test]
fn what_it_costs_is_said_before() {
    let lab = holding(&[("a", ""), ("b", ""), ("c", "")]);
    let output = lab.patchlab(&[&["plan", "a", "b", "c", "--customer", "acme"], &WEB[..]].concat());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("tested together: 1 trial where all pass") && text.contains("at most 5 ("), "{text}");
    let output = lab.patchlab(&[&["plan", "a", "b", "c", "--customer", "acme", "--format", "json"], &WEB[..]].concat());
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&plan["trials"]["at-least"], &plan["trials"]["with-one-culprit"]), (&1.into(), &5.into()));
    assert_eq!(plan["together"].as_array().map(Vec::len), Some(3));
    for (arguments, word) in [
        (vec!["run", "a", "a"], "named twice"),
        (vec!["run", "a", "b", "--reuse"], "--reuse is for one patch"),
        (vec!["show", "last", "--bundle"], "no run yet"),
    ] {
        let output = lab.patchlab(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn a_bundle_whose_controller_is_killed_goes_on_where_it_was() {
    let lab = holding(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]);
    let broken = breaks(&["b"]);
    let slow = sim(&lab, &format!("[pace]\nreal-time = true\nspeed = 60\n{broken}"));
    let arguments = [&["run", "a", "b", "c", "d", "--customer", "acme", "--format", "json"], &WEB[..]].concat();
    let mut child = lab.start(&[&["--hypervisor", &slow], &arguments[..]].concat());
    let said = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut begun = said.lines().map_while(Result::ok).filter(|line| line.starts_with("trial "));
    assert!(begun.nth(2).is_some(), "three trials are needed");
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(lab.code(&["show", "last", "--bundle"]), 4, "something is left to be tested");
    let (code, told) = tested(&lab, &broken, &["a", "b", "c", "d"]);
    assert_eq!((code, fates(&told)), (1, ["a cleared c,d", "b culprit", "c cleared a,d", "d cleared a,c"].map(str::to_owned).to_vec()));
    let runs = lab.patchlab(&["runs", "--format", "json"]).stdout;
    let runs: Value = serde_json::from_slice(&runs).expect("JSON");
    assert_eq!(runs.as_array().map(Vec::len), Some(trials(&told)), "no trial was made twice");
    // All is known now: the next one begins anew.
    assert_eq!(tested(&lab, "", &["a", "b", "c", "d"]).0, 0);
}
