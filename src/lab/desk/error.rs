//! What keeps the desk from doing what it was asked for.

use std::path::Path;

use thiserror::Error;

use crate::catalog::diagnostic::{Diagnostic, Problems, is_fault};
use crate::hypervisor::HypervisorError;
use crate::journal::JournalError;
use crate::lab::gate::GateError;
use crate::lab::images::ImageError;
use crate::lab::media::MediaError;
use crate::lab::reaper::ReapError;
use crate::lab::state::StateError;

/// Something that was asked for could not be done.
#[derive(Debug, Error)]
pub enum DeskError {
    /// What was asked for or configured can't be.
    #[error("{0}")]
    Asked(String),
    /// Something that the lab stands on let it down.
    #[error("{0}")]
    Fault(String),
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{0}\n  {hint}", hint = .0.hint())]
    Image(#[from] ImageError),
    #[error("{0}{hint}", hint = indented(.0.hint().unwrap_or_default()))]
    Journal(#[from] JournalError),
    #[error("{0}{hint}", hint = indented(&.0.hint))]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error(transparent)]
    Reap(#[from] ReapError),
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn indented(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("\n  {hint}") }
}

impl From<Box<Diagnostic>> for DeskError {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self::Problems((*diagnostic).into())
    }
}

impl DeskError {
    pub fn asked(told: impl std::fmt::Display) -> Self {
        Self::Asked(told.to_string())
    }

    pub(super) fn suite_gone(suite: &impl std::fmt::Display, folder: &Path) -> Self {
        Self::Asked(format!("suite {suite} of the plan is no longer in {}; start the run again", folder.display()))
    }

    /// Whether the lab is to blame, rather than what was asked for or configured.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Asked(_) => false,
            Self::Problems(problems) => problems.0.iter().any(|problem| problem.fault),
            Self::State(StateError::Folder { source, .. }) => is_fault(source),
            Self::State(StateError::Busy { .. } | StateError::Id { .. }) => false,
            Self::Image(error) => error.is_fault(),
            Self::Gate(error) => matches!(error, GateError::Journal(_) | GateError::Busy),
            Self::Fault(_) | Self::Journal(_) | Self::Hypervisor(_) | Self::Reap(_) | Self::Media(_) | Self::Io(_) => true,
        }
    }
}
