//! Decisions: what the gate says, for pipelines that poll.
//!
//! ```text
//! request -> poll: plain, remembered, nothing written since -> answer, or 304
//!   |                    (no routing, no word to the database)
//!   v
//! routes -> Board::current -> Gate::require, Gate::stand -> journal
//! ```

mod acts;
mod answer;
pub mod board;
mod ground;
mod keeper;
pub mod poll;
mod row;
mod schema;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use self::answer::Answer;
use self::board::Key;
pub use self::row::Row;
pub use self::schema::{DecisionReport, ReasonText, StatusText};
use super::events::MOST_ENTRIES;
use super::extract::{Query, TextPath};
use super::problem::{Conflicts, Problem, Refusals};
use super::schema::{NameText, TimeText};
use super::{Caller, Role, Service};
use crate::catalog::text::Span;
use crate::id::{Digest, Name};
use crate::lab::gate::GateError;
use crate::verdict::gate::{Status, Unfit};

/// The longest that an answer is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Requests that wait at once; a further one is answered as it stands.
pub const MOST_WAITING: usize = 256;
/// Headers of an answer that is final, with those that every answer gets: for one more, twice the room is needed.
const HEADERS: usize = 6;
/// When to ask again while nothing is decided.
const RETRY: u64 = 5;
/// Rows of a page where nothing is said, and at the most.
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

impl From<GateError> for Problem {
    fn from(error: GateError) -> Self {
        let told = error.to_string();
        match error {
            GateError::NoCustomer { .. } => Self::not_found("no-such-customer", told),
            GateError::NoPolicy { .. } => Self::conflict("no-policy", told),
            GateError::NoPlan(_) => Self::conflict("no-plan", told),
            GateError::NotAsked { .. } => Self::not_found("not-asked", told),
            GateError::Unfit(Unfit::OwnRun { .. }) => Self::conflict("own-run", told),
            GateError::Unfit(Unfit::OwnWaiver { .. }) => Self::conflict("own-waiver", told),
            GateError::Refused(_) | GateError::Unfit(_) => Self::conflict("refused", told),
            GateError::Moved { .. } => Self::conflict("superseded-revision", told),
            GateError::Unknown(_) => Self::not_found("no-such-record", told),
            GateError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", told).retry_after(1),
            GateError::Journal(error) => error.into(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    #[param(value_type = NameText)]
    customer: Name,
    /// Wait for a change, at most so long, for example `30s`. More than `60s` is `60s`.
    #[param(value_type = Option<String>, pattern = r"^[0-9]{1,3}(ms|s|m)$", example = "30s")]
    wait: Option<Span>,
    /// The decision as it was at this moment.
    #[param(value_type = Option<TimeText>)]
    #[serde(alias = "as-of")]
    as_of: Option<Timestamp>,
}

/// May this patch go to this customer?
///
/// Go on only where `status` is `approved` or `approved-with-waivers`. With `wait` the answer comes when it differs from that of
/// `If-None-Match`, or, without that header, when it is no longer the pending one that it was; else when the time is over.
#[utoipa::path(get, path = "/api/v1/decisions/{patch}", tag = "decisions",
    params(
        ("patch" = String, Path, description = "the id, digest, or unique start of the digest of a candidate in the lab's store"),
        Asked,
        ("If-None-Match" = Option<String>, Header, description = "the `ETag` of an earlier answer"),
    ),
    responses(
        (status = 200, description = "the decision; see `Retry-After` while it is pending", body = DecisionReport,
            headers(("ETag" = String, description = "strong: the same for the same decision, whenever it is asked for"))),
        (status = 304, description = "it is still what `If-None-Match` names"),
        Conflicts,
    ))]
pub async fn show(
    State(service): State<Arc<Service>>,
    caller: Caller,
    TextPath(patch): TextPath,
    Query(asked): Query<Asked>,
    Known(known): Known,
) -> Result<Response, Problem> {
    caller.require(Role::Viewer)?;
    if let Some(as_of) = asked.as_of {
        return Box::pin(replayed(&service, &patch, &asked.customer, as_of)).await;
    }
    let key: Key = (patch_of(&service, &patch).await?, asked.customer);
    match asked.wait {
        None => Ok(respond(&*service.decisions.current(&key, caller.name.as_str()).await?, &known)),
        // Apart, as what takes long needs much room.
        Some(wait) => Box::pin(awaited(&service, &caller, &key, wait.0, &known)).await,
    }
}

async fn replayed(service: &Service, patch: &str, customer: &Name, as_of: Timestamp) -> Result<Response, Problem> {
    let patch = patch_of(service, patch).await?;
    let decision = service.decisions.gate.replay(patch, customer, as_of).await?;
    Ok(axum::Json(decision).into_response())
}

/// The decision once it is another than the one that is known, or after so long.
async fn awaited(service: &Service, caller: &Caller, key: &Key, wait: Duration, known: &[String]) -> Result<Response, Problem> {
    let board = &service.decisions;
    let mut changes = board.changes();
    changes.mark_unchanged();
    let mut answer = board.current(key, caller.name.as_str()).await?;
    let Ok(_place) = service.waiting.try_acquire() else { return Ok(respond(&answer, known)) };
    let first = answer.tag.clone();
    let waits = |answer: &Answer| match known.is_empty() {
        true => answer.status == Status::Pending && answer.tag == first,
        false => is_known(answer, known),
    };
    let end = Instant::now() + wait.min(LONGEST_WAIT);
    let mut stopping = service.stopping();
    while waits(&answer) && !*stopping.borrow() {
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(end) => break,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
        service.still(caller)?;
        answer = board.current(key, caller.name.as_str()).await?;
    }
    Ok(respond(&answer, known))
}

/// A digest needs no look into the store: it is looked into when the decision is made.
pub(super) async fn patch_of(service: &Service, text: &str) -> Result<Digest, Problem> {
    match text.parse() {
        Ok(digest) => Ok(digest),
        Err(_) => service.decisions.candidates.find(text).await,
    }
}

/// The tags of `If-None-Match`; none where the header is not there or can't be read, so that everything is sent.
pub struct Known(Vec<String>);

impl<S: Send + Sync> FromRequestParts<S> for Known {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(known(&parts.headers)))
    }
}

fn known(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/").to_owned());
    tags.filter(|tag| !tag.is_empty()).collect()
}

fn is_known(answer: &Answer, known: &[String]) -> bool {
    known.iter().any(|tag| tag == "*" || tag.as_bytes() == answer.tag.as_bytes())
}

fn respond(answer: &Answer, known: &[String]) -> Response {
    let unchanged = is_known(answer, known);
    let body = if unchanged { Body::empty() } else { Body::from(answer.body.clone()) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::ETAG, answer.tag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if answer.status == Status::Pending {
        headers.insert(header::RETRY_AFTER, RETRY.into());
    }
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// A decision in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionRow {
    #[schema(value_type = super::runs::PatchRow)]
    pub patch: super::runs::PatchRow,
    #[schema(value_type = NameText)]
    pub customer: Name,
    #[schema(value_type = StatusText)]
    pub status: Status,
    pub revision: u32,
    #[serde(rename = "final")]
    pub is_final: bool,
    /// One line for people.
    pub summary: String,
    /// Since when it says so.
    #[schema(value_type = TimeText)]
    pub as_of: Timestamp,
    /// Until when it holds if nothing happens.
    #[schema(value_type = Option<TimeText>)]
    pub until: Option<Timestamp>,
    #[schema(value_type = Option<TimeText>)]
    pub deadline: Option<Timestamp>,
    #[schema(value_type = Option<NameText>)]
    pub lane: Option<Name>,
    pub simulated: bool,
}

impl DecisionRow {
    fn of(row: Row) -> Self {
        Self {
            patch: super::runs::PatchRow { id: row.id, sha256: row.sha256 },
            customer: row.customer,
            status: row.status,
            revision: row.revision,
            is_final: row.is_final,
            summary: row.summary.into(),
            as_of: row.as_of,
            until: row.until,
            deadline: row.deadline,
            lane: row.lane,
            simulated: row.simulated,
        }
    }
}

/// Decisions, that which changed last first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DecisionPage {
    pub decisions: Vec<DecisionRow>,
    /// The `cursor` of the next page; null on the last.
    pub next: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The `next` of the page before.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991u64)]
    cursor: Option<u64>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    #[param(value_type = Option<NameText>)]
    customer: Option<Name>,
    #[param(value_type = Option<StatusText>, inline)]
    status: Option<Status>,
    /// The id or digest of a patch.
    patch: Option<String>,
}

/// List the decisions that the gate was asked for, as they are on record.
///
/// Before anything goes anywhere, ask for the decision itself.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "decisions", params(Filter), responses(
    (status = 200, description = "a page of them", body = DecisionPage),
    Refusals,
))]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<DecisionPage>, Problem> {
    caller.require(Role::Viewer)?;
    let limit = filter.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::unreadable(format!("limit: expected 1 to {LARGEST_PAGE}, found {limit}")));
    }
    if let Some(cursor) = filter.cursor.filter(|cursor| *cursor > MOST_ENTRIES) {
        return Err(Problem::unreadable(format!("cursor: expected at most {MOST_ENTRIES}, found {cursor}")));
    }
    service.decisions.sync().await?;
    let now = Timestamp::now();
    let mut rows = service.decisions.rows(now, |row| {
        filter.cursor.is_none_or(|cursor| row.seq < cursor)
            && filter.customer.as_ref().is_none_or(|wanted| *wanted == row.customer)
            && filter.status.is_none_or(|status| status == row.status_at(now))
            && filter.patch.as_ref().is_none_or(|patch| row.id.as_str() == patch || row.sha256.to_string() == *patch)
    });
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().map(|row| row.seq).filter(|_| more);
    Ok(axum::Json(DecisionPage { decisions: rows.into_iter().map(DecisionRow::of).collect(), next }))
}
