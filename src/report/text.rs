//! Text for people, and what a guest's text must go through before anyone sees it.
//!
//! Invariant: what [`visible`] returns holds no character that XML 1.0 forbids, that a terminal acts on, or that changes the order
//! or presence of its neighbours. Escaping for a form (HTML, XML, Markdown) comes after it and is that form's business.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;

/// The text with everything that acts instead of showing made visible: `‹ESC›` for an escape, `‹U+202E›` for a change of direction.
/// Colour sequences are dropped and line ends become `\n`.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = colour_sequence(rest) {
            rest = &rest[length..];
            continue;
        }
        let mut after = &rest[c.len_utf8()..];
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' => {
                // A whole row of them at once: taken one by one, a long row would be looked through again and again.
                after = after.trim_start_matches('\r');
                if !after.starts_with('\n') {
                    shown.push_str(&"‹CR›".repeat(rest.len() - after.len()));
                }
            }
            '\0' => shown.push_str("‹NUL›"),
            '\u{7}' => shown.push_str("‹BEL›"),
            '\u{8}' => shown.push_str("‹BS›"),
            '\u{1b}' => shown.push_str("‹ESC›"),
            '\u{7f}' => shown.push_str("‹DEL›"),
            '\u{fffe}' | '\u{ffff}' => shown.push('\u{fffd}'),
            _ if acts(c) => {
                let _ = write!(shown, "‹U+{:04X}›", u32::from(c));
            }
            _ => shown.push(c),
        }
        rest = after;
    }
    shown
}

/// Whether a character is not seen itself but changes how others are seen.
const fn acts(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'            // C0 and C1 controls
        | '\u{ad}' | '\u{61c}' | '\u{180e}'            // soft hyphen, Arabic letter mark, Mongolian vowel separator
        | '\u{200b}'..='\u{200f}'                      // zero width, left-to-right and right-to-left marks
        | '\u{2028}'..='\u{202e}'                      // line and paragraph separator, embeddings and overrides
        | '\u{2060}'..='\u{206f}' | '\u{feff}'         // joiners, isolates, byte order mark
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' // interlinear annotation, tags
    )
}

/// The length of an ANSI colour sequence (`ESC [ digits m`) at the start of the text.
fn colour_sequence(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let length = body.bytes().take(32).take_while(|c| c.is_ascii_digit() || *c == b';').count();
    (body.as_bytes().get(length) == Some(&b'm')).then_some(2 + length + 1)
}

/// At most about `bytes` of the text: its beginning and its end, and between them how much was left out.
pub fn cap(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let head = text.floor_char_boundary(bytes / 2);
    let tail = text.ceil_char_boundary(text.len() - bytes / 2);
    let dropped = size((tail - head) as u64);
    Cow::Owned(format!("{}\n[… {dropped} left out …]\n{}", &text[..head], &text[tail..]))
}

/// The last `bytes` of the text, from a line's start on where there is one near.
pub fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = &text[text.ceil_char_boundary(text.len() - bytes)..];
    end.split_once('\n').map_or(end, |(first, rest)| if first.len() < 400 { rest } else { end })
}

/// Guest text, capped and made visible.
pub fn guest(text: &str, bytes: usize) -> String {
    visible(&cap(text, bytes))
}

/// Guest text as one line of at most `chars` characters.
pub fn one_line(text: &str, chars: usize) -> String {
    let shown = visible(&text[..text.floor_char_boundary(chars.saturating_mul(8))]);
    let mut line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > chars {
        line = line.chars().take(chars.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

/// One line, spaces and all, cut after `chars` characters.
pub fn one_row(line: &str, chars: usize) -> Cow<'_, str> {
    match line.char_indices().nth(chars) {
        None => Cow::Borrowed(line),
        Some((at, _)) => Cow::Owned(format!("{}…", &line[..at])),
    }
}

/// Whether the text is a unified diff, or has one in it.
pub fn is_diff(text: &str) -> bool {
    let mut before = "";
    text.lines().take(200).any(|line| {
        let hunk = line.starts_with("@@ ") && line[3..].contains("@@");
        let head = line.starts_with("+++ ") && before.starts_with("--- ");
        before = line;
        hunk || head
    })
}

/// What a line of a unified diff is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffLine {
    Head,
    Hunk,
    Added,
    Removed,
    Context,
}

impl DiffLine {
    pub const fn of(line: &str) -> Self {
        match line.as_bytes() {
            [b'+', b'+', b'+', b' ', ..] | [b'-', b'-', b'-', b' ', ..] => Self::Head,
            [b'@', b'@', ..] => Self::Hunk,
            [b'+', ..] => Self::Added,
            [b'-', ..] => Self::Removed,
            _ => Self::Context,
        }
    }
}

/// A length of time for people: `840 ms`, `4.2 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes for people: `512 B`, `1.4 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// A moment for people, to the second, in UTC.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `1 finding`, `2 findings`.
pub fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// Milliseconds between two moments; 0 when they are the wrong way round.
pub fn elapsed(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond().saturating_sub(from.as_millisecond())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_made_visible() {
        for (text, shown) in [
            ("plain é 漢\tx\ny", "plain é 漢\tx\ny"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "‹ESC›[2J‹ESC›]0;title‹BEL›"),
            ("a\0b\u{7f}", "a‹NUL›b‹DEL›"),
            ("line\r\r\nnext\rover", "line\nnext‹CR›over"),
            ("abc\u{202e}fed", "abc‹U+202E›fed"),
            ("x\u{200b}y\u{feff}", "x‹U+200B›y‹U+FEFF›"),
            ("\u{fffe}\u{ffff}\u{9b}1m", "\u{fffd}\u{fffd}‹U+009B›1m"),
            ("\u{1b}[", "‹ESC›["),
            ("a\r\rb\r", "a‹CR›‹CR›b‹CR›"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn caps_keep_both_ends_and_whole_characters() {
        assert_eq!(cap("short", 10), "short");
        let long = format!("{}{}{}", "a".repeat(50), "é".repeat(5000), "z".repeat(50));
        let capped = cap(&long, 101);
        assert!(capped.len() < 140 && capped.starts_with("aaa") && capped.ends_with("zzz") && capped.contains("left out"), "{capped}");
        assert_eq!(tail("one\ntwo\nthree", 9), "three");
        assert_eq!(tail("one", 9), "one");
        assert_eq!(one_line("  a\n b\u{1b}[0m  c ", 80), "a b c");
        assert_eq!(one_line(&"x".repeat(1 << 20), 5), "xxxx…");
    }

    #[test]
    fn diffs_are_told_from_dashes() {
        assert!(is_diff("--- before\n+++ after\n@@ -1 +1 @@\n-a\n+b\n"));
        assert!(!is_diff("- a list\n+ of things\n@@"));
        assert_eq!(DiffLine::of("--- before"), DiffLine::Head);
        assert_eq!(DiffLine::of("---"), DiffLine::Removed);
    }

    #[test]
    fn lengths_of_time_and_sizes_read_well() {
        let shown = [0, 999, 1_000, 59_999, 60_000, 185_400, 7_620_000].map(duration);
        assert_eq!(shown, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 00 s", "3 min 05 s", "2 h 07 min"]);
        assert_eq!([12, 1_400, 5_250_000].map(size), ["12 B", "1.4 kB", "5.2 MB"]);
    }
}
