//! `patchlab plan` and `patchlab run`.

use tokio::sync::watch;

use super::args::{Format, PlanVerb, Run, Selection};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::interrupt::{self, Interrupted};
use super::output::Output;
use super::person::user;
use super::progress::Display;
use super::{bundle, output, print, remote, show};
use crate::catalog::Catalog;
use crate::cell::Cause;
use crate::cell::identity::Start;
use crate::journal::{PassRecord, RunState};
use crate::lab::desk::new_run;
use crate::lab::state::Lock;
use crate::lab::{Lab, Settings};
use crate::plan::{Plan, Request};
use crate::report::text::count;
use crate::report::{self, plan as plan_report};
use crate::verdict::judge::judge;

pub fn request(selection: &Selection) -> Request {
    Request {
        customers: selection.customer.clone(),
        builds: selection.build.clone(),
        environments: selection.environment.clone(),
        levels: selection.level.clone(),
        hardware: selection.hardware.clone(),
        suites: selection.suite.clone(),
    }
}

/// Prints what a run would do.
pub async fn show_plan(context: &Context, verb: &PlanVerb) -> Result<Exit, Failure> {
    let plan = match verb.patch.as_slice() {
        [patch] => context.plan_for(patch, &request(&verb.selection))?.plan,
        several => bundle::join(context, several, &verb.selection)?.whole()?,
    };
    let journal = context.journal().await?;
    let (estimate, baselines) = context.foresee(&journal, &plan, context.at_once(&context.hosts(None)?, &plan)?).await?;
    match verb.answer.format {
        Format::Human => print(&plan_report::human(&plan, estimate, &baselines))?,
        Format::Json => print(&plan_report::json(&plan, estimate, &baselines).map_err(Failure::lab)?)?,
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
    let client = Client::needed(context)?;
    let [patch] = verb.patch.as_slice() else { return bundle::run(context, client.is_some(), verb).await };
    if let Some(client) = client.as_ref().filter(|_| !verb.reuse) {
        return remote::run(context, client, patch, verb);
    }
    let planned = context.plan_for(patch, &request(&verb.selection))?;
    let earlier = if verb.reuse { context.earlier(&context.journal().await?, &planned.plan).await? } else { None };
    if let Some(state) = earlier {
        super::say(format_args!(
            "run {} of {} had the very same plan and speaks for it; without --reuse it is run again",
            state.run, state.planned
        ));
        return finish(context, verb, &state);
    }
    if let Some(client) = &client {
        return remote::run(context, client, patch, verb);
    }
    let Engine { lab, at_once, cancel, _lock } = Engine::start(context, verb, &planned.catalog, &planned.plan).await?;
    let files = context.files(&planned.plan, std::slice::from_ref(&planned.patch), &planned.catalog).await?;
    let state = take(context, &lab, planned.plan, verb).await?;
    let run = state.run;
    let fresh = lab.settings.fresh_baselines;
    let expected: Vec<_> = state.plan.cells.iter().filter(|_| !fresh).map(|cell| lab.baselines.expected(cell, lab.clock.now())).collect();
    super::say(format_args!(
        "run {run}: {}, {} at once, about {} min",
        count(state.plan.cells.len(), "cell"),
        machines(at_once, &state.plan),
        lab.history.plan(&state.plan.cells, &expected, at_once).as_secs().div_ceil(60)
    ));
    let display = Display::start(&lab, run, state.plan.cells.len());
    let interrupted = interruptible(&lab, cancel);
    // Whoever interrupts at the terminal ends the run.
    let (_going, stopping) = watch::channel(false);
    let worked = context.work(&lab, &state, files, &stopping).await;
    drop(display);
    context.tidy(&lab).await;
    let verdict = worked?;
    let state = context.run(&lab.journal, &run.to_string()).await?;
    let exit = finish(context, verb, &state)?;
    tracing::info!(%run, ?verdict, "run ended");
    Ok(if interrupted.is_cancelled() { Exit::Interrupted } else { exit })
}

/// What a plan's cells are worked on with.
pub struct Engine {
    pub lab: Lab,
    /// Machines of the plan that the host bears at once.
    pub at_once: usize,
    pub cancel: watch::Sender<bool>,
    pub _lock: Lock,
}

impl Engine {
    /// Takes the state folder, removes what an earlier controller left there, and finds out what room there is.
    pub async fn start(context: &Context, verb: &Run, catalog: &Catalog, plan: &Plan) -> Result<Self, Failure> {
        let lock = context.state.lock()?;
        if let Some(pause) = context.paused()? {
            return Err(Failure::usage(format!("{}; `patchlab resume` lets cells start again", pause.told())));
        }
        let settings = Settings { keep_failed: verb.keep_failed, cold: verb.cold, fresh_baselines: verb.fresh_baselines };
        let (lab, cancel) = context.lab(settings, context.hosts(verb.workers)?).await?;
        let lab = Lab { lanes: Context::lanes(catalog, plan), ..lab };
        context.clean_up(&lab).await?;
        // Not before: what was left over took room.
        context.measure(&lab.hosts, &lab.sites, verb.workers).await?;
        let at_once = context.at_once(&lab.hosts, plan)?;
        Ok(Self { lab, at_once, cancel, _lock: lock })
    }
}

/// How many machines are at work at once. An environment has all of its own, or none.
pub fn machines(at_once: usize, plan: &Plan) -> String {
    count(plan.cells.iter().map(|cell| cell.machines.len()).fold(at_once, usize::max), "machine")
}

/// Has the person give the work up, at the first time in order and at the second at once.
pub fn interruptible(lab: &Lab, cancel: watch::Sender<bool>) -> Interrupted {
    let first = "interrupted: removing the machines; once more leaves them behind";
    interrupt::watch(cancel, first, left_behind(lab.clone()))
}

/// What a controller that leaves at once says of its machines.
async fn left_behind(lab: Lab) {
    let mut hypervisors = vec![lab.hypervisor];
    if lab.placed.is_some() {
        hypervisors = lab.sites.known().await.into_values().map(|site| site.hypervisor).collect();
    }
    for hypervisor in hypervisors {
        for one in hypervisor.owned().await.unwrap_or_default() {
            super::say(format_args!("left behind: {} ({} MiB)", one.machine, one.bytes >> 20));
        }
    }
    super::say("`patchlab gc --remove` removes what was left; the same command takes the run up where it was");
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

/// The unfinished run of this plan, or a new one; taken either way.
async fn take(context: &Context, lab: &Lab, plan: Plan, verb: &Run) -> Result<RunState, Failure> {
    let run = match context.unfinished(&lab.journal, &plan).await? {
        Some(state) => {
            let ended = state.cells.values().filter(|record| record.ended).count();
            super::say(format_args!("taking up run {} where it was: {ended} of {} cells had ended", state.run, state.plan.cells.len()));
            stays(&state, verb).iter().for_each(super::say);
            state.run
        }
        None => {
            let now = lab.clock.now();
            let run = new_run(now);
            context.begin(&lab.journal, (run, None), plan, user(), now).await?;
            run
        }
    };
    Ok(context.take(lab, run).await?)
}

/// What a run that is taken up keeps of how it was done before, where something else is asked for now.
fn stays(state: &RunState, verb: &Run) -> Vec<String> {
    // A pass that was cut short is done again.
    let again =
        |pass: &PassRecord| pass.trouble().is_some_and(|(_, trouble)| matches!(trouble.cause, Cause::ControllerEnded | Cause::Cancelled));
    let passes = || state.cells.values().flat_map(|cell| &cell.passes).filter(|pass| !again(pass));
    let baselines = passes().flat_map(|pass| &pass.cases).filter(|seen| seen.origin.is_some()).count();
    let machines = passes().flat_map(|pass| pass.starts.values()).filter(|start| matches!(start, Start::Warm { .. })).count();
    let what = [
        (verb.fresh_baselines, "--fresh-baselines", baselines, "baseline of an earlier run", "baselines of earlier runs"),
        (verb.cold, "--cold", machines, "machine that went on from a template", "machines that went on from a template"),
    ];
    let kept = what.into_iter().filter(|(asked, _, kept, ..)| *asked && *kept > 0);
    let told = kept.map(|(_, option, kept, one, several)| {
        let what = if kept == 1 { one } else { several };
        format!("{option} is for what is still to be done: what is done already stays, with {kept} {what}")
    });
    told.collect()
}
