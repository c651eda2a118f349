//! `patchlab run`, `runs`, `show`, `report` and `cancel` by way of a running server.

use serde_json::json;

use super::args::{Answer, Cancel, Format, Report, ReportFormat, Run, Show};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::progress::Lines;
use super::{output, print, print_ansi};
use crate::api::runs::{Phase, RunRequest, RunRow};
use crate::id::RunId;
use crate::lab::desk::is_folder;
use crate::verdict::Verdict;

pub fn run(context: &Context, client: &Client, patch: &str, verb: &Run) -> Result<Exit, Failure> {
    if verb.workers.is_some() {
        return Err(Failure::usage("--workers is the server's to say; start it with: patchlab serve --workers N"));
    }
    let request = RunRequest {
        patch: candidate(context, patch)?,
        customers: verb.selection.customer.clone(),
        builds: verb.selection.build.clone(),
        environments: verb.selection.environment.clone(),
        levels: verb.selection.level.clone(),
        hardware: verb.selection.hardware.clone(),
        suites: verb.selection.suite.clone(),
        keep_failed: verb.keep_failed,
        cold: verb.cold,
        fresh_baselines: verb.fresh_baselines,
    };
    let row = client.launch(&request, &uuid::Uuid::now_v7().to_string())?;
    let run = row.run;
    super::say(format_args!(
        "run {run}: {} at the server, {}; Ctrl-C leaves it there, and `patchlab cancel {run}` calls it off",
        crate::report::text::count(row.plan.cells, "cell"),
        row.state.as_str()
    ));
    let mut lines = Lines::new(row.plan.cells);
    client.follow(run, |entry| lines.entry(entry))?;
    let answered = answer(client, run, verb.answer.format);
    // Each of them, whatever became of the others.
    let reports = [(&verb.junit, "junit.xml"), (&verb.html, "report.html")];
    let wanted = reports.into_iter().filter_map(|(file, name)| Some((file.as_ref()?, name)));
    let written = wanted.map(|(file, name)| output::write(file, &client.text(&format!("/api/v1/runs/{run}/{name}"))?));
    let (exit, failure) = answered.map_or_else(|failure| (failure.exit, Some(failure)), |exit| (exit, None));
    Failure::all(failure.into_iter().chain(written.filter_map(Result::err))).map_or(Ok(exit), Err)
}

/// What PATCH names, as the server knows it: a folder is added to the store here.
pub fn candidate(context: &Context, patch: &str) -> Result<String, Failure> {
    Ok(if is_folder(patch) { context.patch(patch)?.sha256.to_string() } else { patch.to_owned() })
}

pub fn runs(client: &Client, verb: &Answer) -> Result<Exit, Failure> {
    let rows = client.runs(|_| false)?;
    let verdict = |row: &RunRow| row.verdict.map_or(row.state.as_str(), Verdict::as_str);
    match verb.format {
        Format::Human if rows.is_empty() => print("no runs yet\n")?,
        Format::Human => {
            for row in &rows {
                let planned = row.planned.strftime("%Y-%m-%d %H:%M");
                print(&format!("{}  {planned}  {:12}  {:2} cells  {}\n", row.run, verdict(row), row.plan.cells, row.patch.id))?;
            }
        }
        Format::Json => {
            let rows = rows.iter().map(|row| {
                let verdict = row.verdict.map_or("unfinished", Verdict::as_str);
                json!({ "run": row.run, "planned": row.planned, "patch": { "id": row.patch.id, "sha256": row.patch.sha256 },
                    "plan": row.plan.digest, "verdict": verdict, "by": row.by })
            });
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    Ok(Exit::Pass)
}

pub fn show_run(client: &Client, verb: &Show) -> Result<Exit, Failure> {
    answer(client, client.named(&verb.run)?.run, verb.answer.format)
}

pub fn report(client: &Client, verb: &Report) -> Result<Exit, Failure> {
    let run = client.named(&verb.run)?.run;
    let mut lost = String::new();
    if let Some(folder) = &verb.evidence {
        let (files, missing) = client.kept_files(run, folder)?;
        super::say(format_args!("{files} files written to {}", folder.display()));
        lost = missing;
    }
    let name = match verb.format {
        Some(ReportFormat::Junit) => "/junit.xml",
        Some(ReportFormat::Html) => "/report.html",
        Some(ReportFormat::Json) => "",
        Some(ReportFormat::Markdown) => "/report.md",
        None => return told(&lost),
    };
    let text = client.text(&format!("/api/v1/runs/{run}{name}"))?;
    match &verb.output {
        Some(file) => output::write(file, &text)?,
        None => print(&text)?,
    }
    told(&lost)
}

/// What is gone is the lab's fault.
fn told(lost: &str) -> Result<Exit, Failure> {
    if lost.is_empty() { Ok(Exit::Pass) } else { Err(Failure::lab(lost.trim_end())) }
}

pub fn cancel(context: &Context, verb: &Cancel) -> Result<Exit, Failure> {
    let Some(client) = Client::needed(context)? else {
        return Err(Failure::usage("no server works with this lab; a run at a terminal is called off with Ctrl-C"));
    };
    let row = client.cancel(client.named(&verb.run)?.run)?;
    match verb.answer.format {
        Format::Human => print(&format!("run {} is called off\n", row.run))?,
        Format::Json => print(&format!("{:#}\n", json!({ "run": row.run, "state": row.state })))?,
    }
    Ok(Exit::Pass)
}

/// Prints a run's result; the exit code is the run's.
fn answer(client: &Client, run: RunId, format: Format) -> Result<Exit, Failure> {
    let row = client.named(&run.to_string())?;
    match format {
        Format::Human => print_ansi(&client.text(&format!("/api/v1/runs/{run}/report.txt?ansi=true"))?)?,
        Format::Json => print(&client.text(&format!("/api/v1/runs/{run}"))?)?,
    }
    Ok(match (row.state, row.verdict) {
        (Phase::Ended, Some(verdict)) => verdict.into(),
        _ => Exit::Undecided,
    })
}
