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

use std::path::Path;

pub use error::ImageError;
pub use progress::{Progress, Step, Watcher, unwatched};
pub use store::{Draft, Record, Sealed, Store};

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

/// Makes the image that the catalog describes, by building or importing it, and puts it into the store.
///
/// # Errors
/// Whatever stands in the way; the store is then as it was before.
pub async fn make(store: &Store, name: &Name, entry: &ImageEntry, rebuild: Rebuild, watcher: &Watcher) -> Result<Made, ImageError> {
    let incoming = store.incoming().await?;
    match (&entry.image.recipe, &entry.image.import) {
        (Some(recipe), None) => {
            let source = source::of_recipe(&entry.folder, &recipe::procedure())?;
            if let Some(record) = unchanged(store, name, source, rebuild).await? {
                return Ok(Made::Unchanged(record));
            }
            let disk = recipe::build(name, recipe, &entry.folder, source, watcher).await?;
            let draft = Draft { name: name.clone(), source, disk: disk.path().to_owned(), packages: Some(disk.packages()?) };
            finish(store, incoming, draft, watcher).await
        }
        (None, Some(wanted)) => {
            let file = import::locate(wanted, &entry.folder)?;
            let source = source::of_import(wanted, &file, watcher, name).await?;
            if let Some(record) = unchanged(store, name, source, rebuild).await? {
                return Ok(Made::Unchanged(record));
            }
            let disk = incoming.path().join("import.qcow2");
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

/// The digest that the image's description has now: what [`Record::source`] is compared with to tell that a build is due.
///
/// # Errors
/// A file of the description that can't be read.
pub fn recipe_digest(folder: &Path) -> Result<Digest, ImageError> {
    source::of_recipe(folder, &recipe::procedure())
}

async fn unchanged(store: &Store, name: &Name, source: Digest, rebuild: Rebuild) -> Result<Option<Record>, ImageError> {
    if rebuild == Rebuild::Always {
        return Ok(None);
    }
    let Some(record) = store.record(name)?.filter(|record| record.source == source) else { return Ok(None) };
    // A damaged or lost file is a reason to build again, not to refuse.
    Ok(store.sealed(record.image).await.is_ok().then_some(record))
}

async fn finish(store: &Store, incoming: store::Incoming, draft: Draft, watcher: &Watcher) -> Result<Made, ImageError> {
    let replaced = store.record(&draft.name)?.map(|record| record.image);
    let record = store.publish(incoming, draft, watcher).await?;
    let replaced = replaced.filter(|older| *older != record.image);
    Ok(Made::New { record, replaced })
}

fn describe(image: &Image) -> &'static str {
    if image.recipe.is_some() { "both" } else { "neither" }
}
