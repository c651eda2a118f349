//! A summary for a merge request, in GitHub's and GitLab's Markdown: verdict, findings, matrix, faults, what to do next.
//!
//! Invariant: no text that the lab did not write itself stands outside a code span or code block, so that it can make no link, image,
//! mention, reference, heading or HTML.

use std::fmt::Write;

use crate::catalog::hardware::Difference;
use crate::verdict::Verdict;

use super::baselines;
use super::rollout::rollouts;
use super::view::{confirmation, difference, heading_of, place};
use super::{Source, text};

/// Findings and faults that are told in full; of the rest only the number.
const SHOWN: usize = 20;
/// Declared differences that are told one by one.
const DIFFERENCES: usize = 60;
/// Bytes of one finding's detail.
const DETAIL: usize = 3_000;

/// The run as Markdown.
pub fn render(source: &Source<'_>) -> String {
    let mut out = String::new();
    header(&mut out, source);
    findings(&mut out, source);
    matrix(&mut out, source);
    orders(&mut out, source);
    faults(&mut out, source);
    notes(&mut out, source);
    origins(&mut out, source);
    differences(&mut out, source);
    out.push_str("### Next\n\n");
    for (command, purpose) in source.next_commands() {
        let _ = writeln!(out, "- {}: {purpose}", code(&command));
    }
    let run = source.run;
    let _ = write!(out, "\n<sub>run {} · plan {} · patch {}</sub>\n", run.run, run.plan_digest.short(), run.plan.patch.sha256.short());
    out
}

const fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Inconclusive => "❔",
    }
}

fn header(out: &mut String, source: &Source<'_>) {
    let manifest = &source.run.plan.patch.manifest;
    let verdict = source.verdict();
    let unfinished = if source.is_finished() { "" } else { " (unfinished)" };
    let _ = writeln!(out, "## {} {verdict}{unfinished}: {}\n", sign(verdict), code(&source.title()));
    let _ = writeln!(out, "{}\n\n{}\n", code(&text::one_line(&manifest.title, 120)), source.reason());
}

fn findings(out: &mut String, source: &Source<'_>) {
    let cells = source.cells();
    let all: Vec<_> = cells.iter().flat_map(|cell| cell.findings.iter().map(move |finding| (cell, finding))).collect();
    if all.is_empty() {
        return;
    }
    out.push_str("### Findings: the patch is to blame\n\n");
    for (cell, finding) in all.iter().take(SHOWN) {
        let place = place(finding.stage, finding.case.as_deref());
        let at = if place.is_empty() { String::new() } else { format!(", {}", code(&text::one_line(&place, 140))) };
        let code_ = code(&text::one_line(&finding.code, 80));
        let seen = confirmation(finding.confirmed);
        let _ = writeln!(out, "- **{code_}** on {}{at} ({seen})\n  {}", code(&cell.title()), code(&text::one_line(&finding.message, 300)));
        if !finding.detail.is_empty() {
            block(out, &finding.detail);
        }
    }
    more(out, all.len(), "finding");
}

fn faults(out: &mut String, source: &Source<'_>) {
    let cells = source.cells();
    let all: Vec<_> = cells.iter().flat_map(|cell| cell.told_faults().into_iter().map(move |fault| (cell, fault))).collect();
    if all.is_empty() {
        return;
    }
    let (heading, lead) = heading_of(cells.iter().flat_map(|cell| cell.faults));
    let _ = writeln!(out, "### {heading}\n\n{lead}\n");
    for (cell, fault) in all.iter().take(SHOWN) {
        let place = place(fault.stage, fault.case.as_deref());
        let at = if place.is_empty() { String::new() } else { format!(", {}", code(&text::one_line(&place, 140))) };
        let made_up = if fault.recovered { " (made up for by trying again)" } else { "" };
        let code_ = code(&text::one_line(&fault.code, 80));
        let _ = writeln!(out, "- **{code_}** on {}{at}{made_up}\n  {}", code(&cell.title()), code(&text::one_line(&fault.message, 300)));
    }
    more(out, all.len(), "fault");
}

fn more(out: &mut String, all: usize, word: &str) {
    if all > SHOWN {
        let _ = writeln!(out, "- … and {} more", text::count(all - SHOWN, word));
    }
    out.push('\n');
}

/// The orders in which an environment's machines may be patched.
fn orders(out: &mut String, source: &Source<'_>) {
    let rollouts = rollouts(source);
    if rollouts.is_empty() {
        return;
    }
    out.push_str("### Rollout\n\n");
    for one in &rollouts {
        let place = code(&format!("{} on {}", one.environment, one.hardware));
        let _ = writeln!(out, "- {place}: {}: {}", code(&one.told_order()), code(&one.told()));
    }
    out.push('\n');
}

fn matrix(out: &mut String, source: &Source<'_>) {
    let cells = source.cells();
    let matrix = source.matrix();
    if matrix.rows.is_empty() {
        return;
    }
    let environments = source.noun() == "cell";
    out.push_str(if environments { "### Cells\n\n| environment |" } else { "### Machines\n\n| build |" });
    matrix.hardware.iter().for_each(|hardware| {
        let _ = write!(out, " {hardware} |");
    });
    let _ = writeln!(out, "\n| --- |{}", " --- |".repeat(matrix.hardware.len()));
    for (build, places) in &matrix.rows {
        let _ = write!(out, "| {build} |");
        for place in places {
            let shown = place
                .and_then(|at| cells.get(at))
                .map_or_else(|| "not planned".to_owned(), |cell| format!("{} {}", sign(cell.verdict()), cell.word()));
            let _ = write!(out, " {shown} |");
        }
        out.push('\n');
    }
    out.push('\n');
}

fn notes(out: &mut String, source: &Source<'_>) {
    let notes = source.notes();
    if notes.is_empty() {
        return;
    }
    out.push_str("### Notes\n\n");
    for (note, cells) in notes.iter().take(SHOWN) {
        let cells: Vec<_> = cells.iter().map(|(_, title)| code(title)).collect();
        let _ = writeln!(out, "- {}\n  ({})", code(note), cells.join(", "));
    }
    more(out, notes.len(), "note");
}

fn origins(out: &mut String, source: &Source<'_>) {
    let told = baselines::summary(&source.cells());
    if told.is_empty() {
        return;
    }
    out.push_str("### Baselines\n\n");
    for line in told.iter().take(SHOWN) {
        let _ = writeln!(out, "- {}", code(line));
    }
    more(out, told.len(), "origin");
}

fn differences(out: &mut String, source: &Source<'_>) {
    let all = source.differences();
    if all.is_empty() {
        return;
    }
    out.push_str("### Declared differences from production\n\n");
    let each: Vec<_> = all.iter().flat_map(|(hardware, differences)| differences.iter().map(move |one| (hardware, one))).collect();
    for (hardware, one) in each.iter().take(DIFFERENCES) {
        let Difference { device, production, lab } = difference(one);
        let _ = writeln!(out, "- {}, {}: {}\n  in the lab: {}", code(hardware.as_str()), code(&device), code(&production), code(&lab));
    }
    if each.len() > DIFFERENCES {
        let _ = writeln!(out, "- … and {} more", text::count(each.len() - DIFFERENCES, "difference"));
    }
    out.push('\n');
}

/// A code span that nothing in the text can end.
fn code(text: &str) -> String {
    let fence = "`".repeat(longest_run(text, '`') + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", text)
}

/// A folded code block, inside the list item above, that nothing in the text can end.
fn block(out: &mut String, detail: &str) {
    let shown = text::guest(detail, DETAIL);
    let fence = "`".repeat(longest_run(&shown, '`').max(2) + 1);
    let kind = if text::is_diff(&shown) { "diff" } else { "text" };
    let _ = writeln!(out, "\n  <details><summary>output</summary>\n\n  {fence}{kind}");
    for line in shown.lines() {
        let _ = writeln!(out, "  {}", text::one_row(line, 400));
    }
    let _ = writeln!(out, "  {fence}\n\n  </details>\n");
}

fn longest_run(text: &str, of: char) -> usize {
    text.chars().fold((0, 0), |(longest, run), c| if c == of { (longest.max(run + 1), run + 1) } else { (longest, 0) }).0
}
