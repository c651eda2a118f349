//! The program as tests start it: with nothing from the environment of whoever runs them, on whose server or terminal nothing may depend.

use std::path::Path;
use std::process::{Command, Stdio};

/// On this lab folder and this state folder.
pub fn patchlab(lab: impl AsRef<Path>, state: impl AsRef<Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchlab"));
    let own = |name: &std::ffi::OsString| name == "SUDO_USER" || name.to_str().is_some_and(|name| name.starts_with("PATCHLAB_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null()).arg("--lab").arg(lab.as_ref()).arg("--state").arg(state.as_ref());
    command
}
