//! What an operator watches, as Prometheus reads it.

mod gate;

pub use gate::{Delivered, GateMetrics, GateStanding};

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::cell::{Stage, StageOutcome};
use crate::id::{CellId, RunId};
use crate::journal::{Entry, Event};
use crate::lab::desk::queue::Standing;
use crate::lab::scheduler::standing::OneHost;

/// The two forms that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    OpenMetrics,
    /// What Prometheus read before, and everybody who does not say what he reads.
    Plain,
}

impl Form {
    /// The form that somebody who accepts this can read.
    pub fn accepted(accept: &str) -> Self {
        let named =
            |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/openmetrics-text"));
        if accept.split(',').any(named) { Self::OpenMetrics } else { Self::Plain }
    }

    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByHost {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStage {
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    method: &'static str,
    route: String,
    status: u16,
}

/// Counters since the server's start, and gauges of how things stand.
pub struct Metrics {
    registry: Registry,
    runs: Family<ByState, Gauge>,
    ended: Family<ByVerdict, Counter>,
    cells: Gauge,
    slots: Gauge,
    taken: Gauge,
    waiting: Gauge,
    paused: Gauge,
    host_taken: Family<ByHost, Gauge>,
    host_slots: Family<ByHost, Gauge>,
    host_out: Family<ByHost, Gauge>,
    host_paused: Family<ByHost, Gauge>,
    trouble: Gauge,
    stages: Family<ByStage, Histogram>,
    requests: Family<ByRoute, Counter>,
    latency: Histogram,
    pub gate: GateMetrics,
    seen: Mutex<HashMap<(RunId, CellId), UnderWay>>,
}

/// A cell's pass that is under way.
#[derive(Default)]
struct UnderWay {
    stage: Option<(Stage, Timestamp)>,
}

impl Default for Metrics {
    fn default() -> Self {
        let stages = || Histogram::new(exponential_buckets(0.5, 2.0, 14));
        let metrics = Self {
            registry: Registry::with_prefix("patchlab"),
            runs: Family::default(),
            ended: Family::default(),
            cells: Gauge::default(),
            slots: Gauge::default(),
            taken: Gauge::default(),
            waiting: Gauge::default(),
            paused: Gauge::default(),
            host_taken: Family::default(),
            host_slots: Family::default(),
            host_out: Family::default(),
            host_paused: Family::default(),
            trouble: Gauge::default(),
            stages: Family::new_with_constructor(stages),
            requests: Family::default(),
            latency: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            gate: GateMetrics::default(),
            seen: Mutex::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("runs", "Runs that have not ended: queued, running", self.runs.clone());
        registry.register("runs_ended", "Runs that ended since the server's start, by verdict", self.ended.clone());
        registry.register("cells_under_way", "Cells with a pass under way", self.cells.clone());
        registry.register("machine_slots", "Machines that may be at work at once", self.slots.clone());
        registry.register("machine_slots_taken", "Machines that cells at work have room for", self.taken.clone());
        registry.register("cells_waiting", "Cells that wait for room on the host", self.waiting.clone());
        registry.register("paused", "1 while no cell may start", self.paused.clone());
        registry.register("host_machine_slots", "Machines that may be at work at once, by host", self.host_slots.clone());
        registry.register("host_machine_slots_taken", "Machines that cells at work have room for, by host", self.host_taken.clone());
        registry.register("host_out", "1 while a host gets no work until it has proved itself", self.host_out.clone());
        registry.register("host_paused", "1 while no cell may start on a host", self.host_paused.clone());
        registry.register("trouble", "1 while the lab can't work", self.trouble.clone());
        registry.register_with_unit("stage", "How long stages took", Unit::Seconds, self.stages.clone());
        registry.register("http_requests", "Requests by route and status", self.requests.clone());
        registry.register_with_unit("http_request", "Until a response began", Unit::Seconds, self.latency.clone());
        self.gate.register(registry);
        self
    }

    /// Learns from an entry of the journal.
    pub fn entry(&self, entry: &Entry) {
        self.gate.entry(entry);
        let Some(run) = entry.run else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &entry.event {
            Event::PassStarted { cell, .. } => {
                seen.insert((run, cell.clone()), UnderWay::default());
            }
            Event::StageStarted { cell, stage } => {
                seen.entry((run, cell.clone())).or_default().stage = Some((*stage, entry.at));
            }
            Event::StageEnded { cell, stage, outcome } => {
                let started = seen.get_mut(&(run, cell.clone())).and_then(|way| way.stage.take());
                if let Some((_, started)) = started.filter(|(open, _)| open == stage) {
                    let outcome = match outcome {
                        StageOutcome::Passed => "passed",
                        StageOutcome::Skipped { .. } => "skipped",
                        StageOutcome::Failed { .. } => "failed",
                    };
                    let seconds = entry.at.duration_since(started).as_secs_f64().max(0.0);
                    self.stages.get_or_create(&ByStage { stage: stage.as_str(), outcome }).observe(seconds);
                }
            }
            Event::PassEnded { cell, .. } => {
                seen.remove(&(run, cell.clone()));
            }
            Event::RunEnded { verdict } => {
                seen.retain(|(other, _), _| *other != run);
                self.ended.get_or_create(&ByVerdict { verdict: verdict.as_str() }).inc();
            }
            _ => {}
        }
        self.cells.set(i64::try_from(seen.len()).unwrap_or(i64::MAX));
    }

    /// Counts a request.
    pub fn request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = ByRoute { method, route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// The text form, with how things stand now.
    pub fn render(&self, form: Form, standing: &Standing, gate: GateStanding) -> String {
        self.gate.stand(gate);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let queued = standing.waiting.len() + standing.taken.difference(&standing.running).count();
        self.runs.get_or_create(&ByState { state: "queued" }).set(count(queued));
        self.runs.get_or_create(&ByState { state: "running" }).set(count(standing.running.len()));
        self.slots.set(standing.capacity.cores.into());
        self.taken.set(standing.in_use.cores.into());
        self.waiting.set(count(standing.cells_waiting));
        self.paused.set(standing.paused.into());
        for OneHost { name, capacity, taken, pause, out, .. } in &standing.hosts {
            let host = ByHost { host: name.to_string() };
            self.host_slots.get_or_create(&host).set(capacity.cores.into());
            self.host_taken.get_or_create(&host).set(taken.cores.into());
            self.host_out.get_or_create(&host).set(out.is_some().into());
            self.host_paused.get_or_create(&host).set(pause.is_some().into());
        }
        self.trouble.set(i64::from(standing.trouble.is_some()));
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = text::encode(&mut text, &self.registry);
        match form {
            Form::OpenMetrics => text,
            Form::Plain => plain(&text),
        }
    }
}

/// OpenMetrics in the older form, which calls a counter by the name of its samples, and knows neither units nor an end.
fn plain(text: &str) -> String {
    let counters: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                plain += &format!("# {what} {name}_total {rest}");
            }
            _ => plain += line,
        }
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_sample_has_a_type_and_a_word_about_it_in_both_forms() {
        let metrics = Metrics::default();
        metrics.request("GET", "/metrics", 200, Duration::from_millis(3));
        metrics.ended.get_or_create(&ByVerdict { verdict: "pass" }).inc();
        metrics.stages.get_or_create(&ByStage { stage: "boot", outcome: "passed" }).observe(1.0);
        metrics.gate.delivery("hook", Delivered::Failed);
        let statuses = BTreeMap::from([(crate::verdict::gate::Status::Pending, 1)]);
        let piles = BTreeMap::from([("hook".to_owned(), crate::journal::outbox::Piles::default())]);
        let gate = || GateStanding { statuses: statuses.clone(), answers: (7, 3), sound: true, piles: piles.clone() };
        let open = metrics.render(Form::OpenMetrics, &Standing::default(), gate());
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE patchlab_decision_answers counter\n"), "{open}");
        let plain = metrics.render(Form::Plain, &Standing::default(), gate());
        assert!(plain.contains("\npatchlab_decision_answers_total{from=\"memory\"} 7\n"), "{plain}");
        let about = |kind: &str| -> BTreeMap<&str, &str> {
            plain.lines().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(kind)?.trim_start().split_once(' ')).collect()
        };
        let (types, words) = (about("TYPE"), about("HELP"));
        let mut samples = 0;
        for sample in plain.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().expect("a name");
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).filter(|one| types.contains_key(one));
            let family = family.unwrap_or(name);
            let kind = types.get(family).unwrap_or_else(|| panic!("{name} has no type: {plain}"));
            assert!(words.get(family).is_some_and(|word| word.len() > 10), "nothing is said of {name}: {plain}");
            assert_eq!(*kind == "counter", family.ends_with("_total"), "{name} is a {kind}");
            samples += 1;
        }
        assert!(samples > 20 && !plain.contains("# UNIT") && !plain.contains("# EOF"), "{plain}");
    }

    #[test]
    fn who_reads_both_forms_gets_the_newer() {
        let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, form) in [(scraper, Form::OpenMetrics), ("*/*", Form::Plain), ("", Form::Plain), ("text/plain", Form::Plain)] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }
}
