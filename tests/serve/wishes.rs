//! How a run is to be done, apart from its plan: what is asked for is done, or said not to be.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::server::{Answer, Lab, Seen};

/// Slow enough to be caught in the middle.
const SOMEWHAT: &str = "[pace]\nreal-time = true\nspeed = 20\n";

/// The cases of a run's cells whose baselines an earlier run has seen.
fn taken_over(report: &Value) -> usize {
    let cells = report["cells"].as_array().expect("cells");
    let cases = cells.iter().flat_map(|cell| cell["cases"].as_array().expect("cases"));
    cases.filter(|case| case["baseline-from"].is_object()).count()
}

#[test]
fn a_run_that_goes_on_is_done_as_it_was_asked_for_first_and_says_so() {
    let lab = Lab::new().scenario(SOMEWHAT);
    let token = lab.token("engineer");
    let server = lab.serve(&["--workers", "1"]);
    let two = json!({ "patch": "good-motd", "builds": ["web"], "hardware": ["virtio-bios", "virtio-uefi"], "suites": ["web-server"] });
    let one = json!({ "patch": "good-motd", "builds": ["web"], "hardware": ["virtio-bios"], "suites": ["web-server"] });
    let launch = |body: &Value, key: &str| server.post("/api/v1/runs", &token, &[("idempotency-key", key)], body);
    let with = |body: &Value, wish: &str| {
        let mut body = body.clone();
        body[wish] = json!(true);
        body
    };
    let run = |answer: Answer| answer.json()["run"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    let first = run(launch(&two, "k-1"));
    assert_eq!(taken_over(&server.ended(&first, &token)), 0);

    let second = run(launch(&two, "k-2"));
    let waiting = run(launch(&with(&one, "cold"), "k-3"));
    let asked_otherwise = |body: &Value, names: &str| {
        let answer = launch(body, "k-4");
        assert_eq!((answer.status, answer.problem().as_str()), (409, "asked-otherwise"), "{answer:?}");
        assert!(answer.text.contains(names), "{answer:?}");
    };
    asked_otherwise(&with(&two, "fresh-baselines"), "is done without fresh-baselines:");
    asked_otherwise(&with(&with(&two, "cold"), "keep-failed"), "is done without keep-failed and cold:");
    asked_otherwise(&with(&one, "fresh-baselines"), "is done without fresh-baselines:");
    assert_eq!(run(launch(&one, "k-4")), waiting, "the key is still free, and who wishes for nothing takes what there is");
    assert_eq!(run(launch(&with(&one, "cold"), "k-5")), waiting);
    let ended = |(_, name, _): &Seen| name == "cell-ended";
    assert!(server.events(&second, &token, None, ended).last().is_some_and(ended));
    let (lab, _, _) = server.end(Signal::SIGKILL);

    // At the terminal it is taken up where it was.
    let lab = lab.in_no_time();
    let more = ["--build", "web", "--hardware", "virtio-bios", "--hardware", "virtio-uefi", "--suite", "web-server"];
    let command = [&["run", "good-motd", "--fresh-baselines", "--cold", "--format", "json"], &more[..]].concat();
    let output = lab.patchlab(&command, None);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(&format!("taking up run {second} where it was: 1 of 2 cells")), "{said}");
    assert!(said.contains("--fresh-baselines is for what is still to be done"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(taken_over(&report) > 0, "{report}");

    let reuse = [&command[..], &["--reuse"]].concat();
    let refused = lab.patchlab(&reuse, None);
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("cannot be used with"), "{refused:?}");

    // What was refused is not noted for the run that was there.
    let server = lab.scenario(SOMEWHAT).serve(&[]);
    assert!(taken_over(&server.ended(&waiting, &token)) > 0);
}
