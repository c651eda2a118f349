//! Pages about one thing: a run, a cell, a patch, a decision; what was kept; launching.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::fields::Fields;
use super::view::cell::{CellPage, CellView};
use super::view::decision::{AskPage, DecisionInput, DecisionPage, DecisionView};
use super::view::frame::Section;
use super::view::launch::{LaunchPage, LaunchView, Preview};
use super::view::lists::{PatchLine, PatchPage, patch_facts};
use super::view::run::{RunPage, RunPart, RunView};
use super::visitor::{Trouble, Visitor, show};
use super::{Web, headers, session};
use crate::api::Problem;
use crate::api::attestation::attested;
use crate::api::evidence::archived;
use crate::api::extract::{RunPath, no_such_run};
use crate::catalog::load::load;
use crate::id::{CellId, Digest, Name, RunId};
use crate::journal::projection::RunFilter;
use crate::journal::{Event, Record, RunState};
use crate::lab::gate::Gate;
use crate::lab::patches::StoredPatch;
use crate::plan::Request;
use crate::report::statement::MEDIA_TYPE;
use crate::report::{self, Format, Source, files};
use crate::verdict::gate::{Decision, Records};
use crate::verdict::judge::judge;

/// Runs of a patch and revisions of a decision that are listed.
const LISTED: u32 = 50;

impl Web {
    async fn state(&self, run: RunId) -> Result<RunState, Problem> {
        self.service.journal.state(run).await?.ok_or_else(|| no_such_run(run))
    }

    /// Tells a run, away from the threads that answer.
    async fn told<T: Send + 'static>(&self, state: RunState, tell: impl FnOnce(&Source<'_>) -> T + Send + 'static) -> Result<T, Problem> {
        let evidence = self.service.evidence.clone();
        let told = tokio::task::spawn_blocking(move || {
            let judgement = judge(&state);
            tell(&Source { run: &state, judgement: &judgement, evidence: &|sha256| evidence.get(sha256) })
        });
        told.await.map_err(Problem::fault)
    }

    async fn candidate(&self, sha256: Digest) -> Result<StoredPatch, Problem> {
        let desk = self.service.desk.clone();
        let found = tokio::task::spawn_blocking(move || Ok::<_, Problem>(desk.patches()?.find(sha256))).await.map_err(Problem::fault)??;
        found.ok_or_else(|| Problem::not_found("no-such-patch", format!("no candidate with the digest {sha256} is in the store")))
    }
}

/// A part of the path.
///
/// # Errors
/// When it is none of its kind.
pub fn part<T: FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found("no-such-thing", format!("there is no {what} {text:?}")))
}

macro_rules! page {
    ($visitor:ident, $made:expr) => {
        async { $made }.await.map_err(|trouble: Trouble| trouble.for_visitor(&$visitor))
    };
}

/// `/runs/{run}`
pub async fn run(State(web): State<Arc<Web>>, visitor: Visitor, Path(run): Path<String>) -> Result<Response, Trouble> {
    page!(visitor, {
        let view = run_view(&web, part(&run, "run")?).await?;
        Ok(show(&RunPage { frame: visitor.frame(&web, Section::Runs, &format!("{}: {}", view.word, view.patch)).await?, run: view }))
    })
}

/// The part of it that changes.
pub async fn run_part(State(web): State<Arc<Web>>, _visitor: Visitor, RunPath(run): RunPath) -> Result<Response, Trouble> {
    Ok(show(&RunPart { run: run_view(&web, run).await? }))
}

async fn run_view(web: &Web, run: RunId) -> Result<RunView, Trouble> {
    let view = web.told(web.state(run).await?, RunView::of).await?;
    Ok(view.with(&web.service.queue.hosts.standing(Some(run), Timestamp::now()).waiting))
}

/// `/runs/{run}/cells/{cell}`
pub async fn cell(State(web): State<Arc<Web>>, visitor: Visitor, Path((run, cell)): Path<(String, String)>) -> Result<Response, Trouble> {
    page!(visitor, {
        let (run, cell): (RunId, CellId) = (part(&run, "run")?, part(&cell, "cell")?);
        let title = cell.to_string();
        let view = web.told(web.state(run).await?, move |source| CellView::of(source, &cell)).await?;
        let view = view.ok_or_else(|| Problem::not_found("no-such-cell", format!("run {run} has no cell {title}")))?;
        Ok(show(&CellPage { frame: visitor.frame(&web, Section::Runs, &title).await?, cell: view }))
    })
}

/// `/runs/{run}/files/{digest}`: a file that was kept with the run, as it is. Whatever is in it, it does nothing here.
pub async fn file(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path((run, digest)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Trouble> {
    page!(visitor, {
        let state = web.state(part(&run, "run")?).await?;
        let sha256: Digest = part(&format!("sha256:{digest}"), "file")?;
        let missing = || Problem::not_found("no-such-file", format!("run {run} has kept no file {digest}, or it is gone"));
        let kept = files::kept_files(&state).into_iter().find(|file| file.sha256 == sha256).ok_or_else(missing)?;
        let evidence = web.service.evidence.clone();
        let bytes = tokio::task::spawn_blocking(move || evidence.get(&sha256)).await.map_err(Problem::fault)?.ok_or_else(missing)?;
        let as_text = Fields::parse(query.unwrap_or_default().as_bytes()).get("as") == "text";
        let kind = if as_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        Ok(handed_out(bytes, kind, (!as_text).then(|| kept.path.replace('/', "_"))))
    })
}

/// `/runs/{run}/report/{format}`
pub async fn report(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path((run, format)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    page!(visitor, {
        let run: RunId = part(&run, "run")?;
        if format == "evidence" {
            let mut archive = archived(&web.service, &visitor.caller, run).await?;
            archive.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(headers::FILE_POLICY));
            return Ok(archive);
        }
        let state = web.state(run).await?;
        if format == "attestation" {
            let name = format!("{}-{}.intoto.jsonl", state.plan.patch.manifest.id, state.run);
            return Ok(handed_out(attested(&web.service, Arc::new(state)).await?.into_bytes(), MEDIA_TYPE, Some(name)));
        }
        let (format, ending) = match format.as_str() {
            "html" => (Format::Html, "html"),
            "junit" => (Format::Junit, "xml"),
            "json" => (Format::Json, "json"),
            "markdown" => (Format::Markdown, "md"),
            other => return Err(Problem::not_found("no-such-format", format!("there is no report of the form {other:?}")).into()),
        };
        let name = format!("{}-{}.{ending}", state.plan.patch.manifest.id, state.run);
        let text = web.told(state, move |source| report::render(format, source)).await?.map_err(Problem::fault)?;
        Ok(handed_out(text.into_bytes(), format.media_type(), Some(name)))
    })
}

fn handed_out(bytes: Vec<u8>, kind: &'static str, name: Option<String>) -> Response {
    let shown = name.map_or_else(|| "inline".to_owned(), |name| format!("attachment; filename=\"{name}\""));
    let shown = HeaderValue::from_str(&shown).unwrap_or(HeaderValue::from_static("attachment"));
    let policy = HeaderValue::from_static(headers::FILE_POLICY);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, shown),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, bytes).into_response()
}

/// `/patches/{patch}`
pub async fn patch(State(web): State<Arc<Web>>, visitor: Visitor, Path(patch): Path<String>) -> Result<Response, Trouble> {
    page!(visitor, {
        let stored = web.candidate(part(&patch, "patch")?).await?;
        let decisions = web.decided(|row| row.sha256 == stored.sha256, visitor.now).await?;
        let folder = web.service.desk.folder.clone();
        let catalog = tokio::task::spawn_blocking(move || load(&folder).catalog).await.map_err(Problem::fault)?;
        let asked = |name: &Name| decisions.iter().any(|row| row.customer == *name);
        let customers =
            catalog.iter().flat_map(|catalog| &catalog.customers).filter(|(name, entry)| entry.customer.policy.is_some() && !asked(name));
        let undecided = customers.map(|(name, _)| name.to_string()).collect();
        let filter = RunFilter { patch: Some(stored.sha256), ..RunFilter::default() };
        Ok(show(&PatchPage {
            patch: PatchLine::of(stored.sha256, &stored.manifest, stored.facts.bytes, &decisions),
            facts: patch_facts(stored.sha256, &stored.manifest),
            undecided,
            runs: web.run_lines(&filter, None, LISTED, visitor.now).await?,
            frame: visitor.frame(&web, Section::Patches, stored.manifest.id.as_str()).await?,
        }))
    })
}

/// `/patches/{patch}/{customer}`: the decision, as it is now.
pub async fn decision(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path((patch, customer)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    page!(visitor, {
        let (sha256, customer): (Digest, Name) = (part(&patch, "patch")?, part(&customer, "customer")?);
        let journal = &web.service.journal;
        let known = Records::fold(sha256, &customer, &journal.records(sha256, &customer).await?, Timestamp::MAX);
        if known.requirements.is_none() {
            let stored = web.candidate(sha256).await?;
            let frame = visitor.frame(&web, Section::Board, "Not asked yet").await?;
            return Ok(show(&AskPage::of(frame, sha256, &stored.manifest, &customer)));
        }
        let decision = web.service.decisions.decision(&(sha256, customer.clone()), visitor.caller.name.as_str()).await?;
        // A clock that was ahead when something was put on record does not hide it.
        let now = visitor.now.max(decision.as_of);
        let entries = journal.records(sha256, &customer).await?;
        let records = Records::fold(sha256, &customer, &entries, now);
        let decided = entries.iter().rev().filter_map(|entry| match &entry.event {
            Event::Recorded { record } => match &**record {
                Record::Decided { decision } => Some((**decision).clone()),
                _ => None,
            },
            _ => None,
        });
        let history: Vec<Decision> = decided.take(LISTED as usize).collect();
        let view = DecisionView::of(&DecisionInput {
            decision: &decision,
            requirements: records.requirements.as_ref(),
            approvals: &records.approvals,
            rejections: &records.rejections,
            waivers: &Gate::new(journal.clone()).waivers(Some(sha256), Some(&customer), now).await?,
            history: &history,
            viewer: visitor.caller.name.as_str(),
            now,
        });
        let title = format!("{}: {} for {customer}", view.badge.word, view.patch);
        Ok(show(&DecisionPage { frame: visitor.frame(&web, Section::Board, &title).await?, decision: view }))
    })
}

/// What a run is asked to be, from the fields of a form.
///
/// # Errors
/// When a field can't be read.
pub fn request(fields: &Fields) -> Result<Request, Problem> {
    Ok(Request {
        customers: fields.every("customer")?,
        builds: fields.every("build")?,
        environments: fields.every("environment")?,
        levels: fields.every("level")?,
        hardware: fields.every("hardware")?,
        suites: fields.every("suite")?,
    })
}

/// `/launch`: what there is to choose from, and the plan that a choice gives.
pub async fn launch(State(web): State<Arc<Web>>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Trouble> {
    page!(visitor, {
        let fields = Fields::parse(query.unwrap_or_default().as_bytes());
        let wanted = request(&fields)?;
        let (patch, keep) = (fields.get("patch").to_owned(), !fields.get("keep").is_empty());
        let history = if patch.is_empty() { Arc::default() } else { web.shelf.usual(&web.service.journal).await? };
        let key = session::secret().map_err(Problem::fault)?;
        let (desk, listing) = (web.service.desk.clone(), web.service.decisions.candidates.listing().await?);
        let made = tokio::task::spawn_blocking(move || {
            let loading = load(&desk.folder);
            let told = loading.diagnostics.iter().filter(|one| one.is_error()).map(|one| report::printable(&one.to_string())).collect();
            let candidates: Vec<_> =
                listing.candidates.iter().rev().map(|one| (one.sha256, &one.manifest.id, one.manifest.title.as_str())).collect();
            let Some(catalog) = loading.catalog else { return Ok(LaunchView::nothing(told)) };
            let mut view = LaunchView::of(&catalog, &candidates, Some(&patch), &wanted, keep);
            if !patch.is_empty() {
                let store = desk.patches()?;
                let stored = match patch.parse().ok().and_then(|sha256| store.find(sha256)) {
                    Some(stored) => Ok(stored),
                    None => store.get(&patch).map_err(|unknown| unknown.problem.clone()),
                };
                let planned = stored.and_then(|stored| desk.plan_by(catalog, stored, &wanted).map_err(|error| error.to_string()));
                match planned {
                    Ok(planned) => {
                        let time = history.plan(&planned.plan.cells, &[], desk.at_once(&desk.hosts(None)?, &planned.plan)?);
                        view.preview = Some(Preview::of(&planned.plan, &wanted, time.as_secs().div_ceil(60), keep, key));
                    }
                    Err(told) => view.problems = told.lines().map(report::printable).collect(),
                }
            }
            Ok::<_, Problem>(view)
        });
        let view = made.await.map_err(Problem::fault)??;
        Ok(show(&LaunchPage { frame: visitor.frame(&web, Section::Launch, "Launch a run").await?, launch: view }))
    })
}
