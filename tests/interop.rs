//! The interoperability suites: patches that break something between machines are found at the right patch
//! levels, in the right case, and nowhere else.

#[path = "common/command.rs"]
mod command;
#[path = "common/shared_state.rs"]
mod shared_state;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use patchlab::catalog::Catalog;
use patchlab::catalog::suite::SuiteKind;
use serde_json::Value;
use shared_state::shared_state;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// Which breaks to try on machines besides the one that always is: names with commas between, or `all`.
const BREAKS: &str = "PATCHLAB_TEST_BREAKS";

/// A level and a case at which something has to be found.
type Place = (String, String);

fn breaks() -> Vec<String> {
    let folders = std::fs::read_dir(Path::new(REPOSITORY).join("tests/patches-interop")).expect("a folder");
    let folders = folders.flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

/// What `expected.txt` says: `fail regression LEVELS SUITE/CASE`.
fn expected(name: &str) -> BTreeSet<Place> {
    let text = std::fs::read_to_string(format!("{REPOSITORY}/tests/patches-interop/{name}/expected.txt")).expect("an expectation");
    let line = |line: &str| -> Vec<Place> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["fail", "regression", levels, case] = words.as_slice() else {
            panic!("{name}: {line:?} is not \"fail regression LEVELS SUITE/CASE\"")
        };
        levels.split(',').map(|level| (level.to_owned(), (*case).to_owned())).collect()
    };
    text.lines().flat_map(line).collect()
}

/// The environment of acme's in which all the suites of a break are.
fn environment(catalog: &Catalog, places: &BTreeSet<Place>) -> String {
    let suites: BTreeSet<&str> = places.iter().filter_map(|(_, case)| case.split_once('/')).map(|(suite, _)| suite).collect();
    let acme = catalog.customers.get(&"acme".parse().expect("a name")).expect("acme");
    let fits = |environment: &&patchlab::catalog::environment::Environment| {
        suites.iter().all(|suite| environment.suites.iter().any(|one| one.as_str() == *suite))
    };
    let office = acme.environments.iter().rev().find(|(_, environment)| fits(environment));
    office.map(|(name, _)| name.to_string()).unwrap_or_else(|| panic!("no environment has all of {suites:?}"))
}

fn catalog() -> Catalog {
    Catalog::load(Path::new(REPOSITORY)).expect("a sound catalog")
}

#[test]
fn every_break_expects_what_the_catalog_has() {
    let catalog = catalog();
    assert!(!breaks().is_empty());
    for name in breaks() {
        let places = expected(&name);
        assert!(!places.is_empty(), "{name} expects nothing");
        environment(&catalog, &places);
        for (level, case) in &places {
            assert!(["server", "client", "all"].contains(&level.as_str()), "{name}: {level}");
            let (suite, case) = case.split_once('/').expect("SUITE/CASE");
            let entry = catalog.suites.get(&suite.parse().expect("a name")).unwrap_or_else(|| panic!("{name}: no suite {suite}"));
            assert!(entry.suite.cases.iter().any(|one| one.name.as_str() == case), "{name}: {suite} has no case {case}");
        }
    }
}

#[test]
fn every_interoperability_suite_is_broken_by_some_patch() {
    let broken: BTreeSet<String> = breaks().iter().flat_map(|name| expected(name)).map(|(_, case)| case).collect();
    for (name, entry) in catalog().suites.iter().filter(|(_, entry)| entry.suite.kind == SuiteKind::Interoperability) {
        assert!(entry.suite.cases.iter().any(|case| broken.contains(&format!("{name}/{}", case.name))), "no patch breaks {name}");
    }
}

/// What a break is found to break, on machines: of these suites, at these levels.
fn found(name: &str, environment: &str, level: Option<&str>, suites: &BTreeSet<String>) -> (BTreeSet<Place>, Value) {
    let state = shared_state();
    let mut command = command::patchlab(REPOSITORY, state.path());
    command.arg("run").arg(format!("{REPOSITORY}/tests/patches-interop/{name}"));
    command.args(["--format", "json", "--customer", "acme", "--environment", environment, "--workers", "1"]);
    command.args(level.iter().flat_map(|level| ["--level", level]));
    command.args(suites.iter().flat_map(|suite| ["--suite", suite]));
    let output = command.stderr(Stdio::inherit()).output().expect("patchlab starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{bad}: {text}"));
    let mut places = BTreeSet::new();
    for cell in report["cells"].as_array().expect("cells") {
        let level = cell["id"].as_str().and_then(|id| id.split(':').next_back()).expect("a level");
        for case in cell["cases"].as_array().expect("cases") {
            let name = format!("{}/{}", case["suite"].as_str().expect("a suite"), case["case"].as_str().expect("a case"));
            match case["comparison"].as_str() {
                Some("unchanged" | "skipped") => {}
                Some("regression") => {
                    places.insert((level.to_owned(), name));
                }
                other => panic!("{name} at {level}: {other:?}\n{report:#}"),
            }
        }
    }
    (places, report)
}

fn suites(places: &BTreeSet<Place>) -> BTreeSet<String> {
    places.iter().filter_map(|(_, case)| case.split_once('/')).map(|(suite, _)| suite.to_owned()).collect()
}

#[test]
#[ignore = "needs golden images: scripts/test"]
fn a_server_that_gives_up_too_soon_is_found_where_it_is() {
    let places = expected("gives-up-soon");
    let (found, report) = found("gives-up-soon", "office", Some("server"), &suites(&places));
    let expected: BTreeSet<Place> = places.into_iter().filter(|(level, _)| level == "server").collect();
    assert_eq!(found, expected, "{report:#}");
    assert_eq!(report["verdict"], "fail");
}

/// A quarter of an hour and more each, so only those that are asked for; some need the image acme-office.
#[test]
#[ignore = "needs golden images, and PATCHLAB_TEST_BREAKS"]
fn every_break_is_found_where_it_is_and_nowhere_else() {
    let wanted = std::env::var(BREAKS).unwrap_or_else(|_| panic!("{BREAKS} names the breaks to try, with commas between, or says all"));
    let catalog = catalog();
    let chosen: Vec<_> = breaks().into_iter().filter(|name| wanted == "all" || wanted.split(',').any(|one| one == *name)).collect();
    assert!(!chosen.is_empty(), "{BREAKS}={wanted} names no folder of tests/patches-interop");
    for name in &chosen {
        let places = expected(name);
        let (found, report) = found(name, &environment(&catalog, &places), None, &suites(&places));
        assert_eq!(found, places, "{name}: {report:#}");
    }
}
