//! Loading a lab directory: what a good one gives, and what is said about each kind of mistake.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use patchlab::catalog::Catalog;
use patchlab::catalog::diagnostic::{Diagnostic, Level};
use patchlab::catalog::load::{Loading, load};
use patchlab::catalog::patch::Patch;

#[path = "catalog/autopkgtest.rs"]
mod autopkgtest;
#[path = "catalog/leftovers.rs"]
mod leftovers;
#[path = "catalog/nonsense.rs"]
mod nonsense;
#[path = "catalog/peers.rs"]
mod peers;
#[path = "catalog/policy.rs"]
mod policy;
#[path = "catalog/settings.rs"]
mod settings;

/// A lab directory of its own for one test.
struct Lab(tempfile::TempDir);

impl Lab {
    /// One of everything, and nothing wrong.
    fn good() -> Self {
        let lab = Self(tempfile::Builder::new().prefix("cat-").tempdir().expect("a temporary folder"));
        lab.write("images/deb/image.toml", IMAGE);
        lab.write("images/deb/motd", "hello\n");
        lab.script("images/deb/setup.sh");
        lab.write("builds/hardware/plain.toml", HARDWARE);
        lab.write("builds/acme/customer.toml", "title = \"Acme\"\n");
        lab.write("builds/acme/web.toml", BUILD);
        lab.write("test-suites/web/suite.toml", SUITE);
        lab.script("test-suites/web/serves");
        lab
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    fn script(&self, path: &str) {
        self.write(path, "#!/bin/sh\n");
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Writes a file with one piece of its text exchanged.
    fn change(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path().join(path)).expect("a file");
        assert!(text.contains(from), "{path} has no {from:?}");
        self.write(path, text.replacen(from, to, 1));
    }

    fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
    }

    fn load(&self) -> Loading {
        load(self.path())
    }

    /// What is said, as people read it.
    fn said(&self) -> String {
        let shown: Vec<_> = self.load().diagnostics.iter().map(ToString::to_string).collect();
        shown.join("\n\n").replace(&self.path().display().to_string(), "LAB")
    }

    /// Each thing said in one line: file, line, key and problem.
    fn brief(&self) -> Vec<String> {
        let brief = |it: &Diagnostic| {
            let line = it.place.as_ref().map_or_else(String::new, |place| format!(":{}", place.line));
            let key = it.key.as_ref().map_or_else(String::new, |key| format!(" [{key}]"));
            let level = if it.level == Level::Warning { "warning: " } else { "" };
            format!("{level}{}{line}{key} {}", it.file.display(), it.problem)
        };
        self.load().diagnostics.iter().map(|it| brief(it).replace(&self.path().display().to_string(), "LAB")).collect()
    }
}

const IMAGE: &str = r#"title = "Debian"
os = "debian"
firmware = ["bios"]

[recipe]
suite = "bookworm"
sources = ["deb http://deb.debian.org/debian bookworm main"]
packages = ["nginx"]
setup = "setup.sh"
disk = "2GiB"

[recipe.files]
"/etc/motd" = "motd"
"#;

const HARDWARE: &str = r#"title = "Plain"
chipset = "pc"
firmware = "bios"
disk = "virtio"
nic = "virtio"
"#;

const BUILD: &str = r#"title = "Web"
role = "server"
image = "deb"
hardware = ["plain"]
suites = ["web"]
services = ["nginx.service"]
volatile = ["/var/lib/app/*"]
"#;

const SUITE: &str = r#"title = "Web"
kind = "regression"

[[case]]
name = "serves"
run = "serves"
needs = ["curl"]
"#;

#[test]
fn a_good_lab_loads_without_a_word() {
    let lab = Lab::good();
    lab.write("builds/README.md", "not read");
    lab.write("images/.cache/x", "not read");
    let Loading { catalog, diagnostics } = lab.load();
    assert_eq!(diagnostics, []);
    let catalog = catalog.expect("a catalog");
    assert_eq!((catalog.images.len(), catalog.hardware.len(), catalog.customers.len(), catalog.suites.len()), (1, 1, 1, 1));
    let before = catalog.suites.values().next().expect("a suite").sha256;
    lab.write("test-suites/web/helper", "new");
    assert_ne!(Catalog::load(lab.path()).expect("a catalog").suites.values().next().expect("a suite").sha256, before);
}

#[test]
fn all_mistakes_are_said_at_once() {
    let lab = Lab::good();
    lab.write(
        "builds/hardware/odd.toml",
        "title = 7\nchipest = \"q35\"\nfirmware = \"uefy\"\ndisk = \"ide\"\nnic = \"virtio\"\ncores = 0\nmemory = \"2G\"\n",
    );
    lab.write(
        "builds/acme/web.toml",
        "title = \"Web\"\nimage = \"dep\"\nhardware = []\nsuites = [\"web\", \"ssh\"]\nservices = [\"nginx\"]\ncolour = 1\n",
    );
    lab.write(
        "test-suites/web/suite.toml",
        "title = \"x\"\nkind = \"regression\"\n[[case]]\nname = \"a\"\nrun = \"../x\"\n\n[[case]]\nname = \"a\"\ntime-limit = \"soon\"\n",
    );
    lab.write("images/deb/image.toml", "title = \"unfinished\nos = \"debian\"\n");
    insta::assert_snapshot!(lab.said());
}

#[test]
fn each_mistake_is_said_once_and_in_its_place() {
    type Sin = (&'static str, fn(&Lab), &'static [&'static str]);
    let sins: &[Sin] = &[
        ("no builds", |lab| lab.remove("builds"), &["LAB not a lab directory: there is no folder \"builds\" in it"]),
        ("no image.toml", |lab| lab.remove("images/deb/image.toml"), &["images/deb there is no image.toml in this folder"]),
        ("no suite.toml", |lab| lab.remove("test-suites/web/suite.toml"), &["test-suites/web there is no suite.toml in this folder"]),
        ("no customer.toml", |lab| lab.remove("builds/acme/customer.toml"), &["builds/acme there is no customer.toml in this folder"]),
        (
            "not UTF-8",
            |lab| lab.write("builds/hardware/plain.toml", b"title = \"x\"\nchipset = \"\xff\""),
            &["builds/hardware/plain.toml:2 not UTF-8"],
        ),
        (
            "a byte order mark",
            |lab| lab.write("builds/hardware/plain.toml", format!("\u{feff}{HARDWARE}")),
            &["builds/hardware/plain.toml:1 a byte order mark at the start"],
        ),
        (
            "a folder in a file's place",
            |lab| {
                lab.remove("builds/acme/web.toml");
                lab.write("builds/acme/web.toml/x", "");
            },
            &["builds/acme/web.toml not a regular file"],
        ),
        (
            "a key twice",
            |lab| lab.change("builds/hardware/plain.toml", "disk", "chipset"),
            &["builds/hardware/plain.toml:4 not valid TOML: duplicate key"],
        ),
        (
            "an unknown key in a nested table",
            |lab| lab.change("test-suites/web/suite.toml", "needs", "need"),
            &["test-suites/web/suite.toml:7 [case[0].need] unknown key \"need\""],
        ),
        (
            "a suite without cases",
            |lab| lab.write("test-suites/web/suite.toml", "title = \"x\"\nkind = \"regression\"\ncase = []\n"),
            &["test-suites/web/suite.toml:3 [case] case is too short a list"],
        ),
        (
            "a suite without even the key",
            |lab| lab.write("test-suites/web/suite.toml", "title = \"x\"\nkind = \"regression\"\n"),
            &["test-suites/web/suite.toml:1 [case] the file lacks the key \"case\""],
        ),
        (
            "two cases of one name",
            |lab| lab.change("test-suites/web/suite.toml", "[[case]]", "[[case]]\nname = \"serves\"\nrun = \"serves\"\n[[case]]"),
            &["test-suites/web/suite.toml:8 [case[1].name] two cases are called \"serves\""],
        ),
        (
            "a case without its script",
            |lab| lab.remove("test-suites/web/serves"),
            &["test-suites/web/suite.toml:6 [case[0].run] case[0].run names a file that does not exist"],
        ),
        (
            "a script that can't be started",
            |lab| lab.write("test-suites/web/serves", "echo"),
            &["test-suites/web/suite.toml:6 [case[0].run] the script \"serves\" does not name its interpreter"],
        ),
        (
            "a time limit of nothing",
            |lab| lab.change("test-suites/web/suite.toml", "needs", "time-limit = \"0s\"\nneeds"),
            &["test-suites/web/suite.toml:7 [case[0].time-limit] a time limit that can't be kept"],
        ),
        (
            "a time limit beyond all clocks",
            |lab| lab.change("test-suites/web/suite.toml", "needs", "time-limit = \"99999999999999999999h\"\nneeds"),
            &[
                "test-suites/web/suite.toml:7 [case[0].time-limit] expected a duration such as \"90s\" or \"5m\", found \"99999999999999999999h\"",
            ],
        ),
        (
            "a date for a text",
            |lab| lab.change("builds/acme/customer.toml", "\"Acme\"", "2024-01-01"),
            &["builds/acme/customer.toml:1 [title] title is of the wrong type"],
        ),
        (
            "a link out of a suite",
            |lab| symlink("/etc/passwd", lab.path().join("test-suites/web/data")).expect("a link"),
            &["test-suites/web/data a link that leaves the folder"],
        ),
        (
            "a setup script outside",
            |lab| lab.change("images/deb/image.toml", "\"setup.sh\"", "\"/bin/sh\""),
            &["images/deb/image.toml:9 [recipe.setup] recipe.setup names an absolute path"],
        ),
        (
            "a recipe file outside",
            |lab| lab.change("images/deb/image.toml", "\"motd\"", "\"../../builds/acme/web.toml\""),
            &["images/deb/image.toml:13 [recipe.files.\"/etc/motd\"] recipe.files.\"/etc/motd\" names a path that leaves the folder"],
        ),
        (
            "a place in the image that is none",
            |lab| lab.change("images/deb/image.toml", "\"/etc/motd\"", "\"etc/../motd\""),
            &["images/deb/image.toml:13 [recipe.files.\"etc/../motd\"] a path in the image that is not absolute and plain"],
        ),
        (
            "recipe and import",
            |lab| lab.change("images/deb/image.toml", "[recipe]", "[import]\nsource = \"x.raw\"\nformat = \"raw\"\n[recipe]"),
            &["images/deb/image.toml:5 [import] an image is either built from a recipe or imported, not both"],
        ),
        (
            "neither recipe nor import",
            |lab| lab.write("images/deb/image.toml", "title = \"x\"\nos = \"debian\"\nfirmware = [\"bios\"]\n"),
            &["images/deb/image.toml:1 [recipe] the image has neither a recipe nor an import"],
        ),
        (
            "an option for a package",
            |lab| lab.change("images/deb/image.toml", "\"nginx\"", "\"-oDebug=1\""),
            &["images/deb/image.toml:8 [recipe.packages[0]] not a package name"],
        ),
        (
            "firmware that the image lacks",
            |lab| lab.change("builds/hardware/plain.toml", "bios", "uefi"),
            &["builds/acme/web.toml:4 [hardware[0]] the image \"deb\" does not boot on the UEFI firmware of \"plain\""],
        ),
        (
            "hardware that can't exist",
            |lab| lab.change("builds/hardware/plain.toml", "nic = \"virtio\"", "nic = \"e1000e\"\nmemory = \"16MiB\""),
            &[
                "builds/hardware/plain.toml:5 [nic] impossible hardware: e1000e is a PCI Express device and the pc chipset has only PCI",
                "builds/hardware/plain.toml:6 [memory] impossible hardware: 16MiB is too little for any image to boot",
            ],
        ),
        (
            "guards that need more of the chipset",
            |lab| {
                lab.change(
                    "builds/hardware/plain.toml",
                    "firmware = \"bios\"",
                    "firmware = \"uefi-secure-boot\"\ntpm = \"1.2\"\ntpm-interface = \"crb\"\ncpu = \"pentium3\"",
                );
                lab.change("images/deb/image.toml", "firmware = [\"bios\"]", "firmware = [\"uefi-secure-boot\"]");
            },
            &[
                "builds/hardware/plain.toml:3 [firmware] impossible hardware: Secure Boot needs the system management mode of the q35 chipset to guard its keys",
                "builds/hardware/plain.toml:5 [tpm-interface] impossible hardware: the command response buffer came with TPM 2.0; a TPM 1.2 has none",
                "builds/hardware/plain.toml:6 [cpu] impossible hardware: UEFI firmware is 64-bit code and pentium3 has no 64-bit mode",
            ],
        ),
        (
            "an identity that SMBIOS can't carry",
            |lab| {
                let smbios = "[smbios]\nserial = \" x\"\nmanufacturer = \"Größe\"\nuuid = \"4c4c4544\"\nboard = \"x\"\n";
                lab.write("builds/hardware/plain.toml", format!("{HARDWARE}{smbios}"));
            },
            &[
                "builds/hardware/plain.toml:7 [smbios.serial] smbios.serial has the wrong form",
                "builds/hardware/plain.toml:8 [smbios.manufacturer] smbios.manufacturer has the wrong form",
                "builds/hardware/plain.toml:9 [smbios.uuid] smbios.uuid has the wrong form",
                "builds/hardware/plain.toml:10 [smbios.board] unknown key \"board\"",
            ],
        ),
        (
            "an identity that means none",
            |lab| {
                let smbios = "\n[smbios]\nserial = \"5XPHY42\"\nuuid = \"00000000-0000-0000-0000-000000000000\"\n";
                lab.write("builds/hardware/plain.toml", format!("{HARDWARE}{smbios}"));
            },
            &["builds/hardware/plain.toml:9 [smbios.uuid] impossible hardware: to SMBIOS this UUID means that there is none"],
        ),
        (
            "hardware twice",
            |lab| lab.change("builds/acme/web.toml", "[\"plain\"]", "[\"plain\", \"plain\"]"),
            &["builds/acme/web.toml:4 [hardware[1]] \"plain\" is in the list twice"],
        ),
        (
            "colliding cells",
            |lab| {
                lab.write("builds/acme.web/customer.toml", "title = \"x\"");
                lab.write("builds/acme.web/one.toml", BUILD);
                lab.write("builds/acme/web.one.toml", BUILD);
            },
            &["builds/acme.web/one.toml its cells would have the same ids as those of builds/acme/web.one.toml"],
        ),
        (
            "reserved names",
            |lab| {
                lab.write("test-suites/health/suite.toml", SUITE);
                lab.write("builds/hardware/customer.toml", "title = \"x\"");
                lab.change("builds/acme/web.toml", "[\"web\"]", "[\"web\", \"health\"]");
            },
            &[
                "builds/acme/web.toml:5 [suites[1]] the health suite always runs and is not listed",
                "builds/hardware/customer.toml no customer can be called \"hardware\": builds/hardware/ holds the profiles",
                "test-suites/health the name \"health\" is reserved for the built-in suite",
            ],
        ),
        (
            "names that nothing can have",
            |lab| {
                lab.write("builds/acme/My Build.toml", BUILD);
                lab.write("images/Deb/image.toml", IMAGE);
            },
            &["builds/acme/My Build.toml a name that nothing in the lab can have", "images/Deb a name that nothing in the lab can have"],
        ),
        (
            "a build without a customer",
            |lab| lab.write("builds/web.toml", BUILD),
            &["builds/web.toml a file in builds/ itself is never read"],
        ),
        (
            "units that are none",
            |lab| lab.change("builds/acme/web.toml", "nginx.service", "getty@.service"),
            &["builds/acme/web.toml:6 [services[0]] not the name of a systemd unit"],
        ),
        (
            "a pattern that matches nothing",
            |lab| lab.change("builds/acme/web.toml", "/var/lib", "var/lib"),
            &["builds/acme/web.toml:7 [volatile[0]] a pattern that matches no path"],
        ),
        (
            "nothing but health",
            |lab| lab.change("builds/acme/web.toml", "[\"web\"]", "[]"),
            &[
                "warning: builds/acme/web.toml:5 [suites] no suites: only the health suite judges patches for this build",
                "warning: test-suites/web no build or environment runs the suite \"web\"",
            ],
        ),
        (
            "nesting without end",
            |lab| lab.write("builds/acme/customer.toml", format!("title = {}", "[".repeat(100_000))),
            &["builds/acme/customer.toml:1 nested too deeply"],
        ),
        (
            "dots without end",
            |lab| lab.write("builds/acme/customer.toml", format!("{}a = 1", "a.".repeat(100_000))),
            &["builds/acme/customer.toml:1 nested too deeply"],
        ),
        (
            "too long a file",
            |lab| lab.write("builds/acme/customer.toml", vec![b'#'; 2 << 20]),
            &["builds/acme/customer.toml too long a file"],
        ),
    ];
    for (name, sin, expected) in sins {
        let lab = Lab::good();
        sin(&lab);
        assert_eq!(lab.brief(), *expected, "{name}");
        let has_error = expected.iter().any(|line| !line.starts_with("warning"));
        assert_eq!(Catalog::load(lab.path()).is_err(), has_error, "{name}");
    }
}

#[test]
fn the_readme_shows_a_valid_lab() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let lab = Lab(tempfile::Builder::new().prefix("readme-").tempdir().expect("a temporary folder"));
    let (mut files, mut patches) = (0, 0);
    for block in readme.split("```").skip(1).step_by(2) {
        let Some((_, body)) = block.split_once('\n') else { continue };
        let Some(named) = body.lines().find_map(|line| line.strip_prefix("# ")) else { continue };
        let lab_file = |path: &str| ["images/", "builds/", "test-suites/", "patchlab.toml"].iter().any(|top| path.starts_with(top));
        if let Some((path, _)) = named.split_once(", continued") {
            let before = fs::read_to_string(lab.path().join(path)).expect("its beginning comes first");
            lab.write(path, before + body);
        } else if lab_file(named) {
            lab.write(named, body);
            files += 1;
        } else if named.starts_with("patches/") {
            let read = toml_edit::de::from_str::<Patch>(body);
            assert!(read.is_ok(), "{named}: {read:?}");
            patches += 1;
        }
    }
    assert!(files >= 9 && patches == 4, "the README shows {files} files of a lab and {patches} patches");
    lab.write("images/shop/files/index.html", "hello\n");
    for script in ["images/shop/setup.sh", "test-suites/shop/front-page.sh", "test-suites/shop/checkout.sh"] {
        lab.script(script);
    }
    for script in ["shop/catalogue.sh", "shop/disk-full.sh", "orders/listen.sh", "orders/queue-order.sh", "orders/order-sent.sh"] {
        lab.script(&format!("test-suites/{script}"));
    }
    // Shown by name alone.
    lab.write("builds/hardware/counter.toml", HARDWARE);
    lab.write("builds/contoso/till.toml", BUILD.replace("\"deb\"", "\"crm\"").replace("plain", "counter").replace("\"web\"", "\"shop\""));
    assert_eq!(lab.brief(), Vec::<String>::new());
}

#[test]
fn the_repository_is_a_valid_lab() {
    let Loading { catalog, diagnostics } = load(Path::new(env!("CARGO_MANIFEST_DIR")));
    let shown: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
    let catalog = catalog.unwrap_or_else(|| panic!("{}", shown.join("\n\n")));
    assert!(shown.is_empty(), "{}", shown.join("\n\n"));
    assert_eq!(catalog.customers.values().map(|customer| customer.builds.len()).sum::<usize>(), 3);
    assert_eq!(catalog.hardware.len(), 10);
}
