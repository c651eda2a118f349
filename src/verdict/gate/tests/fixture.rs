//! Runs of one cell, by what came out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::catalog::policy::{Approvals, Require, Role, Terms, WaiverRule};
use crate::catalog::text::Span;
use crate::cell::{CaseOutcome, Pass as CellPass};
use crate::id::{Digest, RunId};
use crate::journal::{CellRecord, Controller, HostReport, PassRecord, RunState};
pub(crate) use crate::plan::examples::name;
use crate::plan::{Plan, PlannedCell, PlannedSuite, examples};
use crate::verdict::gate::{GateInputs, Requirements, RunEvidence};
use crate::verdict::{CaseJudgement, CellJudgement, Comparison, Fault, Finding, Judgement, Verdict};

/// Seconds.
pub const DAY: i64 = 24 * 3600;

/// What came out of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    /// A finding about this case.
    Red(&'static str),
    Fault,
    Flaky(&'static str),
    /// Bad news that no fresh clone could be asked about.
    Unconfirmed(&'static str),
    Queued,
    Running,
    /// Bad news so far, in a run that goes on or was given up.
    Abandoned(&'static str),
}

pub struct Case {
    pub inputs: GateInputs,
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).expect("a moment")
}

/// When the run of this number ended.
pub fn ended(number: u64) -> Timestamp {
    at(number as i64 * 600 + 300)
}

pub fn suite(text: &str) -> PlannedSuite {
    examples::suite(text, vec![examples::case("a"), examples::case("b")])
}

pub fn cell(build: &str, hardware: &str) -> PlannedCell {
    examples::cell(build, hardware, vec![suite("web"), suite("ssh")])
}

fn plan(cells: &[PlannedCell]) -> Plan {
    let patch = examples::planned("script");
    Plan { version: crate::plan::VERSION, patch, beside: Vec::new(), cells: cells.to_vec(), excluded: Vec::new(), lint: Vec::new() }
}

/// One cell, no approval, waivers of the suite `web` for 30 days.
pub fn requirements() -> Requirements {
    let policy = Terms {
        lane: None,
        valid_for: Span::secs(14 * DAY as u64),
        deadline: None,
        launcher_may_approve: false,
        accept_from: Vec::new(),
        require: Require::default(),
        approvals: Vec::new(),
        waiver: Some(WaiverRule { cases: vec!["web/*".to_owned(), "boot-*".to_owned()], longest: Span::secs(30 * DAY as u64) }),
    };
    let plan = plan(&[cell("web", "bios")]);
    Requirements {
        patch: plan.patch.sha256,
        patch_id: plan.patch.manifest.id.clone(),
        customer: name("acme"),
        policy_digest: policy.digest(),
        policy,
        plan: Box::new(plan),
        deadline: None,
        simulated: false,
        by: "alice".to_owned(),
    }
}

pub fn asks_for(role: Role, count: u32) -> Approvals {
    Approvals { role, count }
}

fn fault(code: &str, case: Option<&str>) -> Fault {
    Fault {
        code: code.to_owned(),
        message: format!("{code} on 1 of 2 clones"),
        stage: None,
        case: case.map(str::to_owned),
        recovered: false,
        detail: String::new(),
        evidence: Vec::new(),
    }
}

pub fn fingerprint(case: &str) -> Digest {
    Digest::of(case)
}

fn judged(cell: &PlannedCell, outcome: Outcome) -> CellJudgement {
    let verdict = match outcome {
        Outcome::Pass => Verdict::Pass,
        Outcome::Red(_) | Outcome::Abandoned(_) => Verdict::Fail,
        _ => Verdict::Inconclusive,
    };
    let finding = |case: &str| Finding {
        code: "regression".to_owned(),
        message: format!("{case} failed"),
        stage: None,
        case: Some(case.to_owned()),
        confirmed: (1, 1),
        detail: String::new(),
        evidence: Vec::new(),
        fingerprint: fingerprint(case),
    };
    let case = CaseJudgement {
        suite: name("web"),
        case: name("a"),
        baseline: Some(CaseOutcome::Pass),
        patched: Some(CaseOutcome::Pass),
        comparison: Comparison::Unchanged,
        message: String::new(),
        detail: String::new(),
        baseline_ms: None,
        patched_ms: None,
        baseline_from: None,
    };
    let (findings, faults) = match outcome {
        Outcome::Pass => (Vec::new(), Vec::new()),
        Outcome::Red(case) | Outcome::Abandoned(case) => (vec![finding(case)], Vec::new()),
        Outcome::Fault => (Vec::new(), vec![fault("host-disk-full", None)]),
        Outcome::Flaky(case) => (Vec::new(), vec![fault("flaky", Some(case))]),
        Outcome::Unconfirmed(case) => (Vec::new(), vec![fault("unconfirmed", Some(case))]),
        Outcome::Queued | Outcome::Running => (Vec::new(), vec![fault("unfinished", None)]),
    };
    CellJudgement { id: cell.id.clone(), verdict, cases: vec![case], findings, faults, notes: Vec::new() }
}

fn controller() -> Controller {
    let host = HostReport {
        accelerator: "kvm".to_owned(),
        accelerator_reason: String::new(),
        qemu: String::new(),
        libvirt: String::new(),
        kernel: String::new(),
        cpus: 2,
        memory: 1,
    };
    Controller { patchlab: "test".to_owned(), hypervisor: "qemu:///embed".to_owned(), host }
}

fn pass() -> PassRecord {
    PassRecord {
        pass: CellPass::Main,
        attempt: 1,
        machine: "m".to_owned(),
        placed: None,
        xml: BTreeMap::new(),
        starts: BTreeMap::new(),
        stages: Vec::new(),
        facts: BTreeMap::new(),
        gauges: BTreeMap::new(),
        cases: Vec::new(),
        anew: Vec::new(),
        evidence: Vec::new(),
        ended: true,
        kept: false,
    }
}

/// A run of these cells, launched by `alice`. A run in which something is under way has not ended.
pub fn run(number: u64, cells: &[PlannedCell], outcomes: &[Outcome]) -> RunEvidence {
    let open = |outcome: &Outcome| matches!(outcome, Outcome::Queued | Outcome::Running | Outcome::Abandoned(_));
    let unfinished = outcomes.iter().any(open);
    let plan = plan(cells);
    let record = |outcome: &Outcome| CellRecord {
        passes: if *outcome == Outcome::Queued { Vec::new() } else { vec![pass()] },
        ended: !open(outcome),
    };
    let judgements: Vec<_> = cells.iter().zip(outcomes).map(|(cell, outcome)| judged(cell, *outcome)).collect();
    let verdict = judgements.iter().map(|one| one.verdict).max().unwrap_or(Verdict::Inconclusive);
    let state = RunState {
        bundle: None,
        run: RunId::from_parts(number, [1; 10]),
        plan_digest: plan.digest(),
        by: "alice".to_owned(),
        planned: at(number as i64 * 600),
        controllers: vec![controller()],
        cells: cells.iter().map(|cell| cell.id.clone()).zip(outcomes.iter().map(record)).collect(),
        past: Vec::new(),
        called_off: None,
        ended: (!unfinished).then(|| (ended(number), verdict)),
        kept: Vec::new(),
        leases: BTreeMap::new(),
        plan,
    };
    let judgement = Judgement { verdict, finished: !unfinished, cells: judgements };
    RunEvidence { state, judgement, ahead: false }
}

/// One required cell, and one run of it for each outcome, ten minutes apart.
pub fn case(outcomes: &[Outcome]) -> Case {
    let cells = [cell("web", "bios")];
    let runs = outcomes.iter().enumerate().map(|(number, outcome)| run(number as u64, &cells, &[*outcome])).collect();
    let inputs = GateInputs {
        requirements: requirements(),
        superseded_by: None,
        runs,
        waivers: Vec::new(),
        approvals: Vec::new(),
        rejections: Vec::new(),
        last: None,
    };
    Case { inputs }
}

/// A moment this long after another.
pub fn after(moment: Timestamp, seconds: i64) -> Timestamp {
    moment.checked_add(SignedDuration::from_secs(seconds)).expect("a moment")
}
