//! `patchlab verify`: works with the file and the public key alone; no lab, no state folder.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::{Format, Verify};
use super::error::{Exit, Failure};
use super::print;
use crate::catalog::text::Span;
use crate::lab::keys;
use crate::report::printable;
use crate::report::statement::{self, Attested, AttestedTest, Expected, MAX_BYTES, Outcome, Refusal, key_id};

/// The answer's form for programs, and its version.
const SCHEMA: &str = "patchlab.verification/v1";

/// Failed tests of a statement that are named to people.
const NAMED: usize = 8;

pub fn verify(verb: &Verify) -> Result<Exit, Failure> {
    let key = keys::public(&verb.key)?;
    let bytes = read(&verb.file).map_err(|error| Failure::usage(format!("could not read {}: {error}", verb.file.display())))?;
    let max_age = verb.max_age.map(|Span(span)| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX));
    let expected = Expected { patch: verb.patch, policy: verb.policy, plan: verb.plan, max_age, simulated: verb.simulated };
    let verified = statement::verify(&bytes, &key, &expected, Timestamp::now());
    match verb.answer.format {
        Format::Human => print(&match &verified {
            Ok(attested) => human(attested),
            Err(Refusal { reason, message }) => format!("NOT VERIFIED  {}\n  {message}\n", reason.code()),
        })?,
        Format::Json => {
            let told = match &verified {
                Ok(attested) => told(attested),
                Err(Refusal { reason, message }) => json!({ "verified": false, "reason": reason.code(), "message": message }),
            };
            let mut answer = json!({ "schema": SCHEMA, "key": key_id(&key) });
            if let (Value::Object(answer), Value::Object(told)) = (&mut answer, told) {
                answer.extend(told);
            }
            print(&format!("{answer:#}\n"))?;
        }
    }
    Ok(verified.map_or(Exit::Fail, |attested| attested.verdict.into()))
}

/// The file, or a little more than is allowed of it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe without a writer would be waited for without an end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn human(attested: &Attested) -> String {
    let mut text = format!(
        "VERIFIED  {}  {}\n  patch      {}\n  ended      {}\n",
        attested.verdict.as_str().to_uppercase(),
        printable(&attested.patch_id),
        attested.patch,
        attested.ended
    );
    if let Some((run, plan)) = &attested.run {
        text += &format!("  run        {}\n  plan       {plan}\n", printable(run));
    }
    let (policy, digest) = &attested.policy;
    text += &format!("  against    {digest}  {}\n  lab        {}\n", printable(policy), printable(&attested.verifier));
    if attested.simulated {
        text += "  SIMULATED  no real machine was tried\n";
    }
    let count = |outcome: Outcome| attested.tests.iter().filter(|test| test.outcome == outcome).count();
    let [passed, warned, failed] = [Outcome::Passed, Outcome::Warned, Outcome::Failed].map(count);
    text += &format!("  results    {passed} passed, {warned} with warnings, {failed} failed\n");
    for AttestedTest { name, failed, .. } in attested.tests.iter().filter(|test| test.outcome == Outcome::Failed) {
        let more = if failed.len() > NAMED { ", ..." } else { "" };
        let named: Vec<_> = failed.iter().take(NAMED).map(|test| printable(test)).collect();
        text += &format!("  FAILED     {}: {}{more}\n", printable(name), named.join(", "));
    }
    text
}

fn told(attested: &Attested) -> Value {
    let results = attested.tests.iter().map(
        |test| json!({ "name": test.name, "result": test.outcome, "passed": test.passed, "warned": test.warned, "failed": test.failed }),
    );
    json!({
        "verified": true,
        "verdict": attested.verdict,
        "patch": { "id": attested.patch_id, "sha256": attested.patch },
        "ended": attested.ended,
        "run": attested.run.as_ref().map(|(run, _)| run),
        "plan": attested.run.as_ref().map(|(_, plan)| plan),
        "policy": { "uri": attested.policy.0, "sha256": attested.policy.1 },
        "verifier": attested.verifier,
        "simulated": attested.simulated,
        "results": results.collect::<Vec<_>>(),
    })
}
