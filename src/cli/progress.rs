//! What people see while a run works: a bar for each cell at work on a terminal, plain lines elsewhere. All on standard error.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::cell::{CaseObservation, CaseOutcome, Stage, StageOutcome, blame};
use crate::id::{CellId, RunId};
use crate::journal::{Entry, Event};
use crate::lab::clock::Clock;
use crate::lab::scheduler::host::Hosts;
use crate::lab::scheduler::standing::Waiting;
use crate::lab::{Activity, Lab};

/// The least time between two looks at what waits.
const LOOK: Duration = Duration::from_secs(1);
/// Cells of which it is told one by one that they wait.
const TOLD: usize = 10;

/// Shows what a lab does until it is dropped.
pub struct Display {
    task: JoinHandle<()>,
    bars: MultiProgress,
}

impl Display {
    /// Starts showing.
    pub fn start(lab: &Lab, run: RunId, cells: usize) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // Hidden also on a terminal that cannot move its cursor.
        let terminal = !bars.is_hidden();
        let line = Some(Line { hosts: lab.hosts.clone(), run, clock: lab.clock, bar: None, looked: None, told: HashSet::new() });
        let mut painter = Painter { bars: bars.clone(), terminal, cells: HashMap::new(), ended: 0, planned: cells, line };
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
        Self(Painter { bars, terminal: false, cells: HashMap::new(), ended: 0, planned: cells, line: None })
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
    /// The cells that wait, where this process knows them.
    line: Option<Line>,
}

/// The cells of the run that wait for room.
struct Line {
    hosts: Hosts,
    run: RunId,
    clock: Clock,
    bar: Option<ProgressBar>,
    looked: Option<Instant>,
    /// Those of which it was told that they wait.
    told: HashSet<CellId>,
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

    /// Says why cells wait: that of the next one on a terminal, elsewhere that of each of the first when it begins to wait.
    fn waiting(&mut self) {
        let Some(line) = self.line.as_mut().filter(|line| line.looked.is_none_or(|at| at.elapsed() >= LOOK)) else { return };
        line.looked = Some(Instant::now());
        let waiting = line.hosts.standing(Some(line.run), line.clock.now()).waiting;
        let why = |one: &Waiting| crate::report::printable(&one.why);
        if self.terminal {
            let bars = &self.bars;
            match waiting.first() {
                Some(first) => {
                    let style = || ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                    let bar = line.bar.get_or_insert_with(|| bars.add(ProgressBar::new(1)).with_style(style()));
                    let cells = crate::report::text::count(waiting.len(), "cell");
                    bar.set_message(format!("waiting: {cells}; next {}: {}", first.cell, why(first)));
                }
                None => line.bar.take().iter().for_each(ProgressBar::finish_and_clear),
            }
            return;
        }
        let known = line.told.len();
        let new: Vec<_> = waiting.iter().filter(|one| !line.told.contains(&one.cell)).collect();
        let lines: Vec<_> = new.iter().take(TOLD.saturating_sub(known)).map(|one| format!("{:28} waits: {}", one.cell, why(one))).collect();
        let more = new.len() - lines.len();
        line.told.extend(new.into_iter().map(|one| one.cell.clone()));
        lines.into_iter().for_each(|line| self.say(line));
        if more > 0 {
            self.say(format!("{:28} wait as well", format!("{more} more")));
        }
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
        if matches!(entry.event, Event::PassStarted { .. } | Event::CellEnded { .. }) {
            self.waiting();
        }
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
