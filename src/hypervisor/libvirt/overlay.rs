//! The overlay: what a guest changes of its image, in a file of its own on top of it. Costs the same whatever the image's size.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::failure;
use crate::hypervisor::{HypervisorError, HypervisorErrorKind};

/// Makes the overlay `at` on top of `below`, which is not touched. `tried` says what for.
///
/// # Errors
/// When qemu-img is not there, does not end in time, or can't read what is below.
pub async fn make(below: &Path, at: &Path, tried: &str, within: Duration) -> Result<(), HypervisorError> {
    let mut command = qemu_img();
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(below).arg(at);
    run(command, tried, within).await
}

/// Has the overlay `at` refer to what it lies on by another name, in the same folder.
///
/// # Errors
/// When qemu-img is not there, does not end in time, or can't read the overlay.
pub async fn refer(at: &Path, below: &str, tried: &str, within: Duration) -> Result<(), HypervisorError> {
    let mut command = qemu_img();
    command.args(["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below]).arg(at);
    run(command, tried, within).await
}

fn qemu_img() -> Command {
    let mut command = Command::new("qemu-img");
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(mut command: Command, tried: &str, within: Duration) -> Result<(), HypervisorError> {
    let output = match tokio::time::timeout(within, command.output()).await {
        Ok(Ok(output)) if output.status.success() => return Ok(()),
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let hint = "install the package qemu-utils";
            return Err(failure(HypervisorErrorKind::Refused, tried, &format!("qemu-img does not start: {error}"), hint));
        }
        Err(_) => return Err(failure(HypervisorErrorKind::TimedOut, tried, "qemu-img does not end", "check the host's disk")),
    };
    let found = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let full = found.contains("No space left on device");
    let kind = if full { HypervisorErrorKind::NoSpace } else { HypervisorErrorKind::Refused };
    Err(failure(kind, tried, &found, "`patchlab image verify` checks the image"))
}
