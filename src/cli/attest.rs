//! `patchlab attest`.

use super::args::Attest;
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::{key, output, print};
use crate::journal::{Journal, RunState};
use crate::lab::policy;
use crate::report::statement::{self, Signer};
use crate::verdict::judge::judge;

/// Writes a run's attestation. The exit code is about the writing, not about the run: 0, or 4 while the run has not ended.
pub async fn attest(context: &Context, verb: &Attest) -> Result<Exit, Failure> {
    let text = match Client::signing(context, &verb.key)? {
        Some(client) => client.text(&format!("/api/v1/runs/{}/attestation", client.named(&verb.run)?.run))?,
        None => {
            let journal = context.journal().await?;
            let state = context.run(&journal, &verb.run).await?;
            statements(context, &journal, &state, &key::signing(context, &verb.key)?).await?
        }
    };
    match &verb.output {
        Some(file) => output::write(file, &text)?,
        None => print(&text)?,
    }
    Ok(Exit::Pass)
}

/// The run's attestation with this key.
pub async fn statements(
    context: &Context,
    journal: &Journal,
    state: &RunState,
    key: &ed25519_dalek::SigningKey,
) -> Result<String, Failure> {
    let policy = policy::applied(journal, state).await?;
    let signer = Signer { lab: &context.state.lab, key, policy: policy.as_ref() };
    let finish = format!("finish it with: patchlab run {}", state.plan.patch.manifest.id);
    statement::attest(state, &judge(state), &signer).map_err(|error| match error {
        statement::Nothing::Unfinished(_) => Failure { exit: Exit::Undecided, message: format!("error: {error}\n  {finish}") },
        statement::Nothing::Together(_) => Failure::usage(error),
    })
}
