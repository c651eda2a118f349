//! What every request passes before its handler, and every answer after it: its size, its token where one is wanted, the count, the headers
//! that an answer always has.
//!
//! It is one step rather than a layer for each, because whoever polls for a decision pays for every one of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Body;
use tower::Layer;

use super::caller::{Peer, bearer};
use super::leftover::{self, Leftover};
use super::{Problem, Service, extract};

/// The front of some routes.
#[derive(Clone)]
pub struct Front {
    service: Arc<Service>,
    wants_token: bool,
}

impl Front {
    /// For what sees to its callers itself, or has no need to.
    pub fn open(service: &Arc<Service>) -> Self {
        Self { service: service.clone(), wants_token: false }
    }

    /// Lets nobody through but a [`Caller`](super::Caller).
    pub fn guarded(service: &Arc<Service>) -> Self {
        Self { service: service.clone(), wants_token: true }
    }

    /// Refuses what announces a body that is too large, then whoever has no good token.
    fn admit(&self, request: &mut Request) -> Result<(), Problem> {
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > extract::LARGEST_BODY) {
            return Err(extract::too_large());
        }
        if self.wants_token {
            // Of those who have a token, nobody asks for the address; and three things are kept in less room than four.
            let peer = request.extensions_mut().remove::<Peer>();
            let caller = bearer(&self.service, request.headers(), peer)?;
            request.extensions_mut().insert(caller);
        }
        Ok(())
    }
}

impl<S> Layer<S> for Front {
    type Service = Fronted<S>;

    fn layer(&self, inner: S) -> Fronted<S> {
        Fronted { front: self.clone(), inner }
    }
}

/// Something with a front.
#[derive(Clone)]
pub struct Fronted<S> {
    front: Front,
    inner: S,
}

impl<S> tower::Service<Request> for Fronted<S>
where
    S: tower::Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let service = self.front.service.clone();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let method = method(request.method());
        let leftover = lend(&mut request);
        let answering = self.front.admit(&mut request).map(|()| self.inner.call(request));
        Box::pin(async move {
            let mut response = match answering {
                Ok(answering) => answering.await?,
                Err(problem) => problem.into_response(),
            };
            if let Some(leftover) = leftover {
                leftover.discard().await;
            }
            // By route rather than by path.
            leave(&service, &mut response, (method, route.as_ref().map_or("none", MatchedPath::as_str)), started);
            Ok(response)
        })
    }
}

/// What every answer passes on its way out.
pub fn leave(service: &Service, response: &mut Response, (method, route): (&'static str, &str), started: Instant) {
    let headers = response.headers_mut();
    for (name, value) in
        [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::CACHE_CONTROL, "no-store"), (header::X_FRAME_OPTIONS, "DENY")]
    {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let (status, took) = (response.status().as_u16(), started.elapsed());
    tracing::debug!(method, route, status, ?took, "request");
    service.metrics.request(method, route, status, took);
}

/// Has what a handler leaves of a body come back.
fn lend(request: &mut Request) -> Option<Leftover> {
    if request.body().is_end_stream() {
        return None;
    }
    let (body, leftover) = leftover::lend(std::mem::take(request.body_mut()));
    *request.body_mut() = body;
    Some(leftover)
}

/// The method; strange ones are counted as one.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
