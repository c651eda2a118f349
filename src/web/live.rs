//! A run's page follows its run: a word whenever something has happened. What, the page fetches itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Word, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;

use super::Web;
use super::session::Seen;
use super::visitor::{Trouble, Visitor};
use crate::api::extract::{RunPath, no_such_run};
use crate::id::RunId;
use crate::journal::Event;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// What happens within so long is one word.
const GATHER: Duration = Duration::from_millis(300);

/// Words about a run until it ends, the server stops or the session is over.
pub async fn changes(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    RunPath(run): RunPath,
) -> Result<Sse<impl Stream<Item = Result<Word, Infallible>>>, Trouble> {
    let entries = web.service.journal.watch();
    if web.service.journal.state(run).await?.is_none() {
        return Err(no_such_run(run).into());
    }
    let watcher = Watcher { stopping: web.service.stopping(), entries, run, seen: visitor.seen, web, ended: false };
    let words = unfold(watcher, |mut watcher| async move { watcher.next().await.map(|word| (Ok(word), watcher)) });
    Ok(Sse::new(words).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Watcher {
    run: RunId,
    seen: Seen,
    web: Arc<Web>,
    entries: tokio::sync::broadcast::Receiver<crate::journal::Entry>,
    stopping: tokio::sync::watch::Receiver<bool>,
    ended: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Word> {
        if self.ended {
            return None;
        }
        loop {
            let entry = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                entry = tokio::time::timeout(HEARTBEAT, self.entries.recv()) => entry,
            };
            match entry {
                _ if !self.is_let_in() => return None,
                Ok(Ok(entry)) if entry.run == Some(self.run) => {
                    self.note(&entry.event);
                    break;
                }
                Ok(Ok(_)) => {}
                // Too slow to follow. The page fetches all there is anyway.
                Ok(Err(RecvError::Lagged(_))) => break,
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => {}
            }
        }
        tokio::time::sleep(GATHER).await;
        while let Ok(entry) = self.entries.try_recv() {
            if entry.run == Some(self.run) {
                self.note(&entry.event);
            }
        }
        Some(Word::default().event("change").data("1"))
    }

    fn note(&mut self, event: &Event) {
        self.ended |= matches!(event, Event::RunEnded { .. });
    }

    /// Whether session and token are still good.
    fn is_let_in(&self) -> bool {
        let now = Timestamp::now();
        self.web.sessions.lasts(&self.seen.key, now) && matches!(self.web.service.tokens.holder(&self.seen.token, now), Ok(Ok(_)))
    }
}
