//! `patchlab plan` and `patchlab run`.

use std::sync::Arc;

use jiff::Timestamp;

use super::args::{Format, PlanVerb, Run, Selection};
use super::context::{Context, image_failure};
use super::error::{Exit, Failure};
use super::output::Output;
use super::progress::Display;
use super::{output, print, show};
use crate::catalog::Catalog;
use crate::hypervisor::Hypervisor;
use crate::id::RunId;
use crate::journal::{Controller, Event, RunState};
use crate::lab::history::History;
use crate::lab::media::{self, Sources};
use crate::lab::memory;
use crate::lab::patches::StoredPatch;
use crate::lab::{Lab, RunFiles, Settings, prepared, reaper, scheduler};
use crate::plan::{Plan, Request, plan};
use crate::report::{self, plan as plan_report};
use crate::verdict::Verdict;
use crate::verdict::judge::judge;

/// A plan and what it was made from.
struct Planned {
    plan: Plan,
    patch: StoredPatch,
    catalog: Catalog,
}

fn make_plan(context: &Context, patch: &str, selection: &Selection) -> Result<Planned, Failure> {
    let catalog = context.catalog()?;
    let patch = context.patch(patch)?;
    let request = Request {
        customers: selection.customer.clone(),
        builds: selection.build.clone(),
        environments: selection.environment.clone(),
        levels: selection.level.clone(),
        hardware: selection.hardware.clone(),
        suites: selection.suite.clone(),
    };
    let plan = plan(&request, &catalog, &context.sealed(&catalog)?, &patch.planned())
        .map_err(|problems| Failure::usage(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    Ok(Planned { plan, patch, catalog })
}

/// Prints what a run would do.
pub async fn show_plan(context: &Context, verb: &PlanVerb) -> Result<Exit, Failure> {
    let planned = make_plan(context, &verb.patch, &verb.selection)?;
    let journal = context.journal().await?;
    let mut history = History::default();
    context.runs(&journal).await?.iter().for_each(|run| history.learn(run));
    let estimate = history.plan(&planned.plan.cells, slots(None, &planned.plan));
    match verb.answer.format {
        Format::Human => print(&plan_report::human(&planned.plan, estimate))?,
        Format::Json => print(&plan_report::json(&planned.plan, estimate).map_err(Failure::lab)?)?,
    }
    Ok(Exit::Pass)
}

/// Validates a patch.
pub async fn run(context: &Context, verb: &Run) -> Result<Exit, Failure> {
    if verb.junit.is_some() && verb.junit == verb.html {
        return Err(Failure::usage("--junit and --html name the same file; one would overwrite the other"));
    }
    // Better known before a long run than after it.
    for file in [&verb.junit, &verb.html].into_iter().flatten() {
        Output::open(file)?;
    }
    let planned = make_plan(context, &verb.patch, &verb.selection)?;
    if let Some(state) = earlier(context, &planned.plan, verb.reuse).await? {
        super::say(format_args!(
            "run {} of {} had the very same plan and speaks for it; without --reuse it is run again",
            state.run, state.planned
        ));
        return finish(context, verb, &state);
    }
    let _lock = context.state.lock()?;
    let settings = Settings { slots: slots(verb.workers, &planned.plan), keep_failed: verb.keep_failed };
    let (lab, cancel) = context.lab(settings).await?;
    clean_up(context, &lab).await?;
    let files = files(context, &planned).await?;
    let state = take(&lab, planned.plan, context).await?;
    let run = state.run;
    super::say(format_args!(
        "run {run}: {}, {} at once, about {} min",
        crate::report::text::count(state.plan.cells.len(), "cell"),
        crate::report::text::count(lab.settings.slots, "machine"),
        { lab.history.plan(&state.plan.cells, lab.settings.slots).as_secs().div_ceil(60) }
    ));
    let display = Display::start(&lab, state.plan.cells.len());
    let first = "interrupted: removing the machines; once more leaves them behind";
    let interrupted = super::interrupt::watch(cancel, first, left_behind(lab.hypervisor.clone()));
    let verdict = scheduler::work(&lab, &state, files).await;
    drop(display);
    let left = reaper::reap(&lab).await;
    let verdict = verdict?;
    let left = left?;
    for one in &left {
        super::say(format_args!("removed {} that its cell had left", one.machine));
    }
    if let Err(failure) = context.sweep(&lab).await {
        super::say(failure.message);
    }
    let state = context.run(&lab.journal, &run.to_string()).await?;
    let exit = finish(context, verb, &state)?;
    tracing::info!(%run, %verdict, "run ended");
    Ok(if interrupted.is_cancelled() { Exit::Interrupted } else { exit })
}

/// What a controller that leaves at once says of its machines.
async fn left_behind(hypervisor: Arc<dyn Hypervisor>) {
    for one in hypervisor.owned().await.unwrap_or_default() {
        super::say(format_args!("left behind: {} ({} MiB)", one.machine, one.bytes >> 20));
    }
    super::say("`patchlab gc --remove` removes what was left; the same command takes the run up where it was");
}

/// The newest ended run of this very plan with a verdict that speaks for or against the patch.
async fn earlier(context: &Context, plan: &Plan, reuse: bool) -> Result<Option<RunState>, Failure> {
    if !reuse {
        return Ok(None);
    }
    let digest = plan.digest();
    let runs = context.runs(&context.journal().await?).await?;
    // Another patchlab may check more, and another hypervisor give other machines.
    let alike = |state: &RunState| {
        let mut controllers = state.controllers.iter();
        controllers.all(|one| one.patchlab == env!("CARGO_PKG_VERSION") && one.hypervisor == context.hypervisor.name())
    };
    let speaks = |state: &RunState| state.is_finished() && alike(state) && judge(state).verdict != Verdict::Inconclusive;
    Ok(runs.into_iter().find(|state| state.plan_digest == digest && speaks(state)))
}

/// Prints the result and writes the reports that were asked for: each of them, whatever became of the others.
fn finish(context: &Context, verb: &Run, state: &RunState) -> Result<Exit, Failure> {
    let printed = show::answer(context, state, verb.answer.format);
    let wanted = [(&verb.junit, report::Format::Junit), (&verb.html, report::Format::Html)];
    let wanted = wanted.into_iter().filter_map(|(file, format)| Some((file.as_ref()?, format)));
    let written = wanted.map(|(file, format)| output::write(file, &show::render(context, state, format)?));
    let failures: Vec<Failure> = std::iter::once(printed).chain(written).filter_map(Result::err).collect();
    Failure::all(failures).map_or_else(|| Ok(judge(state).verdict.into()), Err)
}

/// The files behind the plan's digests: images verified, suites and payload on one disk.
async fn files(context: &Context, planned: &Planned) -> Result<RunFiles, Failure> {
    let mut files = RunFiles::default();
    if context.hypervisor.is_sim() {
        for machine in planned.plan.machines() {
            files.images.insert(machine.image.sha256, "/nonexistent".into());
        }
        return Ok(files);
    }
    let store = context.images()?;
    for machine in planned.plan.machines() {
        if !files.images.contains_key(&machine.image.sha256) {
            let sealed = store.sealed(machine.image.sha256).await.map_err(image_failure)?;
            files.images.insert(sealed.image, sealed.path);
        }
    }
    let mut suites = Vec::new();
    for suite in planned.plan.cells.iter().flat_map(|cell| &cell.suites) {
        let entry = planned.catalog.suites.get(&suite.name);
        if let Some(entry) = entry.filter(|_| !suites.iter().any(|(name, _, _)| *name == suite.name)) {
            suites.push((suite.name.clone(), entry.folder.clone(), entry.sha256));
        }
    }
    let mut packages = Vec::new();
    for suite in planned.plan.cells.iter().flat_map(|cell| &cell.suites) {
        for package in &suite.packages {
            let path = prepared::package(&context.state.folder, &package.sha256);
            if !path.exists() {
                let mend = format!("fetch it again: scripts/fetch-autopkgtest --dependencies {} BUILD", suite.name);
                return Err(Failure::usage(format!("{} of suite {} is not in {}; {mend}", package.file, suite.name, path.display())));
            }
            let entry = (suite.name.clone(), package.file.clone(), path, package.sha256);
            if !packages.contains(&entry) {
                packages.push(entry);
            }
        }
    }
    let sources = Sources { patch: &planned.patch.folder, suites, packages };
    files.media = Some(media::make(&context.media(), &planned.plan, &sources).await?);
    Ok(files)
}

/// Ends what earlier controllers left: their stages as faults, their machines removed.
async fn clean_up(context: &Context, lab: &Lab) -> Result<(), Failure> {
    for state in context.runs(&lab.journal).await?.iter().filter(|state| !state.is_finished()) {
        reaper::take_over(lab, state).await?;
    }
    for one in reaper::reap(lab).await? {
        super::say(format_args!("removed {} that an earlier run had left", one.machine));
    }
    context.sweep(lab).await
}

/// The unfinished run of this plan, or a new one.
async fn take(lab: &Lab, plan: Plan, context: &Context) -> Result<RunState, Failure> {
    let digest = plan.digest();
    let unfinished = context.runs(&lab.journal).await?.into_iter().find(|state| !state.is_finished() && state.plan_digest == digest);
    let run = match unfinished {
        Some(state) => {
            let ended = state.cells.values().filter(|record| record.ended).count();
            super::say(format_args!("taking up run {} where it was: {ended} of {} cells had ended", state.run, state.plan.cells.len()));
            state.run
        }
        None => {
            let now = lab.clock.now();
            let random = uuid::Uuid::now_v7().into_bytes();
            let mut ten = [0; 10];
            ten.copy_from_slice(&random[6..]);
            let run = RunId::from_parts(now.as_millisecond().unsigned_abs(), ten);
            let by = user();
            lab.journal.append(run, now, Event::RunPlanned { plan: Box::new(plan), plan_digest: digest, by }).await?;
            run
        }
    };
    let host = lab.hypervisor.host().await?;
    super::say(format_args!("machines run on {}: {}", host.accelerator, host.accelerator_reason));
    let hypervisor = context.hypervisor.name();
    let controller = Controller { patchlab: env!("CARGO_PKG_VERSION").to_owned(), hypervisor, host };
    lab.journal.append(run, Timestamp::max(lab.clock.now(), Timestamp::UNIX_EPOCH), Event::RunTaken { controller }).await?;
    context.run(&lab.journal, &run.to_string()).await
}

/// Who asks: the person behind sudo, or the user that this process runs as.
fn user() -> String {
    let uid = nix::unistd::getuid();
    let named = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    std::env::var("SUDO_USER").ok().or_else(named).unwrap_or_else(|| format!("uid {uid}"))
}

/// As many machines at once as were asked for, or as cores and memory bear: one core each, and memory for guest and emulator.
fn slots(asked: Option<u16>, plan: &Plan) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let largest = plan.machines().map(|machine| machine.hardware.profile.memory.0).max().unwrap_or(1);
    let memory = (memory::available() / (largest + (512 << 20))) as usize;
    asked.map_or_else(|| cores.min(memory).max(1), usize::from).min(plan.machines().count().max(1))
}
