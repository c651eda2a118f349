//! What a machine's journal, kernel log included, says of a span of time.
//!
//! The guest is asked for times since its boot, which no step of its clock changes; how long ago its boot was by the lab's clock is
//! measured when it is asked.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Happened, Window, printable};
use crate::guest::{JobStep, StepEnd, StepReport};

/// Lines of one case from one machine: the first and as many last ones.
const LINES: usize = 100;
const OUTPUT: usize = 512 << 10;
const LIMIT: Duration = Duration::from_secs(30);
/// How much earlier than the span the guest begins to tell: its clocks may be a little off.
const SLACK: Duration = Duration::from_secs(1);

/// Newest first, so that reading ends where the span began. A guest without a journal has at least its kernel's log.
const SCRIPT: &str = r#"if command -v journalctl >/dev/null; then
    journalctl -b -r -o short-monotonic --no-pager 2>/dev/null |
        awk -v from="$PATCHLAB_FROM" '/^\[/ { if (substr($0, 2) + 0 < from) exit } { print }'
else
    dmesg | awk -v from="$PATCHLAB_FROM" '/^\[/ { if (substr($0, 2) + 0 >= from) print }'
fi"#;

/// Where the guest says how long ago it booted.
pub const UPTIME: &str = "/proc/uptime";

/// How a machine's time since boot is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booted(Timestamp);

impl Booted {
    /// From what the guest said of itself between two moments.
    pub fn from(uptime: &[u8], asked: Timestamp, answered: Timestamp) -> Option<Self> {
        let seconds: f64 = String::from_utf8_lossy(uptime).split_whitespace().next()?.parse().ok()?;
        let up = SignedDuration::try_from_secs_f64(seconds).ok().filter(|up| !up.is_negative())?;
        let middle = asked.checked_add(answered.duration_since(asked) / 2).ok()?;
        middle.checked_sub(up).ok().map(Self)
    }

    /// The step that tells what happened since a moment.
    pub fn step(self, since: Timestamp) -> JobStep {
        let from = since.duration_since(self.0).as_secs_f64() - SLACK.as_secs_f64();
        JobStep {
            command: SCRIPT.to_owned(),
            folder: None,
            env: [("PATCHLAB_FROM".to_owned(), format!("{:.3}", from.max(0.0)))].into(),
            limit: LIMIT,
            output_cap: OUTPUT,
            terminal: false,
            needs: vec!["awk".to_owned()],
        }
    }

    fn at(self, seconds: f64) -> Option<Timestamp> {
        self.0.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
    }
}

/// What a machine told, oldest first; or why it told nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    pub role: String,
    lines: Vec<(Timestamp, String)>,
    lacking: Option<String>,
}

/// Whether it is the guest agent's log of what the lab itself asked for.
fn is_the_labs(text: &str) -> bool {
    text.split_once(" qemu-ga[").is_some_and(|(_, said)| said.contains("]: info: guest-"))
}

impl Journal {
    pub fn silent(role: &str, why: &str) -> Self {
        Self { role: role.to_owned(), lines: Vec::new(), lacking: Some(why.to_owned()) }
    }

    /// Reads what the step of [`Booted::step`] gave.
    pub fn read(role: &str, booted: Booted, report: &StepReport) -> Self {
        if report.end != StepEnd::Exit(0) {
            return Self::silent(role, &format!("its journal could not be read: {:?}", report.end));
        }
        let mut lines: Vec<(Timestamp, String)> = Vec::new();
        // Of an entry of several lines, the first has the time.
        for line in report.output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match (stamped(line).and_then(|(seconds, text)| Some((booted.at(seconds)?, text))), lines.last()) {
                (Some((at, text)), _) => lines.push((at, printable(text, super::WIDTH))),
                (None, Some((at, _))) => lines.push((*at, printable(line, super::WIDTH))),
                (None, None) => {}
            }
        }
        lines.retain(|(_, text)| !is_the_labs(text));
        lines.sort_by_key(|(at, _)| *at);
        let lacking = report.truncated.then(|| format!("its journal was longer than {} KiB: the middle is not shown", OUTPUT >> 10));
        Self { role: role.to_owned(), lines, lacking }
    }

    /// What it told of a span of time.
    pub fn during(&self, window: Window) -> Vec<Happened> {
        let told: Vec<_> = self.lines.iter().filter(|(at, _)| window.holds(*at)).collect();
        let left = told.len().saturating_sub(2 * LINES);
        let line = |(at, text): &&(Timestamp, String)| (*at, self.role.clone(), text.clone());
        let gap =
            told.get(LINES).filter(|_| left > 0).map(|(at, _)| (*at, self.role.clone(), format!("[... {left} lines left out here ...]")));
        let head = told.iter().take(LINES).map(line);
        let tail = told.iter().skip(LINES + left).map(line);
        let lacking = self.lacking.iter().map(|why| (window.from, self.role.clone(), format!("[{why}]")));
        lacking.chain(head).chain(gap).chain(tail).collect()
    }
}

/// `[   12.345678] host unit[7]: text`, without the host where there is one.
fn stamped(line: &[u8]) -> Option<(f64, &[u8])> {
    let inside = line.strip_prefix(b"[")?;
    let end = inside.iter().position(|byte| *byte == b']')?;
    let (time, rest) = inside.split_at(end);
    let seconds = std::str::from_utf8(time).ok()?.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)?;
    Some((seconds, rest.strip_prefix(b"] ").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::is_the_labs;

    #[test]
    fn what_the_lab_asked_the_agent_is_no_news() {
        assert!(is_the_labs("acme-web qemu-ga[237]: info: guest-exec-status called, pid: 364"));
        assert!(!is_the_labs("acme-web qemu-ga[237]: warning: the channel was lost"));
        assert!(!is_the_labs("acme-web sshd[12]: info: guest-book opened"));
    }
}
