use proptest::prelude::*;

use super::*;

const DEBIAN_CONTROL: &str = "Source: jq
Build-Depends: debhelper (>= 13), libfoo-dev [linux-any] <!nocheck>,
# a comment
 flex,
Build-Depends-Indep: ruby

Package: jq
Architecture: any
Recommends: jq-doc (= ${binary:Version}), less | more, ${misc:Recommends}

Package: libjq1
Architecture: amd64 arm64

Package: jq-udeb
Package-Type: udeb
Architecture: any
";

fn settings() -> Source {
    Source { source: "source".to_owned(), time_limit: Span::secs(60), leaves_nothing: false }
}

fn read(control: &str) -> Result<Vec<Case>, Broken> {
    cases(control, &settings(), Some(&SourcePackage::parse(DEBIAN_CONTROL).expect("a control file")))
}

fn tests(control: &str) -> Vec<(Case, Test)> {
    let pair = |case: Case| (case.clone(), case.autopkgtest.expect("a test"));
    read(control).expect("cases").into_iter().map(pair).collect()
}

fn only(control: &str) -> (Case, Test) {
    let [one] = tests(control).try_into().expect("one test");
    one
}

#[test]
fn stanzas_become_cases() {
    let all = tests(
        "# whole comment\nTests: fred, bill\n bongo # the last\nDepends: a,\n# not the end\n b (>= 2) | c\nRestrictions: needs-root, allow-stderr\n\n\n\
         Test-Command: foo --list '#' x\nDepends:\n\nTest-Command: bar\nFeatures: test-name=a_bar, other\nTests-Directory: t\n\n\
         Tests: smoke\nTests-Directory: t/x/\nClasses: desktop\n",
    );
    let names: Vec<&str> = all.iter().map(|(case, _)| case.name.as_str()).collect();
    assert_eq!(names, ["fred", "bill", "bongo", "command1", "a_bar", "smoke"]);
    let (case, fred) = &all[0];
    assert_eq!((fred.depends.as_str(), fred.user, fred.allow_stderr, case.destructive), ("a, b (>= 2) | c", User::Root, true, false));
    assert_eq!(fred.program, Program::File("debian/tests/fred".to_owned()));
    assert_eq!(all[3].1.program, Program::Command("foo --list '".to_owned()), "a comment starts anywhere, as autopkgtest has it");
    assert_eq!((all[3].1.depends.as_str(), all[3].1.user), ("", User::Ordinary));
    assert_eq!((all[4].1.depends.as_str(), all[4].0.title.as_str()), ("jq, libjq1 [amd64 arm64]", "bar"));
    assert_eq!(all[5].1.program, Program::File("t/x/smoke".to_owned()));
    assert!(all.iter().all(|(_, test)| test.skip.is_none()));
}

#[test]
fn dependencies_are_put_in_full() {
    for (field, full) in [
        ("", ""),
        ("@", "jq, libjq1 [amd64 arm64]"),
        ("x, @ ,", "x, jq, libjq1 [amd64 arm64]"),
        ("@ | y", "jq | y, libjq1 [amd64 arm64] | y"),
        ("@builddeps@", "debhelper (>= 13), libfoo-dev [linux-any] <!nocheck>, flex, ruby, build-essential"),
        ("@recommends@", "jq-doc, less | more"),
        ("a:any (<< 1:2~rc+1-1)", "a:any (<< 1:2~rc+1-1)"),
    ] {
        assert_eq!(only(&format!("Tests: t\nDepends: {field}\n")).1.depends, full, "{field:?}");
    }
    assert_eq!(only("Tests: t\nDepends: a\nRestrictions: needs-sudo, needs-recommends\n").1.depends, "a, jq-doc, less | more, sudo");
    for bad in ["-oDir=/x", "a, $(id)", "a | -b", "A", "a;b", "${shlibs:Depends}", "a \"b\"", "*"] {
        let (_, test) = only(&format!("Tests: t\nDepends: {bad}\n"));
        assert_eq!(test.depends, "", "{bad:?}");
        assert!(test.skip.is_some_and(|reason| reason.contains("no dependencies")), "{bad:?}");
    }
    let alone = cases("Tests: t\n", &settings(), None).expect("cases").remove(0).autopkgtest.expect("a test");
    assert!(alone.skip.is_some_and(|reason| reason.contains("no debian/control")));
}

#[test]
fn what_cannot_be_honoured_is_a_skip_with_that_reason() {
    for (line, reason) in [
        ("Restrictions: quantum-bits", "the restriction \"quantum-bits\" is unknown"),
        ("Restrictions: needs-root needs-internet", "no way out to any network"),
        ("Restrictions: build-needed,needs-reboot", "does not build"),
        ("Restrictions: hint-testsuite-triggers", "no test"),
        ("Colour: red", "unknown field \"colour\""),
        ("Architecture: arm64 armhf", "it is for arm64, armhf, not for amd64"),
        ("Architecture: !amd64", "it is not for amd64"),
        ("Architecture: all", "which no machine is"),
        ("Architecture: amd64 !arm64", "mixes"),
        ("Tests-Directory: ../../etc", "leaves the folder"),
        ("Tests-Directory: /etc", "an absolute path"),
    ] {
        let (case, test) = only(&format!("Tests: t\n{line}\n"));
        assert!(test.skip.as_deref().is_some_and(|said| said.contains(reason)), "{line}: {:?}", test.skip);
        assert!(!case.destructive, "{line}: what is not run needs no clone of its own");
    }
    assert!(only("Tests: a/b\n").1.skip.is_some());
    for line in [
        "Architecture: any",
        "Architecture: linux-any",
        "Architecture: any-amd64 i386",
        "Architecture: !s390x",
        "Restrictions: rw-build-tree",
    ] {
        assert_eq!(only(&format!("Tests: t\n{line}\n")).1.skip, None, "{line}");
    }
}

#[test]
fn restrictions_say_how_a_test_runs() {
    for restriction in ["breaks-testbed", "needs-reboot"] {
        assert!(only(&format!("Tests: t\nRestrictions: {restriction}\n")).0.destructive, "{restriction} gets a clone of its own");
    }
    let (case, test) = only("Tests: t\nRestrictions: flaky superficial skippable needs-sudo isolation-machine isolation-container\n");
    assert_eq!((test.flaky, test.superficial, test.skippable, test.allow_stderr, test.user), (true, true, true, false, User::Sudo));
    assert!(!case.destructive && test.skip.is_none());
}

#[test]
fn names_that_no_case_can_have_are_mapped_and_it_is_said() {
    let all = tests("Tests: Foo foo FOO +x ... a.b_c-1\n");
    let names: Vec<(&str, &str)> = all.iter().map(|(case, _)| (case.name.as_str(), case.title.as_str())).collect();
    let expected = [
        ("foo", "the test Foo"),
        ("foo-2", "the test foo"),
        ("foo-3", "the test FOO"),
        ("x", "the test +x"),
        ("test", "the test ..."),
        ("a.b_c-1", ""),
    ];
    assert_eq!(names, expected);
    let long = tests(&format!("Tests: {} {}\n", "x".repeat(64), "x".repeat(80)));
    assert_eq!((long[0].0.name.as_str().len(), long[1].0.name.as_str().len()), (64, 56));
}

#[test]
fn broken_stanzas_are_named_by_their_line() {
    for (control, line) in [
        ("Tests: a\n\nDepends: b\n", 3),
        ("\n\nTests: a\nTest-Command: b\n", 3),
        ("Tests: ,\n", 1),
        ("Tests: a\nFeatures: test-name=b\n", 1),
        ("Test-Command: a\nFeatures: test-name\n", 1),
        ("Test-Command: a\nFeatures: test-name=a, test-name=b\n", 1),
        ("Tests: a\nnonsense\n", 2),
        (" Tests: a\n", 1),
        (": a\n", 1),
    ] {
        assert_eq!(read(control).map_err(|broken| broken.line).err(), Some(line), "{control:?}");
    }
    assert_eq!(read("# nothing\n"), Ok(Vec::new()));
}

fn line() -> impl Strategy<Value = String> {
    let field =
        prop::sample::select(vec!["Tests", "Test-Command", "Depends", "Restrictions", "Features", "Architecture", "Tests-Directory", "X"]);
    let value = prop::sample::select(vec![
        "a",
        "a, B c",
        "@",
        "@builddeps@ | @",
        "needs-root",
        "flaky,skippable",
        "needs-reboot x",
        "test-name=é",
        "!amd64",
        "#",
        "",
        "../x",
        "é\u{0}",
    ]);
    prop_oneof![
        6 => (field, value).prop_map(|(field, value)| format!("{field}: {value}")),
        1 => Just(String::new()),
        1 => Just(" b, c".to_owned()),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_control_file_panics_and_every_case_is_fit_for_a_plan(lines in prop::collection::vec(line(), 0..24), package in "\\PC{0,60}") {
        let package = SourcePackage::parse(&package.replace(';', "\n")).ok();
        if let Ok(cases) = cases(&lines.join("\n"), &settings(), package.as_ref()) {
            let names: BTreeSet<_> = cases.iter().map(|case| case.name.clone()).collect();
            prop_assert_eq!(names.len(), cases.len(), "each has a name of its own");
            for case in cases {
                let test = case.autopkgtest.expect("a test");
                prop_assert!(!test.depends.starts_with('-'));
                prop_assert!(test.skip.is_none() || !case.destructive);
            }
        }
    }
}
