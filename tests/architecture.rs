//! Holds the house to its plan: which room may name which, by their `use` lines and paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may name. Adapters are rooms of their own.
const TABLE: [(&str, &[&str]); 19] = [
    ("id", &[]),
    ("catalog", &["id"]),
    ("plan", &["catalog", "id"]),
    ("cell", &["catalog", "id", "journal", "plan", "verdict"]),
    ("verdict", &["catalog", "cell", "id", "journal", "plan"]),
    ("journal", &["cell", "id", "plan", "verdict"]),
    ("hypervisor", &["catalog", "hypervisor/segments", "id", "journal"]),
    ("hypervisor/libvirt", &["catalog", "hypervisor", "hypervisor/segments", "id", "journal"]),
    ("hypervisor/segments", &["hypervisor", "id"]),
    ("hypervisor/sim", &["catalog", "cell", "guest", "hypervisor", "hypervisor/segments", "id", "journal"]),
    ("guest", &["catalog", "cell", "hypervisor", "id", "plan"]),
    ("guest/agent", &["catalog", "cell", "guest", "hypervisor", "hypervisor/segments", "id", "journal"]),
    ("guest/sim", &["catalog", "cell", "guest", "hypervisor", "hypervisor/sim"]),
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

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources are readable") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
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
fn rooms_name_only_what_the_table_lets_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<_, _> = TABLE.into_iter().collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        if path == "lib.rs" {
            continue;
        }
        let here = room(&path);
        let text = std::fs::read_to_string(&file).expect("a source is text");
        let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        for line in code {
            for (at, _) in line.match_indices("crate::") {
                let named: String = line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
                let named = named.replace("::", "/");
                let there = TABLE
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| named == *name || named.starts_with(&format!("{name}/")))
                    .max_by_key(|name| name.len());
                let Some(there) = there else { continue };
                if there != here && !allowed[here].contains(&there) {
                    wrong.push(format!("src/{path} ({here}) names {there}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_libvirt_adapter_names_libvirt() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files.iter().filter(|file| !file.starts_with(root.join("hypervisor/libvirt"))) {
        let text = std::fs::read_to_string(file).expect("a source is text").to_lowercase().replace("libvirt::", "");
        for word in ["virt::", "virt_sys", "unsafe {", "unsafe fn", "unsafe impl"] {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(!named, "{} says {word}", file.display());
        }
    }
}
