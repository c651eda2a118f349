//! `patchlab image`.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::{Answer, Format, Image};
use super::context::{Context, image_failure};
use super::error::{Exit, Failure};
use super::print;
use crate::catalog::{Catalog, ImageEntry};
use crate::id::Name;
use crate::lab::images::{self, Made, Progress, Rebuild, Watcher};

pub async fn image(context: &Context, verb: &Image) -> Result<Exit, Failure> {
    match verb {
        Image::Build { names, rebuild, answer } => make(context, names, *rebuild, answer, "recipe").await,
        Image::Import { names, again, answer } => make(context, names, *again, answer, "import").await,
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

async fn make(context: &Context, names: &[Name], again: bool, answer: &Answer, how: &str) -> Result<Exit, Failure> {
    let catalog = context.catalog()?;
    let store = context.images()?;
    let rebuild = if again { Rebuild::Always } else { Rebuild::WhenChanged };
    let mut made = Vec::new();
    for (name, entry) in chosen(&catalog, names)? {
        let fits = if how == "recipe" { entry.image.recipe.is_some() } else { entry.image.import.is_some() };
        if !fits {
            if names.contains(name) {
                return Err(Failure::usage(format!("image {name} has no [{how}] in its image.toml")));
            }
            continue;
        }
        let (bar, watcher) = watcher(name);
        let done = images::make(&store, name, entry, rebuild, &watcher).await;
        bar.finish_and_clear();
        let done = done.map_err(image_failure)?;
        let changed = matches!(done, Made::New { .. });
        super::say(format_args!("{name}: {}", if changed { "new" } else { "unchanged" }));
        made.push((done.record().clone(), changed));
    }
    match answer.format {
        Format::Human => {
            made.iter().try_for_each(|(record, _)| print(&format!("{}  {}  {} MiB\n", record.image, record.name, record.size >> 20)))?
        }
        Format::Json => {
            let rows = made
                .iter()
                .map(|(record, changed)| json!({ "name": record.name, "sha256": record.image, "size": record.size, "changed": changed }));
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    Ok(Exit::Pass)
}

/// A bar on a terminal, a line a step elsewhere.
fn watcher(name: &Name) -> (ProgressBar, Watcher) {
    use std::io::IsTerminal;
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{prefix:16} {bar:20} {percent:>3} % {elapsed:>4} {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_string());
    let (shown, terminal) = (bar.clone(), std::io::stderr().is_terminal());
    let last = std::sync::Mutex::new(None);
    let watcher: Watcher = Arc::new(move |progress: Progress| {
        let title = progress.step.title();
        shown.set_position((progress.fraction.clamp(0.0, 1.0) * 1000.0) as u64);
        shown.set_message(format!("{title} {}", progress.detail));
        let Ok(mut last) = last.lock() else { return };
        if !terminal && *last != Some(progress.step) {
            *last = Some(progress.step);
            super::say(format_args!("{}: {title}", progress.image));
        }
    });
    (bar, watcher)
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
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for (name, _) in chosen(&catalog, names)? {
        if names.is_empty() && store.record(name).map_err(image_failure)?.is_none() {
            continue;
        }
        let (bar, watcher) = watcher(name);
        let verified = store.verify_fully(name, &watcher).await;
        bar.finish_and_clear();
        match verified {
            Ok(sealed) => rows.push(json!({ "name": name, "sha256": sealed.image, "sound": true })),
            Err(error) => {
                rows.push(json!({ "name": name, "sound": false, "error": error.to_string() }));
                bad.push(image_failure(error).message);
            }
        }
    }
    match answer.format {
        Format::Human => rows.iter().filter(|row| row["sound"] == true).try_for_each(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            print(&format!("{}  {}  sound\n", text("sha256"), text("name")))
        })?,
        Format::Json => print(&format!("{:#}\n", serde_json::Value::Array(rows)))?,
    }
    if bad.is_empty() { Ok(Exit::Pass) } else { Err(Failure::usage(bad.join("\n"))) }
}
