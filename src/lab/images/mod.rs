//! Golden images: how one is built from its recipe or imported, and the store that keeps it sealed.
//!
//! ```text
//! images/<image>/  --digest-->  known? --yes--> unchanged
//!                                 | no
//!                   recipe: mmdebstrap -> disk      import: header check -> qemu-img check -> convert
//!                                 |                                  |
//!                                 +------> store: hash, seal, publish, record
//! ```
//!
//! Invariants:
//! - A file in the store is complete, read-only and named by the sha256 of its contents; it is never written to again.
//! - A failure, a deadline or a crash leaves the store as it was. What a crash leaves in `incoming` the next build removes.
//! - One process at a time adds to the store; it may work on several images at once.
//! - Nothing here prints: progress goes to a [`Watcher`], the rest is in the returned value.
//! - An imported file is hostile until its header has been read by `import`; no tool opens it before that.

mod error;
mod header;
mod import;
mod process;
mod progress;
mod recipe;
mod source;
mod store;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use error::ImageError;
pub use progress::{Progress, Step, Watcher, unwatched};
pub(super) use source::digest_of;
pub use store::{Draft, Record, Sealed, Store};

use store::Incoming;

use super::memory;
use crate::catalog::ImageEntry;
use crate::catalog::image::Image;
use crate::id::{Digest, Name};

/// What became of a request to make an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The description is the one that the stored image was made from: nothing was done.
    Unchanged(Record),
    /// The image is new, or took the place of an older one under this name. The older file stays for the runs that name it.
    New { record: Record, replaced: Option<Digest> },
}

impl Made {
    pub fn record(&self) -> &Record {
        match self {
            Self::Unchanged(record) | Self::New { record, .. } => record,
        }
    }
}

/// Whether an unchanged description is built again (`--rebuild`): the archive may have moved on since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    WhenChanged,
    Always,
}

/// Makes the images that the catalog describes, by building or importing them, and puts them into the store; `workers` of them at
/// once. Says of each how it ended, when it did: one that fails does not keep the others from being made.
///
/// # Errors
/// [`ImageError::Busy`] while another process makes images here. Whatever stands in the way of one image goes to `ended`; the store
/// then has of that image what it had before.
pub async fn make(
    store: &Store,
    wanted: Vec<(Name, ImageEntry)>,
    rebuild: Rebuild,
    workers: usize,
    watcher: &Watcher,
    mut ended: impl FnMut(Name, Result<Made, ImageError>),
) -> Result<(), ImageError> {
    let workers = workers.clamp(1, wanted.len().max(1));
    let (incoming, turns) = (store.incoming().await?, Arc::new(Semaphore::new(workers)));
    let memory = memory::available() / workers as u64;
    let mut under_way = JoinSet::new();
    for (name, entry) in wanted {
        let (store, incoming, watcher, turns) = (store.clone(), incoming.clone(), watcher.clone(), turns.clone());
        under_way.spawn(async move {
            // It is never closed, so each gets its turn.
            let _turn = turns.acquire().await;
            let made = make_one(&store, &incoming, &name, &entry, rebuild, memory, &watcher).await;
            (name, made)
        });
    }
    while let Some(done) = under_way.join_next().await {
        match done {
            Ok((name, made)) => ended(name, made),
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }
    Ok(())
}

async fn make_one(
    store: &Store,
    incoming: &Incoming,
    name: &Name,
    entry: &ImageEntry,
    rebuild: Rebuild,
    memory: u64,
    watcher: &Watcher,
) -> Result<Made, ImageError> {
    match (&entry.image.recipe, &entry.image.import) {
        (Some(recipe), None) => {
            let source = source::of_recipe(&entry.folder, &recipe::procedure())?;
            if let Some(record) = unchanged(store, name, source, rebuild).await? {
                return Ok(Made::Unchanged(record));
            }
            let disk = recipe::build(name, recipe, &entry.folder, source, memory, watcher).await?;
            let draft = Draft { name: name.clone(), source, disk: disk.path().to_owned(), packages: Some(disk.packages()?) };
            finish(store, incoming, draft, watcher).await
        }
        (None, Some(wanted)) => {
            let file = import::locate(wanted, &entry.folder)?;
            let source = source::of_import(wanted, &file, watcher, name).await?;
            if let Some(record) = unchanged(store, name, source, rebuild).await? {
                return Ok(Made::Unchanged(record));
            }
            let disk = incoming.folder(name)?.join("import.qcow2");
            import::convert(&file, wanted.format, &disk, name, watcher).await?;
            finish(store, incoming, Draft { name: name.clone(), source, disk, packages: None }, watcher).await
        }
        (Some(_), Some(_)) | (None, None) => Err(ImageError::Description {
            image: name.clone(),
            expected: "exactly one of [recipe] and [import]",
            found: describe(&entry.image),
        }),
    }
}

async fn unchanged(store: &Store, name: &Name, source: Digest, rebuild: Rebuild) -> Result<Option<Record>, ImageError> {
    if rebuild == Rebuild::Always {
        return Ok(None);
    }
    let Some(record) = store.record(name)?.filter(|record| record.source == source) else { return Ok(None) };
    // A damaged or lost file is a reason to build again, not to refuse.
    Ok(store.sealed(record.image).await.is_ok().then_some(record))
}

async fn finish(store: &Store, incoming: &Incoming, draft: Draft, watcher: &Watcher) -> Result<Made, ImageError> {
    let replaced = store.record(&draft.name)?.map(|record| record.image);
    let record = store.publish(incoming, draft, watcher).await?;
    let replaced = replaced.filter(|older| *older != record.image);
    Ok(Made::New { record, replaced })
}

fn describe(image: &Image) -> &'static str {
    if image.recipe.is_some() { "both" } else { "neither" }
}

#[cfg(test)]
#[path = "make_tests.rs"]
mod tests;
