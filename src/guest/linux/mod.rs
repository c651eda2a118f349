//! What differs between Linux guests, as data, and the job runner that is put into them.
//!
//! The runner (`runner.sh`) lives in a tmpfs of its own, so that a full disk does not stop it. Its mounts all lie under
//! [`RUNNER_ROOT`]; the only other trace is [`STATE_FOLDER`]. It learns its job as a shell script that is nothing but calls of one
//! function with every word in single quotes; nothing in it is evaluated but a step's command itself.

use std::time::Duration;

use super::{Job, JobStep};
use crate::catalog::image::Os;

pub mod apply;
pub mod autopkgtest;
pub mod judge;
pub mod log;
pub mod peers;
pub mod renew;
#[cfg(test)]
mod tests;

/// Where the runner, the media and the jobs of this boot are; `runner.sh` has the same default.
pub const RUNNER_ROOT: &str = "/run/patchlab";

/// What outlives a boot: `keep` (`$PATCHLAB_KEEP`), how steps on a terminal exited and, while a step runs, its scratch folder.
pub const STATE_FOLDER: &str = "/var/lib/patchlab";

/// The file that says with which code the step `at` of a job exited, if it had a terminal and got that far.
pub fn exit_file(job: &str, at: usize) -> String {
    format!("{STATE_FOLDER}/ended/{job}-{at}")
}

/// Bytes that the outputs of one job may have together, and again its results; more is cut from all its steps in proportion. The
/// tmpfs holds 64 MiB.
const JOB_OUTPUT_CAP: u128 = 12 << 20;

/// Bytes of one command or of one variable: the kernel takes 128 KiB.
const WORD_CAP: usize = 120 << 10;

/// The longest time limit; more is as good as none.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How one family of operating systems is spoken to. Every command is a script for `/bin/sh -c`.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub shell: &'static str,
    /// A file whose one line identifies this boot.
    pub boot_id: &'static str,
    /// Exits 0 when the services have started and no package manager works, 1 when not yet.
    pub settled: &'static str,
    pub reboot: &'static str,
    pub poweroff: &'static str,
    /// Puts the runner, from standard input, into place below `$1` and lets it prepare the rest.
    pub install: &'static str,
    pub runner: &'static str,
}

static DEBIAN: Family = Family {
    shell: "/bin/sh",
    boot_id: "/proc/sys/kernel/random/boot_id",
    settled: r#"
if [ -d /run/systemd/system ]; then
    state=$(systemctl show --property=SystemState --property=NJobs)
    case $state in *=initializing* | *=starting* | *=stopping*) exit 1 ;; esac
    case $state in *NJobs=0* | '') ;; *) exit 1 ;; esac
fi
for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock; do
    inode=$(stat -c %i "$lock" 2>/dev/null) || continue
    if grep -q ":$inode 0 EOF" /proc/locks; then exit 1; fi
done
exit 0
"#,
    reboot: "setsid /bin/sh -c 'systemctl reboot || shutdown -r now || reboot' </dev/null >/dev/null 2>&1 &",
    poweroff: "setsid /bin/sh -c 'systemctl poweroff || shutdown -h now || poweroff' </dev/null >/dev/null 2>&1 &",
    install: r#"
mountpoint -q "$1" || { mkdir -p "$1" && mount -t tmpfs -o size=64m,mode=711 patchlab "$1"; } || exit 1
cat >"$1/runner.new" && mv "$1/runner.new" "$1/runner.sh" && /bin/sh "$1/runner.sh" install
"#,
    runner: include_str!("runner.sh"),
};

pub fn family(os: Os) -> &'static Family {
    match os {
        Os::Debian => &DEBIAN,
    }
}

/// Whether a job's name is safe as a file name: lower-case letters, digits and `-`, beginning with no `-`, 64 bytes at the most.
pub fn is_job_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}

/// The job as the runner reads it. On error: what can't be said to it.
pub fn job_script(job: &Job) -> Result<String, String> {
    if !is_job_name(&job.id) {
        return Err(format!("the job's name {:?} is not lower-case letters, digits and -", job.id));
    }
    let wanted: u128 = job.steps.iter().map(|step| step.output_cap as u128).sum();
    let mut script = String::new();
    for step in &job.steps {
        script.push_str(&step_line(step, wanted)?);
    }
    Ok(script)
}

/// The call for one step of a job whose steps want so many bytes of output together.
fn step_line(step: &JobStep, wanted: u128) -> Result<String, String> {
    let cap = step.output_cap as u128 * JOB_OUTPUT_CAP.min(wanted) / wanted.max(1);
    let head = cap / 2;
    let limit = step.limit.clamp(Duration::from_millis(1), LONGEST).as_millis();
    let mut words = vec![
        limit.to_string(),
        head.to_string(),
        (cap - head).to_string(),
        u8::from(step.terminal).to_string(),
        step.folder.clone().unwrap_or_default(),
        step.command.clone(),
        step.needs.len().to_string(),
    ];
    words.extend(step.needs.iter().cloned());
    for (name, value) in &step.env {
        if !is_variable(name) {
            return Err(format!("{name:?} can't be the name of a variable"));
        }
        words.push(format!("{name}={value}"));
    }
    let mut line = String::from("step");
    for word in words {
        line.push(' ');
        line.push_str(&quoted(&word)?);
    }
    line.push('\n');
    Ok(line)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A word for the shell: between single quotes nothing but the single quote means anything (POSIX 2.2.2).
fn quoted(word: &str) -> Result<String, String> {
    if word.contains('\0') {
        return Err(String::from("a NUL byte can't be given to a command"));
    }
    if word.len() > WORD_CAP {
        return Err(format!("{} bytes are more than the {WORD_CAP} that a command line or a variable may have", word.len()));
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}
