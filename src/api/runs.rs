//! Launching, listing, showing and calling off runs.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, MaybeJson, Query, RunPath, no_such_run};
use super::host;
use super::problem::{BodyRefusals, Conflicts, Problem, Refusals};
use super::reports::render;
use super::schema::{DigestText, LONGEST_KEY, NameText, RunKey, RunReport, RunText, TimeText};
use super::{Caller, Role, Service};
use crate::id::{Digest, Name, RunId};
use crate::journal::projection::RunFilter;
use crate::journal::{self, RunState};
use crate::lab::desk::queue::{CallOff, Standing, Wish};
use crate::lab::desk::{Desk, Planned, new_run};
use crate::lab::scheduler::choice::Lane;
use crate::plan::Request;
use crate::report::{self, Format};
use crate::verdict::Verdict;
use crate::verdict::judge::judge;

/// Rows of a page where nothing is said, and at the most.
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

/// What to validate. A list that is empty or left out means all; builds alone mean no environment, and the other way round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunRequest {
    /// The id or digest of a candidate in the lab's store.
    #[schema(min_length = 1, max_length = 100)]
    pub patch: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<NameText>)]
    pub customers: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<NameText>)]
    pub builds: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<NameText>)]
    pub environments: Vec<Name>,
    /// Patch levels of environments: `server`, `client+db`, `all`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<NameText>)]
    pub hardware: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<NameText>)]
    pub suites: Vec<Name>,
    /// Leave the machines of failed cells for a person to look at.
    #[serde(default)]
    pub keep_failed: bool,
    /// Boot every machine, whatever templates of it there are.
    #[serde(default)]
    pub cold: bool,
    /// Run every baseline, whichever of them earlier runs have seen.
    // Left out where it is not asked for: a key that came before there was this field is known by the body without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_baselines: bool,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Queued,
    Running,
    Ended,
}

impl Phase {
    pub fn of(state: &RunState, standing: &Standing) -> Self {
        Self::new(state.run, state.is_finished(), standing)
    }

    fn new(run: RunId, ended: bool, standing: &Standing) -> Self {
        match standing.running.contains(&run) {
            _ if ended => Self::Ended,
            true => Self::Running,
            false => Self::Queued,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

/// One run in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunRow {
    #[schema(value_type = RunText)]
    pub run: RunId,
    pub state: Phase,
    /// Of an ended run.
    #[schema(value_type = Option<VerdictText>)]
    pub verdict: Option<Verdict>,
    pub patch: PatchRow,
    pub plan: PlanRow,
    #[schema(value_type = Vec<NameText>)]
    pub customers: BTreeSet<Name>,
    /// Who asked for it.
    pub by: String,
    #[schema(value_type = TimeText)]
    pub planned: Timestamp,
    #[schema(value_type = Option<TimeText>)]
    pub ended: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PatchRow {
    #[schema(value_type = NameText)]
    pub id: Name,
    #[schema(value_type = DigestText)]
    pub sha256: Digest,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanRow {
    #[schema(value_type = DigestText)]
    pub digest: Digest,
    /// How many there are.
    pub cells: usize,
}

/// What observations mean.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum VerdictText {
    Pass,
    Fail,
    Inconclusive,
}

impl RunRow {
    pub fn of(state: &RunState, standing: &Standing) -> Self {
        Self {
            run: state.run,
            state: Phase::of(state, standing),
            verdict: state.is_finished().then(|| judge(state).verdict),
            patch: PatchRow { id: state.plan.patch.manifest.id.clone(), sha256: state.plan.patch.sha256 },
            plan: PlanRow { digest: state.plan_digest, cells: state.plan.cells.len() },
            customers: state.plan.cells.iter().map(|cell| cell.customer.clone()).collect(),
            by: state.by.clone(),
            planned: state.planned,
            ended: state.ended.map(|(at, _)| at),
        }
    }

    /// As the journal lists it.
    fn listed(row: journal::RunRow, standing: &Standing) -> Self {
        Self {
            run: row.run,
            state: Phase::new(row.run, row.ended.is_some(), standing),
            verdict: row.ended.map(|(_, verdict)| verdict),
            patch: PatchRow { id: row.patch_id, sha256: row.patch },
            plan: PlanRow { digest: row.plan_digest, cells: row.cells },
            customers: row.customers.into_iter().collect(),
            by: row.by,
            planned: row.planned,
            ended: row.ended.map(|(at, _)| at),
        }
    }
}

/// Runs, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunPage {
    pub runs: Vec<RunRow>,
    /// The `cursor` of the next page; null on the last.
    #[schema(value_type = Option<RunText>)]
    pub next: Option<RunId>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The `next` of the page before.
    #[param(value_type = Option<RunText>)]
    cursor: Option<RunId>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    #[param(inline)]
    state: Option<Phase>,
    #[param(value_type = Option<VerdictText>, inline)]
    verdict: Option<Verdict>,
    /// The id or digest of a patch.
    patch: Option<String>,
    #[param(value_type = Option<NameText>)]
    customer: Option<Name>,
    /// Who asked for it.
    by: Option<String>,
}

impl Filter {
    /// What the journal is asked for; `None` where nothing can fit.
    fn wanted(&self, standing: &Standing) -> Option<RunFilter> {
        let ended = match self.state {
            None => None,
            Some(Phase::Ended) => Some(true),
            Some(Phase::Queued) => Some(false),
            Some(Phase::Running) if standing.running.is_empty() => return None,
            Some(Phase::Running) => Some(false),
        };
        let (named, customer, by, verdict) = (self.patch.clone(), self.customer.clone(), self.by.clone(), self.verdict);
        Some(RunFilter { named, customer, by, ended, verdict, ..RunFilter::ALL })
    }
}

/// Launch a run.
///
/// Its cells share the host with those of other runs, as there is room. Where an unfinished run has the very same plan, it is the answer; or
/// a conflict, where that one is not done as it is asked for here (`keep-failed`, `cold`, `fresh-baselines`).
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs", request_body = RunRequest,
    params(RunKey),
    responses(
        (status = 202, description = "it waits", body = RunRow, headers(("Location" = String, description = "the run"))),
        BodyRefusals,
    ))]
pub async fn launch(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json(request): Json<RunRequest>,
) -> Result<impl IntoResponse, Problem> {
    caller.require(Role::Engineer)?;
    let key = idempotency_key(&headers)?;
    let state = begin(&service, &caller, &request, key.as_deref()).await?;
    Ok(accepted(&service, &state))
}

/// Begins the run that a request is for, or finds it.
///
/// # Errors
/// When there is no such patch, no plan can be made of it, the key was used with another request, or a run of the plan goes on otherwise.
pub async fn begin(service: &Arc<Service>, caller: &Caller, request: &RunRequest, key: Option<&str>) -> Result<RunState, Problem> {
    if *service.stopping().borrow() {
        let detail = "the server is stopping; ask again when it is back";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail).retry_after(10));
    }
    let body = Digest::of_json(request);
    let _one_at_a_time = service.beginning.lock().await;
    let mut promised = None;
    if let Some(key) = key
        && let Some((known, run)) = service.ledger.known(&caller.name, key).await?
    {
        if known != body {
            return Err(Problem::conflict("key-used", "this Idempotency-Key was sent with another request before"));
        }
        if let Some(state) = service.journal.state(run).await? {
            return Ok(state);
        }
        // The server ended between noting the key and beginning the run.
        promised = Some(run);
    }
    let (desk, wanted) = (service.desk.clone(), request.clone());
    let planned = tokio::task::spawn_blocking(move || {
        let store = desk.patches()?;
        let patch = store.get(&wanted.patch).map_err(|unknown| {
            let hint = "see what there is: patchlab patch list";
            Problem::not_found("no-such-patch", format!("{}; {hint}", unknown.problem))
        })?;
        store.verify(&patch).map_err(crate::lab::desk::DeskError::from)?;
        Ok::<_, Problem>(desk.plan(patch, &wanted.into())?)
    });
    let Planned { plan, catalog, .. } = planned.await.map_err(Problem::fault)??;
    let lane = Desk::lanes(&catalog, &plan).values().min().copied().unwrap_or(Lane::WHENEVER);
    let unfinished = service.desk.unfinished(&service.journal, &plan).await?;
    let now = Timestamp::now();
    let run = promised.or(unfinished.as_ref().map(|state| state.run)).unwrap_or_else(|| new_run(now));
    let wish = Wish { keep_failed: request.keep_failed, cold: request.cold, fresh_baselines: request.fresh_baselines };
    if promised.is_none() {
        // One that goes on is done as it was asked for first.
        let beyond = unfinished.as_ref().map(|_| wish.beyond(&service.queue.wish(run))).unwrap_or_default();
        if !beyond.is_empty() {
            let detail = format!(
                "run {run} of the same plan has not ended and is done without {}: call it off, wait for its end, or ask without that",
                beyond.join(" and ")
            );
            return Err(Problem::conflict("asked-otherwise", detail));
        }
        let noted = if unfinished.is_some() { Wish::default() } else { wish };
        service.ledger.note(run, noted, key.map(|key| (&caller.name, key, body)), now).await?;
    }
    if let Some(state) = unfinished.filter(|state| state.run == run) {
        return Ok(state);
    }
    service.desk.begin(&service.journal, (run, None), plan, caller.name.to_string(), now).await?;
    let state = found(service, run).await?;
    service.queue.push(run, lane, wish);
    service.refresh.notify_one();
    Ok(state)
}

impl From<RunRequest> for Request {
    fn from(request: RunRequest) -> Self {
        let RunRequest { customers, builds, environments, levels, hardware, suites, .. } = request;
        Self { customers, builds, environments, levels, hardware, suites }
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let good = |text: &str| (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
    let text = value.to_str().ok().filter(|text| good(text));
    let bad = || Problem::unreadable(format!("Idempotency-Key: expected 1 to {LONGEST_KEY} printable characters without spaces"));
    text.map(|text| Some(text.to_owned())).ok_or_else(bad)
}

fn accepted(service: &Service, state: &RunState) -> impl IntoResponse + use<> {
    let location = HeaderValue::from_str(&format!("/api/v1/runs/{}", state.run));
    let location = location.unwrap_or(HeaderValue::from_static("/api/v1/runs"));
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], axum::Json(RunRow::of(state, &service.queue.standing())))
}

pub(super) async fn found(service: &Service, run: RunId) -> Result<RunState, Problem> {
    service.journal.state(run).await?.ok_or_else(|| no_such_run(run))
}

/// List runs, the newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(Filter), responses(
    (status = 200, description = "a page of them", body = RunPage),
    Refusals,
))]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<RunPage>, Problem> {
    caller.require(Role::Viewer)?;
    page(&service, &filter).await.map(axum::Json)
}

/// A page of runs.
///
/// # Errors
/// When the filter can't be, or the journal can't be read.
pub async fn page(service: &Service, filter: &Filter) -> Result<RunPage, Problem> {
    let limit = filter.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::unreadable(format!("limit: expected 1 to {LARGEST_PAGE}, found {limit}")));
    }
    let before = match filter.cursor {
        None => None,
        Some(cursor) => {
            let row = service.journal.page(&RunFilter { run: Some(cursor), ..RunFilter::ALL }, None, 1).await?;
            Some(row.first().ok_or_else(|| no_such_run(cursor))?.seq)
        }
    };
    let standing = service.queue.standing();
    let Some(wanted) = filter.wanted(&standing) else { return Ok(RunPage { runs: Vec::new(), next: None }) };
    let rows = if filter.state == Some(Phase::Running) {
        let mut rows = Vec::new();
        for run in &standing.running {
            rows.extend(service.journal.page(&RunFilter { run: Some(*run), ..wanted.clone() }, before, 1).await?);
        }
        rows.sort_by_key(|row| Reverse(row.seq));
        rows
    } else {
        // One more says whether there is a next page; those that run are no queued ones.
        let running = u32::try_from(standing.running.len()).unwrap_or(u32::MAX);
        service.journal.page(&wanted, before, limit.saturating_add(1).saturating_add(running)).await?
    };
    let rows = rows.into_iter().map(|row| RunRow::listed(row, &standing));
    let mut runs: Vec<_> = rows.filter(|row| filter.state.is_none_or(|state| row.state == state)).collect();
    let more = runs.len() > limit as usize;
    runs.truncate(limit as usize);
    let next = runs.last().map(|row| row.run).filter(|_| more);
    Ok(RunPage { runs, next })
}

/// A run's report (`patchlab.run/v1`), as far as it has come, with its `state`.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "what is known of it", body = RunReport), Refusals))]
pub async fn show(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<impl IntoResponse, Problem> {
    caller.require(Role::Viewer)?;
    let state = found(&service, run).await?;
    let phase = Phase::of(&state, &service.queue.standing());
    let text = render(&service, state, |source| report::render(Format::Json, source)).await?;
    let mut value: serde_json::Value = serde_json::from_str(&text).map_err(Problem::fault)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("state".to_owned(), phase.as_str().into());
        fields.insert("waiting".to_owned(), serde_json::to_value(host::waiting(&service, run)).map_err(Problem::fault)?);
    }
    Ok(axum::Json(value))
}

#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why; the reports say it.
    #[schema(max_length = 300)]
    reason: Option<String>,
}

/// Call a run off.
///
/// Cells under way are given up and their machines removed; the run ends without them. Calling off what is being called off changes nothing.
#[utoipa::path(post, path = "/api/v1/runs/{run}/cancel", tag = "runs", request_body(content = Option<CancelRequest>),
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 202, description = "it ends", body = RunRow), BodyRefusals))]
pub async fn cancel(
    State(service): State<Arc<Service>>,
    caller: Caller,
    RunPath(run): RunPath,
    MaybeJson(request): MaybeJson<CancelRequest>,
) -> Result<impl IntoResponse, Problem> {
    caller.require(Role::Engineer)?;
    let reason = request.reason.unwrap_or_else(|| "it is not wanted any more".to_owned());
    if reason.chars().count() > 300 {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-what-is-asked-for", "reason: at most 300 characters"));
    }
    found(&service, run).await?;
    match service.queue.call_off(run, caller.name.as_str(), &reason).await? {
        CallOff::TooLate => Err(Problem::conflict("run-ended", format!("run {run} has ended already"))),
        CallOff::Ended | CallOff::UnderWay => Ok(accepted(&service, &found(&service, run).await?)),
    }
}

/// What was let go.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Released {
    #[schema(value_type = RunText)]
    pub run: RunId,
    /// The machines' names.
    pub released: Vec<String>,
}

/// Let the machines go that a run keeps.
///
/// They are removed, with everything on them. Where none is kept any more nothing is done.
#[utoipa::path(post, path = "/api/v1/runs/{run}/release", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid)),
    responses((status = 200, description = "they are gone", body = Released), Conflicts))]
pub async fn release(State(service): State<Arc<Service>>, caller: Caller, RunPath(run): RunPath) -> Result<axum::Json<Released>, Problem> {
    caller.require(Role::Engineer)?;
    found(&service, run).await?;
    let released = service.queue.release(run, caller.name.as_str()).await?;
    Ok(axum::Json(Released { run, released }))
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
