//! The read-only disk that carries suites and payload into the machines: an ISO 9660 image with Rock Ridge, made by xorriso.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::catalog::inside;
use crate::guest::linux::apply::payload_of;
use crate::id::{Digest, Name};
use crate::plan::Plan;

/// The volume label by which the guest finds it.
pub const LABEL: &str = "PATCHLAB";

const DEADLINE: Duration = Duration::from_secs(300);

/// The disk could not be made.
#[derive(Debug, Error)]
#[error("could not make the run's payload disk {}: {found}; {hint}", path.display())]
pub struct MediaError {
    pub path: PathBuf,
    pub found: String,
    pub hint: &'static str,
}

/// Where the run's files come from.
pub struct Sources<'a> {
    /// The stored candidates' folders, in the order of the plan.
    pub patches: Vec<&'a Path>,
    /// Each planned suite's folder and the digest that it has in the plan.
    pub suites: Vec<(Name, PathBuf, Digest)>,
    /// The packages that suites bring: suite, file name, where the package is, and its planned digest.
    pub packages: Vec<(Name, String, PathBuf, Digest)>,
}

/// Makes the disk for a plan under `folder`, or finds it there. It is named for the digests of what it carries.
///
/// # Errors
/// When xorriso is missing or fails; nothing is left then.
pub async fn make(folder: &Path, plan: &Plan, sources: &Sources<'_>) -> Result<PathBuf, MediaError> {
    let suites: Vec<_> =
        plan.cells.iter().flat_map(|cell| &cell.suites).map(|suite| (&suite.name, suite.sha256, &suite.packages)).collect();
    let path = folder.join(format!("{}.iso", Digest::of_json(&(plan.tested(), suites)).hex()));
    if path.exists() {
        return Ok(path);
    }
    let failed = |found: String, hint| MediaError { path: path.clone(), found, hint };
    let hint = "run: patchlab doctor";
    std::fs::create_dir_all(folder).map_err(|e| failed(e.to_string(), hint))?;
    let part = tempfile::Builder::new().suffix(".part").tempfile_in(folder).map_err(|e| failed(e.to_string(), hint))?.into_temp_path();
    let mut command = tokio::process::Command::new("xorrisofs");
    command.args(["-quiet", "-V", LABEL, "-R", "-J", "-joliet-long", "-graft-points", "-o"]).arg(&part);
    for (place, patch) in sources.patches.iter().enumerate() {
        let folder = if place == 0 { "payload".to_owned() } else { format!("{}/payload", payload_of(place)) };
        command.arg(graft(&folder, patch));
    }
    for (name, suite, _) in &sources.suites {
        command.arg(graft(&format!("suites/{name}"), suite));
    }
    for (suite, file, package, _) in &sources.packages {
        command.arg(graft(&format!("packages/{suite}/{file}"), package));
    }
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let ran = tokio::time::timeout(DEADLINE, command.output()).await;
    let output = match ran {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Err(failed(format!("xorrisofs could not be started: {error}"), "install xorriso: apt-get install xorriso"));
        }
        Err(_) => return Err(failed(format!("xorrisofs took longer than {} s", DEADLINE.as_secs()), hint)),
    };
    if !output.status.success() {
        return Err(failed(format!("xorrisofs: {}", String::from_utf8_lossy(&output.stderr).trim()), hint));
    }
    // What was read while somebody edited is not what was planned.
    for (name, suite, planned) in &sources.suites {
        let now = inside::files(suite, suite).ok().and_then(|files| inside::folder_digest(suite, &files).ok());
        if now != Some(*planned) {
            return Err(failed(format!("suite {name} was changed while the run began"), "start the run again"));
        }
    }
    for (suite, file, package, planned) in &sources.packages {
        if digest(package).ok() != Some(*planned) {
            let hint = "fetch it again: scripts/fetch-autopkgtest --dependencies SUITE BUILD";
            return Err(failed(format!("{file}, which suite {suite} needs, is not the file of its digest"), hint));
        }
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(&part, readable).map_err(|e| failed(e.to_string(), hint))?;
    part.persist(&path).map_err(|e| failed(e.to_string(), hint))?;
    Ok(path)
}

/// The digest of a file, read piece by piece.
fn digest(path: &Path) -> std::io::Result<Digest> {
    use sha2::{Digest as _, Sha256};
    use std::io::Read;
    let (mut file, mut hash, mut buffer) = (std::fs::File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Removes the disks, half-written ones too. Only for when no machine is left that reads one.
///
/// # Errors
/// When a file cannot be removed.
pub fn clear(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `target=source` with the separators of xorrisofs escaped.
fn graft(target: &str, source: &Path) -> std::ffi::OsString {
    let source = source.to_string_lossy().replace('\\', "\\\\").replace('=', "\\=");
    format!("/{target}={source}").into()
}
