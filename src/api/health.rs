//! For those who operate the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::metrics::{Form, GateStanding};
use super::problem::{Limits, Problem, Refusals};
use super::{Caller, Role, Service};
use crate::journal::outbox::Piles;

/// The routes that need no token, and their description.
pub fn free() -> (Router<Arc<Service>>, utoipa::openapi::OpenApi) {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready)).split_for_parts()
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()), responses(
    (status = 200, description = "it does", body = String, content_type = "text/plain"),
    Limits,
))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Whether runs are taken and worked on.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()), responses(
    (status = 200, description = "they are", body = String, content_type = "text/plain"),
    (status = 503, description = "the server is stopping, or the lab can't work at the moment", body = Problem,
        content_type = "application/problem+json"),
    Limits,
))]
pub async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    let not_ready = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail).retry_after(10);
    if *service.stopping().borrow() {
        return Err(not_ready("the server is stopping"));
    }
    if service.queue.standing().trouble.is_some() {
        return Err(not_ready("the lab can't work at the moment; its log says why"));
    }
    Ok("ready\n")
}

/// Counters and gauges for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "as `Accept` asks: in the OpenMetrics text form, else in the older one of Prometheus", content(
        (String = "text/plain"), (String = "application/openmetrics-text"),
    )),
    Refusals,
))]
pub async fn metrics(State(service): State<Arc<Service>>, caller: Caller, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    caller.require(Role::Viewer)?;
    let board = &service.decisions;
    board.sync().await?;
    let counted = |count: &AtomicU64| count.load(Ordering::Relaxed);
    // A webhook that has nothing waiting is told of too.
    let mut piles: BTreeMap<String, Piles> = service.webhooks.iter().map(|webhook| (webhook.name.to_string(), Piles::default())).collect();
    piles.extend(service.journal.piles().await?);
    let gate = GateStanding {
        statuses: board.statuses(Timestamp::now()),
        answers: (counted(&board.counts.remembered), counted(&board.counts.decided)),
        sound: board.grounds.generation().is_some(),
        piles,
    };
    let accepted: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let form = Form::accepted(&accepted.join(","));
    let text = service.metrics.render(form, &service.queue.standing(), gate);
    Ok(([(header::CONTENT_TYPE, form.media_type()), (header::VARY, "accept")], text))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"),
    Refusals,
))]
pub async fn document(caller: Caller) -> Result<axum::Json<utoipa::openapi::OpenApi>, Problem> {
    caller.require(Role::Viewer)?;
    Ok(axum::Json(super::document()))
}
