//! The gate's commands by way of a server elsewhere.

use std::process::{Output, Stdio};

use super::stand_in::{Reply, StandIn};
use super::*;

const BROKEN: &str =
    "[[step]]\non = { case = \"web-server/pages\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\noutput = \"broken\"\n";
const GATE: [&str; 6] = ["gate", "good-motd", "--customer", "acme", "--format", "json"];

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|bad| panic!("{bad}: {output:?}"))
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn commands_say_it_at_the_server_as_who_the_token_was_made_for() {
    let lab = lab(POLICY, "").scenario(BROKEN);
    let [viewer, engineer, approver] = ["viewer", "engineer", "approver"].map(|role| lab.token(role));
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let far = |arguments: &[&str], token: &str| server.lab().elsewhere(&server.url, arguments, Some(token));
    let ask = GATE;
    let rejected = far(&ask, &viewer);
    assert_eq!((code(&rejected), told(&rejected)), (1, decision(&server, &viewer)));
    let rejected = told(&rejected);

    let finding = &rejected["requirements"][0]["findings"][0];
    let (case, fingerprint) = (finding["case"].as_str().expect("a case"), finding["fingerprint"].as_str().expect("a digest"));
    let start = &fingerprint["sha256:".len()..][..12];
    let finding = ["--customer", "acme", "--case", case, "--fingerprint", start];
    let propose = [&["waive", "good-motd", "--expires", "7d", "--reason", "known", "--format", "json"], &finding[..]].concat();
    assert_eq!(code(&far(&propose, &viewer)), 2, "a viewer looks");
    let proposed = far(&propose, &engineer);
    assert_eq!((code(&proposed), &told(&proposed)["proposed"]["by"]), (0, &json!("engineer")), "{proposed:?}");
    let waiver = told(&proposed)["id"].as_str().expect("an id").to_owned();
    let consent = ["waive", "--consent", &waiver, "--format", "json"];
    assert_eq!(code(&far(&consent, &engineer)), 2);
    let consented = far(&consent, &approver);
    assert_eq!((code(&consented), &told(&consented)["requirements"][0]["reason"]), (0, &json!("waived")), "{consented:?}");
    for format in ["human", "json"] {
        let list = ["waivers", "--format", format];
        let (there, here) = (far(&list, &viewer), server.lab().patchlab(&list, None));
        assert_eq!((code(&there), there.stdout), (0, here.stdout), "both tell the same");
    }

    let approve = ["approve", "good-motd", "--customer", "acme", "--comment", "fine", "--format", "json"];
    assert_eq!(code(&far(&approve, &engineer)), 2);
    let role = far(&[&approve[..], &["--role", "administrator"]].concat(), &approver);
    assert!(code(&role) == 2 && complaint(&role).contains("role of their token"), "{role:?}");
    let stale = far(&[&approve[..], &["--revision", "1"]].concat(), &approver);
    assert!(code(&stale) == 2 && complaint(&stale).contains("revision 1 is not the current one"), "{stale:?}");
    let approved = far(&approve, &approver);
    assert_eq!((code(&approved), &told(&approved)["status"]), (0, &json!("approved-with-waivers")), "{approved:?}");
    assert_eq!(code(&far(&ask, &viewer)), 0);
    let before = [&ask[..], &["--as-of", rejected["as-of"].as_str().expect("a moment")]].concat();
    let replayed = far(&before, &viewer);
    assert_eq!((code(&replayed), &told(&replayed)["status"]), (1, &json!("rejected")));

    let listed = server.get("/api/v1/approvals", &viewer).json();
    assert_eq!(listed["approvals"][0]["by"], "approver", "{listed}");
    let approval = listed["approvals"][0]["id"].as_str().expect("an id").to_owned();
    let revoke = ["revoke", &approval, "--reason", "second thoughts"];
    assert_eq!(code(&far(&revoke, &viewer)), 2);
    assert_eq!(code(&far(&revoke, &approver)), 0);
    assert_eq!(code(&far(&revoke, &approver)), 2, "once");
    let asked = Instant::now();
    assert_eq!(code(&far(&[&ask[..], &["--wait", "1s"]].concat(), &viewer)), 4, "nobody approves it meanwhile");
    assert!(asked.elapsed() >= Duration::from_secs(1));
    let unknown = far(&["revoke", "01a20168-5e49-7615-ac41-017ca710af21", "--reason", "x"], &approver);
    assert!(code(&unknown) == 2 && complaint(&unknown).contains("01a20168"), "{unknown:?}");
    assert_eq!(code(&far(&["reject", "good-motd", "--customer", "acme", "--reason", "no"], &approver)), 0);
    assert_eq!(code(&far(&ask, &viewer)), 1);

    // What is elsewhere is not looked for here.
    for arguments in [&ask[..], &["runs"], &approve, &["evidence", "last", "--output", "/dev/null"]] {
        let without = server.lab().elsewhere(&server.url, arguments, None);
        assert!(code(&without) == 2 && complaint(&without).contains("PATCHLAB_TOKEN"), "{without:?}");
    }
    assert_eq!(code(&far(&["gate", "no/such", "--customer", "acme"], &viewer)), 2);
    // Beside its server too, who has a token says it there.
    let through = server.lab().patchlab(&ask, Some(&viewer));
    assert_eq!((code(&through), told(&through)), (1, decision(&server, &viewer)));
}

#[test]
fn what_the_simulator_shows_is_no_word_about_real_machines() {
    let lab = lab(POLICY, "").scenario(BROKEN);
    let [engineer, approver] = ["engineer", "approver"].map(|role| lab.token(role));
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let far = |arguments: &[&str], token: &str| server.lab().elsewhere(&server.url, arguments, Some(token));
    // By somebody who means real machines it is neither asked nor done.
    let refused = |arguments: &[&str], token: &str| {
        let output = server.lab().elsewhere_on("qemu:///system", &server.url, arguments, Some(token));
        assert!(code(&output) == 2 && complaint(&output).contains("the simulator's machines") && output.stdout.is_empty(), "{output:?}");
    };
    refused(&GATE, &engineer);
    let finding = decision(&server, &engineer)["requirements"][0]["findings"][0].clone();
    let [case, fingerprint] = ["case", "fingerprint"].map(|key| finding[key].as_str().expect("text").to_owned());
    let waive = ["waive", "good-motd", "--customer", "acme", "--expires", "7d", "--reason", "known", "--format", "json"];
    let waive = [&waive[..], &["--case", &case, "--fingerprint", &fingerprint]].concat();
    refused(&waive, &engineer);
    let waiver = told(&far(&waive, &engineer))["id"].as_str().expect("an id").to_owned();
    let consent = ["waive", "--consent", &waiver];
    refused(&consent, &approver);
    assert_eq!(server.get("/api/v1/waivers", &engineer).json()["waivers"][0]["consented"], Value::Null);
    assert_eq!(code(&far(&consent, &approver)), 0);
    let approve = ["approve", "good-motd", "--customer", "acme"];
    refused(&approve, &approver);
    refused(&[&approve[..], &["--revision", "3"]].concat(), &approver);
    assert_eq!(server.get("/api/v1/approvals", &engineer).json()["approvals"], json!([]));
    assert_eq!(code(&far(&approve, &approver)), 0);
    let open = far(&GATE, &engineer);
    assert_eq!(code(&open), 0, "{open:?}");
    refused(&GATE, &engineer);
    refused(&[&GATE[..], &["--wait", "1s"]].concat(), &engineer);
    refused(&[&GATE[..], &["--as-of", told(&open)["as-of"].as_str().expect("a moment")]].concat(), &engineer);
}

#[test]
fn what_a_newer_server_adds_is_passed_over_and_other_words_open_nothing() {
    let lab = Lab::new();
    let ask = |decision: Value| {
        let server = StandIn::new(vec![Reply::Says(200, decision)]);
        lab.elsewhere(&server.url, &GATE, Some("patchlab_x"))
    };
    let approved = stand_in::decision("approved");
    assert_eq!(code(&ask(approved.clone())), 0);
    let with = |key: &str, value: Value| {
        let mut decision = approved.clone();
        decision[key] = value;
        decision
    };
    let mut added = with("weather", json!({ "today": "rain" }));
    added["patch"]["vendor"] = json!("somebody");
    let output = ask(added);
    assert_eq!((code(&output), &told(&output)["status"]), (0, &json!("approved")), "{output:?}");
    for other in [with("status", json!("approved-if")), with("patch", json!({})), with("simulated", json!("no"))] {
        let output = ask(other);
        assert!(code(&output) == 3 && complaint(&output).contains("where the server is newer"), "{output:?}");
    }
    let output = ask(with("simulated", json!(false)));
    assert!(code(&output) == 2 && complaint(&output).contains("decides about real machines"), "{output:?}");
}

#[test]
fn who_waits_at_the_gate_waits_over_a_servers_hiccups() {
    let lab = Lab::new();
    let problem = |status: u16| Reply::Says(status, json!({ "type": "urn:patchlab:problem:busy", "detail": "too much to do" }));
    let says = |status: &str| Reply::Says(200, stand_in::decision(status));
    let ask = |server: &StandIn, more: &[&str]| lab.elsewhere(&server.url, &[&GATE[..], more].concat(), Some("patchlab_x"));
    let server =
        StandIn::new(vec![Reply::HangsUp, problem(503), says("pending"), problem(429), problem(408), Reply::HangsUp, says("approved")]);
    let output = ask(&server, &["--wait", "10000000000000000000s"]);
    assert_eq!((code(&output), told(&output)["status"].as_str()), (0, Some("approved")), "{output:?}");
    assert_eq!(complaint(&output).matches("asking again until --wait is over").count(), 2, "once each time: {output:?}");
    let named: Vec<bool> = server.asked().iter().map(|(line, _)| line.contains("/good-motd?")).collect();
    assert_eq!(named, [true, true, true, false, false, false, false], "by its bytes as soon as they are known");
    let digest = stand_in::SHA256.replace(':', "%3a");
    assert!(server.asked()[3..].iter().all(|(line, _)| line.contains(&digest)), "{:?}", server.asked());

    // To the end of the wait and no longer; what will not pass ends it at once.
    for (reply, more, expected, requests) in [
        (problem(503), &["--wait", "1500ms"][..], 3, 2..),
        (problem(429), &[], 3, 1..),
        (problem(408), &[], 3, 1..),
        (Reply::HangsUp, &[], 3, 1..),
        (problem(401), &["--wait", "60s"], 2, 1..),
        (problem(404), &["--wait", "60s"], 2, 1..),
    ] {
        let server = StandIn::new(vec![reply.clone()]);
        let asked = Instant::now();
        let output = ask(&server, more);
        assert_eq!(code(&output), expected, "{reply:?}: {output:?}");
        assert!(requests.contains(&server.asked().len()) && asked.elapsed() < Duration::from_secs(30), "{:?}", server.asked());
    }
}

#[test]
fn an_approval_is_for_the_bytes_that_were_looked_at() {
    let lab = Lab::new();
    let decision = stand_in::decision("pending");
    let server = StandIn::new(vec![Reply::Says(200, decision.clone()), Reply::Says(201, json!({ "id": 1, "decision": decision }))]);
    let output = lab.elsewhere(&server.url, &["approve", "good-motd", "--customer", "acme"], Some("patchlab_x"));
    assert_eq!(code(&output), 0, "{output:?}");
    let (line, body) = server.asked().pop().expect("a request");
    assert!(line.starts_with("post /api/v1/approvals "), "{line}");
    assert_eq!((&body["patch"], &body["revision"]), (&json!(stand_in::SHA256), &json!(7)));
}

#[test]
fn who_waits_at_the_gate_follows_the_server_to_where_it_comes_back() {
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), "");
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    let url = server.url.clone();
    let mut command = command::patchlab(&server.lab().folder, server.lab().state.path());
    command.args(["--hypervisor", "sim"]).args(GATE).args(["--wait", "120s"]).env("PATCHLAB_TOKEN", &engineer);
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // It has asked once somebody waits for a decision.
    let asked = "patchlab_decision_answers_total{from=\"gate\"} ";
    let begun = Instant::now();
    while metric(&server, &engineer, asked) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody asks");
    }
    let (lab, _, _) = server.end(Signal::SIGKILL);
    let server = lab.serve(&[]);
    assert_ne!(server.url, url);
    run(&server, &engineer);
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!((code(&output), told(&output)["status"].as_str()), (0, Some("approved")), "{output:?}");
}

#[test]
fn an_id_is_an_id_whatever_folder_is_called_the_same() {
    let here = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(here.path().join("good-motd")).expect("a folder");
    let server = StandIn::new(vec![Reply::Says(200, stand_in::decision("approved"))]);
    let mut command = command::patchlab(".", "state");
    command.current_dir(here.path()).args(["--hypervisor", "sim"]).args(GATE);
    let output = command.env("PATCHLAB_SERVER", &server.url).env("PATCHLAB_TOKEN", "patchlab_x").output().expect("patchlab starts");
    assert!(code(&output) == 0 && server.asked()[0].0.contains("/good-motd?"), "{output:?}");
}

#[test]
fn a_long_answer_to_a_word_is_read_like_any_other() {
    let lab = Lab::new();
    let mut decision = stand_in::decision("rejected");
    // More than an HTTP client reads by itself.
    decision["summary"] = json!("x".repeat(11 << 20));
    let server = StandIn::new(vec![Reply::Says(201, json!({ "decision": decision }))]);
    let output = lab.elsewhere(&server.url, &["reject", "good-motd", "--customer", "acme", "--reason", "no"], Some("patchlab_x"));
    assert_eq!(code(&output), 0, "{:.500}", complaint(&output));
}
