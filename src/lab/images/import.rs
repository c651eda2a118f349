//! Brings in a disk that someone else made: header check, `qemu-img info`, `qemu-img check`, conversion to a qcow2 of the lab's own.
//!
//! Invariant: the result names no other file and was written by this host's qemu-img, whatever the source was. The source is never
//! opened for writing, its format is never guessed, and the tools that read it have bounded memory and time.
//!
//! A file that lost less than its last cluster can't be told from one whose last cluster is short. `sha256` in image.toml can.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::error::ImageError;
use super::header::{Objection, objections};
use super::process::{Ended, Job, run, run_well};
use super::progress::{Progress, Step, Watcher};
use super::source::blocking;
use crate::catalog::image::{DiskFormat, Import, LARGEST_DISK};
use crate::id::Name;

const INFO_LIMIT: Duration = Duration::from_secs(60);
const CHECK_LIMIT: Duration = Duration::from_secs(15 * 60);
const CONVERT_LIMIT: Duration = Duration::from_secs(60 * 60);
/// What the tools may use to look at a hostile file, as prlimit(1) takes it.
const BOUNDS: [&str; 2] = ["--as=2147483648", "--cpu=300"];

/// `qemu-img info --output=json`, the part that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Info {
    format: String,
    virtual_size: u64,
    encrypted: bool,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FormatSpecific {
    data: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Details {
    data_file: Option<String>,
    corrupt: Option<bool>,
    extents: Vec<Extent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extent {
    filename: String,
}

/// The file that an import names, seen from the image's folder.
pub(super) fn locate(wanted: &Import, folder: &Path) -> Result<PathBuf, ImageError> {
    let path = folder.join(&wanted.source);
    let path = fs::canonicalize(&path).map_err(ImageError::io("find", &path))?;
    let meta = fs::metadata(&path).map_err(ImageError::io("look at", &path))?;
    if meta.is_file() {
        return Ok(path);
    }
    Err(refused(&path, Objection { expected: "a disk file".to_owned(), found: "a folder or a special file".to_owned() }))
}

/// Checks the source and writes it to `disk` as a qcow2.
pub(super) async fn convert(file: &Path, format: DiskFormat, disk: &Path, name: &Name, watcher: &Watcher) -> Result<(), ImageError> {
    watcher.tell(Progress::at(name, Step::Check, 0.0, ""))?;
    check_header(file, format).await?;
    inspect(file, format, name, watcher).await?;
    if format != DiskFormat::Raw {
        check(file, format.as_str(), name, watcher).await?;
    }

    watcher.tell(Progress::at(name, Step::Convert, 0.0, ""))?;
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", format.as_str(), "-O", "qcow2", "-c", "-o", "compression_type=zstd"]).arg(file).arg(disk);
    run_well(command, &Job { image: name, doing: "converting it", limit: CONVERT_LIMIT, watcher }, |_| ()).await?;
    check(disk, "qcow2", name, watcher).await
}

async fn check_header(file: &Path, format: DiskFormat) -> Result<(), ImageError> {
    let file = file.to_owned();
    blocking(move || {
        let mut open = File::open(&file).map_err(ImageError::io("open", &file))?;
        match objections(&mut open, format).map_err(ImageError::io("read", &file))? {
            Some(objection) => Err(refused(&file, objection)),
            None => Ok(()),
        }
    })
    .await
}

async fn inspect(file: &Path, format: DiskFormat, name: &Name, watcher: &Watcher) -> Result<(), ImageError> {
    let job = Job { image: name, doing: "looking at it", limit: INFO_LIMIT, watcher };
    let ended = run(bounded(&["info", "--output=json", "-f", format.as_str()], file), &job, |_| ()).await?;
    if !ended.status.success() {
        return Err(refused(file, unreadable(format, &ended)));
    }
    let info = serde_json::from_slice(&ended.output).map_err(|source| ImageError::Record { path: file.to_owned(), source })?;
    match judge(&info, format, file) {
        Some(objection) => Err(refused(file, objection)),
        None => Ok(()),
    }
}

/// What speaks against a disk, by what qemu-img says of it. The header check has refused most of this before; the two agree or the
/// disk is refused.
fn judge(info: &Info, format: DiskFormat, file: &Path) -> Option<Objection> {
    let objection = |expected: &str, found: String| Some(Objection { expected: expected.to_owned(), found });
    let details = info.format_specific.as_ref().map(|specific| &specific.data);
    if info.format != format.as_str() {
        return objection("the format that image.toml names", info.format.clone());
    }
    if let Some(backing) = info.backing_filename.as_ref().or(info.full_backing_filename.as_ref()) {
        return objection("a disk that stands alone", format!("the backing file {backing:?}"));
    }
    if let Some(data) = details.and_then(|details| details.data_file.as_ref()) {
        return objection("a disk that stands alone", format!("the external data file {data:?}"));
    }
    if let Some(extent) = details.and_then(|details| details.extents.iter().find(|extent| Path::new(&extent.filename) != file)) {
        return objection("a disk that stands alone", format!("the extent {:?}", extent.filename));
    }
    if info.encrypted {
        return objection("a disk that is not encrypted", "an encrypted one".to_owned());
    }
    if details.is_some_and(|details| details.corrupt == Some(true)) {
        return objection("a whole disk", "one that is marked as corrupt".to_owned());
    }
    if info.virtual_size == 0 || info.virtual_size > LARGEST_DISK.0 {
        return objection("a disk of up to 4 TiB", format!("{} bytes", info.virtual_size));
    }
    None
}

/// `qemu-img check`: 0 whole, 2 corrupt, 3 whole but with lost space.
async fn check(file: &Path, format: &'static str, name: &Name, watcher: &Watcher) -> Result<(), ImageError> {
    let job = Job { image: name, doing: "checking it", limit: CHECK_LIMIT, watcher };
    let ended = run(bounded(&["check", "-f", format], file), &job, |_| ()).await?;
    if matches!(ended.status.code(), Some(0 | 3)) {
        return Ok(());
    }
    let found = format!("errors (qemu-img check: {})\n{}{}", ended.status, String::from_utf8_lossy(&ended.output), ended.tail);
    Err(refused(file, Objection { expected: format!("a whole {format} file"), found: found.trim_end().chars().take(2000).collect() }))
}

fn bounded(arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new("prlimit");
    command.args(BOUNDS).arg("qemu-img").args(arguments).arg(file);
    command
}

fn unreadable(format: DiskFormat, ended: &Ended) -> Objection {
    Objection { expected: format!("a {} file", format.as_str()), found: format!("one that qemu-img can't read: {}", ended.tail) }
}

fn refused(file: &Path, objection: Objection) -> ImageError {
    ImageError::Refused { file: file.to_owned(), expected: objection.expected, found: objection.found }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
