//! What a cell does next.

use super::{Pass, Stage};

/// The next thing to do for a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin a pass on a fresh clone.
    Begin { pass: Pass, attempt: u32 },
    /// Run a stage of the pass that is under way.
    Run(Stage),
    /// The pass under way is over.
    EndPass,
    /// All is done.
    End,
}

/// What the cell does next, from its plan and what happened so far.
pub fn next(_plan: &crate::plan::PlannedCell, _record: &crate::journal::CellRecord) -> Next {
    Next::End
}
