//! `patchlab gc`: what bears this lab's tag and has no lease, and the templates, which are nobody's.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::args::{Format, Gc};
use super::context::{Context, image_failure};
use super::error::{Exit, Failure};
use super::print;
use crate::hypervisor::{Copied, Hypervisor, Sent};
use crate::id::{Digest, Name};
use crate::lab::scheduler::host::Hosts;
use crate::lab::templates::{Limits, Templates};
use crate::lab::{Lab, Settings, reaper};

pub async fn gc(context: &Context, verb: &Gc) -> Result<Exit, Failure> {
    let _lock = context.state.lock()?;
    let (lab, _cancel) = context.lab(Settings::default(), Hosts::none()).await?;
    let orphans = reaper::orphans(&lab).await?;
    let stale = stale(context, &lab, verb.templates).await?;
    // Also where the lab wants none any more.
    let folders = context.template_folders()?.into_iter();
    let stores = folders.map(|folder| Templates::open(&folder, Limits::default())).collect::<Result<Vec<_>, _>>().map_err(Failure::lab)?;
    let mut kept = Vec::new();
    for store in &stores {
        kept.extend(store.all().map_err(Failure::lab)?);
    }
    match verb.answer.format {
        Format::Human => {
            if orphans.is_empty() && stale.is_empty() {
                print("nothing is left over\n")?;
            }
            for one in &orphans {
                let run = one.tag.as_ref().map_or("an unknown run".to_owned(), |tag| format!("run {}, {}", tag.run, tag.cell));
                let state = if one.running { "running" } else { "off" };
                print(&format!("{}  {state}, {} MiB, of {run}\n", one.machine, one.bytes >> 20))?;
            }
            for Disk { place, bytes } in &stale {
                let why = match place {
                    Place::Sent { what: Copied::Template, .. } if verb.templates => "of a template",
                    Place::Sent { what: Copied::Template, .. } => "of a template that is gone",
                    _ => "an image that was built anew since",
                };
                print(&format!("{place}  {} MiB, {why}\n", bytes >> 20))?;
            }
            for (used, bytes, record) in &kept {
                let [template, image, hardware] = [record.key.digest(), record.key.image, record.key.hardware].map(|digest| digest.short());
                let size = bytes >> 20;
                print(&format!("template {template}  {size} MiB, of image {image} on hardware {hardware}, last used {used:.0}\n"))?;
            }
        }
        Format::Json => {
            let rows =
                orphans.iter().map(|one| json!({ "machine": one.machine, "running": one.running, "bytes": one.bytes, "tag": one.tag }));
            let images = stale.iter().map(|Disk { place, bytes }| match place {
                Place::Here(path) => json!({ "image": path, "bytes": bytes }),
                Place::Sent { what: Copied::Image, digest, host, .. } => json!({ "image": digest, "host": host, "bytes": bytes }),
                Place::Sent { what: Copied::Template, digest, host, .. } => json!({ "of-template": digest, "host": host, "bytes": bytes }),
            });
            let kept = kept.iter().map(|(used, bytes, record)| {
                let (key, frozen) = (&record.key, record.frozen);
                json!({ "template": key.digest(), "image": key.image, "hardware": key.hardware, "bytes": bytes, "frozen": frozen, "used": used })
            });
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows.chain(images).chain(kept))))?;
        }
    }
    let mut gone = verb.templates.then_some(0);
    for store in stores.iter().filter(|_| verb.templates) {
        gone = Some(gone.unwrap_or_default() + store.clear().map_err(Failure::lab)?);
    }
    if verb.remove {
        let removed = reaper::reap(&lab).await?;
        // A build that is just sealing a disk has not named it yet.
        let store = context.images()?;
        let _building = if stale.is_empty() { None } else { Some(store.incoming().await.map_err(image_failure)?) };
        for Disk { place, .. } in &stale {
            match place {
                Place::Here(path) => store.discard(path).map_err(image_failure)?,
                Place::Sent { digest, on, .. } => on.discard(*digest).await.map_err(Failure::lab)?,
            }
        }
        context.sweep(&lab).await?;
        gone = Some(gone.unwrap_or_default() + removed.len() + stale.len());
    } else if !orphans.is_empty() || !stale.is_empty() {
        super::say(format_args!("remove them with: patchlab gc --remove"));
    }
    if let Some(gone) = gone {
        super::say(format_args!("removed {gone}"));
    }
    Ok(Exit::Pass)
}

/// A file that nobody needs any more.
struct Disk {
    place: Place,
    bytes: u64,
}

enum Place {
    Here(PathBuf),
    /// A copy in the storage pool of a host.
    Sent {
        what: Copied,
        digest: Digest,
        host: Name,
        on: Arc<dyn Hypervisor>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => path.display().fmt(f),
            Self::Sent { what: Copied::Image, digest, host, .. } => write!(f, "image {} on host {host}", digest.short()),
            Self::Sent { what: Copied::Template, digest, host, .. } => write!(f, "file {} on host {host}", digest.short()),
        }
    }
}

/// Disks that no image's name stands for any more and that no unfinished run or kept machine needs, and copies of what no template has:
/// of all of them, where they are to go.
async fn stale(context: &Context, lab: &Lab, no_templates: bool) -> Result<Vec<Disk>, Failure> {
    let store = context.images()?;
    let runs = context.runs(&lab.journal).await?;
    let needed = runs.iter().filter(|run| !run.is_finished() || !run.kept.is_empty()).flat_map(|run| &run.plan.cells);
    let needed: BTreeSet<Digest> = needed.flat_map(|cell| &cell.machines).map(|machine| machine.image.sha256).collect();
    let paths: Vec<PathBuf> = needed.iter().map(|image| store.path_of(*image)).collect();
    let stale = store.nameless().map_err(image_failure)?.into_iter().filter(|path| !paths.contains(path));
    let sized = |path: PathBuf| Disk { bytes: path.metadata().map_or(0, |file| file.len()), place: Place::Here(path) };
    let mut stale: Vec<Disk> = stale.map(sized).collect();
    let named: BTreeSet<Digest> = store.records().map_err(image_failure)?.iter().map(|record| record.image).collect();
    for (host, site) in lab.sites.known().await {
        let on = site.hypervisor;
        let sent = on.sent().await.unwrap_or_else(|error| {
            super::say(format_args!("host {host}: {error}; what was sent there is left alone"));
            Vec::new()
        });
        let held = site.templates.filter(|_| !no_templates).map(|templates| templates.held()).transpose().map_err(Failure::lab)?;
        let held = held.unwrap_or_default();
        for Sent { what, digest, bytes } in sent {
            let wanted = match what {
                Copied::Image => named.contains(&digest) || needed.contains(&digest),
                Copied::Template => held.contains(&digest),
            };
            if !wanted {
                stale.push(Disk { bytes, place: Place::Sent { what, digest, host: host.clone(), on: on.clone() } });
            }
        }
    }
    Ok(stale)
}
