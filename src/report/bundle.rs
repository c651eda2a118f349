//! What the trials of a bundle mean together, for a terminal and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::human::{Styled, Tone};
use super::standing::{News, Standing};
use super::text;
use super::view::SIMULATED;
use crate::id::{Digest, Name, RunId};
use crate::verdict::Verdict;
use crate::verdict::bisect::{Answer, Bad, Fate, Set};
use crate::verdict::trials::{Trial, Trials};

/// The JSON form's name and version.
pub const SCHEMA: &str = "patchlab.bundle/v1";

/// What a bundle came to.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BundleReport<'a> {
    schema: &'static str,
    verdict: Verdict,
    /// Whether nothing is left to be tested. Where not, the verdict is inconclusive unless something is known to fail.
    finished: bool,
    patches: Vec<PatchReport<'a>>,
    /// What fails and can't be made smaller.
    failing: Vec<Failing<'a>>,
    /// Whether any of the machines were the simulator's.
    simulated: bool,
    trials: Vec<TrialReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PatchReport<'a> {
    id: &'a Name,
    sha256: Digest,
    fate: Told,
    /// The patches that it hangs on: those it was cleared with, fails with, needs or is replaced by.
    with: Vec<&'a Name>,
    /// The run that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
}

/// A patch's fate in a word.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Cleared,
    Culprit,
    Conflict,
    Blocked,
    Entangled,
    Untold,
    /// Another patch of the bundle takes its place.
    Superseded,
    /// The bundle has not come to its end.
    Open,
}

impl Told {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Culprit => "culprit",
            Self::Conflict => "conflict",
            Self::Blocked => "blocked",
            Self::Entangled => "entangled",
            Self::Untold => "untold",
            Self::Superseded => "superseded",
            Self::Open => "open",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Cleared => Tone::Pass,
            Self::Culprit | Self::Conflict => Tone::Fail,
            Self::Blocked | Self::Entangled | Self::Untold | Self::Superseded | Self::Open => Tone::Inconclusive,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Failing<'a> {
    /// Each of them is needed for the failure; where it is not `sure`, at least one of them is.
    patches: Vec<&'a Name>,
    sure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct TrialReport<'a> {
    run: RunId,
    patches: Vec<&'a Name>,
    verdict: Verdict,
    findings: &'a [String],
}

impl<'a> BundleReport<'a> {
    pub fn of(trials: &'a Trials) -> Self {
        let answer = trials.answer();
        let names = |set: &Set| -> Vec<&'a Name> {
            set.iter().filter_map(|place| trials.bundle.patches.get(*place)).map(|patch| &patch.manifest.id).collect()
        };
        let run = |set: &Set| trials.run_of(set).map(|trial| trial.run);
        let failing: &[Bad] = answer.as_ref().map_or(&[], |answer| &answer.bad);
        let told = |place: usize| -> (Told, Vec<&'a Name>, Option<RunId>) {
            let blaming = || failing.iter().find(|bad| bad.sure && bad.members.contains(&place)).and_then(|bad| run(&bad.trial));
            match answer.as_ref().and_then(|answer| answer.fates.get(place)) {
                None => (Told::Open, Vec::new(), None),
                Some(Fate::Cleared { trial }) => {
                    let others: Set = trial.iter().copied().filter(|one| *one != place).collect();
                    (Told::Cleared, names(&others), run(trial))
                }
                Some(Fate::Culprit) => (Told::Culprit, Vec::new(), blaming()),
                Some(Fate::Conflict { with }) => (Told::Conflict, names(with), blaming()),
                Some(Fate::Blocked { by }) => (Told::Blocked, names(by), None),
                Some(Fate::Entangled { with }) => (Told::Entangled, names(with), None),
                Some(Fate::Untold) => (Told::Untold, Vec::new(), None),
            }
        };
        let tested = trials.bundle.patches.iter().enumerate().map(|(place, patch)| {
            let (fate, with, run) = told(place);
            PatchReport { id: &patch.manifest.id, sha256: patch.sha256, fate, with, run }
        });
        let gone = trials.bundle.superseded.iter().map(|(patch, by)| PatchReport {
            id: &patch.manifest.id,
            sha256: patch.sha256,
            fate: Told::Superseded,
            with: vec![by],
            run: None,
        });
        Self {
            schema: SCHEMA,
            verdict: verdict(answer.as_ref()),
            finished: answer.is_some(),
            patches: tested.chain(gone).collect(),
            failing: failing.iter().map(|bad| Failing { patches: names(&bad.members), sure: bad.sure, run: run(&bad.trial) }).collect(),
            simulated: trials.done.iter().any(|trial| trial.simulated),
            trials: trials.done.iter().map(|trial| trial_report(trial, names(&trial.patches))).collect(),
        }
    }

    /// Whether all patches passed, some are to blame, or the lab can't say.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How each patch stands, as a case of its own.
    pub(super) fn standings(&self) -> Vec<(&'a str, Standing)> {
        let news = |patch: &PatchReport<'_>| News { code: patch.fate.as_str().to_owned(), message: patch.told(), detail: String::new() };
        let standing = |patch: &PatchReport<'_>| match patch.fate {
            Told::Cleared => Standing::Passed { note: Some(patch.told()) },
            Told::Superseded => Standing::Skipped { reason: patch.told() },
            Told::Culprit | Told::Conflict => Standing::Finding(news(patch)),
            Told::Blocked | Told::Entangled | Told::Untold | Told::Open => Standing::Fault(news(patch)),
        };
        self.patches.iter().map(|patch| (patch.id.as_str(), standing(patch))).collect()
    }

    /// Indented, with a line end.
    ///
    /// # Errors
    /// Never for the lab's own types.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// For a terminal.
    pub fn human(&self) -> Styled {
        let mut out = Styled::default();
        let word = if self.finished { self.verdict.as_str().to_uppercase() } else { "UNFINISHED".to_owned() };
        out.push(Tone::of(self.verdict), word).push(Tone::Plain, "  ").push(Tone::Strong, self.summary()).end_line();
        if self.simulated {
            out.push(Tone::Plain, SIMULATED.trim_end()).end_line();
        }
        let width = self.patches.iter().map(|patch| patch.id.as_str().len()).max().unwrap_or(0);
        out.end_line();
        for patch in &self.patches {
            out.push(Tone::Plain, format!("  {:width$}  ", patch.id.as_str()));
            out.push(patch.fate.tone(), format!("{:10}", patch.fate.as_str()));
            out.push(Tone::Plain, format!("  {}", patch.told())).end_line();
        }
        out.end_line();
        out.push(Tone::Strong, "Trials").end_line();
        for trial in &self.trials {
            let findings = if trial.findings.is_empty() { String::new() } else { format!(" ({})", trial.findings.join(", ")) };
            out.push(Tone::Plain, format!("  {}  ", trial.run)).push(Tone::of(trial.verdict), format!("{:12}", trial.verdict));
            out.push(Tone::Plain, format!("  {}{findings}", joined(&trial.patches))).end_line();
        }
        out
    }

    fn summary(&self) -> String {
        let mut text = format!("{} patches in {}", self.patches.len(), text::count(self.trials.len(), "trial"));
        let of = |fates: &[Told]| self.patches.iter().filter(|patch| fates.contains(&patch.fate)).count();
        let counted = [
            (of(&[Told::Cleared]), "cleared"),
            (of(&[Told::Culprit]), "to blame"),
            (of(&[Told::Conflict]), "in conflict"),
            (of(&[Told::Superseded]), "superseded"),
            (of(&[Told::Blocked, Told::Entangled, Told::Untold, Told::Open]), "not decided"),
        ];
        let mut before = ": ";
        for (number, what) in counted.into_iter().filter(|(number, _)| *number > 0) {
            // Writing to a string can't fail.
            let _ = write!(text, "{}{number} {what}", std::mem::replace(&mut before, ", "));
        }
        text
    }
}

impl PatchReport<'_> {
    fn told(&self) -> String {
        let with = joined(&self.with);
        match self.fate {
            Told::Cleared if self.with.is_empty() => "passed by itself".to_owned(),
            Told::Cleared => format!("passed, tested together with {with}"),
            Told::Culprit => "fails with nothing but what it requires".to_owned(),
            Told::Conflict => format!("passes without {with} and fails with it"),
            Told::Blocked => format!("not tested: it needs {with}, which is to blame"),
            Told::Entangled => format!("failed with {with}; the lab could not tell them apart"),
            Told::Superseded => format!("not tested: {with} takes its place"),
            Told::Untold => "no trial with it gave an answer".to_owned(),
            Told::Open => "not decided yet".to_owned(),
        }
    }
}

fn trial_report<'a>(trial: &'a Trial, patches: Vec<&'a Name>) -> TrialReport<'a> {
    TrialReport { run: trial.run, patches, verdict: trial.verdict, findings: &trial.findings }
}

fn joined(names: &[&Name]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn verdict(answer: Option<&Answer>) -> Verdict {
    match answer {
        Some(answer) if !answer.bad.is_empty() => Verdict::Fail,
        Some(answer) if answer.fates.iter().all(|fate| matches!(fate, Fate::Cleared { .. })) => Verdict::Pass,
        _ => Verdict::Inconclusive,
    }
}
