use proptest::prelude::*;

use super::*;

fn case(form: ResultForm, end: ScriptEnd, output: &str, result: Option<&str>) -> CaseResult {
    read(form, &ScriptReport { end: &end, output: output.as_bytes(), truncated: false, result: result.map(str::as_bytes) })
}

#[test]
fn exit_codes_speak() {
    for (end, outcome) in [
        (ScriptEnd::Exit(0), CaseOutcome::Pass),
        (ScriptEnd::Exit(1), CaseOutcome::Fail),
        (ScriptEnd::Exit(124), CaseOutcome::Fail),
        (ScriptEnd::Exit(-1), CaseOutcome::Fail),
        (ScriptEnd::Exit(77), CaseOutcome::Skip),
        (ScriptEnd::Exit(99), CaseOutcome::HarnessError),
        (ScriptEnd::Signal(11), CaseOutcome::Fail),
        (ScriptEnd::TimedOut, CaseOutcome::TimedOut),
        (ScriptEnd::Asked, CaseOutcome::Fail),
        (ScriptEnd::Lacks("curl".to_owned()), CaseOutcome::Skip),
    ] {
        let result = case(ResultForm::Exit, end.clone(), "", None);
        assert_eq!(result.outcome, outcome, "{end:?}");
        assert_eq!(result.fingerprint.is_some(), matches!(outcome, CaseOutcome::Fail | CaseOutcome::TimedOut), "{end:?}");
        assert_eq!(result.message.is_empty(), outcome == CaseOutcome::Pass, "{end:?} says why");
    }
    let one = case(ResultForm::Exit, ScriptEnd::Exit(1), "step\nconnection to 10.0.0.1:80 refused\n\n", None);
    assert_eq!(one.message, "exit code 1: connection to 10.0.0.1:80 refused");
    assert_eq!(one.fingerprint, case(ResultForm::Exit, ScriptEnd::Exit(1), "connection to 10.0.0.9:81 refused", None).fingerprint);
    assert_ne!(one.fingerprint, case(ResultForm::Exit, ScriptEnd::Exit(2), "connection to 10.0.0.9:81 refused", None).fingerprint);
}

#[test]
fn tap_speaks() {
    use CaseOutcome::{Fail, HarnessError, Pass, Skip};
    for (code, output, outcome, message) in [
        (0, "TAP version 13\n1..2\nok 1 - a\nok 2 - b\n", Pass, ""),
        (0, "ok 1\nnoise\nok\n1..2\n", Pass, ""),
        (0, "TAP version 14\n1..1\n# Subtest: x\n    not ok 1 - inner\n    1..1\nok 1 - x\n", Pass, ""),
        (0, "1..2\nok 1 - a\nnot ok 2 - b # TODO later\n", Pass, ""),
        (0, "1..2\nok 1 - a\nok 2 - b # SKIP no ipv6\n", Pass, ""),
        (0, "1..1\nok 1 - price \\# SKIP\n", Pass, ""),
        (0, "1..2\nok 1 - a\nnot ok 2 - b\n", Fail, "1 of 2 failed: b"),
        (1, "1..3\nnot ok 1 - a\nnot ok 2 - b\nnot ok 3 - c\n", Fail, "3 of 3 failed: a, b and 1 more"),
        (0, "1..3\nok 1 - a\n", Fail, "3 tests were planned and 1 ran"),
        (0, "1..1\nok 1\nok 2\n", Fail, "1 tests were planned and 2 ran"),
        (0, "1..2\nok 1\nok 1\n", Fail, "2 tests were planned and 1 ran"),
        (0, "1..2\nok 1\nok 3\n", Fail, "its tests are numbered wrongly"),
        (0, "ok 1 - a\n", Fail, "there is no test plan in its output"),
        (0, "", Fail, "there is no test plan in its output"),
        (0, "1..2\nok 1\nBail out! disk on fire\nok 2\n", Fail, "bailed out: disk on fire"),
        (1, "1..1\nok 1\n", Fail, "every test is ok, but the exit code is 1: ok 1"),
        (0, "1..0 # SKIP no nginx here\n", Skip, "no nginx here"),
        (0, "1..1\nok 1 - tls # skip no openssl\n", Skip, "every test is skipped: tls: no openssl"),
        (77, "no nginx\n", Skip, "no nginx"),
        (0, "1..0\n", HarnessError, "its test plan is empty and it gives no reason"),
        (0, "1..99999999999999999999999999\nok 18446744073709551615\n", Fail, "there is no test plan in its output"),
    ] {
        let result = case(ResultForm::Tap, ScriptEnd::Exit(code), output, None);
        assert_eq!((result.outcome, result.message.as_str()), (outcome, message), "{output}");
    }
    let fingerprint = |output| case(ResultForm::Tap, ScriptEnd::Exit(0), output, None).fingerprint;
    assert_eq!(fingerprint("1..2\nnot ok 1 - a\nnot ok 2 - b took 12ms\n"), fingerprint("1..2\nnot ok 1 - b took 7ms\nnot ok 2 - a\n"));
    assert_ne!(fingerprint("1..2\nnot ok 1 - a\nok 2 - b\n"), fingerprint("1..2\nok 1 - a\nnot ok 2 - b\n"));
}

#[test]
fn a_pass_names_the_tests_that_it_skipped() {
    let tap = |output| case(ResultForm::Tap, ScriptEnd::Exit(0), output, None).skipped;
    let junit = |xml| case(ResultForm::Junit, ScriptEnd::Exit(0), "", Some(xml)).skipped;
    assert_eq!(tap("1..3\nok 1 - a\nok 2 - tls 1234 # SKIP tls is gone\nok 3 - dns # SKIP\n"), ["dns", "tls #"]);
    assert_eq!(tap("1..2\nok 1 - a\nok 2 - b\n"), [""; 0]);
    assert_eq!(tap("1..1\nok 1 - a # SKIP\n"), [""; 0], "it did not pass");
    let suite = "<testsuite><testcase name='a'/><testcase classname='web' name='tls'><skipped/></testcase></testsuite>";
    assert_eq!(junit(suite), ["web.tls"]);
}

/// A patch that makes a case chattier is not to blame for what the lab did not keep.
#[test]
fn tap_that_the_lab_cut_says_nothing_by_its_plan() {
    use CaseOutcome::{Fail, HarnessError, Pass};
    for (code, output, outcome) in [
        (0, "ok 1 - a\n", HarnessError),
        (0, "1..3\nok 1 - a\n", HarnessError),
        (0, "1..2\nok 1\nok 3\n", HarnessError),
        (0, "1..2\nok 1\nok 2\n", Pass),
        (0, "1..3\nnot ok 1 - a\n", Fail),
        (1, "1..3\nok 1 - a\n", Fail),
    ] {
        let report = ScriptReport { end: &ScriptEnd::Exit(code), output: output.as_bytes(), truncated: true, result: None };
        let result = read(ResultForm::Tap, &report);
        assert_eq!(result.outcome, outcome, "{code} {output}: {}", result.message);
    }
}

#[test]
fn junit_speaks() {
    use CaseOutcome::{Fail, HarnessError, Pass, Skip};
    let bomb = format!(
        "<!DOCTYPE x [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;&a;\">]><testsuite name='&b;'><testcase name='&b;'>&b;</testcase></testsuite>",
        "A".repeat(1000)
    );
    for (code, xml, outcome, message) in [
        (0, "<testsuite tests='1' failures='0'><testcase name='a'/></testsuite>", Pass, ""),
        (
            0,
            "<?xml version='1.0'?>\n<testsuites><testsuite><testcase name='a'/></testsuite><testsuite><testcase name='b'><skipped/></testcase></testsuite></testsuites>\n",
            Pass,
            "",
        ),
        (0, bomb.as_str(), Pass, ""),
        (
            0,
            "<testsuite><testcase classname='k' name='a'><failure message='1 &lt; 2'>x</failure></testcase></testsuite>",
            Fail,
            "1 of 1 failed: k.a: 1 < 2",
        ),
        (0, "<testsuite tests='9'><testcase name='a'><error/></testcase></testsuite>", Fail, "1 of 1 failed: a"),
        (1, "<testsuite><testcase name='a'/></testsuite>", Fail, "every test passed, but the exit code is 1"),
        (0, "<testsuite><testcase name='a'><skipped/></testcase></testsuite>", Skip, "every test is skipped"),
        (
            0,
            "<testsuite tests='2'><testcase name='a'/></testsuite>",
            HarnessError,
            "its result file contradicts itself: suite \"\" claims \"2\" tests and has 1",
        ),
        (
            0,
            "<testsuite failures='1'><testcase name='a'/></testsuite>",
            HarnessError,
            "its result file contradicts itself: suite \"\" claims \"1\" failures and has 0",
        ),
        (0, "<testsuite tests='0'/>", HarnessError, "its result file has no test in it"),
        (0, "<testsuite><testcase name='a'/>", HarnessError, "its result file is not readable: it ends in the middle"),
        (0, "hello", HarnessError, "its result file is not readable: there is text outside of its elements"),
        (0, "<html></html>", HarnessError, "its result file is not readable: its root is <html>"),
        (0, "<testsuite/><testsuite/>", HarnessError, "its result file is not readable: its root is <testsuite>"),
        (0, "", HarnessError, "it wrote no result file"),
        (1, "", Fail, "exit code 1 and no result file"),
    ] {
        let result = case(ResultForm::Junit, ScriptEnd::Exit(code), "", Some(xml));
        assert_eq!((result.outcome, result.message.as_str()), (outcome, message), "{xml}");
    }
    let crossed = case(ResultForm::Junit, ScriptEnd::Exit(0), "", Some("<testsuite><testcase name='a'></testsuite></testcase>"));
    assert_eq!(crossed.outcome, HarnessError);
    let deep = format!("{}{}", "<testsuite>".repeat(5000), "</testsuite>".repeat(5000));
    assert_eq!(case(ResultForm::Junit, ScriptEnd::Exit(0), "", Some(&deep)).outcome, HarnessError);
}

fn forms() -> impl Strategy<Value = ResultForm> {
    prop_oneof![Just(ResultForm::Exit), Just(ResultForm::Tap), Just(ResultForm::Junit)]
}

proptest! {
    #[test]
    fn any_bytes_are_judged(form in forms(), code in -3i64..130, output in any::<Vec<u8>>(), result in any::<Option<Vec<u8>>>(), truncated: bool) {
        let read = read(form, &ScriptReport { end: &ScriptEnd::Exit(code), output: &output, truncated, result: result.as_deref() });
        prop_assert!(read.outcome != CaseOutcome::Pass || code == 0);
        prop_assert!(!read.message.contains('\n'));
    }

    #[test]
    fn tap_like_text_is_judged(lines in prop::collection::vec("(1\\.\\.[0-9]{1,3}|(not )?ok( [0-9]{1,20})?( - [a-z#\\\\é]{0,5})?( # ?(SKIP|TODO|x)[a-z ]{0,4})?|Bail out!)", 0..12)) {
        let output = lines.join("\n");
        let result = case(ResultForm::Tap, ScriptEnd::Exit(0), &output, None);
        let bad = lines.iter().any(|line| line.starts_with("not ok") && !line.contains('#')) || lines.iter().any(|line| line.starts_with("Bail out!"));
        prop_assert!(!(bad && result.outcome == CaseOutcome::Pass), "{output}");
    }

    #[test]
    fn xml_like_text_is_judged(text in "(<(/)?(testsuites|testsuite|testcase|failure|x)( (tests|name)='[0-9&a;]{0,4}')?(/)?>|[a-z&;]{0,3}){0,20}") {
        let _ = case(ResultForm::Junit, ScriptEnd::Exit(0), "", Some(&text));
    }
}
