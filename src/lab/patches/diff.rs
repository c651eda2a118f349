//! Reads a unified diff as far as the lab must know it: that it is whole, and which files of the guest it changes.
//!
//! The form is that of GNU diffutils ("Detailed Description of Unified Format") with git's extended headers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use thiserror::Error;

use crate::catalog::diagnostic::{Diagnostic, Place};
use crate::catalog::inside;
use crate::catalog::patch::Patch;
use crate::catalog::source::Source;

/// The longest diff that is read.
const LONGEST: u64 = 64 << 20;

/// What is wrong with a diff, and in which line (from 1).
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{problem}")]
pub(super) struct BadDiff {
    line: usize,
    problem: Problem,
}

#[derive(Debug, Error, PartialEq, Eq)]
enum Problem {
    #[error("there is no hunk in it")]
    NoHunks,
    #[error("a hunk without the two lines \"--- old\" and \"+++ new\" before it")]
    NoHeader,
    #[error("\"--- old\" without \"+++ new\" after it")]
    HalfHeader,
    #[error("a hunk header that can't be read")]
    HunkHeader,
    #[error("a hunk that ends before its {0} lines are there")]
    ShortHunk(u64),
    #[error("a binary change, which patch(1) can't apply")]
    Binary,
    #[error("a quoted file name that can't be read")]
    Quoting,
    #[error("the path {path:?} has not {strip} components to strip")]
    TooShort { path: String, strip: u32 },
    #[error("the path {0:?} leaves the folder that it starts from")]
    Escapes(String),
}

/// The absolute paths that the payload's diff changes.
pub(super) fn paths(source: &Source, folder: &Path, manifest: &Patch, diagnostics: &mut Vec<Diagnostic>) -> Vec<String> {
    let Some(file) = manifest.payload.first() else { return Vec::new() };
    let path = folder.join(file);
    let at = source.tree.get("payload").unwrap_or(&source.tree);
    match fs::metadata(&path).and_then(|about| if about.len() > LONGEST { Ok(Vec::new()) } else { fs::read(&path) }) {
        Ok(bytes) if bytes.is_empty() => {
            diagnostics.push(source.error(at, "payload[0]", format!("{file:?} is empty or longer than 64 MiB")).expected("a unified diff"));
            Vec::new()
        }
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let root = manifest.root.as_deref().unwrap_or("/");
            let changed = changed_paths(&text, manifest.strip.unwrap_or(1)).map_err(|bad| {
                let shown = text.lines().nth(bad.line.saturating_sub(1)).unwrap_or_default();
                let place = Place { line: bad.line, column: 1, width: shown.chars().count().max(1), text: shown.to_owned() };
                let problem = Diagnostic::error(source.file.with_file_name(file), format!("not a whole unified diff: {bad}")).at(place);
                diagnostics.push(problem.expected("the output of \"diff -u\" or \"git diff\"").hint(hint(&bad.problem)));
            });
            let changed = changed.unwrap_or_default();
            changed.into_iter().map(|path| format!("{}/{path}", root.trim_end_matches('/'))).collect()
        }
        Err(error) => {
            diagnostics.push(source.error(at, "payload[0]", format!("{file:?} can't be read: {error}")));
            Vec::new()
        }
    }
}

fn hint(problem: &Problem) -> &'static str {
    match problem {
        Problem::TooShort { .. } | Problem::Escapes(_) => "set strip to the number of leading components to remove, as for \"patch -p\"",
        Problem::Binary => "use kind = \"files\" for binary files",
        Problem::ShortHunk(_) => "it is truncated or was edited by hand: make it anew",
        Problem::NoHunks | Problem::NoHeader | Problem::HalfHeader | Problem::HunkHeader | Problem::Quoting => "make it with \"diff -u\"",
    }
}

/// The paths, stripped and relative, that a diff changes.
pub(super) fn changed_paths(text: &str, strip: u32) -> Result<BTreeSet<String>, BadDiff> {
    let mut paths = BTreeSet::new();
    let mut lines = (1..).zip(text.lines()).peekable();
    let (mut in_file, mut last) = (false, 1);
    while let Some((line, text)) = lines.next() {
        let bad = |problem| BadDiff { line, problem };
        last = line;
        if let Some(old) = text.strip_prefix("--- ") {
            let new = lines.next_if(|(_, next)| next.starts_with("+++ ")).map(|(_, next)| &next[4..]);
            let Some(new) = new else {
                // A mail's "--- " line before the first file is prose.
                if in_file { return Err(bad(Problem::HalfHeader)) } else { continue }
            };
            let (old, new) = (name(old).map_err(bad)?, name(new).map_err(bad)?);
            let changed = if new == "/dev/null" { old } else { new };
            paths.insert(stripped(&changed, strip).map_err(bad)?);
            in_file = true;
        } else if text.starts_with("@@ ") {
            if !in_file {
                return Err(bad(Problem::NoHeader));
            }
            let (mut old, mut new) = hunk(text).ok_or_else(|| bad(Problem::HunkHeader))?;
            let promised = old.saturating_add(new);
            while old > 0 || new > 0 {
                let body = lines.next().map(|(_, body)| body);
                let first = body.map(|body| body.bytes().next().unwrap_or(b' '));
                (old, new) = match first {
                    Some(b' ' | b'\t') if old > 0 && new > 0 => (old - 1, new - 1),
                    Some(b'-') if old > 0 => (old - 1, new),
                    Some(b'+') if new > 0 => (old, new - 1),
                    Some(b'\\') => (old, new),
                    _ => return Err(bad(Problem::ShortHunk(promised))),
                };
            }
        } else if text.starts_with("GIT binary patch") || (text.starts_with("Binary files ") && text.ends_with(" differ")) {
            return Err(bad(Problem::Binary));
        } else if text.starts_with("diff --git ") {
            in_file = false;
        } else if let Some(path) = text.strip_prefix("rename from ").or_else(|| text.strip_prefix("rename to ")) {
            // These have no a/ and b/ before them: one component less to strip.
            let path = name(path).map_err(bad)?;
            paths.insert(stripped(&path, strip.saturating_sub(1)).map_err(bad)?);
        }
    }
    if paths.is_empty() { Err(BadDiff { line: last, problem: Problem::NoHunks }) } else { Ok(paths) }
}

/// The line counts, old and new, of `@@ -l,s +l,s @@`.
fn hunk(line: &str) -> Option<(u64, u64)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| {
        let (start, count) = range.split_once(',').unwrap_or((range, "1"));
        start.parse::<u64>().ok()?;
        count.parse::<u64>().ok()
    };
    Some((count(old)?, count(new)?))
}

/// The file name in a header line: up to a tab (a time follows), or in git's quotation marks.
fn name(text: &str) -> Result<String, Problem> {
    let Some(quoted) = text.strip_prefix('"') else {
        let name = text.split('\t').next().unwrap_or_default().trim_end();
        return Ok(name.to_owned());
    };
    let mut bytes = Vec::new();
    let mut rest = quoted.bytes();
    loop {
        match rest.next().ok_or(Problem::Quoting)? {
            b'"' => break,
            b'\\' => match rest.next().ok_or(Problem::Quoting)? {
                first @ b'0'..=b'3' => {
                    let digits = [first, rest.next().unwrap_or(b'x'), rest.next().unwrap_or(b'x')];
                    let octal = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok());
                    bytes.push(octal.ok_or(Problem::Quoting)?);
                }
                b't' => bytes.push(b'\t'),
                b'n' => bytes.push(b'\n'),
                plain @ (b'"' | b'\\') => bytes.push(plain),
                _ => return Err(Problem::Quoting),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::Quoting)
}

/// A path without its first components; runs of slashes count as one, as for `patch -p`.
fn stripped(path: &str, strip: u32) -> Result<String, Problem> {
    let mut rest = path;
    for _ in 0..strip {
        let (_, after) = rest.split_once('/').ok_or_else(|| Problem::TooShort { path: path.to_owned(), strip })?;
        rest = after.trim_start_matches('/');
    }
    let plain = inside::relative(rest).is_ok() && !rest.ends_with('/');
    if plain { Ok(rest.to_owned()) } else { Err(Problem::Escapes(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "\
From: someone
---
 conf | 2 +-
diff --git a/etc/nginx/nginx.conf b/etc/nginx/nginx.conf
--- a/etc/nginx/nginx.conf\t2024-01-01
+++ b/etc/nginx/nginx.conf\t2024-01-02
@@ -1,3 +1,3 @@ server
 a
--- looks like a header
+++ and so does this
 c
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
\\ No newline at end of file
--- \"a/\\303\\244\"
+++ \"b/\\303\\244\"
@@ -0,0 +1 @@
+x
diff --git a/old b/new
rename from old
rename to new
";

    fn problem(text: &str, strip: u32) -> Option<Problem> {
        changed_paths(text, strip).err().map(|bad| bad.problem)
    }

    #[test]
    fn changed_paths_of_a_good_diff() {
        let paths = changed_paths(GOOD, 1).unwrap();
        assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["etc/nginx/nginx.conf", "gone", "new", "old", "ä"]);
        assert_eq!(changed_paths("--- x/y\n+++ x/y\n@@ -1 +1 @@\n-a\n+b\n", 0).unwrap().into_iter().collect::<Vec<_>>(), ["x/y"]);
    }

    #[test]
    fn every_way_to_be_bad() {
        let file = "--- a/x\n+++ b/x\n";
        assert_eq!(problem("", 1), Some(Problem::NoHunks));
        assert_eq!(problem("hello\nworld\n", 1), Some(Problem::NoHunks));
        assert_eq!(problem("@@ -1 +1 @@\n-a\n+b\n", 1), Some(Problem::NoHeader));
        assert_eq!(problem(&format!("{file}@@ -1 +1 @@\n-a\n+b\n--- a/y\n"), 1), Some(Problem::HalfHeader));
        assert_eq!(problem(&format!("{file}@@ -one +1 @@\n"), 1), Some(Problem::HunkHeader));
        assert_eq!(problem(&format!("{file}@@ -1,4 +1,4 @@\n a\n"), 1), Some(Problem::ShortHunk(8)));
        assert_eq!(problem("diff --git a/x b/x\nGIT binary patch\n", 1), Some(Problem::Binary));
        assert_eq!(problem("--- \"a/\\9\"\n+++ b/x\n", 1), Some(Problem::Quoting));
        assert_eq!(problem(file, 2), Some(Problem::TooShort { path: "b/x".to_owned(), strip: 2 }));
        assert_eq!(problem("--- a/x\n+++ b/../../etc/passwd\n", 1), Some(Problem::Escapes("b/../../etc/passwd".to_owned())));
        assert_eq!(problem("--- /etc/x\n+++ /etc/x\n", 0), Some(Problem::Escapes("/etc/x".to_owned())));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,200}", strip in 0u32..5) {
            let _ = changed_paths(&text, strip);
        }

        #[test]
        fn never_panics_on_nearly_a_diff(lines in prop::collection::vec(
            prop::sample::select(vec!["--- a/x", "+++ b/x", "@@ -1,2 +1 @@", "@@ -18446744073709551615 +1,18446744073709551615 @@", "-", "+y", " z", "", "\\",
                "--- \"a", "rename to /", "+++ ", "--- "]), 0..20)) {
            let _ = changed_paths(&lines.join("\n"), 1);
        }
    }
}
