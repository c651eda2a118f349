//! `patchlab image`.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::sync::watch;

use super::args::{Answer, Format, Image};
use super::bars::Bars;
use super::context::{Context, image_failure};
use super::error::{Exit, Failure};
use super::{interrupt, print};
use crate::catalog::{Catalog, ImageEntry};
use crate::id::Name;
use crate::lab::images::{self, ImageError, Made, Rebuild};

pub async fn image(context: &Context, verb: &Image) -> Result<Exit, Failure> {
    match verb {
        Image::Build { names, rebuild, workers, answer } => make(context, names, *rebuild, *workers, answer, "recipe").await,
        Image::Import { names, again, workers, answer } => make(context, names, *again, *workers, answer, "import").await,
        Image::List(answer) => list(context, answer),
        Image::Verify { names, answer } => verify(context, names, answer).await,
    }
}

/// The named images, or all; unknown names are an error.
fn chosen<'a>(catalog: &'a Catalog, names: &'a [Name]) -> Result<Vec<(&'a Name, &'a ImageEntry)>, Failure> {
    let known = || catalog.images.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| !catalog.images.contains_key(name)) {
        return Err(Failure::usage(format!("there is no image {unknown}; there is: {}", known())));
    }
    Ok(catalog.images.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).collect())
}

async fn make(context: &Context, names: &[Name], again: bool, workers: Option<u16>, answer: &Answer, how: &str) -> Result<Exit, Failure> {
    let catalog = context.catalog()?;
    let store = context.images()?;
    let fits = |entry: &ImageEntry| if how == "recipe" { entry.image.recipe.is_some() } else { entry.image.import.is_some() };
    let chosen = chosen(&catalog, names)?;
    if let Some((name, _)) = chosen.iter().find(|(name, entry)| names.contains(name) && !fits(entry)) {
        return Err(Failure::usage(format!("image {name} has no [{how}] in its image.toml; nothing was done")));
    }
    let wanted: Vec<_> = chosen.into_iter().filter(|(_, entry)| fits(entry)).map(|(name, entry)| (name.clone(), entry.clone())).collect();

    let (cancel, cancelled) = watch::channel(false);
    let farewell = async { super::say("what the builds had under way goes by itself in a few seconds") };
    let interrupted = interrupt::watch(cancel, "interrupted: ending the builds; once more leaves at once", farewell);
    let bars = Bars::new(wanted.iter().map(|(name, _)| name));
    let watcher = bars.watcher(cancelled);
    let rebuild = if again { Rebuild::Always } else { Rebuild::WhenChanged };
    let workers = workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let mut made = BTreeMap::new();
    let ended = |name: Name, done: Result<Made, ImageError>| {
        let how = match &done {
            Ok(Made::New { .. }) => "new",
            Ok(Made::Unchanged(_)) => "unchanged",
            Err(ImageError::Cancelled(_)) => "called off",
            Err(_) => "failed",
        };
        bars.ended(&name, &format!("{name}: {how}"));
        made.insert(name, done);
    };
    images::make(&store, wanted, rebuild, workers, &watcher, ended).await.map_err(image_failure)?;
    drop(bars);

    match answer.format {
        Format::Human => {
            let rows = made.values().flatten().map(Made::record);
            rows.map(|record| format!("{}  {}  {} MiB\n", record.image, record.name, record.size >> 20)).try_for_each(|row| print(&row))?;
        }
        Format::Json => {
            let rows = made.iter().map(|(name, done)| match done {
                Ok(done) => {
                    let record = done.record();
                    let changed = matches!(done, Made::New { .. });
                    json!({ "name": name, "sha256": record.image, "size": record.size, "changed": changed })
                }
                Err(error) => json!({ "name": name, "error": error.to_string() }),
            });
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    if interrupted.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    let failures = made.into_iter().filter_map(|(name, done)| Some(failure_of(&name, done.err()?)));
    Failure::all(failures).map_or(Ok(Exit::Pass), Err)
}

/// Many errors name a file or a tool only.
fn failure_of(name: &Name, error: ImageError) -> Failure {
    let Failure { exit, message } = image_failure(error);
    let named = message.contains(&format!("image {name}"));
    Failure { exit, message: if named { message } else { message.replacen("error: ", &format!("error: image {name}: "), 1) } }
}

fn list(context: &Context, answer: &Answer) -> Result<Exit, Failure> {
    let catalog = context.catalog()?;
    let store = context.images()?;
    let mut rows = Vec::new();
    for (name, entry) in &catalog.images {
        rows.push((name, entry, store.record(name).map_err(image_failure)?));
    }
    match answer.format {
        Format::Human => {
            for (name, entry, record) in rows {
                let stored = record.map_or("not built yet".to_owned(), |record| format!("{} {} MiB", record.image, record.size >> 20));
                print(&format!("{name:16} {stored}  {}\n", entry.image.title))?;
            }
        }
        Format::Json => {
            let rows = rows.into_iter().map(|(name, entry, record)| {
                let sha256 = record.as_ref().map(|record| record.image);
                json!({ "name": name, "title": entry.image.title, "sha256": sha256, "size": record.map(|record| record.size) })
            });
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    Ok(Exit::Pass)
}

async fn verify(context: &Context, names: &[Name], answer: &Answer) -> Result<Exit, Failure> {
    let catalog = context.catalog()?;
    let store = context.images()?;
    let named = chosen(&catalog, names)?;
    let bars = Bars::new(named.iter().map(|(name, _)| *name));
    let (_cancel, cancelled) = watch::channel(false);
    let watcher = bars.watcher(cancelled);
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for (name, _) in named {
        let unmade = |error: &ImageError| names.is_empty() && matches!(error, ImageError::NotMade(_));
        match store.verify_fully(name, &watcher).await {
            Ok(sealed) => rows.push(json!({ "name": name, "sha256": sealed.image, "sound": true })),
            Err(error) if unmade(&error) => {}
            Err(error) => {
                rows.push(json!({ "name": name, "sound": false, "error": error.to_string() }));
                bad.push(failure_of(name, error));
            }
        }
    }
    drop(bars);
    match answer.format {
        Format::Human => rows.iter().filter(|row| row["sound"] == true).try_for_each(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            print(&format!("{}  {}  sound\n", text("sha256"), text("name")))
        })?,
        Format::Json => print(&format!("{:#}\n", serde_json::Value::Array(rows)))?,
    }
    Failure::all(bad).map_or(Ok(Exit::Pass), Err)
}
