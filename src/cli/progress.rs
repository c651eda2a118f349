//! What people see while a run works: a bar for each cell at work on a terminal, plain lines elsewhere. All on standard error.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::cell::{CaseObservation, CaseOutcome, Stage, StageOutcome, blame};
use crate::id::CellId;
use crate::journal::{Entry, Event};
use crate::lab::{Activity, Lab};

/// Shows what a lab does until it is dropped.
pub struct Display {
    task: JoinHandle<()>,
    bars: MultiProgress,
}

impl Display {
    /// Starts showing.
    pub fn start(lab: &Lab, cells: usize) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // Hidden also on a terminal that cannot move its cursor.
        let terminal = !bars.is_hidden();
        let mut painter = Painter { bars: bars.clone(), terminal, cells: HashMap::new(), ended: 0, planned: cells };
        let (mut entries, mut activities) = (lab.journal.watch(), lab.activity.subscribe());
        let task = tokio::spawn(async move {
            loop {
                let seen = tokio::select! {
                    entry = entries.recv() => entry.map(|entry| painter.entry(&entry)),
                    activity = activities.recv() => activity.map(|activity| painter.activity(&activity)),
                };
                if matches!(seen, Err(RecvError::Closed)) {
                    return;
                }
            }
        });
        Self { task, bars }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.task.abort();
        // Bars that cannot be cleared stay on the screen and do no harm.
        let _ = self.bars.clear();
    }
}

/// Plain lines about a run that another process works on.
pub struct Lines(Painter);

impl Lines {
    pub fn new(cells: usize) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self(Painter { bars, terminal: false, cells: HashMap::new(), ended: 0, planned: cells })
    }

    pub fn entry(&mut self, entry: &Entry) {
        self.0.entry(entry);
    }
}

struct Painter {
    bars: MultiProgress,
    terminal: bool,
    cells: HashMap<CellId, CellLine>,
    ended: usize,
    planned: usize,
}

struct CellLine {
    bar: ProgressBar,
    stage: Option<Stage>,
    pass: String,
}

impl Painter {
    fn say(&self, line: String) {
        if self.terminal {
            // A line that cannot be printed is no reason to stop.
            let _ = self.bars.println(line);
        } else {
            super::say(line);
        }
    }

    fn line(&mut self, cell: &CellId) -> &mut CellLine {
        let bars = &self.bars;
        self.cells.entry(cell.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:24} {bar:8} {elapsed:>4} {wide_msg}");
            let bar = bars.add(ProgressBar::new(1)).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(cell.to_string());
            bar.enable_steady_tick(Duration::from_millis(500));
            CellLine { bar, stage: None, pass: String::new() }
        })
    }

    fn activity(&mut self, activity: &Activity) {
        let line = self.line(&activity.cell);
        if line.stage != Some(activity.stage) {
            line.stage = Some(activity.stage);
            line.bar.reset_elapsed();
            line.bar.set_length(activity.expected.as_secs().max(1));
        }
        line.bar.set_position(line.bar.elapsed().as_secs().min(line.bar.length().unwrap_or(1)));
        let what = if activity.what.is_empty() { String::new() } else { format!(": {}", activity.what) };
        let pass = if line.pass.is_empty() { String::new() } else { format!("({}) ", line.pass) };
        // What is cut off on a narrow terminal is the detail, not how long it takes.
        line.bar.set_message(format!("of about {} s, {pass}{}{what}", activity.expected.as_secs(), activity.stage));
    }

    fn observation(&mut self, cell: &CellId, observation: &CaseObservation) {
        match observation.outcome {
            CaseOutcome::Pass | CaseOutcome::Skip => {}
            CaseOutcome::Fail | CaseOutcome::TimedOut | CaseOutcome::FlakyFailure | CaseOutcome::HarnessError => {
                let text = crate::report::printable(&observation.message);
                let place = format!("{}/{}", observation.suite, observation.case);
                self.say(format!("{cell:28} {} {place} {}: {text}", observation.outcome.as_str(), observation.point.as_str()));
            }
        }
    }

    fn entry(&mut self, entry: &Entry) {
        match &entry.event {
            Event::PassStarted { cell, pass, attempt, .. } => {
                let main = *pass == crate::cell::Pass::Main && *attempt == 1;
                let name = if main { String::new() } else { format!("{pass}, attempt {attempt}") };
                if !main {
                    self.say(format!("{cell:28} again on a fresh clone: {name}"));
                }
                self.line(cell).pass = name;
            }
            Event::CaseObserved { cell, observation } => self.observation(cell, observation),
            Event::HealthObserved { cell, observations } => {
                observations.iter().for_each(|observation| self.observation(cell, observation));
            }
            Event::StageEnded { cell, stage, outcome } => match outcome {
                StageOutcome::Passed if self.terminal => {}
                StageOutcome::Passed => self.say(format!("{cell:28} {stage} done")),
                StageOutcome::Skipped { reason } => self.say(format!("{cell:28} {stage} skipped: {reason}")),
                StageOutcome::Failed { trouble } => {
                    let blame = match blame(&trouble.cause, stage.side()) {
                        crate::cell::Blame::Patch => "finding",
                        crate::cell::Blame::Lab => "fault",
                    };
                    let text = crate::report::printable(&trouble.message);
                    self.say(format!("{cell:28} {stage} {blame} {}: {text}", trouble.cause.code()));
                }
            },
            Event::CellEnded { cell } => {
                self.ended += 1;
                if let Some(line) = self.cells.remove(cell) {
                    line.bar.finish_and_clear();
                }
                self.say(format!("{cell:28} ended ({} of {})", self.ended, self.planned));
            }
            Event::RunCalledOff { by, reason } => {
                let by = by.as_deref().map_or_else(String::new, |by| format!(" by {by}"));
                self.say(format!("the run is called off{by}: {}", crate::report::printable(reason)));
            }
            Event::RunPlanned { .. }
            | Event::RunTaken { .. }
            | Event::HistoryDrawn { .. }
            | Event::MachineDefined { .. }
            | Event::MachineStarted { .. }
            | Event::StageStarted { .. }
            | Event::FactsTaken { .. }
            | Event::BaselinesChosen { .. }
            | Event::EvidenceKept { .. }
            | Event::PassEnded { .. }
            | Event::RunEnded { .. }
            | Event::MachineReleased { .. }
            | Event::Recorded { .. } => {}
        }
    }
}
