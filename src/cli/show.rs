//! `patchlab runs`, `show`, `report`.

use serde_json::json;

use super::args::{Answer, Format, Report, ReportFormat, Show};
use super::context::Context;
use super::error::{Exit, Failure};
use super::{output, print, print_styled};
use crate::journal::RunState;
use crate::report::{self, Source, human};
use crate::verdict::judge::judge;

/// Lists the runs, the newest first.
pub async fn runs(context: &Context, answer: &Answer) -> Result<Exit, Failure> {
    let journal = context.journal().await?;
    let runs = context.runs(&journal).await?;
    let rows = runs.iter().map(|state| {
        let verdict = if state.is_finished() { judge(state).verdict.as_str() } else { "unfinished" };
        (state, verdict)
    });
    match answer.format {
        Format::Human if runs.is_empty() => print("no runs yet\n")?,
        Format::Human => {
            let mut text = String::new();
            for (state, verdict) in rows {
                let planned = state.planned.strftime("%Y-%m-%d %H:%M").to_string();
                text += &format!(
                    "{}  {planned}  {verdict:12}  {:2} cells  {}\n",
                    state.run,
                    state.plan.cells.len(),
                    state.plan.patch.manifest.id
                );
            }
            print(&text)?;
        }
        Format::Json => {
            let rows = rows.map(|(state, verdict)| {
                json!({ "run": state.run, "planned": state.planned, "patch": { "id": state.plan.patch.manifest.id,
                    "sha256": state.plan.patch.sha256 }, "plan": state.plan_digest, "verdict": verdict, "by": state.by })
            });
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    Ok(Exit::Pass)
}

/// Shows what a run found. The exit code is the run's, or 4 while it has not ended.
pub async fn show(context: &Context, verb: &Show) -> Result<Exit, Failure> {
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    answer(context, &state, verb.answer.format)?;
    Ok(if state.is_finished() { judge(&state).verdict.into() } else { Exit::Undecided })
}

/// Writes a run's report.
pub async fn report(context: &Context, verb: &Report) -> Result<Exit, Failure> {
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    let format = match verb.format {
        ReportFormat::Junit => report::Format::Junit,
        ReportFormat::Html => report::Format::Html,
        ReportFormat::Json => report::Format::Json,
        ReportFormat::Markdown => report::Format::Markdown,
    };
    let text = render(context, &state, format)?;
    match &verb.output {
        Some(file) => output::write(file, &text)?,
        None => print(&text)?,
    }
    Ok(Exit::Pass)
}

/// Prints a run's result.
pub fn answer(context: &Context, state: &RunState, format: Format) -> Result<(), Failure> {
    match format {
        Format::Human => with_source(context, state, |source| print_styled(&human::render(source)))?,
        Format::Json => print(&render(context, state, report::Format::Json)?),
    }
}

/// A run's report as text.
pub fn render(context: &Context, state: &RunState, format: report::Format) -> Result<String, Failure> {
    with_source(context, state, |source| report::render(format, source))?.map_err(Failure::lab)
}

fn with_source<T>(context: &Context, state: &RunState, tell: impl FnOnce(&Source<'_>) -> T) -> Result<T, Failure> {
    let store = context.evidence()?;
    let judgement = judge(state);
    Ok(tell(&Source { run: state, judgement: &judgement, evidence: &|sha256| store.get(sha256) }))
}
