//! What people see while images are made: a bar for each on a terminal, plain lines elsewhere. All on standard error.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use crate::id::Name;
use crate::lab::images::{Progress, Step, Watcher};

/// Shows how far images are until it is dropped.
pub struct Bars(Arc<Shown>);

struct Shown {
    all: MultiProgress,
    plain: bool,
    lines: Mutex<BTreeMap<Name, Line>>,
}

struct Line {
    bar: ProgressBar,
    step: Option<Step>,
}

impl Bars {
    pub fn new<'a>(names: impl IntoIterator<Item = &'a Name>) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix:16} {bar:12} {percent:>3} % {elapsed:>4} {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = |name: &Name| {
            let bar = all.add(ProgressBar::new(1000)).with_style(style.clone()).with_message("waiting for its turn");
            bar.set_prefix(name.to_string());
            bar.tick();
            (name.clone(), Line { bar, step: None })
        };
        let lines = Mutex::new(names.into_iter().map(line).collect());
        Self(Arc::new(Shown { plain: all.is_hidden(), all, lines }))
    }

    /// Whoever makes the images tells this one how far they are; it calls them off once `cancelled` holds true.
    pub fn watcher(&self, cancelled: watch::Receiver<bool>) -> Watcher {
        let shown = self.0.clone();
        Watcher::new(cancelled, move |progress| shown.progress(&progress))
    }

    /// Says how one ended, and takes its bar away.
    pub fn ended(&self, name: &Name, how: &str) {
        if let Some(line) = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            line.bar.finish_and_clear();
        }
        self.0.say(how);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Bars that cannot be cleared stay on the screen and do no harm.
        let _ = self.0.all.clear();
    }
}

impl Shown {
    fn progress(&self, progress: &Progress) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get_mut(&progress.image) else { return };
        let title = progress.step.title();
        if line.step.is_none() {
            line.bar.reset_elapsed();
            line.bar.enable_steady_tick(Duration::from_millis(500));
        }
        line.bar.set_position((progress.fraction.clamp(0.0, 1.0) * 1000.0) as u64);
        line.bar.set_message(format!("{title} {}", progress.detail));
        if line.step.replace(progress.step) != Some(progress.step) && self.plain {
            super::say(format_args!("{}: {title}", progress.image));
        }
    }

    fn say(&self, line: &str) {
        if self.plain {
            super::say(line);
        } else {
            // A line that cannot be printed is no reason to stop.
            let _ = self.all.println(line);
        }
    }
}
