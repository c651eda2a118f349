//! Checks of suites: `test-suites/<suite>/suite.toml` and the scripts beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::named_file;
use crate::catalog::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::catalog::inside;
use crate::catalog::lists::{time_limit, twice};
use crate::catalog::load::Found;
use crate::catalog::source::Source;
use crate::catalog::step::{Action, Disturbance, Site};
use crate::catalog::suite::{Case, Suite, SuiteKind};
use crate::catalog::tree::{Data, Tree, join};
use crate::id::Name;

/// What of a file is looked through for what it uses.
const LONGEST_SCRIPT: u64 = 1 << 20;

pub(super) fn check(found: &Found<Suite>, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let mut names = BTreeMap::new();
    let regression = source.tree.get("kind").and_then(Tree::text) == Some("regression");
    let cases = source.tree.get("case").map_or(&[][..], Tree::items);
    for (at, case) in cases.iter().enumerate() {
        let path = format!("case[{at}]");
        if let Some((name_at, name)) = case.get("name").and_then(|at| Some((at, at.text()?)))
            && let Some(first) = names.insert(name, at)
        {
            let problem = source.error(name_at, format!("{path}.name"), format!("two cases are called {name:?}"));
            diagnostics.push(problem.expected("a name of its own for each case").hint(format!("the other one is case[{first}]")));
        }
        script(found, source, case, "run", &path, diagnostics);
        if regression && case.get("run").is_none() {
            let problem = source.error(case, join(&path, "run"), format!("{path} lacks the key \"run\""));
            diagnostics.push(problem.expected("the script in the suite's folder that is the case"));
        }
        commands(source, case, &path, diagnostics);
        leaves_nothing(found, source, case, &path, diagnostics);
        time_limit(source, case, &path, "time-limit", diagnostics);
        for (at, step) in case.get("step").map_or(&[][..], Tree::items).iter().enumerate() {
            let path = format!("{path}.step[{at}]");
            for key in ["run", "start", "expect"] {
                script(found, source, step, key, &path, diagnostics);
            }
            commands(source, step, &path, diagnostics);
            time_limit(source, step, &path, "within", diagnostics);
        }
    }
    if let Some(suite) = &found.reading.value {
        kind(suite, source, diagnostics);
    }
}

/// Reports what does not fit the suite's kind.
fn kind(suite: &Suite, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    if suite.kind == SuiteKind::Autopkgtest {
        return autopkgtest(source, diagnostics);
    }
    if let Some(entry) = source.tree.entry("autopkgtest") {
        let problem = source.error(&entry.value, "autopkgtest", "the table is for suites of another kind");
        diagnostics.push(problem.hint("remove it, or write kind = \"autopkgtest\""));
    }
    if suite.cases.is_empty() {
        let problem = source.error(&source.tree, "case", "the file lacks the key \"case\"");
        diagnostics.push(problem.expected("a list of at least one, each a table"));
    }
    let interoperability = suite.kind == SuiteKind::Interoperability;
    let at = |key: &str| source.tree.get(key).unwrap_or(&source.tree);
    if interoperability && suite.roles.len() < 2 {
        let problem = source.error(at("roles"), "roles", "an interoperability suite is about two machines or more");
        diagnostics.push(problem.expected("for example roles = [\"server\", \"client\"]"));
    } else if !interoperability && !suite.roles.is_empty() {
        let problem = source.error(at("roles"), "roles", "a regression suite runs on one machine and has no roles");
        diagnostics.push(problem.hint("remove it, or write kind = \"interoperability\""));
    }
    twice(source, &source.tree, "roles", diagnostics);
    let cases = source.tree.get("case").map_or(&[][..], Tree::items);
    for (index, (case, tree)) in suite.cases.iter().zip(cases).enumerate() {
        let path = format!("case[{index}]");
        if interoperability {
            for key in ["run", "result", "role", "needs"] {
                if let Some(entry) = tree.entry(key) {
                    let problem =
                        source.error(&entry.value, join(&path, key), format!("{key} belongs to the steps of an interoperability case"));
                    diagnostics.push(problem.hint("write it into [[case.step]]"));
                }
            }
            if case.steps.is_empty() {
                let problem = source.error(tree, join(&path, "step"), "an interoperability case without a step");
                diagnostics.push(problem.expected("at least one [[case.step]]"));
            }
            steps(suite, case, tree, source, &path, diagnostics);
        } else if let Some(entry) = tree.entry("step") {
            let problem = source.error(&entry.value, join(&path, "step"), "a regression case is one script and has no steps");
            diagnostics.push(problem.hint("name the script by `run`, or write kind = \"interoperability\""));
        }
    }
}

/// Reports what a suite that takes its cases from a source package can't say itself.
fn autopkgtest(source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    for key in ["case", "roles"] {
        if let Some(entry) = source.tree.entry(key) {
            let problem = source.error(&entry.value, key, "the tests of a suite of kind autopkgtest are those of its debian/tests/control");
            diagnostics.push(problem.hint("remove it"));
        }
    }
    match source.tree.get("autopkgtest") {
        Some(table) => time_limit(source, table, "autopkgtest", "time-limit", diagnostics),
        None => {
            let problem = source.error(&source.tree, "autopkgtest", "the file lacks the key \"autopkgtest\"");
            diagnostics.push(problem.expected("a table that says where the source package is").hint("[autopkgtest] source = \"source\""));
        }
    }
}

fn steps(suite: &Suite, case: &Case, tree: &Tree, source: &Source, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    let mut started: Vec<(&str, bool)> = Vec::new();
    let mut checks = false;
    for (index, (step, tree)) in case.steps.iter().zip(tree.get("step").map_or(&[][..], Tree::items)).enumerate() {
        let path = format!("{path}.step[{index}]");
        let action = match step.action() {
            Ok(action) => action,
            Err(problem) => {
                diagnostics.push(source.error(tree, &path, problem));
                continue;
            }
        };
        if let Some(role) = step.role.as_ref().filter(|role| !suite.roles.is_empty() && !suite.roles.contains(role)) {
            let problem =
                source.error(tree.get("role").unwrap_or(tree), join(&path, "role"), format!("the suite has no role {:?}", role.as_str()));
            diagnostics.push(problem.expected(one_of(suite.roles.iter().map(Name::as_str))).hint("add it to `roles`, or correct it"));
        }
        checks |= matches!(action, Action::Run { .. } | Action::Expect { .. } | Action::Wait(_));
        let named: &[Name] = match action {
            Action::Start { name, .. } => {
                if started.iter().any(|(other, _)| *other == name) {
                    let problem = source.error(tree, join(&path, "name"), format!("another step of the case started {name:?}"));
                    diagnostics.push(problem.hint("give this one a `name` of its own"));
                }
                started.push((name, step.ready));
                &[]
            }
            Action::Stop(name) | Action::Wait(name) => std::slice::from_ref(name),
            Action::Barrier(names) => names,
            Action::Run { .. } | Action::Expect { .. } | Action::Network(_) => &[],
        };
        for name in named.iter().filter(|name| !started.iter().any(|(other, _)| *other == name.as_str())) {
            let problem = source.error(tree, &path, format!("no step before this one started {:?}", name.as_str()));
            diagnostics.push(problem.expected(one_of(started.iter().map(|(name, _)| *name))));
        }
        for key in step.idle_keys() {
            let problem = source.error(tree.get(key).unwrap_or(tree), join(&path, key), format!("`{key}` means nothing for this step"));
            diagnostics.push(problem.hint("remove it"));
        }
        if let Action::Network(what) = action {
            for role in roles_disturbed(what).filter(|role| !suite.roles.contains(role)) {
                let at = tree.get("network").unwrap_or(tree);
                let problem = source.error(at, join(&path, "network"), format!("the suite has no role {:?}", role.as_str()));
                let roles = || suite.roles.iter().map(Name::as_str);
                diagnostics.push(problem.expected(one_of(roles())).hint_if(did_you_mean(role.as_str(), roles())));
            }
        }
    }
    if !checks && !case.steps.is_empty() {
        let problem = source.error(tree, path, "no step of the case can fail: it checks nothing");
        diagnostics.push(problem.expected("at least one `run`, `expect` or `wait`"));
    }
}

/// The roles that a disturbance names as roles.
fn roles_disturbed(what: &Disturbance) -> impl Iterator<Item = &Name> {
    let (parted, nic) = match what {
        Disturbance::Partition(roles) => (roles.as_slice(), None),
        other => (&[][..], other.site()),
    };
    let nic = nic.and_then(|site| match site {
        Site::Nic { role, .. } => Some(role),
        Site::Whole(_) => None,
    });
    parted.iter().chain(nic)
}

/// Reports a case that says that it leaves nothing and by its scripts does not.
fn leaves_nothing(found: &Found<Suite>, source: &Source, case: &Tree, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    let is = |key: &str| case.get(key).is_some_and(|at| matches!(at.data, Data::Flag(true)));
    let Some(at) = case.get("leaves-nothing").filter(|_| is("leaves-nothing")) else { return };
    let key = join(path, "leaves-nothing");
    if is("destructive") {
        let problem = source.error(at, &key, "a destructive case leaves its machine unfit");
        return diagnostics.push(problem.hint("remove one of `destructive` and `leaves-nothing`"));
    }
    let steps = case.get("step").map_or(&[][..], Tree::items);
    let named = steps.iter().chain([case]).flat_map(|table| ["run", "start", "expect"].map(|key| table.get(key)));
    let scripts: Vec<&str> = named.flatten().filter_map(Tree::text).collect();
    for variable in ["PATCHLAB_KEEP", "PATCHLAB_PHASE"] {
        if let Some(file) = mentions(found, &scripts, variable) {
            let problem = source.error(at, &key, format!("{file} uses ${variable}: what it does patched hangs on its own baseline"));
            diagnostics.push(problem.hint("remove `leaves-nothing`, or the variable"));
        }
    }
}

/// The first of these scripts, or of the suite's files that they name, that has a word in it. None where a script or another file of the
/// suite can't be used: that is said elsewhere.
fn mentions(found: &Found<Suite>, scripts: &[&str], word: &str) -> Option<String> {
    if scripts.iter().any(|script| inside::file(&found.folder, script).is_err()) {
        return None;
    }
    let mut others = inside::files(&found.folder, &found.shown).ok()?;
    let mut open: Vec<String> = scripts.iter().map(|script| (*script).to_owned()).collect();
    others.retain(|file| !open.contains(file));
    while let Some(file) = open.pop() {
        let text = beginning(&found.folder.join(&file));
        if text.contains(word) {
            return Some(file);
        }
        // By its own name, or by that of a folder: whatever is in one may be used.
        let (named, rest) = others.into_iter().partition(|other| other.split('/').any(|part| text.contains(part)));
        others = rest;
        open.extend::<BTreeSet<String>>(named);
    }
    None
}

/// As much of a file as a script can be long.
fn beginning(file: &Path) -> String {
    let mut bytes = Vec::new();
    // What can't be read to its end is looked at as far as it can.
    let _ = File::open(file).and_then(|file| file.take(LONGEST_SCRIPT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reports a script that is not there or that no guest could start.
fn script(found: &Found<Suite>, source: &Source, table: &Tree, key: &str, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    let Some(at) = table.get(key) else { return };
    let key = join(path, key);
    if let Some(file) = named_file(found, source, at, &key, diagnostics) {
        runnable(source, at, &key, &file, diagnostics);
    }
}

fn commands(source: &Source, table: &Tree, path: &str, diagnostics: &mut Vec<Diagnostic>) {
    for (at, command, item) in table.texts_at("needs") {
        if command.is_empty() || command.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let problem = source.error(item, format!("{path}.needs[{at}]"), "not the name of a command").found(item.describe());
            diagnostics.push(problem.expected("one command to an entry, for example \"curl\""));
        }
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
