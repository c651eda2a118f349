//! Checks of images: `images/<image>/image.toml`.

use super::named_file;
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::image::{Image, LARGEST_DISK, SMALLEST_DISK, is_package_name, is_release, is_source_line};
use crate::catalog::inside::plain_absolute;
use crate::catalog::lists::twice;
use crate::catalog::load::Found;
use crate::catalog::source::Source;
use crate::catalog::text::Size;
use crate::catalog::tree::{Tree, join};

pub(super) fn check(found: &Found<Image>, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
    let tree = &source.tree;
    match (tree.entry("recipe"), tree.entry("import")) {
        (Some(_), Some(import)) => diagnostics.push(
            Diagnostic::error(&source.file, "an image is either built from a recipe or imported, not both")
                .at(source.place(&import.key_span))
                .key("import")
                .expected("either [recipe] or [import]")
                .hint("remove one of the two tables"),
        ),
        (None, None) => diagnostics.push(
            source
                .error(tree, "recipe", "the image has neither a recipe nor an import")
                .expected("either [recipe] or [import]")
                .hint("add [recipe] to build it with mmdebstrap, or [import] to bring in an existing disk"),
        ),
        _ => {}
    }
    twice(source, tree, "firmware", diagnostics);
    if let Some(recipe) = tree.get("recipe") {
        check_recipe(found, source, recipe, diagnostics);
    }
}

fn check_recipe(found: &Found<Image>, source: &Source, recipe: &Tree, diagnostics: &mut Vec<Diagnostic>) {
    for entry in recipe.get("files").map_or(&[][..], Tree::entries) {
        let key = join("recipe.files", &entry.key);
        if !plain_absolute(&entry.key) {
            diagnostics.push(
                Diagnostic::error(&source.file, "a path in the image that is not absolute and plain")
                    .at(source.place(&entry.key_span))
                    .key(&key)
                    .found(format!("{:?}", entry.key))
                    .expected("an absolute path of a file, without \"..\"")
                    .hint("files are written path in the image = path in this folder, for example \"/etc/motd\" = \"motd\""),
            );
        }
        named_file(found, source, &entry.value, &key, diagnostics);
    }
    if let Some(setup) = recipe.get("setup") {
        named_file(found, source, setup, "recipe.setup", diagnostics);
    }
    for (at, package, item) in recipe.texts_at("packages") {
        if !is_package_name(package) {
            let problem = source.error(item, format!("recipe.packages[{at}]"), "not a package name").found(item.describe());
            diagnostics.push(problem.expected("the name of a Debian package, one to an entry"));
        }
    }
    for (at, line, item) in recipe.texts_at("sources") {
        if !is_source_line(line) {
            let problem = source.error(item, format!("recipe.sources[{at}]"), "not a line of a sources list").found(item.describe());
            diagnostics.push(problem.expected("for example \"deb http://deb.debian.org/debian bookworm main\""));
        }
    }
    if let Some((at, suite)) = recipe.get("suite").and_then(|at| at.text().map(|suite| (at, suite)))
        && !is_release(suite)
    {
        let problem = source.error(at, "recipe.suite", "not the name of a release").found(at.describe());
        diagnostics.push(problem.expected("for example \"bookworm\""));
    }
    if let Some((at, size)) = recipe.get("disk").and_then(|at| Some((at, at.text()?.parse::<Size>().ok()?)))
        && !(SMALLEST_DISK..=LARGEST_DISK).contains(&size)
    {
        let problem = if size < SMALLEST_DISK { "too small a disk for any Debian" } else { "too large a disk" };
        diagnostics.push(source.error(at, "recipe.disk", problem).found(at.describe()).expected("1GiB to 4TiB"));
    }
}
