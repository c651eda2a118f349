//! Reads one TOML file of a kind: bytes, text, tree, schema, type. Each step reports all it can see.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml_edit::de::Deserializer;

use super::diagnostic::{Diagnostic, Place};
use super::schema::Kind;
use super::structure;
use super::tree::{self, Bytes, Tree};

/// The longest file that is read. Descriptions are short; a longer one is a mistake.
const LONGEST: u64 = 1 << 20;

/// The deepest nesting that is followed, so that no file can exhaust the stack.
const DEEPEST: usize = 32;

/// A file that is TOML, whatever else is wrong with it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file as the person would name it.
    pub file: PathBuf,
    pub text: String,
    pub tree: Tree,
}

impl Source {
    pub fn place(&self, span: &Bytes) -> Place {
        Place::of(&self.text, span.clone())
    }

    /// An error at a value.
    pub fn error(&self, at: &Tree, key: impl Into<String>, problem: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.file, problem).at(self.place(&at.span)).key(key)
    }

    pub fn warning(&self, at: &Tree, key: impl Into<String>, problem: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(&self.file, problem).at(self.place(&at.span)).key(key)
    }
}

/// What reading a file gave. The value is there only when nothing is wrong with it by itself.
#[derive(Clone, Debug)]
pub struct Reading<T> {
    pub source: Option<Source>,
    pub value: Option<T>,
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Reading<T> {
    fn broken(diagnostic: Diagnostic) -> Self {
        Self { source: None, value: None, diagnostics: vec![diagnostic] }
    }
}

/// Reads the file at `path`, which diagnostics name `shown`.
pub fn read<T: DeserializeOwned>(path: &Path, shown: &Path, kind: Kind) -> Reading<T> {
    match bytes(path, shown) {
        Ok(bytes) => parse(&bytes, shown, kind),
        Err(diagnostic) => Reading::broken(*diagnostic),
    }
}

fn bytes(path: &Path, shown: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let unreadable = |error: std::io::Error| Box::new(Diagnostic::error(shown, format!("can't be read: {error}")));
    // Asked before opening: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Box::new(Diagnostic::error(shown, "not a regular file").expected("a TOML file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Box::new(Diagnostic::error(shown, "too long a file").found("more than 1 MiB").expected("a short TOML file")));
    }
    Ok(bytes)
}

/// As [`read`], from bytes.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], shown: &Path, kind: Kind) -> Reading<T> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Reading::broken(not_utf8(bytes, error.valid_up_to(), shown)),
    };
    if text.starts_with('\u{feff}') {
        let problem = Diagnostic::error(shown, "a byte order mark at the start").at(Place::of("", 0..0));
        return Reading::broken(problem.expected("plain UTF-8").hint("save it as \"UTF-8\", not as \"UTF-8 with BOM\""));
    }
    if let Some(at) = too_deep(text) {
        let problem = Diagnostic::error(shown, "nested too deeply").at(Place::of(text, at..at + 1));
        return Reading::broken(problem.expected(format!("at most {DEEPEST} levels")));
    }
    let (document, tree) = match tree::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            let problem = Diagnostic::error(shown, format!("not valid TOML: {message}"));
            return Reading::broken(problem.at(Place::of(text, error.span().unwrap_or(0..0))));
        }
    };
    let source = Source { file: shown.to_owned(), text: text.to_owned(), tree };
    let mut diagnostics = structure::check(&source, kind);
    let value = if diagnostics.is_empty() {
        T::deserialize(Deserializer::from(document))
            .map_err(|error| {
                let span = error.span().unwrap_or(0..0);
                diagnostics.push(Diagnostic::error(shown, error.message()).at(source.place(&span)).key(key_at(&source.tree, &span)));
            })
            .ok()
    } else {
        None
    };
    Reading { source: Some(source), value, diagnostics }
}

fn not_utf8(bytes: &[u8], valid: usize, shown: &Path) -> Diagnostic {
    let before = &bytes[..valid];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text: String = String::from_utf8_lossy(&bytes[line_start..]).lines().next().unwrap_or_default().to_owned();
    let place = Place {
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: String::from_utf8_lossy(&bytes[line_start..valid]).chars().count() + 1,
        width: 1,
        text,
    };
    let found = bytes.get(valid).map_or_else(String::new, |byte| format!("the byte 0x{byte:02x}"));
    Diagnostic::error(shown, "not UTF-8").at(place).found(found).expected("UTF-8 text").hint("save it as UTF-8")
}

/// Where brackets or dots nest deeper than any description needs. It looks at raw bytes, so it counts those in texts and comments
/// too: a run of dots within one line, or brackets that stay open, is what exhausts parsers.
fn too_deep(text: &str) -> Option<usize> {
    let (mut open, mut dots) = (0usize, 0usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'=' | b'\n' | b',' | b'"' | b'\'' | b' ' => dots = 0,
            b'.' => dots += 1,
            _ => {}
        }
        if open > 4 * DEEPEST || dots > DEEPEST {
            return Some(at);
        }
    }
    None
}

/// The key path of the innermost value that covers these bytes. It looks everywhere: the bytes of a table that has a header are
/// those of the header, not those of its values.
fn key_at(tree: &Tree, span: &Bytes) -> String {
    fn search(tree: &Tree, path: String, span: &Bytes, best: &mut (usize, String)) {
        let width = tree.span.len();
        if !path.is_empty() && tree.span.start <= span.start && span.end <= tree.span.end && width <= best.0 {
            *best = (width, path.clone());
        }
        for entry in tree.entries() {
            search(&entry.value, tree::join(&path, &entry.key), span, best);
        }
        for (at, item) in tree.items().iter().enumerate() {
            search(item, format!("{path}[{at}]"), span, best);
        }
    }
    let mut best = (usize::MAX, String::new());
    search(tree, String::new(), span, &mut best);
    best.1
}
