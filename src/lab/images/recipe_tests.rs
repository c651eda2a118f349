use std::collections::BTreeMap;

use super::*;
use crate::catalog::text::Size;

fn recipe() -> Recipe {
    Recipe {
        suite: "bookworm".to_owned(),
        sources: vec!["deb http://deb.debian.org/debian bookworm main".to_owned()],
        packages: vec!["nginx-light".to_owned()],
        files: BTreeMap::new(),
        setup: None,
        disk: Size::mib(2048),
    }
}

fn staged(recipe: &Recipe, folder: &Path) -> Result<Work, ImageError> {
    let work = Work::new()?;
    stage(&work, &"web".parse().expect("a name"), recipe, folder, Digest::of("recipe"), None)?;
    Ok(work)
}

#[test]
fn progress_follows_what_the_tools_say() {
    let mut listener = Listener::new();
    let said = [
        "I: running apt-get update...",
        "I: extracting archives...",
        "Unpacking base-files (12) ...",
        "I: installing remaining packages inside the chroot...",
        "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
        "Unpacking nginx (1.22.1-9) ...",
        "whatever else",
        "Setting up nginx (1.22.1-9) ...",
        "I: running --customize-hook in shell: sh -c 'x'",
        "I: running --customize-hook in shell: sh -c 'y'",
        "P: disk",
        "I: extracting archives...",
    ];
    let heard: Vec<_> = said.iter().filter_map(|line| listener.hear(line)).collect();
    let expected = [
        (Step::Unpack, 0.0, ""),
        (Step::Install, 0.0, ""),
        (Step::Install, 0.25, "nginx"),
        (Step::Install, 0.5, "nginx"),
        (Step::Setup, 0.0, ""),
        (Step::Disk, 0.0, ""),
    ];
    assert_eq!(heard, expected.map(|(step, within, detail)| (step, within, detail.to_owned())));
}

#[test]
fn everything_is_staged_where_another_user_may_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("files")).expect("a folder");
    for (path, mode) in [("files/index.html", 0o600), ("files/tool", 0o700), ("setup.sh", 0o600)] {
        fs::write(folder.path().join(path), path).expect("a file");
        fs::set_permissions(folder.path().join(path), Permissions::from_mode(mode)).expect("a mode");
    }
    let mut recipe = recipe();
    recipe.files.insert("/srv/www/index.html".to_owned(), "files/index.html".to_owned());
    recipe.files.insert("/usr/local/bin/tool".to_owned(), "files/tool".to_owned());
    recipe.setup = Some("setup.sh".to_owned());
    let work = staged(&recipe, folder.path()).expect("staged");
    for (path, mode) in [
        ("files", 0o755),
        ("files/srv/www", 0o755),
        ("files/srv/www/index.html", 0o644),
        ("files/usr/local/bin/tool", 0o755),
        ("setup", 0o755),
        ("early/etc/initramfs-tools/hooks/lab-hardware", 0o755),
        ("sources.list", 0o644),
    ] {
        let meta = fs::metadata(work.input().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
    }
    let packages = fs::read_to_string(work.input().join("packages")).expect("packages");
    assert!(packages.ends_with("\nnginx-light\n") && packages.contains("linux-image-amd64\n"));
    let top = work.folder.path().to_owned();
    drop(work);
    assert!(!top.exists());
}

#[test]
fn the_same_recipe_has_the_same_file_system_ids() {
    let name = "web".parse().expect("a name");
    let one = parameters(&name, &recipe(), Digest::of("a"), None);
    assert_eq!(one, parameters(&name, &recipe(), Digest::of("a"), None));
    assert_ne!(one, parameters(&name, &recipe(), Digest::of("b"), None));
    let ids = |text: &str| text.lines().filter(|line| line.contains("UUID")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ids(&one), ids(&parameters(&name, &recipe(), Digest::of("a"), Some(1))), "where it is built does not show");
    assert!(one.contains("DISK_BYTES=2147483648\n"), "{one}");
}

#[test]
fn a_recipe_can_not_reach_out_of_its_folder_or_into_the_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("ok"), "ok").expect("a file");
    std::os::unix::fs::symlink("/etc/shadow", folder.path().join("link")).expect("a link");
    type Change = fn(&mut Recipe);
    let changes: [(&str, Change); 9] = [
        ("a path that leaves", |r| r.setup = Some("../setup.sh".to_owned())),
        ("a path that leaves", |r| r.setup = Some("/bin/sh".to_owned())),
        ("a link", |r| r.setup = Some("link".to_owned())),
        ("No such file", |r| r.setup = Some("nothing".to_owned())),
        ("recipe.files", |r| r.files = BTreeMap::from([("/../etc/x".to_owned(), "ok".to_owned())])),
        ("recipe.files", |r| r.files = BTreeMap::from([("etc/x".to_owned(), "ok".to_owned())])),
        ("recipe.suite", |r| r.suite = "book; rm".to_owned()),
        ("recipe.packages", |r| r.packages = vec!["$(reboot)".to_owned()]),
        ("recipe.sources", |r| r.sources = vec!["deb x\ndeb y".to_owned()]),
    ];
    for (expected, change) in changes {
        let mut recipe = recipe();
        change(&mut recipe);
        let error = staged(&recipe, folder.path()).err().unwrap_or_else(|| panic!("{expected} must be refused"));
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}
