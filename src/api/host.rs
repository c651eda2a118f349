//! The host that machines share: what is at work, what waits and why; pausing it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::MaybeJson;
use super::problem::{BodyRefusals, Conflicts, Problem, Refusals};
use super::schema::{NameText, RunText, TimeText};
use super::{Caller, Role, Service};
use crate::id::{CellId, Name, RunId};
use crate::lab::pause::Pause;
use crate::lab::scheduler::choice::Lane;
use crate::lab::scheduler::host::{Standing, Waiting};
use crate::lab::scheduler::room::Room;
use crate::report::text;

/// Cells that are told of one by one.
const MOST: usize = 200;
/// Those that the text form tells of.
const SHOWN: usize = 20;
const LONGEST_REASON: usize = 300;

/// How the host stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HostReport {
    /// What there is for machines.
    pub capacity: RoomReport,
    /// What cells at work have taken of it.
    pub taken: RoomReport,
    /// Who lets no cell start, where somebody does.
    pub paused: Option<PauseReport>,
    pub at_work: Vec<AtWork>,
    /// Cells that wait, in the order in which they are expected to start; the first 200.
    pub waiting: Vec<WaitingCell>,
    /// All of them.
    pub waiting_count: usize,
}

/// So much of a host.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RoomReport {
    /// One for each machine.
    pub cores: u32,
    /// One for each machine until its first boot is over.
    pub boots: u32,
    /// Bytes; null where nothing bounds it.
    #[schema(required = true)]
    pub memory: Option<u64>,
    /// Bytes; null where nothing bounds it.
    #[schema(required = true)]
    pub disk: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PauseReport {
    pub by: String,
    #[schema(value_type = TimeText)]
    pub since: Timestamp,
    #[schema(required = true)]
    pub reason: Option<String>,
}

/// A cell at work.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AtWork {
    #[schema(value_type = RunText)]
    pub run: RunId,
    #[schema(value_type = String)]
    pub cell: CellId,
    #[schema(value_type = TimeText)]
    pub since: Timestamp,
}

/// A cell that waits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WaitingCell {
    #[schema(value_type = RunText)]
    pub run: RunId,
    #[schema(value_type = String)]
    pub cell: CellId,
    #[schema(value_type = NameText)]
    pub customer: Name,
    /// How soon its customer's policy wants a decision; null where it does not say.
    #[schema(required = true)]
    pub deadline_seconds: Option<u64>,
    #[schema(value_type = TimeText)]
    pub since: Timestamp,
    /// `cores`, `boots`, `memory`, `disk`: there is too little of it. `kept-room`: room is kept for a cell that has waited longest.
    /// `pause`: nothing starts. `nothing`: it is about to start.
    pub waits_for: String,
    /// The same in words.
    pub why: String,
}

impl From<Room> for RoomReport {
    fn from(Room { cores, boots, memory, disk }: Room) -> Self {
        let bounded = |bytes: u64| Some(bytes).filter(|bytes| *bytes != u64::MAX);
        Self { cores, boots, memory: bounded(memory), disk: bounded(disk) }
    }
}

impl From<Waiting> for WaitingCell {
    fn from(Waiting { run, cell, customer, lane, since, why, kind }: Waiting) -> Self {
        let deadline_seconds = Some(lane).filter(|lane| *lane != Lane::WHENEVER).map(|lane| lane.0.as_secs());
        Self { run, cell, customer, deadline_seconds, since, waits_for: kind.to_owned(), why }
    }
}

impl From<Standing> for HostReport {
    fn from(Standing { capacity, taken, pause, at_work, waiting }: Standing) -> Self {
        Self {
            capacity: capacity.into(),
            taken: taken.into(),
            paused: pause.map(|Pause { by, since, reason }| PauseReport { by, since, reason }),
            at_work: at_work.into_iter().map(|(run, cell, since)| AtWork { run, cell, since }).collect(),
            waiting_count: waiting.len(),
            waiting: waiting.into_iter().take(MOST).map(Into::into).collect(),
        }
    }
}

/// A run's cells that wait.
pub fn waiting(service: &Service, run: RunId) -> Vec<WaitingCell> {
    service.queue.host.standing(Some(run), Timestamp::now()).waiting.into_iter().map(Into::into).collect()
}

/// Cells that wait and why, where there are any, at most 80 columns.
pub fn lines(waiting: &[WaitingCell]) -> String {
    let mut lines = String::new();
    for (at, WaitingCell { cell, why, .. }) in waiting.iter().take(SHOWN).enumerate() {
        lines += if at == 0 { "\nWaiting\n" } else { "" };
        lines += &format!("  {}\n", text::one_row(&cell.to_string(), 78));
        let words = why.split_whitespace().fold(vec![String::new()], |mut rows, word| {
            match rows.last_mut() {
                Some(row) if row.chars().count() + word.chars().count() < 75 => *row += &format!(" {word}"),
                _ => rows.push(format!(" {word}")),
            }
            rows
        });
        lines.extend(words.iter().map(|row| format!("   {}\n", text::one_row(row, 77))));
    }
    match waiting.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => lines + &format!("  and {more} more\n"),
        _ => lines,
    }
}

fn report(service: &Service) -> axum::Json<HostReport> {
    axum::Json(service.queue.host.standing(None, Timestamp::now()).into())
}

/// What is at work on the host, and what waits and why.
#[utoipa::path(get, path = "/api/v1/host", tag = "operation", responses(
    (status = 200, description = "how it stands", body = HostReport),
    Refusals,
))]
pub async fn standing(State(service): State<Arc<Service>>, caller: Caller) -> Result<axum::Json<HostReport>, Problem> {
    caller.require(Role::Viewer)?;
    Ok(report(&service))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Why; whoever waits is told.
    #[schema(max_length = 300)]
    pub reason: Option<String>,
}

/// Let no cell start any more.
///
/// Those at work go on to their end; where none is left, the host is drained. It holds, also after a restart, until it is resumed.
#[utoipa::path(post, path = "/api/v1/host/pause", tag = "operation", request_body(content = Option<PauseRequest>),
    responses((status = 200, description = "nothing starts", body = HostReport), BodyRefusals))]
pub async fn pause(
    State(service): State<Arc<Service>>,
    caller: Caller,
    MaybeJson(request): MaybeJson<PauseRequest>,
) -> Result<axum::Json<HostReport>, Problem> {
    caller.require(Role::Engineer)?;
    if request.reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
        let detail = format!("reason: at most {LONGEST_REASON} characters");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-what-is-asked-for", detail));
    }
    let pause = Pause { by: caller.name.to_string(), since: Timestamp::now(), reason: request.reason };
    service.queue.pause(Some(pause))?;
    Ok(report(&service))
}

/// Let cells start again.
#[utoipa::path(post, path = "/api/v1/host/resume", tag = "operation",
    responses((status = 200, description = "they start", body = HostReport), Conflicts))]
pub async fn resume(State(service): State<Arc<Service>>, caller: Caller) -> Result<axum::Json<HostReport>, Problem> {
    caller.require(Role::Engineer)?;
    service.queue.pause(None)?;
    Ok(report(&service))
}
