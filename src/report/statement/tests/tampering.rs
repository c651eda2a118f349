//! Each way to be wrong with its own reason. Most are signed with the right key: who holds it may still not say just anything.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::envelope::{seal, write};
use super::super::{Attested, Expected, MAX_BYTES, Reason, Refusal, key_id, verify};
use super::{bundle, check, key, now, small, statements};
use crate::id::Digest;
use crate::report::fixture;

/// The statements signed, with the last one naming all before it.
fn sealed(mut statements: Vec<Value>) -> String {
    let mut summary = statements.pop().expect("a summary");
    let lines: Vec<String> = statements.into_iter().map(sign).collect();
    for (at, line) in lines.iter().enumerate() {
        if let Some(digest) = summary.pointer_mut(&format!("/predicate/inputAttestations/{at}/digest/sha256")) {
            *digest = Digest::of(line).hex().into();
        }
    }
    lines.into_iter().chain([sign(summary)]).map(|line| line + "\n").collect()
}

fn sign(statement: Value) -> String {
    seal(statement.to_string().as_bytes(), &key())
}

/// A good bundle whose statements were edited before they were signed.
fn edited(edit: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut statements = statements(&bundle(&small()));
    edit(&mut statements);
    sealed(statements)
}

/// The same for one field of the first test result.
fn first(pointer: &str, value: Value) -> String {
    edited(|statements| *statements[0].pointer_mut(pointer).expect("the field") = value)
}

/// The same for one field of the summary.
fn last(pointer: &str, value: Value) -> String {
    edited(|statements| *statements[3].pointer_mut(pointer).expect("the field") = value)
}

/// A good bundle whose lines were edited after they were signed.
fn lines(edit: impl FnOnce(&mut Vec<String>)) -> String {
    let mut lines: Vec<String> = bundle(&small()).lines().map(str::to_owned).collect();
    edit(&mut lines);
    lines.into_iter().map(|line| line + "\n").collect()
}

/// A good bundle whose first payload is these bytes.
fn payload(bytes: &[u8]) -> String {
    lines(|lines| lines[0] = seal(bytes, &key()))
}

fn replaced(from: &str, to: &str) -> String {
    let text = bundle(&small());
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

fn text_of(statement: usize) -> String {
    statements(&bundle(&small()))[statement].to_string()
}

fn table() -> Vec<(Reason, Vec<u8>)> {
    let other = SigningKey::from_bytes(&[7; 32]);
    let signature = |line: &str| line.split("\"sig\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a signature").to_owned();
    let sig = signature(bundle(&small()).lines().next().expect("a line"));
    let id = key_id(&key().verifying_key()).to_string();
    let first_twice = |text: String, key: &str, again: &str| text.replacen(&format!("\"{key}\":"), &format!("{again}\"{key}\":"), 1);
    let failing = bundle(&fixture::failing());
    let text: Vec<(Reason, String)> = vec![
        (Reason::Truncated, String::new()),
        (Reason::Truncated, bundle(&small()).trim_end().to_owned()),
        (Reason::Encoding, payload(b"{\"_type\":\"\xff\"}")),
        (Reason::Json, "\n".to_owned()),
        (Reason::Json, "{}x\n".to_owned()),
        (Reason::Json, "[".repeat(100_000) + "\n"),
        (Reason::Json, bundle(&small()) + "\n"),
        (Reason::Json, format!("\u{feff}{}", bundle(&small()))),
        (Reason::Json, payload(b"")),
        (Reason::Json, payload(b"{\"_type\":}")),
        (Reason::Json, payload("[".repeat(100_000).as_bytes())),
        (Reason::DuplicateKey, first_twice(bundle(&small()), "payloadType", "\"payloadType\":\"application/json\",")),
        (Reason::DuplicateKey, first_twice(bundle(&small()), "sig", "\"sig\":\"\",")),
        (Reason::DuplicateKey, first_twice(bundle(&small()), "sig", "\"\\u0073ig\":\"\",")),
        (Reason::DuplicateKey, payload(first_twice(text_of(0), "_type", "\"_type\":\"https://in-toto.io/Statement/v1\",").as_bytes())),
        (Reason::DuplicateKey, payload(first_twice(text_of(0), "result", "\"result\":\"FAILED\",").as_bytes())),
        (Reason::DuplicateKey, payload(first_twice(text_of(0), "sha256", "\"sha256\":\"00\",").as_bytes())),
        (Reason::Envelope, "[]\n".to_owned()),
        (Reason::Envelope, "{}\n".to_owned()),
        (Reason::Envelope, bundle(&small()).replace('\n', "\r\n")),
        (Reason::Envelope, replaced("\"payload\":\"", "\"payload\": \"")),
        (Reason::Envelope, replaced("application/vnd.in-toto+json", "application\\/vnd.in-toto+json")),
        (Reason::Envelope, replaced("\"signatures\":[", "\"comment\":\"\",\"signatures\":[")),
        (Reason::Envelope, lines(|lines| lines[0] = json!({ "payload": "", "payloadType": "", "signatures": [] }).to_string())),
        (Reason::Envelope, lines(|lines| lines[0] = json!({ "payload": 1, "payloadType": "", "signatures": [] }).to_string())),
        (Reason::Envelope, replaced("\"signatures\":[", &format!("\"signatures\":[{{\"keyid\":\"{id}\",\"sig\":\"{sig}\"}},"))),
        (Reason::Base64, replaced(&sig, sig.trim_end_matches('='))),
        (Reason::Base64, replaced(&sig, &format!(" {sig}"))),
        (Reason::Base64, replaced(&sig, &loose(&sig))),
        (Reason::Base64, replaced("\"payload\":\"", "\"payload\":\"-_")),
        (Reason::PayloadType, replaced("application/vnd.in-toto+json", "application/json")),
        (Reason::PayloadType, lines(|lines| lines[0] = write(text_of(0).as_bytes(), "application/json", &key()))),
        (Reason::UnknownKey, lines(|lines| lines[1] = seal(text_of(1).as_bytes(), &other))),
        (Reason::UnknownKey, replaced(&id, "")),
        (Reason::Signature, lines(|lines| lines[0] = lines[0].replace(&signature(&lines[0]), &signature(&lines[1])))),
        (Reason::Signature, lines(|lines| lines[0] = lines[0].replace(&signature(&lines[0]), &format!("{}==", "A".repeat(86))))),
        (Reason::Signature, replaced(&sig, "")),
        (
            Reason::Signature,
            lines(|lines| {
                let forged = seal(text_of(1).as_bytes(), &other);
                lines[1] = forged.replace(&key_id(&other.verifying_key()).to_string(), &id);
            }),
        ),
        (Reason::StatementType, first("/_type", json!("https://in-toto.io/Statement/v0.1"))),
        (Reason::StatementType, first("/_type", Value::Null)),
        (Reason::StatementType, payload(b"[]")),
        (Reason::StatementType, payload(b"7")),
        (Reason::PredicateType, first("/predicateType", json!("https://slsa.dev/provenance/v1"))),
        (Reason::PredicateType, last("/predicateType", json!("https://slsa.dev/verification_summary/v0.2"))),
        (Reason::Statement, first("/predicate", json!({ "result": "PASSED" }))),
        (Reason::Statement, first("/predicate/result", json!(1))),
        (Reason::Statement, first("/predicate/configuration", json!([]))),
        (Reason::Statement, last("/predicate/timeVerified", json!("yesterday"))),
        (Reason::Statement, last("/predicate/policy/digest", json!({ "sha1": "00" }))),
        (Reason::Statement, lines(|lines| lines[3] = sign(without_input_digests()))),
        (Reason::NoSummary, lines(|lines| drop(lines.pop()))),
        (Reason::SeveralSummaries, lines(|lines| lines.push(lines[3].clone()))),
        (Reason::MissingStatement, lines(|lines| drop(lines.remove(1)))),
        (Reason::MissingStatement, lines(|lines| drop(lines.drain(..3)))),
        (Reason::AdditionalStatement, lines(|lines| lines.insert(2, lines[1].clone()))),
        (Reason::AdditionalStatement, lines(|lines| lines.insert(0, failing.lines().next().expect("a line").to_owned()))),
        (Reason::Order, lines(|lines| lines.swap(0, 1))),
        (Reason::Order, lines(|lines| lines.rotate_right(1))),
        (Reason::Subject, first("/subject/0/digest/sha256", json!(Digest::of("other").hex()))),
        (Reason::Subject, first("/subject/0/name", json!("other"))),
        (Reason::Subject, last("/subject/0/digest/sha256", json!("00"))),
        (Reason::Subject, last("/subject", json!([]))),
        (
            Reason::Subject,
            edited(|statements| {
                let again = statements[3]["subject"][0].clone();
                statements[3]["subject"] = json!([again, again]);
            }),
        ),
        (Reason::UnknownResult, first("/predicate/result", json!("passed"))),
        (Reason::UnknownResult, first("/predicate/result", json!("OK"))),
        (Reason::UnknownResult, last("/predicate/verificationResult", json!("WARNED"))),
        (Reason::UnknownResult, last("/predicate/verificationResult", json!("PASSED "))),
        (Reason::UnknownResult, last("/predicate/verifiedLevels", json!(["SLSA_BUILD_LEVEL_3"]))),
        (Reason::UnknownResult, last("/predicate/verifiedLevels", json!(["SLSA_BUILD_LEVEL_UNEVALUATED", "FAILED"]))),
        (Reason::Contradiction, last("/predicate/verifiedLevels", json!([]))),
        (Reason::Contradiction, last("/predicate/verifiedLevels", json!(["FAILED"]))),
        (Reason::Contradiction, last("/predicate/verificationResult", json!("FAILED"))),
        (Reason::Contradiction, first("/predicate/failedTests", json!(["stage boot"]))),
        (Reason::Contradiction, first("/predicate/passedTests", json!([]))),
        (
            Reason::Contradiction,
            edited(|statements| {
                statements[0]["predicate"]["result"] = "FAILED".into();
                statements[0]["predicate"]["failedTests"] = json!(["stage boot"]);
            }),
        ),
        (
            Reason::Contradiction,
            edited(|statements| {
                drop(statements.drain(..3));
                statements[0]["predicate"]["inputAttestations"] = json!([]);
            }),
        ),
        (Reason::Contradiction, first("/predicate/configuration/0/uri", json!("urn:uuid:other"))),
        (Reason::Contradiction, first("/predicate/configuration/1/digest/sha256", json!(Digest::of("other").hex()))),
        (Reason::Contradiction, named_twice()),
        (Reason::Simulated, last("/predicate/verifiedLevels", json!(["PATCHLAB_SIMULATED"]))),
        (Reason::Future, last("/predicate/timeVerified", json!("2036-03-04T09:30:00Z"))),
    ];
    let mut table: Vec<(Reason, Vec<u8>)> = text.into_iter().map(|(reason, text)| (reason, text.into_bytes())).collect();
    let mut no_utf8 = bundle(&small()).into_bytes();
    no_utf8[20] = 0xff;
    table.push((Reason::Encoding, no_utf8));
    table.push((Reason::TooLarge, vec![b'\n'; usize::try_from(MAX_BYTES).expect("a size") + 1]));
    table
}

/// The same 64 bytes in base64 whose last digit has bits that mean nothing.
fn loose(sig: &str) -> String {
    let (kept, last) = sig.trim_end_matches('=').split_at(85);
    let next = last.bytes().next().map(|c| char::from(c + 1)).expect("a digit");
    format!("{kept}{next}==")
}

fn without_input_digests() -> Value {
    let mut summary = statements(&bundle(&small())).pop().expect("a summary");
    summary["predicate"]["inputAttestations"] = json!([{ "name": "x" }]);
    summary
}

/// A summary that names its first statement twice.
fn named_twice() -> String {
    lines(|lines| {
        let mut summary = statements(&bundle(&small())).pop().expect("a summary");
        let inputs = summary["predicate"]["inputAttestations"].as_array_mut().expect("inputs");
        inputs.insert(0, inputs[0].clone());
        lines[3] = sign(summary);
    })
}

#[test]
fn each_way_to_be_wrong_has_its_reason() {
    let story = small();
    let mut seen = BTreeSet::new();
    for (row, (reason, bytes)) in table().into_iter().enumerate() {
        let refused = check(&story, &bytes).expect_err("refused");
        assert_eq!(refused.reason, reason, "row {row}: {refused}");
        seen.insert(reason);
    }
    for (reason, expected) in expectations() {
        let refused = with(&expected).expect_err("refused");
        assert_eq!(refused.reason, reason, "{expected:?}: {refused}");
        seen.insert(reason);
    }
    let untried: Vec<_> = Reason::ALL.iter().filter(|reason| !seen.contains(reason)).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

#[test]
fn codes_are_distinct() {
    let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
}

fn with(expected: &Expected) -> Result<Attested, Refusal> {
    let story = small();
    verify(bundle(&story).as_bytes(), &key().verifying_key(), expected, now(&story))
}

fn expectations() -> Vec<(Reason, Expected)> {
    let none = Expected::default();
    let other = Some(Digest::of("other"));
    vec![
        (Reason::Subject, Expected { patch: other, ..none }),
        (Reason::Policy, Expected { policy: other, ..none }),
        (Reason::Plan, Expected { plan: other, ..none }),
        (Reason::Expired, Expected { max_age: Some(SignedDuration::from_secs(3599)), ..none }),
    ]
}

#[test]
fn what_is_expected_and_found_is_verified() {
    let story = small();
    let plan = Some(story.run.plan_digest);
    let expected = Expected {
        patch: Some(story.run.plan.patch.sha256),
        policy: plan,
        plan,
        max_age: Some(SignedDuration::from_secs(3600)),
        simulated: false,
    };
    with(&expected).expect("verified");
    // Edited and signed anew it would be as good: the table's edits are what is refused, not the tools that make them.
    check(&story, edited(|_| {})).expect("verified");
    check(&story, lines(|_| {})).expect("verified");
    // What other versions may add is signed, and skipped.
    check(&story, edited(|statements| statements[0]["predicate"]["https://example.com/new"] = json!(1))).expect("verified");
}

#[test]
fn nobody_elses_key_verifies() {
    let story = small();
    let other = SigningKey::from_bytes(&[7; 32]).verifying_key();
    let refused = verify(bundle(&story).as_bytes(), &other, &Expected::default(), now(&story)).expect_err("refused");
    assert_eq!(refused.reason, Reason::UnknownKey);
}

/// Where something is in a JSON value: each place once.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(values) => values.iter().enumerate().for_each(|(n, value)| pointers(value, &format!("{at}/{n}"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Even the holder of the key gets no yes for a patch that failed by changing one field, unless he says that it passed everywhere.
    #[test]
    fn one_field_of_a_failed_run_makes_no_pass(which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), what in 0..9_usize) {
        let story = fixture::failing();
        let mut all = statements(&bundle(&story));
        let which = which.index(all.len());
        let mut found = Vec::new();
        pointers(&all[which], "", &mut found);
        let value = [
            json!(null), json!(true), json!(0), json!("PASSED"), json!([]), json!({}), json!(["SLSA_BUILD_LEVEL_UNEVALUATED"]),
            json!("\u{1b}[31m"), json!("2026-03-04T09:30:00Z"),
        ][what].clone();
        *all[which].pointer_mut(&found[place.index(found.len())]).expect("the place") = value;
        let verdict = check(&story, sealed(all)).map(|attested| attested.verdict);
        prop_assert_ne!(verdict.ok(), Some(crate::verdict::Verdict::Pass));
    }
}
