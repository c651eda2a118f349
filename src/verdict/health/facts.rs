//! A guest's state as `facts.sh` (src/guest/linux) tells it: sections of lines. Read here because the checks that compare are pure.
//!
//! Invariant: a guest is hostile. Whatever its bytes are, reading them is bounded in memory and gives text.

use std::collections::BTreeMap;
use std::io::Read;

use thiserror::Error;

/// Bytes kept after unpacking.
const CAP: u64 = 48 << 20;
/// Lines kept of all sections together.
const LINES: usize = 600_000;
/// Characters kept of a line.
const WIDTH: usize = 4096;

/// How a line begins that says that the guest's tool did not end in time, and one that it could not be used.
const CUT_OFF: &str = "cut-off: ";
const UNAVAILABLE: &str = "unavailable: ";

/// Why a section of the facts is not there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct Unmeasured {
    pub reason: String,
    /// The guest's tool did not end in time. Then the host may have been busy: no more than that is known.
    pub cut_off: bool,
}

impl From<&str> for Unmeasured {
    fn from(reason: &str) -> Self {
        Self { reason: reason.to_owned(), cut_off: false }
    }
}

/// A guest's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    sections: BTreeMap<String, Section>,
}

/// A section's lines, and which of them say that it was not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Section {
    lines: Vec<String>,
    cut_off: Option<usize>,
    unavailable: Option<usize>,
}

impl Section {
    fn take(&mut self, line: &str) {
        if line.starts_with(CUT_OFF) {
            self.cut_off.get_or_insert(self.lines.len());
        } else if line.starts_with(UNAVAILABLE) {
            self.unavailable.get_or_insert(self.lines.len());
        }
        self.lines.push(start(line).to_owned());
    }

    /// The rest of the line that says so.
    fn reason(&self, at: Option<usize>, mark: &str) -> Option<&str> {
        self.lines.get(at?)?.strip_prefix(mark)
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the guest's facts are not readable: {0}")]
pub struct BadFacts(String);

impl Facts {
    /// Reads what `facts.sh` wrote, packed by gzip or plain.
    ///
    /// # Errors
    /// When it cannot be unpacked, or ends before its end mark: then something was lost on the way.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadFacts> {
        let mut text = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let packed = flate2::read::MultiGzDecoder::new(bytes);
            packed.take(CAP).read_to_end(&mut text).map_err(|error| BadFacts(format!("unpacking: {error}")))?;
        } else {
            text.extend_from_slice(&bytes[..bytes.len().min(CAP as usize)]);
        }
        let facts = Self::from_text(&String::from_utf8_lossy(&text));
        match (facts.has("end"), facts.sections.is_empty()) {
            (true, _) => Ok(facts),
            (false, true) => Err(BadFacts("there is no section in them".to_owned())),
            (false, false) => Err(BadFacts("they end in the middle".to_owned())),
        }
    }

    /// Sections as `== name` and their lines. Lines before the first section and repeated sections are dropped.
    pub fn from_text(text: &str) -> Self {
        let mut sections: BTreeMap<String, Section> = BTreeMap::new();
        let mut current: Option<(&str, Section)> = None;
        for line in text.lines().take(LINES) {
            let heading = line
                .strip_prefix("== ")
                .filter(|name| !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || matches!(c, b'-' | b'0'..=b'9')));
            if let Some(name) = heading {
                sections.extend(current.take().map(|(name, section)| (name.to_owned(), section)));
                current = (!sections.contains_key(name)).then(|| (name, Section::default()));
            } else if let Some((_, section)) = &mut current {
                section.take(line);
            }
        }
        sections.extend(current.map(|(name, section)| (name.to_owned(), section)));
        Self { sections }
    }

    pub fn has(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// A section's lines; empty when it is missing.
    pub fn lines(&self, section: &str) -> &[String] {
        self.sections.get(section).map_or(&[], |section| section.lines.as_slice())
    }

    /// A section's lines, or why they could not be taken.
    ///
    /// # Errors
    /// When the section is missing, its tool is, or its tool failed or was cut off.
    pub fn measured(&self, section: &str) -> Result<&[String], Unmeasured> {
        let section = self.section(section)?;
        section.reason(section.unavailable, UNAVAILABLE).map_or(Ok(&section.lines), |reason| Err(reason.into()))
    }

    /// A section's lines, what its tool said when it failed among them.
    ///
    /// # Errors
    /// When the section is missing or its tool was cut off.
    pub fn whole(&self, section: &str) -> Result<&[String], Unmeasured> {
        self.section(section).map(|section| section.lines.as_slice())
    }

    fn section(&self, name: &str) -> Result<&Section, Unmeasured> {
        let none = || Unmeasured::from(format!("the guest's facts have no section {name}").as_str());
        let section = self.sections.get(name).ok_or_else(none)?;
        match section.reason(section.cut_off, CUT_OFF) {
            Some(reason) => Err(Unmeasured { reason: reason.to_owned(), cut_off: true }),
            None => Ok(section),
        }
    }

    /// The rest of the first line of `section` that starts with the word `key`.
    pub fn value(&self, section: &str, key: &str) -> Option<&str> {
        self.lines(section).iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::trim)
    }

    /// [`Self::value`] as a number.
    pub fn number(&self, section: &str, key: &str) -> Option<f64> {
        self.value(section, key)?.parse().ok()
    }

    /// The boot that they were taken in.
    pub fn boot_id(&self) -> &str {
        self.value("meta", "boot-id").unwrap_or_default()
    }
}

/// What is kept of a line.
fn start(line: &str) -> &str {
    // A character has at least one byte.
    if line.len() <= WIDTH { line } else { line.char_indices().nth(WIDTH).map_or(line, |(end, _)| line.get(..end).unwrap_or(line)) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_come_back_packed_and_plain() {
        let text = "noise\n== meta\nboot-id abc\n== units\na.service loaded active running\n== listening\nunavailable: no ss\n== meta\nboot-id forged\n== end\n";
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).expect("packed");
        let packed = packer.finish().expect("packed");
        for bytes in [text.as_bytes(), &packed] {
            let facts = Facts::parse(bytes).expect("readable");
            assert_eq!(facts.boot_id(), "abc");
            assert_eq!(facts.lines("units").len(), 1);
            assert_eq!(facts.measured("listening"), Err("no ss".into()));
        }
        for bad in [&b""[..], b"hello", b"== meta\nboot-id abc\n", &packed[..packed.len() / 2]] {
            assert!(Facts::parse(bad).is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn a_line_is_kept_up_to_its_width_in_characters() {
        let (fits, long) = ("ä".repeat(WIDTH), "ä".repeat(WIDTH + 1));
        let facts = Facts::from_text(&format!("== meta\n{fits}\n{long}\nshort\n"));
        assert_eq!(facts.lines("meta"), [&fits, &fits, "short"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), packed in any::<bool>()) {
            let mut bytes = bytes;
            if packed {
                bytes.splice(0..0, [0x1f, 0x8b, 8, 0]);
            }
            let _ = Facts::parse(&bytes);
        }
    }
}
