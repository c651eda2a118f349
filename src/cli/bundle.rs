//! `patchlab run` with several patches: all of them together, and where that fails some of them, until it is known who is to blame.

use tokio::sync::watch;

use super::args::{Format, Run, Selection, Show};
use super::context::Context;
use super::error::{Exit, Failure};
use super::output;
use super::person::user;
use super::progress::Display;
use super::run::{Engine, interruptible, machines, request};
use super::{print, print_ansi, show};
use crate::id::RunId;
use crate::journal::RunState;
use crate::lab::Lab;
use crate::lab::desk::{Joined, new_run};
use crate::plan::Plan;
use crate::report::bundle::BundleReport;
use crate::report::{self, junit, text};
use crate::verdict::bisect::Next;
use crate::verdict::trials::Trials;

/// Puts the patches together and says which of them are left out.
pub fn join(context: &Context, patches: &[String], selection: &Selection) -> Result<Joined, Failure> {
    let joined = context.bundle_for(patches, &request(selection))?;
    for (patch, by) in &joined.bundle.superseded {
        super::say(format_args!("{} is left out: {by} takes its place", patch.manifest.id));
    }
    Ok(joined)
}

/// Validates several patches together.
pub async fn run(context: &Context, served: bool, verb: &Run) -> Result<Exit, Failure> {
    if verb.reuse {
        return Err(Failure::usage("--reuse is for one patch: an earlier run of several tells nothing of who is to blame"));
    }
    if served {
        let why =
            "a server works with this lab, and it takes one patch a run: which trial comes next is decided here, where the others end";
        return Err(Failure::usage(format!("{why}; stop it for as long, or launch the patches one by one")));
    }
    let joined = join(context, &verb.patch, &verb.selection)?;
    let whole = joined.whole()?;
    let Engine { lab, at_once, cancel, _lock } = Engine::start(context, verb, &joined.catalog, &whole).await?;
    let (estimate, _) = context.foresee(&lab.journal, &whole, at_once).await?;
    let cost = report::plan::trials(&whole, estimate).map(|trials| trials.told()).unwrap_or_default();
    super::say(format_args!("{} patches together: {cost}", joined.bundle.patches.len()));
    let (mut bundle, mut trials) = match context.unanswered(&lab.journal, &joined, &whole).await? {
        Some((run, trials)) => {
            super::say(format_args!("taking up the bundle of run {run}: {} done", text::count(trials.done.len(), "trial")));
            (Some(run), trials)
        }
        None => (None, Trials::new(joined.bundle.clone())),
    };
    let interrupted = interruptible(&lab, cancel);
    while let Next::Test(patches) = trials.next() {
        if interrupted.is_cancelled() {
            break;
        }
        let state = one(context, &lab, &joined, bundle, joined.plan(&patches)?).await?;
        bundle = bundle.or(Some(state.run));
        let done = trials.done.len();
        trials.take(&state);
        if trials.done.len() == done {
            // It was given up, and would be again.
            break;
        }
    }
    finish(context, &lab, verb, bundle, &trials).await.map(|exit| if interrupted.is_cancelled() { Exit::Interrupted } else { exit })
}

/// One trial, from its plan to its end: the unfinished run of it in this bundle, or a new one.
async fn one(context: &Context, lab: &Lab, joined: &Joined, bundle: Option<RunId>, plan: Plan) -> Result<RunState, Failure> {
    let ids: Vec<_> = plan.patches().map(|patch| patch.manifest.id.as_str()).collect();
    let ids = ids.join(", ");
    let files = context.files(&plan, &joined.stored, &joined.catalog).await?;
    let unfinished = match bundle {
        Some(bundle) => context.unfinished_trial(&lab.journal, bundle, &plan).await?,
        None => None,
    };
    let run = match unfinished {
        Some(state) => state.run,
        None => {
            let now = lab.clock.now();
            let run = new_run(now);
            context.begin(&lab.journal, (run, bundle), plan, user(), now).await?;
            run
        }
    };
    let state = context.take(lab, run).await?;
    let machines = machines(context.at_once(&lab.hosts, &state.plan)?, &state.plan);
    super::say(format_args!("trial {run} of {ids}: {}, {machines} at once", text::count(state.plan.cells.len(), "cell")));
    let display = Display::start(lab, run, state.plan.cells.len());
    let (_going, stopping) = watch::channel(false);
    let worked = context.work(lab, &state, files, &stopping).await;
    drop(display);
    context.tidy(lab).await;
    let verdict = worked?;
    tracing::info!(%run, ?verdict, "trial ended");
    Ok(context.run(&lab.journal, &run.to_string()).await?)
}

/// Prints what the bundle came to, and writes the reports of the run of all patches.
async fn finish(context: &Context, lab: &Lab, verb: &Run, bundle: Option<RunId>, trials: &Trials) -> Result<Exit, Failure> {
    let told = BundleReport::of(trials);
    let mut failures: Vec<Failure> = tell(&told, verb.answer.format).err().into_iter().collect();
    if let Some(run) = bundle.filter(|_| verb.junit.is_some() || verb.html.is_some()) {
        let whole = context.run(&lab.journal, &run.to_string()).await?;
        let junit = || show::with_source(context, &whole, |source| junit::render_bundle(source, &told))?.map_err(Failure::lab);
        let html = || show::render(context, &whole, report::Format::Html);
        let junit = verb.junit.as_ref().map(|file| junit().and_then(|text| output::write(file, &text)));
        let html = verb.html.as_ref().map(|file| html().and_then(|text| output::write(file, &text)));
        failures.extend([junit, html].into_iter().flatten().filter_map(Result::err));
    }
    Failure::all(failures).map_or_else(|| Ok(told.verdict().into()), Err)
}

fn tell(told: &BundleReport<'_>, format: Format) -> Result<(), Failure> {
    match format {
        Format::Human => print_ansi(&told.human().ansi()),
        Format::Json => print(&told.json().map_err(Failure::lab)?),
    }
}

/// Shows what the runs of a bundle mean together. The exit code is the bundle's, or 4 while something of it is left to be tested.
pub async fn show(context: &Context, verb: &Show) -> Result<Exit, Failure> {
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    let trials = context.trials(&journal, &state).await?;
    let told = BundleReport::of(&trials);
    tell(&told, verb.answer.format)?;
    Ok(if trials.answer().is_some() { told.verdict().into() } else { Exit::Undecided })
}
