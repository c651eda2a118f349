//! The hosts that machines share: what is at work, what waits and why; pausing them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::MaybeJson;
use super::problem::{BodyRefusals, Problem, Refusals};
use super::schema::{NameText, RunText, TimeText};
use super::{Caller, Role, Service};
use crate::id::{CellId, Name, RunId};
use crate::lab::desk::DeskError;
use crate::lab::pause::Pause;
use crate::lab::scheduler::choice::Lane;
use crate::lab::scheduler::room::Room;
use crate::lab::scheduler::standing::{OneHost, Standing, Waiting};
use crate::report::text;

/// Cells that are told of one by one.
const MOST: usize = 200;
/// Those that the text form tells of.
const SHOWN: usize = 20;
const LONGEST_REASON: usize = 300;

/// How the hosts stand.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HostReport {
    /// What there is for machines, on all hosts together.
    pub capacity: RoomReport,
    /// What cells at work have taken of it.
    pub taken: RoomReport,
    /// Who lets no cell start, where somebody does.
    pub paused: Option<PauseReport>,
    pub hosts: Vec<OneHostReport>,
    pub at_work: Vec<AtWork>,
    /// Cells that wait, in the order in which they are expected to start; the first 200.
    pub waiting: Vec<WaitingCell>,
    /// All of them.
    pub waiting_count: usize,
}

/// How one host stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OneHostReport {
    #[schema(value_type = NameText)]
    pub name: Name,
    #[schema(value_type = Vec<NameText>)]
    pub labels: BTreeSet<Name>,
    pub capacity: RoomReport,
    pub taken: RoomReport,
    /// Who lets no cell start there, where somebody does.
    pub paused: Option<PauseReport>,
    /// Why it gets no work until it has proved itself; null where it has.
    #[schema(required = true)]
    pub out: Option<String>,
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
    #[schema(value_type = NameText)]
    pub host: Name,
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
    /// `pause`: nothing starts. `host`: each host that could bear it is paused, has to prove itself or has failed it. `nothing`: it is about to start.
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

impl From<Pause> for PauseReport {
    fn from(Pause { by, since, reason }: Pause) -> Self {
        Self { by, since, reason }
    }
}

impl From<OneHost> for OneHostReport {
    fn from(OneHost { name, labels, capacity, taken, pause, out }: OneHost) -> Self {
        Self { name, labels, capacity: capacity.into(), taken: taken.into(), paused: pause.map(Into::into), out }
    }
}

impl From<Standing> for HostReport {
    fn from(Standing { capacity, taken, pause, hosts, at_work, waiting }: Standing) -> Self {
        Self {
            capacity: capacity.into(),
            taken: taken.into(),
            paused: pause.map(Into::into),
            hosts: hosts.into_iter().map(Into::into).collect(),
            at_work: at_work.into_iter().map(|(run, cell, since, host)| AtWork { run, cell, host, since }).collect(),
            waiting_count: waiting.len(),
            waiting: waiting.into_iter().take(MOST).map(Into::into).collect(),
        }
    }
}

/// A run's cells that wait.
pub fn waiting(service: &Service, run: RunId) -> Vec<WaitingCell> {
    service.queue.hosts.standing(Some(run), Timestamp::now()).waiting.into_iter().map(Into::into).collect()
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
    axum::Json(service.queue.hosts.standing(None, Timestamp::now()).into())
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
    /// Of which host; of all when left out.
    #[schema(value_type = Option<NameText>)]
    pub host: Option<Name>,
    /// Why; whoever waits is told.
    #[schema(max_length = 300)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The host; what was paused for all when left out.
    #[schema(value_type = Option<NameText>)]
    pub host: Option<Name>,
}

/// Nobody can name a host that is not there.
fn unknown(error: DeskError) -> Problem {
    if error.is_fault() {
        return error.into();
    }
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-what-is-asked-for", error.to_string())
}

/// Let no cell start any more, on one host or on any.
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
    service.desk.has_host(request.host.as_ref()).map_err(unknown)?;
    let pause = Pause { by: caller.name.to_string(), since: Timestamp::now(), reason: request.reason };
    service.queue.pause(request.host.as_ref(), Some(pause))?;
    Ok(report(&service))
}

/// Let cells start again.
#[utoipa::path(post, path = "/api/v1/host/resume", tag = "operation", request_body(content = Option<ResumeRequest>),
    responses((status = 200, description = "they start", body = HostReport), BodyRefusals))]
pub async fn resume(
    State(service): State<Arc<Service>>,
    caller: Caller,
    MaybeJson(request): MaybeJson<ResumeRequest>,
) -> Result<axum::Json<HostReport>, Problem> {
    caller.require(Role::Engineer)?;
    service.desk.has_host(request.host.as_ref()).map_err(unknown)?;
    service.queue.pause(request.host.as_ref(), None)?;
    Ok(report(&service))
}
