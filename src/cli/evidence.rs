//! `patchlab evidence`.

use super::args::Evidence;
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::{attest, key, output, show};
use crate::lab::keys;
use crate::report::archive::{self, Contents};

/// Writes everything about a run into one archive. Kept files that are gone are named in it, and the exit code is 3.
pub async fn evidence(context: &Context, verb: &Evidence) -> Result<Exit, Failure> {
    let lost = match Client::signing(context, &verb.key)? {
        Some(client) => {
            let run = client.named(&verb.run)?.run;
            client.archive(run, output::Output::open(&verb.output)?)?
        }
        None => write(context, verb).await?,
    };
    if lost.is_empty() { Ok(Exit::Pass) } else { Err(Failure::lab(format!("not everything is in {}:\n{lost}", verb.output.display()))) }
}

async fn write(context: &Context, verb: &Evidence) -> Result<String, Failure> {
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    let key = key::signing(context, &verb.key)?;
    let attestation = attest::statements(context, &journal, &state, &key).await?;
    let entries = journal.entries(state.run).await?;
    let public_key = keys::pem(&key.verifying_key())?;
    let contents = Contents { attestation: &attestation, entries: &entries, key: &key, public_key: &public_key };
    let output = output::Output::open(&verb.output)?;
    let mut lost = String::new();
    show::with_source(context, &state, |source| {
        output.fill(|to| {
            lost = archive::write(to, source, &contents)?;
            Ok(())
        })
    })??;
    Ok(lost)
}
