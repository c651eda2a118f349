//! What is answered when something can't be done: `application/problem+json` (RFC 9457).

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::journal::JournalError;
use crate::lab::desk::DeskError;

pub const MEDIA_TYPE: &str = "application/problem+json";

/// Characters of a detail.
const LONGEST: usize = 4000;

/// What went wrong. `type` is stable and for programs; `detail` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// For example `urn:patchlab:problem:no-such-run`.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    /// Seconds until it makes sense to ask again.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:patchlab:problem:{code}"),
            title: code.replace('-', " "),
            status: status.as_u16(),
            detail: cut(detail.into()),
            retry_after: None,
        }
    }

    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The same after something that was done all the same.
    pub fn but(self, done: &str) -> Self {
        Self { detail: format!("{done}: {}", self.detail), ..self }
    }

    /// The same in other words.
    pub fn instead(self, detail: &str) -> Self {
        Self { detail: detail.to_owned(), ..self }
    }

    /// A header, query, path or body that can't be read.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable", detail)
    }

    pub fn no_token(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "no-token", detail)
    }

    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-allowed", detail)
    }

    pub fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// What is asked for does not go with how things stand.
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// The lab let the request down. What exactly goes to the log, not to the caller.
    pub fn fault(error: impl std::fmt::Display) -> Self {
        let error = error.to_string();
        tracing::error!(error, "a request failed");
        let line = error.lines().next().unwrap_or_default();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", format!("the lab let the request down: {line}"))
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        Self::fault(error)
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        if error.is_fault() { Self::fault(error) } else { Self::conflict("not-possible", error.to_string()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A text of at most [`LONGEST`] characters. Much that is asked for wrongly would else be answered with much more.
fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

fn documented(problems: &[(u16, &str)]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let content = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = |told: &str| ResponseBuilder::new().description(told).content(MEDIA_TYPE, content()).build();
    problems.iter().map(|(status, told)| (status.to_string(), RefOr::T(response(told)))).collect()
}

/// What any route may answer, whoever asks.
pub struct Limits;

impl IntoResponses for Limits {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut all = documented(&[
            (413, "the request announces a body that is too large"),
            (429, "too many connections at once came from this address; see `Retry-After`"),
        ]);
        let bare = ResponseBuilder::new().description("the head of the request is too large; without a body").build();
        all.insert("431".to_owned(), RefOr::T(bare));
        all
    }
}

/// What any route that wants a token may answer.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut all = Limits::responses();
        all.extend(documented(&[
            (400, "a header, the query or the path can't be read"),
            (401, "there is no token, or one that is unknown, revoked or expired"),
            (403, "the token's role may not do this"),
            (404, "there is no such thing"),
            (408, "the request took too long to arrive"),
            (413, "the request is too large"),
            (429, "too many bad tokens, or connections at once, came from this address; see `Retry-After`"),
            (500, "the lab let the request down"),
            (503, "the server is stopping or can't work at the moment; see `Retry-After`"),
        ]));
        all
    }
}

/// What a route may answer besides where it can't be said as things stand.
pub struct Conflicts;

impl IntoResponses for Conflicts {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut all = Refusals::responses();
        all.extend(documented(&[(409, "what is asked for does not go with how things stand")]));
        all
    }
}

/// What a route that takes a body may answer besides.
pub struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut all = Refusals::responses();
        all.extend(documented(&[
            (409, "what is asked for does not go with how things stand"),
            (415, "the body is of another media type"),
            (422, "the body is JSON, but not what is asked for here"),
        ]));
        all
    }
}
