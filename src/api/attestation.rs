//! A run's signed statements.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::caller::Caller;
use super::extract::RunPath;
use super::problem::{Conflicts, Problem};
use super::runs::found;
use super::{Role, Service};
use crate::journal::RunState;
use crate::lab::policy;
use crate::report::statement::{self, MEDIA_TYPE, Signer};
use crate::verdict::judge::judge;

/// What the run found as signed statements: in-toto, in DSSE envelopes, one a line. `patchlab verify` checks them.
#[utoipa::path(get, path = "/api/v1/runs/{run}/attestation", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "the statements, the summary last", body = String, content_type = MEDIA_TYPE), Conflicts))]
pub async fn attestation(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<impl IntoResponse, Problem> {
    caller.require(Role::Viewer)?;
    let text = attested(&service, Arc::new(found(&service, run).await?)).await?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text))
}

/// The statements about a run; for whoever has seen to the caller.
///
/// # Errors
/// When the run has not ended or tested several patches together, or the lab's key can't be read.
pub async fn attested(service: &Service, state: Arc<RunState>) -> Result<String, Problem> {
    let policy = policy::applied(&service.journal, &state).await?;
    let (desk, key) = (service.desk.clone(), service.signer()?);
    let attested = tokio::task::spawn_blocking(move || {
        let signer = Signer { lab: &desk.state.lab, key: &key, policy: policy.as_ref() };
        let nothing = |nothing: statement::Nothing| match nothing {
            statement::Nothing::Unfinished(_) => Problem::conflict("not-ended", nothing.to_string()),
            statement::Nothing::Together(_) => Problem::conflict("tested-together", nothing.to_string()),
        };
        statement::attest(&state, &judge(&state), &signer).map_err(nothing)
    });
    attested.await.map_err(Problem::fault)?
}
