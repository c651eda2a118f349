//! Webhooks: final decisions, told to whoever asked to be told.
//!
//! Invariants: what is told lies in the journal's outbox since the decision was put on record, and stays there until the other end has
//! said that it has it, or until it is given up; so it is told at least once, whenever the server ends. One delivery at a time goes to a
//! webhook, with a deadline, and follows no redirect. Nothing that the other end answers is read but its status.

mod sign;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{oneshot, watch};
use ureq::Agent;

use self::sign::{Secrets, message_id};
use super::Service;
use super::metrics::Delivered;
use super::trust::trusting;
use crate::catalog::webhook::Webhook;
use crate::journal::JournalError;
use crate::journal::outbox::Letter;

/// The first pause after a delivery in vain; each is twice the one before.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(3600);
/// How often it is looked whether another process has put something into the outbox.
const LOOK: Duration = Duration::from_secs(1);
/// How long a delivery under way may take when the server stops.
pub const LAST_ORDERS: Duration = Duration::from_secs(3);
/// What lies between two tries to read the outbox.
const TROUBLE: Duration = Duration::from_secs(5);

/// How a delivery went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Failed(String),
    /// The other end wants no more of it.
    Gone(String),
}

/// Whether every webhook can be signed for and spoken to.
///
/// # Errors
/// What is wrong with the first that can't.
pub fn check(webhooks: &[Webhook], state: &Path) -> Result<(), String> {
    for webhook in webhooks {
        let of = |wrong: String| format!("webhook {} of {}: {wrong}", webhook.name, crate::catalog::settings::FILE);
        Secrets::read(&state.join(&webhook.secret_file)).map_err(of)?;
        agent(webhook, state).map_err(of)?;
    }
    Ok(())
}

/// Delivers until the server stops.
pub async fn deliver(service: Arc<Service>) {
    let webhooks = service.webhooks.clone();
    let piles = service.journal.piles().await.unwrap_or_default();
    for gone in piles.keys().filter(|target| !webhooks.iter().any(|webhook| webhook.name.as_str() == *target)) {
        if let Err(error) = service.journal.target_gone(gone, Timestamp::now()).await {
            tracing::error!(%error, target = gone, "the outbox of a webhook that is no more is not cleared");
        }
    }
    let state = service.desk.state.folder.clone();
    let posts = webhooks.iter().cloned().map(|webhook| {
        let post = Post { service: service.clone(), webhook, state: state.clone() };
        tokio::spawn(post.work())
    });
    for post in posts.collect::<Vec<_>>() {
        // One that ended in the middle ends alone.
        let _ = post.await;
    }
}

/// What works for one webhook.
struct Post {
    service: Arc<Service>,
    webhook: Webhook,
    state: PathBuf,
}

impl Post {
    async fn work(self) {
        let mut stopping = self.service.stopping();
        let mut changes = self.service.decisions.changes();
        while !*stopping.borrow() {
            let pause = match self.next(&mut stopping).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, webhook = %self.webhook.name, "the outbox can't be used");
                    TROUBLE
                }
            };
            if pause.is_zero() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed(), if pause <= LOOK => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Delivers the next message. Returns for how long there is none.
    async fn next(&self, stopping: &mut watch::Receiver<bool>) -> Result<Duration, JournalError> {
        let journal = &self.service.journal;
        let now = Timestamp::now();
        let letter = match journal.next_letter(self.webhook.name.as_str(), now).await? {
            Ok(letter) => letter,
            Err(due) => {
                let until = due.map_or(LOOK, |due| Duration::from_millis(due.saturating_sub(now.as_millisecond()).max(1).unsigned_abs()));
                return Ok(until.min(LOOK));
            }
        };
        let mut sending = pin!(self.send(&letter));
        let outcome = tokio::select! {
            outcome = &mut sending => Some(outcome),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        };
        let outcome = match outcome {
            Some(outcome) => Some(outcome),
            None => tokio::time::timeout(LAST_ORDERS, sending).await.ok(),
        };
        // It is sent again at the next start, should it have arrived or not.
        let Some(outcome) = outcome else { return Ok(LOOK) };
        let now = Timestamp::now();
        let metrics = &self.service.metrics.gate;
        let dead = async |told: &str| {
            tracing::error!(webhook = %self.webhook.name, letter = letter.id, told, "a message is given up");
            metrics.delivery(self.webhook.name.as_str(), Delivered::Dead);
            journal.letter_dead(letter.id, now, told).await
        };
        match outcome {
            Outcome::Delivered => {
                metrics.delivery(self.webhook.name.as_str(), Delivered::Delivered);
                journal.letter_delivered(letter.id, now).await?;
            }
            Outcome::Gone(told) => dead(&told).await?,
            Outcome::Failed(told) => match self.again(&letter, now) {
                None => dead(&told).await?,
                Some(due) => {
                    tracing::warn!(webhook = %self.webhook.name, letter = letter.id, told, %due, "a delivery failed");
                    metrics.delivery(self.webhook.name.as_str(), Delivered::Failed);
                    journal.letter_failed(letter.id, due, &told).await?;
                }
            },
        }
        Ok(Duration::ZERO)
    }

    /// When it is tried again; `None` when it is given up.
    fn again(&self, letter: &Letter, now: Timestamp) -> Option<Timestamp> {
        let patience = SignedDuration::try_from(self.webhook.give_up_after.0).unwrap_or(SignedDuration::MAX);
        let end = letter.posted.checked_add(patience).unwrap_or(Timestamp::MAX);
        let pause = pause(letter.attempts, fastrand::f64());
        let due = now.checked_add(SignedDuration::try_from(pause).ok()?).ok()?;
        (now < end).then(|| due.min(end))
    }

    /// On a thread that nobody waits for when the process ends.
    async fn send(&self, letter: &Letter) -> Outcome {
        let (tell, told) = oneshot::channel();
        let (webhook, state, body) = (self.webhook.clone(), self.state.clone(), letter.body.clone());
        let sending = std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
            // Whoever asked may be gone.
            let _ = tell.send(send(&webhook, &state, &body));
        });
        match sending {
            Ok(_) => told.await.unwrap_or_else(|_| Outcome::Failed("the delivery ended in the middle".to_owned())),
            Err(error) => Outcome::Failed(format!("no thread to deliver with: {error}")),
        }
    }
}

/// The pause after so many deliveries in vain; `chance` is 0 to 1.
fn pause(attempts: u32, chance: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts.min(30)));
    doubled.min(LONGEST).mul_f64(0.75 + chance / 2.0)
}

fn agent(webhook: &Webhook, state: &Path) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .timeout_global(Some(webhook.timeout.0))
        .user_agent(concat!("patchlab/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &webhook.certificate_file {
        let file = state.join(file);
        config = config.tls_config(trusting(&file).map_err(|found| format!("the certificates {}: {found}", file.display()))?);
    }
    Ok(config.build().into())
}

fn send(webhook: &Webhook, state: &Path, body: &str) -> Outcome {
    let sent = || -> Result<u16, String> {
        let secrets = Secrets::read(&state.join(&webhook.secret_file))?;
        let (id, timestamp) = (message_id(webhook.name.as_str(), body), Timestamp::now().as_second());
        let request = agent(webhook, state)?
            .post(&webhook.url)
            .header("Content-Type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", secrets.signature(&id, timestamp, body));
        request.send(body).map(|response| response.status().as_u16()).map_err(|error| error.to_string())
    };
    match sent() {
        Ok(200..=299) => Outcome::Delivered,
        Ok(410) => Outcome::Gone("it answered 410 Gone".to_owned()),
        Ok(status) => Outcome::Failed(format!("it answered {status}")),
        Err(told) => Outcome::Failed(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ_and_end_at_an_hour() {
        assert_eq!(pause(0, 0.5), FIRST);
        assert_eq!(pause(3, 0.5), FIRST * 8);
        assert!(pause(3, 0.0) < pause(3, 1.0));
        assert_eq!(pause(u32::MAX, 0.5), LONGEST);
    }
}
