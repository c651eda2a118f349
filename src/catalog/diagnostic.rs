//! What is wrong with a file that a person wrote: where, what was found, what was expected, and what to do about it.
//!
//! Invariant: a diagnostic is about one mistake and is complete by itself; its texts hold nothing that moves a terminal's
//! cursor, whatever the file holds.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use serde::Serialize;

/// Whether a lab with this in it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Error,
    Warning,
}

/// One mistake in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnostic {
    pub level: Level,
    /// The file or folder, as the person would name it.
    pub file: PathBuf,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The key, for example `case[2].run`. Absent where it is about the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// One line: what is wrong.
    pub problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The host let the lab down; nothing is wrong with what the person wrote.
    #[serde(skip)]
    pub fault: bool,
}

/// Whether an error is the host's: no room, or a disk that takes no more writes. Any other comes from what the person named.
pub fn is_fault(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem)
}

/// Where in a text file. Lines and columns count from 1; columns and width count characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub width: usize,
    /// The line itself.
    pub text: String,
}

/// The longest line that is shown with its mistake. Longer ones (an inlined blob) would bury it.
const SHOWN_LINE: usize = 160;

impl Place {
    /// The place of these bytes in a text. Bytes beyond it or inside a character are moved to the nearest possible ones.
    pub fn of(text: &str, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.floor_char_boundary(span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end.min(line_end).max(start)].trim_end().chars().count().max(1),
            text: text[line_start..line_end].trim_end().to_owned(),
        }
    }
}

impl Diagnostic {
    pub fn error(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::new(Level::Error, file.into(), problem.into())
    }

    pub fn warning(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::new(Level::Warning, file.into(), problem.into())
    }

    fn new(level: Level, file: PathBuf, problem: String) -> Self {
        Self { level, file, place: None, key: None, problem, found: None, expected: None, hint: None, fault: false }
    }

    /// What could not be done with a file or folder of the lab itself.
    pub fn failed(file: impl Into<PathBuf>, problem: &str, error: &io::Error) -> Self {
        Self { fault: is_fault(error), ..Self::error(file, format!("{problem}: {error}")) }
    }

    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()).filter(|key| !key.is_empty()), ..self }
    }

    pub fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    pub fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// As [`Self::hint`], where there is one.
    pub fn hint_if(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// The order in which people read them: by file, then by place.
    pub fn sort(diagnostics: &mut [Self]) {
        diagnostics.sort_by(|a, b| a.order().cmp(&b.order()));
    }

    fn order(&self) -> (&Path, Option<(usize, usize)>, &str) {
        (&self.file, self.place.as_ref().map(|place| (place.line, place.column)), &self.problem)
    }
}

/// In the manner of compilers:
///
/// ```text
/// error: unknown key "chipest"
///   --> builds/hardware/lab.toml:3:1
///    |
///  3 | chipest = "q35"
///    | ^^^^^^^
///    = key: chipest
///    = hint: did you mean "chipset"?
/// ```
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{level}: {}", Tame(&self.problem))?;
        let file = self.file.to_string_lossy();
        let gutter = self.place.as_ref().map_or(1, |place| place.line.to_string().len());
        write!(f, "\n{:gutter$}--> {}", "", Tame(&file))?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
            if place.text.chars().count() <= SHOWN_LINE {
                let before: String = place.text.chars().take(place.column - 1).collect();
                let indent = Tame(&before).to_string().chars().count();
                write!(f, "\n {:gutter$} |\n {} | {}", "", place.line, Tame(&place.text))?;
                write!(f, "\n {:gutter$} | {:indent$}{}", "", "", "^".repeat(place.width.min(SHOWN_LINE)))?;
            }
        }
        let notes = [("key", &self.key), ("found", &self.found), ("expected", &self.expected), ("hint", &self.hint)];
        for (name, note) in notes {
            if let Some(note) = note {
                write!(f, "\n {:gutter$} = {name}: {}", "", Tame(note))?;
            }
        }
        Ok(())
    }
}

/// A text without control characters. A tab becomes one space, so that columns hold; all else shows as its escape.
struct Tame<'a>(&'a str);

impl fmt::Display for Tame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let turns_text = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            match c {
                '\t' => f.write_str(" ")?,
                c if c.is_control() || turns_text => write!(f, "{}", c.escape_default())?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Everything that is wrong with something: at least one error, and the warnings beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Diagnostic>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Vec<Diagnostic>> for Problems {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self(diagnostics)
    }
}

impl From<Diagnostic> for Problems {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// The known word that was most likely meant.
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(found, known).map(|word| format!("did you mean {word:?}?"))
}

/// The known word nearest to this one, where one is near enough to be what was meant.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if found.len() > 200 {
        return None;
    }
    let folded = found.to_lowercase().replace(['_', ' '], "-");
    let scored = known.into_iter().map(|word| (strsim::jaro_winkler(&folded, word), word));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// `"a", "b" or "c"`.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = words.into_iter().map(|word| format!("{word:?}")).collect();
    match quoted.as_slice() {
        [] => "none: there is none yet".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_like_a_compiler() {
        let text = "title = \"x\"\n\tchipest = \"q35\"\n";
        let start = text.find("chipest").unwrap();
        let diagnostic = Diagnostic::error("builds/hardware/lab.toml", "unknown key \"chipest\"")
            .at(Place::of(text, start..start + 7))
            .key("chipest")
            .hint_if(did_you_mean("chipest", ["title", "chipset", "cpu"]));
        insta::assert_snapshot!(diagnostic, @r#"
        error: unknown key "chipest"
         --> builds/hardware/lab.toml:2:2
           |
         2 |  chipest = "q35"
           |  ^^^^^^^
           = key: chipest
           = hint: did you mean "chipset"?
        "#);
    }

    #[test]
    fn nothing_in_it_can_move_the_cursor() {
        let text = "a = \"\u{1b}[2J\u{202e}\"";
        let shown = Diagnostic::error("x\u{7}.toml", "p\rq").at(Place::of(text, 0..400)).found("\u{1b}]0;t\u{7}").to_string();
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert!(!shown.contains('\u{202e}'));
    }

    #[test]
    fn places_are_clamped_to_the_text() {
        for span in [0..0, Range { start: 3, end: 2 }, 90..95, 2..3, 0..usize::MAX] {
            let place = Place::of("é\r\nü", span);
            assert!(place.line >= 1 && place.column >= 1 && place.width >= 1);
        }
        assert_eq!((Place::of("ab\ncd", 4..5).line, Place::of("ab\ncd", 4..5).column), (2, 2));
    }
}
