//! `patchlab pause`, `drain` and `resume`.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::args::{Answer, Drain, Format, Pause};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::person::user;
use super::print;
use crate::api::host::{HostReport, PauseRequest};
use crate::lab::pause;

/// Between two looks at what is still at work.
const LOOK: Duration = Duration::from_secs(1);
/// Cells that are named where more are at work.
const NAMED: usize = 10;

/// Says how the host stands after something was done.
fn tell(format: Format, told: &str, host: Option<&HostReport>) -> Result<(), Failure> {
    let at_work = host.map_or(0, |host| host.at_work.len());
    match format {
        Format::Json => {
            let paused = host.is_none_or(|host| host.paused.is_some()) && !told.starts_with("resumed");
            print(&format!("{:#}\n", serde_json::json!({ "paused": paused, "at-work": at_work })))
        }
        Format::Human => {
            print(&format!("{told}; {} at work\n", crate::report::text::count(at_work, "cell")))?;
            let cells = host.map(|host| host.at_work.as_slice()).unwrap_or_default();
            cells.iter().take(NAMED).try_for_each(|one| print(&format!("  {} of run {}\n", one.cell, one.run)))
        }
    }
}

/// Has a server pause; where there is none, whoever works next will find it paused.
fn paused(context: &Context, reason: Option<&str>) -> Result<Option<(Client, HostReport)>, Failure> {
    if let Some(client) = Client::needed(context)? {
        let request = PauseRequest { reason: reason.map(str::to_owned) };
        let host = client.say("/api/v1/host/pause", &request)?;
        return Ok(Some((client, host)));
    }
    let _lock = context.state.lock()?;
    let pause = pause::Pause { by: user(), since: Timestamp::now(), reason: reason.map(str::to_owned) };
    pause::write(&context.state.folder, Some(&pause)).map_err(Failure::lab)?;
    Ok(None)
}

pub fn pause(context: &Context, verb: &Pause) -> Result<Exit, Failure> {
    let server = paused(context, verb.reason.as_deref())?;
    tell(verb.answer.format, "paused", server.as_ref().map(|(_, host)| host))?;
    Ok(Exit::Pass)
}

/// Pauses and waits until nothing is at work any more.
pub fn drain(context: &Context, verb: &Drain) -> Result<Exit, Failure> {
    let until = Instant::now() + verb.wait.0;
    let mut server = paused(context, verb.reason.as_deref())?;
    while let Some((client, host)) = &mut server {
        if host.at_work.is_empty() || Instant::now() >= until {
            break;
        }
        std::thread::sleep(LOOK);
        *host = client.read("/api/v1/host")?;
        if host.paused.is_none() {
            return Err(Failure::usage("somebody has resumed the host meanwhile; it is not drained"));
        }
    }
    let host = server.as_ref().map(|(_, host)| host);
    let drained = host.is_none_or(|host| host.at_work.is_empty());
    tell(verb.answer.format, if drained { "drained" } else { "paused, not drained in time" }, host)?;
    Ok(if drained { Exit::Pass } else { Exit::Undecided })
}

pub fn resume(context: &Context, verb: &Answer) -> Result<Exit, Failure> {
    let host = match Client::needed(context)? {
        Some(client) => Some(client.say("/api/v1/host/resume", &serde_json::json!({}))?),
        None => {
            let _lock = context.state.lock()?;
            pause::write(&context.state.folder, None).map_err(Failure::lab)?;
            None
        }
    };
    tell(verb.format, "resumed", host.as_ref())?;
    Ok(Exit::Pass)
}
