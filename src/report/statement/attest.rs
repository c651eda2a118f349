//! From a run to its attestation.

use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use super::envelope::seal;
use super::form::{
    Descriptor, FAILED, INCONCLUSIVE, Outcome, SIMULATED, SLSA_VERSION, STATEMENT, SUMMARY, Statement, Summary, TEST_RESULT, TestResult,
    Tests, UNEVALUATED, Verifier,
};
use crate::cell::Stage;
use crate::id::{Digest, Name, RunId};
use crate::journal::RunState;
use crate::report::Source;
use crate::report::standing::{self, Standing};
use crate::report::view::CellView;
use crate::verdict::gate::AppliedPolicy;
use crate::verdict::{Comparison, Judgement, Verdict};

/// Who says it.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The lab's id.
    pub lab: &'a str,
    pub key: &'a SigningKey,
    /// What the run was judged against besides its plan, see [`applied`](crate::verdict::gate::applied()).
    pub policy: Option<&'a AppliedPolicy>,
}

/// Why there is nothing to attest.
#[derive(Debug, Error)]
pub enum Nothing {
    #[error("run {0} has not ended: there is nothing to attest yet")]
    Unfinished(RunId),
    #[error("run {0} tested several patches together, and a statement speaks of one: attest a run of that one by itself")]
    Together(RunId),
}

/// One suite on one cell, or the cell's stages.
struct Part {
    name: String,
    configuration: Vec<Descriptor>,
    tests: Tests,
}

/// The run's attestation: JSON lines, see the [room](super).
///
/// # Errors
/// When the run has not ended, or tested several patches together.
pub fn attest(run: &RunState, judgement: &Judgement, signer: &Signer<'_>) -> Result<String, Nothing> {
    let (Some((ended, recorded)), true) = (run.ended, judgement.finished) else { return Err(Nothing::Unfinished(run.run)) };
    if run.plan.is_together() {
        return Err(Nothing::Together(run.run));
    }
    let source = Source { run, judgement, evidence: &|_| None };
    let mut parts: Vec<Part> = source.cells().iter().flat_map(|cell| parts(run, cell)).collect();
    let verdict = verdict(recorded, judgement.verdict, &parts);
    let told = parts.iter().any(|part| part.tests.outcome() == Outcome::Failed);
    if verdict == Verdict::Inconclusive || verdict == Verdict::Fail && !told {
        parts.iter_mut().for_each(|part| part.tests.failed_tests.push("run verdict".to_owned()));
    }
    let subject = Descriptor::of_bytes(run.plan.patch.manifest.id.as_str(), run.plan.patch.sha256);
    let mut bundle = String::new();
    let mut inputs = Vec::new();
    for part in parts {
        let result = part.tests.outcome().as_str().to_owned();
        let line = state(&subject, TEST_RESULT, TestResult { result, configuration: part.configuration, tests: part.tests }, signer.key);
        inputs.push(Descriptor::of_bytes(part.name, Digest::of(&line)));
        bundle += &line;
        bundle.push('\n');
    }
    bundle += &state(&subject, SUMMARY, summary(run, ended, verdict, inputs, signer), signer.key);
    bundle.push('\n');
    Ok(bundle)
}

/// What may be said of the whole. A pass needs the statements to agree with the judge, and is none where the journal has a fail.
fn verdict(recorded: Verdict, judged: Verdict, parts: &[Part]) -> Verdict {
    let passed = parts.iter().any(|part| !part.tests.passed_tests.is_empty());
    let failed = parts.iter().any(|part| part.tests.outcome() == Outcome::Failed);
    match judged {
        Verdict::Pass if failed || !passed || recorded == Verdict::Fail => Verdict::Inconclusive,
        Verdict::Pass | Verdict::Fail | Verdict::Inconclusive => judged,
    }
}

fn state<P: Serialize>(subject: &Descriptor, predicate_type: &str, predicate: P, key: &SigningKey) -> String {
    let statement =
        Statement { form: STATEMENT.to_owned(), subject: vec![subject.clone()], predicate_type: predicate_type.to_owned(), predicate };
    seal(&serde_json::to_vec(&statement).expect("texts always serialize"), key)
}

fn summary(run: &RunState, ended: Timestamp, verdict: Verdict, inputs: Vec<Descriptor>, signer: &Signer<'_>) -> Summary {
    let patch = &run.plan.patch;
    let simulated = run.is_simulated();
    let levels: &[&str] = match verdict {
        Verdict::Pass if simulated => &[],
        Verdict::Pass => &[UNEVALUATED],
        Verdict::Fail => &[FAILED],
        Verdict::Inconclusive => &[FAILED, INCONCLUSIVE],
    };
    let levels = levels.iter().copied().chain(simulated.then_some(SIMULATED));
    let policy = match signer.policy {
        Some(AppliedPolicy { customer, sha256 }) => Descriptor {
            uri: format!("urn:uuid:{}#policy/{customer}", signer.lab),
            ..Descriptor::of_bytes(format!("policy/{customer}"), *sha256)
        },
        None => Descriptor { uri: format!("{}#plan", urn(run.run)), ..Descriptor::of_bytes("plan", run.plan_digest) },
    };
    Summary {
        verifier: Verifier {
            id: format!("urn:uuid:{}", signer.lab),
            version: [("patchlab".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        },
        time_verified: ended.to_string(),
        resource_uri: format!("pkg:generic/{}?checksum={}", patch.manifest.id, patch.sha256),
        policy,
        input_attestations: inputs,
        verification_result: if verdict == Verdict::Pass { Outcome::Passed } else { Outcome::Failed }.as_str().to_owned(),
        verified_levels: levels.map(str::to_owned).collect(),
        slsa_version: SLSA_VERSION.to_owned(),
    }
}

fn urn(run: RunId) -> String {
    format!("urn:uuid:{run}")
}

/// The cell's stages, then each of its suites.
fn parts(run: &RunState, cell: &CellView<'_>) -> Vec<Part> {
    let id = &cell.planned.id;
    let shared = configuration(run, cell);
    let part = |name: String, of: Descriptor, tests: Tests| Part {
        configuration: shared.iter().cloned().chain([of]).chain(baselines(cell, &name)).collect(),
        tests,
        name: format!("{id}/{name}"),
    };
    let version = run.controllers.last().map_or("unknown", |controller| controller.patchlab.as_str());
    let built_in = |name: String| Descriptor::at(name, format!("pkg:generic/patchlab@{version}"));
    let mut suites: Vec<(&Name, Tests)> = Vec::new();
    for case in &cell.cases {
        let at = suites.iter().position(|(suite, _)| **suite == case.suite).unwrap_or_else(|| {
            suites.push((&case.suite, Tests::default()));
            suites.len() - 1
        });
        let standing = standing::of_case(cell, case);
        let mended = case.comparison == Comparison::Fixed;
        if let Some((_, tests)) = suites.get_mut(at) {
            list(tests, format!("{}/{}", case.suite, case.case), &standing, mended);
        }
    }
    let mut stages = Tests::default();
    for stage in Stage::ALL {
        let standing = standing::of_stage(cell, stage, run.plan.patch.manifest.reboot);
        // What the plan has no use for is no test.
        if !matches!(standing, Standing::Skipped { .. }) {
            list(&mut stages, format!("stage {stage}"), &standing, false);
        }
    }
    let explained = suites.iter().map(|(_, tests)| tests).chain([&stages]).any(|tests| !tests.failed_tests.is_empty());
    if let Some(standing) = standing::of_cell(cell, explained) {
        list(&mut stages, "cell verdict".to_owned(), &standing, false);
    }
    let stages = part("stages".to_owned(), built_in("stages".to_owned()), stages);
    let suites = suites.into_iter().map(|(name, tests)| {
        let planned = cell.planned.suites.iter().find(|suite| suite.name == *name);
        let of = format!("suite/{name}");
        part(name.to_string(), planned.map_or_else(|| built_in(of.clone()), |suite| Descriptor::of_bytes(of.clone(), suite.sha256)), tests)
    });
    std::iter::once(stages).chain(suites).collect()
}

/// The baselines of a suite that an earlier run has seen: a test passed if it did so with the patch and, then, without it.
fn baselines(cell: &CellView<'_>, suite: &str) -> Vec<Descriptor> {
    let of = cell.cases.iter().filter(|case| case.suite.as_str() == suite);
    let from = of.filter_map(|case| {
        let origin = case.baseline_from.as_ref()?;
        let seen = [("cell".to_owned(), json!(origin.cell)), ("seen".to_owned(), json!(origin.at.to_string()))];
        let observed = Descriptor::of_bytes(format!("baseline/{suite}/{}", case.case), origin.sha256);
        Some(Descriptor { uri: urn(origin.run), annotations: seen.into(), ..observed })
    });
    from.collect()
}

fn list(tests: &mut Tests, name: String, standing: &Standing, mended: bool) {
    match standing {
        Standing::Passed { note } if note.is_none() || mended => tests.passed_tests.push(name),
        Standing::Passed { .. } | Standing::Skipped { .. } => tests.warned_tests.push(name),
        Standing::Finding(_) | Standing::Fault(_) => tests.failed_tests.push(name),
    }
}

/// What the cell was tested with.
fn configuration(run: &RunState, cell: &CellView<'_>) -> Vec<Descriptor> {
    let planned = cell.planned;
    let mut accelerators: Vec<_> = run.on().map(|controller| controller.host.accelerator.as_str()).collect();
    accelerators.sort_unstable();
    accelerators.dedup();
    let about = [("accelerators".to_owned(), json!(accelerators)), ("simulated".to_owned(), json!(run.is_simulated()))];
    let mut configuration = vec![
        Descriptor { annotations: about.into(), ..Descriptor::at("run", urn(run.run)) },
        Descriptor::of_bytes("plan", run.plan_digest),
        Descriptor::of_bytes(format!("cell/{}", planned.id), Digest::of_json(planned)),
    ];
    for machine in &planned.machines {
        let role = &machine.role;
        let who = [("build".to_owned(), json!(machine.build)), ("patched".to_owned(), json!(machine.patched))];
        let image = Descriptor::of_bytes(format!("image/{role}/{}", machine.image.name), machine.image.sha256);
        configuration.push(Descriptor { annotations: who.into(), ..image });
        configuration.push(Descriptor::of_bytes(format!("hardware/{role}/{}", machine.hardware.name), machine.hardware.sha256));
    }
    configuration
}
