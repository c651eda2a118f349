//! Suites that others have written: what a source package gives, and what is said about each mistake.

use patchlab::catalog::Catalog;
use patchlab::catalog::load::Loading;

use crate::Lab;

/// A lab whose second suite is a source package's.
fn with_source_package() -> Lab {
    let lab = Lab::good();
    lab.write(
        "test-suites/jq/suite.toml",
        "title = \"jq\"\nkind = \"autopkgtest\"\n\n[autopkgtest]\nsource = \"src\"\ntime-limit = \"5m\"\n",
    );
    lab.write("test-suites/jq/src/debian/control", "Source: jq\n\nPackage: jq\nArchitecture: any\n");
    lab.write("test-suites/jq/src/debian/tests/control", "Tests: smoke, gone\n\nTest-Command: jq --help\nDepends: jq, bash\n");
    lab.script("test-suites/jq/src/debian/tests/smoke");
    lab.change("builds/acme/web.toml", "[\"web\"]", "[\"web\", \"jq\"]");
    lab
}

#[test]
fn a_source_packages_tests_are_a_suite() {
    let lab = with_source_package();
    let Loading { catalog, diagnostics } = lab.load();
    assert_eq!(diagnostics, []);
    let suite = catalog.expect("a catalog").suites[&"jq".parse().expect("a name")].suite.clone();
    let told = |case: &patchlab::catalog::suite::Case| {
        let test = case.autopkgtest.clone().expect("a test");
        (case.name.to_string(), test.depends, test.skip.unwrap_or_default())
    };
    let told: Vec<_> = suite.cases.iter().map(told).collect();
    let expected =
        [("smoke", "jq", ""), ("gone", "jq", "its program debian/tests/gone is a file that does not exist"), ("command1", "jq, bash", "")];
    assert_eq!(told, expected.map(|(name, depends, skip)| (name.to_owned(), depends.to_owned(), skip.to_owned())));
    assert!(suite.cases.iter().all(|case| case.time_limit.0.as_secs() == 300));
}

#[test]
fn a_suites_digest_sees_its_source_package() {
    let lab = with_source_package();
    let digest = || Catalog::load(lab.path()).expect("a catalog").suites[&"jq".parse().expect("a name")].sha256;
    let before = digest();
    lab.write("test-suites/jq/src/debian/tests/data", "new");
    assert_ne!(digest(), before);
}

#[test]
fn mistakes_about_source_packages_are_named() {
    let file = "test-suites/jq/suite.toml";
    for (path, from, to, said) in [
        (file, "\"src\"", "\"source\"", "test-suites/jq/source/debian/tests/control there is no such file, and so no test"),
        (file, "\"src\"", "\"../web\"", "test-suites/jq/../web/debian/tests/control a path that leaves the folder"),
        (
            file,
            "[autopkgtest]\nsource = \"src\"\ntime-limit = \"5m\"\n",
            "",
            "test-suites/jq/suite.toml:1 [autopkgtest] the file lacks the key \"autopkgtest\"",
        ),
        (file, "5m", "0s", "test-suites/jq/suite.toml:6 [autopkgtest.time-limit] a time limit that can't be kept"),
        (
            file,
            "\"5m\"\n",
            "\"5m\"\n[[case]]\nname = \"x\"\nrun = \"x\"\n",
            "[case] the tests of a suite of kind autopkgtest are those of its debian/tests/control",
        ),
        (file, "\"autopkgtest\"", "\"regression\"", "test-suites/jq/suite.toml:4 [autopkgtest] the table is for suites of another kind"),
        ("test-suites/web/suite.toml", "needs = [\"curl\"]", "autopkgtest = { name = \"x\" }", "unknown key \"autopkgtest\""),
        (
            "test-suites/jq/src/debian/tests/control",
            "Tests: smoke, gone",
            "Depends: jq",
            "debian/tests/control:1 neither Tests nor Test-Command is given",
        ),
        (
            "test-suites/jq/src/debian/tests/control",
            "Depends: jq, bash",
            "nonsense",
            "debian/tests/control:4 a line that is neither a field",
        ),
        ("test-suites/jq/src/debian/control", "Package: jq", "Package", "debian/control:3 a line that is neither a field"),
    ] {
        let lab = with_source_package();
        lab.change(path, from, to);
        let brief = lab.brief();
        assert!(brief.iter().any(|line| line.contains(said)), "{from:?} -> {to:?}: {brief:?}");
    }
}
