//! Planned patches, cases and cells for tests.

use super::{Package, PayloadFacts, PlannedCell, PlannedHardware, PlannedImage, PlannedMachine, PlannedPatch, PlannedSuite, Subject};
use crate::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use crate::catalog::image::Os;
use crate::catalog::patch::{FileTarget, Patch, PatchKind, Reboot};
use crate::catalog::suite::Case;
use crate::catalog::text::Span;
use crate::id::{CellId, Digest, Name};

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A case that is one script.
pub(crate) fn case(text: &str) -> Case {
    Case {
        name: name(text),
        title: String::new(),
        run: Some(format!("{text}.sh")),
        steps: Vec::new(),
        result: Default::default(),
        time_limit: Span::secs(60),
        role: None,
        needs: Vec::new(),
        destructive: false,
        leaves_nothing: false,
        autopkgtest: None,
    }
}

pub(crate) fn suite(text: &str, cases: Vec<Case>) -> PlannedSuite {
    PlannedSuite { name: name(text), sha256: Digest::of(text), cast: Default::default(), cases, packages: Vec::new() }
}

/// A build of acme's on one machine.
pub(crate) fn cell(build: &str, hardware: &str, suites: Vec<PlannedSuite>) -> PlannedCell {
    let profile = Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    let planned = PlannedHardware { name: name(hardware), sha256: Digest::of(hardware), profile };
    let image = PlannedImage { name: name("image"), sha256: Digest::of("image") };
    let machine = PlannedMachine::alone(name("server"), name(build), Os::Debian, image, planned.into());
    PlannedCell {
        id: CellId::new(&name("acme"), &name(build), &name(hardware)),
        customer: name("acme"),
        subject: Subject::Build(name(build)),
        machines: vec![PlannedMachine { services: vec!["nginx.service".to_owned()].into(), ..machine }],
        segments: Vec::new(),
        suites: suites.into_iter().map(Into::into).collect(),
        confirmations: 1,
        attempts: 2,
        baseline_valid_for: Span::secs(0),
        host_labels: std::collections::BTreeSet::new(),
    }
}

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
