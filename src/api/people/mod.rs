//! What people say to the gate: waivers, approvals, rejections. Who it is that says so is the token's to say, never the request's; what
//! counts is the gate's. What is refused is put on record.

pub mod approvals;
pub mod rejections;
mod schema;
pub mod waivers;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

pub use self::schema::{ActReport, Said};
use self::schema::{ReasonText, is_blank};
use super::decisions::board::Key;
use super::ledger::Answered;
use super::problem::Problem;
use super::schema::NameText;
use super::{Caller, Role, Service};
use crate::id::{Digest, Name};
use crate::verdict::gate::Decision;

/// The longest text that a person may give as a reason.
const LONGEST_TEXT: usize = 2000;
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

/// Which to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The `next` of the page before.
    #[param(value_type = Option<String>, format = Uuid)]
    cursor: Option<Uuid>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The id or digest of a patch in the lab's store.
    patch: Option<String>,
    #[param(value_type = Option<NameText>)]
    customer: Option<Name>,
}

impl Filter {
    async fn patch(&self, service: &Service) -> Result<Option<Digest>, Problem> {
        match &self.patch {
            Some(patch) => super::decisions::patch_of(service, patch).await.map(Some),
            None => Ok(None),
        }
    }

    /// A page of rows, the newest first, and the cursor of the next. Ids grow with time.
    fn page<T>(&self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Result<(Vec<T>, Option<Uuid>), Problem> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Problem::unreadable(format!("limit: expected 1 to {LARGEST_PAGE}, found {limit}")));
        }
        rows.sort_by_key(|row| std::cmp::Reverse(id(row)));
        rows.retain(|row| self.cursor.is_none_or(|cursor| id(row) < cursor));
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().map(id).filter(|_| more);
        Ok((rows, next))
    }
}

/// Why something is taken back.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    #[schema(value_type = ReasonText)]
    reason: String,
}

/// An empty object.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The record that a path names. Read after the body, so that the connection can be used on.
fn record(id: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(id).map_err(|_| Problem::not_found("no-such-record", format!("there is no record {id:?}")))
}

/// Whether the caller's role is enough. That it is not is put on record.
///
/// # Errors
/// When it is not, or the journal lets it down.
pub async fn allowed(service: &Service, caller: &Caller, role: Role, what: &str) -> Result<(), Problem> {
    let Err(problem) = caller.require(role) else { return Ok(()) };
    service.decisions.gate.note_refusal(what, caller.name.as_str(), problem.detail(), Timestamp::now()).await?;
    Err(problem)
}

fn not_asked_for(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-what-is-asked-for", detail)
}

/// Whether a reason is one: neither empty nor blank nor too long.
fn reason(text: &str) -> Result<(), Problem> {
    self::text("reason", text)?;
    match text.chars().all(is_blank) {
        true => Err(not_asked_for("reason: expected words, found nothing but blanks".to_owned())),
        false => Ok(()),
    }
}

fn text(field: &str, text: &str) -> Result<(), Problem> {
    match text.chars().count() {
        0..=LONGEST_TEXT => Ok(()),
        found => Err(not_asked_for(format!("{field}: expected at most {LONGEST_TEXT} characters, found {found}"))),
    }
}

async fn scope(service: &Service, patch: &str, customer: &Name) -> Result<Key, Problem> {
    Ok((super::decisions::patch_of(service, patch).await?, customer.clone()))
}

/// What is to be done for a request.
#[derive(Clone, Copy, Debug)]
struct Task {
    /// The id of the record that it makes.
    id: Uuid,
    /// Whether it may have been done before, by a server that ended before it could answer.
    again: bool,
}

/// Does something once: a request with a key that was answered before gets that answer again. One that was done and not answered gets
/// the answer of now.
async fn once(
    service: &Service,
    caller: &Caller,
    headers: &HeaderMap,
    request: &impl Serialize,
    act: impl AsyncFnOnce(Task) -> Result<(StatusCode, Value), Problem>,
) -> Result<Response, Problem> {
    let key = super::runs::idempotency_key(headers)?;
    let request = Digest::of_json(request);
    let _one_at_a_time = service.acting.lock().await;
    let mut task = Task { id: Uuid::now_v7(), again: false };
    let Some(key) = key else {
        let (status, value) = act(task).await?;
        return answer(status, value.to_string());
    };
    let used = |before: Digest| match before == request {
        true => Ok(()),
        false => Err(Problem::conflict("key-used", "this Idempotency-Key was sent with another request before")),
    };
    let ledger = &service.ledger;
    if let Some(before) = ledger.answered(&caller.name, &key).await? {
        used(before.request)?;
        return answer(StatusCode::from_u16(before.status).map_err(Problem::fault)?, before.body);
    }
    match ledger.promised(&caller.name, &key).await? {
        Some((before, id)) => {
            used(before)?;
            task = Task { id, again: true };
        }
        None => ledger.promise(&caller.name, &key, request, task.id, Timestamp::now()).await?,
    }
    let done = act(task).await;
    // What was refused was not done; where the lab let it down that is not known.
    if done.as_ref().is_err_and(|problem| !problem.status().is_server_error()) {
        ledger.take_back(&caller.name, &key).await?;
    }
    let (status, value) = done?;
    let body = value.to_string();
    let answered = Answered { request, status: status.as_u16(), body: body.clone() };
    ledger.remember(&caller.name, &key, &answered, Timestamp::now()).await?;
    answer(status, body)
}

fn answer(status: StatusCode, body: String) -> Result<Response, Problem> {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((status, [kind], body).into_response())
}

fn said(id: Uuid, decision: &Decision) -> Value {
    json!({ "id": id, "decision": decision })
}

/// Takes a record of this kind back; for whoever has this role.
async fn revoke(
    service: &Service,
    caller: &Caller,
    headers: &HeaderMap,
    id: &str,
    request: &RevokeRequest,
    (role, kind): (Role, &str),
) -> Result<Response, Problem> {
    allowed(service, caller, role, "revoke").await?;
    let id = record(id)?;
    reason(&request.reason)?;
    once(service, caller, headers, &("revoke", id, request), async |task| {
        service.decisions.gate.must_be(id, kind).await?;
        let decision = service.decisions.revoke(id, caller.name.as_str(), &request.reason, task.again).await?;
        Ok((StatusCode::OK, serde_json::to_value(decision).map_err(Problem::fault)?))
    })
    .await
}
