//! Approvals: a person's word for a patch, given for one revision of its decision.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ActReport, Filter, RevokeRequest, Said, allowed, once, said, scope, text};
use crate::api::decisions::DecisionReport;
use crate::api::extract::{Json, Query, TextPath, whole};
use crate::api::problem::{BodyRefusals, Conflicts, Problem};
use crate::api::schema::{DigestText, NameText, TimeText, WordKey};
use crate::api::{Caller, Role, Service};
use crate::id::{Digest, Name};
use crate::lab::gate::{ApprovalView, Yes};

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// The id or digest of a candidate in the lab's store.
    #[schema(min_length = 1, max_length = 100)]
    patch: String,
    #[schema(value_type = NameText)]
    customer: Name,
    /// The revision that the person saw. Where it is another now, the approval is refused.
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole")]
    revision: u32,
    #[serde(default)]
    #[schema(max_length = 2000)]
    comment: String,
}

/// An approval, and whether it holds for what the decision rests on now.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ApprovalReport {
    pub id: Uuid,
    /// The patch's digest.
    #[schema(value_type = DigestText)]
    pub patch: Digest,
    #[schema(value_type = NameText)]
    pub customer: Name,
    pub revision: u32,
    pub role: Role,
    pub by: String,
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    pub comment: String,
    pub revoked: Option<ActReport>,
    pub holds: bool,
}

impl From<ApprovalView> for ApprovalReport {
    fn from(ApprovalView { record, holds }: ApprovalView) -> Self {
        let approval = record.approval;
        Self {
            id: record.id,
            patch: approval.patch,
            customer: approval.customer,
            revision: approval.revision,
            role: approval.role,
            by: approval.by,
            at: record.at,
            comment: approval.comment,
            revoked: record.revoked.map(Into::into),
            holds,
        }
    }
}

/// Approvals, the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApprovalPage {
    pub approvals: Vec<ApprovalReport>,
    /// The `cursor` of the next page; null on the last.
    pub next: Option<Uuid>,
}

/// List approvals, also those that hold no more.
#[utoipa::path(get, path = "/api/v1/approvals", tag = "people", params(Filter), responses(
    (status = 200, description = "a page of them", body = ApprovalPage),
    Conflicts,
))]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<ApprovalPage>, Problem> {
    caller.require(Role::Viewer)?;
    let patch = filter.patch(&service).await?;
    let views = service.decisions.gate.approvals(patch, filter.customer.as_ref()).await?;
    let (views, next) = filter.page(views, |view| view.record.id)?;
    Ok(axum::Json(ApprovalPage { approvals: views.into_iter().map(Into::into).collect(), next }))
}

/// Approve a revision of a decision.
///
/// The approval counts for the role that the token has. Who launched the runs that the decision rests on can't approve it, unless the
/// policy says so.
#[utoipa::path(post, path = "/api/v1/approvals", tag = "people", request_body = ApprovalRequest,
    params(WordKey),
    responses((status = 201, description = "it is on record", body = Said), BodyRefusals))]
pub async fn approve(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json(request): Json<ApprovalRequest>,
) -> Result<Response, Problem> {
    allowed(&service, &caller, Role::Approver, "approve").await?;
    text("comment", &request.comment)?;
    once(&service, &caller, &headers, &("approvals", &request), async |task| {
        let key = scope(&service, &request.patch, &request.customer).await?;
        let by = caller.name.as_str();
        let yes = Yes { revision: Some(request.revision), role: caller.role, by, comment: &request.comment };
        let decision = service.decisions.approve(task.id, &key, &yes).await?;
        Ok((StatusCode::CREATED, said(task.id, &decision)))
    })
    .await
}

/// Take an approval back.
#[utoipa::path(post, path = "/api/v1/approvals/{id}/revoke", tag = "people", request_body = RevokeRequest,
    params(("id" = Uuid, Path, description = "the approval's id"), WordKey),
    responses((status = 200, description = "the decision that came of it", body = DecisionReport), BodyRefusals))]
pub async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    TextPath(id): TextPath,
    headers: HeaderMap,
    Json(request): Json<RevokeRequest>,
) -> Result<Response, Problem> {
    super::revoke(&service, &caller, &headers, &id, &request, (Role::Approver, "approved")).await
}
