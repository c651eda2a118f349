//! What the end of an autopkgtest means. The lab's own driver runs it (`guest/linux/autopkgtest.sh`) and says in the result file, a line
//! each, what an exit code can't: `ran`, `stderr TEXT`, `reboot MARK`, `unasked`, `broken REASON`.

use crate::catalog::autopkgtest::Test;
use crate::cell::CaseOutcome;

use super::{CaseResult, Reading, ScriptEnd, ScriptReport, conclude, last_line, last_words, letters};

/// What a part of a test's run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It ended, well or not.
    Ended,
    /// It wants the machine restarted and to be called again with this mark.
    Reboot(String),
    /// The machine restarted, and the test had not prepared for it.
    Unasked,
}

/// What the driver says of a part.
pub fn part(result: Option<&[u8]>) -> Part {
    let said = Said::of(result);
    match (said.reboot, said.unasked) {
        (Some(mark), _) => Part::Reboot(mark),
        (None, true) => Part::Unasked,
        (None, false) => Part::Ended,
    }
}

#[derive(Debug, Default)]
struct Said {
    ran: bool,
    stderr: Option<String>,
    reboot: Option<String>,
    unasked: bool,
    broken: Option<String>,
}

impl Said {
    fn of(result: Option<&[u8]>) -> Self {
        let text = String::from_utf8_lossy(result.unwrap_or_default());
        let mut said = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = || rest.chars().take(400).collect::<String>();
            match word {
                "ran" => said.ran = true,
                "stderr" => said.stderr = Some(rest()),
                "reboot" => said.reboot = Some(rest()),
                "unasked" => said.unasked = true,
                "broken" => said.broken = Some(rest()),
                _ => {}
            }
        }
        said
    }
}

/// What a test found, by autopkgtest's rules: a pass is exit code 0 with nothing on standard error, unless that is allowed.
pub fn read(test: &Test, report: &ScriptReport<'_>) -> CaseResult {
    let output = String::from_utf8_lossy(report.output);
    let said = Said::of(report.result);
    let reading = match report.end {
        ScriptEnd::TimedOut => Reading::new(CaseOutcome::TimedOut, "did not end within its time limit"),
        ScriptEnd::Lacks(command) => Reading::new(CaseOutcome::Skip, format!("needs {command}, which this machine does not have")),
        _ if said.broken.is_some() => {
            Reading::new(CaseOutcome::HarnessError, format!("could not be run: {}", said.broken.as_deref().unwrap_or_default()))
        }
        _ if !said.ran => Reading::new(CaseOutcome::HarnessError, "its driver ended without a word about it"),
        ScriptEnd::Asked => Reading::new(CaseOutcome::Fail, "waited for an answer on its terminal"),
        ScriptEnd::Signal(signal) => Reading::new(CaseOutcome::Fail, format!("ended by signal {signal}{}", last_words(&output)))
            .with_essence(vec![format!("signal-{}", letters(*signal))]),
        ScriptEnd::Exit(77) if test.skippable => {
            Reading::new(CaseOutcome::Skip, format!("exit code 77, and it is skippable{}", last_words(&output)))
        }
        ScriptEnd::Exit(0) => match &said.stderr {
            Some(first) if !test.allow_stderr => {
                Reading::new(CaseOutcome::Fail, format!("exit code 0, but it wrote to standard error: {first}"))
                    .with_essence(vec!["stderr".to_owned(), first.clone()])
            }
            _ if test.superficial => Reading::new(CaseOutcome::Pass, "superficial: its pass says little"),
            _ => Reading::new(CaseOutcome::Pass, ""),
        },
        ScriptEnd::Exit(code) => Reading::new(CaseOutcome::Fail, format!("exit code {code}{}", last_words(&output)))
            .with_essence(vec![format!("exit-{}", letters(*code)), last_line(&output).unwrap_or_default().to_owned()]),
    };
    let excused = test.flaky && matches!(reading.outcome, CaseOutcome::Fail | CaseOutcome::TimedOut);
    let reading = if excused {
        Reading::new(CaseOutcome::FlakyFailure, format!("failed, and its suite declares it flaky: {}", reading.message))
    } else {
        reading
    };
    conclude(reading, &output)
}

/// A test that is not run at all.
pub fn skipped(reason: &str) -> CaseResult {
    conclude(Reading::new(CaseOutcome::Skip, reason), "")
}

/// A test that wants one restart after the other.
pub fn restless(test: &Test, restarts: u32, output: &[u8]) -> CaseResult {
    let outcome = if test.flaky { CaseOutcome::FlakyFailure } else { CaseOutcome::Fail };
    conclude(Reading::new(outcome, format!("asked for more than {restarts} restarts")), &String::from_utf8_lossy(output))
}

#[cfg(test)]
mod tests {
    use CaseOutcome::{Fail, FlakyFailure, HarnessError, Pass, Skip, TimedOut};
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::autopkgtest::{Program, User};

    fn test(restrictions: &str) -> Test {
        let has = |one: &str| restrictions.split(' ').any(|other| other == one);
        Test {
            name: "t".to_owned(),
            program: Program::File("debian/tests/t".to_owned()),
            source: "source".to_owned(),
            user: User::Ordinary,
            depends: String::new(),
            allow_stderr: has("allow-stderr"),
            skippable: has("skippable"),
            flaky: has("flaky"),
            superficial: has("superficial"),
            skip: None,
        }
    }

    fn seen(restrictions: &str, end: ScriptEnd, result: &str) -> (CaseOutcome, String) {
        let report = ScriptReport { end: &end, output: b"first\nlast\n", truncated: false, result: Some(result.as_bytes()) };
        let read = read(&test(restrictions), &report);
        assert_eq!(read.fingerprint.is_some(), matches!(read.outcome, Fail | TimedOut));
        (read.outcome, read.message)
    }

    #[test]
    fn ends_by_table() {
        use ScriptEnd::{Exit, Signal, TimedOut as Late};
        let warned = "stderr warning: x\nran\n";
        for (restrictions, end, result, outcome, message) in [
            ("", Exit(0), "ran", Pass, ""),
            ("superficial", Exit(0), "ran", Pass, "superficial: its pass says little"),
            ("superficial", Exit(1), "ran", Fail, "exit code 1: last"),
            ("flaky", Exit(0), "ran", Pass, ""),
            ("", Exit(0), warned, Fail, "exit code 0, but it wrote to standard error: warning: x"),
            ("allow-stderr", Exit(0), warned, Pass, ""),
            ("allow-stderr", Exit(2), warned, Fail, "exit code 2: last"),
            ("", Exit(77), "ran", Fail, "exit code 77: last"),
            ("skippable", Exit(77), "ran", Skip, "exit code 77, and it is skippable: last"),
            ("skippable", Exit(77), warned, Skip, "exit code 77, and it is skippable: last"),
            ("skippable", Exit(78), "ran", Fail, "exit code 78: last"),
            ("", Exit(99), "ran", Fail, "exit code 99: last"),
            ("", Signal(9), "ran", Fail, "ended by signal 9: last"),
            ("", Late, "", TimedOut, "did not end within its time limit"),
            ("flaky", Exit(1), "ran", FlakyFailure, "failed, and its suite declares it flaky: exit code 1: last"),
            ("flaky", Late, "", FlakyFailure, "failed, and its suite declares it flaky: did not end within its time limit"),
            (
                "flaky",
                Exit(0),
                warned,
                FlakyFailure,
                "failed, and its suite declares it flaky: exit code 0, but it wrote to standard error: warning: x",
            ),
            ("", Exit(0), "", HarnessError, "its driver ended without a word about it"),
            ("flaky", Exit(1), "broken no room\nran", HarnessError, "could not be run: no room"),
        ] {
            assert_eq!(seen(restrictions, end.clone(), result), (outcome, message.to_owned()), "{restrictions:?} {end:?} {result:?}");
        }
    }

    #[test]
    fn parts_by_table() {
        for (result, expected) in [
            ("reboot mark 1\n", Part::Reboot("mark 1".to_owned())),
            ("ran\nstderr reboot x\n", Part::Ended),
            ("unasked\n", Part::Unasked),
            ("", Part::Ended),
        ] {
            assert_eq!(part(Some(result.as_bytes())), expected, "{result:?}");
        }
        assert_eq!(part(None), Part::Ended);
    }

    proptest! {
        #[test]
        fn only_a_word_of_the_driver_makes_a_pass(result in prop::collection::vec(any::<u8>(), 0..60), code in -3..200i64, flags in 0..16u8) {
            let names = ["allow-stderr", "skippable", "flaky", "superficial"];
            let restrictions: Vec<_> = names.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, name)| *name).collect();
            let report = ScriptReport { end: &ScriptEnd::Exit(code), output: &result, truncated: false, result: Some(&result) };
            let outcome = read(&test(&restrictions.join(" ")), &report).outcome;
            let ran = String::from_utf8_lossy(&result).lines().any(|line| line.split(' ').next() == Some("ran"));
            prop_assert!(outcome != Pass || (code == 0 && ran));
        }
    }
}
