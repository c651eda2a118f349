//! The run's time line: a lane per pass, its stages to scale.

use jiff::Timestamp;

use crate::id::CellId;
use crate::journal::{PassRecord, RunState};
use crate::report::html::Sign;
use crate::report::html::cell::{StagePage, percent, stage_page};
use crate::report::text;

/// Passes that are drawn.
const LANES: usize = 120;
/// Steps between the marks of the scale, in seconds.
const STEPS: [u64; 14] = [1, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];

/// All passes of a run on one scale.
pub struct TimeLine {
    pub lanes: Vec<Lane>,
    /// Passes that are not drawn.
    pub more: usize,
    /// Place in percent, and the time since the run was planned.
    pub scale: Vec<(String, String)>,
}

/// One pass.
pub struct Lane {
    pub cell: String,
    pub pass: String,
    pub kept: bool,
    pub took: String,
    /// All of it in words.
    pub told: String,
    pub stages: Vec<Segment>,
}

/// One stage of a pass.
pub struct Segment {
    pub sign: Sign,
    /// What the pointer shows.
    pub title: String,
    /// In percent of the whole.
    pub left: String,
    pub width: String,
}

/// Draws every pass of the run that has begun.
pub fn time_line(run: &RunState) -> TimeLine {
    let passes: Vec<_> = run
        .plan
        .cells
        .iter()
        .filter_map(|cell| Some((cell, run.cells.get(&cell.id)?)))
        .flat_map(|(cell, record)| record.passes.iter().map(move |pass| (cell, pass)))
        .filter(|(_, pass)| !pass.stages.is_empty())
        .collect();
    let end = passes.iter().flat_map(|(_, pass)| &pass.stages).map(|stage| stage.ended.as_ref().map_or(stage.started, |(at, _)| *at)).max();
    let whole = end.map_or(0, |end| text::elapsed(run.planned, end));
    let lanes = passes.iter().take(LANES).map(|(cell, pass)| lane(&cell.id, pass, run.planned, whole)).collect();
    TimeLine { lanes, more: passes.len().saturating_sub(LANES), scale: scale(whole) }
}

fn lane(cell: &CellId, pass: &PassRecord, planned: Timestamp, whole: u64) -> Lane {
    let told: Vec<_> = pass.stages.iter().map(|stage| stage_page(stage, text::elapsed(planned, stage.started), whole)).collect();
    let in_words = |stage: &StagePage| {
        let took = if stage.took.is_empty() { String::new() } else { format!(" {}", stage.took) };
        let why = if stage.message.is_empty() { String::new() } else { format!(" ({})", stage.message) };
        format!("{}{took} {}{why}", stage.name, stage.word)
    };
    let begun = pass.stages.first().map_or(planned, |stage| stage.started);
    let last = pass.stages.last().map_or(planned, |stage| stage.ended.as_ref().map_or(stage.started, |(at, _)| *at));
    let again = if pass.attempt > 1 { format!(", attempt {}", pass.attempt) } else { String::new() };
    Lane {
        cell: cell.to_string(),
        pass: format!("{}{again}", pass.pass),
        kept: pass.kept,
        took: text::duration(text::elapsed(begun, last)),
        told: told.iter().map(in_words).collect::<Vec<_>>().join(", "),
        stages: told
            .iter()
            .filter(|stage| stage.sign != Sign::Quiet)
            .map(|stage| Segment {
                sign: stage.sign,
                title: in_words(stage),
                left: stage.left.clone(),
                // What has not ended yet is open towards the right.
                width: if stage.sign == Sign::Open { "1.0".to_owned() } else { stage.width.clone() },
            })
            .collect(),
    }
}

/// Four to eight marks at round times.
fn scale(whole: u64) -> Vec<(String, String)> {
    let step = STEPS.into_iter().find(|step| whole / (step * 1000) < 6).unwrap_or(whole / 6_000).max(1) * 1000;
    let marks = (0..=whole / step).map(|mark| mark * step);
    // At the right edge there is no room for the words.
    marks.filter(|mark| *mark == 0 || *mark <= whole / 100 * 93).map(|mark| (percent(mark, whole), short(mark / 1000))).collect()
}

/// `45 s`, `5 min`, `2 h`, `1:30 h`.
fn short(seconds: u64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours}:{minutes:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_and_round() {
        for (whole, first, last) in [
            (0, "0 s", "0 s"),
            (742_000, "0 s", "10 min"),
            (45_000, "0 s", "40 s"),
            (90_000, "0 s", "1 min"),
            (11_000_000, "0 s", "2 h"),
            (u64::MAX, "0 s", ""),
        ] {
            let marks = scale(whole);
            assert!((1..=8).contains(&marks.len()), "{whole}: {}", marks.len());
            assert_eq!(marks.first().map(|mark| mark.1.as_str()), Some(first), "{whole}");
            assert!(marks.last().is_some_and(|mark| mark.1.starts_with(last)), "{whole}: {:?}", marks.last());
        }
    }
}
