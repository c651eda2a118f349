//! The store and the reading of candidates, on real folders and real Debian packages.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::plan::Package;

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("cat-").tempdir().unwrap()
}

/// A candidate's folder with this manifest and these payload files.
fn patch(manifest: &str, payload: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = folder();
    fs::write(dir.path().join("patch.toml"), manifest).unwrap();
    for (path, bytes) in payload {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn script(id: &str, payload: &str) -> tempfile::TempDir {
    let manifest = format!(
        "id = {id:?}\ntitle = \"x\"\nkind = \"script\"\npayload = [\"run\"]\nreboot = \"never\"\ninstall = \"sh ./run\"\nrequires = []\n"
    );
    patch(&manifest, &[("run", payload.as_bytes())])
}

/// The bytes of a Debian package.
fn deb(name: &str, version: &str, architecture: &str) -> Vec<u8> {
    let dir = folder();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join("usr/share")).unwrap();
    fs::write(tree.join("usr/share/blob"), vec![b'x'; 100_000]).unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: a <a@b.c>\nDescription: x\n Package: fake\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let file = dir.path().join("x.deb");
    let built = Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&file).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    fs::read(file).unwrap()
}

/// What is wrong with a candidate: line, key, problem.
fn wrong(dir: &Path) -> Vec<String> {
    let problems = match candidate::read(dir, dir) {
        Ok(candidate) => candidate.warnings,
        Err(problems) => problems,
    };
    let line = |it: &Diagnostic| it.place.as_ref().map_or(0, |place| place.line);
    problems.iter().map(|it| format!("{} {} {}", line(it), it.key.as_deref().unwrap_or("-"), it.problem)).collect()
}

#[test]
fn a_candidate_goes_in_once_and_comes_out_whole() {
    let (state, dir) = (folder(), script("hello", "echo hello\n"));
    fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("notes.txt"), "not part of it").unwrap();
    let store = PatchStore::open(state.path()).unwrap();
    let added = store.add(dir.path()).unwrap();
    assert_eq!((added.warnings.as_slice(), added.facts.bytes), (&[][..], 11));
    let inode = || fs::metadata(added.folder.join("run")).unwrap().ino();
    let first = inode();
    assert_eq!((store.add(dir.path()).unwrap().folder, inode()), (added.folder.clone(), first), "nothing was written again");
    let digest = added.sha256;
    assert_eq!(candidate::read(dir.path(), dir.path()).unwrap().sha256, digest);
    for wanted in ["hello".to_owned(), digest.to_string(), digest.hex(), digest.short()] {
        let found = store.get(&wanted).unwrap();
        assert_eq!((found.sha256, &found.manifest.title), (digest, &"x".to_owned()), "{wanted}");
        store.verify(&found).unwrap();
    }
    let stored: Vec<_> = inside::files(&added.folder, Path::new("x")).unwrap().into_iter().collect();
    assert_eq!(stored, ["patch.toml", "run"]);
    let mode = fs::metadata(added.folder.join("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    assert!(fs::read_dir(state.path().join("patches")).unwrap().count() == 1, "nothing else is left");
}

#[test]
fn other_bytes_under_one_id_are_another_candidate() {
    let state = folder();
    let store = PatchStore::open(state.path()).unwrap();
    let first = store.add(script("hello", "one\n").path()).unwrap();
    let second = store.add(script("hello", "two\n").path()).unwrap();
    assert!(second.warnings[0].problem.contains("another candidate is called"));
    let error = store.get("hello").unwrap_err();
    let found = error.found.clone().unwrap();
    assert!(found.contains(&first.sha256.to_string()) && found.contains(&second.sha256.to_string()), "{error}");
    assert_eq!(store.get(&first.sha256.short()).unwrap().sha256, first.sha256);
    assert!(store.get("helo").unwrap_err().hint.unwrap().contains("did you mean \"hello\"?"));
    assert!(store.get("").is_err() && store.get("sha256:").is_err() && store.get("../x").is_err());
}

#[test]
fn damage_is_seen_and_healed() {
    let (state, dir) = (folder(), script("hello", "one\n"));
    let store = PatchStore::open(state.path()).unwrap();
    let candidate = store.add(dir.path()).unwrap();
    let run = candidate.folder.join("run");
    let harms: [&dyn Fn(); 3] = [
        &|| {
            fs::remove_file(&run).unwrap();
            fs::write(&run, "evil\n").unwrap();
        },
        &|| fs::remove_file(&run).unwrap(),
        &|| fs::write(candidate.folder.join("more"), "").unwrap(),
    ];
    for harm in harms {
        harm();
        let error = store.verify(&store.get("hello").unwrap()).unwrap_err();
        assert!(error.problem.contains("damaged") && error.hint.is_some(), "{error}");
        store.add(dir.path()).unwrap();
        store.verify(&store.get("hello").unwrap()).unwrap();
    }
    fs::write(state.path().join("patches").join(candidate.sha256.hex()).join(FACTS), "{").unwrap();
    assert_eq!((store.listing().candidates.len(), store.list().unwrap_err().0.len()), (0, 1));
    assert!(store.get(&candidate.sha256.short()).unwrap_err().problem.contains("can't be read"));
}

#[test]
fn chains_that_lead_back_are_refused() {
    let state = folder();
    let store = PatchStore::open(state.path()).unwrap();
    let needing = |id: &str, other: &str| {
        let dir = script(id, "x");
        let file = dir.path().join("patch.toml");
        let text = fs::read_to_string(&file).unwrap().replace("requires = []", &format!("requires = [{other:?}]"));
        fs::write(file, text).unwrap();
        dir
    };
    let warnings = store.add(needing("a", "b").path()).unwrap().warnings;
    assert!(warnings[0].problem.contains("requires \"b\", which is not in the store"));
    store.add(needing("b", "c").path()).unwrap();
    let problems = store.add(needing("c", "a").path()).unwrap_err();
    let error = problems.0.iter().find(|problem| problem.is_error()).unwrap();
    assert_eq!(error.found.as_deref(), Some("c → a → b → c"));
    assert_eq!(store.list().unwrap().len(), 2, "it was not stored");
    assert_eq!(wrong(needing("d", "d").path()), ["7 requires[0] \"d\" requires itself"]);
}

#[test]
fn debs_speak_for_themselves() {
    let dir = patch(
        "id = \"hello-2.0\"\ntitle = \"x\"\nkind = \"deb\"\npayload = [\"a.deb\", \"sub/b.deb\"]\nreboot = \"never\"\nremoves = [\"hello\"]\n",
        &[("a.deb", &deb("hello", "1:1.0-1", "all")), ("sub/b.deb", &deb("linux-image-6.1-amd64", "6.1-1", "amd64"))],
    );
    let candidate = candidate::read(dir.path(), dir.path()).unwrap();
    let package = |name: &str, version: &str, architecture: &str, file: &str| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        file: file.to_owned(),
    };
    let expected = [package("hello", "1:1.0-1", "all", "a.deb"), package("linux-image-6.1-amd64", "6.1-1", "amd64", "sub/b.deb")];
    assert_eq!(candidate.facts.packages, expected);
    assert_eq!(
        wrong(dir.path()),
        [
            "1 id the id speaks of version \"2.0\", which no package of the payload has",
            "5 reboot \"linux-image-6.1-amd64\" is a kernel, which takes effect only after a reboot, and reboot is \"never\"",
            "6 removes[0] \"hello\" is both installed by the payload and declared as removed",
        ]
    );
}

#[test]
fn bad_debs_are_refused() {
    let good = deb("hello", "1.0", "all");
    let with = |bytes: &[u8]| {
        let manifest = "id = \"x\"\ntitle = \"x\"\nkind = \"deb\"\npayload = [\"a.deb\"]\nreboot = \"auto\"\n";
        wrong(patch(manifest, &[("a.deb", bytes)]).path())
    };
    assert_eq!(with(&good), [""; 0]);
    for cut in [0, 4, 60, 200, good.len() / 2, good.len() - 700] {
        assert_eq!(with(&good[..cut]), ["4 payload[0] \"a.deb\" is not a whole Debian package"], "cut at {cut}");
    }
    assert_eq!(with(b"hello"), ["4 payload[0] \"a.deb\" is not a whole Debian package"]);
    let foreign = "4 payload[0] \"a.deb\" is built for the architecture \"arm64\"; machines of the lab are amd64";
    assert_eq!(with(&deb("hello", "1.0", "arm64")), [foreign]);
    let twice = "id = \"x\"\ntitle = \"x\"\nkind = \"deb\"\npayload = [\"a.deb\", \"b.deb\"]\nreboot = \"auto\"\n";
    let twice = patch(twice, &[("a.deb", &good), ("b.deb", &deb("hello", "2.0", "all"))]);
    assert_eq!(wrong(twice.path()), ["4 payload[1] \"b.deb\" and \"a.deb\" are the same package \"hello\""]);
}

#[test]
fn files_and_diffs_say_what_they_change() {
    let head = "id = \"x\"\ntitle = \"x\"\nreboot = \"never\"\n";
    let files = format!(
        "{head}kind = \"files\"\npayload = [\"a\"]\n[[file]]\nsource = \"a\"\ntarget = \"/etc/a\"\n[[file]]\nsource = \"a\"\ntarget = \"/b\"\n"
    );
    let paths = |manifest: &str, body: &[u8]| {
        let dir = patch(manifest, &[("a", body)]);
        candidate::read(dir.path(), dir.path()).unwrap().facts.paths
    };
    assert_eq!(paths(&files, b""), ["/b", "/etc/a"]);
    let diff = format!("{head}kind = \"diff\"\npayload = [\"a\"]\nroot = \"/srv/\"\n");
    let body = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
    assert_eq!(paths(&diff, body), ["/srv/x"]);
    let cut = patch(&diff, &[("a", &body[..30])]);
    assert_eq!(wrong(cut.path()), ["3 - not a whole unified diff: a hunk that ends before its 2 lines are there"]);
    assert_eq!(wrong(patch(&diff, &[("a", b"")]).path()), ["5 payload[0] \"a\" is empty or longer than 64 MiB"]);
}

#[test]
fn each_mistake_of_a_manifest_is_said_once_and_in_its_place() {
    let table: &[(&str, &[&str])] = &[
        ("kind = \"script\"\npayload = [\"a\"]", &["1 install a script patch needs the command that applies it"]),
        ("kind = \"script\"\npayload = [\"a\"]\ninstall = \" \"", &["6 install install is not a command line"]),
        ("kind = \"script\"\npayload = [\"gone\"]\ninstall = \"x\"", &["5 payload[0] payload[0] names a file that does not exist"]),
        ("kind = \"script\"\npayload = [\"../a\"]\ninstall = \"x\"", &["5 payload[0] payload[0] names a path that leaves the folder"]),
        ("kind = \"script\"\npayload = [\"/etc/passwd\"]\ninstall = \"x\"", &["5 payload[0] payload[0] names an absolute path"]),
        ("kind = \"script\"\npayload = [\"out\"]\ninstall = \"x\"", &["5 payload[0] payload[0] names a link that leaves the folder"]),
        ("kind = \"script\"\npayload = [\"patch.toml\"]\ninstall = \"x\"", &["5 payload[0] the manifest is not part of the payload"]),
        ("kind = \"script\"\npayload = []\ninstall = \"x\"", &["5 payload payload is too short a list"]),
        ("kind = \"script\"\npayload = [\"a\", \"a\"]\ninstall = \"x\"", &["5 payload[1] \"a\" is in the list twice"]),
        ("kind = \"script\"\npayload = [\"a\"]\ninstall = \"x\"\ncves = [\"CVE-1\"]", &["7 cves[0] not a CVE id"]),
        ("kind = \"script\"\npayload = [\"a\"]\ninstall = \"x\"\ntimeout = \"99d\"", &["7 timeout a time limit that can't be kept"]),
        ("kind = \"script\"\npayload = [\"a\"]\ninstall = \"x\"\nstrip = 1", &["7 strip \"strip\" has no meaning for kind = \"script\""]),
        ("kind = \"scrip\"\npayload = [\"a\"]", &["4 kind kind is not one of its possible values"]),
        (
            "kind = \"deb\"\npayload = [\"a\"]\ninstall = \"x\"",
            &["5 payload[0] not a Debian package", "6 install \"install\" has no meaning for kind = \"deb\""],
        ),
        ("kind = \"files\"\npayload = [\"a\"]", &["5 payload[0] nothing says where \"a\" goes"]),
        (
            "kind = \"files\"\npayload = [\"a\"]\n[[file]]\nsource = \"b\"\ntarget = \"/x/../y\"\nmode = \"9\"\nowner = \"root\"",
            &[
                "5 payload[0] nothing says where \"a\" goes",
                "7 file[0].source not a file of the payload",
                "8 file[0].target not a place for a file in the guest",
                "9 file[0].mode file[0].mode has the wrong form",
                "10 file[0].owner file[0].owner has the wrong form",
            ],
        ),
        (
            "kind = \"diff\"\npayload = [\"a\", \"run\"]\nroot = \"srv\"",
            &["5 payload a diff patch has one payload file", "6 root not a folder in the guest"],
        ),
    ];
    for (text, expected) in table {
        let dir = patch(&format!("id = \"x\"\ntitle = \"x\"\nreboot = \"never\"\n{text}\n"), &[("a", b"x"), ("run", b"x")]);
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        assert_eq!(wrong(dir.path()), *expected, "{text}");
        assert!(candidate::read(dir.path(), dir.path()).is_err());
    }
    let empty = folder();
    assert_eq!(wrong(empty.path()), ["0 - there is no patch.toml in this directory"]);
    assert_eq!(wrong(&empty.path().join("gone")), ["0 - not a directory"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_manifest_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "(?s).{0,100}", wanted in ".{0,20}") {
        let state = folder();
        let store = PatchStore::open(state.path()).unwrap();
        for bytes in [bytes, format!("kind = \"diff\"\n{text}").into_bytes()] {
            let dir = folder();
            fs::write(dir.path().join("patch.toml"), bytes).unwrap();
            prop_assert!(store.add(dir.path()).is_err());
        }
        prop_assert!(store.get(&wanted).is_err());
    }
}
