//! After the cases of a point: what happened meanwhile on each machine and on the wire is put together with the lab's own notes and kept,
//! a timeline for each case. The machines are asked once for all cases, since each question costs them work.

use std::path::PathBuf;

use jiff::Timestamp;

use super::evidence::{CAP, EvidenceStore};
use super::jobs::JobEnd;
use super::network::names;
use super::observing::disk_trouble;
use super::runner::{CellRunner, Stop};
use super::stages::named;
use super::timeline::{self, Happened, Journal, Timeline, Window};
use crate::cell::{CaseOutcome, Cause, Evidence, Stage};
use crate::hypervisor::WireReport;
use crate::id::Name;
use crate::journal::Event;

/// A case that was played.
pub(super) struct Scene {
    pub timeline: Timeline,
    /// `None` when it was cut short.
    pub outcome: Option<CaseOutcome>,
}

/// What was not told by the machine that was asked.
enum Silence {
    /// It goes on without this machine's words.
    Quiet(Journal),
    /// The machine was lost.
    Lost(Stop),
}

impl CellRunner {
    /// Keeps the timelines of cases, and of those that did not pass what was captured. What cut the last one short is handed on, with
    /// the evidence of it.
    pub(super) async fn chronicle(&mut self, stage: Stage, scenes: Vec<Scene>, mut played: Result<(), Stop>) -> Result<(), Stop> {
        if matches!(played, Err(Stop::Journal(_))) {
            return played;
        }
        let Some(since) = scenes.first().map(|scene| scene.timeline.window().from) else { return played };
        self.tell(stage, "reading what the machines and the wire have to say");
        let mut journals = Vec::new();
        for at in 0..self.cell.machines.len() {
            match self.journal(stage, at, since).await {
                Ok(journal) | Err(Silence::Quiet(journal)) => journals.push(journal),
                Err(Silence::Lost(stop)) => {
                    let role = self.cell.machines.get(at).map(|machine| machine.role.to_string()).unwrap_or_default();
                    journals.push(Journal::silent(&role, "it was lost before it could tell anything"));
                    // What came first is what is told.
                    played = played.and(Err(self.on(at, stop)));
                }
            }
        }
        let windows: Vec<Window> = scenes.iter().map(|scene| scene.timeline.window()).collect();
        let (wire, frames) = self.overheard(&windows).await;
        for (at, scene) in scenes.iter().enumerate() {
            let machines = journals.iter().flat_map(|journal| journal.during(scene.timeline.window()));
            let events = wire.timeline.iter().map(timeline::told);
            let frames = frames.get(at).cloned().unwrap_or_default();
            let text = scene.timeline.merged(machines.chain(events).chain(frames).collect());
            let passed = scene.outcome == Some(CaseOutcome::Pass);
            let case = &scene.timeline.case;
            let name = if scene.outcome.is_some() { "timeline".to_owned() } else { format!("timeline of {}/{}", case.suite, case.case) };
            let mut evidence = vec![self.lab.evidence.keep(&name, text.as_bytes()).map_err(|error| disk_trouble(&error))?];
            if !passed {
                let captured = captures(&self.lab.evidence, &wire, Some(scene.timeline.window())).await;
                evidence.extend(captured.map_err(|error| disk_trouble(&error))?);
            }
            match (&mut played, scene.outcome) {
                (Err(Stop::Trouble(trouble)), None) => trouble.evidence.extend(evidence),
                _ => self.keep(Some(case.clone()), evidence).await?,
            }
        }
        played
    }

    /// Keeps each segment's capture of the whole pass.
    pub(super) async fn keep_captures(&mut self) -> Result<(), Stop> {
        let Some(pass) = self.pass.as_ref().filter(|_| !self.cell.segments.is_empty()) else { return Ok(()) };
        // A network that was never opened, or is gone, has captured nothing.
        let Ok(wire) = self.lab.hypervisor.wire(&pass.name).await else { return Ok(()) };
        match captures(&self.lab.evidence, &wire, None).await {
            Ok(evidence) if evidence.is_empty() => Ok(()),
            Ok(evidence) => self.keep(None, evidence).await,
            // The machines have to go all the same.
            Err(error) => {
                tracing::warn!(cell = %self.cell.id, %error, "captures not kept");
                Ok(())
            }
        }
    }

    async fn keep(&mut self, case: Option<crate::cell::CaseAt>, evidence: Vec<Evidence>) -> Result<(), Stop> {
        Ok(self.append(Event::EvidenceKept { cell: self.cell.id.clone(), case, evidence }).await?)
    }

    /// What a machine's journal says since a moment.
    async fn journal(&mut self, stage: Stage, at: usize, since: Timestamp) -> Result<Journal, Silence> {
        let role = self.cell.machines.get(at).map(|machine| machine.role.to_string()).unwrap_or_default();
        let quiet = |why: String| Silence::Quiet(Journal::silent(&role, &why));
        let Ok(session) = self.session(at) else { return Err(quiet("it was never made".to_owned())) };
        let guest = session.guest.clone();
        let asked = self.lab.clock.now();
        let uptime = guest.read(timeline::UPTIME, 64).await.map_err(|error| quiet(format!("it could not be asked: {error}")))?;
        let Some(booted) = timeline::Booted::from(&uptime.0, asked, self.lab.clock.now()) else {
            return Err(quiet("it does not say since when it runs".to_owned()));
        };
        let tell = self.teller(stage);
        let ended = {
            let mut tell = tell;
            let session = self.session(at).map_err(Silence::Lost)?;
            session.run("journal", vec![named(booted.step(since), "journal")], |_| tell("journals")).await
        };
        match ended {
            Ok(JobEnd::Done(reports)) => match reports.first() {
                Some(report) => Ok(Journal::read(&role, booted, report)),
                None => Err(quiet("it gave no answer".to_owned())),
            },
            Ok(JobEnd::Restarted(_)) => {
                let message = "the machine restarted by itself after the cases";
                Err(Silence::Lost(crate::cell::Trouble::new(Cause::UnexpectedReboot, message).into()))
            }
            Err(trouble) if matches!(trouble.cause, Cause::ProbeFailed | Cause::AgentNonsense) => Err(quiet(trouble.message)),
            Err(trouble) => Err(Silence::Lost(trouble.into())),
        }
    }

    /// What the wire saw, and the frames of each window. What can't be had is said in its place.
    async fn overheard(&mut self, windows: &[Window]) -> (WireReport, Vec<Vec<Happened>>) {
        let mut frames: Vec<Vec<Happened>> = vec![Vec::new(); windows.len()];
        let Some(pass) = self.pass.as_mut().filter(|_| !self.cell.segments.is_empty()) else { return (WireReport::default(), frames) };
        let mut told = |at: usize, place: &str, lines: Vec<(Timestamp, String)>| {
            if let Some(all) = frames.get_mut(at) {
                all.extend(lines.into_iter().map(|(stamp, line)| (stamp, place.to_owned(), line)));
            }
        };
        let wire = match self.lab.hypervisor.wire(&pass.name).await {
            Ok(wire) => wire,
            Err(error) => {
                let line = format!("[what crossed the network is not known: {error}]");
                windows.iter().enumerate().for_each(|(at, window)| told(at, "network", vec![(window.from, line.clone())]));
                return (WireReport::default(), frames);
            }
        };
        if let Some(why) = &wire.unseen {
            windows.iter().enumerate().for_each(|(at, window)| told(at, "network", vec![(window.from, format!("[{why}]"))]));
        }
        for (segment, file) in &wire.captures {
            let from = pass.read.get(segment).copied().unwrap_or_default();
            let (file, spans, names) = (file.clone(), windows.to_vec(), names(&self.cell, segment));
            let read = tokio::task::spawn_blocking(move || timeline::frames(&file, from, &spans, &names)).await;
            match read.map_err(std::io::Error::other).and_then(|read| read) {
                Ok((lines, end)) => {
                    pass.read.insert(segment.clone(), end);
                    lines.into_iter().enumerate().for_each(|(at, lines)| told(at, segment.as_str(), lines));
                }
                Err(error) => {
                    let line = format!("[the capture could not be read: {error}]");
                    windows.iter().enumerate().for_each(|(at, window)| told(at, segment.as_str(), vec![(window.from, line.clone())]));
                }
            }
        }
        (wire, frames)
    }
}

/// Each segment's capture as evidence: of a span of time, or all of it. What can't be read is left out.
pub(super) async fn captures(store: &EvidenceStore, wire: &WireReport, window: Option<Window>) -> std::io::Result<Vec<Evidence>> {
    let mut evidence = Vec::new();
    for (segment, file) in &wire.captures {
        let Ok((bytes, whole)) = cut(file.clone(), window).await else { continue };
        let stats = wire.segments.iter().find(|stats| stats.segment == *segment);
        let complete = whole && stats.is_none_or(|stats| stats.capture.beyond_cap + stats.capture.missed == 0);
        evidence.push(store.keep(&capture_name(segment, complete), &bytes)?);
    }
    Ok(evidence)
}

async fn cut(file: PathBuf, window: Option<Window>) -> std::io::Result<(Vec<u8>, bool)> {
    tokio::task::spawn_blocking(move || timeline::piece(&file, window, CAP)).await.map_err(std::io::Error::other)?
}

fn capture_name(segment: &Name, complete: bool) -> String {
    let cut = if complete { String::new() } else { format!(", not all of it: at most {} MiB are kept", CAP >> 20) };
    format!("capture of {segment}{cut}")
}
