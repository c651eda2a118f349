//! Suites that others have written in a Linux guest, as job steps: what makes a clone fit for them, and one test.

use std::time::Duration;

use super::RUNNER_ROOT;
use super::apply::lab_step;
use crate::catalog::autopkgtest::{Program, Test};
use crate::guest::JobStep;

const PREPARE: &str = include_str!("prepare.sh");
const RUN: &str = include_str!("autopkgtest.sh");

/// Installing a compiler and its friends under emulation takes long.
const PREPARE_LIMIT: Duration = Duration::from_secs(3600);

/// Installs a suite's packages, and makes the accounts that its tests run as.
pub fn prepare_step(suite: &str, packages: &[String]) -> JobStep {
    let env = [("folder", format!("{RUNNER_ROOT}/media/packages/{suite}")), ("packages", packages.join("\n"))];
    lab_step(PREPARE, env, PREPARE_LIMIT)
}

/// Runs a test, or goes on with it after a restart. `alone`: on a clone of its own.
pub fn test_step(suite: &str, case: &str, test: &Test, alone: bool, again: bool, limit: Duration) -> JobStep {
    let (file, command) = match &test.program {
        Program::File(file) => (file.clone(), String::new()),
        Program::Command(command) => (String::new(), command.clone()),
    };
    let env = [
        ("suite", suite.to_string()),
        ("case", case.to_string()),
        ("source", format!("{RUNNER_ROOT}/media/suites/{suite}/{}", test.source)),
        ("file", file),
        ("command", command),
        ("user", test.user.as_str().to_owned()),
        ("again", u8::from(again).to_string()),
        ("alone", u8::from(alone).to_string()),
    ];
    lab_step(RUN, env, limit)
}
