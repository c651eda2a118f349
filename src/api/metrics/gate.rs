//! What an operator watches of the gate: decisions, and whether the outside hears of them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::journal::outbox::Piles;
use crate::journal::{Entry, Event, Record};
use crate::verdict::gate::Status;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    from: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    webhook: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPile {
    webhook: String,
    state: &'static str,
}

/// How a delivery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Delivered,
    Failed,
    Dead,
}

#[derive(Default)]
pub struct GateMetrics {
    decisions: Family<ByStatus, Gauge>,
    changes: Family<ByStatus, Counter>,
    answers: Family<BySource, Counter>,
    unsound: Gauge,
    deliveries: Family<ByOutcome, Counter>,
    messages: Family<ByPile, Gauge>,
}

/// How things stand at the gate.
pub struct GateStanding {
    pub statuses: BTreeMap<Status, usize>,
    /// Decisions that were answered from memory, and that were made.
    pub answers: (u64, u64),
    pub sound: bool,
    pub piles: BTreeMap<String, Piles>,
}

impl GateMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Decisions on record, by status", self.decisions.clone());
        registry.register("decision_changes", "Decisions put on record since the server's start, by status", self.changes.clone());
        registry.register("decision_answers", "Answers since the server's start: from memory, or made by the gate", self.answers.clone());
        registry.register("catalog_unsound", "1 while the catalog has mistakes, so that no decision is given", self.unsound.clone());
        registry.register("webhook_deliveries", "Deliveries by webhook: delivered, failed, dead", self.deliveries.clone());
        registry.register("webhook_messages", "Messages that are not delivered: waiting, dead", self.messages.clone());
    }

    pub(super) fn entry(&self, entry: &Entry) {
        if let Event::Recorded { record } = &entry.event
            && let Record::Decided { decision } = &**record
        {
            self.changes.get_or_create(&ByStatus { status: decision.status.as_str() }).inc();
        }
    }

    pub fn delivery(&self, webhook: &str, outcome: Delivered) {
        let outcome = match outcome {
            Delivered::Delivered => "delivered",
            Delivered::Failed => "failed",
            Delivered::Dead => "dead",
        };
        self.deliveries.get_or_create(&ByOutcome { webhook: webhook.to_owned(), outcome }).inc();
    }

    pub(super) fn stand(&self, standing: GateStanding) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (status, count) in standing.statuses {
            self.decisions.get_or_create(&ByStatus { status: status.as_str() }).set(gauge(count as u64));
        }
        let (memory, gate) = standing.answers;
        for (from, count) in [("memory", memory), ("gate", gate)] {
            self.answers.get_or_create(&BySource { from }).inner().store(count, Ordering::Relaxed);
        }
        self.unsound.set(i64::from(!standing.sound));
        for (webhook, piles) in standing.piles {
            let pile = |state| ByPile { webhook: webhook.clone(), state };
            self.messages.get_or_create(&pile("waiting")).set(gauge(piles.waiting));
            self.messages.get_or_create(&pile("dead")).set(gauge(piles.dead));
        }
    }
}
