//! Checks of suites: `test-suites/<suite>/suite.toml` and the scripts beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::named_file;
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::lists::time_limit;
use crate::catalog::load::Found;
use crate::catalog::source::Source;
use crate::catalog::suite::Suite;
use crate::catalog::tree::Tree;

pub(super) fn check(found: &Found<Suite>, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let mut names = BTreeMap::new();
    let cases = source.tree.get("case").map_or(&[][..], Tree::items);
    for (at, case) in cases.iter().enumerate() {
        let path = format!("case[{at}]");
        if let Some((name_at, name)) = case.get("name").and_then(|at| Some((at, at.text()?)))
            && let Some(first) = names.insert(name, at)
        {
            let problem = source.error(name_at, format!("{path}.name"), format!("two cases are called {name:?}"));
            diagnostics.push(problem.expected("a name of its own for each case").hint(format!("the other one is case[{first}]")));
        }
        if let Some(run) = case.get("run") {
            let key = format!("{path}.run");
            if let Some(file) = named_file(found, source, run, &key, diagnostics) {
                runnable(source, run, &key, &file, diagnostics);
            }
        }
        for (at, command, item) in case.texts_at("needs") {
            if command.is_empty() || command.chars().any(|c| c.is_whitespace() || c.is_control()) {
                let problem = source.error(item, format!("{path}.needs[{at}]"), "not the name of a command").found(item.describe());
                diagnostics.push(problem.expected("one command to an entry, for example \"curl\""));
            }
        }
        time_limit(source, case, &path, "time-limit", diagnostics);
    }
}

/// Reports a script that the guest could not start.
fn runnable(source: &Source, at: &Tree, key: &str, file: &Path, diagnostics: &mut Vec<Diagnostic>) {
    let shown = at.text().unwrap_or_default();
    let executable = fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o111 != 0);
    if !executable {
        let problem = source.error(at, key, format!("the script {shown:?} is not executable"));
        diagnostics.push(problem.hint(format!("chmod +x {}", source.file.with_file_name(shown).display())));
    }
    let mut start = [0; 2];
    let named = File::open(file).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"#!";
    if !named {
        let problem = source.error(at, key, format!("the script {shown:?} does not name its interpreter"));
        diagnostics.push(problem.expected("a first line that starts with \"#!\"").hint("start it with \"#!/bin/sh\""));
    }
}
