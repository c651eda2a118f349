//! Bad input and bad circumstances, as a person meets them on the command line: a clear error, the right exit code, nothing half done.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A lab of its own, with a state folder, a patch and images to import.
struct Lab {
    top: tempfile::TempDir,
}

const ONE: [&str; 4] = ["--build", "web", "--hardware", "virtio-bios"];

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().expect("cp runs");
    assert!(done.success());
}

impl Lab {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("a folder");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::create_dir(top.path().join("lab")).expect("a folder");
        for part in ["builds", "images", "test-suites"] {
            copy(&here.join(part), &top.path().join("lab").join(part));
        }
        copy(&here.join("tests/patches/good-motd"), &top.path().join("patch"));
        Self { top }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().expect("a parent")).expect("a folder");
        fs::write(self.at(path), text).expect("written");
    }

    /// An image that is imported from a file of this name, which is a tiny disk.
    fn image(&self, name: &str, pin: &str) {
        let folder = format!("lab/images/{name}");
        let table = format!("[import]\nsource = \"disk.qcow2\"\nformat = \"qcow2\"\n{pin}");
        self.write(&format!("{folder}/image.toml"), format!("title = \"a disk\"\nos = \"debian\"\nfirmware = [\"bios\"]\n{table}"));
        let disk = self.at(&format!("{folder}/disk.qcow2"));
        let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(disk).arg("1M").status().expect("qemu-img runs");
        assert!(made.success());
    }

    fn patchlab(&self, arguments: &[&str]) -> Output {
        let mut command = command::patchlab(self.at("lab"), self.at("state"));
        command.env("PATCHLAB_HYPERVISOR", "sim").args(arguments).output().expect("patchlab starts")
    }

    /// Its exit code and all that it said.
    fn said(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.patchlab(arguments);
        let text = [output.stderr, output.stdout].concat();
        (output.status.code().expect("an exit code"), String::from_utf8_lossy(&text).into_owned())
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let (found, said) = self.said(arguments);
        assert_eq!(found, code, "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} lacks {word:?}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn what_the_builder_would_refuse_the_catalog_refuses_first() {
    let recipe = "lab/images/acme-web/image.toml";
    for (from, to, word) in [
        ("disk = \"3GiB\"", "disk = \"900MiB\"", "1GiB to 4TiB"),
        ("disk = \"3GiB\"", "disk = \"99999999999999TiB\"", "1GiB to 4TiB"),
        ("suite = \"bookworm\"", "suite = \"Book/worm\"", "for example \"bookworm\""),
        ("\"curl\"", "\"curl=7.1\"", "the name of a Debian package"),
        ("\"deb http", "\"deb-src http", "sources list"),
    ] {
        let lab = Lab::new();
        let text = fs::read_to_string(lab.at(recipe)).expect("readable");
        assert!(text.contains(from), "{from}");
        lab.write(recipe, text.replacen(from, to, 1));
        lab.refuses(&["check"], 2, &[word, "1 mistake in the catalog"]);
    }
}

#[test]
fn a_report_goes_only_where_a_file_can_be_and_never_takes_the_place_of_a_device() {
    let lab = Lab::new();
    let patch = lab.text("patch");
    let run = |junit: &str| lab.said(&[&["run", &patch, "--junit", junit], &ONE[..]].concat());
    nix::unistd::mkfifo(&lab.at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (file, word) in
        [("", "it is a folder"), ("missing/x.xml", "there is no folder"), ("new/", "could not write"), ("pipe", "could not write")]
    {
        let (code, said) = run(&lab.text(file));
        assert_eq!(code, 2, "{file}: {said}");
        assert!(said.contains(word) && !said.contains("boot done"), "before the run, not after it: {said}");
    }
    assert_eq!(lab.said(&["runs"]).1, "no runs yet\n");
    assert!(fs::symlink_metadata(lab.at("pipe")).expect("still there").file_type().is_fifo());

    lab.write("real.xml", "old");
    symlink("real.xml", lab.at("link.xml")).expect("a link");
    assert_eq!(run(&lab.text("link.xml")).0, 0);
    assert!(lab.at("link.xml").is_symlink() && fs::read_to_string(lab.at("real.xml")).expect("readable").contains("<testsuites"));
    let (code, said) = lab.said(&["report", "last", "--format", "junit", "--output", "/proc/self/fd/1"]);
    assert!(code == 0 && said.contains("</testsuites>"), "{said}");
    lab.refuses(&["run", &patch, "--junit", "x", "--html", "x"], 2, &["the same file"]);
}

#[test]
fn a_broken_state_folder_is_named_with_what_to_do() {
    for (file, contents, arguments, code, word) in [
        ("state", "", ["runs"].as_slice(), 2, "not a directory"),
        ("state/lab-id", "../../x\n", &["runs"], 2, "expected a UUID"),
        ("state/lab-id", "", &["runs"], 2, "expected a UUID"),
        ("state/journal.sqlite", "not a database, but long enough to be taken for one", &["runs"], 3, "restore it from a backup"),
        ("state/patches", "", &["patch", "list"], 2, "state/patches"),
        ("state/evidence", "", &["gc"], 3, "state/evidence"),
        ("state/images/acme-web.json", "{", &["image", "verify"], 2, "build the image again"),
    ] {
        let lab = Lab::new();
        lab.write(file, contents);
        lab.refuses(arguments, code, &["error: ", word]);
    }
}

#[test]
fn one_bad_image_neither_hides_nor_harms_the_others() {
    let lab = Lab::new();
    let pin = format!("sha256 = \"sha256:{}\"\n", "0".repeat(64));
    lab.image("good", "");
    lab.image("pinned", &pin);
    lab.image("truncated", "");
    let disk = fs::OpenOptions::new().write(true).open(lab.at("lab/images/truncated/disk.qcow2")).expect("a disk");
    disk.set_len(100).expect("truncated");
    let output = lab.patchlab(&["image", "import", "--format", "json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["good: new", "pinned: failed", "error: image pinned: expected the digest", "error: image truncated: refused to import"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let named = |name: &str| rows.as_array().into_iter().flatten().find(|row| row["name"] == name).cloned().unwrap_or_default();
    assert_eq!((named("good")["changed"].as_bool(), named("pinned")["error"].is_string()), (Some(true), true), "{rows}");
    assert_eq!(fs::read_dir(lab.at("state/images/incoming")).expect("a listing").count(), 0);

    lab.refuses(&["image", "verify", "good"], 0, &["sound"]);
    let sha256 = named("good")["sha256"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest").to_owned();
    let sealed = lab.at(&format!("state/images/{sha256}.qcow2"));
    fs::remove_file(&sealed).expect("removed");
    fs::write(&sealed, "short").expect("written");
    lab.refuses(&["image", "verify"], 2, &["image good: ", "--rebuild"]);
    lab.refuses(&["image", "import", "good", "acme-web"], 2, &["acme-web has no [import]", "nothing was done"]);
    lab.refuses(&["image", "import", "good"], 0, &["good: new"]);
}

#[test]
fn one_controller_at_a_time() {
    let lab = Lab::new();
    lab.write("state/controller.lock", "4711");
    let file = fs::File::open(lab.at("state/controller.lock")).expect("a file");
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, bad)| bad).expect("the lock");
    let patch = lab.text("patch");
    lab.refuses(&[&["run", &patch], &ONE[..]].concat(), 2, &["another patchlab (process 4711)"]);
    lab.refuses(&["gc"], 2, &["another patchlab"]);
    lab.refuses(&["runs"], 0, &["no runs yet"]);
    drop(held);
    lab.refuses(&["gc"], 0, &["nothing is left over"]);
}

#[test]
fn a_full_disk_is_the_labs_fault_and_costs_nothing_that_was_there() {
    let lab = Lab::new();
    let out = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchlab"));
    command.arg("--lab").arg(lab.at("lab")).args(["check"]).stdout(out).stderr(Stdio::piped());
    let output = command.output().expect("patchlab starts");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));

    let patch = lab.text("patch");
    // By a link: nothing that goes wrong here may cost this host its device.
    symlink("/dev/full", lab.at("full")).expect("a link");
    let (code, said) = lab.said(&[&["run", &patch, "--junit", &lab.text("full"), "--html", &lab.text("out.html")], &ONE[..]].concat());
    assert!(code == 3 && said.contains("full: No space left"), "{said}");
    assert!(said.contains("PASS") && lab.at("out.html").exists(), "the other report is there all the same: {said}");
    assert!(lab.at("full").is_symlink() && fs::metadata(lab.at("full")).expect("there").file_type().is_char_device());
    lab.refuses(&["show", "last"], 0, &["PASS"]);
}
