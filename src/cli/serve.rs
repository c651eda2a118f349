//! `patchlab serve`: puts the server's parts together and runs until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;

use super::args::Serve;
use super::context::Context;
use super::error::{Exit, Failure};
use super::key;
use super::whereabouts::Whereabouts;
use crate::api::decisions::poll::Polls;
use crate::api::listen::{Door, Inside, ListenError};
use crate::api::{self, Service};
use crate::catalog::settings;
use crate::journal::Journal;
use crate::web;

/// How often it is written down when tokens were used last.
const NOTED: Duration = Duration::from_secs(20);
/// How long the run that is worked on may take to be given up. Its machines are the next start's to remove after that.
const GIVE_UP: Duration = Duration::from_secs(75);

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        Self::usage(error)
    }
}

pub async fn serve(context: Context, verb: &Serve) -> Result<Exit, Failure> {
    let _lock = context.state.lock()?;
    let context = Arc::new(context);
    let identity = verb.certificate.as_deref().zip(verb.private_key.as_deref());
    let door = Door::open(verb.listen, identity, &settings::read(&context.folder)?.server).await?;
    // Made at the first start, so that who verifies can be given its public half before there is anything to verify.
    key::signing(&context, &verb.key)?;
    let mut service = Service::open(context.clone(), verb.workers, door.is_secure()).await?;
    service.signing_key.clone_from(&verb.key.signing_key);
    let service = Arc::new(service);
    let watch = tokio::spawn(remember(service.clone(), service.journal.clone()));
    let worker = tokio::spawn(service.queue.clone().work());
    let keeper = tokio::spawn(service.clone().keep());
    let stopped = stop_when_told(service.clone());

    let url = door.url();
    let about = Whereabouts { url: url.clone(), process: std::process::id(), since: Timestamp::now() };
    let _published = about.publish(&context.state.folder)?;
    super::say(format_args!("serving {} on {url}", context.folder.display()));
    if service.tokens.list()?.is_empty() {
        super::say("nobody has a token yet; make one: patchlab token add NAME --role administrator");
    }
    let routes = api::router(service.clone(), web::pages(service.clone()));
    let inside = Inside { polls: Some(Polls::of(&service)), routes };
    door.serve(inside, service.stopping()).await;
    super::say("stopping: what is under way is given up, and taken up at the next start");
    if tokio::time::timeout(GIVE_UP, worker).await.is_err() {
        super::say("the run that was worked on did not give up in time; the next start removes its machines");
    }
    // What is not told by then is told at the next start.
    let _ = tokio::time::timeout(api::webhooks::LAST_ORDERS * 2, keeper).await;
    watch.abort();
    stopped.abort();
    service.tokens.flush()?;
    Ok(Exit::Pass)
}

/// Stops the service at the first SIGINT or SIGTERM, and the process at the second.
fn stop_when_told(service: Arc<Service>) -> tokio::task::JoinHandle<()> {
    let (cancel, mut cancelled) = tokio::sync::watch::channel(false);
    let farewell = async { super::say("left at once; the next start removes what was left and takes the runs up") };
    super::interrupt::watch(cancel, "told to stop; once more leaves at once", farewell);
    tokio::spawn(async move {
        // A watcher that is gone tells nothing.
        if cancelled.wait_for(|cancelled| *cancelled).await.is_ok() {
            service.queue.stop();
        }
    })
}

/// Keeps the metrics and the tokens' last uses up to date.
async fn remember(service: Arc<Service>, journal: Journal) {
    let mut entries = journal.watch();
    let mut tick = tokio::time::interval(NOTED);
    loop {
        tokio::select! {
            entry = entries.recv() => match entry {
                Ok(entry) => service.metrics.entry(&entry),
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "the metrics miss entries of the journal"),
                Err(RecvError::Closed) => return,
            },
            _ = tick.tick() => {
                if let Err(error) = service.tokens.flush() {
                    tracing::warn!(%error, "the tokens' last uses are not written");
                }
            }
        }
    }
}
