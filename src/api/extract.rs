//! What handlers take from requests. Whatever can't be read is a [`Problem`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::problem::Problem;
use crate::id::RunId;

/// The largest body that is read.
pub const LARGEST_BODY: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(15);

/// A JSON body.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let json = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| is_json(kind.to_str().unwrap_or_default()));
        if !json {
            let detail = "expected the header `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", detail));
        }
        read(&bytes(request).await?).map(Self)
    }
}

/// A JSON body that may be left out.
pub struct MaybeJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            let Json(value) = Json::<Option<T>>::from_request(request, state).await?;
            return Ok(Self(value.unwrap_or_default()));
        }
        if bytes(request).await?.is_empty() {
            return Ok(Self(T::default()));
        }
        let detail = "a body needs the header `Content-Type: application/json`";
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", detail))
    }
}

fn is_json(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The body, within its size and its time.
///
/// # Errors
/// When it is too large, too slow or does not arrive whole.
pub async fn bytes(request: Request) -> Result<Vec<u8>, Problem> {
    tokio::time::timeout(BODY_DEADLINE, collect(request.into_body())).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} s", BODY_DEADLINE.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail))
    })
}

async fn collect(mut body: Body) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::unreadable(format!("the body did not arrive whole: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > LARGEST_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

pub fn too_large() -> Problem {
    let detail = format!("the body is larger than {} KiB", LARGEST_BODY >> 10);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|bad| {
        if bad.is_data() {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-what-is-asked-for", bad.to_string())
        } else {
            Problem::unreadable(format!("the body is no JSON: {bad}"))
        }
    })
}

/// A whole number, however it is written: to JSON Schema `286.0` is one too.
///
/// # Errors
/// When it is none, or not within its bounds.
pub fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    // Every whole number of 32 bits is a double.
    let whole = number.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number));
    let unfit = || D::Error::custom(format_args!("expected a whole number from 0 to {}, found {number}", u32::MAX));
    whole.map(|number| number as u32).ok_or_else(unfit)
}

/// The query string.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // What is wrong is told by axum, which says where; a good one takes it twice as long to read.
        if let Ok(query) = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()) {
            return Ok(Self(query));
        }
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(bad) => Err(Problem::unreadable(bad.body_text())),
        }
    }
}

/// What the path names.
pub struct TextPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for TextPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        found.map(|Path(text)| Self(text)).map_err(|bad| Problem::unreadable(bad.body_text()))
    }
}

/// The run that the path names.
pub struct RunPath(pub RunId);

impl<S: Send + Sync> FromRequestParts<S> for RunPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let TextPath(text) = TextPath::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| no_such_run(&text))
    }
}

pub fn no_such_run(run: impl std::fmt::Display) -> Problem {
    Problem::not_found("no-such-run", format!("there is no run {:?}", run.to_string()))
}
