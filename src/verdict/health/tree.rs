//! The guest's files by their metadata, and how two such trees differ.

use std::collections::{BTreeMap, BTreeSet};

use crate::verdict::health::facts::{Facts, Unmeasured};

/// One entry of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// As `find -printf %y` writes it: `f`, `d`, `l`, ...
    pub(super) kind: &'a str,
    /// Permission bits with SUID, SGID and sticky.
    pub(super) mode: u32,
    /// `uid:gid`.
    pub(super) owner: &'a str,
    size: &'a str,
    modified: &'a str,
    link: &'a str,
    /// Of contents, for the paths that are hashed.
    hash: Option<&'a str>,
}

pub(super) type Tree<'a> = BTreeMap<&'a str, Entry<'a>>;

/// How one path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    Gone,
    New,
    /// Another kind of file, other contents or another link target.
    Content,
}

impl Difference {
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Gone => "is gone",
            Self::New => "is new",
            Self::Content => "changed",
        }
    }
}

/// Reads the listing.
pub(super) fn tree(facts: &Facts) -> Result<Tree<'_>, Unmeasured> {
    let hashes: BTreeMap<&str, &str> =
        facts.lines("hashes").iter().filter_map(|line| line.split_once("  ").map(|(hash, path)| (path, hash))).collect();
    let mut tree = Tree::new();
    for line in facts.measured("files")? {
        let mut words = line.splitn(6, ' ');
        let (Some(kind), Some(mode), Some(owner), Some(size), Some(modified), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some((path, link)) = rest.rsplit_once('\t') else { continue };
        let Ok(mode) = u32::from_str_radix(mode, 8) else { continue };
        tree.insert(path, Entry { kind, mode, owner, size, modified, link, hash: hashes.get(path).copied() });
    }
    if tree.is_empty() {
        return Err("the listing of files is empty".into());
    }
    Ok(tree)
}

/// File systems that were not listed both times say nothing about their files.
pub(super) fn unlisted(before: &Facts, now: &Facts) -> Vec<String> {
    let roots = |facts: &Facts| facts.lines("file-roots").iter().cloned().collect::<BTreeSet<_>>();
    roots(before).symmetric_difference(&roots(now)).filter(|root| *root != "/").cloned().collect()
}

impl Entry<'_> {
    /// How it differs from what it was. For a folder only its kind counts: its entries speak for themselves. `touched`: whether a new
    /// time stamp alone is a difference.
    pub(super) fn difference(&self, before: &Self, touched: bool) -> Option<Difference> {
        let contents = match (self.kind, self.hash, before.hash) {
            _ if self.kind != before.kind => true,
            ("f", Some(now), Some(before)) => now != before,
            ("f", _, _) => self.size != before.size || (touched && self.modified != before.modified),
            ("l", _, _) => self.link != before.link,
            _ => false,
        };
        contents.then_some(Difference::Content)
    }

    pub(super) const fn privileged(&self) -> bool {
        self.mode & 0o6000 != 0
    }

    /// Anyone may write to it, and no sticky bit protects what is in it.
    pub(super) fn open_to_all(&self) -> bool {
        self.mode & 0o002 != 0 && self.mode & 0o1000 == 0 && matches!(self.kind, "f" | "d")
    }
}

impl Entry<'_> {
    /// Whether kind, mode and owner are the same.
    pub(super) fn same_guard(&self, other: &Self) -> bool {
        (self.kind, self.mode, self.owner) == (other.kind, other.mode, other.owner)
    }

    /// Of a file; nothing for all else.
    pub(super) fn bytes(&self) -> f64 {
        if self.kind == "f" { self.size.parse().unwrap_or(0.0) } else { 0.0 }
    }

    pub(super) fn is_link_to(&self, target: &str) -> bool {
        self.kind == "l" && self.link == target
    }
}
