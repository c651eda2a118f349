//! HTTP: the routes of the contract, who may use them, and the door that connections come in by.
//!
//! ```text
//! listen: connections, TLS, limits -> front: size, token -> handler: Caller, Query, Json -> Service -> answer or Problem
//! ```
//!
//! Invariants: no route but `/healthz` and `/readyz` answers without a good token; whatever goes wrong is a documented
//! `application/problem+json`; every body has a limit and a deadline; what a handler needs of the lab it has by the [`Service`], which knows
//! no hypervisor.

pub mod attestation;
pub mod caller;
mod crowd;
pub mod decisions;
pub mod events;
pub mod evidence;
pub mod extract;
mod front;
pub mod health;
pub mod host;
pub mod ledger;
mod leftover;
pub mod listen;
pub mod metrics;
mod patience;
pub mod people;
pub mod problem;
pub mod reports;
pub mod runs;
pub mod schema;
mod stamp;
pub mod tokens;
pub mod trust;
pub mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ed25519_dalek::SigningKey;
use tokio::sync::{Notify, Semaphore, watch};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::caller::Caller;
pub use self::problem::Problem;
pub use crate::catalog::policy::Role;

use self::caller::Guesses;
use self::decisions::board::Board;
use self::front::Front;
use self::ledger::Ledger;
use self::metrics::Metrics;
use self::tokens::Tokens;
use crate::catalog::settings;
use crate::catalog::webhook::Webhook;
use crate::journal::Journal;
use crate::lab::desk::queue::Queue;
use crate::lab::desk::{Desk, DeskError};
use crate::lab::evidence::EvidenceStore;
use crate::lab::keys;

/// What the handlers share.
pub struct Service {
    pub desk: Arc<Desk>,
    pub journal: Journal,
    pub queue: Arc<Queue>,
    pub evidence: EvidenceStore,
    pub tokens: Tokens,
    pub ledger: Ledger,
    pub metrics: Metrics,
    pub guesses: Guesses,
    /// The key that was given to sign with, instead of the lab's own.
    pub signing_key: Option<PathBuf>,
    /// Whether it is spoken to by TLS.
    pub secure: bool,
    /// One request at a time begins a run.
    pub(crate) beginning: tokio::sync::Mutex<()>,
    pub decisions: Arc<Board>,
    /// Who is told of final decisions.
    pub webhooks: Arc<[Webhook]>,
    /// Has the catalog read again.
    pub refresh: Arc<Notify>,
    /// One person at a time says something to the gate.
    pub(crate) acting: tokio::sync::Mutex<()>,
    /// Places for those who wait for a decision.
    pub(crate) waiting: Semaphore,
    /// Places for those who have an archive packed.
    packing: evidence::Places,
}

impl Service {
    /// The caller holds the state lock.
    ///
    /// # Errors
    /// When the state can't be read.
    pub async fn open(desk: Arc<Desk>, workers: Option<u16>, secure: bool) -> Result<Self, DeskError> {
        let journal = desk.journal().await?;
        let ledger = Ledger::open(&desk.state.folder).await.map_err(|error| DeskError::Fault(error.to_string()))?;
        let wishes = ledger.wishes().await.map_err(|error| DeskError::Fault(error.to_string()))?;
        let queue = Arc::new(Queue::open(desk.clone(), journal.clone(), wishes, workers).await?);
        let webhooks: Arc<[Webhook]> = settings::read(&desk.folder)?.webhooks.into();
        webhooks::check(&webhooks, &desk.state.folder).map_err(DeskError::Asked)?;
        let decisions = Board::open(desk.clone(), journal.clone()).await?;
        decisions.refresh().await;
        Ok(Self {
            decisions: Arc::new(decisions),
            webhooks,
            refresh: Arc::default(),
            acting: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(decisions::MOST_WAITING),
            packing: evidence::Places::new(),
            evidence: desk.evidence()?,
            tokens: Tokens::of(&desk.state.folder),
            metrics: Metrics::default(),
            guesses: Guesses::default(),
            beginning: tokio::sync::Mutex::default(),
            desk,
            journal,
            queue,
            ledger,
            signing_key: None,
            secure,
        })
    }

    /// Keeps the decisions, and tells the final ones, until the server stops.
    pub async fn keep(self: Arc<Self>) {
        let keeping = self.decisions.clone().keep(self.refresh.clone(), self.stopping());
        tokio::join!(keeping, webhooks::deliver(self));
    }

    /// What evidence is signed with.
    fn signer(&self) -> Result<SigningKey, Problem> {
        let key = match &self.signing_key {
            Some(file) => keys::signing(file),
            None => keys::own(&self.desk.state.folder),
        };
        key.map_err(Problem::fault)
    }

    /// Turns true when the server is to stop; streams end then.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.queue.stopping()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "patchlab", description = "A patch testing and validation lab"),
    components(schemas(problem::Problem)),
    security(("token" = [])),
    tags((name = "runs", description = "Validation runs"), (name = "decisions", description = "What the gate says"),
        (name = "people", description = "What people say to the gate"),
        (name = "operation", description = "For those who operate the server"))
)]
struct Document;

/// The routes and their description. Further rooms of the API are added here.
fn described() -> (Router<Arc<Service>>, utoipa::openapi::OpenApi) {
    let mut document = Document::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("made by `patchlab token add`")).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    OpenApiRouter::with_openapi(document)
        .routes(routes!(runs::launch, runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(reports::junit))
        .routes(routes!(reports::html))
        .routes(routes!(reports::markdown))
        .routes(routes!(reports::text))
        .routes(routes!(attestation::attestation))
        .routes(routes!(evidence::evidence))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::release))
        .routes(routes!(events::events))
        .routes(routes!(decisions::list))
        .routes(routes!(decisions::show))
        .routes(routes!(people::waivers::list, people::waivers::propose))
        .routes(routes!(people::waivers::consent))
        .routes(routes!(people::waivers::revoke))
        .routes(routes!(people::approvals::list, people::approvals::approve))
        .routes(routes!(people::approvals::revoke))
        .routes(routes!(people::rejections::list, people::rejections::reject))
        .routes(routes!(people::rejections::revoke))
        .routes(routes!(host::standing))
        .routes(routes!(host::pause))
        .routes(routes!(host::resume))
        .routes(routes!(health::metrics))
        .routes(routes!(health::document))
        .split_for_parts()
}

/// The OpenAPI document as it is served.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = described();
    document.merge(health::free().1);
    schema::tell_apart(&mut document);
    document
}

/// What is served to people besides the API.
pub struct Pages {
    /// They see to their callers themselves.
    pub routes: Router<Arc<Service>>,
    /// The page for what is at no route.
    pub stray: fn(Problem) -> Response,
}

/// Everything that is served: the API, and pages.
pub fn router(service: Arc<Service>, pages: Pages) -> Router {
    let (api, _) = described();
    let Pages { routes, stray } = pages;
    let told = move |problem: Problem, uri: &Uri, headers: &HeaderMap| {
        let is_page = uri.path() != "/api" && !uri.path().starts_with("/api/") && wants_page(headers);
        if is_page { stray(problem) } else { problem.into_response() }
    };
    let no_route = async move |uri: Uri, headers: HeaderMap| {
        let detail = "there is nothing at this path; see /openapi.json";
        told(Problem::not_found("no-such-route", detail), &uri, &headers)
    };
    let no_method = async move |uri: Uri, headers: HeaderMap| {
        let detail = "this path does not take this method; see the header `Allow`";
        told(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail), &uri, &headers)
    };
    let open = Front::open(&service);
    Router::new()
        .merge(api.layer(Front::guarded(&service)))
        .merge(health::free().0.merge(routes).layer(open.clone()))
        .fallback(no_route.layer(open.clone()))
        .method_not_allowed_fallback(no_method.layer(open))
        .with_state(service)
}

/// Whether a browser asks for a page, as it says itself.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
}
