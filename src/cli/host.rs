//! `patchlab pause`, `drain` and `resume`.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::args::{Drain, Format, Pause, Resume};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::person::user;
use super::print;
use crate::api::host::{AtWork, HostReport, PauseRequest, ResumeRequest};
use crate::id::Name;
use crate::lab::pause;

/// Between two looks at what is still at work.
const LOOK: Duration = Duration::from_secs(1);
/// Cells that are named where more are at work.
const NAMED: usize = 10;

/// The cells at work where somebody looks: on one host, or on all.
fn at_work<'a>(report: &'a HostReport, host: Option<&Name>) -> Vec<&'a AtWork> {
    report.at_work.iter().filter(|one| host.is_none_or(|host| one.host == *host)).collect()
}

/// Whether cells may not start there.
fn is_paused(report: &HostReport, host: Option<&Name>) -> bool {
    match host {
        None => report.paused.is_some(),
        Some(host) => report.hosts.iter().any(|one| one.name == *host && one.paused.is_some()),
    }
}

/// Says how the host stands after something was done.
fn tell(format: Format, told: &str, host: Option<&Name>, report: Option<&HostReport>) -> Result<(), Failure> {
    let cells = report.map(|report| at_work(report, host)).unwrap_or_default();
    match format {
        Format::Json => {
            let paused = report.map_or(!told.starts_with("resumed"), |report| is_paused(report, host));
            print(&format!("{:#}\n", serde_json::json!({ "paused": paused, "at-work": cells.len() })))
        }
        Format::Human => {
            print(&format!("{told}; {} at work\n", crate::report::text::count(cells.len(), "cell")))?;
            cells.iter().take(NAMED).try_for_each(|one| print(&format!("  {} of run {}\n", one.cell, one.run)))
        }
    }
}

/// Has a server pause; where there is none, whoever works next will find it paused.
fn paused(context: &Context, host: Option<&Name>, reason: Option<&str>) -> Result<Option<(Client, HostReport)>, Failure> {
    if let Some(client) = Client::needed(context)? {
        let request = PauseRequest { host: host.cloned(), reason: reason.map(str::to_owned) };
        let report = client.say("/api/v1/host/pause", &request)?;
        return Ok(Some((client, report)));
    }
    context.has_host(host)?;
    let _lock = context.state.lock()?;
    let pause = pause::Pause { by: user(), since: Timestamp::now(), reason: reason.map(str::to_owned) };
    pause::write(&context.state.folder, host, Some(&pause)).map_err(Failure::lab)?;
    Ok(None)
}

pub fn pause(context: &Context, verb: &Pause) -> Result<Exit, Failure> {
    let server = paused(context, verb.host.as_ref(), verb.reason.as_deref())?;
    tell(verb.answer.format, "paused", verb.host.as_ref(), server.as_ref().map(|(_, report)| report))?;
    Ok(Exit::Pass)
}

/// Pauses and waits until nothing is at work any more.
pub fn drain(context: &Context, verb: &Drain) -> Result<Exit, Failure> {
    let (until, host) = (Instant::now() + verb.wait.0, verb.host.as_ref());
    let mut server = paused(context, host, verb.reason.as_deref())?;
    while let Some((client, report)) = &mut server {
        if at_work(report, host).is_empty() || Instant::now() >= until {
            break;
        }
        std::thread::sleep(LOOK);
        *report = client.read("/api/v1/host")?;
        if !is_paused(report, host) {
            return Err(Failure::usage("somebody has resumed the host meanwhile; it is not drained"));
        }
    }
    let report = server.as_ref().map(|(_, report)| report);
    let drained = report.is_none_or(|report| at_work(report, host).is_empty());
    tell(verb.answer.format, if drained { "drained" } else { "paused, not drained in time" }, host, report)?;
    Ok(if drained { Exit::Pass } else { Exit::Undecided })
}

pub fn resume(context: &Context, verb: &Resume) -> Result<Exit, Failure> {
    let host = verb.host.as_ref();
    let report = match Client::needed(context)? {
        Some(client) => Some(client.say("/api/v1/host/resume", &ResumeRequest { host: host.cloned() })?),
        None => {
            context.has_host(host)?;
            let _lock = context.state.lock()?;
            pause::write(&context.state.folder, host, None).map_err(Failure::lab)?;
            None
        }
    };
    tell(verb.answer.format, "resumed", host, report.as_ref())?;
    Ok(Exit::Pass)
}
