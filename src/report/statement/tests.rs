//! What an attestation says of each kind of run, and that nothing but it is believed.

mod tampering;

use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use super::envelope::open;
use super::{Attested, Expected, Outcome, PAYLOAD_TYPE, Reason, Refusal, Signer, attest, pae, strict, verify};
use crate::id::Digest;
use crate::report::fixture::{self, Story, name};
use crate::verdict::Verdict;
use crate::verdict::gate::AppliedPolicy;

const LAB: &str = "018f2b4e-7c1a-7d3e-9a60-5d1f3b7a9c11";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn bundle(story: &Story) -> String {
    attest(&story.run, &story.judgement, &Signer { lab: LAB, key: &key(), policy: None }).expect("the run has ended")
}

fn now(story: &Story) -> Timestamp {
    story.run.ended.expect("the run has ended").0 + SignedDuration::from_hours(1)
}

fn check(story: &Story, bytes: impl AsRef<[u8]>) -> Result<Attested, Refusal> {
    verify(bytes.as_ref(), &key().verifying_key(), &Expected::default(), now(story))
}

/// The statements of a bundle.
fn statements(bundle: &str) -> Vec<Value> {
    let payload = |line: &str| open(line, &key().verifying_key()).expect("signed");
    bundle.lines().map(|line| strict::parse(&payload(line)).expect("JSON")).collect()
}

/// The first cell alone: three test results and the summary.
fn small() -> Story {
    let mut story = fixture::passing();
    story.run.plan.cells.truncate(1);
    story.judgement.cells.truncate(1);
    story
}

#[test]
fn the_pre_authentication_encoding_is_that_of_the_specification() {
    // The test vector of DSSE's protocol.md.
    let encoded = pae("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    assert_eq!(pae("é", b"\xff\n"), b"DSSEv1 2 \xc3\xa9 2 \xff\n", "bytes are counted, not characters");
    assert_eq!(pae(PAYLOAD_TYPE, b"{}"), b"DSSEv1 28 application/vnd.in-toto+json 2 {}");
}

#[test]
fn statements_are_what_they_were() {
    let mut story = fixture::passing();
    story.run.plan.cells.drain(..3);
    story.judgement.cells.drain(..3);
    let mut text = String::new();
    for statement in statements(&bundle(&story)) {
        text += &serde_json::to_string_pretty(&statement).expect("JSON");
        text.push('\n');
    }
    let mut redacted = String::new();
    for line in text.lines() {
        let digest = line.rfind(|c: char| !c.is_ascii_hexdigit() && c != '"').and_then(|at| line.get(at + 2..at + 66));
        let line = match digest.filter(|hex| hex.len() == 64 && line.contains("\"sha256\": ")) {
            Some(hex) => line.replace(hex, "[digest]"),
            None => line.replace(env!("CARGO_PKG_VERSION"), "[version]"),
        };
        redacted += &(line + "\n");
    }
    insta::assert_snapshot!("statements.json", redacted);
}

#[test]
fn what_is_attested_is_the_verdict() {
    for (story, verdict) in [
        (fixture::passing(), Verdict::Pass),
        (fixture::failing(), Verdict::Fail),
        (fixture::inconclusive(), Verdict::Inconclusive),
        (fixture::environment(), Verdict::Fail),
        (fixture::hostile(), Verdict::Fail),
    ] {
        let attested = check(&story, bundle(&story)).expect("verified");
        assert_eq!((attested.verdict, attested.patch), (verdict, story.run.plan.patch.sha256));
        assert_eq!(attested.patch_id, story.run.plan.patch.manifest.id.as_str());
        assert_eq!(attested.policy.1, story.run.plan_digest, "without a policy it is the plan that counts");
        assert_eq!(attested.run, Some((format!("urn:uuid:{}", story.run.run), story.run.plan_digest)));
        assert_eq!(attested.verifier, format!("urn:uuid:{LAB}"));
        assert_eq!(bundle(&story), bundle(&story), "the same run, the same bytes");
    }
}

#[test]
fn every_planned_case_is_in_the_statement_of_its_cell_and_suite() {
    let story = fixture::failing();
    let attested = check(&story, bundle(&story)).expect("verified");
    for cell in &story.run.plan.cells {
        for suite in cell.suites.iter().map(|suite| suite.name.as_str()).chain(["health", "stages"]) {
            let name = format!("{}/{suite}", cell.id);
            let found = attested.tests.iter().find(|test| test.name == name).unwrap_or_else(|| panic!("no statement {name}"));
            let planned = cell.cases().filter(|(of, _)| of.name.as_str() == suite).count();
            assert!(found.passed + found.warned.len() + found.failed.len() >= planned.max(1), "{name}: {found:?}");
        }
    }
    let failed: Vec<_> = attested.tests.iter().flat_map(|test| test.failed.iter().map(String::as_str)).collect();
    for expected in ["health/listening", "nginx/tls", "stage cold-boot", "disk/survives-reboot"] {
        assert!(failed.contains(&expected), "{expected}: {failed:?}");
    }
}

#[test]
fn an_unfinished_run_has_no_attestation() {
    let mut story = fixture::passing();
    let signer_key = key();
    let signer = Signer { lab: LAB, key: &signer_key, policy: None };
    story.run.ended = None;
    assert!(attest(&story.run, &story.judgement, &signer).is_err(), "whatever the judgement says");
    let unfinished = fixture::unfinished();
    assert!(attest(&unfinished.run, &unfinished.judgement, &signer).is_err());
    let mut story = fixture::passing();
    story.judgement.finished = false;
    assert!(attest(&story.run, &story.judgement, &signer).is_err(), "whatever the journal says");
}

#[test]
fn of_an_inconclusive_run_nothing_passes() {
    let passed_before = |story: &mut Story, with: fn(&mut Story)| {
        with(story);
        let attested = check(story, bundle(story)).expect("verified");
        assert_eq!(attested.verdict, Verdict::Inconclusive);
        assert!(attested.tests.iter().all(|test| test.outcome == Outcome::Failed), "{:?}", attested.tests);
        for statement in statements(&bundle(story)) {
            let result = statement["predicate"]["result"].as_str().or(statement["predicate"]["verificationResult"].as_str());
            assert_eq!(result, Some("FAILED"));
        }
    };
    passed_before(&mut fixture::inconclusive(), |_| {});
    // The judge and the journal do not agree.
    passed_before(&mut fixture::passing(), |story| story.judgement.verdict = Verdict::Inconclusive);
    passed_before(&mut fixture::passing(), |story| story.run.ended = story.run.ended.map(|(at, _)| (at, Verdict::Fail)));
    // The judge says pass, and not all that was planned was seen to pass.
    passed_before(&mut fixture::passing(), |story| story.judgement.cells[0].cases.truncate(3));
    passed_before(&mut fixture::passing(), |story| story.judgement.cells[2].cases[0].patched = None);
    passed_before(&mut fixture::passing(), |story| story.judgement.cells.clear());
    passed_before(&mut fixture::passing(), |story| story.run.cells.clear());
    // Nothing was planned.
    passed_before(&mut fixture::passing(), |story| story.run.plan.cells.clear());
}

#[test]
fn a_fail_that_nothing_explains_is_told_in_every_statement() {
    let mut story = fixture::passing();
    story.run.ended = story.run.ended.map(|(at, _)| (at, Verdict::Fail));
    story.judgement.verdict = Verdict::Fail;
    let attested = check(&story, bundle(&story)).expect("verified");
    assert_eq!(attested.verdict, Verdict::Fail);
    assert!(attested.tests.iter().all(|test| test.failed == ["run verdict"]));
}

#[test]
fn a_policy_takes_the_place_of_the_plan() {
    let story = small();
    let (signer_key, sha256) = (key(), Digest::of("policy"));
    let policy = AppliedPolicy { customer: name("acme"), sha256 };
    let text = attest(&story.run, &story.judgement, &Signer { lab: LAB, key: &signer_key, policy: Some(&policy) }).expect("ended");
    let expect = |policy, plan| Expected { policy: Some(policy), plan: Some(plan), ..Expected::default() };
    let plan = story.run.plan_digest;
    let attested = verify(text.as_bytes(), &key().verifying_key(), &expect(sha256, plan), now(&story)).expect("verified");
    assert_eq!(attested.policy, (format!("urn:uuid:{LAB}#policy/acme"), sha256));
    let refused = verify(text.as_bytes(), &key().verifying_key(), &expect(plan, plan), now(&story)).expect_err("refused");
    assert_eq!(refused.reason, Reason::Policy);
}

#[test]
fn simulated_machines_are_no_evidence_unless_asked_for() {
    for (mut story, verdict) in [(small(), Verdict::Pass), (fixture::failing(), Verdict::Fail)] {
        for hypervisor in ["sim", "sim:demo.toml"] {
            story.run.controllers[0].hypervisor = hypervisor.to_owned();
            let text = bundle(&story);
            assert_eq!(check(&story, &text).expect_err("refused").reason, Reason::Simulated);
            let any = Expected { simulated: true, ..Expected::default() };
            let attested = verify(text.as_bytes(), &key().verifying_key(), &any, now(&story)).expect("verified");
            assert!(attested.simulated && attested.verdict == verdict);
            let summary = statements(&text).pop().expect("a summary");
            let levels = summary["predicate"]["verifiedLevels"].as_array().expect("levels");
            assert!(levels.iter().all(|level| level != "SLSA_BUILD_LEVEL_UNEVALUATED"), "{levels:?}");
        }
    }
}

/// Whoever changes any byte of a bundle is found out.
#[test]
fn no_byte_can_be_another() {
    let story = small();
    let text = bundle(&story);
    check(&story, &text).expect("verified as it is");
    let mut bytes = text.into_bytes();
    for (at, flip) in (0..bytes.len()).zip([0x01, 0x20, 0x80, 0x04].into_iter().cycle()) {
        bytes[at] ^= flip;
        assert!(check(&story, &bytes).is_err(), "byte {at} ^ {flip:#x}");
        bytes[at] ^= flip;
    }
}

#[test]
fn no_beginning_of_a_bundle_is_one() {
    let story = small();
    let text = bundle(&story);
    for end in 0..text.len() {
        let refused = check(&story, &text[..end]).expect_err("refused").reason;
        let expected = if end > 0 && text.as_bytes()[end - 1] == b'\n' { Reason::NoSummary } else { Reason::Truncated };
        assert_eq!(refused, expected, "{end} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_bundle_is_found_out(
        at in any::<prop::sample::Index>(), length in 0..80_usize, other in any::<prop::sample::Index>(), copied in 0..80_usize,
        written in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let story = small();
        let text = bundle(&story).into_bytes();
        let at = at.index(text.len());
        let other = other.index(text.len());
        let copy = &text[other..(other + copied).min(text.len())];
        let after = &text[(at + length).min(text.len())..];
        for middle in [copy, &written] {
            let edited = [&text[..at], middle, after].concat();
            prop_assert_eq!(check(&story, &edited).is_ok(), edited == text);
        }
    }

    #[test]
    fn whatever_a_file_holds_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600), text in any::<String>()) {
        let story = small();
        let line = text.clone() + "\n";
        // Signed, it is read as a statement.
        prop_assert!(check(&story, super::envelope::seal(&bytes, &key()) + "\n").is_err());
        prop_assert!(check(&story, super::envelope::seal(text.as_bytes(), &key()) + "\n").is_err());
        for refused in [check(&story, &bytes), check(&story, line)] {
            let message = refused.expect_err("refused").message;
            prop_assert!(!message.chars().any(char::is_control), "{message:?}");
        }
    }
}

#[test]
fn a_statement_is_as_old_as_the_oldest_baseline_that_it_rests_on() {
    let story = fixture::passing();
    let judged = |story: &Story, hours: i64| {
        let expected = Expected { max_age: Some(SignedDuration::from_hours(hours)), ..Expected::default() };
        verify(bundle(story).as_bytes(), &key().verifying_key(), &expected, now(story)).map(|_| ()).map_err(|refusal| refusal.reason)
    };
    assert_eq!(judged(&story, 24), Err(Reason::Expired), "the baseline is of the day before");
    assert_eq!(judged(&story, 26), Ok(()));
    let mut own = fixture::passing();
    own.judgement.cells.iter_mut().flat_map(|cell| &mut cell.cases).for_each(|case| case.baseline_from = None);
    assert_eq!(judged(&own, 24), Ok(()));
}
