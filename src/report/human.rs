//! The terminal's form, for `patchlab show RUN`: at most 80 columns, verdict first, then what broke and where.
//!
//! It is made of [`Span`]s with a meaning ([`Tone`]), so that the same text can be plain or coloured. What the terminal can show
//! is for the CLI to decide. Nothing is told by colour alone.

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use crate::catalog::hardware::Difference;
use crate::verdict::Verdict;
use crate::verdict::gate::GateFinding;

use super::Source;
use super::baselines;
use super::gate;
use super::rollout::{Safety, rollouts};
use super::text::{self, DiffLine};
use super::view::{CellView, confirmation, difference, heading_of, place};

/// Columns.
const WIDTH: usize = 80;
/// Lines of a finding's detail.
const EXCERPT: usize = 12;
/// Declared differences of a profile that are told one by one.
const DIFFERENCES: usize = 8;

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Dim,
    Pass,
    Fail,
    Inconclusive,
    Added,
    Removed,
}

impl Tone {
    /// How the meaning looks on a terminal with colours.
    pub const fn style(self) -> Style {
        let style = Style::new();
        match self {
            Self::Plain => style,
            Self::Strong => style.bold(),
            Self::Dim => style.dimmed(),
            Self::Pass => AnsiColor::Green.on_default().bold(),
            Self::Fail => AnsiColor::Red.on_default().bold(),
            Self::Inconclusive => AnsiColor::Yellow.on_default().bold(),
            Self::Added => AnsiColor::Green.on_default(),
            Self::Removed => AnsiColor::Red.on_default(),
        }
    }

    pub(super) const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Fail => Self::Fail,
            Verdict::Inconclusive => Self::Inconclusive,
        }
    }
}

/// A piece of text with a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub tone: Tone,
    pub text: String,
}

/// Text with meaning, line ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Styled {
    pub spans: Vec<Span>,
}

impl Styled {
    /// Without any styling.
    pub fn plain(&self) -> String {
        self.spans.iter().map(|span| span.text.as_str()).collect()
    }

    /// With ANSI styling. What prints it takes the styling away again where it is not wanted.
    pub fn ansi(&self) -> String {
        let styled = |span: &Span| match span.tone {
            Tone::Plain => span.text.clone(),
            tone => format!("{}{}{}", tone.style().render(), span.text, tone.style().render_reset()),
        };
        self.spans.iter().map(styled).collect()
    }

    pub(super) fn push(&mut self, tone: Tone, text: impl Into<String>) -> &mut Self {
        self.spans.push(Span { tone, text: text.into() });
        self
    }

    pub(super) fn end_line(&mut self) {
        self.push(Tone::Plain, "\n");
    }

    fn heading(&mut self, text: &str) {
        self.end_line();
        self.push(Tone::Strong, text).end_line();
    }

    /// The text in lines that fit, each after `indent` spaces.
    fn wrapped(&mut self, tone: Tone, indent: usize, text: &str) {
        for line in wrap(text, WIDTH - indent) {
            self.push(Tone::Plain, " ".repeat(indent)).push(tone, line).end_line();
        }
    }
}

/// The run as text for a terminal.
pub fn render(source: &Source<'_>) -> Styled {
    let mut out = Styled::default();
    let manifest = &source.run.plan.patch.manifest;
    let verdict = source.verdict();
    let word = if source.is_finished() { verdict.as_str().to_uppercase() } else { "UNFINISHED".to_owned() };
    out.push(Tone::of(verdict), word).push(Tone::Plain, "  ").push(Tone::Strong, source.title()).end_line();
    out.wrapped(Tone::Plain, 0, &text::one_line(&manifest.title, 150));
    out.wrapped(Tone::Plain, 0, &source.reason());
    findings(&mut out, source);
    faults(&mut out, source);
    matrix(&mut out, source);
    orders(&mut out, source);
    notes(&mut out, source);
    origins(&mut out, source);
    differences(&mut out, source);
    out.heading("Next");
    let here = format!("patchlab show {}", source.run.run);
    let mut told = "";
    for (command, purpose) in source.next_commands().into_iter().filter(|(command, _)| *command != here) {
        if purpose != std::mem::replace(&mut told, purpose) {
            out.push(Tone::Dim, format!("  # {purpose}")).end_line();
        }
        out.push(Tone::Plain, format!("  {command}")).end_line();
    }
    out.end_line();
    let run = source.run;
    let took = text::duration(source.elapsed_ms());
    out.push(Tone::Dim, format!("run {}, {}, {took}", run.run, text::moment(run.planned))).end_line();
    let patches: Vec<_> = run.plan.patches().map(|patch| patch.sha256.short()).collect();
    out.push(Tone::Dim, format!("plan {}, patch {}", run.plan_digest.short(), patches.join(" "))).end_line();
    if let Some(bundle) = run.bundle {
        out.push(Tone::Dim, format!("to find out who is to blame in bundle {bundle}")).end_line();
    }
    out
}

/// The command that proposes to waive a finding.
fn waive(out: &mut Styled, source: &Source<'_>, cell: &CellView<'_>, finding: &crate::verdict::Finding) {
    let finding = GateFinding::from(finding);
    let hardware = cell.planned.hardware_label();
    let hardware = Some(hardware.as_str()).filter(|label| !label.contains('+'));
    // Who of several is to blame is not known here.
    if source.run.plan.is_together() {
        return;
    }
    let words = gate::waive(source.run.plan.patch.sha256, &cell.planned.customer, &finding, hardware);
    gate::command(out, 4, "waive it", &words, WIDTH);
}

fn findings(out: &mut Styled, source: &Source<'_>) {
    let cells = source.cells();
    if cells.iter().all(|cell| cell.findings.is_empty()) {
        return;
    }
    out.heading("Findings: the patch is to blame");
    for cell in &cells {
        for finding in cell.findings {
            let place = place(finding.stage, finding.case.as_deref());
            news(out, Tone::Fail, &finding.code, cell, &place, &finding.message, &confirmation(finding.confirmed));
            excerpt(out, &finding.detail);
            waive(out, source, cell, finding);
        }
    }
}

fn faults(out: &mut Styled, source: &Source<'_>) {
    let cells = source.cells();
    if cells.iter().all(|cell| cell.told_faults().is_empty()) {
        return;
    }
    let (heading, _) = heading_of(cells.iter().flat_map(|cell| cell.faults));
    out.heading(heading);
    for cell in &cells {
        for fault in cell.told_faults() {
            let place = place(fault.stage, fault.case.as_deref());
            let (tone, made_up) = if fault.recovered { (Tone::Dim, "made up for by trying again") } else { (Tone::Inconclusive, "") };
            news(out, tone, &fault.code, cell, &place, &fault.message, made_up);
        }
    }
}

fn news(out: &mut Styled, tone: Tone, code: &str, cell: &CellView<'_>, place: &str, message: &str, remark: &str) {
    let place = if place.is_empty() { String::new() } else { format!("  {}", text::one_line(place, 140)) };
    let code = text::one_line(code, 40);
    let room = WIDTH.saturating_sub(4 + code.width());
    let mut lines = wrap(&format!("{}{place}", cell.title()), room).into_iter();
    out.push(Tone::Plain, "  ").push(tone, code).push(Tone::Plain, format!("  {}", lines.next().unwrap_or_default())).end_line();
    lines.for_each(|line| out.wrapped(Tone::Plain, 6, &line));
    out.wrapped(Tone::Plain, 6, &text::one_line(message, 400));
    if !remark.is_empty() {
        out.wrapped(Tone::Dim, 6, remark);
    }
}

/// The first lines of a detail; of a diff, from its first hunk on.
fn excerpt(out: &mut Styled, detail: &str) {
    let shown = text::guest(detail, 16_000);
    let diff = text::is_diff(&shown);
    let lines: Vec<_> = shown.lines().filter(|line| !(diff && DiffLine::of(line) == DiffLine::Head)).collect();
    for line in lines.iter().take(EXCERPT) {
        let tone = match DiffLine::of(line) {
            DiffLine::Added if diff => Tone::Added,
            DiffLine::Removed if diff => Tone::Removed,
            _ => Tone::Dim,
        };
        let row = cut(&line.replace('\t', "    "), WIDTH - 8);
        out.push(Tone::Dim, "      | ").push(tone, row).end_line();
    }
    if lines.len() > EXCERPT {
        out.push(Tone::Dim, format!("      | … {} more", text::count(lines.len() - EXCERPT, "line"))).end_line();
    }
}

fn matrix(out: &mut Styled, source: &Source<'_>) {
    let cells = source.cells();
    let matrix = source.matrix();
    out.heading(if source.noun() == "cell" { "Cells" } else { "Machines" });
    let first = matrix.rows.iter().map(|(build, _)| build.width()).max().unwrap_or(0);
    let widths: Vec<_> = matrix.hardware.iter().map(|hardware| hardware.width().max("inconclusive".len())).collect();
    if 2 + first + widths.iter().map(|width| width + 2).sum::<usize>() > WIDTH {
        for cell in &cells {
            out.push(Tone::Plain, "  ").push(Tone::of(cell.verdict()), format!("{:<12}", cell.word()));
            out.push(Tone::Plain, format!("  {}", cut(&cell.title(), WIDTH - 16))).end_line();
        }
        return;
    }
    out.push(Tone::Plain, format!("  {:first$}", ""));
    for (column, (hardware, width)) in matrix.hardware.iter().zip(&widths).enumerate() {
        let width = if column + 1 == widths.len() { 0 } else { *width };
        out.push(Tone::Dim, format!("  {hardware:<width$}"));
    }
    out.end_line();
    for (build, places) in &matrix.rows {
        out.push(Tone::Plain, format!("  {build:first$}"));
        for (column, (place, width)) in places.iter().zip(&widths).enumerate() {
            let width = if column + 1 == places.len() { 0 } else { *width };
            match place.and_then(|at| cells.get(at)) {
                Some(cell) => out.push(Tone::Plain, "  ").push(Tone::of(cell.verdict()), format!("{:<width$}", cell.word())),
                None => out.push(Tone::Dim, format!("  {:<width$}", "-")),
            };
        }
        out.end_line();
    }
}

/// The orders in which an environment's machines may be patched.
fn orders(out: &mut Styled, source: &Source<'_>) {
    let rollouts = rollouts(source);
    if rollouts.is_empty() {
        return;
    }
    out.heading("Rollout");
    let mut place = String::new();
    for one in &rollouts {
        let tone = match one.safety {
            Safety::Safe => Tone::Pass,
            Safety::Unsafe => Tone::Fail,
            Safety::Unknown => Tone::Inconclusive,
        };
        let here = format!("  {} on {}", one.environment, one.hardware);
        if here != place {
            out.push(Tone::Plain, here.clone()).end_line();
            place = here;
        }
        out.wrapped(Tone::Plain, 4, &one.told_order());
        out.wrapped(tone, 6, &one.told());
    }
}

fn notes(out: &mut Styled, source: &Source<'_>) {
    let notes = source.notes();
    if notes.is_empty() {
        return;
    }
    out.heading("Notes");
    for (note, cells) in notes {
        out.wrapped(Tone::Plain, 2, &note);
        out.wrapped(Tone::Dim, 4, &places(source, &cells));
    }
}

/// Where the baselines come from.
fn origins(out: &mut Styled, source: &Source<'_>) {
    let told = baselines::summary(&source.cells());
    if told.is_empty() {
        return;
    }
    out.heading("Baselines");
    told.iter().for_each(|line| out.wrapped(Tone::Plain, 2, line));
}

/// The first few of each profile: they are the same in every run of it.
fn differences(out: &mut Styled, source: &Source<'_>) {
    let all = source.differences();
    if all.is_empty() {
        return;
    }
    out.heading("Declared differences from production");
    for (hardware, differences) in all {
        out.push(Tone::Plain, "  ").push(Tone::Strong, hardware.as_str()).end_line();
        for one in differences.iter().take(DIFFERENCES) {
            let Difference { device, production, lab } = difference(one);
            out.wrapped(Tone::Plain, 4, &format!("{device}: {production}"));
            out.wrapped(Tone::Dim, 6, &format!("in the lab: {lab}"));
        }
        if differences.len() > DIFFERENCES {
            out.wrapped(Tone::Dim, 4, &format!("… {} more, in the page and in JSON", differences.len() - DIFFERENCES));
        }
    }
}

/// The cells' names, or that it is all of them.
fn places(source: &Source<'_>, cells: &[(String, String)]) -> String {
    let all = source.run.plan.cells.len();
    if cells.len() == all && all > 1 {
        format!("on every {}", source.noun())
    } else {
        format!("on {}", cells.iter().map(|(_, title)| title.as_str()).collect::<Vec<_>>().join("; "))
    }
}

/// Lines of at most `width` columns, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            line.push(c);
            if line.width() > width {
                line.pop();
                lines.push(std::mem::replace(&mut line, c.to_string()));
            }
        }
    }
    lines.push(line);
    lines
}

/// One line of at most `width` columns, cut off where it is longer.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut line = String::new();
    for c in text.chars() {
        line.push(c);
        if line.width() > width - 1 {
            line.pop();
            break;
        }
    }
    line.push('…');
    line
}
