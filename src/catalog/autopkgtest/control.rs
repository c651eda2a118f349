//! Control files of Debian source packages: paragraphs of fields, with comments as autopkgtest takes them.

/// One paragraph. Field names are in lower case; a field that stands there twice has its last value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph {
    /// The line that it starts on, counted from 1.
    pub line: usize,
    fields: Vec<(String, String)>,
}

impl Paragraph {
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }

    /// The words of a field, separated by commas and blanks.
    pub fn words(&self, field: &str) -> Vec<&str> {
        let words = self.get(field).unwrap_or_default().split(|c: char| c == ',' || c.is_whitespace());
        words.filter(|word| !word.is_empty()).collect()
    }

    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

/// A line that belongs to no field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub line: usize,
    pub text: String,
}

/// Reads a control file. `#` starts a comment wherever it stands; a line that is nothing but comment ends no field.
///
/// # Errors
/// The first line that is neither a field nor goes on with one.
pub fn paragraphs(text: &str) -> Result<Vec<Paragraph>, Malformed> {
    let mut all = Vec::new();
    let mut current = Paragraph::default();
    for (at, line) in text.lines().enumerate() {
        let (kept, comment) = line.split_once('#').map_or((line, false), |(before, _)| (before, true));
        let kept = kept.trim_end();
        if kept.is_empty() && comment {
            continue;
        }
        if kept.is_empty() {
            all.extend(std::mem::take(&mut current).some());
            continue;
        }
        let malformed = || Malformed { line: at + 1, text: kept.chars().take(80).collect() };
        if kept.starts_with([' ', '\t']) {
            let (_, value) = current.fields.last_mut().ok_or_else(malformed)?;
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(kept.trim_start());
            continue;
        }
        let (name, value) = kept.split_once(':').filter(|(name, _)| is_field(name)).ok_or_else(malformed)?;
        if current.fields.is_empty() {
            current.line = at + 1;
        }
        current.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    all.extend(current.some());
    Ok(all)
}

impl Paragraph {
    fn some(self) -> Option<Self> {
        (!self.fields.is_empty()).then_some(self)
    }
}

fn is_field(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}
