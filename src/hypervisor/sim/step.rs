//! What one step of a job does in a simulated guest. A step is known by its environment: `PATCHLAB_STEP` names the engine's own
//! (`PATCHLAB_PATCH` the patch that it is about), `PATCHLAB_SUITE_NAME` and `PATCHLAB_CASE` a case; anything else is taken for a command
//! line.
//!
//! | step | by itself |
//! | --- | --- |
//! | `facts` | prints the facts, into `$PATCHLAB_RESULT` too |
//! | `apply`, `reapply`, `rollback` | takes the pace's `apply`, exits with 0 |
//! | `confirm` | exits with 0 when an `apply` went well and was not taken back, else 1 |
//! | `preflight`, `reboot-wanted`, anything else | prints nothing, exits with 0 |
//! | a case | prints `ok`, exits with 0 |

use std::time::Duration;

use super::matching::{Situation, glob};
use super::scenario::{Ends, Moment, Scenario, Step, StepName};
use super::{facts, shell};
use crate::catalog::hardware::Hardware;
use crate::guest::{JobStep, StepEnd, StepReport};

/// What a step says when the guest's disk is full.
const DISK_FULL: &str = "sh: write error: No space left on device\n";
/// How the lab's own scripts end when they cannot do their work (`guest/linux`).
const CANNOT: i64 = 67;

/// What is known of the guest when a step starts.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    pub situation: Situation<'a>,
    pub boot_id: &'a str,
    pub hardware: &'a Hardware,
    pub applied: bool,
    pub disk_full: bool,
    /// How many times this clone ran a step of this name before.
    pub before: u32,
}

/// Which step it is, by its environment. `None` for a bare command line.
pub fn name(step: &JobStep) -> Option<Moment> {
    let get = |key: &str| step.env.get(key);
    match (get("PATCHLAB_STEP"), get("PATCHLAB_SUITE_NAME"), get("PATCHLAB_CASE")) {
        (Some(step), _, _) => Some(Moment::Step(step.clone())),
        (None, Some(suite), Some(case)) => Some(Moment::Case(format!("{suite}/{case}"))),
        _ => None,
    }
}

/// The patch that a step is about; empty where it does not say.
pub fn patch(step: &JobStep) -> &str {
    step.env.get("PATCHLAB_PATCH").map_or("", String::as_str)
}

/// How a step will end, if nothing comes between. `elapsed` is how long it takes.
pub fn decide(scenario: &Scenario, guest: &Guest<'_>, step: &JobStep) -> StepReport {
    if let Some(lacking) = step.needs.iter().find(|need| scenario.lacks.contains(need)) {
        return report(StepEnd::Lacks(lacking.clone()), Duration::ZERO, "", None, step);
    }
    let name = name(step);
    let (usual, text, takes) = usual(scenario, guest, step, name.as_ref());
    let is_facts = is_engine_step(step, "facts");
    let in_result = is_facts || is_form(step, "junit") || is_form(step, "autopkgtest");
    let left = |text: &str| Some(capped(text.as_bytes(), text.len() as u64, step.output_cap).0);
    if guest.disk_full && !is_facts {
        return limited(out_of_room(report(usual, takes, "", None, step), step), step);
    }
    let Some(script) = name.and_then(|name| script(scenario, guest, &name)) else {
        let result = if in_result { left(&text) } else { None };
        return limited(StepReport { result, ..report(usual, takes, &text, None, step) }, step);
    };
    let takes = script.takes.map_or(takes, |takes| takes.0 / scenario.pace.speed.max(1));
    let (end, takes) = match &script.ends {
        Ends::AsUsual => (usual, takes),
        Ends::Exit(code) => (StepEnd::Exit(*code), takes),
        Ends::Signal(signal) => (StepEnd::Signal(*signal), takes),
        Ends::TimesOut => (StepEnd::TimedOut, Duration::MAX),
        Ends::Asks if step.terminal => (StepEnd::Asked, takes),
        Ends::Asks => (StepEnd::Exit(1), takes),
        Ends::Lacks(command) => (StepEnd::Lacks(command.clone()), Duration::ZERO),
    };
    let text = script.output.as_deref().unwrap_or(&text);
    let size = script.floods.map(|size| size.0);
    // The driver of a test that others have written speaks beside what the test prints.
    let text_left = if is_form(step, "autopkgtest") { passing(step) } else { text };
    let result = script.result.as_deref().and_then(left).or_else(|| if in_result { left(text_left) } else { None });
    limited(StepReport { result, ..report(end, takes, text, size, step) }, step)
}

/// A step whose guest has no room left on its disk.
pub fn out_of_room(report: StepReport, step: &JobStep) -> StepReport {
    if is_engine_step(step, "facts") || report.end == StepEnd::TimedOut {
        return report;
    }
    let end = StepEnd::Exit(if is_engine_step(step, "preflight") { CANNOT } else { 1 });
    let (output, truncated) = capped(DISK_FULL.as_bytes(), DISK_FULL.len() as u64, step.output_cap);
    StepReport { end, output, truncated, result: None, ..report }
}

pub fn is_engine_step(step: &JobStep, wanted: &str) -> bool {
    matches!(name(step), Some(Moment::Step(name)) if name == wanted)
}

/// What the step does when the scenario says nothing about it.
fn usual(scenario: &Scenario, guest: &Guest<'_>, step: &JobStep, name: Option<&Moment>) -> (StepEnd, String, Duration) {
    let speed = scenario.pace.speed.max(1);
    let (short, long) = (scenario.pace.step.0 / speed, scenario.pace.apply.0 / speed);
    match name {
        Some(Moment::Step(name)) => match name.as_str() {
            "facts" => (StepEnd::Exit(0), facts::told(scenario, guest), short),
            "apply" | "reapply" | "rollback" => (StepEnd::Exit(0), "Setting up sim-patch ...\n".to_owned(), long),
            "confirm" if !guest.applied => (StepEnd::Exit(1), "the patch is not installed\n".to_owned(), short),
            _ => (StepEnd::Exit(0), String::new(), short),
        },
        Some(_) => (StepEnd::Exit(0), passing(step).to_owned(), short),
        None => match shell::run(&step.command, step.terminal) {
            Some(ran) => (ran.end, ran.output, ran.takes.saturating_add(short)),
            None => (StepEnd::Exit(0), String::new(), short),
        },
    }
}

/// What a case says that passes, in the form that it is to report in.
fn passing(step: &JobStep) -> &'static str {
    match step.env.get("PATCHLAB_FORM").map(String::as_str) {
        Some("autopkgtest") => "ran\n",
        Some("tap") => "1..1\nok 1 - sim\n",
        Some("junit") => r#"<testsuite name="sim" tests="1"><testcase name="sim"/></testsuite>"#,
        _ => "ok\n",
    }
}

fn is_form(step: &JobStep, form: &str) -> bool {
    step.env.get("PATCHLAB_FORM").is_some_and(|other| other == form)
}

/// The line of the scenario that decides.
fn script<'a>(scenario: &'a Scenario, guest: &Guest<'_>, name: &Moment) -> Option<&'a Step> {
    let fits = |step: &Step| match (&step.on, name) {
        (StepName::Step(pattern), Moment::Step(name)) | (StepName::Case(pattern), Moment::Case(name)) => glob(pattern, name),
        _ => false,
    };
    let Situation { cell, nth, .. } = guest.situation;
    let label = format!("{name:?}");
    scenario.steps.iter().enumerate().find_map(|(at, step)| {
        let words = ["step", &at.to_string(), cell, &nth.to_string(), &label, &guest.before.to_string()];
        (fits(step) && step.when.matches(&guest.situation) && scenario.seed.happens(step.chance, &words)).then_some(step)
    })
}

fn report(end: StepEnd, elapsed: Duration, text: &str, size: Option<u64>, step: &JobStep) -> StepReport {
    let text = if size.is_some() && text.is_empty() { "y\n" } else { text };
    let (output, truncated) = capped(text.as_bytes(), size.unwrap_or(text.len() as u64), step.output_cap);
    StepReport { end, elapsed, output, truncated, result: None }
}

/// The same, ended at the step's time limit if it would take longer.
fn limited(report: StepReport, step: &JobStep) -> StepReport {
    if report.elapsed <= step.limit { report } else { StepReport { end: StepEnd::TimedOut, elapsed: step.limit, result: None, ..report } }
}

/// `size` bytes of `pattern` repeated, capped as the port says: half from the start, the rest from the end.
fn capped(pattern: &[u8], size: u64, cap: usize) -> (Vec<u8>, bool) {
    let bytes = |from: u64, to: u64| (from..to).filter_map(|at| pattern.get((at % pattern.len() as u64) as usize).copied());
    if pattern.is_empty() {
        (Vec::new(), false)
    } else if size == pattern.len() as u64 && pattern.len() <= cap {
        (pattern.to_vec(), false)
    } else if size <= cap as u64 {
        (bytes(0, size).collect(), false)
    } else {
        let head = cap / 2;
        (bytes(0, head as u64).chain(bytes(size - (cap - head) as u64, size)).collect(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::hardware::{Chipset, DiskBus, Firmware, NicModel};
    use crate::catalog::text::Size;
    use crate::cell::observation::Point;

    fn a_step(env: &[(&str, &str)]) -> JobStep {
        JobStep {
            command: "echo hello".to_owned(),
            folder: None,
            env: env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            limit: Duration::from_secs(60),
            output_cap: 64 * 1024,
            terminal: true,
            needs: Vec::new(),
        }
    }

    fn guest(point: Point) -> Guest<'static> {
        let situation = Situation { cell: "acme.web@bios", role: "", nth: 1, point, boot: 1, patches: Box::leak(Box::default()) };
        let hardware = Box::leak(Box::new(Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio)));
        Guest { situation, boot_id: "the-boot", hardware, applied: false, disk_full: false, before: 0 }
    }

    #[test]
    fn floods_keep_their_ends_and_no_more() {
        assert_eq!(capped(b"abc", 7, 10), (b"abcabca".to_vec(), false));
        assert_eq!(capped(b"abc", 1 << 60, 5).0.len(), 5);
        assert_eq!(capped(b"0123456789", 10, 5), (b"01789".to_vec(), true));
        assert_eq!(capped(b"", 10, 5), (Vec::new(), false));
        let flood = Step { floods: Some(Size(1 << 40)), ..Step::new(StepName::Case("*".to_owned()), Ends::AsUsual) };
        let step = a_step(&[("PATCHLAB_SUITE_NAME", "s"), ("PATCHLAB_CASE", "c")]);
        let report = decide(&Scenario::default().step(flood), &guest(Point::Baseline), &step);
        assert_eq!((report.output.len(), report.truncated), (64 * 1024, true));
    }

    #[test]
    fn a_flaky_case_fails_sometimes_and_always_the_same_times() {
        let flaky = Step { chance: 30, ..Step::new(StepName::Case("s/*".to_owned()), Ends::Exit(1)) };
        let scenario = Scenario::seeded(7).step(flaky);
        let step = a_step(&[("PATCHLAB_SUITE_NAME", "s"), ("PATCHLAB_CASE", "c")]);
        let run = |before| decide(&scenario, &Guest { before, ..guest(Point::Baseline) }, &step).end;
        let runs: Vec<StepEnd> = (0..100).map(run).collect();
        assert_eq!(runs, (0..100).map(run).collect::<Vec<_>>());
        let failed = runs.iter().filter(|end| **end == StepEnd::Exit(1)).count();
        assert!((15..45).contains(&failed), "{failed}");
    }

    #[test]
    fn steps_end_as_told() {
        let apply = [("PATCHLAB_STEP", "apply")];
        let end = |ends: Ends, step: JobStep| {
            let scenario = Scenario::default().step(Step::new(StepName::Step("apply".to_owned()), ends));
            let report = decide(&scenario, &guest(Point::Baseline), &step);
            (report.end, report.elapsed.as_secs())
        };
        assert_eq!(end(Ends::Exit(100), a_step(&apply)), (StepEnd::Exit(100), 12));
        assert_eq!(end(Ends::TimesOut, a_step(&apply)), (StepEnd::TimedOut, 60));
        assert_eq!(end(Ends::Asks, a_step(&apply)), (StepEnd::Asked, 12));
        assert_eq!(end(Ends::Asks, JobStep { terminal: false, ..a_step(&apply) }), (StepEnd::Exit(1), 12));
        assert_eq!(end(Ends::Exit(0), JobStep { limit: Duration::from_secs(5), ..a_step(&apply) }), (StepEnd::TimedOut, 5));
        let needy = JobStep { needs: vec!["sh".to_owned(), "no-such-command".to_owned()], ..a_step(&apply) };
        assert_eq!(end(Ends::Exit(0), needy), (StepEnd::Lacks("no-such-command".to_owned()), 0));
    }
}
