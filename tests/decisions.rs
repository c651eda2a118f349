//! The gate over HTTP: decisions for those who poll, what people say to it, and who is told.

#[path = "common/command.rs"]
mod command;
#[path = "decisions/keeper.rs"]
mod keeper;
#[path = "decisions/labs.rs"]
mod labs;
#[path = "decisions/memory.rs"]
mod memory;
#[path = "decisions/receiver.rs"]
mod receiver;
#[expect(dead_code, reason = "shared with tests/serve.rs")]
#[path = "serve/server.rs"]
mod server;
#[path = "decisions/stand_in.rs"]
mod stand_in;
#[path = "decisions/webhooks.rs"]
mod webhooks;
#[path = "decisions/word.rs"]
mod word;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use labs::{NO_APPROVAL, POLICY, SECRET, hook, lab};
use nix::sys::signal::Signal;
use receiver::{Authority, Manner, Receiver};
use serde_json::{Value, json};
use server::{Answer, IN_REAL_TIME, Lab, Server};

const DECISION: &str = "/api/v1/decisions/good-motd?customer=acme";

fn tag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().expect("text").to_owned()
}

fn conditional(server: &Server, path: &str, token: &str, tag: &str) -> Answer {
    server.ask("GET", path, &[("authorization", &format!("Bearer {token}")), ("if-none-match", tag)], b"")
}

/// Launches the run that the policy asks for and waits for its end.
fn run(server: &Server, token: &str) -> String {
    let body =
        json!({ "patch": "good-motd", "customers": ["acme"], "builds": ["web"], "hardware": ["virtio-bios"], "suites": ["web-server"] });
    let launched = server.post("/api/v1/runs", token, &[], &body);
    assert_eq!(launched.status, 202, "{launched:?}");
    let run = launched.json()["run"].as_str().expect("a run").to_owned();
    server.ended(&run, token);
    run
}

fn decision(server: &Server, token: &str) -> Value {
    let answer = server.get(DECISION, token);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn approve(server: &Server, token: &str, revision: &Value) -> Answer {
    server.post(
        "/api/v1/approvals",
        token,
        &[],
        &json!({ "patch": "good-motd", "customer": "acme", "revision": revision, "comment": "fine" }),
    )
}

fn metric(server: &Server, token: &str, line: &str) -> u64 {
    let text = server.get("/metrics", token).text;
    let found = text.lines().find_map(|one| one.strip_prefix(line)).unwrap_or_else(|| panic!("no {line}: {text}"));
    found.trim().parse().expect("a number")
}

#[test]
fn a_decision_is_polled_by_its_tag_and_waited_for() {
    let lab = lab(POLICY, "");
    let (engineer, approver) = (lab.token("engineer"), lab.token("approver"));
    let server = lab.serve(&[]);
    let first = server.get(DECISION, &engineer);
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("pending")), "{first:?}");
    assert!(first.headers.contains_key("retry-after") && tag(&first).starts_with('"'), "{first:?}");
    let before = metric(&server, &engineer, "patchlab_decision_answers_total{from=\"gate\"} ");
    for known in [tag(&first), format!("W/{}", tag(&first)), format!("\"other\", {}", tag(&first)), "*".to_owned()] {
        let again = conditional(&server, DECISION, &engineer, &known);
        assert_eq!((again.status, again.text.as_str(), tag(&again)), (304, "", tag(&first)), "{known}");
    }
    let again = conditional(&server, DECISION, &engineer, "\"other\"");
    assert_eq!((again.status, &again.text), (200, &first.text), "the same tag means the same bytes");
    assert_eq!(metric(&server, &engineer, "patchlab_decision_answers_total{from=\"gate\"} "), before, "nobody asked the gate again");
    assert!(metric(&server, &engineer, "patchlab_decision_answers_total{from=\"memory\"} ") >= 5);

    // Nothing happens: what is waited for comes to its end.
    let asked = Instant::now();
    let waited = conditional(&server, &format!("{DECISION}&wait=300ms"), &engineer, &tag(&first));
    assert!(waited.status == 304 && asked.elapsed() >= Duration::from_millis(300), "{waited:?}");
    // Something happens: whoever waits hears of it.
    std::thread::scope(|scope| {
        let waiting = [Some(tag(&first)), None].map(|known| {
            let (server, engineer) = (&server, &engineer);
            scope.spawn(move || {
                let mut answers: Vec<Answer> = Vec::new();
                let path = format!("{DECISION}&wait=60s");
                loop {
                    let known = answers.last().map(tag).or(known.clone());
                    let answer = match &known {
                        Some(known) => conditional(server, &path, engineer, known),
                        None => server.get(&path, engineer),
                    };
                    let passed = answer.json()["requirements"][0]["reason"] == "passed";
                    answers.push(answer);
                    if passed {
                        return answers;
                    }
                }
            })
        });
        let asked = Instant::now();
        run(&server, &engineer);
        for waiting in waiting {
            let answers = waiting.join().expect("answers");
            assert!(answers.windows(2).all(|pair| tag(&pair[0]) != tag(&pair[1])), "each was another");
        }
        assert!(asked.elapsed() < Duration::from_secs(50), "nobody waited to the end");
    });
    let tested = decision(&server, &engineer);
    assert_eq!((&tested["status"], &tested["requirements"][1]["reason"]), (&json!("pending"), &json!("missing")), "{tested}");
    assert_eq!(approve(&server, &approver, &tested["revision"]).status, 201);
    let approved = server.get(&format!("{DECISION}&wait=60s"), &engineer);
    assert_eq!(approved.json()["status"], "approved", "{approved:?}");
    assert!(!approved.headers.contains_key("retry-after"));

    // What the description says of it is so.
    let mut schema = server.get("/openapi.json", &engineer).json();
    schema["$ref"] = json!("#/components/schemas/DecisionReport");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for told in [&first.json(), &approved.json()] {
        let wrong: Vec<String> = validator.iter_errors(told).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    let moment = first.json()["as-of"].as_str().expect("a moment").replace('+', "%2B");
    let replayed = server.get(&format!("{DECISION}&as_of={moment}"), &engineer);
    assert_eq!((replayed.status, &replayed.json()["status"]), (200, &json!("pending")), "{replayed:?}");
    assert!(!replayed.headers.contains_key("etag"), "a past decision is nothing to poll");
    let early = server.get(&format!("{DECISION}&as_of=2000-01-01T00:00:00Z"), &engineer);
    assert_eq!((early.status, early.problem().as_str()), (404, "not-asked"));

    let by_digest = approved.json()["patch"]["sha256"].as_str().expect("a digest").to_owned();
    for name in [&by_digest, &by_digest[7..], &by_digest[7..20]] {
        let answer = server.get(&format!("/api/v1/decisions/{name}?customer=acme"), &engineer);
        assert_eq!(answer.text, approved.text, "{name}");
    }
    let rows = |query: &str| server.get(&format!("/api/v1/decisions?{query}"), &engineer).json()["decisions"].clone();
    for (query, expected) in [("", 1), ("customer=acme&status=approved&patch=good-motd", 1), ("status=pending", 0), ("customer=other", 0)] {
        assert_eq!(rows(query).as_array().map(Vec::len), Some(expected), "{query}: {}", rows(query));
    }
    assert_eq!(rows("")[0]["revision"], approved.json()["revision"]);

    let (lab, well, _) = server.end(Signal::SIGTERM);
    assert!(well);
    let server = lab.serve(&[]);
    let again = conditional(&server, DECISION, &engineer, &tag(&approved));
    assert_eq!(again.status, 304, "also after a restart: {again:?}");
    assert_eq!(server.get(DECISION, &engineer).text, approved.text);
}

#[test]
fn what_another_process_says_counts_at_once() {
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), "");
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let approved = server.get(&format!("{DECISION}&wait=60s"), &engineer);
    assert_eq!(approved.json()["status"], "approved", "{approved:?}");
    for _ in 0..3 {
        let rejected = server.lab().patchlab(&["reject", "good-motd", "--customer", "acme", "--reason", "no"], None);
        assert!(rejected.status.success(), "{rejected:?}");
        let answer = conditional(&server, DECISION, &engineer, &tag(&approved));
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("rejected")), "{answer:?}");
        let listed = server.get("/api/v1/rejections?customer=acme&limit=1", &engineer).json();
        let id = listed["rejections"][0]["id"].as_str().expect("an id").to_owned();
        assert!(server.lab().patchlab(&["revoke", &id, "--reason", "yes"], None).status.success());
        assert_eq!(decision(&server, &engineer)["status"], "approved");
    }
}

#[test]
fn people_are_who_their_tokens_say_and_agree_by_two() {
    let scenario =
        "[[step]]\non = { case = \"web-server/pages\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\noutput = \"broken\"\n";
    let lab = lab(POLICY, "").scenario(scenario);
    let [viewer, engineer, approver, administrator] = ["viewer", "engineer", "approver", "administrator"].map(|role| lab.token(role));
    let server = lab.serve(&[]);
    run(&server, &approver);
    let rejected = server.get(&format!("{DECISION}&wait=60s"), &engineer).json();
    assert_eq!(rejected["status"], "rejected", "{rejected}");
    let finding = &rejected["requirements"][0]["findings"][0];
    let expires = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(24 * 7)).expect("a moment").to_string();
    let waiver = json!({ "patch": "good-motd", "customer": "acme", "case": finding["case"], "fingerprint": finding["fingerprint"],
        "expires": expires, "reason": "known" });
    let propose = |token: &str, headers: &[(&str, &str)], body: &Value| server.post("/api/v1/waivers", token, headers, body);
    let code = |answer: &Answer| (answer.status, answer.problem());
    assert_eq!(code(&propose(&viewer, &[], &waiver)), (403, "not-allowed".to_owned()));
    for (field, value, status, problem) in [
        ("by", json!("somebody else"), 422, "not-what-is-asked-for"),
        ("expires", json!("2030-01-01T00:00:00"), 422, "not-what-is-asked-for"),
        ("expires", json!("2000-01-01T00:00:00Z"), 409, "refused"),
        ("expires", json!("2100-01-01T00:00:00Z"), 409, "refused"),
        ("case", json!("web-server/other"), 409, "refused"),
        ("fingerprint", json!(format!("sha256:{}", "0".repeat(64))), 409, "refused"),
        ("reason", json!(" "), 422, "not-what-is-asked-for"),
        ("reason", json!("\t\u{1f}\u{feff}\u{85}"), 422, "not-what-is-asked-for"),
        ("reason", json!("x".repeat(2001)), 422, "not-what-is-asked-for"),
        ("patch", json!("nosuch"), 404, "no-such-patch"),
        ("customer", json!("other"), 409, "no-policy"),
    ] {
        let mut wrong = waiver.clone();
        wrong[field] = value;
        assert_eq!(code(&propose(&engineer, &[], &wrong)), (status, problem.to_owned()), "{wrong}");
    }
    let proposed = propose(&approver, &[("idempotency-key", "w-1")], &waiver);
    assert_eq!((proposed.status, &proposed.json()["counts"]), (201, &json!(false)), "{proposed:?}");
    assert_eq!(propose(&approver, &[("idempotency-key", "w-1")], &waiver).text, proposed.text, "the same key proposes once");
    let mut other = waiver.clone();
    other["reason"] = json!("another");
    assert_eq!(code(&propose(&approver, &[("idempotency-key", "w-1")], &other)), (409, "key-used".to_owned()));
    let id = proposed.json()["id"].as_str().expect("an id").to_owned();
    let consent = |token: &str| server.post(&format!("/api/v1/waivers/{id}/consent"), token, &[], &json!({}));
    assert_eq!(code(&consent(&engineer)), (403, "not-allowed".to_owned()));
    assert_eq!(code(&consent(&approver)), (409, "own-waiver".to_owned()));
    let waived = consent(&administrator);
    assert_eq!((waived.status, &waived.json()["requirements"][0]["reason"]), (200, &json!("waived")), "{waived:?}");

    let tested = decision(&server, &engineer);
    let old = tested["revision"].as_u64().expect("a number") - 1;
    assert_eq!(code(&approve(&server, &engineer, &tested["revision"])), (403, "not-allowed".to_owned()));
    let stale = approve(&server, &administrator, &json!(old));
    assert_eq!(code(&stale), (409, "superseded-revision".to_owned()));
    let own = approve(&server, &approver, &tested["revision"]);
    assert!(code(&own) == (409, "own-run".to_owned()) && own.text.contains("launched"), "{own:?}");
    let forged = json!({ "patch": "good-motd", "customer": "acme", "revision": tested["revision"], "by": "somebody" });
    assert_eq!(server.post("/api/v1/approvals", &administrator, &[], &forged).status, 422);
    // To JSON `3.0` is the number 3.
    assert_eq!(code(&approve(&server, &administrator, &json!(old as f64 + 1.5))), (422, "not-what-is-asked-for".to_owned()));
    let approved = approve(&server, &administrator, &json!(old as f64 + 1.0));
    assert_eq!((approved.status, &approved.json()["decision"]["status"]), (201, &json!("approved-with-waivers")), "{approved:?}");
    assert_eq!(server.get("/api/v1/decisions?cursor=9007199254740991", &viewer).status, 200);
    assert_eq!(code(&server.get("/api/v1/decisions?cursor=9007199254740992", &viewer)), (400, "unreadable".to_owned()));
    let listed = server.get("/api/v1/approvals?patch=good-motd", &viewer).json();
    assert_eq!(
        (&listed["approvals"][0]["id"], &listed["approvals"][0]["by"], &listed["approvals"][0]["holds"]),
        (&approved.json()["id"], &json!("administrator"), &json!(true))
    );

    // An id is of its own kind alone, and each may be taken back once.
    let revoke = |kind: &str, id: &str| {
        server.post(&format!("/api/v1/{kind}/{id}/revoke"), &administrator, &[], &json!({ "reason": "second thoughts" }))
    };
    let approval = approved.json()["id"].as_str().expect("an id").to_owned();
    for (kind, id) in [("waivers", &approval), ("rejections", &approval), ("approvals", &id), ("approvals", &"x".to_owned())] {
        assert_eq!(code(&revoke(kind, id)), (404, "no-such-record".to_owned()), "{kind}");
    }
    assert_eq!(revoke("approvals", &approval).json()["status"], "pending");
    assert_eq!(code(&revoke("approvals", &approval)), (409, "refused".to_owned()));
    assert_eq!(revoke("waivers", &id).json()["status"], "rejected");
    assert_eq!(server.get("/api/v1/waivers", &viewer).json()["waivers"][0]["why-not"], "it is revoked");
    assert_eq!(decision(&server, &viewer)["status"], "rejected");
}

#[test]
fn what_can_not_be_decided_is_told_by_its_kind_and_the_catalog_is_followed() {
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), "");
    let engineer = lab.token("engineer");
    let policy = lab.folder.join("builds/acme/customer.toml");
    let server = lab.serve(&[]);
    for (path, status, problem) in [
        ("nosuch?customer=acme", 404, "no-such-patch"),
        ("..%2f..%2fetc?customer=acme", 404, "no-such-patch"),
        ("%ff?customer=acme", 400, "unreadable"),
        (&format!("sha256:{}?customer=acme", "0".repeat(64)), 404, "no-such-patch"),
        ("good-motd", 400, "unreadable"),
        ("good-motd?customer=nosuch", 404, "no-such-customer"),
        ("good-motd?customer=other", 409, "no-policy"),
        ("good-motd?customer=acme&wait=soon", 400, "unreadable"),
        ("good-motd?customer=acme&as_of=yesterday", 400, "unreadable"),
        ("good-motd?customer=acme&customer=other", 400, "unreadable"),
        ("good-motd?customer=acme&nosuch=1", 400, "unreadable"),
    ] {
        let answer = server.get(&format!("/api/v1/decisions/{path}"), &engineer);
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{path}");
    }
    run(&server, &engineer);
    let approved = server.get(&format!("{DECISION}&wait=60s"), &engineer);
    assert_eq!(approved.json()["status"], "approved", "{approved:?}");
    // A policy that asks for more closes the gate again, though nobody restarts the server.
    std::fs::write(&policy, POLICY).expect("written");
    let closed = conditional(&server, &format!("{DECISION}&wait=60s"), &engineer, &tag(&approved));
    assert_eq!((closed.status, &closed.json()["status"]), (200, &json!("pending")), "{closed:?}");
    std::fs::write(&policy, "[policy").expect("written");
    let broken = conditional(&server, &format!("{DECISION}&wait=60s"), &engineer, &tag(&closed));
    assert_eq!((broken.status, broken.problem().as_str()), (409, "no-sound-catalog"), "{broken:?}");
    assert_eq!(metric(&server, &engineer, "patchlab_catalog_unsound "), 1);
}

#[test]
fn who_acts_is_judged_by_the_policy_of_that_moment() {
    let scenario =
        "[[step]]\non = { case = \"web-server/pages\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\noutput = \"broken\"\n";
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), "").scenario(scenario);
    let [engineer, approver] = ["engineer", "approver"].map(|role| lab.token(role));
    let policy = lab.folder.join("builds/acme/customer.toml");
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let rejected = server.get(&format!("{DECISION}&wait=60s"), &engineer).json();
    let finding = &rejected["requirements"][0]["findings"][0];
    let expires = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(24 * 7)).expect("a moment").to_string();
    let waiver = json!({ "patch": "good-motd", "customer": "acme", "case": finding["case"], "fingerprint": finding["fingerprint"],
        "expires": expires, "reason": "known" });
    let proposed = server.post("/api/v1/waivers", &engineer, &[], &waiver);
    assert_eq!(proposed.status, 201, "{proposed:?}");
    let id = proposed.json()["id"].as_str().expect("an id").to_owned();
    // Nobody tells the server, and it looks every few seconds alone.
    let strict = POLICY.replace(NO_APPROVAL, "");
    std::fs::write(&policy, strict.split_once("[policy.waiver]").expect("a rule").0).expect("written");
    let consented = server.post(&format!("/api/v1/waivers/{id}/consent"), &approver, &[], &json!({}));
    assert_eq!((consented.status, consented.problem().as_str()), (409, "refused"), "{consented:?}");
    assert_eq!(decision(&server, &engineer)["status"], "rejected");

    // What closes the gate is put on record whatever the catalog is, and nothing is decided by what it was.
    let reject = || {
        let rejection = json!({ "patch": "good-motd", "customer": "acme", "reason": "no" });
        server.post("/api/v1/rejections", &approver, &[], &rejection)
    };
    std::fs::write(&policy, "[policy").expect("written");
    let first = reject();
    assert_eq!((first.status, &first.json()["decision"]["status"]), (201, &json!("rejected")), "{first:?}");
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let revoke = || server.post(&format!("/api/v1/rejections/{id}/revoke"), &approver, &[], &json!({ "reason": "over" }));
    let revoked = revoke();
    assert_eq!((revoked.status, revoked.problem().as_str()), (409, "no-sound-catalog"), "{revoked:?}");
    assert!(revoked.text.contains("it is taken back"), "{revoked:?}");
    assert_eq!(revoke().problem(), "refused");
}

fn forget_answers(lab: &Lab) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let path = format!("sqlite:{}", lab.state.path().join("server.sqlite").display());
        let pool = sqlx::SqlitePool::connect(&path).await.expect("the ledger");
        sqlx::raw_sql("delete from answers").execute(&pool).await.expect("forgotten");
        pool.close().await;
    });
}

#[test]
fn what_was_done_and_not_answered_is_not_done_again() {
    let scenario =
        "[[step]]\non = { case = \"web-server/pages\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\noutput = \"broken\"\n";
    let lab = lab(POLICY, "").scenario(scenario);
    let [engineer, approver, administrator] = ["engineer", "approver", "administrator"].map(|role| lab.token(role));
    let mut server = Some(lab.serve(&[]));
    let now = |server: &Option<Server>| decision(server.as_ref().expect("it serves"), &engineer);
    run(server.as_ref().expect("it serves"), &engineer);
    let rejected = now(&server);
    let finding = &rejected["requirements"][0]["findings"][0];
    let expires = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(24 * 7)).expect("a moment").to_string();
    let waiver = json!({ "patch": "good-motd", "customer": "acme", "case": finding["case"], "fingerprint": finding["fingerprint"],
        "expires": expires, "reason": "known" });
    // Each is asked for twice: the server ended between doing it and remembering the answer, so the client heard nothing.
    let twice = |server: &mut Option<Server>, path: &str, token: &str, body: &Value| {
        let ask = |server: &Server| server.post(path, token, &[("idempotency-key", path)], body);
        let before = server.take().expect("it serves");
        let first = ask(&before);
        let (lab, _, _) = before.end(Signal::SIGKILL);
        forget_answers(&lab);
        let after = lab.serve(&[]);
        let second = ask(&after);
        assert_eq!((second.status, &second.json()["id"]), (first.status, &first.json()["id"]), "{path}: {first:?} {second:?}");
        assert_eq!(ask(&after).text, second.text, "{path}: remembered now");
        *server = Some(after);
        first.json()
    };
    let id = |said: &Value| said["id"].as_str().expect("an id").to_owned();
    let listed = |server: &Option<Server>, kind: &str| {
        let listed = server.as_ref().expect("it serves").get(&format!("/api/v1/{kind}"), &engineer).json();
        listed[kind].as_array().map(Vec::len)
    };
    let proposed = twice(&mut server, "/api/v1/waivers", &engineer, &waiver);
    assert_eq!(listed(&server, "waivers"), Some(1));
    twice(&mut server, &format!("/api/v1/waivers/{}/consent", id(&proposed)), &approver, &json!({}));
    let waived = now(&server);
    let approval = json!({ "patch": "good-motd", "customer": "acme", "revision": waived["revision"] });
    twice(&mut server, "/api/v1/approvals", &approver, &approval);
    assert_eq!((listed(&server, "approvals"), &now(&server)["status"]), (Some(1), &json!("approved-with-waivers")));
    let rejection = json!({ "patch": "good-motd", "customer": "acme", "reason": "no" });
    let said = twice(&mut server, "/api/v1/rejections", &approver, &rejection);
    assert_eq!((listed(&server, "rejections"), &now(&server)["status"]), (Some(1), &json!("rejected")));
    twice(&mut server, &format!("/api/v1/rejections/{}/revoke", id(&said)), &administrator, &json!({ "reason": "over" }));
    assert_eq!(now(&server)["status"], "approved-with-waivers", "one rejection, taken back once");
    // A key whose request was refused stands for nothing.
    let server = server.expect("it serves");
    let refused = server.post(
        "/api/v1/rejections",
        &approver,
        &[("idempotency-key", "r")],
        &json!({ "patch": "good-motd", "customer": "other", "reason": "x" }),
    );
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!(server.post("/api/v1/rejections", &approver, &[("idempotency-key", "r")], &rejection).status, 201);
}

#[test]
fn an_attestation_names_the_policy_that_all_was_tried_for() {
    let lab = lab(POLICY, "");
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    let tried = run(&server, &engineer);
    let policy = decision(&server, &engineer)["digests"]["policy"].as_str().expect("a digest").to_owned();
    let over_http = server.get(&format!("/api/v1/runs/{tried}/attestation"), &engineer).text;
    let (lab, _, _) = server.end(Signal::SIGTERM);
    let said = |arguments: &[&str]| String::from_utf8(lab.patchlab(arguments, None).stdout).expect("UTF-8");
    assert!(said(&["attest", &tried]) == over_http, "by whichever way, the same bytes");
    let file = |name: &str, text: &str| {
        let path = lab.state.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let key = file("key.pem", &said(&["key", "show"]));
    let verify = |text: &str, policy: &str| {
        let given = ["verify", &file("run.intoto.jsonl", text), "--key", &key, "--simulated", "--policy", policy, "--format", "json"];
        let verified = lab.patchlab(&given, None);
        (verified.status.code(), serde_json::from_slice::<Value>(&verified.stdout).expect("JSON"))
    };
    let (code, told) = verify(&over_http, &policy);
    assert!(code == Some(0) && told["policy"]["uri"].as_str().is_some_and(|uri| uri.ends_with("#policy/acme")), "{told:#}");
    let plan = told["plan"].as_str().expect("a digest");
    let (code, told) = verify(&over_http, plan);
    assert_eq!((code, &told["reason"]), (Some(1), &json!("policy")), "{told:#}");
    // The policy changes: what was judged before was judged against the old one.
    std::fs::write(lab.folder.join("builds/acme/customer.toml"), POLICY.replace("14d", "13d")).expect("written");
    let decided: Value = serde_json::from_str(&said(&["gate", "good-motd", "--customer", "acme", "--format", "json"])).expect("JSON");
    let newer = decided["digests"]["policy"].as_str().expect("a digest");
    assert_ne!(newer, policy);
    assert!(said(&["attest", &tried]) == over_http, "what was named stays named");
    let (code, told) = verify(&over_http, newer);
    assert_eq!((code, &told["reason"]), (Some(1), &json!("policy")), "{told:#}");
    // A part of what the policy requires, and two customers at once: it is the plan that was passed.
    for selection in [["--customer", "acme", "--hardware", "virtio-uefi"], ["--hardware", "virtio-bios", "--suite", "web-server"]] {
        let told = said(&[&["run", "good-motd", "--build", "web", "--format", "json"], &selection[..]].concat());
        let report: Value = serde_json::from_str(&told).expect("JSON");
        let (code, told) = verify(&said(&["attest", "last"]), report["plan"]["digest"].as_str().expect("a digest"));
        assert!(code == Some(0) && told["policy"]["uri"].as_str().is_some_and(|uri| uri.ends_with("#plan")), "{told:#}");
    }
}
