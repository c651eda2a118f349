//! Guest text on the page, and how much of it there may be.
//!
//! Invariant: all guest text of a page passes through one [`Budget`], so that no guest can make the page too large to open.

use std::cell::Cell;

use crate::report::text::{self, DiffLine};

/// Bytes of escaped guest text that the page may still take.
pub struct Budget {
    left: Cell<usize>,
}

/// A text in lines, each with what it is.
pub struct Detail {
    pub diff: bool,
    pub lines: Vec<DetailLine>,
}

pub struct DetailLine {
    /// A CSS class: `add`, `del`, `hunk`, `head` or none.
    pub class: &'static str,
    pub text: String,
}

impl Budget {
    pub const fn new(bytes: usize) -> Self {
        Self { left: Cell::new(bytes) }
    }

    /// The text, capped at `cap` bytes and at what is left. `None` for an empty text.
    pub fn detail(&self, raw: &str, cap: usize) -> Option<Detail> {
        if raw.is_empty() {
            return None;
        }
        let shown = text::guest(raw, cap);
        let diff = text::is_diff(&shown);
        let mut lines = Vec::new();
        for line in shown.lines() {
            let row = text::one_row(line, 2_000);
            if !self.take(&row) {
                lines.push(DetailLine {
                    class: "head",
                    text: "[… left out: the page is full; the JSON report and the run's evidence have it …]".to_owned(),
                });
                break;
            }
            let class = if diff { class(line) } else { "" };
            lines.push(DetailLine { class, text: row.into_owned() });
        }
        Some(Detail { diff, lines })
    }

    /// Whether there is room for the line; if so, it is taken.
    fn take(&self, line: &str) -> bool {
        // An escaped character is at most six bytes; the line's own markup about forty.
        let special = line.bytes().filter(|byte| matches!(byte, b'<' | b'>' | b'&' | b'"' | b'\'')).count();
        self.spend(40 + line.len() + 5 * special)
    }

    /// Whether that many bytes are left; if so, they are taken.
    pub fn spend(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    pub fn left(&self) -> usize {
        self.left.get()
    }
}

const fn class(line: &str) -> &'static str {
    match DiffLine::of(line) {
        DiffLine::Head => "head",
        DiffLine::Hunk => "hunk",
        DiffLine::Added => "add",
        DiffLine::Removed => "del",
        DiffLine::Context => "",
    }
}
