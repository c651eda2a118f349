//! Which policy a run was judged against, by what is on record.

use crate::journal::{Event, Journal, JournalError, RunState};
use crate::verdict::gate::{self, AppliedPolicy, sole_customer};

/// See [`gate::applied`]. What has been named once stays named, whatever becomes of the policy.
///
/// # Errors
/// When the journal can't be read.
pub async fn applied(journal: &Journal, run: &RunState) -> Result<Option<AppliedPolicy>, JournalError> {
    let Some(customer) = sole_customer(&run.plan) else { return Ok(None) };
    let records = journal.records(run.plan.patch.sha256, customer).await?;
    let entries = journal.entries(run.run).await?;
    let ended = entries.iter().find(|entry| matches!(entry.event, Event::RunEnded { .. }));
    Ok(ended.and_then(|ended| gate::applied(run, ended.seq, &records)))
}
