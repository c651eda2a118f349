//! `patchlab shell` and `patchlab release`: looking at kept machines, and letting them go.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::{Format, Release, Shell};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::person::user;
use super::print;
use crate::catalog::image::Os;
use crate::guest::{Guest, Job, JobState, JobStep, StepEnd, StepReport};
use crate::journal::{PassRecord, RunState};
use crate::lab::Settings;
use crate::lab::scheduler::host::Hosts;
use crate::plan::PlannedCell;

/// What of a command's output is shown.
const OUTPUT: usize = 4 * 1024 * 1024;

/// Runs a command in a kept machine, or reads commands from standard input and runs one after the other.
pub async fn shell(context: &Context, verb: &Shell) -> Result<Exit, Failure> {
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    let machine = choose(&state, verb.machine.as_deref())?;
    let os = os_of(&state, &machine);
    let _lock = context.state.lock()?;
    let (lab, _cancel) = context.lab(Settings::default(), Hosts::none()).await?;
    let lab = context.lab_of(&lab, state.run, &machine).await?;
    let guest = lab.guests.connect(&machine, os);
    let lost = |error| Failure::lab(format!("{machine}: {error}"));
    guest.ping().await.map_err(lost)?;
    guest.prepare().await.map_err(lost)?;
    if !verb.command.is_empty() {
        let report = one(&guest, &verb.command.join(" "), None, verb.within.0).await?;
        print(&String::from_utf8_lossy(&report.output))?;
        return Ok(exit(&report.end));
    }
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        super::say(format_args!("{machine}: each line runs as root through the guest agent; end with Ctrl-D"));
    }
    let (mut folder, mut last) = ("/root".to_owned(), Exit::Pass);
    loop {
        if terminal {
            let _ = write!(std::io::stderr(), "{folder} # ");
            std::io::stderr().flush()?;
        }
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(last);
        }
        // The folder is carried from line to line in the last line of the output.
        let command = format!("{}\nstatus=$?; printf '\\n%s' \"$PWD\"; exit $status", line.trim_end());
        let report = one(&guest, &command, Some(folder.clone()), verb.within.0).await?;
        let text = String::from_utf8_lossy(&report.output).into_owned();
        match text.rsplit_once('\n') {
            Some((shown, now)) if now.starts_with('/') => {
                folder = now.to_owned();
                print(&if shown.is_empty() || shown.ends_with('\n') { shown.to_owned() } else { format!("{shown}\n") })?;
            }
            _ => print(&text)?,
        }
        last = exit(&report.end);
    }
}

fn exit(end: &StepEnd) -> Exit {
    match end {
        StepEnd::Exit(0) => Exit::Pass,
        StepEnd::Exit(_) | StepEnd::Signal(_) | StepEnd::TimedOut | StepEnd::Asked | StepEnd::Lacks(_) => Exit::Fail,
    }
}

async fn one(guest: &Arc<dyn Guest>, command: &str, folder: Option<String>, limit: Duration) -> Result<StepReport, Failure> {
    let id = format!("shell-{}", uuid::Uuid::now_v7().simple());
    let step = JobStep {
        command: command.to_owned(),
        folder,
        env: BTreeMap::new(),
        limit,
        output_cap: OUTPUT,
        terminal: false,
        needs: Vec::new(),
    };
    guest.start(&Job { id: id.clone(), steps: vec![step] }).await.map_err(Failure::lab)?;
    let started = Instant::now();
    loop {
        match guest.poll(&id).await.map_err(Failure::lab)? {
            JobState::Ended { mut steps } => return steps.pop().ok_or_else(|| Failure::lab("the command gave no result")),
            JobState::Unknown => return Err(Failure::lab("the machine restarted while the command ran")),
            JobState::Running { .. } if started.elapsed() > limit.saturating_add(Duration::from_secs(30)) => {
                return Err(Failure::lab(format!("the command had not ended after {} s", started.elapsed().as_secs())));
            }
            JobState::Running { .. } => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn choose(state: &RunState, named: Option<&str>) -> Result<String, Failure> {
    let list = || state.kept.iter().map(|machine| format!("\n  {machine}")).collect::<String>();
    match (named, state.kept.as_slice()) {
        (_, []) => Err(Failure::usage(format!("run {} keeps no machine; keep failed ones with: patchlab run --keep-failed", state.run))),
        (Some(named), kept) if kept.iter().any(|one| one == named) => Ok(named.to_owned()),
        (Some(named), _) => Err(Failure::usage(format!("run {} keeps no machine {named}; it keeps:{}", state.run, list()))),
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(Failure::usage(format!("run {} keeps several machines; name one:{}", state.run, list()))),
    }
}

fn os_of(state: &RunState, machine: &str) -> Os {
    let cells = state.plan.cells.iter();
    let passes = |cell: &PlannedCell| state.cells.get(&cell.id).map(|record| record.passes.as_slice()).unwrap_or_default().iter();
    let of = |cell: &PlannedCell, pass: &PassRecord| {
        let at = cell.machine_names(&pass.machine).iter().position(|name| name == machine)?;
        cell.machines.get(at).map(|machine| machine.os)
    };
    let found = cells.flat_map(|cell| passes(cell).filter_map(|pass| of(cell, pass)).collect::<Vec<_>>()).next();
    found.unwrap_or(Os::Debian)
}

/// Lets a run's kept machines go.
pub async fn release(context: &Context, verb: &Release) -> Result<Exit, Failure> {
    let (run, released) = match Client::needed(context)? {
        Some(client) => {
            let run = client.named(&verb.run)?.run;
            (run, client.release(run)?)
        }
        None => {
            let _lock = context.state.lock()?;
            let (lab, _cancel) = context.lab(Settings::default(), Hosts::none()).await?;
            let run = context.run(&lab.journal, &verb.run).await?.run;
            (run, context.release(&lab, run, &user()).await?)
        }
    };
    match verb.answer.format {
        Format::Json => print(&format!("{:#}\n", serde_json::json!({ "released": released })))?,
        Format::Human if released.is_empty() => super::say(format_args!("run {run} keeps no machine")),
        Format::Human => print(&released.iter().map(|machine| format!("released {machine}\n")).collect::<String>())?,
    }
    Ok(Exit::Pass)
}
