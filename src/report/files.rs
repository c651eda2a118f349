//! The kept files of a run under names that say what each is: `CELL/PASS/WHAT`.

use std::collections::BTreeSet;

use crate::cell::cause::Evidence;
use crate::id::{CellId, Digest};
use crate::journal::{PassRecord, RunState};

/// A kept file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// Below the folder that it is to be written to: plain characters, unique, without an extension.
    pub path: String,
    pub sha256: Digest,
}

impl KeptFile {
    /// Its path with the extension that programs know such contents by.
    pub fn named(&self, bytes: &[u8]) -> String {
        let extension = match bytes {
            [0x4d, 0x3c, 0xb2, 0xa1, ..] => "pcap",
            [0x89, b'P', b'N', b'G', ..] => "png",
            [b'P', b'6', ..] => "ppm",
            _ => "txt",
        };
        format!("{}.{extension}", self.path)
    }
}

/// Every file that the run's record speaks of, in the order of the plan.
pub fn kept_files(run: &RunState) -> Vec<KeptFile> {
    let mut taken = BTreeSet::new();
    let mut files = Vec::new();
    let cells = run.plan.cells.iter().filter_map(|cell| Some((&cell.id, run.cells.get(&cell.id)?)));
    for (cell, pass) in cells.flat_map(|(cell, record)| record.passes.iter().map(move |pass| (cell, pass))) {
        for (name, sha256) in of_pass(pass) {
            let path = format!("{}/{}", folder(cell, pass), plain(&name));
            let unique = (1..).map(|n| if n == 1 { path.clone() } else { format!("{path}-{n}") }).find(|path| taken.insert(path.clone()));
            files.extend(unique.map(|path| KeptFile { path, sha256 }));
        }
    }
    files
}

fn folder(cell: &CellId, pass: &PassRecord) -> String {
    let again = if pass.attempt > 1 { format!("-attempt-{}", pass.attempt) } else { String::new() };
    format!("{}/{}{again}", plain(cell.as_str()), plain(&pass.pass.to_string()))
}

fn of_pass(pass: &PassRecord) -> Vec<(String, Digest)> {
    let facts = pass
        .facts
        .iter()
        .flat_map(|(point, facts)| facts.iter().map(move |(name, sha256)| (format!("{name}.{}", point.as_str()), *sha256)));
    let cases = pass.cases.iter().flat_map(|seen| {
        seen.evidence.iter().map(move |kept| (format!("{}.{}.{}.{}", seen.suite, seen.case, seen.point.as_str(), kept.name), kept.sha256))
    });
    let trouble = pass
        .trouble()
        .into_iter()
        .flat_map(|(stage, trouble)| trouble.evidence.iter().map(move |kept: &Evidence| (format!("{stage}.{}", kept.name), kept.sha256)));
    let whole = pass.evidence.iter().map(|kept| (kept.name.clone(), kept.sha256));
    facts.chain(cases).chain(trouble).chain(whole).collect()
}

/// Names from a journal as names of files.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '+' | '-') { c } else { '-' };
    let name: String = name.chars().take(120).map(plain).collect();
    if name.trim_matches('.').is_empty() { "unnamed".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_kept_file_has_a_place_of_its_own() {
        let mut story = fixture::failing();
        let cell = story.run.plan.cells[2].id.clone();
        let pass = &mut story.run.cells.get_mut(&cell).expect("the cell").passes[0];
        let kept = |name: &str| Evidence { name: name.to_owned(), sha256: Digest::of(name), size: 3 };
        pass.evidence = vec![kept("capture of lan"), kept("capture/of lan"), kept("../../etc/passwd"), kept("..")];
        pass.cases.last_mut().expect("a case").evidence = vec![kept("timeline")];
        let paths: Vec<_> = kept_files(&story.run).into_iter().map(|file| file.path).collect();
        for expected in
            ["main/nginx.tls.after-apply.timeline", "main/capture-of-lan", "main/capture-of-lan-2", "main/..-..-etc-passwd", "main/unnamed"]
        {
            assert!(paths.contains(&format!("{}/{expected}", cell.as_str())), "{expected}: {paths:?}");
        }
        assert!(paths.iter().any(|path| path.ends_with("cold-boot.console")), "{paths:?}");
        assert!(paths.iter().all(|path| path.split('/').all(|part| !part.trim_matches('.').is_empty())), "{paths:?}");
    }
}
