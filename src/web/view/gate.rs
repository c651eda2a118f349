//! How decisions and requirements are shown: a word, a shape and a colour for each state.

use jiff::Timestamp;

use crate::id::{Digest, Name};
use crate::report::html::Sign;
use crate::report::text;
use crate::verdict::gate::{GateFinding, Reason, Status};

/// A state as a word with its own shape; the colour is the third sign, never the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Badge {
    pub sign: Sign,
    pub shape: &'static str,
    pub word: &'static str,
}

impl Badge {
    const fn new(sign: Sign, shape: &'static str, word: &'static str) -> Self {
        Self { sign, shape, word }
    }

    pub const fn class(&self) -> &'static str {
        self.sign.class()
    }

    pub const fn mark(&self) -> &'static str {
        self.shape
    }
}

/// A decision's summary beside its badge, which says the first word already.
pub fn why(status: Status, summary: &str, longest: usize) -> String {
    let why = summary.strip_prefix(status.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(summary);
    text::one_line(why, longest)
}

pub const fn of_status(status: Status) -> Badge {
    match status {
        Status::Approved => Badge::new(Sign::Good, "✓", "approved"),
        Status::ApprovedWithWaivers => Badge::new(Sign::Good, "≈", "approved with waivers"),
        Status::Rejected => Badge::new(Sign::Bad, "✕", "rejected"),
        Status::Pending => Badge::new(Sign::Open, "…", "pending"),
        Status::Inconclusive => Badge::new(Sign::Odd, "?", "inconclusive"),
        Status::Superseded => Badge::new(Sign::Quiet, "»", "superseded"),
        Status::Expired => Badge::new(Sign::Odd, "!", "expired"),
    }
}

pub const fn of_reason(reason: Reason) -> Badge {
    match reason {
        Reason::Passed => Badge::new(Sign::Good, "✓", "passed"),
        Reason::Waived => Badge::new(Sign::Good, "≈", "waived"),
        Reason::Failed => Badge::new(Sign::Bad, "✕", "failed"),
        Reason::Flaky => Badge::new(Sign::Odd, "±", "flaky"),
        Reason::Errored => Badge::new(Sign::Odd, "?", "errored"),
        Reason::Missing => Badge::new(Sign::Open, "○", "missing"),
        Reason::Queued => Badge::new(Sign::Open, "◷", "queued"),
        Reason::Running => Badge::new(Sign::Open, "…", "running"),
        Reason::Stale => Badge::new(Sign::Odd, "!", "stale"),
        Reason::Superseded => Badge::new(Sign::Quiet, "»", "superseded"),
    }
}

/// The time from one moment to another in a word or two: `in 3 h`, `2 d ago`.
pub fn away(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second());
    let told = match seconds.unsigned_abs() {
        0..60 => return "now".to_owned(),
        past @ 60..7_200 => format!("{} min", past / 60),
        past @ 7_200..172_800 => format!("{} h", past / 3_600),
        past => format!("{} d", past / 86_400),
    };
    if seconds > 0 { format!("in {told}") } else { format!("{told} ago") }
}

/// A moment, and how far away it is.
pub fn moment(now: Timestamp, at: Timestamp) -> String {
    format!("{} ({})", text::moment(at), away(now, at))
}

/// The command that proposes a waiver.
pub fn waive(patch: Digest, customer: &Name, finding: &GateFinding, hardware: Option<&str>) -> String {
    format!("patchlab {}", text::one_line(&crate::report::gate::waive(patch, customer, finding, hardware).join(" "), 600))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_state_has_a_word_and_a_shape_of_its_own() {
        let statuses: Vec<_> = Status::ALL.into_iter().map(of_status).collect();
        let reasons: Vec<_> = Reason::ALL.into_iter().map(of_reason).collect();
        for badges in [statuses, reasons] {
            let words: BTreeSet<_> = badges.iter().map(|badge| badge.word).collect();
            let shapes: BTreeSet<_> = badges.iter().map(|badge| badge.shape).collect();
            assert_eq!((words.len(), shapes.len()), (badges.len(), badges.len()));
        }
        let green = |badge: Badge| badge.sign == Sign::Good;
        assert!(Status::ALL.into_iter().all(|status| green(of_status(status)) == status.is_open()));
        assert!(Reason::ALL.into_iter().all(|reason| green(of_reason(reason)) == reason.is_met()));
    }

    #[test]
    fn a_summary_does_not_say_again_what_the_badge_says() {
        assert_eq!(why(Status::Pending, "pending: approval missing", 100), "approval missing");
        assert_eq!(why(Status::Expired, "pending: approval missing", 100), "pending: approval missing");
        assert_eq!(why(Status::Approved, "approved", 100), "approved");
    }

    #[test]
    fn distances_read_well() {
        let at = |seconds: i64| Timestamp::from_second(1_772_616_600 + seconds).expect("a moment");
        let told = [-200_000, -7_300, -3, 90, 7_300, 86_400 * 14].map(|seconds| away(at(0), at(seconds)));
        assert_eq!(told, ["2 d ago", "2 h ago", "now", "in 1 min", "in 2 h", "in 14 d"]);
    }
}
