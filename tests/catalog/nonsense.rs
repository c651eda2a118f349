//! Files that make no sense: whatever they hold, the loader says so and does not panic.

use proptest::prelude::*;

use crate::Lab;

/// Lines that are nearly right, so that random files get past the parser.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "title",
        "kind",
        "case",
        "name",
        "run",
        "recipe",
        "recipe.files",
        "import",
        "disk",
        "chipset",
        "firmware",
        "hardware",
        "suites",
        "services",
        "cores",
        "memory",
        "time-limit",
        "volatile",
        "image",
        "role",
        "a.b.c",
        "\"\"",
        "\"/x\"",
        "sources",
        "packages",
    ]);
    let value = prop_oneof![
        Just("\"web\"".to_owned()),
        Just("[\"a\", 1, {}]".to_owned()),
        Just("{ a = [[]] }".to_owned()),
        Just("[]".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("nan".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("\"../x\"".to_owned()),
        Just("\"18446744073709551615TiB\"".to_owned()),
        "\"[^\"\\\\\\x00-\\x1f\\x7f]{0,20}\"",
    ];
    let table =
        prop::sample::select(vec!["[[case]]", "[recipe]", "[import]", "[recipe.files]", "[case]", "[[a.b]]"]).prop_map(str::to_owned);
    prop_oneof![4 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")), 1 => table]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_text_makes_the_loader_panic(text in "(?s).{0,120}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let lab = Lab::good();
        lab.write("builds/acme/web.toml", &text);
        lab.write("images/deb/image.toml", bytes);
        lab.write("test-suites/web/suite.toml", text);
        lab.said();
    }

    #[test]
    fn no_toml_makes_the_loader_panic(lines in prop::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        let lab = Lab::good();
        for path in ["builds/acme/web.toml", "builds/acme/customer.toml", "images/deb/image.toml", "test-suites/web/suite.toml", "builds/hardware/plain.toml"] {
            lab.write(path, &text);
        }
        let said = lab.said();
        prop_assert!(said.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
