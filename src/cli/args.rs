//! The command line.

mod evidence;
mod gate;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::evidence::{Attest, Evidence, KeyVerb, SigningKey, Verify};
pub use self::gate::{Approve, Expiry, GateVerb, Reject, Revoke, Waive, Waivers};
pub use self::serve::{Serve, TokenVerb};
use crate::catalog::text::Span;
use crate::id::Name;

/// Tests a patch on clones of the customers' machines before it reaches the customers.
///
/// Results go to standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "patchlab", version, after_help = AFTER, max_term_width = 100)]
pub struct Cli {
    /// The lab's folder: builds/, images/, test-suites/.
    #[arg(long, global = true, value_name = "DIR", default_value = ".", env = "PATCHLAB_LAB", help_heading = GLOBAL)]
    pub lab: PathBuf,
    /// Where journal, machines and evidence live [default: LAB/.patchlab].
    #[arg(long, global = true, value_name = "DIR", env = "PATCHLAB_STATE", help_heading = GLOBAL)]
    pub state: Option<PathBuf>,
    /// A libvirt URI, or `sim`, or `sim:SCENARIO.toml` [default: libvirt's QEMU driver inside this process].
    #[arg(long, global = true, value_name = "URI|sim", env = "PATCHLAB_HYPERVISOR", help_heading = GLOBAL)]
    pub hypervisor: Option<String>,
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    pub fn state_folder(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.lab.join(".patchlab"))
    }
}

const GLOBAL: &str = "Which lab";

const AFTER: &str = "While a server works with the lab, run, cancel, pause, drain, resume and release go through it: set PATCHLAB_TOKEN to a \
                     token of yours. With that set, so do runs, show, report, gate, waive, waivers, approve, reject, revoke, attest and \
                     evidence; the others work on the folders here. PATCHLAB_SERVER names another server (a URL), PATCHLAB_CERTIFICATE a \
                     PEM file of certificates to trust.\n\n\
                     Exit codes: 0 pass or approved, 1 fail or rejected, 2 usage or configuration error, 3 inconclusive (the lab's fault), \
                     4 not decided yet, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say what this host lacks, and the command that mends it.
    Doctor(Answer),
    /// Read the whole catalog and report every mistake in it.
    Check(Check),
    /// Golden images.
    #[command(subcommand)]
    Image(Image),
    /// Hardware profiles.
    #[command(subcommand)]
    Hardware(HardwareVerb),
    /// Candidate patches.
    #[command(subcommand)]
    Patch(PatchVerb),
    /// Suites of cases.
    #[command(subcommand)]
    Suite(SuiteVerb),
    /// Show what a run would do.
    Plan(PlanVerb),
    /// Validate a patch. A run of the same plan that did not end is taken up where it was.
    Run(Run),
    /// List the runs.
    Runs(Answer),
    /// Show what a run found.
    Show(Show),
    /// Call off a run that a server works on or that waits there.
    Cancel(Cancel),
    /// Let no cell start any more; those at work go on. It holds until `resume`, also over restarts.
    Pause(Pause),
    /// Pause, and wait until nothing is at work. Exit code 4 where something still is.
    Drain(Drain),
    /// Let cells start again.
    Resume(Resume),
    /// Write a run's report.
    Report(Report),
    /// Say whether a patch may go to a customer. The exit code is the decision's: 0 approved, 1 rejected or superseded, 3 inconclusive or
    /// expired, 4 pending.
    Gate(GateVerb),
    /// Propose to waive a finding, or consent to what somebody else has proposed.
    Waive(Waive),
    /// List the waivers and until when they count.
    Waivers(Waivers),
    /// Approve a decision that asks for it.
    Approve(Approve),
    /// Reject a patch for a customer, whatever its results.
    Reject(Reject),
    /// Take back a waiver, an approval or a rejection.
    Revoke(Revoke),
    /// Write what a run found as signed statements, for those who trust this lab's key.
    Attest(Attest),
    /// Check signed statements with nothing but a public key.
    Verify(Verify),
    /// Write everything about a run into one archive, for the auditor.
    Evidence(Evidence),
    /// The key that evidence is signed with.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Run a command in a kept machine, or command lines one after the other from standard input.
    Shell(Shell),
    /// Let a run's kept machines go.
    Release(Release),
    /// Show, and with --remove remove, what an ended controller left behind.
    Gc(Gc),
    /// Serve the lab over HTTP, to programs and browsers: runs, what they found, decisions, and people's words to the gate; needs tokens.
    Serve(Serve),
    /// Who may use the server.
    #[command(subcommand)]
    Token(TokenVerb),
    /// The journal: what was decided and done, and by whom.
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
    /// Print the manual page.
    Man,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Human,
    Json,
}

#[derive(Debug, Args)]
pub struct Answer {
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Check that the journal is as it was written: every entry's hash, the chain of them, and the lists beside it.
    Verify(Answer),
}

#[derive(Debug, Args)]
pub struct Check {
    /// Write the JSON Schemas of all file kinds into this folder and stop.
    #[arg(long, value_name = "DIR")]
    pub write_schemas: Option<PathBuf>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build golden images from their recipes; all of them when none is named.
    Build {
        names: Vec<Name>,
        /// Build again although nothing changed.
        #[arg(long)]
        rebuild: bool,
        /// Images at work at once [default: as many as cores].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: Option<u16>,
        #[command(flatten)]
        answer: Answer,
    },
    /// Bring in the disk files of images whose image.toml has an `import` table.
    Import {
        names: Vec<Name>,
        /// Import again although nothing changed.
        #[arg(long)]
        again: bool,
        /// Images at work at once [default: as many as cores].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: Option<u16>,
        #[command(flatten)]
        answer: Answer,
    },
    /// List the images and what the store has of them.
    List(Answer),
    /// Read every byte of the stored images and compare with their digests.
    Verify {
        names: Vec<Name>,
        #[command(flatten)]
        answer: Answer,
    },
}

#[derive(Debug, Subcommand)]
pub enum HardwareVerb {
    /// Make a profile from a real machine's inventory, and list what a virtual machine can't reproduce of it.
    ///
    /// FILE is the output of `lshw -json`, `dmidecode` (both as root) or `virsh dumpxml`. Which one is seen from its contents.
    Import {
        /// The inventory; `-` reads standard input.
        file: PathBuf,
        /// The profile's name: it goes to LAB/builds/hardware/NAME.toml unless --output says otherwise.
        #[arg(long)]
        name: Option<Name>,
        /// Where to write it [default: with --name the lab, else standard output].
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        answer: Answer,
    },
}

#[derive(Debug, Subcommand)]
pub enum PatchVerb {
    /// Copy a candidate into the store.
    Add {
        /// A folder with a patch.toml.
        folder: PathBuf,
        #[command(flatten)]
        answer: Answer,
    },
    /// List the stored candidates.
    List(Answer),
    /// Show one: PATCH is an id, a digest or the start of one.
    Show {
        patch: String,
        #[command(flatten)]
        answer: Answer,
    },
}

#[derive(Debug, Subcommand)]
pub enum SuiteVerb {
    /// Show a suite's cases.
    Show {
        name: Name,
        #[command(flatten)]
        answer: Answer,
    },
    /// Print the suite's digest, and for each test that others have written what it depends on: case, tab, dependencies.
    Depends { name: Name },
}

/// Which part of the catalog; nothing named means all of it.
#[derive(Debug, Args)]
pub struct Selection {
    /// Only this customer's builds; repeatable.
    #[arg(long, value_name = "NAME")]
    pub customer: Vec<Name>,
    /// Only this build; repeatable.
    #[arg(long, value_name = "NAME")]
    pub build: Vec<Name>,
    /// Only this environment; repeatable. Environments alone mean no build by itself, and the other way round.
    #[arg(long, value_name = "NAME")]
    pub environment: Vec<Name>,
    /// Only this patch level of environments: `server`, `client+db`, `all`; repeatable.
    #[arg(long, value_name = "ROLES")]
    pub level: Vec<String>,
    /// Only this hardware profile; repeatable.
    #[arg(long, value_name = "NAME")]
    pub hardware: Vec<Name>,
    /// Only this suite, besides the health checks; repeatable.
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<Name>,
}

#[derive(Debug, Args)]
pub struct PlanVerb {
    /// A folder with a patch.toml, a patch id or a digest. Several are tested together.
    #[arg(required = true, value_name = "PATCH")]
    pub patch: Vec<String>,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Run {
    /// A folder with a patch.toml, a patch id or a digest.
    ///
    /// Several are tested together. Where that fails, some of them are, until it is known which is to blame or which do not get along.
    #[arg(required = true, value_name = "PATCH")]
    pub patch: Vec<String>,
    #[command(flatten)]
    pub selection: Selection,
    /// Machines at work at once; an environment of more is run by itself [default: as many as cores and memory bear].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Answer with the verdict of an ended run of the very same plan, if there is one that is not inconclusive.
    #[arg(long, conflicts_with_all = ["cold", "fresh_baselines"])]
    pub reuse: bool,
    /// Leave the machines of failed cells running for `patchlab shell`.
    #[arg(long)]
    pub keep_failed: bool,
    /// Boot every machine by its firmware and boot loader, whatever templates of it there are.
    #[arg(long)]
    pub cold: bool,
    /// Run every baseline, whichever of them earlier runs have seen.
    #[arg(long)]
    pub fresh_baselines: bool,
    /// Write the JUnit report there when the run ends.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the HTML report there when the run ends.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Show {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    /// What all runs of its bundle mean together: which patches are cleared, and which are to blame.
    #[arg(long)]
    pub bundle: bool,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Cancel {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Pause {
    /// One host; all when left out.
    #[arg(long, value_name = "NAME")]
    pub host: Option<Name>,
    /// Why; whoever waits is told.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// One host; what was paused for all when left out.
    #[arg(long, value_name = "NAME")]
    pub host: Option<Name>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Drain {
    /// One host; all when left out.
    #[arg(long, value_name = "NAME")]
    pub host: Option<Name>,
    /// Why; whoever waits is told.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub wait: Span,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Junit,
    Html,
    Json,
    Markdown,
}

#[derive(Debug, Args)]
pub struct Report {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    #[arg(long, value_enum, required_unless_present = "evidence")]
    pub format: Option<ReportFormat>,
    /// Where to write it [default: standard output].
    #[arg(long, value_name = "FILE", requires = "format")]
    pub output: Option<PathBuf>,
    /// Write every file kept with the run into this new folder: timelines, captures, consoles, outputs, facts. Through a server, once the
    /// run has ended.
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Shell {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    /// The machine's name; may be left out when the run keeps only one.
    pub machine: Option<String>,
    /// End the command after this long.
    #[arg(long, default_value = "10m")]
    pub within: Span,
    /// A command line to run as root in the machine instead of the console.
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Release {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// Remove it.
    #[arg(long)]
    pub remove: bool,
    /// Remove all templates; those that are needed are made again.
    #[arg(long)]
    pub templates: bool,
    #[command(flatten)]
    pub answer: Answer,
}
