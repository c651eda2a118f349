//! Holds the house to its plan: which room may name which, by their `use` lines and paths. And its shell scripts to their form.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each room and the rooms that it may name. Adapters are rooms of their own, and may name the port that they lie in by `super` too.
const TABLE: [(&str, &[&str]); 19] = [
    ("id", &[]),
    ("catalog", &["id"]),
    ("plan", &["catalog", "id"]),
    ("cell", &["catalog", "id", "journal", "plan", "verdict"]),
    ("verdict", &["catalog", "cell", "id", "journal", "plan"]),
    ("journal", &["cell", "id", "plan", "verdict"]),
    ("hypervisor", &["catalog", "id", "journal"]),
    ("hypervisor/libvirt", &["catalog", "hypervisor", "hypervisor/segments", "id", "journal"]),
    ("hypervisor/segments", &["hypervisor", "id"]),
    ("hypervisor/sim", &["catalog", "cell", "guest", "hypervisor", "hypervisor/segments", "id", "journal"]),
    ("guest", &["catalog", "cell", "hypervisor", "id", "plan"]),
    ("guest/agent", &["catalog", "cell", "guest", "hypervisor", "hypervisor/segments", "journal"]),
    ("guest/sim", &["catalog", "cell", "hypervisor/sim"]),
    ("lab", &["catalog", "cell", "guest", "hypervisor", "hypervisor/segments", "id", "journal", "plan", "verdict"]),
    ("report", &["catalog", "cell", "id", "journal", "plan", "verdict"]),
    ("api", &["catalog", "cell", "id", "journal", "lab", "plan", "report", "verdict"]),
    ("web", &["api", "catalog", "id", "journal", "lab", "plan", "report", "verdict"]),
    (
        "cli",
        &[
            "api",
            "catalog",
            "cell",
            "guest",
            "guest/agent",
            "guest/sim",
            "hypervisor",
            "hypervisor/libvirt",
            "hypervisor/sim",
            "id",
            "journal",
            "lab",
            "plan",
            "report",
            "verdict",
            "web",
        ],
    ),
    ("main", &["cli"]),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The Rust files, and where they are below `src`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a source is text");
        (file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned(), text)
    };
    found.into_iter().map(read).collect()
}

fn room(path: &str) -> &'static str {
    let fits = |name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with(['/', '.']));
    TABLE
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| fits(name))
        .max_by_key(|name| name.len())
        .unwrap_or_else(|| panic!("src/{path} is in no room of the house"))
}

#[test]
fn rooms_name_only_what_the_table_lets_them_and_all_of_it() {
    let allowed: BTreeSet<_> = TABLE.into_iter().flat_map(|(here, all)| all.iter().map(move |there| (here, *there))).collect();
    let mut named = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| path != "lib.rs") {
        let here = room(&path);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            for (at, root) in line.match_indices("crate::").chain(line.match_indices("patchlab::")) {
                let rest = &line[at + root.len()..];
                assert!(!rest.starts_with('{'), "src/{path}: one `use` for each room: {line}");
                let place: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
                let place = place.replace("::", "/");
                let fits = |name: &&str| place == **name || place.starts_with(&format!("{name}/"));
                let Some(there) = TABLE.iter().map(|(name, _)| *name).filter(fits).max_by_key(|name| name.len()) else { continue };
                if there == here {
                    continue;
                }
                if !allowed.contains(&(here, there)) {
                    wrong.push(format!("src/{path} ({here}) names {there}: {line}"));
                }
                named.insert((here, there));
            }
        }
    }
    wrong.extend(allowed.difference(&named).map(|(here, there)| format!("{here} does not name {there}: the table need not let it")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_libvirt_adapter_names_libvirt() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.starts_with("hypervisor/libvirt/")) {
        let text = text.to_lowercase().replace("libvirt::", "");
        for word in ["virt::", "virt_sys", "unsafe {", "unsafe fn", "unsafe impl"] {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(!named, "src/{path} says {word}");
        }
    }
}

#[test]
#[ignore = "needs shellcheck: scripts/test"]
fn scripts_are_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut scripts = Vec::new();
    for folder in [".ci", "images", "scripts", "src", "test-suites"] {
        files(&root.join(folder), &mut scripts);
    }
    let is_script = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension == "sh")
            || std::fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"#!/bin/sh"))
    };
    scripts.retain(is_script);
    assert!(scripts.len() > 40, "{scripts:?}");
    // What scripts source has a name that is known at run time alone; names from there look unassigned, and those for it unused.
    let mut command = Command::new("shellcheck");
    command.args(["--shell=sh", "--severity=warning", "--exclude=SC1007,SC1090,SC2034,SC2154"]).args(scripts);
    let output = command.output().expect("shellcheck starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
