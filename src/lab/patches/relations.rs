//! How candidates stand to each other: what requires what, what replaces what, and that no chain of it leads back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::candidate::StoredPatch;
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::patch::Patch;
use crate::id::{Digest, Name};

/// Adds what is wrong with a candidate's relations, seen beside those already in the store.
pub(super) fn check(manifest: &Patch, sha256: &Digest, file: &Path, others: &[StoredPatch], diagnostics: &mut Vec<Diagnostic>) {
    let id = &manifest.id;
    let known: BTreeSet<_> = others.iter().map(|other| &other.manifest.id).collect();
    for required in manifest.requires.iter().filter(|required| !known.contains(required)) {
        let problem = format!("it requires {:?}, which is not in the store", required.as_str());
        diagnostics.push(Diagnostic::warning(file, problem).key("requires").hint("add that patch too"));
    }
    for other in others.iter().filter(|other| other.manifest.id == *id && other.sha256 != *sha256) {
        let problem = format!("another candidate is called {:?}: {}", id.as_str(), other.sha256);
        diagnostics
            .push(Diagnostic::warning(file, problem).key("id").hint("name each by its digest; verdicts for one don't speak for the other"));
    }
    // Other candidates of the same id are left out: this one takes their place in the chain.
    let all = || others.iter().map(|other| &other.manifest).filter(|other| other.id != *id).chain([manifest]);
    let requires = all().map(|one| (&one.id, one.requires.as_slice()));
    let supersedes = all().map(|one| (&one.id, one.supersedes.as_slice()));
    for (key, edges) in [("requires", gather(requires)), ("supersedes", gather(supersedes))] {
        if let Some(chain) = way_back(id, &edges) {
            let chain: Vec<_> = chain.iter().map(|name| name.as_str()).collect();
            let problem = Diagnostic::error(file, format!("{key} leads back to the patch itself")).key(key);
            diagnostics.push(problem.found(chain.join(" → ")).hint("one of these patches must let go of the next"));
        }
    }
}

type Edges<'a> = BTreeMap<&'a Name, BTreeSet<&'a Name>>;

fn gather<'a>(lists: impl Iterator<Item = (&'a Name, &'a [Name])>) -> Edges<'a> {
    let mut edges = Edges::new();
    for (from, to) in lists {
        edges.entry(from).or_default().extend(to);
    }
    edges
}

/// A way from a name back to itself, if there is one: the shortest.
fn way_back<'a>(start: &'a Name, edges: &Edges<'a>) -> Option<Vec<&'a Name>> {
    let mut came_from: BTreeMap<&Name, &Name> = BTreeMap::new();
    let mut left = std::collections::VecDeque::from([start]);
    while let Some(here) = left.pop_front() {
        for next in edges.get(here).into_iter().flatten().copied() {
            if next == start {
                let mut chain = vec![start, here];
                while let Some(before) = chain.last().filter(|last| **last != start).and_then(|last| came_from.get(last)) {
                    chain.push(before);
                }
                chain.reverse();
                return Some(chain);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, here);
                left.push_back(next);
            }
        }
    }
    None
}
