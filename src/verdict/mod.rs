//! What observations mean: comparison of baseline and patched, the cell's and the run's verdict, and what a policy makes of
//! verdicts.

pub mod baselines;
pub mod bisect;
pub mod compare;
pub mod evidence;
pub mod fold;
pub mod gate;
pub mod health;
pub mod judge;
pub mod rank;
pub mod results;
pub mod trend;
pub mod trials;

use serde::{Deserialize, Serialize};

use crate::cell::cause::Evidence;
use crate::cell::{CaseOutcome, Origin, Stage};
use crate::id::{CellId, Digest, Name};

/// What the observations of a plan mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Pass,
    Fail,
    /// The lab cannot say.
    Inconclusive,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a case's baseline and patched observations give together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// Passed before and after.
    Unchanged,
    /// Passed before; failed after, on every clone.
    Regression,
    /// Failed before, passed after.
    Fixed,
    /// Failed before and after, in the same way.
    PreExisting,
    /// Failed before and after, in another way.
    ChangedFailure,
    /// Not the same on every clone.
    Flaky,
    /// Could not run before, ran after.
    New,
    /// Planned and gave no result, or no baseline to compare with.
    Missing,
    /// Did not apply, before and after.
    Skipped,
}

impl Comparison {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Regression => "regression",
            Self::Fixed => "fixed",
            Self::PreExisting => "pre-existing",
            Self::ChangedFailure => "changed-failure",
            Self::Flaky => "flaky",
            Self::New => "new",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
        }
    }
}

/// What a run's observations mean, cell by cell, each statement with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
    pub verdict: Verdict,
    /// Whether the run has ended. An unfinished run is judged on what it has, and that is never a pass.
    pub finished: bool,
    pub cells: Vec<CellJudgement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CellJudgement {
    pub id: CellId,
    pub verdict: Verdict,
    /// Every planned case and every health check, in the plan's order; the health suite first.
    pub cases: Vec<CaseJudgement>,
    pub findings: Vec<Finding>,
    pub faults: Vec<Fault>,
    /// What people should know and what blocks nothing: things fixed, new ports, a rollback by image only, what got slower or larger.
    pub notes: Vec<String>,
}

/// A case's two sides, and what they give together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CaseJudgement {
    pub suite: Name,
    pub case: Name,
    /// The outcome that counts, of all attempts unpatched.
    pub baseline: Option<CaseOutcome>,
    pub patched: Option<CaseOutcome>,
    pub comparison: Comparison,
    /// Why, in one line.
    pub message: String,
    /// The patched side's output or diff where it did not pass, else empty.
    pub detail: String,
    /// Milliseconds, of the last attempt of each side.
    pub baseline_ms: Option<u64>,
    pub patched_ms: Option<u64>,
    /// Where the baseline was seen, where that was not in this run's own pass.
    pub baseline_from: Option<Origin>,
}

/// Bad news that the patch is to blame for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// A [`Cause::code`](crate::cell::Cause::code), `regression` or `changed-failure`.
    pub code: String,
    pub message: String,
    /// The stage it showed in, for a finding about a stage.
    pub stage: Option<Stage>,
    /// `suite/case`, for a finding about a case.
    pub case: Option<String>,
    /// Fresh clones on which it showed again, of those on which it was tried.
    pub confirmed: (u32, u32),
    pub detail: String,
    pub evidence: Vec<Evidence>,
    /// What kind of finding it is: equal for those that differ only in numbers, addresses and times. A waiver names it.
    pub fingerprint: Digest,
}

/// Bad news that the lab is to blame for, or that nobody can be blamed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// A [`Cause::code`](crate::cell::Cause::code), `missing`, `flaky`, `unconfirmed`, `no-baseline`,
    /// `no-required-cases`, `unfinished` or `harness-error`.
    pub code: String,
    pub message: String,
    pub stage: Option<Stage>,
    pub case: Option<String>,
    /// Whether the lab made up for it by trying again: shown, and blocks nothing.
    pub recovered: bool,
    pub detail: String,
    pub evidence: Vec<Evidence>,
}

impl Fault {
    /// Not the same on every clone.
    pub const FLAKY: &str = "flaky";
    /// Could not be tried again.
    pub const UNCONFIRMED: &str = "unconfirmed";

    /// Whether it is bad news after the patch that is not known to be the lab's own.
    pub fn is_bad_news(&self) -> bool {
        !self.recovered && (self.code == Self::FLAKY || self.code == Self::UNCONFIRMED)
    }
}
