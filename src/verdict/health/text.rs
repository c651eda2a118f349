//! Small helpers over lines of text.

use std::collections::BTreeSet;

use similar::TextDiff;

/// Bytes of each side that a diff is made of.
const DIFFED: usize = 64 * 1024;

/// At most `cap` characters, control characters other than line ends and tabs replaced.
pub(super) fn capped(text: &str, cap: usize) -> String {
    let mut out: String =
        text.chars().take(cap).map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(cap).is_some() {
        out.push_str(" [cut]");
    }
    out
}

/// "a; b; c; and 4 more".
pub(super) fn some_of(items: &[String], shown: usize) -> String {
    let mut out = items.iter().take(shown).map(|item| item.replace('\n', " ")).collect::<Vec<_>>().join("; ");
    if items.len() > shown {
        out.push_str(&format!("; and {} more", items.len() - shown));
    }
    out
}

/// A unified diff, empty when both are equal.
pub(super) fn unified(name: &str, before: &str, after: &str) -> String {
    let (before, after) = (head(before), head(after));
    if before == after {
        return String::new();
    }
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(2)
        .header(&format!("before{name}"), &format!("after{name}"))
        .to_string()
}

fn head(text: &str) -> &str {
    let mut end = text.len().min(DIFFED);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What is in `from` and not in `to`, in order, once.
pub(super) fn missing_in(from: &[String], to: &[String]) -> Vec<String> {
    let to: BTreeSet<&String> = to.iter().collect();
    let mut seen = BTreeSet::new();
    from.iter().filter(|item| !to.contains(item) && seen.insert(*item)).cloned().collect()
}

/// As lines of one text.
pub(super) fn joined(lines: &[String]) -> String {
    let mut out = lines.join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    out
}
