//! The gate from the outside, on the simulator: a lab with policies of its own, the command line, and people who try to get a yes.

#[path = "gate/bundle.rs"]
mod bundle;
#[path = "gate/clocks.rs"]
mod clocks;
#[path = "common/command.rs"]
mod command;
#[path = "gate/lab.rs"]
mod lab;

use std::fs;

use jiff::Timestamp;
use lab::{APPROVED, Lab, PATCH, PLAIN, RED, acme, reason};
use patchlab::id::{Digest, Name};
use patchlab::journal::{Event, Record};
use patchlab::lab::gate::{GateError, Question};
use patchlab::verdict::gate::{Status, Unfit, Waiver};
use serde_json::Value;

#[test]
fn from_the_first_question_to_yes_and_every_step_can_be_replayed() {
    let lab = Lab::new(&format!("{PLAIN}{APPROVED}"));
    let (code, asked) = lab.gate();
    assert_eq!((code, reason(&asked), asked.revision), (4, "missing", 1));
    assert_eq!(lab.run("", &[]), 0);
    let (code, passed) = lab.gate();
    assert_eq!((code, reason(&passed), passed.revision), (4, "passed", 2));
    assert_eq!(lab.gate().1.revision, 2, "asking again changes nothing");
    // Who launched the run can't approve it, nor can anybody what is not the newest.
    assert_eq!(lab.code(&["approve", "good-motd", "--customer", "acme"]), 2);
    assert!(matches!(lab.approve(&asked, "bob"), Err(GateError::Moved { asked: 1, current: 2 })));
    assert_eq!(lab.approve(&passed, "bob").expect("approved").status, Status::Approved);
    assert!(matches!(lab.approve(&lab.gate().1, "bob"), Err(GateError::Unfit(Unfit::Approved { .. }))), "once is enough");
    let (code, approved) = lab.gate();
    assert_eq!((code, approved.status, approved.revision), (0, Status::Approved, 3));
    // Every decision says again what it said, at its moment.
    let all = lab.decisions(approved.patch.sha256);
    assert_eq!(all.iter().map(|one| one.revision).collect::<Vec<_>>(), [1, 2, 3]);
    for decided in &all {
        let as_of = decided.as_of.to_string();
        let (_, again) = lab.gate_for("good-motd", &["--as-of", &as_of]);
        assert_eq!(again, *decided);
    }
    assert_eq!(lab.code(&["gate", "good-motd", "--customer", "acme", "--as-of", "2001-01-01T00:00:00Z"]), 2, "nobody had asked then");
    assert_eq!(lab.decisions(approved.patch.sha256).len(), 3, "looking back writes nothing");
    let refused = lab.people(async |_, journal| journal.records_of_kind("refused").await.expect("records").len());
    assert_eq!(refused, 3, "refusals are on record");
    assert_eq!(lab.code(&["audit", "verify"]), 0);
}

#[test]
fn trying_again_until_it_is_green_does_not_help_and_a_waiver_by_two_does() {
    let lab = Lab::new(PLAIN);
    assert_eq!(lab.run(RED, &[]), 1);
    let (code, red) = lab.gate();
    assert_eq!((code, reason(&red)), (1, "failed"));
    assert_eq!(lab.run("", &[]), 0);
    assert_eq!(lab.run("", &[]), 0);
    let (code, flaky) = lab.gate();
    assert_eq!((code, reason(&flaky)), (1, "flaky"));
    let text = String::from_utf8(lab.patchlab(&["gate", PATCH, "--customer", "acme"]).stdout).expect("UTF-8");
    // The commands are said as they are typed.
    let mut commands: Vec<_> = text
        .replace("\\\n", " ")
        .lines()
        .filter_map(|line| line.split_once("waive it: patchlab "))
        .map(|(_, words)| words.to_owned())
        .collect();
    commands.dedup();
    assert!(!commands.is_empty(), "{text}");
    for command in &commands {
        let words: Vec<_> = command.split_whitespace().collect();
        let output = lab.patchlab(&words);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let proposed: Value = serde_json::from_slice(&lab.patchlab(&["waivers", "--format", "json"]).stdout).expect("JSON");
    let ids: Vec<_> =
        proposed.as_array().expect("a list").iter().map(|one| one["waiver"]["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(lab.gate().0, 1, "proposed is not consented");
    assert_eq!(lab.code(&["waive", "--consent", &ids[0]]), 2, "the proposer is no second person");
    assert_eq!(lab.gate().0, 1);
    for id in &ids {
        let id = id.parse().expect("an id");
        lab.people(async |gate, _| gate.consent(id, "bob", Timestamp::now()).await).expect("consented");
    }
    let (code, waived) = lab.gate();
    assert_eq!((code, waived.status, reason(&waived)), (0, Status::ApprovedWithWaivers, "waived"));
    assert_eq!(lab.code(&["revoke", &ids[0], "--reason", "seen in production"]), 0);
    assert_eq!(lab.gate().0, 1, "revoked is revoked");
    assert_eq!(lab.code(&["revoke", &ids[0], "--reason", "again"]), 2);
    // A clock that was put back brings nothing back.
    let long_ago = "2020-01-01T00:00:00Z".parse().expect("a moment");
    let back = lab.people(async |gate, _| gate.settle(waived.patch.sha256, &acme(), long_ago).await).expect("a decision");
    assert_eq!(back.status, Status::Rejected);
}

#[test]
fn a_waiver_that_the_policy_does_not_allow_is_refused_where_it_is_proposed() {
    let lab = Lab::new(PLAIN);
    lab.run(RED, &[]);
    let finding = lab.gate().1.requirements[0].findings[0].clone();
    let (case, fingerprint) = (finding.subject().to_owned(), finding.fingerprint.to_string());
    let other = Digest::of("x").to_string();
    let waive = |case: &str, fingerprint: &str, expires: &str, reason: &str| {
        lab.code(&[
            "waive",
            "good-motd",
            "--customer",
            "acme",
            "--case",
            case,
            "--fingerprint",
            fingerprint,
            "--expires",
            expires,
            "--reason",
            reason,
        ])
    };
    assert_eq!(waive(&case, &fingerprint, "31d", "why"), 2, "too long");
    assert_eq!(waive(&case, &fingerprint, "2020-01-01T00:00:00Z", "why"), 2, "over already");
    assert_eq!(waive(&case, &other, "7d", "why"), 2, "no such finding");
    assert_eq!(waive("ssh/login", &fingerprint, "7d", "why"), 2, "not to be waived");
    assert_eq!(waive("storage/*", &fingerprint, "7d", "why"), 2, "a pattern is no case");
    assert_eq!(waive(&case, &fingerprint, "7d", " "), 2, "no reason");
    assert_eq!(waive(&case, &fingerprint, "soon", "why"), 2, "no moment");
    assert_eq!(waive(&case, &fingerprint[7..19], "7d", "why"), 0);
    assert_eq!(lab.code(&["waive", "--consent", "01890000-0000-7000-8000-000000000000"]), 2);
}

#[test]
fn a_new_failure_undoes_an_approval() {
    let lab = Lab::new(&format!("{PLAIN}{APPROVED}"));
    lab.run("", &[]);
    let (_, passed) = lab.gate();
    assert_eq!(lab.run(RED, &[]), 1);
    // Between the look and the word the run came in.
    assert!(matches!(lab.approve(&passed, "bob"), Err(GateError::Moved { .. })));
    let (_, now) = lab.gate();
    assert!(matches!(lab.approve(&now, "bob"), Err(GateError::Unfit(Unfit::Open { .. }))), "what failed can't be approved");
    assert_eq!(lab.gate().0, 1);
    let lab = Lab::new(&format!("{PLAIN}{APPROVED}"));
    lab.run("", &[]);
    lab.approve(&lab.gate().1, "bob").expect("approved");
    assert_eq!(lab.gate().0, 0);
    lab.run(RED, &[]);
    assert_eq!(lab.gate().0, 1);
}

#[test]
fn other_bytes_and_other_terms_start_anew() {
    let lab = Lab::new(&format!("{PLAIN}{APPROVED}"));
    lab.run("", &[]);
    let old = lab.approve(&lab.gate().1, "bob").expect("approved");
    // Other terms: the approval was given for others.
    lab.policy(&format!("{}{APPROVED}", PLAIN.replace("14d", "15d")));
    let (code, decision) = lab.gate();
    assert_eq!((code, decision.requirements[1].reason.as_str()), (4, "superseded"));
    lab.policy(&format!("{PLAIN}{APPROVED}"));
    assert_eq!(lab.gate().0, 0, "the terms that it was given for");
    // The same id with other bytes.
    let folder = lab.path("motd");
    fs::create_dir(&folder).expect("a folder");
    for file in fs::read_dir(PATCH).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), folder.join(file.file_name())).expect("copied");
    }
    fs::write(folder.join("motd"), "Patched and more\n").expect("written");
    let (code, new) = lab.gate_for(folder.to_str().expect("UTF-8"), &[]);
    assert_eq!((code, new.revision, reason(&new)), (4, 1, "missing"));
    assert_ne!(new.patch.sha256, old.patch.sha256);
    let (code, superseded) = lab.gate_for(&old.patch.sha256.to_string(), &[]);
    assert_eq!((code, superseded.status), (1, Status::Superseded));
    assert_eq!(lab.code(&["approve", &old.patch.sha256.to_string(), "--customer", "acme"]), 2);
    // Whoever brings the first one in again means it.
    assert_eq!(lab.code(&["patch", "add", PATCH]), 0);
    assert_eq!(lab.gate().0, 0);
}

#[test]
fn less_than_is_required_is_not_enough() {
    let lab = Lab::new(PLAIN);
    assert_eq!(lab.run("", &["--suite", "ssh"]), 0);
    let (code, decision) = lab.gate();
    assert_eq!((code, reason(&decision)), (4, "missing"));
    // What failed there is remembered.
    let red = "[[step]]\non = { case = 'ssh/*' }\nwhen = { side = 'after' }\nends = { exit = 1 }";
    assert_eq!(lab.run(red, &["--suite", "ssh"]), 1);
    assert_eq!(lab.run("", &[]), 0);
    let (code, decision) = lab.gate();
    assert_eq!((code, reason(&decision)), (1, "flaky"));
}

#[test]
fn no_policy_and_no_such_customer_are_mistakes_and_no_decision() {
    let lab = Lab::new("");
    lab.run("", &[]);
    for customer in ["acme", "umbrella"] {
        let output = lab.patchlab(&["gate", PATCH, "--customer", customer]);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{customer}");
    }
    for verb in [["approve", "good-motd", "--customer", "acme"].as_slice(), &["reject", "good-motd", "--customer", "acme", "--reason", "x"]]
    {
        assert_eq!(lab.code(verb), 2, "nobody has asked the gate");
    }
}

#[test]
fn a_rejection_stands_until_it_is_taken_back() {
    let lab = Lab::new(PLAIN);
    lab.run("", &[]);
    assert_eq!(lab.gate().0, 0);
    assert_eq!(lab.code(&["reject", "good-motd", "--customer", "acme", "--reason", "freeze"]), 0);
    let (code, rejected) = lab.gate();
    assert_eq!((code, rejected.status), (1, Status::Rejected));
    let message = &rejected.requirements.last().expect("the rejection").message;
    let id = message.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(id, _)| id).expect("its id");
    assert_eq!(lab.code(&["revoke", id, "--reason", "over"]), 0);
    assert_eq!(lab.gate().0, 0);
}

#[test]
fn nobody_acts_by_a_policy_of_the_past() {
    let no_waivers = PLAIN.split_once("[policy.waiver]").expect("a rule").0;
    let opened = |lab: &Lab, patch: Digest| lab.decisions(patch).iter().filter(|one| one.status.is_open()).count();

    // A consent.
    let lab = Lab::new(PLAIN);
    lab.run(RED, &[]);
    let red = lab.gate().1;
    let finding = &red.requirements[0].findings[0];
    let waiver = Waiver {
        patch: red.patch.sha256,
        customer: acme(),
        case: finding.subject().to_owned(),
        hardware: None,
        fingerprint: finding.fingerprint,
        expires: Timestamp::now().checked_add(jiff::SignedDuration::from_hours(24)).expect("a moment"),
        reason: "known".to_owned(),
    };
    let proposed = lab.people(async |gate, _| gate.propose(uuid::Uuid::now_v7(), waiver, "bob", Timestamp::now()).await).expect("proposed");
    lab.policy(no_waivers);
    assert_eq!(lab.code(&["waive", "--consent", &proposed.id.to_string()]), 2, "no waiver is allowed any more");
    assert_eq!((opened(&lab, red.patch.sha256), lab.gate().0), (0, 1));

    // A rejection that is taken back, and one whose patch passed unseen before.
    let lab = Lab::new(PLAIN);
    let patch = lab.gate().1.patch.sha256;
    lab.run("", &[]);
    lab.policy(&format!("{PLAIN}{APPROVED}"));
    assert_eq!(lab.code(&["reject", "good-motd", "--customer", "acme", "--reason", "freeze"]), 0);
    assert_eq!(opened(&lab, patch), 0, "between the last question and the rejection nothing was approved");
    let rejections = lab.people(async |gate, _| gate.rejections(None, None).await).expect("rejections");
    let id = rejections[0].id.to_string();
    lab.policy("[policy");
    assert_eq!(lab.code(&["revoke", &id, "--reason", "over"]), 2, "nobody knows what is asked for");
    lab.policy(&format!("{PLAIN}{APPROVED}"));
    assert_eq!(lab.code(&["revoke", &id, "--reason", "over"]), 2, "it is taken back already");
    assert_eq!((opened(&lab, patch), lab.gate().0), (0, 4));
    let again = lab.patchlab(&["reject", "good-motd", "--customer", "acme", "--reason", "freeze"]);
    assert!(again.status.success(), "{again:?}");
    lab.policy(&format!("{}{APPROVED}", PLAIN.replace("14d", "15d")));
    let rejections = lab.people(async |gate, _| gate.rejections(None, None).await).expect("rejections");
    assert_eq!(lab.code(&["revoke", &rejections[1].id.to_string(), "--reason", "over"]), 0);
    assert_eq!((opened(&lab, patch), lab.gate().0), (0, 4));
}

#[test]
fn who_waits_is_told_by_what_is_asked_for_by_then() {
    let lab = Lab::new(PLAIN);
    assert_eq!(lab.code(&["patch", "add", PATCH]), 0);
    let mut waiting = lab.start(&["gate", PATCH, "--customer", "acme", "--wait", "300s"]);
    let decisions = || {
        let entries = lab.people(async |_, journal| journal.records_of_kind("decided").await.expect("records"));
        let decided = entries.into_iter().filter_map(|entry| match entry.event {
            Event::Recorded { record } => match *record {
                Record::Decided { decision } => Some(*decision),
                _ => None,
            },
            _ => None,
        });
        decided.collect::<Vec<_>>()
    };
    let until = |wanted: &str| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let last = decisions().pop();
            if let Some(last) = last.filter(|last| reason(last) == wanted) {
                return last;
            }
            assert!(std::time::Instant::now() < end, "it is never {wanted}");
        }
    };
    until("missing");
    lab.policy(&format!("{PLAIN}{APPROVED}"));
    assert_eq!(lab.run("", &[]), 0);
    let passed = until("passed");
    assert_eq!(passed.status, Status::Pending, "an approval is asked for by now");
    lab.approve(&passed, "bob").expect("approved");
    assert_eq!(waiting.wait().expect("it ends").code(), Some(0));
}

#[test]
fn another_departments_verdict_is_taken_where_the_policy_says_so() {
    let lab = Lab::new(PLAIN);
    fs::create_dir(lab.path("builds/umbrella")).expect("a folder");
    fs::write(lab.path("builds/umbrella/customer.toml"), "title = \"Umbrella\"\n").expect("written");
    fs::copy(lab.path("builds/acme/web.toml"), lab.path("builds/umbrella/portal.toml")).expect("copied");
    assert_eq!(lab.code(&["run", PATCH, "--customer", "umbrella"]), 0);
    assert_eq!(lab.gate().0, 4);
    lab.policy(&PLAIN.replace("valid-for", "accept-from = [\"umbrella\"]\nvalid-for"));
    let (code, decision) = lab.gate();
    assert_eq!((code, decision.requirements[0].from.as_ref().map(Name::as_str)), (0, Some("umbrella")));
}

#[test]
fn the_gate_waits_for_a_run_and_does_not_ask_for_its_lock() {
    let lab = Lab::new(PLAIN);
    assert_eq!(lab.code(&["gate", PATCH, "--customer", "acme", "--wait", "1s"]), 4, "nobody came");
    let state = patchlab::lab::state::State::open(&lab.path("state")).expect("a state");
    let lock = state.lock().expect("the lock");
    assert_eq!(lab.code(&["gate", PATCH, "--customer", "acme"]), 4);
    drop(lock);
    let mut waiting = lab.start(&["gate", PATCH, "--customer", "acme", "--wait", "300s"]);
    assert_eq!(lab.run("", &[]), 0);
    assert_eq!(waiting.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_this_patchlab_cannot_read_opens_nothing() {
    let unknown = "insert into entries select max(seq) + 1, 1, '2030-01-01T00:00:00Z', '',
        '{\"event\":\"recorded\",\"record\":{\"record\":\"blessed\"}}', max(hash), max(hash) from entries";
    let forged =
        "drop trigger entries_stay; update entries set event = replace(event, '\"status\":\"pending\"', '\"status\":\"approved\"')";
    let odd = "drop trigger entries_stay; update entries set event = replace(event, '\"status\":\"pending\"', '\"status\":\"fine\"')";
    for sql in [unknown, forged, odd] {
        let lab = Lab::new(PLAIN);
        assert_eq!(lab.gate().0, 4);
        lab.alter(sql);
        let output = lab.patchlab(&["gate", PATCH, "--customer", "acme"]);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(3), true), "{sql}");
    }
}

#[test]
fn the_first_question_starts_the_clock_and_no_other_policy_starts_it_again() {
    let lane = |valid: &str| format!("{}[[policy.lane]]\nname = \"fast\"\ndeadline = \"1h\"\n", PLAIN.replace("14d", valid));
    let lab = Lab::new(&lane("14d"));
    let (code, first) = lab.gate();
    let due = first.deadline.expect("a deadline");
    assert_eq!((code, first.lane.as_ref().map(Name::as_str), first.until), (4, Some("fast"), Some(due)));
    lab.policy(&lane("15d"));
    let (_, second) = lab.gate();
    assert_eq!((second.revision, second.digests.policy == first.digests.policy), (2, false));
    let again = second.deadline.expect("a deadline").duration_since(due);
    assert!(again.abs() < jiff::SignedDuration::from_millis(1), "{again}");
    let late = lab.people(async |gate, _| gate.settle(first.patch.sha256, &acme(), due + jiff::SignedDuration::from_secs(1)).await);
    assert_eq!(late.expect("a decision").status, Status::Inconclusive);
    assert_eq!(lab.gate().0, 3, "and it stays late when the clock is put back");
}

#[test]
fn the_simulator_does_not_take_the_place_of_real_machines() {
    let lab = Lab::new(PLAIN);
    lab.run("", &[]);
    let (code, simulated) = lab.gate();
    assert_eq!((code, simulated.simulated), (0, true));
    let catalog = patchlab::catalog::Catalog::load(lab.folder.path()).expect("a catalog");
    let patch =
        patchlab::lab::patches::PatchStore::open(&lab.path("state")).expect("a store").get("good-motd").expect("the patch").planned();
    let sealed =
        |name: &Name| patchlab::plan::SealedImage { sha256: Digest::of(name.as_str()), packages: None, prepared: Default::default() };
    let images = catalog.images.keys().map(|name| (name.clone(), sealed(name))).collect();
    let customer = acme();
    let question = Question { patch: &patch, customer: &customer, catalog: &catalog, images: &images, simulated: false, by: "bob" };
    let real = lab.people(async |gate, _| {
        gate.require(&question, Timestamp::now()).await.expect("required");
        gate.settle(patch.sha256, &acme(), Timestamp::now()).await.expect("a decision")
    });
    assert_eq!((real.status, reason(&real), real.simulated), (Status::Pending, "missing", false), "to the byte the same, and not real");
    assert_eq!(lab.code(&["gate", PATCH, "--customer", "acme"]), 2);
    assert_eq!(lab.code(&["approve", "good-motd", "--customer", "acme"]), 2);
}

#[test]
fn many_who_ask_at_once_make_one_history() {
    let lab = Lab::new(PLAIN);
    lab.run("", &[]);
    let waiting: Vec<_> = (0..4).map(|_| lab.start(&["gate", PATCH, "--customer", "acme"])).collect();
    for mut one in waiting {
        assert_eq!(one.wait().expect("it ends").code(), Some(0));
    }
    let patch = lab.gate().1.patch.sha256;
    assert_eq!(lab.decisions(patch).iter().map(|one| one.revision).collect::<Vec<_>>(), [1]);
    assert_eq!(lab.code(&["audit", "verify"]), 0);
}

#[test]
fn an_audit_finds_what_was_altered_and_says_what_was_last() {
    let lab = Lab::new(PLAIN);
    assert_eq!(lab.gate().0, 4);
    let audit = || {
        let output = lab.patchlab(&["audit", "verify", "--format", "json"]);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).expect("JSON"))
    };
    let (code, sound) = audit();
    assert!(code == Some(0) && sound["verified"] == true && sound["entries"].as_u64() >= Some(3), "{sound}");
    assert!(sound["last"].as_str().is_some_and(|last| last.starts_with("sha256:")), "{sound}");
    lab.alter("drop trigger entries_stay; update entries set event = replace(event, 'virtio-bios', 'virtio-uefi') where seq = 2");
    let (code, altered) = audit();
    assert_eq!((code, &altered["verified"], &altered["entry"]), (Some(1), &false.into(), &2.into()), "{altered}");
    let told = lab.patchlab(&["audit", "verify"]);
    assert!(told.status.code() == Some(1) && told.stdout.starts_with(b"NOT VERIFIED  "), "{told:?}");
}
