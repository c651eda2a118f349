//! What the outside is told of a decision, and whether it is.
//!
//! Invariant: pure. A decision is told when it becomes final or is final in another way than the one before it, and then to each webhook
//! that hears of the customer once.

use serde::Serialize;

use crate::catalog::webhook::Webhook;
use crate::journal::Message;
use crate::verdict::gate::Decision;

/// The body of a delivery, as Standard Webhooks recommends it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: jiff::Timestamp,
    data: &'a Decision,
}

/// What each webhook is told when this decision takes the place of the last one.
pub fn messages(webhooks: &[Webhook], last: Option<&Decision>, decision: &Decision) -> Vec<Message> {
    let known = last.is_some_and(|last| last.is_final && last.status == decision.status);
    if !decision.is_final || known {
        return Vec::new();
    }
    let told = Told { kind: "decision.final", timestamp: decision.as_of, data: decision };
    let body = serde_json::to_string(&told).unwrap_or_default();
    let hears = webhooks.iter().filter(|webhook| webhook.hears_of(&decision.customer));
    hears.map(|webhook| Message { target: webhook.name.to_string(), body: body.clone() }).collect()
}
