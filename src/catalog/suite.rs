//! Suites: `test-suites/<suite>/suite.toml` and the case scripts beside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::autopkgtest::{Source, Test};
use super::build::Role;
use super::step::Step;
use super::text::Span;
use crate::id::Name;

/// A set of cases: on one machine, or between several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Suite {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    pub kind: SuiteKind,
    /// The roles of the machines that an interoperability suite speaks of, for example `["server", "client"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
    /// Where the tests are, for a suite of kind autopkgtest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopkgtest: Option<Source>,
    /// The cases, in the order in which they run. A suite of kind autopkgtest has its own.
    #[serde(default, rename = "case", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub cases: Vec<Case>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteKind {
    /// Cases on one machine.
    Regression,
    /// Cases between the machines of an environment.
    Interoperability,
    /// The tests of a Debian source package, on one machine.
    Autopkgtest,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Case {
    pub name: Name,
    /// One line for people: what is shown to work.
    #[serde(default)]
    pub title: String,
    /// The script in the suite's folder, run as root by the interpreter that its first line names, in a scratch folder of its own.
    /// `$PATCHLAB_SUITE` is the suite's folder, `$PATCHLAB_PHASE` is `baseline` or `patched`, `$PATCHLAB_RESULT` is where a JUnit file goes,
    /// `$PATCHLAB_KEEP` a folder on disk that outlives reboots. Regression cases only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// What happens where, one step after the other. Interoperability cases only.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How the script says what it found.
    #[serde(default)]
    pub result: ResultForm,
    /// How long it may take on this host; then it is ended and counts as failed.
    #[serde(default = "Case::default_time_limit")]
    pub time_limit: Span,
    /// The role that it is meant for. It is left out of cells of another role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Commands that must be there in the machine. Where one is not, the case is skipped with that reason.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Whether it leaves the machine unfit for other cases. It then gets a clone of its own.
    #[serde(default)]
    pub destructive: bool,
    /// Whether what it does unpatched leaves nothing on the machine: nothing that it, another case or a health check would look at later.
    /// Only then may its baseline be one that an earlier run has seen. It can't use `$PATCHLAB_KEEP` or `$PATCHLAB_PHASE`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves_nothing: bool,
    /// What the test is that it stands for, in a suite of kind autopkgtest. Never written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub autopkgtest: Option<Test>,
}

impl Case {
    fn default_time_limit() -> Span {
        Span::secs(120)
    }
}

/// How a case script reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResultForm {
    /// 0 pass, 77 skip, 99 harness error, all else fail.
    #[default]
    Exit,
    /// TAP 13 or 14 on standard output.
    Tap,
    /// A JUnit file at `$PATCHLAB_RESULT`.
    Junit,
}

impl ResultForm {
    pub const fn is_exit(&self) -> bool {
        matches!(self, Self::Exit)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Tap => "tap",
            Self::Junit => "junit",
        }
    }
}
