//! What a step of an interoperability case left: what it means, where it was, and how the case stands when it was not well.

use std::fmt;
use std::time::Duration;

use super::timeline::printable;
use crate::catalog::suite::ResultForm;
use crate::cell::CaseOutcome;
use crate::guest::StepReport;
use crate::id::Digest;
use crate::verdict::results::{self, CaseResult, ScriptReport};

/// Where in a case something happened. A failure is known by it without the time that was left, which is never the same twice.
pub struct Place {
    pub what: String,
    within: Option<Duration>,
}

impl Place {
    pub fn of(what: String) -> Self {
        Self { what, within: None }
    }

    pub fn within(self, time: Duration) -> Self {
        Self { within: Some(time), ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.within.map_or(Ok(()), |time| write!(f, " within {} s", time.as_secs()))
    }
}

/// How a case stands when a step was not well.
pub struct Unwell {
    pub outcome: CaseOutcome,
    pub message: String,
    pub output: Vec<u8>,
    pub fingerprint: Option<Digest>,
}

impl Unwell {
    pub fn late(place: &Place, why: &str) -> Self {
        Self { outcome: CaseOutcome::TimedOut, ..Self::failed(place, why, Vec::new()) }
    }

    pub fn failed(place: &Place, why: &str, output: Vec<u8>) -> Self {
        let fingerprint = Some(Digest::of(format!("{}\n{why}", place.what)));
        Self { outcome: CaseOutcome::Fail, message: format!("{place}: {why}"), output, fingerprint }
    }
}

/// What a script's end means in its form.
pub fn meant(form: ResultForm, report: &StepReport) -> CaseResult {
    let end = report.end.clone().into();
    let script = ScriptReport { end: &end, output: &report.output, truncated: report.truncated, result: report.result.as_deref() };
    results::read(form, &script)
}

/// Why it was not well, short, as a timeline has it.
pub fn why(read: &CaseResult) -> String {
    format!(": {}", printable(read.message.as_bytes(), 160))
}
