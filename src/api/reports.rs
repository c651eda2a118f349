//! A run's reports in their forms.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Query, RunPath};
use super::host;
use super::problem::{Problem, Refusals};
use super::runs::found;
use super::{Caller, Role, Service};
use crate::id::RunId;
use crate::journal::RunState;
use crate::report::{self, Format, Source, human};
use crate::verdict::judge::judge;

/// The JUnit report.
#[utoipa::path(get, path = "/api/v1/runs/{run}/junit.xml", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "one suite a cell and suite", body = String, content_type = "application/xml"), Refusals))]
pub async fn junit(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<impl IntoResponse, Problem> {
    let text = form(&service, &caller, run, Format::Junit).await?;
    Ok(([(header::CONTENT_TYPE, Format::Junit.media_type())], text))
}

/// The report as a page that stands alone. It can run nothing and fetch nothing.
#[utoipa::path(get, path = "/api/v1/runs/{run}/report.html", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "a whole page", body = String, content_type = "text/html"), Refusals))]
pub async fn html(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<impl IntoResponse, Problem> {
    let text = form(&service, &caller, run, Format::Html).await?;
    let policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, Format::Html.media_type()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers, text))
}

/// The report for a comment or a ticket.
#[utoipa::path(get, path = "/api/v1/runs/{run}/report.md", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "Markdown", body = String, content_type = "text/markdown"), Refusals))]
pub async fn markdown(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<impl IntoResponse, Problem> {
    let text = form(&service, &caller, run, Format::Markdown).await?;
    Ok(([(header::CONTENT_TYPE, Format::Markdown.media_type())], text))
}

async fn form(service: &Service, caller: &Caller, run: RunId, format: Format) -> Result<String, Problem> {
    caller.require(Role::Viewer)?;
    render(service, found(service, run).await?, move |source| report::render(format, source)).await
}

#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TextForm {
    /// With the terminal's codes for colours.
    #[serde(default)]
    #[param(default = false)]
    ansi: bool,
}

/// The report as a terminal shows it.
#[utoipa::path(get, path = "/api/v1/runs/{run}/report.txt", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid), TextForm),
    responses((status = 200, description = "at most 80 columns", body = String, content_type = "text/plain"), Refusals))]
pub async fn text(
    State(service): State<Arc<Service>>,
    caller: Caller,
    RunPath(run): RunPath,
    Query(form): Query<TextForm>,
) -> Result<String, Problem> {
    caller.require(Role::Viewer)?;
    let told = move |source: &Source<'_>| {
        let styled = human::render(source);
        Ok(if form.ansi { styled.ansi() } else { styled.plain() })
    };
    let text = render(&service, found(&service, run).await?, told).await?;
    Ok(text + &host::lines(&host::waiting(&service, run)))
}

/// Tells a run, away from the threads that answer.
///
/// # Errors
/// When the report can't be written.
pub async fn render(
    service: &Service,
    state: RunState,
    tell: impl FnOnce(&Source<'_>) -> Result<String, report::ReportError> + Send + 'static,
) -> Result<String, Problem> {
    let evidence = service.evidence.clone();
    let told = tokio::task::spawn_blocking(move || {
        let judgement = judge(&state);
        tell(&Source { run: &state, judgement: &judgement, evidence: &|sha256| evidence.get(sha256) })
    });
    told.await.map_err(Problem::fault)?.map_err(Problem::fault)
}
