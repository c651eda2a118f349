//! What ends a command early: its exit code and what to tell the person.

use std::fmt;

use crate::catalog::diagnostic::{Diagnostic, Problems, is_fault};
use crate::lab::desk::DeskError;
use crate::lab::gate::GateError;
use crate::lab::keys::KeyError;

/// The exit codes of the outward contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Pass,
    Fail,
    /// Usage or configuration.
    Usage,
    Inconclusive,
    /// The run has not ended.
    Undecided,
    Interrupted,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Usage => 2,
            Self::Inconclusive => 3,
            Self::Undecided => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<crate::verdict::Verdict> for Exit {
    fn from(verdict: crate::verdict::Verdict) -> Self {
        match verdict {
            crate::verdict::Verdict::Pass => Self::Pass,
            crate::verdict::Verdict::Fail => Self::Fail,
            crate::verdict::Verdict::Inconclusive => Self::Inconclusive,
        }
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// The whole text for the person.
    pub message: String,
}

impl Failure {
    /// Something the person asked for or configured cannot be.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: format!("error: {message}") }
    }

    /// Several as one; none of none. What the lab is to blame for outranks what the person can mend.
    pub fn all(failures: impl IntoIterator<Item = Self>) -> Option<Self> {
        failures.into_iter().reduce(|all, one| Self {
            exit: if all.exit == Exit::Inconclusive { all.exit } else { one.exit },
            message: format!("{}\n{}", all.message, one.message),
        })
    }

    /// Something the lab stands on let it down.
    pub fn lab(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Inconclusive, message: format!("error: {message}") }
    }
}

impl From<crate::id::BadId> for Failure {
    fn from(bad: crate::id::BadId) -> Self {
        Self::usage(bad)
    }
}

impl From<Box<Diagnostic>> for Failure {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Problems::from(*diagnostic).into()
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let fault = problems.0.iter().any(|problem| problem.fault);
        Self { exit: if fault { Exit::Inconclusive } else { Exit::Usage }, message: problems.to_string() }
    }
}

impl From<DeskError> for Failure {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Problems(problems) => problems.into(),
            fault if fault.is_fault() => Self::lab(fault),
            asked => Self::usage(asked),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match &error {
            KeyError::File { source, .. } if is_fault(source) => Self::lab(error),
            KeyError::Random(_) => Self::lab(error),
            KeyError::File { .. } | KeyError::Open { .. } | KeyError::Form { .. } => Self::usage(error),
        }
    }
}

impl From<GateError> for Failure {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Journal(error) => error.into(),
            GateError::Busy => Self::lab(error),
            GateError::NoCustomer { .. }
            | GateError::NoPolicy { .. }
            | GateError::NoPlan(_)
            | GateError::NotAsked { .. }
            | GateError::Refused(_)
            | GateError::Unfit(_)
            | GateError::Moved { .. }
            | GateError::Unknown(_) => Self::usage(error),
        }
    }
}

macro_rules! by_the_desk {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                DeskError::from(error).into()
            }
        }
    )*};
}

by_the_desk!(
    crate::hypervisor::HypervisorError,
    crate::journal::JournalError,
    crate::lab::media::MediaError,
    crate::lab::reaper::ReapError,
    crate::lab::state::StateError,
    std::io::Error,
);
