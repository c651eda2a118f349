//! One cell's life: which passes and stages it goes through, what can go wrong in each, and what comes next.
//!
//! ```text
//! main pass   clone - boot - baseline - apply - [reboot] - verify - suites - [cold-boot] - reapply - rollback - teardown
//! twin pass   clone - boot - (one destructive case) - teardown                     unpatched, and again with apply - [reboot] or on a
//!                                                                                  checkpoint behind them
//! confirm     clone - boot - baseline - apply - [reboot] - verify - suites ... up to where the bad news was - teardown
//! ```
//! A stage that fails ends its pass with a teardown. A pass that the lab spoilt is repeated a bounded number of times; bad news
//! that the patch is to blame for is tried again on fresh clones. [`next()`] is the only place that decides this.

pub mod boot;
pub mod cause;
pub mod console;
pub mod identity;
pub mod next;
pub mod observation;

use serde::{Deserialize, Serialize};

pub use cause::{Blame, BootPhase, Cause, Evidence, Side, Trouble, blame};
pub use next::{Next, next};
pub use observation::{Anew, CaseAt, CaseObservation, CaseOutcome, Origin, Phase, Point};

use crate::id::Name;

/// One step in a cell's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// An overlay on the sealed image, and the machine defined.
    Clone,
    /// Switched on until the guest agent answers and the guest has settled.
    Boot,
    /// Facts and suites, unpatched.
    Baseline,
    Apply,
    /// Restarted by the guest itself; skipped when neither patch nor guest wants it.
    Reboot,
    /// Facts again, the patch's own `verify`, health checks.
    Verify,
    /// Suites again, patched.
    Suites,
    /// Switched off and on once more.
    ColdBoot,
    /// The same patch again: it must change nothing.
    Reapply,
    /// Taken back, where the kind can.
    Rollback,
    Teardown,
}

impl Stage {
    /// Every stage, in the order of a pass.
    pub const ALL: [Self; 11] = [
        Self::Clone,
        Self::Boot,
        Self::Baseline,
        Self::Apply,
        Self::Reboot,
        Self::Verify,
        Self::Suites,
        Self::ColdBoot,
        Self::Reapply,
        Self::Rollback,
        Self::Teardown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Boot => "boot",
            Self::Baseline => "baseline",
            Self::Apply => "apply",
            Self::Reboot => "reboot",
            Self::Verify => "verify",
            Self::Suites => "suites",
            Self::ColdBoot => "cold-boot",
            Self::Reapply => "reapply",
            Self::Rollback => "rollback",
            Self::Teardown => "teardown",
        }
    }

    /// Whether the patch has touched the machine by the time the stage runs. From `Apply` on bad news may be the patch's.
    pub const fn side(self) -> Side {
        match self {
            Self::Clone | Self::Boot | Self::Baseline => Side::Before,
            Self::Apply | Self::Reboot | Self::Verify | Self::Suites | Self::ColdBoot | Self::Reapply | Self::Rollback => Side::After,
            Self::Teardown => Side::Before,
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One use of a fresh clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "pass")]
pub enum Pass {
    /// Everything but destructive cases.
    Main,
    /// One destructive case, on one side of the patch.
    /// Round 0 first; 1 and up try bad news again.
    Twin { suite: Name, case: Name, phase: Phase, round: u32 },
    /// Bad news tried again, 1 and up.
    Confirm { number: u32 },
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Main => f.write_str("main"),
            Self::Twin { suite, case, phase, round: 0 } => write!(f, "twin {suite}/{case} {phase}"),
            Self::Twin { suite, case, phase, round } => write!(f, "twin {suite}/{case} {phase}, again {round}"),
            Self::Confirm { number } => write!(f, "confirm {number}"),
        }
    }
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum StageOutcome {
    Passed,
    Skipped {
        reason: String,
    },
    /// Cut short. Who is to blame follows from the cause and the side: see [`blame`].
    Failed {
        trouble: Trouble,
    },
}
