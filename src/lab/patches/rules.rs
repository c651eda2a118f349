//! What a manifest must say for its kind, and where its payload must be.

use std::collections::BTreeSet;
use std::path::Path;

use crate::catalog::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::catalog::inside::{self, plain_absolute};
use crate::catalog::lists::{patterns, time_limit, twice};
use crate::catalog::patch::PatchKind;
use crate::catalog::source::Source;
use crate::catalog::tree::{Data, Tree, join};

/// Adds what is wrong with a manifest beyond the structure of its file. Walks the tree, so that it also speaks where other parts
/// are broken.
pub(super) fn check(source: &Source, folder: &Path, diagnostics: &mut Vec<Diagnostic>) {
    let tree = &source.tree;
    payload(source, folder, diagnostics);
    for key in ["payload", "cves", "supersedes", "requires", "removes", "changes"] {
        twice(source, tree, key, diagnostics);
    }
    time_limit(source, tree, "", "timeout", diagnostics);
    patterns(source, tree, "changes", diagnostics);
    for (at, cve, item) in tree.texts_at("cves") {
        if !is_cve(cve) {
            let problem = source.error(item, format!("cves[{at}]"), "not a CVE id").found(item.describe());
            diagnostics.push(problem.expected("for example \"CVE-2024-3094\""));
        }
    }
    itself(source, diagnostics);
    for key in ["install", "uninstall", "verify"] {
        if let Some(at) = tree.get(key).filter(|at| at.text().is_some_and(|command| command.trim().is_empty() || command.contains('\0'))) {
            diagnostics.push(source.error(at, key, format!("{key} is not a command line")).found(at.describe()).hint("remove the key"));
        }
    }
    let Some(kind) = tree.get("kind").and_then(Tree::text).and_then(kind) else { return };
    foreign_keys(source, kind, diagnostics);
    match kind {
        PatchKind::Deb => deb(source, diagnostics),
        PatchKind::Script => {
            if tree.get("install").is_none() {
                let problem = source.error(tree, "install", "a script patch needs the command that applies it");
                diagnostics.push(problem.expected("a command line").hint("for example install = \"sh ./install.sh\""));
            }
        }
        PatchKind::Files => files(source, diagnostics),
        PatchKind::Diff => diff(source, diagnostics),
    }
}

fn kind(text: &str) -> Option<PatchKind> {
    match text {
        "deb" => Some(PatchKind::Deb),
        "script" => Some(PatchKind::Script),
        "files" => Some(PatchKind::Files),
        "diff" => Some(PatchKind::Diff),
        _ => None,
    }
}

/// Keys that mean something for other kinds only: silence would let someone believe that they do something.
fn foreign_keys(source: &Source, kind: PatchKind, diagnostics: &mut Vec<Diagnostic>) {
    let rules: [(&str, &[PatchKind], &str); 6] = [
        ("install", &[PatchKind::Script], "the lab knows how to apply this kind; for a command of your own use kind = \"script\""),
        ("uninstall", &[PatchKind::Script], "the lab knows how to take this kind back; for a command of your own use kind = \"script\""),
        ("file", &[PatchKind::Files], "[[file]] says where files of a \"files\" patch go"),
        ("root", &[PatchKind::Diff], "root is where the paths of a \"diff\" patch start"),
        ("strip", &[PatchKind::Diff], "strip is for the paths of a \"diff\" patch"),
        ("removes", &[PatchKind::Deb], "only a \"deb\" patch removes packages"),
    ];
    for (key, kinds, hint) in rules {
        let Some(entry) = source.tree.entry(key).filter(|_| !kinds.contains(&kind)) else { continue };
        let word = source.tree.get("kind").and_then(Tree::text).unwrap_or_default();
        diagnostics.push(
            Diagnostic::error(&source.file, format!("{key:?} has no meaning for kind = {word:?}"))
                .at(source.place(&entry.key_span))
                .key(key)
                .hint(format!("remove it: {hint}")),
        );
    }
}

fn payload(source: &Source, folder: &Path, diagnostics: &mut Vec<Diagnostic>) {
    for (at, path, item) in source.tree.texts_at("payload") {
        let key = format!("payload[{at}]");
        if path == super::candidate::MANIFEST {
            diagnostics.push(source.error(item, key, "the manifest is not part of the payload").hint("remove it from the list"));
        } else if let Err(outside) = inside::file(folder, path) {
            let problem = source.error(item, &key, format!("{key} names {outside}")).found(format!("{path:?}"));
            diagnostics.push(problem.expected("a file beside patch.toml or in a folder there").hint(outside.hint()));
        }
    }
}

fn itself(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let Some(id) = source.tree.get("id").and_then(Tree::text) else { return };
    let of = |key| source.tree.texts_at(key).map(|(_, other, _)| other).collect::<BTreeSet<_>>();
    let both: BTreeSet<_> = of("requires").intersection(&of("supersedes")).copied().collect();
    for key in ["requires", "supersedes"] {
        for (at, other, item) in source.tree.texts_at(key) {
            let path = format!("{key}[{at}]");
            if other == id {
                diagnostics.push(source.error(item, path, format!("{id:?} {key} itself")).hint("remove it"));
            } else if key == "supersedes" && both.contains(other) {
                let problem = source.error(item, path, format!("{other:?} is both required and superseded"));
                diagnostics.push(problem.hint("a patch that replaces another can't need it: remove one of the two"));
            }
        }
    }
}

fn deb(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    for (at, path, item) in source.tree.texts_at("payload") {
        if !path.ends_with(".deb") {
            let problem = source.error(item, format!("payload[{at}]"), "not a Debian package").found(format!("{path:?}"));
            diagnostics.push(problem.expected("files that end in .deb only"));
        }
    }
    for (at, name, item) in source.tree.texts_at("removes") {
        if !super::deb::is_package_name(name) {
            let problem = source.error(item, format!("removes[{at}]"), "not a package name").found(item.describe());
            diagnostics.push(problem.expected("the name of a Debian package"));
        }
    }
}

fn files(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let payload: Vec<_> = source.tree.texts_at("payload").map(|(_, path, _)| path).collect();
    let targets = source.tree.get("file").map_or(&[][..], Tree::items);
    let (mut sources, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (at, file) in targets.iter().enumerate() {
        let path = format!("file[{at}]");
        if let Some((from, name)) = file.get("source").and_then(|from| Some((from, from.text()?))) {
            sources.insert(name);
            if !payload.contains(&name) {
                let problem = source.error(from, join(&path, "source"), "not a file of the payload").found(from.describe());
                let hint = did_you_mean(name, payload.iter().copied()).unwrap_or_else(|| "add it to payload".to_owned());
                diagnostics.push(problem.expected(one_of(payload.iter().copied())).hint(hint));
            }
        }
        if let Some((to, target)) = file.get("target").and_then(|to| Some((to, to.text()?))) {
            let key = join(&path, "target");
            let kernel_made = ["/proc/", "/sys/", "/dev/"].iter().any(|start| target.starts_with(start));
            if !plain_absolute(target) || kernel_made {
                let problem = source.error(to, key, "not a place for a file in the guest").found(to.describe());
                diagnostics.push(problem.expected("the absolute path of a file, without \"..\", outside /proc, /sys and /dev"));
            } else if !seen.insert(target) {
                diagnostics.push(source.error(to, key, format!("two files go to {target:?}")).hint("remove one [[file]]"));
            }
        }
    }
    for (at, name, item) in source.tree.texts_at("payload") {
        if !sources.contains(name) {
            let problem = source.error(item, format!("payload[{at}]"), format!("nothing says where {name:?} goes"));
            diagnostics.push(problem.hint(format!("add [[file]] with source = {name:?} and target = \"/its/path\"")));
        }
    }
}

fn diff(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let tree = &source.tree;
    if let Some(payload) = tree.get("payload").filter(|payload| payload.items().len() > 1) {
        let problem = source.error(payload, "payload", "a diff patch has one payload file").found(payload.describe());
        diagnostics.push(problem.expected("one unified diff").hint("join the diffs into one file: cat a.diff b.diff > all.diff"));
    }
    if let Some((at, root)) = tree.get("root").and_then(|at| Some((at, at.text()?)))
        && root != "/"
        && !plain_absolute(root.strip_suffix('/').unwrap_or(root))
    {
        let problem = source.error(at, "root", "not a folder in the guest").found(at.describe());
        diagnostics.push(problem.expected("an absolute path without \"..\""));
    }
    if let Some(at) = tree.get("strip").filter(|at| matches!(at.data, Data::Integer(count) if count > 64)) {
        diagnostics.push(source.error(at, "strip", "more components than any path has").found(at.describe()).expected("0 to 64"));
    }
}

fn is_cve(text: &str) -> bool {
    let digits = |part: &str, least: usize| part.len() >= least && part.len() <= 19 && part.bytes().all(|c| c.is_ascii_digit());
    text.strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(year, number)| year.len() == 4 && digits(year, 4) && digits(number, 4))
}
