//! What happens in a run, as it happens: server-sent events.
//!
//! Each entry of the journal is an event whose id is its number and whose data is the entry as JSON. Whoever comes again with the header
//! `Last-Event-ID` goes on after it. What is being done right now comes as `activity`, without an id and never again. The stream ends after
//! `run-ended`, when the token does, or when the server stops.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::extract::{RunPath, no_such_run};
use super::problem::{Problem, Refusals};
use super::{Caller, Role, Service};
use crate::id::RunId;
use crate::journal::{Entry, Event};
use crate::lab::Activity;

/// The largest number of an entry that every client can write.
pub(super) const MOST_ENTRIES: u64 = 9_007_199_254_740_991;
/// What is sent when nothing happens, so that both ends know of each other.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is looked, while nothing happens, whether the token is still good.
const LOOK: Duration = Duration::from_secs(5);

/// One event of the stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `sent` and `doing` make")]
pub struct RunEvent {
    /// The entry's number; an `activity` has none.
    #[schema(required = false, nullable = false)]
    id: Option<String>,
    /// `run-planned`, `run-taken`, `pass-started`, `stage-started`, `case-observed`, `stage-ended`, `cell-ended`, `run-ended`, ...; `activity`
    event: String,
    /// JSON.
    data: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what the handler reads itself")]
pub struct LastEvent {
    /// Go on after this event.
    #[param(rename = "Last-Event-ID", required = false, minimum = 0, maximum = 9_007_199_254_740_991u64)]
    last_event: u64,
}

/// Watch a run.
#[utoipa::path(get, path = "/api/v1/runs/{run}/events", tag = "runs",
    params(("run" = String, Path, description = "a run id", format = Uuid), LastEvent),
    responses(
        (status = 200, description = "the journal's entries from the first, or from the one after `Last-Event-ID`, on", body = RunEvent,
            content_type = "text/event-stream"),
        Refusals,
    ))]
pub async fn events(
    State(service): State<Arc<Service>>,
    caller: Caller,
    RunPath(run): RunPath,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    caller.require(Role::Viewer)?;
    let after = match headers.get("last-event-id") {
        None => 0,
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|number| *number <= MOST_ENTRIES);
            number.ok_or_else(|| Problem::unreadable("Last-Event-ID: expected the number of an event"))?
        }
    };
    stream(service, caller, run, after).await
}

async fn stream(
    service: Arc<Service>,
    caller: Caller,
    run: RunId,
    after: u64,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    // First the watching, then the reading: nothing falls between.
    let (entries, activity) = (service.journal.watch(), service.queue.watch());
    let known = service.journal.entries(run).await?;
    if known.is_empty() {
        return Err(no_such_run(run));
    }
    let stopping = service.stopping();
    let mut watcher = Watcher { caller, run, after, ended: false, ready: VecDeque::new(), entries, activity, stopping, service };
    watcher.take(known);
    let events = unfold(watcher, |mut watcher| async move { watcher.next().await.map(|event| (Ok(event), watcher)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Watcher {
    caller: Caller,
    run: RunId,
    /// The last event that was sent.
    after: u64,
    ended: bool,
    ready: VecDeque<Entry>,
    entries: broadcast::Receiver<Entry>,
    activity: broadcast::Receiver<Activity>,
    stopping: watch::Receiver<bool>,
    service: Arc<Service>,
}

impl Watcher {
    fn take(&mut self, entries: Vec<Entry>) {
        let last = self.ready.back().map_or(self.after, |entry| entry.seq);
        self.ended |= entries.iter().any(|entry| matches!(entry.event, Event::RunEnded { .. }));
        self.ready.extend(entries.into_iter().filter(|entry| entry.seq > last));
    }

    async fn next(&mut self) -> Option<Sent> {
        loop {
            // A token that ends takes its streams with it.
            self.service.still(&self.caller).ok()?;
            if let Some(entry) = self.ready.pop_front() {
                self.after = entry.seq;
                return Some(sent(&entry));
            }
            if self.ended {
                return None;
            }
            let entry = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                () = tokio::time::sleep(LOOK) => continue,
                entry = self.entries.recv() => entry,
                activity = self.activity.recv() => match activity {
                    Ok(activity) if activity.run == self.run => return Some(doing(&activity)),
                    // What is done right now is nothing to catch up with.
                    Ok(_) | Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return None,
                },
            };
            match entry {
                Ok(entry) if entry.run == Some(self.run) => self.take(vec![entry]),
                Ok(_) => {}
                // Too slow to follow: what was missed is in the journal.
                Err(RecvError::Lagged(_)) => {
                    let known = self.service.journal.entries(self.run).await.ok()?;
                    self.take(known);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn sent(entry: &Entry) -> Sent {
    let data = serde_json::to_value(entry).unwrap_or_default();
    let kind = data.pointer("/event/event").and_then(|kind| kind.as_str()).unwrap_or("entry").to_owned();
    Sent::default().id(entry.seq.to_string()).event(kind).data(data.to_string())
}

fn doing(activity: &Activity) -> Sent {
    let data = json!({
        "cell": activity.cell, "stage": activity.stage, "what": activity.what, "expected-seconds": activity.expected.as_secs(),
    });
    Sent::default().event("activity").data(data.to_string())
}
