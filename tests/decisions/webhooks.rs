//! Those who are told of final decisions.

use super::*;

fn signed(delivery: &receiver::Delivery) {
    let timestamp = &delivery.headers["webhook-timestamp"];
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().expect("seconds");
    assert!((0..60).contains(&age), "{delivery:?}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).expect("a key");
    mac.update(format!("{}.{timestamp}.{}", delivery.id(), delivery.text).as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(delivery.headers["webhook-signature"], expected);
    assert_eq!((delivery.path.as_str(), delivery.headers["content-type"].as_str()), ("/hook", "application/json"));
}

#[test]
fn final_decisions_are_told_until_somebody_has_heard() {
    let bad = [Manner::Answer(500), Manner::Hang, Manner::Twice(503, 200), Manner::Twice(202, 500)];
    let (rude, deaf, other) = (Receiver::new(&bad), Receiver::new(&[Manner::Redirect; 100]), Receiver::new(&[]));
    let settings = hook("rude", &rude, "timeout = \"500ms\"")
        + &hook("deaf", &deaf, "give-up-after = \"1s\"")
        + &hook("other", &other, "customers = [\"other\"]");
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), &settings);
    let (engineer, approver) = (lab.token("engineer"), lab.token("approver"));
    let server = lab.serve(&[]);
    // Nobody asks for the decision: that there is a run is enough.
    run(&server, &engineer);
    let first = rude.next();
    signed(&first);
    assert_eq!((&first.json()["type"], &first.json()["data"]["status"]), (&json!("decision.final"), &json!("approved")), "{first:?}");
    for _ in 1..bad.len() {
        let again = rude.next();
        signed(&again);
        assert_eq!((again.id(), &again.text), (first.id(), &first.text), "the same message");
    }
    let rejection = json!({ "patch": "good-motd", "customer": "acme", "reason": "no" });
    let rejected = server.post("/api/v1/rejections", &approver, &[], &rejection);
    assert_eq!(rejected.status, 201, "{rejected:?}");
    let second = rude.next();
    assert_eq!(second.json()["data"]["status"], "rejected");
    assert_ne!(second.id(), first.id());
    assert_eq!(second.json()["data"], rejected.json()["decision"]);
    // A second rejection makes another revision, and no other outcome.
    assert_eq!(server.post("/api/v1/rejections", &approver, &[], &rejection).status, 201);
    rude.nothing_for(Duration::from_secs(3));
    other.nothing_for(Duration::ZERO);

    // Who never answers well is given up, and the operator sees it.
    let end = Instant::now() + Duration::from_secs(60);
    while metric(&server, &engineer, "patchlab_webhook_messages{webhook=\"deaf\",state=\"dead\"} ") < 2 {
        assert!(Instant::now() < end, "it is never given up");
    }
    assert_eq!(metric(&server, &engineer, "patchlab_webhook_messages{webhook=\"rude\",state=\"waiting\"} "), 0);
    assert_eq!(metric(&server, &engineer, "patchlab_webhook_deliveries_total{webhook=\"rude\",outcome=\"delivered\"} "), 2);
    assert_eq!(metric(&server, &engineer, "patchlab_webhook_deliveries_total{webhook=\"rude\",outcome=\"failed\"} "), 3);
}

#[test]
fn a_yes_that_is_taken_back_is_told() {
    let receiver = Receiver::new(&[]);
    let lab = lab(POLICY, &hook("pipeline", &receiver, ""));
    let (engineer, approver) = (lab.token("engineer"), lab.token("approver"));
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let pending = server.get(&format!("{DECISION}&wait=60s"), &engineer).json();
    // As long as an approval is outstanding nothing is final.
    receiver.nothing_for(Duration::ZERO);
    let approved = approve(&server, &approver, &pending["revision"]);
    assert_eq!(approved.status, 201, "{approved:?}");
    let told = receiver.next().json();
    assert_eq!((&told["type"], &told["data"]["status"]), (&json!("decision.final"), &json!("approved")), "{told}");
    let revoke = format!("/api/v1/approvals/{}/revoke", approved.json()["id"].as_str().expect("an id"));
    assert_eq!(server.post(&revoke, &approver, &[], &json!({ "reason": "second thoughts" })).json()["status"], "pending");
    let told = receiver.next();
    signed(&told);
    assert_eq!((&told.json()["type"], &told.json()["data"]["status"]), (&json!("decision.reopened"), &json!("pending")), "{told:?}");
}

#[test]
fn over_tls_only_who_is_certified_is_told() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let good = Receiver::secure(&own, "127.0.0.1");
    let (stranger, misnamed) = (Receiver::secure(&foreign, "127.0.0.1"), Receiver::secure(&own, "pipeline.example"));
    let trust = "certificate-file = \"ca.pem\"";
    let settings = hook("good", &good, trust) + &hook("stranger", &stranger, trust) + &hook("misnamed", &misnamed, trust);
    // The public authorities know nothing of this one.
    let settings = settings + &hook("public", &good, "");
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), &settings);
    std::fs::write(lab.state.path().join("ca.pem"), &own.pem).expect("written");
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let told = good.next();
    signed(&told);
    assert_eq!(told.json()["data"]["status"], "approved");
    let end = Instant::now() + Duration::from_secs(60);
    for name in ["stranger", "misnamed", "public"] {
        let failed = format!("patchlab_webhook_deliveries_total{{webhook=\"{name}\",outcome=\"failed\"}} ");
        while !server.get("/metrics", &engineer).text.contains(&failed) {
            assert!(Instant::now() < end, "{name} is never tried");
        }
        assert_eq!(metric(&server, &engineer, &format!("patchlab_webhook_messages{{webhook=\"{name}\",state=\"waiting\"}} ")), 1);
    }
    for receiver in [&good, &stranger, &misnamed] {
        receiver.nothing_for(Duration::ZERO);
    }
}

#[test]
fn what_was_decided_is_told_though_the_server_was_killed() {
    let receiver = Receiver::new(&[Manner::Close, Manner::Hang]);
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), &hook("pipeline", &receiver, "timeout = \"60s\""));
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let first = receiver.next();
    let hanging = receiver.next();
    assert_eq!(hanging.id(), first.id());
    let (lab, _, _) = server.end(Signal::SIGKILL);
    receiver.behave(&[]);
    let server = lab.serve(&[]);
    let last = receiver.next();
    signed(&last);
    assert_eq!((last.id(), &last.text), (first.id(), &first.text));
    let (lab, well, _) = server.end(Signal::SIGTERM);
    assert!(well);
    // It was heard: nobody is told again. What a command decides while no server runs is told at the next start.
    let rejected = lab.patchlab(&["reject", "good-motd", "--customer", "acme", "--reason", "no"], None);
    assert!(rejected.status.success(), "{rejected:?}");
    let _server = lab.serve(&[]);
    let told = receiver.next();
    assert_eq!(told.json()["data"]["status"], "rejected");
    assert_ne!(told.id(), first.id());
    receiver.nothing_for(Duration::from_secs(2));
}

#[test]
fn a_server_with_a_webhook_that_can_not_sign_does_not_start() {
    let receiver = Receiver::new(&[]);
    let lab = lab(POLICY, &hook("pipeline", &receiver, "").replace("hook.secret", "none.secret"));
    let refused = lab.patchlab(&["serve", "--listen", "127.0.0.1:0"], None);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("none.secret"), "{said}");
    let (lab, path) = (lab.scenario(IN_REAL_TIME), "patchlab.toml");
    std::fs::write(lab.folder.join(path), "[[webhook]]\nname = \"a\"\nurl = \"ftp://x\"\nsecret-file = \"s\"\n").expect("written");
    let checked = lab.patchlab(&["check"], None);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.code() == Some(2) && said.contains("webhook[0].url"), "{said}");
}
