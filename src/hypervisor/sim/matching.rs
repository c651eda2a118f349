//! Which machines a line of a scenario means.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::cell::cause::Side;
use crate::cell::observation::Point;

/// Which machines, and when in their lives. What is not given matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct When {
    /// The cell's id; `*` stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// The machine's role among its peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Which clones of the cell, counted from 1 over all of its passes and attempts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nth: Vec<u32>,
    /// Whether the patch has touched the clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The ids of patches that have all touched the clone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<String>,
    /// How far the clone is in its pass, by what was done to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<Point>,
    /// Which boots of the clone, counted from 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boot: Vec<u32>,
}

impl When {
    pub fn cell(pattern: &str) -> Self {
        Self { cell: Some(pattern.to_owned()), ..Self::default() }
    }

    pub fn side(side: Side) -> Self {
        Self { side: Some(side), ..Self::default() }
    }

    pub fn at(points: &[Point]) -> Self {
        Self { at: points.to_vec(), ..Self::default() }
    }

    pub fn patches(ids: &[&str]) -> Self {
        Self { patches: ids.iter().map(|id| (*id).to_owned()).collect(), ..Self::default() }
    }

    pub fn nth(nth: &[u32]) -> Self {
        Self { nth: nth.to_vec(), ..Self::default() }
    }

    /// Whether a machine in this situation is meant.
    pub fn matches(&self, now: &Situation<'_>) -> bool {
        let side = if now.point == Point::Baseline || now.point == Point::RolledBack { Side::Before } else { Side::After };
        self.cell.as_deref().is_none_or(|pattern| glob(pattern, now.cell))
            && self.role.as_deref().is_none_or(|role| role == now.role)
            && (self.nth.is_empty() || self.nth.contains(&now.nth))
            && self.side.is_none_or(|wanted| wanted == side)
            && self.patches.iter().all(|id| now.patches.contains(id))
            && (self.at.is_empty() || self.at.contains(&now.point))
            && (self.boot.is_empty() || self.boot.contains(&now.boot))
    }
}

/// What a machine is like at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub cell: &'a str,
    /// Empty for a machine without peers.
    pub role: &'a str,
    pub nth: u32,
    pub point: Point,
    pub boot: u32,
    /// The ids of the patches that have touched the machine and were not taken back.
    pub patches: &'a BTreeSet<String>,
}

/// Whether a text fits a pattern in which `*` stands for any characters.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, after)) = rest.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
        rest = after;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in
            [("*", ""), ("a*", "a"), ("*@b", "a@b"), ("a*c", "abbc"), ("a*b*c", "a1b2c"), ("a*a", "aa"), ("", ""), ("n/*", "n/t")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "b"), ("a*", "ba"), ("a*a", "a"), ("a*b*c", "acb"), ("", "a"), ("a*b", "abc")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn each_criterion_narrows() {
        let patches = ["one".to_owned(), "other".to_owned()].into();
        let now = Situation { cell: "acme.web@bios", role: "", nth: 2, point: Point::Rebooted, boot: 3, patches: &patches };
        for when in [
            When::default(),
            When::cell("acme.*"),
            When::side(Side::After),
            When::at(&[Point::Rebooted]),
            When::nth(&[1, 2]),
            When::patches(&["other", "one"]),
            When { boot: vec![3], ..When::default() },
        ] {
            assert!(when.matches(&now), "{when:?}");
        }
        for when in [
            When::cell("globex.*"),
            When::side(Side::Before),
            When::at(&[Point::Baseline]),
            When::nth(&[1]),
            When::patches(&["one", "third"]),
            When { boot: vec![1], ..When::default() },
        ] {
            assert!(!when.matches(&now), "{when:?}");
        }
    }
}
