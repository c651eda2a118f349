//! From a file of unknown origin to what it proves.

use std::collections::BTreeSet;

use ed25519_dalek::VerifyingKey;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::envelope::open;
use super::form::{
    Descriptor, FAILED, INCONCLUSIVE, Outcome, SIMULATED, STATEMENT, SUMMARY, Statement, Summary, TEST_RESULT, TestResult, UNEVALUATED,
};
use super::{Reason, Refusal, strict};
use crate::id::Digest;
use crate::verdict::Verdict;

/// More is not read.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How far the clocks of signer and verifier may be apart.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What the evidence has to be about. What is `None` may be anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    pub patch: Option<Digest>,
    pub policy: Option<Digest>,
    pub plan: Option<Digest>,
    pub max_age: Option<SignedDuration>,
    /// Whether simulated machines will do.
    pub simulated: bool,
}

/// What a file proves to one who trusts the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// Names the patch to people; it is known by its digest.
    pub patch_id: String,
    pub patch: Digest,
    pub verdict: Verdict,
    /// When the run ended.
    pub ended: Timestamp,
    /// Whose key it should be: the lab, as a URI.
    pub verifier: String,
    /// What the run was judged against, as a URI, and its digest.
    pub policy: (String, Digest),
    /// The run as a URI, and the digest of its plan; `None` where nothing was planned.
    pub run: Option<(String, Digest)>,
    pub simulated: bool,
    pub tests: Vec<AttestedTest>,
}

/// One suite on one cell, or a cell's stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedTest {
    pub name: String,
    pub outcome: Outcome,
    pub passed: usize,
    pub warned: Vec<String>,
    pub failed: Vec<String>,
}

/// A test-result statement and the digest of its line.
struct Line {
    number: usize,
    sha256: Digest,
    subject: Subject,
    result: TestResult,
}

#[derive(PartialEq, Eq)]
struct Subject {
    name: String,
    sha256: Digest,
}

/// Checks an attestation.
///
/// # Errors
/// For anything but a file as [`attest`](super::attest) wrote it for what is expected.
pub fn verify(bytes: &[u8], key: &VerifyingKey, expected: &Expected, now: Timestamp) -> Result<Attested, Refusal> {
    let (lines, subject, summary) = read(bytes, key)?;
    complete(&lines, &summary)?;
    let differs = |line: &&Line| line.subject != subject;
    if let Some(line) = lines.iter().find(differs) {
        return Err(Refusal::new(Reason::Subject, "it is about another patch than the summary").in_line(line.number));
    }
    if let Some(patch) = expected.patch.filter(|patch| *patch != subject.sha256) {
        let found = format!("expected the patch {patch}, found {:?}, {}", subject.name, subject.sha256);
        return Err(Refusal::new(Reason::Subject, found));
    }
    let run = run(&lines)?;
    let tests = lines.iter().zip(&summary.input_attestations).map(|(line, input)| test(line, input)).collect::<Result<Vec<_>, _>>()?;
    let (verdict, simulated) = outcome(&summary, &tests)?;
    let policy = summary.policy.sha256().ok_or_else(|| malformed("the summary's policy has no sha256"))?;
    if let Some(wanted) = expected.policy.filter(|wanted| *wanted != policy) {
        let found = format!("expected the policy {wanted}, found {:?}, {policy}", summary.policy.uri);
        return Err(Refusal::new(Reason::Policy, found));
    }
    if let Some(wanted) = expected.plan.filter(|wanted| run.as_ref().is_none_or(|(_, plan)| plan != wanted)) {
        let found = run.map_or_else(|| "none".to_owned(), |(run, plan)| format!("{plan} of {run:?}"));
        return Err(Refusal::new(Reason::Plan, format!("expected the plan {wanted}, found {found}")));
    }
    if simulated && !expected.simulated {
        return Err(Refusal::new(Reason::Simulated, "the run's machines were simulated; no patch was tried on any real one"));
    }
    let ended = age(&summary, &lines, expected, simulated, now)?;
    Ok(Attested {
        patch_id: subject.name,
        patch: subject.sha256,
        verdict,
        ended,
        verifier: summary.verifier.id,
        policy: (summary.policy.uri, policy),
        run,
        simulated,
        tests,
    })
}

/// Every line, signed and of its type: the test results, and the one summary.
fn read(bytes: &[u8], key: &VerifyingKey) -> Result<(Vec<Line>, Subject, Summary), Refusal> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Refusal::new(Reason::TooLarge, format!("{} bytes; more than {MAX_BYTES} are not read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|bad| Refusal::new(Reason::Encoding, format!("the file is not UTF-8: {bad}")))?;
    let text = text.strip_suffix('\n').ok_or_else(|| {
        let found = if text.is_empty() { "the file is empty" } else { "the last line has no end" };
        Refusal::new(Reason::Truncated, found)
    })?;
    let mut lines = Vec::new();
    let mut summaries = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        match read_line(line, number, key).map_err(|refusal| refusal.in_line(number))? {
            Read::Test(line) => lines.push(line),
            Read::Summary(subject, summary) => summaries.push((number, subject, summary)),
        }
    }
    let last = lines.last().map_or(0, |line| line.number);
    match summaries.pop() {
        None => Err(Refusal::new(Reason::NoSummary, "the file has no verification summary: its end is missing")),
        Some((number, ..)) if !summaries.is_empty() => {
            Err(Refusal::new(Reason::SeveralSummaries, "expected one verification summary, found another").in_line(number))
        }
        Some((number, ..)) if number < last => {
            Err(Refusal::new(Reason::Order, "expected the verification summary as the last line").in_line(number))
        }
        Some((_, subject, summary)) => Ok((lines, subject, *summary)),
    }
}

enum Read {
    Test(Line),
    Summary(Subject, Box<Summary>),
}

fn read_line(line: &str, number: usize, key: &VerifyingKey) -> Result<Read, Refusal> {
    let statement = strict::parse(&open(line, key)?)?;
    let form = statement.get("_type").and_then(Value::as_str).unwrap_or_default();
    if form != STATEMENT {
        return Err(Refusal::new(Reason::StatementType, format!("expected the _type {STATEMENT:?}, found {form:?}")));
    }
    let kind = statement.get("predicateType").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        TEST_RESULT => {
            let statement: Statement<TestResult> = typed(statement)?;
            let subject = subject(&statement.subject)?;
            Ok(Read::Test(Line { number, sha256: Digest::of(line), subject, result: statement.predicate }))
        }
        SUMMARY => {
            let statement: Statement<Summary> = typed(statement)?;
            Ok(Read::Summary(subject(&statement.subject)?, Box::new(statement.predicate)))
        }
        _ => Err(Refusal::new(Reason::PredicateType, format!("expected {TEST_RESULT:?} or {SUMMARY:?}, found {kind:?}"))),
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|bad| malformed(&bad.to_string()))
}

fn malformed(found: &str) -> Refusal {
    Refusal::new(Reason::Statement, found)
}

fn subject(subjects: &[Descriptor]) -> Result<Subject, Refusal> {
    let [one] = subjects else {
        return Err(Refusal::new(Reason::Subject, format!("expected one subject, found {}", subjects.len())));
    };
    let sha256 = one.sha256().ok_or_else(|| Refusal::new(Reason::Subject, "the subject has no sha256"))?;
    Ok(Subject { name: one.name.clone(), sha256 })
}

/// The file has what the summary names, no more, in its order.
fn complete(lines: &[Line], summary: &Summary) -> Result<(), Refusal> {
    let no_digest = || malformed("an input of the summary has no sha256");
    let named = summary.input_attestations.iter().map(|input| input.sha256().ok_or_else(no_digest)).collect::<Result<Vec<_>, _>>()?;
    let there: BTreeSet<Digest> = lines.iter().map(|line| line.sha256).collect();
    let wanted: BTreeSet<Digest> = named.iter().copied().collect();
    if let Some((input, _)) = summary.input_attestations.iter().zip(&named).find(|(_, digest)| !there.contains(digest)) {
        let found = format!("the summary names {:?}, which is not in the file", input.name);
        return Err(Refusal::new(Reason::MissingStatement, found));
    }
    let mut seen = BTreeSet::new();
    if let Some(line) = lines.iter().find(|line| !wanted.contains(&line.sha256) || !seen.insert(line.sha256)) {
        return Err(Refusal::new(Reason::AdditionalStatement, "the summary does not name it, or it is there twice").in_line(line.number));
    }
    if lines.len() != named.len() {
        return Err(Refusal::new(Reason::Contradiction, "the summary names a statement twice"));
    }
    match lines.iter().zip(&named).find(|(line, digest)| line.sha256 != **digest) {
        Some((line, _)) => Err(Refusal::new(Reason::Order, "the summary names another statement at this place").in_line(line.number)),
        None => Ok(()),
    }
}

/// The one run, and the one plan, that all test results are of.
fn run(lines: &[Line]) -> Result<Option<(String, Digest)>, Refusal> {
    let mut one: Option<(String, Digest)> = None;
    for line in lines {
        let of = |name: &str| line.result.configuration.iter().find(|descriptor| descriptor.name == name);
        let run = of("run").map(|run| run.uri.clone()).filter(|uri| !uri.is_empty());
        let found = run.zip(of("plan").and_then(Descriptor::sha256));
        let found = found.ok_or_else(|| malformed("its configuration names no run or no plan").in_line(line.number))?;
        if one.get_or_insert_with(|| found.clone()) != &found {
            return Err(Refusal::new(Reason::Contradiction, "it is of another run or plan than the line before").in_line(line.number));
        }
    }
    Ok(one)
}

fn test(line: &Line, input: &Descriptor) -> Result<AttestedTest, Refusal> {
    let stated = result(&line.result.result).map_err(|refusal| refusal.in_line(line.number))?;
    let tests = &line.result.tests;
    if stated != tests.outcome() {
        let found = format!("it says {}, and its tests say {}", stated.as_str(), tests.outcome().as_str());
        return Err(Refusal::new(Reason::Contradiction, found).in_line(line.number));
    }
    Ok(AttestedTest {
        name: input.name.clone(),
        outcome: stated,
        passed: tests.passed_tests.len(),
        warned: tests.warned_tests.clone(),
        failed: tests.failed_tests.clone(),
    })
}

fn result(text: &str) -> Result<Outcome, Refusal> {
    let unknown = || Refusal::new(Reason::UnknownResult, format!("expected PASSED, WARNED or FAILED, found {text:?}"));
    Outcome::parse(text).ok_or_else(unknown)
}

/// The verdict, and whether it is about simulated machines. A pass needs every statement to agree.
fn outcome(summary: &Summary, tests: &[AttestedTest]) -> Result<(Verdict, bool), Refusal> {
    let levels: Vec<&str> = summary.verified_levels.iter().map(String::as_str).collect();
    let contradiction = |found: &str| Err(Refusal::new(Reason::Contradiction, found));
    let passed = match result(&summary.verification_result)? {
        Outcome::Passed => true,
        Outcome::Failed => false,
        Outcome::Warned => return Err(Refusal::new(Reason::UnknownResult, "expected PASSED or FAILED of a summary, found \"WARNED\"")),
    };
    let (levels, simulated) = match levels.split_last() {
        Some((&SIMULATED, rest)) => (rest, true),
        _ => (levels.as_slice(), false),
    };
    match (passed, levels, simulated) {
        (true, [UNEVALUATED], false) | (true, [], true) => {
            if tests.iter().any(|test| test.outcome == Outcome::Failed) {
                return contradiction("the summary says PASSED, and a test result FAILED");
            }
            if !tests.iter().any(|test| test.passed > 0) {
                return contradiction("the summary says PASSED, and not one test did");
            }
            Ok((Verdict::Pass, simulated))
        }
        (false, [FAILED], _) => Ok((Verdict::Fail, simulated)),
        (false, [FAILED, INCONCLUSIVE], _) => Ok((Verdict::Inconclusive, simulated)),
        (_, [UNEVALUATED | FAILED] | [FAILED, INCONCLUSIVE] | [], _) => {
            contradiction("the summary's result and its verified levels are not the same")
        }
        _ => Err(Refusal::new(Reason::UnknownResult, format!("the summary's verified levels are {:?}", summary.verified_levels))),
    }
}

fn age(summary: &Summary, lines: &[Line], expected: &Expected, simulated: bool, now: Timestamp) -> Result<Timestamp, Refusal> {
    let ended: Timestamp = summary.time_verified.parse().map_err(|_| malformed("the summary's timeVerified is no time"))?;
    let age = now.duration_since(ended);
    // A simulated run's time is virtual: it ends hours from now.
    if age < -SKEW && !simulated {
        let found = format!("the run ended at {ended}, and here it is {now}: one of the two clocks is wrong");
        return Err(Refusal::new(Reason::Future, found));
    }
    let since = oldest_baseline(lines)?.map_or(ended, |oldest| oldest.min(ended));
    match expected.max_age {
        Some(most) if now.duration_since(since) > most && since < ended => {
            Err(Refusal::new(Reason::Expired, format!("the run rests on a baseline of {since}, longer ago than {most:#}")))
        }
        Some(most) if age > most => Err(Refusal::new(Reason::Expired, format!("the run ended at {ended}, longer ago than {most:#}"))),
        _ => Ok(ended),
    }
}

/// When the oldest baseline was seen that the run took over from an earlier one.
fn oldest_baseline(lines: &[Line]) -> Result<Option<Timestamp>, Refusal> {
    let mut oldest: Option<Timestamp> = None;
    for line in lines {
        for baseline in line.result.configuration.iter().filter(|descriptor| descriptor.name.starts_with("baseline/")) {
            let seen = baseline.annotations.get("seen").and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
            let seen = seen.ok_or_else(|| malformed("it does not say when a baseline was seen").in_line(line.number))?;
            oldest = Some(oldest.map_or(seen, |oldest| oldest.min(seen)));
        }
    }
    Ok(oldest)
}
