//! The dashboard: pages for people, made on the server.
//!
//! ```text
//! router -> visitor: session, token still good? -> pages: fetch -> view: a function of values -> template
//!                                               -> forms: sent from here? token right? role? -> decisions, queue -> back to a page
//! ```
//!
//! [`view`] says what a page shows; the templates in `pages/` show it; handlers fetch what a view needs and check who asks. Programs use
//! [`api`](crate::api); nothing here is for them.
//!
//! Invariants: every page works without a script and without a pointer; no page takes anything from elsewhere, nor holds script or style
//! of its own ([`headers`] forbids both); what a guest said is text; nothing is changed but by a form of a page of this server with the
//! session's token.

pub mod assets;
pub mod fields;
pub mod forms;
pub mod guard;
pub mod headers;
pub mod live;
pub mod login;
pub mod overview;
pub mod pages;
pub mod session;
pub mod shelf;
pub mod view;
pub mod visitor;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::api::{Pages, Problem, Service};
use session::Sessions;
use shelf::Shelf;
use visitor::Trouble;

/// What the handlers share.
pub struct Web {
    pub service: Arc<Service>,
    pub sessions: Sessions,
    pub shelf: Shelf,
}

/// The dashboard, for [`api::router`](crate::api::router).
pub fn pages(service: Arc<Service>) -> Pages {
    Pages { routes: routes(service), stray }
}

/// What a browser is shown that asks for a page that is not there.
fn stray(problem: Problem) -> Response {
    guarded(Trouble::from(problem.instead("there is no such page here")).into_response())
}

fn routes(service: Arc<Service>) -> Router<Arc<Service>> {
    let web = Arc::new(Web { service, sessions: Sessions::default(), shelf: Shelf::default() });
    Router::new()
        .route("/", get(overview::board))
        .route("/login", get(login::page).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route("/runs", get(overview::runs).post(forms::launch))
        .route("/runs/{run}", get(pages::run))
        .route("/runs/{run}/part", get(pages::run_part))
        .route("/runs/{run}/changes", get(live::changes))
        .route("/runs/{run}/cancel", post(forms::cancel))
        .route("/runs/{run}/release", post(forms::release))
        .route("/runs/{run}/cells/{cell}", get(pages::cell))
        .route("/runs/{run}/files/{digest}", get(pages::file))
        .route("/runs/{run}/report/{format}", get(pages::report))
        .route("/patches", get(overview::patches))
        .route("/patches/{patch}", get(pages::patch))
        .route("/patches/{patch}/{customer}", get(pages::decision))
        .route("/patches/{patch}/{customer}/ask", post(forms::ask))
        .route("/patches/{patch}/{customer}/approve", post(forms::approve))
        .route("/patches/{patch}/{customer}/reject", post(forms::reject))
        .route("/patches/{patch}/{customer}/waive", post(forms::waive))
        .route("/approvals", get(overview::approvals))
        .route("/approvals/{id}/revoke", post(forms::revoke))
        .route("/waivers", get(overview::waivers))
        .route("/waivers/{id}/consent", post(forms::consent))
        .route("/waivers/{id}/revoke", post(forms::revoke))
        .route("/lab", get(overview::lab))
        .route("/launch", get(pages::launch))
        .route("/assets/{name}", get(assets::serve))
        .layer(from_fn(careful))
        .with_state(web)
}

/// Tells the browser what to refuse, where the handler has not said so more strictly.
async fn careful(request: Request, next: Next) -> Response {
    guarded(next.run(request).await)
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in headers::ALWAYS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(headers::PAGE_POLICY));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
