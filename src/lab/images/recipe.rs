//! Builds a disk from a recipe, with mmdebstrap and the scripts in `scripts/`.
//!
//! The scripts run as root, or, for an ordinary user, as the root of a user namespace that mmdebstrap's helper opens. That root is
//! another user than the one who builds, so what it needs is staged in a folder that it may pass through, and its result is copied.
//!
//! Invariant: nothing of a build outlives it but the disk, and that only until [`Disk`] is dropped.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use uuid::Uuid;

use super::error::ImageError;
use super::process::{Job, run_well};
use super::progress::{Progress, Step, Watcher};
use crate::catalog::image::{LARGEST_DISK, Recipe, SMALLEST_DISK, is_package_name, is_release, is_source_line};
use crate::id::{Digest, Name};

/// How long a build may take: twenty times what it usually takes.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// What the root of an image may take up besides what its disk holds in the end: the archive's index and the packages' files.
const BESIDES: u64 = 512 << 20;

const BUILD: &str = include_str!("scripts/build.sh");
const INSIDE: &str = include_str!("scripts/inside.sh");
const DISK: &str = include_str!("scripts/disk.sh");
/// What every image carries, whatever its recipe says.
const PACKAGES: &str = include_str!("scripts/packages");
/// Files that every image carries: path, mode, contents. They are there before the first package is set up.
const EARLY: [(&str, u32, &str); 7] = [
    ("etc/initramfs-tools/conf.d/lab", 0o644, include_str!("scripts/early/initramfs.conf")),
    ("etc/initramfs-tools/hooks/lab-hardware", 0o755, include_str!("scripts/early/initramfs-hook")),
    ("etc/default/grub.d/50-lab.cfg", 0o644, include_str!("scripts/early/grub.cfg")),
    ("etc/modprobe.d/lab.conf", 0o644, include_str!("scripts/early/modprobe.conf")),
    ("etc/systemd/network/80-wired.network", 0o644, include_str!("scripts/early/wired.network")),
    ("etc/systemd/system/ssh-host-keys.service", 0o644, include_str!("scripts/early/ssh-host-keys.service")),
    ("etc/ssh/sshd_config.d/50-lab.conf", 0o644, include_str!("scripts/early/sshd.conf")),
];

/// The digest of everything that this version of the lab adds to a recipe. Another version of it makes another image.
pub(super) fn procedure() -> Digest {
    Digest::of_json(&("recipe/1", BUILD, INSIDE, DISK, PACKAGES, EARLY))
}

/// A finished disk, in a folder that goes when this goes.
pub(super) struct Disk {
    _work: Work,
    path: PathBuf,
}

impl Disk {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is installed on it: package, version, architecture and source package, a line each, with tabs between.
    pub fn packages(&self) -> Result<String, ImageError> {
        let path = self.path.with_file_name("packages");
        fs::read_to_string(&path).map_err(ImageError::io("read", &path))
    }
}

/// The folder of one build: `in/` holds what goes in, `out/` belongs to the scripts.
struct Work {
    folder: TempDir,
    as_root: bool,
}

impl Work {
    fn new() -> Result<Self, ImageError> {
        let temp = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("patchlab-image-").tempdir().map_err(ImageError::io("make a folder in", &temp))?;
        let work = Self { folder, as_root: nix::unistd::geteuid().is_root() };
        for (path, mode) in [(work.folder.path().to_owned(), 0o711), (work.input(), 0o755), (work.output(), 0o1733)] {
            fs::create_dir_all(&path).map_err(ImageError::io("make", &path))?;
            fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(ImageError::io("open up", &path))?;
        }
        Ok(work)
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// `sh -c …` or any other command as the root that may build.
    fn root_command(&self) -> std::process::Command {
        if self.as_root {
            // Mounts that mmdebstrap makes go with this namespace, even when everything in it was killed.
            let mut command = std::process::Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "--"]);
            command
        } else {
            let mut command = std::process::Command::new("mmdebstrap");
            command.arg("--unshare-helper");
            command
        }
    }

    fn put(&self, path: &str, mode: u32, contents: impl AsRef<[u8]>) -> Result<(), ImageError> {
        let at = self.input().join(path);
        if let Some(parent) = at.parent() {
            make_folders(&self.input(), parent)?;
        }
        fs::write(&at, contents).map_err(ImageError::io("write", &at))?;
        fs::set_permissions(&at, Permissions::from_mode(mode)).map_err(ImageError::io("set the mode of", &at))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The scripts clean up after themselves; this is for when they were killed. In a namespace only its root may remove its files.
        let root = self.output().join("root");
        if root.exists() {
            let _ = self.root_command().args(["rm", "-rf", "--one-file-system"]).arg(root).status();
        }
    }
}

/// Builds the disk of a recipe. The root that goes onto it is put together in memory where so much is to spare: the tools flush
/// what they write again and again, which on a disk takes longer than all else.
pub(super) async fn build(
    name: &Name,
    recipe: &Recipe,
    folder: &Path,
    source: Digest,
    memory: u64,
    watcher: &Watcher,
) -> Result<Disk, ImageError> {
    let work = Work::new()?;
    let needed = recipe.disk.0.saturating_add(BESIDES);
    stage(&work, name, recipe, folder, source, (needed <= memory).then_some(needed))?;

    let mut command = Command::from(work.root_command());
    command.arg("sh").arg(work.input().join("build.sh")).arg(work.input()).arg(work.output());
    let job = Job { image: name, doing: "building it", limit: LIMIT, watcher };
    let mut listener = Listener::new();
    watcher.tell(Progress::at(name, Step::Index, 0.0, ""))?;
    run_well(command, &job, |line| {
        tracing::debug!(image = %name, line, "image build");
        if let Some((step, within, detail)) = listener.hear(line) {
            // That it was called off is for `run_well` to notice.
            let _ = watcher.tell(Progress::at(name, step, within, detail));
        }
    })
    .await
    .map_err(name_the_tool)?;
    let path = work.output().join("disk.qcow2");
    Ok(Disk { _work: work, path })
}

/// The command line starts with a wrapper; for the reader it is mmdebstrap that failed.
fn name_the_tool(error: ImageError) -> ImageError {
    match error {
        ImageError::Tool { image, doing, status, tail, .. } => {
            ImageError::Tool { image, doing, tool: "mmdebstrap".to_owned(), status, tail }
        }
        other => other,
    }
}

/// Puts all that the scripts need where they may read it.
fn stage(work: &Work, name: &Name, recipe: &Recipe, folder: &Path, source: Digest, memory: Option<u64>) -> Result<(), ImageError> {
    let refuse =
        |what, expected, found: &str| ImageError::Source { what, file: folder.join("image.toml"), expected, found: found.to_owned() };
    if !is_release(&recipe.suite) {
        return Err(refuse("recipe.suite", "a release such as bookworm", &recipe.suite));
    }
    if !(SMALLEST_DISK..=LARGEST_DISK).contains(&recipe.disk) {
        return Err(refuse("recipe.disk", "1GiB to 4TiB", &recipe.disk.to_string()));
    }
    for line in &recipe.sources {
        if !is_source_line(line) {
            return Err(refuse("recipe.sources", "lines such as \"deb http://deb.debian.org/debian bookworm main\"", line));
        }
    }
    if recipe.sources.is_empty() {
        return Err(refuse("recipe.sources", "at least one line", "none"));
    }
    let mut packages = String::from(PACKAGES);
    for package in &recipe.packages {
        if !is_package_name(package) {
            return Err(refuse("recipe.packages", "names of Debian packages", package));
        }
        packages.push_str(package);
        packages.push('\n');
    }

    work.put("build.sh", 0o755, BUILD)?;
    work.put("inside.sh", 0o644, INSIDE)?;
    work.put("disk.sh", 0o644, DISK)?;
    work.put("packages", 0o644, packages)?;
    work.put("sources.list", 0o644, recipe.sources.join("\n") + "\n")?;
    work.put("parameters", 0o644, parameters(name, recipe, source, memory))?;
    for (path, mode, contents) in EARLY {
        work.put(&format!("early/{path}"), mode, contents)?;
    }
    make_folders(&work.input(), &work.input().join("files"))?;
    for (target, origin) in &recipe.files {
        let inside = target.strip_prefix('/').filter(|path| is_plain(path));
        let inside = inside.ok_or_else(|| refuse("recipe.files", "absolute paths in the image without '..'", target))?;
        let (mode, contents) = read_of_recipe(folder, origin)?;
        work.put(&format!("files/{inside}"), mode, contents)?;
    }
    if let Some(setup) = &recipe.setup {
        let (_, contents) = read_of_recipe(folder, setup)?;
        work.put("setup", 0o755, contents)?;
    }
    Ok(())
}

/// What the scripts are told. `memory` is how much the root may take of it, if it is to be there. File system ids come from the recipe's digest, so that the same recipe gives the same ones.
fn parameters(name: &Name, recipe: &Recipe, source: Digest, memory: Option<u64>) -> String {
    let id = |what: &str| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{name} {source} {what}").as_bytes());
    let serial = id("esp").simple().to_string()[..8].to_uppercase();
    format!(
        "IMAGE={name}\nSUITE={}\nDISK_BYTES={}\nDISK_UUID={}\nROOT_UUID={}\nESP_SERIAL={serial}\nESP_UUID={}-{}\nROOT_IN_MEMORY={}\n",
        recipe.suite,
        recipe.disk.0 >> 20 << 20,
        id("disk"),
        id("root"),
        &serial[..4],
        &serial[4..],
        memory.map_or_else(String::new, |bytes| bytes.to_string()),
    )
}

/// A file that a recipe names, and the mode it gets in the image.
fn read_of_recipe(folder: &Path, path: &str) -> Result<(u32, Vec<u8>), ImageError> {
    let at = folder.join(path);
    let refuse = |found: &str| ImageError::Source {
        what: "a file that the recipe names",
        file: at.clone(),
        expected: "a plain file in the image's folder",
        found: found.to_owned(),
    };
    if !is_plain(path) {
        return Err(refuse("a path that leaves the folder"));
    }
    let meta = fs::symlink_metadata(&at).map_err(|error| refuse(&error.to_string()))?;
    if !meta.is_file() {
        return Err(refuse("a folder, a link or a special file"));
    }
    let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
    Ok((mode, fs::read(&at).map_err(ImageError::io("read", &at))?))
}

/// Whether a path has only ordinary parts: not absolute, no `.` or `..`.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Makes the folders from `top` down to `folder`, each open to all whatever the umask.
fn make_folders(top: &Path, folder: &Path) -> Result<(), ImageError> {
    let Ok(below) = folder.strip_prefix(top) else { return Ok(()) };
    let mut at = top.to_owned();
    for part in below.components() {
        at.push(part);
        if !at.is_dir() {
            fs::create_dir(&at).map_err(ImageError::io("make", &at))?;
            fs::set_permissions(&at, Permissions::from_mode(0o755)).map_err(ImageError::io("open up", &at))?;
        }
    }
    Ok(())
}

/// Understands what mmdebstrap and the tools below it say.
struct Listener {
    step: Step,
    /// Unpackings and set-ups in all and so far, of the packages installed in the new root.
    expected: u32,
    seen: u32,
}

impl Listener {
    fn new() -> Self {
        Self { step: Step::Index, expected: 0, seen: 0 }
    }

    /// The step, how far it is, and what it is busy with; `None` for a line that says nothing of that.
    fn hear(&mut self, line: &str) -> Option<(Step, f64, String)> {
        const MARKS: [(&str, Step); 6] = [
            ("I: running apt-get update", Step::Index),
            ("I: downloading packages", Step::Download),
            ("I: extracting archives", Step::Unpack),
            ("I: installing remaining packages", Step::Install),
            ("I: running --customize-hook", Step::Setup),
            ("P: disk", Step::Disk),
        ];
        if let Some((_, step)) = MARKS.iter().find(|(mark, _)| line.starts_with(mark)) {
            let moved = *step > self.step;
            self.step = self.step.max(*step);
            return moved.then(|| (self.step, 0.0, String::new()));
        }
        if self.step != Step::Install {
            return None;
        }
        if let Some((_, rest)) = line.split_once(" upgraded, ") {
            let count: u32 = rest.split(' ').next()?.parse().ok()?;
            self.expected = count.saturating_mul(2);
            return None;
        }
        let package = line.strip_prefix("Unpacking ").or_else(|| line.strip_prefix("Setting up "))?.split(' ').next()?;
        self.seen += 1;
        let within = if self.expected == 0 { 0.0 } else { f64::from(self.seen) / f64::from(self.expected) };
        Some((Step::Install, within, package.to_owned()))
    }
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
