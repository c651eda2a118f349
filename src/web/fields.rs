//! The fields of a form or a query, in their order, each as often as it was sent.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::api::Problem;

/// The longest text that a person may give as a reason or comment, in characters.
const LONGEST: usize = 400;

#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first of this name; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every one of this name that is not empty.
    ///
    /// # Errors
    /// When one of them can't be read.
    pub fn every<T: FromStr>(&self, name: &str) -> Result<Vec<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.all(name).map(|text| text.parse().map_err(|bad: T::Err| unreadable(name, bad))).collect()
    }

    /// `None` where it is empty or not there.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn maybe<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.all(name).next().map(|text| text.parse().map_err(|bad: T::Err| unreadable(name, bad))).transpose()
    }

    /// # Errors
    /// When it is not there or can't be read.
    pub fn need<T: FromStr>(&self, name: &str) -> Result<T, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.maybe(name)?.ok_or_else(|| unreadable(name, "it is empty"))
    }

    /// What a person wrote: one line, not empty.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn words(&self, name: &str) -> Result<String, Problem> {
        let words = self.comment(name)?;
        if words.is_empty() { Err(unreadable(name, "say why, in a few words")) } else { Ok(words) }
    }

    /// The same, but it may be empty.
    ///
    /// # Errors
    /// When it is too long.
    pub fn comment(&self, name: &str) -> Result<String, Problem> {
        let words = self.get(name).split_whitespace().collect::<Vec<_>>().join(" ");
        if words.chars().count() > LONGEST {
            return Err(unreadable(name, format!("at most {LONGEST} characters")));
        }
        Ok(words)
    }

    /// A moment as a field of kind `datetime-local` gives it, in UTC.
    ///
    /// # Errors
    /// When it is none.
    pub fn moment(&self, name: &str) -> Result<Timestamp, Problem> {
        let civil: DateTime = self.need(name)?;
        civil.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|bad| unreadable(name, bad))
    }
}

fn unreadable(name: &str, why: impl std::fmt::Display) -> Problem {
    Problem::unreadable(format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Name;

    #[test]
    fn forms_are_read_and_nonsense_is_refused() {
        let fields = Fields::parse(b"suite=a&suite=b&suite=&reason=+two%0d%0awords+&at=2026-03-05T09%3A30&bad=%ff");
        assert_eq!(fields.every::<Name>("suite").expect("names").len(), 2);
        assert_eq!(fields.words("reason").expect("words"), "two words");
        assert_eq!(fields.moment("at").expect("a moment").to_string(), "2026-03-05T09:30:00Z");
        assert!(fields.words("nothing").is_err() && fields.comment("nothing").is_ok() && fields.moment("reason").is_err());
        assert!(Fields::parse(format!("reason={}", "x".repeat(401)).as_bytes()).words("reason").is_err());
        assert!(Fields::parse(b"suite=../x").every::<Name>("suite").is_err());
        assert!(Fields::parse(b"").need::<u32>("revision").is_err());
    }
}
