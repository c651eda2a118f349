//! What the plan does with a suite that others have written: the packages that it brings, and the tests that can't be run.

use super::build::SealedImage;
use super::{Lint, PlannedCell, PlannedSuite};
use crate::id::Name;

/// Gives a suite the packages that were fetched for it. A test whose dependencies were not is skipped with that reason.
pub fn prepare(suite: &mut PlannedSuite, sealed: &SealedImage, image: &Name) {
    let fetched = sealed.prepared.get(&suite.name);
    let usable = fetched.filter(|fetched| fetched.suite == suite.sha256);
    for case in &mut suite.cases {
        let Some(test) = case.autopkgtest.as_mut().filter(|test| test.skip.is_none() && !test.depends.is_empty()) else { continue };
        let mend = || format!("run: scripts/fetch-autopkgtest --dependencies {} BUILD", suite.name);
        test.skip = match (usable, fetched) {
            (Some(usable), _) => usable.lacking.get(&case.name).map(|reason| format!("its dependencies can't be had: {reason}")),
            (None, Some(_)) => Some(format!("its dependencies were fetched for another state of the suite; {}", mend())),
            (None, None) => Some(format!("its dependencies were not fetched for image {image} as it is; {}", mend())),
        };
        case.destructive &= test.skip.is_none();
    }
    let runs = suite.cases.iter().any(|case| case.autopkgtest.as_ref().is_some_and(|test| test.skip.is_none()));
    suite.packages = usable.filter(|_| runs).map(|usable| usable.packages.clone()).unwrap_or_default();
}

/// The tests of a cell that the plan already knows to be skipped, and those that have another name here.
pub fn lint(cell: &PlannedCell) -> Vec<Lint> {
    let mut found = Vec::new();
    for (suite, case) in cell.cases() {
        let Some(test) = &case.autopkgtest else { continue };
        let place = format!("{}/{}", suite.name, case.name);
        if let Some(reason) = &test.skip {
            found.push(Lint { code: "skipped-test".to_owned(), message: format!("{}: {place} is skipped: {reason}", cell.id) });
        }
        if case.name.as_str() != test.name {
            found.push(Lint { code: "renamed-test".to_owned(), message: format!("{}: {place} is the test {:?}", cell.id, test.name) });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::autopkgtest::{Source, cases};
    use crate::catalog::text::Span;
    use crate::id::Digest;
    use crate::plan::{PlannedFile, PreparedSuite};

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    /// A suite with a test that needs nothing, two that need something, and one that can't run anyway.
    fn prepared(fetched_for: Option<&str>) -> PlannedSuite {
        let control = "Tests: free\nDepends:\n\nTests: needy, breaks\nDepends: jq\nRestrictions: breaks-testbed\n\nTests: odd\nDepends: jq\n\
                       Restrictions: quantum\n";
        let settings = Source { source: "source".to_owned(), time_limit: Span::secs(60), leaves_nothing: false };
        let cases = cases(control, &settings, None).expect("cases");
        let mut suite = PlannedSuite { name: name("jq"), sha256: Digest::of("jq"), cast: BTreeMap::new(), cases, packages: Vec::new() };
        let package = PlannedFile { file: "jq.deb".to_owned(), sha256: Digest::of("deb") };
        let fetched = |of: &str| PreparedSuite {
            suite: Digest::of(of),
            packages: vec![package.clone()],
            lacking: [(name("breaks"), "too old".to_owned())].into(),
        };
        let prepared = fetched_for.map(|of| (name("jq"), fetched(of))).into_iter().collect();
        prepare(&mut suite, &SealedImage { sha256: Digest::of("image"), packages: None, prepared }, &name("web"));
        suite
    }

    fn told(suite: &PlannedSuite) -> Vec<(bool, String)> {
        let skip = |case: &crate::catalog::suite::Case| case.autopkgtest.clone().and_then(|test| test.skip).unwrap_or_default();
        suite.cases.iter().map(|case| (case.destructive, skip(case).split(';').next().unwrap_or_default().to_owned())).collect()
    }

    #[test]
    fn what_was_fetched_comes_along_and_what_was_not_is_a_skip() {
        let odd = (false, "the restriction \"quantum\" is unknown".to_owned());
        let of = |needy: (bool, &str), breaks: (bool, &str)| {
            vec![(false, String::new()), (needy.0, needy.1.to_owned()), (breaks.0, breaks.1.to_owned()), odd.clone()]
        };
        let suite = prepared(Some("jq"));
        assert_eq!(told(&suite), of((true, ""), (false, "its dependencies can't be had: too old")));
        assert_eq!(suite.packages.len(), 1);
        for (fetched, reason) in [
            (None, "its dependencies were not fetched for image web as it is"),
            (Some("edited since"), "its dependencies were fetched for another state of the suite"),
        ] {
            let suite = prepared(fetched);
            assert_eq!(told(&suite), of((false, reason), (false, reason)), "{fetched:?}");
            assert!(suite.packages.is_empty(), "what is not of this suite does not come along");
        }
    }
}
