//! A patch as job steps in a Linux guest: what is tried before, how each kind is applied, confirmed by state, applied again and taken
//! back. What the steps' reports mean is in [`super::judge`].
//!
//! Every value reaches the scripts through the environment, never by pasting it into a command line.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{RUNNER_ROOT, STATE_FOLDER};
use crate::catalog::patch::{Patch, PatchKind};
use crate::guest::JobStep;
use crate::plan::PlannedPatch;

const COMMON: &str = include_str!("common.sh");
const DEB: &str = include_str!("deb.sh");
const FILES: &str = include_str!("files.sh");
const DIFF: &str = include_str!("diff.sh");
const REBOOT: &str = include_str!("reboot.sh");
const FACTS: &str = include_str!("facts.sh");

/// Output kept of a step.
const OUTPUT: usize = 512 * 1024;
/// The facts of a big machine, packed.
const FACTS_OUTPUT: usize = 8 << 20;
/// For the lab's own steps that change nothing. The slowest is the simulation of a large upgrade under emulation.
const LOOK: Duration = Duration::from_secs(300);

/// A patch as job steps, each list a job of its own. Empty: nothing to do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchSteps {
    /// Refuses what does not fit this build, before anything is changed.
    pub preflight: Vec<JobStep>,
    pub apply: Vec<JobStep>,
    /// By state, not by the installer's word; the manifest's `verify` last.
    pub confirm: Vec<JobStep>,
    /// Lists the reasons for which the guest wants a reboot.
    pub reboot_wanted: Vec<JobStep>,
    pub reapply: Vec<JobStep>,
    /// `None` where the kind can't be taken back and the manifest has no `uninstall`: then the image is the way back.
    pub rollback: Option<Vec<JobStep>>,
}

/// The steps of a patch.
pub fn steps(patch: &PlannedPatch) -> PatchSteps {
    let manifest = &patch.manifest;
    let lab = |script: &str, call: &str, limit: Duration| JobStep {
        command: format!("{COMMON}\n{script}\n{call}\n"),
        folder: None,
        env: environment(patch),
        limit,
        output_cap: OUTPUT,
        terminal: false,
        needs: Vec::new(),
    };
    let limit = manifest.timeout.0;
    let own = |command: &str| JobStep { terminal: true, ..lab("", &staged(command), limit) };
    let verify = manifest.verify.as_deref().map(own);
    let uninstall = manifest.uninstall.as_deref().map(own);

    let (script, preflight, apply, confirm, rollback) = match manifest.kind {
        PatchKind::Deb => (DEB, Some("deb_preflight"), "deb_apply", Some("deb_confirm"), None),
        PatchKind::Files => (FILES, Some("files_preflight"), "files_apply", Some("files_confirm"), Some("files_rollback")),
        PatchKind::Diff => (DIFF, Some("diff_preflight"), "diff_apply", Some("diff_confirm"), Some("diff_rollback")),
        PatchKind::Script => ("", None, "", None, None),
    };
    let apply = match manifest.kind {
        PatchKind::Script => own(manifest.install.as_deref().unwrap_or("./install")),
        PatchKind::Deb | PatchKind::Files | PatchKind::Diff => JobStep { terminal: true, ..lab(script, apply, limit) },
    };
    let needing = |mut step: JobStep| {
        step.needs = needs(manifest);
        step
    };
    PatchSteps {
        preflight: preflight.map(|call| needing(lab(script, call, LOOK))).into_iter().collect(),
        confirm: confirm.map(|call| lab(script, call, LOOK)).into_iter().chain(verify).collect(),
        reboot_wanted: vec![lab(REBOOT, "", LOOK)],
        reapply: vec![apply.clone()],
        apply: vec![apply],
        rollback: uninstall.or_else(|| rollback.map(|call| lab(script, call, limit))).map(|step| vec![step]),
    }
}

impl PatchSteps {
    /// The same for a patch that is applied beside others, with its payload and its traces in a place of their own. The first of them has
    /// the usual one.
    pub fn beside(mut self, place: usize) -> Self {
        if place > 0 {
            self.say("PATCHLAB_MEDIA", &format!("{RUNNER_ROOT}/media/{}", payload_of(place)));
            self.say("PATCHLAB_WORK", &format!("{STATE_FOLDER}/{}", payload_of(place)));
        }
        self
    }

    /// Says something to every step.
    pub fn say(&mut self, key: &str, value: &str) {
        let Self { preflight, apply, confirm, reboot_wanted, reapply, rollback } = self;
        for step in [preflight, apply, confirm, reboot_wanted, reapply].into_iter().chain(rollback).flatten() {
            step.env.insert(key.to_owned(), value.to_owned());
        }
    }
}

/// Where on the media the payload folder is of a patch that is applied beside others, by its place among them.
pub fn payload_of(place: usize) -> String {
    format!("beside/{place}")
}

/// A step by one of the lab's own scripts.
pub(super) fn lab_step<const N: usize>(script: &str, env: [(&str, String); N], limit: Duration) -> JobStep {
    JobStep {
        command: format!("{COMMON}\n{script}\n"),
        folder: None,
        env: env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        limit,
        output_cap: OUTPUT,
        terminal: false,
        needs: Vec::new(),
    }
}

/// The step that takes the guest's facts: they come in its result file, packed, for
/// [`Facts::parse`](crate::verdict::health::facts::Facts::parse).
pub fn facts_step() -> JobStep {
    JobStep {
        command: FACTS.to_owned(),
        folder: None,
        env: BTreeMap::new(),
        limit: Duration::from_secs(900),
        output_cap: FACTS_OUTPUT,
        terminal: false,
        needs: Vec::new(),
    }
}

/// The vendor's own command line in a fresh, writable copy of the payload.
fn staged(command: &str) -> String {
    format!("stage\nexec /bin/sh -c {}", quoted(command))
}

/// As one word of a shell's command line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn needs(manifest: &Patch) -> Vec<String> {
    match manifest.kind {
        PatchKind::Deb => vec!["apt-get".to_owned(), "dpkg".to_owned()],
        PatchKind::Diff => vec!["patch".to_owned()],
        PatchKind::Files | PatchKind::Script => Vec::new(),
    }
}

fn environment(patch: &PlannedPatch) -> BTreeMap<String, String> {
    let manifest = &patch.manifest;
    let lines = |lines: Vec<String>| lines.join("\n");
    let pairs = match manifest.kind {
        PatchKind::Deb => vec![
            (
                "packages",
                lines(patch.facts.packages.iter().map(|p| format!("{} {} {} {}", p.file, p.name, p.version, p.architecture)).collect()),
            ),
            ("removes", manifest.removes.join(" ")),
            ("brings", u8::from(patch.brings).to_string()),
        ],
        PatchKind::Files => {
            vec![("files", lines(manifest.files.iter().map(|f| [&*f.source, &*f.target, &*f.mode, &*f.owner].join("\t")).collect()))]
        }
        PatchKind::Diff => vec![
            ("diffs", lines(manifest.payload.clone())),
            ("paths", lines(patch.facts.paths.clone())),
            ("root", manifest.root.clone().unwrap_or_else(|| "/".to_owned())),
            ("strip", manifest.strip.unwrap_or(1).to_string()),
        ],
        PatchKind::Script => Vec::new(),
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::planned;

    #[test]
    fn each_kind_has_its_steps() {
        for (kind, preflight, confirm, rollback) in
            [("deb", true, true, false), ("script", false, false, false), ("files", true, true, true), ("diff", true, true, true)]
        {
            let patch = planned(kind);
            let steps = steps(&patch);
            assert_eq!(rollback, patch.manifest.has_way_back(), "{kind}");
            assert_eq!(
                (!steps.preflight.is_empty(), !steps.confirm.is_empty(), steps.rollback.is_some()),
                (preflight, confirm, rollback),
                "{kind}"
            );
            assert_eq!(steps.apply, steps.reapply, "{kind}");
            assert!(steps.apply.iter().all(|step| step.terminal), "{kind}: a question must be seen");
        }
    }

    #[test]
    fn the_vendors_words_stay_one_word_and_bring_verify_and_rollback() {
        let mut patch = planned("script");
        patch.manifest.install = Some("echo 'it''s'; ./go \"$HOME\"".to_owned());
        patch.manifest.verify = Some("true".to_owned());
        patch.manifest.uninstall = Some("./undo".to_owned());
        assert!(patch.manifest.has_way_back());
        let steps = steps(&patch);
        assert!(
            steps.apply[0].command.ends_with("exec /bin/sh -c 'echo '\\''it'\\'''\\''s'\\''; ./go \"$HOME\"'\n"),
            "{}",
            steps.apply[0].command
        );
        assert_eq!(steps.confirm.len(), 1);
        assert!(steps.rollback.is_some_and(|steps| steps[0].command.contains("'./undo'")));
    }

    #[test]
    fn a_patch_beside_others_keeps_out_of_their_way() {
        let (alone, first, third) = (steps(&planned("files")), steps(&planned("files")).beside(0), steps(&planned("files")).beside(2));
        assert_eq!(alone, first);
        let all = |steps: &PatchSteps| {
            let PatchSteps { preflight, apply, confirm, reboot_wanted, reapply, rollback } = steps.clone();
            [preflight, apply, confirm, reboot_wanted, reapply, rollback.unwrap_or_default()].concat()
        };
        assert!(all(&third).len() >= 6);
        for step in all(&third) {
            let place = |key: &str| step.env.get(key).map(String::as_str);
            assert_eq!(
                (place("PATCHLAB_MEDIA"), place("PATCHLAB_WORK")),
                (Some("/run/patchlab/media/beside/2"), Some("/var/lib/patchlab/beside/2"))
            );
        }
    }

    #[test]
    fn values_travel_in_the_environment() {
        let steps = steps(&planned("files"));
        assert_eq!(steps.apply[0].env["files"], "motd\t/etc/motd\t0644\troot:root");
        assert!(!steps.apply[0].command.contains("/etc/motd"));
    }
}
