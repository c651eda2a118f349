//! Planned patches for tests.

use super::{Package, PayloadFacts, PlannedPatch};
use crate::catalog::patch::{FileTarget, Patch, PatchKind, Reboot};
use crate::catalog::text::Span;
use crate::id::Digest;

/// A patch of a kind, with a small and plausible payload.
pub(crate) fn planned(kind: &str) -> PlannedPatch {
    let kind = match kind {
        "deb" => PatchKind::Deb,
        "script" => PatchKind::Script,
        "files" => PatchKind::Files,
        "diff" => PatchKind::Diff,
        other => panic!("no kind {other}"),
    };
    let (files, facts) = match kind {
        PatchKind::Deb => (
            vec![],
            PayloadFacts {
                packages: vec![Package {
                    name: "nginx".to_owned(),
                    version: "1.22.1-9+deb12u11".to_owned(),
                    architecture: "amd64".to_owned(),
                    file: "nginx.deb".to_owned(),
                }],
                paths: vec![],
                bytes: 100,
            },
        ),
        PatchKind::Script => (vec![], PayloadFacts::default()),
        PatchKind::Files => (
            vec![FileTarget {
                source: "motd".to_owned(),
                target: "/etc/motd".to_owned(),
                mode: "0644".to_owned(),
                owner: "root:root".to_owned(),
            }],
            PayloadFacts { packages: vec![], paths: vec!["/etc/motd".to_owned()], bytes: 100 },
        ),
        PatchKind::Diff => (vec![], PayloadFacts { packages: vec![], paths: vec!["/etc/hosts".to_owned()], bytes: 100 }),
    };
    PlannedPatch {
        sha256: Digest::of("patch"),
        manifest: Patch {
            id: "example".parse().expect("a name"),
            title: "An example".to_owned(),
            kind,
            payload: vec!["payload".to_owned()],
            reboot: Reboot::Auto,
            vendor: None,
            severity: None,
            cves: vec![],
            supersedes: vec![],
            requires: vec![],
            install: None,
            uninstall: None,
            verify: None,
            timeout: Span::secs(60),
            files,
            root: None,
            strip: None,
            removes: vec![],
            changes: vec![],
        },
        facts,
        brings: false,
    }
}
