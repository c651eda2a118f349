//! `patchlab gc`: what bears this lab's tag and has no lease.

use serde_json::json;

use super::args::{Format, Gc};
use super::context::Context;
use super::error::{Exit, Failure};
use super::print;
use crate::lab::{Settings, reaper};

pub async fn gc(context: &Context, verb: &Gc) -> Result<Exit, Failure> {
    let _lock = context.state.lock()?;
    let (lab, _cancel) = context.lab(Settings::default()).await?;
    let orphans = reaper::orphans(&lab).await?;
    match verb.answer.format {
        Format::Human if orphans.is_empty() => print("nothing is left over\n")?,
        Format::Human => {
            for one in &orphans {
                let run = one.tag.as_ref().map_or("an unknown run".to_owned(), |tag| format!("run {}, {}", tag.run, tag.cell));
                let state = if one.running { "running" } else { "off" };
                print(&format!("{}  {state}, {} MiB, of {run}\n", one.machine, one.bytes >> 20))?;
            }
        }
        Format::Json => {
            let rows =
                orphans.iter().map(|one| json!({ "machine": one.machine, "running": one.running, "bytes": one.bytes, "tag": one.tag }));
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    if verb.remove {
        let removed = reaper::reap(&lab).await?;
        eprintln!("removed {}", removed.len());
    } else if !orphans.is_empty() {
        eprintln!("remove them with: patchlab gc --remove");
    }
    Ok(Exit::Pass)
}
