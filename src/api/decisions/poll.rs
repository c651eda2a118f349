//! The short way for those who poll: a decision that is at hand is given before anything is routed.
//!
//! Invariant: what it gives is what [`show`](super::show) would give, to the byte, and is counted as that; whatever is not plain and at
//! hand is left to the routes.

use std::sync::Arc;
use std::time::Instant;

use axum::http::{Method, Request};
use axum::response::Response;
use hyper::body::Body;

use super::{known, respond};
use crate::api::caller::good_bearer;
use crate::api::front::leave;
use crate::api::{Role, Service};

/// The path of [`show`](super::show), without the patch.
const PATH: &str = "/api/v1/decisions/";
/// What such requests are counted as.
const ROUTE: (&str, &str) = ("GET", "/api/v1/decisions/{patch}");

/// Answers polls from what is at hand.
#[derive(Clone)]
pub struct Polls(Arc<Service>);

impl Polls {
    pub fn of(service: &Arc<Service>) -> Self {
        Self(service.clone())
    }

    /// The answer to a request that asks for nothing but a decision, without a body, by somebody who may have it.
    pub fn answer(&self, request: &Request<impl Body>) -> Option<Response> {
        let (service, uri, started) = (&*self.0, request.uri(), Instant::now());
        let patch = uri.path().strip_prefix(PATH)?;
        // A name of other characters is written with a `%`, and is no name.
        let customer = uri.query()?.strip_prefix("customer=")?.parse().ok()?;
        if request.method() != Method::GET || !request.body().is_end_stream() {
            return None;
        }
        good_bearer(service, request.headers())?.require(Role::Viewer).ok()?;
        let patch = patch.parse().ok().or_else(|| service.decisions.candidates.at_hand(patch))?;
        let answer = service.decisions.at_hand(&(patch, customer))?;
        let mut response = respond(&answer, &known(request.headers()));
        leave(service, &mut response, ROUTE, started);
        Some(response)
    }
}
