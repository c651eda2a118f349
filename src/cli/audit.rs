//! `patchlab audit verify`: whether the journal is what was written.

use serde_json::json;

use super::args::{AuditVerb, Format};
use super::context::Context;
use super::error::{Exit, Failure};
use super::print;
use crate::journal::{Chain, JournalError};

/// Exit code 1 where the journal was damaged or altered: that is an answer, no failure of the lab.
pub async fn audit(context: &Context, verb: &AuditVerb) -> Result<Exit, Failure> {
    let AuditVerb::Verify(answer) = verb;
    let (told, exit) = match context.journal().await?.verify().await {
        Ok(Chain { entries, last }) => match answer.format {
            Format::Human => {
                (format!("the journal's {entries} entries are as they were written; the last has the hash {last}\n"), Exit::Pass)
            }
            Format::Json => (format!("{:#}\n", json!({ "verified": true, "entries": entries, "last": last })), Exit::Pass),
        },
        Err(JournalError::Altered { seq, found, .. }) if answer.format == Format::Json => {
            (format!("{:#}\n", json!({ "verified": false, "entry": seq, "found": found })), Exit::Fail)
        }
        Err(altered @ JournalError::Altered { .. }) => (format!("NOT VERIFIED  {altered}\n"), Exit::Fail),
        Err(error) => return Err(error.into()),
    };
    print(&told)?;
    Ok(exit)
}
