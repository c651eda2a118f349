//! What the outside is told of a decision, and whether it is.
//!
//! Invariant: pure. A decision is told when it becomes final, is final in another way than the one before it, or is open again after it was
//! final, and then to each webhook that hears of the customer once.

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
    let last = last.filter(|last| last.is_final);
    let kind = match (decision.is_final, last) {
        (true, Some(last)) if last.status == decision.status => return Vec::new(),
        (true, _) => "decision.final",
        (false, Some(_)) => "decision.reopened",
        (false, None) => return Vec::new(),
    };
    let told = Told { kind, timestamp: decision.as_of, data: decision };
    let body = serde_json::to_string(&told).unwrap_or_default();
    let hears = webhooks.iter().filter(|webhook| webhook.hears_of(&decision.customer));
    hears.map(|webhook| Message { target: webhook.name.to_string(), body: body.clone() }).collect()
}
