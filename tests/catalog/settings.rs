//! `patchlab.toml`: what holds for the lab as a whole.

use patchlab::catalog::settings::{FILE, Settings, Templates, read};

use super::Lab;

#[test]
fn a_lab_without_settings_has_the_usual_ones() {
    let lab = Lab::good();
    assert_eq!(read(lab.path()).expect("no mistake"), Settings::default());
    for usual in ["", "[templates]\n", "[templates]\nat-most = 16\nsize = \"8GiB\"\nage = \"24h\"\n"] {
        lab.write(FILE, usual);
        assert_eq!(read(lab.path()).expect("no mistake"), Settings::default(), "{usual:?}");
    }
    lab.write(FILE, "[templates]\nat-most = 0\nage = \"1h 30m\"\n");
    let wanted = Templates { at_most: 0, age: "90m".parse().expect("a span"), ..Templates::default() };
    assert_eq!(read(lab.path()).expect("no mistake").templates, wanted);
    assert_eq!(lab.brief(), Vec::<String>::new());
}

#[test]
fn what_a_lab_can_not_want_of_templates_is_told_with_its_place() {
    let lab = Lab::good();
    for (line, key, told) in [
        ("at-most = -1", "templates.at-most", "a whole number from 0 to 1000"),
        ("at-most = 1001", "templates.at-most", "a whole number from 0 to 1000"),
        ("at-most = \"many\"", "templates.at-most", "a whole number from 0 to 1000"),
        ("size = 8", "templates.size", "a size such as"),
        ("size = \"8G\"", "templates.size", "a size such as"),
        ("size = \"63MiB\"", "templates.size", "64MiB to 16TiB"),
        ("size = \"17TiB\"", "templates.size", "64MiB to 16TiB"),
        ("age = \"a day\"", "templates.age", "a duration such as"),
        ("age = \"59s\"", "templates.age", "1m to 365d"),
        ("age = \"366d\"", "templates.age", "1m to 365d"),
        ("most = 3", "templates.most", "at-most"),
    ] {
        lab.write(FILE, format!("[templates]\n{line}\n"));
        let (brief, said) = (lab.brief(), lab.said());
        assert!(brief.len() == 1 && brief[0].starts_with(&format!("{FILE}:2 [{key}]")), "{line}: {brief:?}");
        assert!(said.contains(told), "{line}: no {told:?} in {said}");
        assert!(lab.load().catalog.is_none(), "{line}: nothing is done with it");
    }
}
