//! Waivers: findings that people take upon themselves, two of them and for a time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ActReport, Filter, Nothing, ReasonText, RevokeRequest, allowed, once, reason, record, scope};
use crate::api::decisions::DecisionReport;
use crate::api::extract::{Json, MaybeJson, Query, TextPath};
use crate::api::problem::{BodyRefusals, Conflicts, Problem};
use crate::api::schema::{BareKey, DigestText, NameText, TimeText, WordKey};
use crate::api::{Caller, Role, Service};
use crate::id::{Digest, Name};
use crate::lab::gate::WaiverView;
use crate::verdict::gate::Waiver;

/// What is to be waived, as the decision names it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverRequest {
    /// The id or digest of a candidate in the lab's store.
    #[schema(min_length = 1, max_length = 100)]
    patch: String,
    #[schema(value_type = NameText)]
    customer: Name,
    /// The finding's `case`, or its `code` where it has none.
    #[schema(min_length = 1, max_length = 300)]
    case: String,
    /// On this hardware profile; on all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    hardware: Option<Name>,
    #[schema(value_type = DigestText)]
    fingerprint: Digest,
    /// From this moment on it counts no more; with a zone.
    #[schema(value_type = TimeText)]
    expires: Timestamp,
    #[schema(value_type = ReasonText)]
    reason: String,
}

/// A waiver, what was done about it, and whether it counts.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WaiverReport {
    pub id: Uuid,
    /// The patch's digest.
    #[schema(value_type = DigestText)]
    pub patch: Digest,
    #[schema(value_type = NameText)]
    pub customer: Name,
    pub case: String,
    #[schema(value_type = Option<NameText>)]
    pub hardware: Option<Name>,
    #[schema(value_type = DigestText)]
    pub fingerprint: Digest,
    #[schema(value_type = TimeText)]
    pub expires: Timestamp,
    pub reason: String,
    pub proposed: ActReport,
    /// Another person's consent; without it the waiver does not count.
    pub consented: Option<ActReport>,
    pub revoked: Option<ActReport>,
    pub counts: bool,
    /// Why it does not count.
    pub why_not: Option<String>,
}

impl From<WaiverView> for WaiverReport {
    fn from(WaiverView { record, void }: WaiverView) -> Self {
        let Waiver { patch, customer, case, hardware, fingerprint, expires, reason } = record.waiver;
        Self {
            id: record.id,
            patch,
            customer,
            case,
            hardware,
            fingerprint,
            expires,
            reason,
            proposed: record.proposed.into(),
            consented: record.consented.map(Into::into),
            revoked: record.revoked.map(Into::into),
            counts: void.is_none(),
            why_not: void.map(str::to_owned),
        }
    }
}

/// Waivers, the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WaiverPage {
    pub waivers: Vec<WaiverReport>,
    /// The `cursor` of the next page; null on the last.
    pub next: Option<Uuid>,
}

/// List waivers, also those that do not count.
#[utoipa::path(get, path = "/api/v1/waivers", tag = "people", params(Filter), responses(
    (status = 200, description = "a page of them", body = WaiverPage),
    Conflicts,
))]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<WaiverPage>, Problem> {
    caller.require(Role::Viewer)?;
    let patch = filter.patch(&service).await?;
    let views = service.decisions.gate.waivers(patch, filter.customer.as_ref(), Timestamp::now()).await?;
    let (views, next) = filter.page(views, |view| view.record.id)?;
    Ok(axum::Json(WaiverPage { waivers: views.into_iter().map(Into::into).collect(), next }))
}

/// Propose to waive a finding. It counts once another person consents.
#[utoipa::path(post, path = "/api/v1/waivers", tag = "people", request_body = WaiverRequest,
    params(WordKey),
    responses((status = 201, description = "it is proposed", body = WaiverReport), BodyRefusals))]
pub async fn propose(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json(request): Json<WaiverRequest>,
) -> Result<Response, Problem> {
    allowed(&service, &caller, Role::Engineer, "waive").await?;
    reason(&request.reason)?;
    once(&service, &caller, &headers, &("waivers", &request), async |task| {
        let (patch, customer) = scope(&service, &request.patch, &request.customer).await?;
        let WaiverRequest { case, hardware, fingerprint, expires, reason, .. } = request.clone();
        let waiver = Waiver { patch, customer: customer.clone(), case, hardware, fingerprint, expires, reason };
        let record = service.decisions.propose(task.id, waiver, caller.name.as_str()).await?;
        let views = service.decisions.gate.waivers(Some(patch), Some(&customer), Timestamp::now()).await?;
        let view = views.into_iter().find(|view| view.record.id == record.id);
        let view = view.ok_or_else(|| Problem::fault("the waiver that was just proposed is not on record"))?;
        Ok((StatusCode::CREATED, serde_json::to_value(WaiverReport::from(view)).map_err(Problem::fault)?))
    })
    .await
}

/// Consent to a waiver that somebody else has proposed.
#[utoipa::path(post, path = "/api/v1/waivers/{id}/consent", tag = "people", request_body(content = Option<Nothing>),
    params(("id" = Uuid, Path, description = "the waiver's id"), BareKey),
    responses((status = 200, description = "the decision that came of it", body = DecisionReport), BodyRefusals))]
pub async fn consent(
    State(service): State<Arc<Service>>,
    caller: Caller,
    TextPath(id): TextPath,
    headers: HeaderMap,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Response, Problem> {
    allowed(&service, &caller, Role::Approver, "consent").await?;
    let id = record(&id)?;
    once(&service, &caller, &headers, &("consent", id), async |task| {
        service.decisions.gate.must_be(id, "waiver-proposed").await?;
        let decision = service.decisions.consent(id, caller.name.as_str(), task.again).await?;
        Ok((StatusCode::OK, serde_json::to_value(decision).map_err(Problem::fault)?))
    })
    .await
}

/// Take a waiver back.
#[utoipa::path(post, path = "/api/v1/waivers/{id}/revoke", tag = "people", request_body = RevokeRequest,
    params(("id" = Uuid, Path, description = "the waiver's id"), WordKey),
    responses((status = 200, description = "the decision that came of it", body = DecisionReport), BodyRefusals))]
pub async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    TextPath(id): TextPath,
    headers: HeaderMap,
    Json(request): Json<RevokeRequest>,
) -> Result<Response, Problem> {
    super::revoke(&service, &caller, &headers, &id, &request, (Role::Engineer, "waiver-proposed")).await
}
