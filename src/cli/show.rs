//! `patchlab runs`, `show`, `report`.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;

use super::args::{Answer, Format, Report, ReportFormat, Show};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::{bundle, output, print, print_ansi, remote};
use crate::journal::RunState;
use crate::journal::projection::RunFilter;
use crate::report::{self, Source, human};
use crate::verdict::judge::judge;

/// Lists the runs, the newest first.
pub async fn runs(context: &Context, answer: &Answer) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return remote::runs(&client, answer);
    }
    let journal = context.journal().await?;
    let runs = journal.page(&RunFilter::ALL, None, u32::MAX).await?;
    let rows = runs.iter().map(|row| (row, row.ended.map_or("unfinished", |(_, verdict)| verdict.as_str())));
    match answer.format {
        Format::Human if runs.is_empty() => print("no runs yet\n")?,
        Format::Human => {
            let mut text = String::new();
            for (row, verdict) in rows {
                let planned = row.planned.strftime("%Y-%m-%d %H:%M").to_string();
                text += &format!("{}  {planned}  {verdict:12}  {:2} cells  {}\n", row.run, row.cells, row.title());
            }
            print(&text)?;
        }
        Format::Json => {
            let rows = rows.map(|(row, verdict)| {
                json!({ "run": row.run, "planned": row.planned, "patch": { "id": row.patch_id, "sha256": row.patch },
                    "plan": row.plan_digest, "verdict": verdict, "by": row.by })
            });
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    Ok(Exit::Pass)
}

/// Shows what a run found. The exit code is the run's, or 4 while it has not ended.
pub async fn show(context: &Context, verb: &Show) -> Result<Exit, Failure> {
    if verb.bundle {
        return bundle::show(context, verb).await;
    }
    if let Some(client) = Client::find(context)? {
        return remote::show_run(&client, verb);
    }
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    answer(context, &state, verb.answer.format)?;
    Ok(if state.is_finished() { judge(&state).verdict.into() } else { Exit::Undecided })
}

/// Writes a run's report.
pub async fn report(context: &Context, verb: &Report) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return remote::report(&client, verb);
    }
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    if let Some(folder) = &verb.evidence {
        evidence(context, &state, folder)?;
    }
    let format = match verb.format {
        Some(ReportFormat::Junit) => report::Format::Junit,
        Some(ReportFormat::Html) => report::Format::Html,
        Some(ReportFormat::Json) => report::Format::Json,
        Some(ReportFormat::Markdown) => report::Format::Markdown,
        None => return Ok(Exit::Pass),
    };
    let text = render(context, &state, format)?;
    match &verb.output {
        Some(file) => output::write(file, &text)?,
        None => print(&text)?,
    }
    Ok(Exit::Pass)
}

/// Writes every kept file of a run into a new folder.
fn evidence(context: &Context, state: &RunState, folder: &Path) -> Result<(), Failure> {
    let store = context.evidence()?;
    new_folder(folder)?;
    let mut lost = Vec::new();
    let files = report::files::kept_files(state);
    for file in &files {
        let Some(bytes) = store.get(&file.sha256) else {
            lost.push(Failure::lab(format!("{}: gone from the store or altered (sha256 {})", file.path, file.sha256)));
            continue;
        };
        let path = folder.join(file.named(&bytes));
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(|error| failed(&path, &error))?;
        std::fs::write(&path, bytes).map_err(|error| failed(&path, &error))?;
    }
    super::say(format_args!("{} files written to {}", files.len() - lost.len(), folder.display()));
    Failure::all(lost).map_or(Ok(()), Err)
}

pub fn new_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::usage(format!("{} is there already; name a new folder", folder.display())),
        _ => failed(folder, &error),
    })
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::lab(format!("could not write {}: {error}", path.display()))
}

/// Prints a run's result.
pub fn answer(context: &Context, state: &RunState, format: Format) -> Result<(), Failure> {
    match format {
        Format::Human => with_source(context, state, |source| print_ansi(&human::render(source).ansi()))?,
        Format::Json => print(&render(context, state, report::Format::Json)?),
    }
}

/// A run's report as text.
pub fn render(context: &Context, state: &RunState, format: report::Format) -> Result<String, Failure> {
    with_source(context, state, |source| report::render(format, source))?.map_err(Failure::lab)
}

/// Tells something of a run.
pub fn with_source<T>(context: &Context, state: &RunState, tell: impl FnOnce(&Source<'_>) -> T) -> Result<T, Failure> {
    let store = context.evidence()?;
    let judgement = judge(state);
    Ok(tell(&Source { run: state, judgement: &judgement, evidence: &|sha256| store.get(sha256) }))
}
