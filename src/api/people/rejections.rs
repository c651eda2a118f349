//! Rejections: a person's word against a patch. It stands, whatever the results, until it is taken back.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ActReport, Filter, ReasonText, RevokeRequest, Said, allowed, once, reason, said, scope};
use crate::api::decisions::DecisionReport;
use crate::api::extract::{Json, Query, TextPath};
use crate::api::problem::{BodyRefusals, Conflicts, Problem};
use crate::api::schema::{DigestText, NameText, TimeText, WordKey};
use crate::api::{Caller, Role, Service};
use crate::id::{Digest, Name};
use crate::verdict::gate::RejectionRecord;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectionRequest {
    /// The id or digest of a candidate in the lab's store.
    #[schema(min_length = 1, max_length = 100)]
    patch: String,
    #[schema(value_type = NameText)]
    customer: Name,
    #[schema(value_type = ReasonText)]
    reason: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RejectionReport {
    pub id: Uuid,
    /// The patch's digest.
    #[schema(value_type = DigestText)]
    pub patch: Digest,
    #[schema(value_type = NameText)]
    pub customer: Name,
    pub by: String,
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    pub reason: String,
    pub revoked: Option<ActReport>,
}

impl From<RejectionRecord> for RejectionReport {
    fn from(RejectionRecord { id, rejection, at, revoked }: RejectionRecord) -> Self {
        let crate::verdict::gate::Rejection { patch, customer, by, reason } = rejection;
        Self { id, patch, customer, by, at, reason, revoked: revoked.map(Into::into) }
    }
}

/// Rejections, the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RejectionPage {
    pub rejections: Vec<RejectionReport>,
    /// The `cursor` of the next page; null on the last.
    pub next: Option<Uuid>,
}

/// List rejections, also those that were taken back.
#[utoipa::path(get, path = "/api/v1/rejections", tag = "people", params(Filter), responses(
    (status = 200, description = "a page of them", body = RejectionPage),
    Conflicts,
))]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<RejectionPage>, Problem> {
    caller.require(Role::Viewer)?;
    let patch = filter.patch(&service).await?;
    let records = service.decisions.gate.rejections(patch, filter.customer.as_ref()).await?;
    let (records, next) = filter.page(records, |record| record.id)?;
    Ok(axum::Json(RejectionPage { rejections: records.into_iter().map(Into::into).collect(), next }))
}

/// Reject a patch for a customer, whatever its results are or will be.
#[utoipa::path(post, path = "/api/v1/rejections", tag = "people", request_body = RejectionRequest,
    params(WordKey),
    responses((status = 201, description = "it is on record", body = Said), BodyRefusals))]
pub async fn reject(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json(request): Json<RejectionRequest>,
) -> Result<Response, Problem> {
    allowed(&service, &caller, Role::Approver, "reject").await?;
    reason(&request.reason)?;
    once(&service, &caller, &headers, &("rejections", &request), async |task| {
        let key = scope(&service, &request.patch, &request.customer).await?;
        let by = caller.name.as_str();
        let decision = service.decisions.reject(task.id, &key, by, &request.reason).await?;
        Ok((StatusCode::CREATED, said(task.id, &decision)))
    })
    .await
}

/// Take a rejection back.
#[utoipa::path(post, path = "/api/v1/rejections/{id}/revoke", tag = "people", request_body = RevokeRequest,
    params(("id" = Uuid, Path, description = "the rejection's id"), WordKey),
    responses((status = 200, description = "the decision that came of it", body = DecisionReport), BodyRefusals))]
pub async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    TextPath(id): TextPath,
    headers: HeaderMap,
    Json(request): Json<RevokeRequest>,
) -> Result<Response, Problem> {
    super::revoke(&service, &caller, &headers, &id, &request, (Role::Approver, "rejected")).await
}
