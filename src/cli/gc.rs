//! `patchlab gc`: what bears this lab's tag and has no lease.

use std::path::PathBuf;

use serde_json::json;

use super::args::{Format, Gc};
use super::context::{Context, image_failure};
use super::error::{Exit, Failure};
use super::print;
use crate::lab::{Lab, Settings, reaper};

pub async fn gc(context: &Context, verb: &Gc) -> Result<Exit, Failure> {
    let _lock = context.state.lock()?;
    let (lab, _cancel) = context.lab(Settings::default()).await?;
    let orphans = reaper::orphans(&lab).await?;
    let stale = stale_images(context, &lab).await?;
    match verb.answer.format {
        Format::Human if orphans.is_empty() && stale.is_empty() => print("nothing is left over\n")?,
        Format::Human => {
            for one in &orphans {
                let run = one.tag.as_ref().map_or("an unknown run".to_owned(), |tag| format!("run {}, {}", tag.run, tag.cell));
                let state = if one.running { "running" } else { "off" };
                print(&format!("{}  {state}, {} MiB, of {run}\n", one.machine, one.bytes >> 20))?;
            }
            for (path, bytes) in &stale {
                print(&format!("{}  {} MiB, an image that was built anew since\n", path.display(), bytes >> 20))?;
            }
        }
        Format::Json => {
            let rows =
                orphans.iter().map(|one| json!({ "machine": one.machine, "running": one.running, "bytes": one.bytes, "tag": one.tag }));
            let images = stale.iter().map(|(path, bytes)| json!({ "image": path, "bytes": bytes }));
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows.chain(images))))?;
        }
    }
    if verb.remove {
        let removed = reaper::reap(&lab).await?;
        // A build that is just sealing a disk has not named it yet.
        let store = context.images()?;
        let _building = if stale.is_empty() { None } else { Some(store.incoming().await.map_err(image_failure)?) };
        for (path, _) in &stale {
            store.discard(path).map_err(image_failure)?;
        }
        context.sweep(&lab).await?;
        super::say(format_args!("removed {}", removed.len() + stale.len()));
    } else if !orphans.is_empty() || !stale.is_empty() {
        super::say(format_args!("remove them with: patchlab gc --remove"));
    }
    Ok(Exit::Pass)
}

/// Disks that no image's name stands for any more and that no unfinished run or kept machine needs, with their sizes.
async fn stale_images(context: &Context, lab: &Lab) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let store = context.images()?;
    let runs = context.runs(&lab.journal).await?;
    let needed = runs.iter().filter(|run| !run.is_finished() || !run.kept.is_empty()).flat_map(|run| &run.plan.cells);
    let needed: Vec<PathBuf> = needed.flat_map(|cell| &cell.machines).map(|machine| store.path_of(machine.image.sha256)).collect();
    let stale = store.nameless().map_err(image_failure)?.into_iter().filter(|path| !needed.contains(path));
    let sized = |path: PathBuf| {
        let bytes = path.metadata().map_or(0, |file| file.len());
        (path, bytes)
    };
    Ok(stale.map(sized).collect())
}
