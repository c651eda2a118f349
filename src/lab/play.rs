//! Interoperability cases: the steps of each, one after the other, on the machines of an environment and on the wire between them.

use std::time::Duration;

use tokio::time::Instant;

use super::chronicle::Scene;
use super::jobs::JobEnd;
use super::network::address_for;
use super::observing::disk_trouble;
use super::runner::{CellRunner, MachineState, Stop, no_pass};
use super::session::guest_trouble;
use super::timeline::{Timeline, said};
use super::unwell::{Place, Unwell, meant, why};
use crate::catalog::step::{Action, Disturbance, Step};
use crate::catalog::suite::{Case, ResultForm};
use crate::cell::{CaseAt, CaseObservation, CaseOutcome, Cause, Point, Stage, Trouble};
use crate::guest::linux::RUNNER_ROOT;
use crate::guest::{GuestError, Job, JobState, JobStep, StepEnd, StepReport};
use crate::id::{Digest, Name};
use crate::journal::Event;
use crate::plan::{PlannedMachine, PlannedSuite};

/// Bytes kept of a step's output.
const OUTPUT: usize = 256 * 1024;
/// Bytes of each script's output that an observation shows.
const SHOWN: usize = 4 * 1024;
/// Between two looks at the other machines, and at background scripts.
const LOOK: Duration = Duration::from_millis(500);
/// Between two tries of what is expected.
const AGAIN: Duration = Duration::from_secs(1);
/// How long an interrupted script may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// A script that goes on in the background.
struct Background {
    name: String,
    at: usize,
    job: String,
    /// How it says what it found.
    form: ResultForm,
    /// How it ended, once it has.
    report: Option<StepReport>,
}

/// A machine with its place in the cell.
type Placed<'a> = (usize, &'a mut MachineState);

/// One case under way.
struct Play<'a> {
    suite: &'a PlannedSuite,
    case: &'a Case,
    point: Point,
    deadline: Instant,
    background: Vec<Background>,
    timeline: &'a mut Timeline,
}

impl CellRunner {
    /// Plays the pass's interoperability cases, and keeps what happened on the lab's side, on the machines and on the wire meanwhile.
    pub(super) async fn play_cases(&mut self, stage: Stage, point: Point, cases: &[(Name, Case)]) -> Result<(), Stop> {
        let mut scenes = Vec::new();
        let mut played = Ok(());
        for (suite, case) in cases {
            let Some(suite) = self.cell.suites.iter().find(|planned| planned.name == *suite).cloned() else { continue };
            let at = CaseAt { suite: suite.name.clone(), case: case.name.clone(), point };
            let mut scene = Scene { timeline: Timeline::begin(at, &self.lab.clock), outcome: None };
            played = self.play_case(&suite, case, stage, &mut scene).await;
            if let Err(Stop::Trouble(trouble)) = &played {
                scene.timeline.add(&self.lab.clock, &format!("{}/{} is cut short: {}", suite.name, case.name, trouble.message));
            }
            scene.timeline.end(&self.lab.clock);
            scenes.push(scene);
            if played.is_err() {
                break;
            }
        }
        self.chronicle(stage, scenes, played).await
    }

    async fn play_case(&mut self, suite: &PlannedSuite, case: &Case, stage: Stage, scene: &mut Scene) -> Result<(), Stop> {
        let observation = self.play(suite, case, stage, &mut scene.timeline).await?;
        self.network_holds().await?;
        scene.outcome = Some(observation.outcome);
        Ok(self.append(Event::CaseObserved { cell: self.cell.id.clone(), observation: Box::new(observation) }).await?)
    }

    async fn play(&mut self, suite: &PlannedSuite, case: &Case, stage: Stage, timeline: &mut Timeline) -> Result<CaseObservation, Stop> {
        let started = Instant::now();
        let deadline = started + case.time_limit.0;
        let point = timeline.case.point;
        let mut play = Play { suite, case, point, deadline, background: Vec::new(), timeline };
        let mut unwell = None;
        for (index, step) in case.steps.iter().enumerate() {
            let told = format!("{}/{} step {} of {}", suite.name, case.name, index + 1, case.steps.len());
            self.tell(stage, &told);
            unwell = self.step(&mut play, index, step).await?;
            if unwell.is_some() {
                break;
            }
        }
        if unwell.is_none() {
            unwell = self.fallen(&mut play).await?;
        }
        let elapsed = started.elapsed();
        let disturbed = case.steps.iter().any(|step| step.network.is_some());
        if disturbed {
            self.disturb(&Disturbance::Heal, Name::clone).await?;
        }
        self.curtain(&mut play, unwell.is_some()).await?;
        self.observation(play, unwell, elapsed)
    }

    /// Does one step. `Some` ends the case.
    async fn step(&mut self, play: &mut Play<'_>, index: usize, step: &Step) -> Result<Option<Unwell>, Stop> {
        let left = play.deadline.saturating_duration_since(Instant::now());
        let within = step.within.map_or(left, |span| span.0.min(left));
        // The catalog holds every step to one action.
        let Ok(action) = step.action() else { return Ok(None) };
        let number = index + 1;
        if left.is_zero() {
            let message = format!("the case's {} s were over before step {number}", play.case.time_limit.0.as_secs());
            return Ok(Some(Unwell {
                outcome: CaseOutcome::TimedOut,
                message,
                output: Vec::new(),
                fingerprint: Some(Digest::of("deadline")),
            }));
        }
        match action {
            Action::Run { role, script } => {
                let place = Place::of(format!("step {number}, {role} runs {script}"));
                play.timeline.add(&self.lab.clock, &place.what);
                let report = self.run_script(play, role, step, script, within).await?;
                Ok(play.read(&self.lab.clock, &place, step.result, report))
            }
            Action::Expect { role, script } => {
                let place = Place::of(format!("step {number}, {role} is expected to pass {script}")).within(within);
                play.timeline.add(&self.lab.clock, &place.what);
                let until = Instant::now() + within;
                let mut earlier: Option<StepReport> = None;
                let mut known = None;
                loop {
                    let left = until.saturating_duration_since(Instant::now());
                    let mut report = self.run_script(play, role, step, script, left.max(Duration::from_secs(1))).await?;
                    // That the time was over during the last try says less than what the one before it said.
                    if let Some(earlier) = earlier.take().filter(|_| report.end == StepEnd::TimedOut) {
                        report = earlier;
                    }
                    let read = meant(step.result, &report);
                    let enough = read.outcome == CaseOutcome::Pass || matches!(report.end, StepEnd::Lacks(_));
                    if enough || Instant::now() + AGAIN >= until {
                        return Ok(play.read(&self.lab.clock, &place, step.result, report));
                    }
                    if read.fingerprint != known {
                        play.timeline.add(&self.lab.clock, &format!("not yet{}", why(&read)));
                        known = read.fingerprint;
                    }
                    earlier = Some(report);
                    self.vigil_for(play, AGAIN).await?;
                }
            }
            Action::Start { role, script, name } => {
                play.timeline.add(&self.lab.clock, &format!("step {number}, {role} starts {script} in the background"));
                self.start_script(play, role, step, script, name, left).await?;
                if step.ready { self.until_ready(play, number, name, within).await } else { Ok(None) }
            }
            Action::Barrier(names) => {
                for name in names {
                    if let Some(unwell) = self.until_ready(play, number, name.as_str(), within).await? {
                        return Ok(Some(unwell));
                    }
                }
                Ok(None)
            }
            Action::Wait(name) => {
                let until = Instant::now() + within;
                while self.poll(play, name.as_str()).await?.is_none() && Instant::now() < until {
                    self.vigil_for(play, LOOK).await?;
                }
                let place = Place::of(format!("step {number}, {name} is to end")).within(within);
                Ok(match self.poll(play, name.as_str()).await? {
                    Some(report) => play.read(&self.lab.clock, &place, play.form(name.as_str()), report),
                    None => Some(Unwell::late(&place, "it is still running")),
                })
            }
            Action::Stop(name) => {
                let ended = self.poll(play, name.as_str()).await?;
                play.timeline.add(&self.lab.clock, &format!("step {number}, {name} is stopped"));
                let place = Place::of(format!("step {number}, {name} was to run until it is stopped"));
                match ended {
                    Some(report) => Ok(play.read(&self.lab.clock, &place, play.form(name.as_str()), report)),
                    None => {
                        self.interrupt(play, name.as_str()).await?;
                        Ok(None)
                    }
                }
            }
            Action::Network(what) => {
                play.timeline.add(&self.lab.clock, &format!("step {number}, network: {what}"));
                let suite = play.suite;
                self.disturb(what, |role| player(suite, role)).await?;
                Ok(None)
            }
        }
    }

    /// Runs a script to its end, while somebody looks after the other machines.
    async fn run_script(&mut self, play: &Play<'_>, role: &Name, step: &Step, script: &str, limit: Duration) -> Result<StepReport, Stop> {
        let (at, job) = self.script(play, role, step, script, limit)?;
        let what = format!("{}/{}", play.suite.name, play.case.name);
        let roles: Vec<Name> = self.cell.machines.iter().map(|machine| machine.role.clone()).collect();
        let (one, others) = self.apart(at)?;
        let ended = tokio::select! {
            ended = one.session.run("case", vec![job], |_| {}) => ended.map_err(Stop::from),
            stop = vigil(others, &roles, &what) => return Err(stop),
        };
        match ended.map_err(|stop| self.on(at, stop))? {
            JobEnd::Done(mut reports) => reports.pop().ok_or_else(|| no_pass().into()),
            JobEnd::Restarted(_) => {
                let message = format!("the machine restarted by itself during case {what}");
                Err(self.on(at, Trouble::new(Cause::UnexpectedReboot, message).into()))
            }
        }
    }

    async fn start_script(
        &mut self,
        play: &mut Play<'_>,
        role: &Name,
        step: &Step,
        script: &str,
        name: &str,
        limit: Duration,
    ) -> Result<(), Stop> {
        let (at, mut job) = self.script(play, role, step, script, limit)?;
        let session = self.session(at)?;
        let id = session.job_id("background");
        job.env.insert("PATCHLAB_READY".to_owned(), ready_file(&id));
        let job = Job { id: id.clone(), steps: vec![job] };
        let guest = session.guest.clone();
        session.patiently(|| guest.start(&job)).await.map_err(|trouble| self.on(at, trouble.into()))?;
        play.background.push(Background { name: name.to_owned(), at, job: id, form: step.result, report: None });
        Ok(())
    }

    /// The machine that plays a role, and the script as a step of a job on it.
    fn script(&self, play: &Play<'_>, role: &Name, step: &Step, script: &str, limit: Duration) -> Result<(usize, JobStep), Stop> {
        let on = player(play.suite, role);
        let at = self.cell.machines.iter().position(|machine| machine.role == on).ok_or_else(no_pass)?;
        let machine = self.cell.machines.get(at).ok_or_else(no_pass)?;
        let mut job = super::observing::script_step(&play.suite.name, &play.case.name, script, play.point);
        job.limit = limit;
        job.output_cap = OUTPUT;
        job.needs = step.needs.clone();
        let arguments: String = (0..step.with.len()).map(|at| format!(" \"$PATCHLAB_WITH_{at}\"")).collect();
        job.command.push_str(&arguments);
        let with = step.with.iter().enumerate().map(|(at, argument)| (format!("PATCHLAB_WITH_{at}"), argument.clone()));
        job.env.extend(with);
        let level = if play.point.phase() == crate::cell::Phase::Baseline { "none".to_owned() } else { self.cell.level() };
        let patched = machine.patched && level != "none";
        job.env.extend([
            ("PATCHLAB_FORM".to_owned(), step.result.as_str().to_owned()),
            ("PATCHLAB_ROLE".to_owned(), role.to_string()),
            ("PATCHLAB_LEVEL".to_owned(), level),
            ("PATCHLAB_PATCHED".to_owned(), if patched { "yes" } else { "no" }.to_owned()),
        ]);
        for (other, on) in &play.suite.cast {
            let Some(peer) = self.cell.machines.iter().find(|machine| machine.role == *on) else { continue };
            job.env.extend(peer_variables(machine, other, peer));
        }
        Ok((at, job))
    }

    /// Waits until a background script says that it is ready.
    async fn until_ready(&mut self, play: &mut Play<'_>, number: usize, name: &str, within: Duration) -> Result<Option<Unwell>, Stop> {
        let place = Place::of(format!("step {number}, {name} is to be ready")).within(within);
        let until = Instant::now() + within;
        loop {
            let Some(one) = play.background.iter().find(|one| one.name == name) else { return Ok(None) };
            let (at, file) = (one.at, ready_file(&one.job));
            match self.session(at)?.guest.read(&file, 1).await {
                Ok(_) => {
                    play.timeline.add(&self.lab.clock, &format!("{name} is ready"));
                    return Ok(None);
                }
                Err(GuestError::Refused { .. } | GuestError::Failed { .. } | GuestError::Unresponsive { .. }) => {}
                Err(error) => return Err(self.on(at, guest_trouble(error).into())),
            }
            if let Some(report) = self.poll(play, name).await? {
                let read = play.read(&self.lab.clock, &place, play.form(name), report.clone());
                let early = || Unwell::failed(&place, "it ended without having been ready", report.output.clone());
                return Ok(Some(read.unwrap_or_else(early)));
            }
            if Instant::now() >= until {
                return Ok(Some(Unwell::late(&place, "it made no file $PATCHLAB_READY")));
            }
            self.vigil_for(play, LOOK).await?;
        }
    }

    /// How a background script ended, if it has.
    async fn poll(&mut self, play: &mut Play<'_>, name: &str) -> Result<Option<StepReport>, Stop> {
        let Some(one) = play.background.iter_mut().find(|one| one.name == name) else { return Ok(None) };
        if one.report.is_none() {
            let (at, job) = (one.at, one.job.clone());
            let session = self.session(at)?;
            let guest = session.guest.clone();
            match session.patiently(|| guest.poll(&job)).await.map_err(|trouble| self.on(at, trouble.into()))? {
                JobState::Running { .. } => {}
                JobState::Ended { mut steps } => one.report = steps.pop(),
                JobState::Unknown => {
                    let message = format!("the background script {name} is gone: the machine restarted, or something removed its runner");
                    return Err(self.on(at, Trouble::new(Cause::UnexpectedReboot, message).into()));
                }
            }
        }
        Ok(one.report.clone())
    }

    /// Asks a background script to end, and waits for it.
    async fn interrupt(&mut self, play: &mut Play<'_>, name: &str) -> Result<(), Stop> {
        let Some((at, job)) = play.background.iter().find(|one| one.name == name).map(|one| (one.at, one.job.clone())) else {
            return Ok(());
        };
        let session = self.session(at)?;
        let guest = session.guest.clone();
        session.patiently(|| guest.interrupt(&job)).await.map_err(|trouble| self.on(at, trouble.into()))?;
        let asked = Instant::now();
        while self.poll(play, name).await?.is_none() && asked.elapsed() < ENDING {
            self.vigil_for(play, LOOK).await?;
        }
        Ok(())
    }

    /// A background script that was to go on and did not.
    async fn fallen(&mut self, play: &mut Play<'_>) -> Result<Option<Unwell>, Stop> {
        let names: Vec<String> = play.background.iter().map(|one| one.name.clone()).collect();
        let stopped = |name: &String| {
            play.case.steps.iter().any(|step| step.stop.as_ref().or(step.wait.as_ref()).is_some_and(|n| n.as_str() == name))
        };
        let open: Vec<String> = names.into_iter().filter(|name| !stopped(name)).collect();
        for name in open {
            if let Some(report) = self.poll(play, &name).await? {
                let place = Place::of(format!("{name} was to run until the end of the case"));
                if let Some(unwell) = play.read(&self.lab.clock, &place, play.form(&name), report) {
                    return Ok(Some(unwell));
                }
            }
        }
        Ok(None)
    }

    /// Ends what still runs; of a case that went wrong, with what it had to say.
    async fn curtain(&mut self, play: &mut Play<'_>, wrong: bool) -> Result<(), Stop> {
        let open: Vec<(String, usize, String)> =
            play.background.iter().filter(|one| one.report.is_none()).map(|one| (one.name.clone(), one.at, one.job.clone())).collect();
        for (name, at, job) in open {
            if wrong {
                self.interrupt(play, &name).await?;
            }
            let session = self.session(at)?;
            let guest = session.guest.clone();
            session.patiently(|| guest.kill(&job)).await.map_err(|trouble| self.on(at, trouble.into()))?;
        }
        Ok(())
    }

    fn observation(&self, play: Play<'_>, unwell: Option<Unwell>, elapsed: Duration) -> Result<CaseObservation, Stop> {
        let (outcome, message, fingerprint) = match &unwell {
            None => (CaseOutcome::Pass, String::new(), None),
            Some(unwell) => (unwell.outcome, unwell.message.clone(), unwell.fingerprint),
        };
        play.timeline.add(&self.lab.clock, &format!("{}/{}: {}", play.suite.name, play.case.name, outcome.as_str()));
        let mut parts = Vec::new();
        if let Some(unwell) = unwell.as_ref().filter(|unwell| !unwell.output.is_empty()) {
            parts.push(super::evidence::tail(&unwell.output, 60, SHOWN));
        }
        let mut evidence = Vec::new();
        let keep = |name: &str, bytes: &[u8]| self.lab.evidence.keep(name, bytes).map_err(|error| Stop::from(disk_trouble(&error)));
        if unwell.is_some() {
            for one in &play.background {
                let Some(report) = &one.report else { continue };
                let role = self.cell.machines.get(one.at).map(|machine| machine.role.to_string()).unwrap_or_default();
                parts.push(format!("--- {} on {role}, in the background\n{}", one.name, super::evidence::tail(&report.output, 30, SHOWN)));
                if !report.output.is_empty() {
                    evidence.push(keep(&format!("output of {}", one.name), &report.output)?);
                }
            }
            let output = unwell.as_ref().map(|unwell| unwell.output.clone()).unwrap_or_default();
            if !output.is_empty() {
                evidence.push(keep("output", &output)?);
            }
        }
        Ok(CaseObservation {
            suite: play.suite.name.clone(),
            case: play.case.name.clone(),
            point: play.point,
            outcome,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            message,
            detail: parts.join("\n"),
            fingerprint,
            skipped: Vec::new(),
            notes: Vec::new(),
            evidence,
            origin: None,
        })
    }

    /// One machine, and all others.
    fn apart(&mut self, at: usize) -> Result<(&mut MachineState, Vec<Placed<'_>>), Stop> {
        let machines = self.pass.as_mut().map(|pass| pass.machines.as_mut_slice()).unwrap_or_default();
        let mut one = None;
        let mut others = Vec::new();
        for (index, machine) in machines.iter_mut().enumerate() {
            if index == at { one = Some(machine) } else { others.push((index, machine)) }
        }
        Ok((one.ok_or_else(no_pass)?, others))
    }

    /// Looks after all machines for a while.
    async fn vigil_for(&mut self, play: &Play<'_>, time: Duration) -> Result<(), Stop> {
        let what = format!("{}/{}", play.suite.name, play.case.name);
        let roles: Vec<Name> = self.cell.machines.iter().map(|machine| machine.role.clone()).collect();
        let machines = self.pass.as_mut().map(|pass| pass.machines.as_mut_slice()).unwrap_or_default();
        match tokio::time::timeout(time, vigil(machines.iter_mut().enumerate().collect(), &roles, &what)).await {
            Ok(stop) => Err(stop),
            Err(_) => Ok(()),
        }
    }
}

/// Looks after machines until one of them is lost.
async fn vigil(mut machines: Vec<Placed<'_>>, roles: &[Name], what: &str) -> Stop {
    loop {
        for (at, machine) in &mut machines {
            let lost = match machine.session.look().await {
                Err(trouble) => trouble,
                Ok(look) if look.stopped => Trouble::new(Cause::PoweredOff, format!("the machine switched itself off during case {what}")),
                Ok(look) if look.restarts > 0 => {
                    Trouble::new(Cause::UnexpectedReboot, format!("the machine restarted by itself during case {what}"))
                }
                Ok(_) => continue,
            };
            return roles.get(*at).map_or_else(|| lost.clone(), |role| lost.clone().on(role)).into();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Who plays a suite's role.
fn player(suite: &PlannedSuite, role: &Name) -> Name {
    suite.cast.get(role).unwrap_or(role).clone()
}

/// Where a background script says that it is ready: a file of its job, which goes with it.
fn ready_file(job: &str) -> String {
    format!("{RUNNER_ROOT}/tmp/{job}-ready")
}

/// How a script finds a peer: `$PATCHLAB_NAME_SERVER`, `$PATCHLAB_ADDRESS_SERVER`.
fn peer_variables(machine: &PlannedMachine, role: &Name, peer: &PlannedMachine) -> Vec<(String, String)> {
    let role = role.as_str().to_uppercase().replace(['-', '.'], "_");
    let address = address_for(machine, peer).map(|address| (format!("PATCHLAB_ADDRESS_{role}"), address.to_string()));
    [(format!("PATCHLAB_NAME_{role}"), peer.role.to_string())].into_iter().chain(address).collect()
}

impl Play<'_> {
    /// How a background script says what it found.
    fn form(&self, name: &str) -> ResultForm {
        self.background.iter().find(|one| one.name == name).map_or(ResultForm::Exit, |one| one.form)
    }

    /// What a script's end means. `None` is well.
    fn read(&mut self, clock: &super::clock::Clock, place: &Place, form: ResultForm, report: StepReport) -> Option<Unwell> {
        let read = meant(form, &report);
        let took = report.elapsed.as_millis();
        let told = if read.outcome == CaseOutcome::Pass { said(&report.output) } else { why(&read) };
        self.timeline.add(clock, &format!("{place}: {} after {took} ms{told}", read.outcome.as_str()));
        let message = format!("{place}: {}", read.message);
        (read.outcome != CaseOutcome::Pass).then(|| Unwell {
            outcome: read.outcome,
            message,
            output: report.output,
            fingerprint: read.fingerprint.map(|print| Digest::of(format!("{}\n{print}", place.what))),
        })
    }
}
