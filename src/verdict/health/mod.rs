//! The built-in health suite: what every build gets checked for, whatever the patch. State before is compared with state after.
//!
//! A check looks at one machine's [`Facts`] alone (a service that failed is bad news anywhere) and, where there are earlier facts, at the
//! difference (a port that is lost). The first part also runs at the baseline, so that trouble which was there before the patch is
//! pre-existing and not a regression.
//!
//! Invariants: pure. A check that can't be measured is skipped with its reason; one that could be measured before the patch and can't be
//! now has failed. Where a tool in the guest was cut off, nothing is known: without a measurement from before the check itself has
//! failed, else it is timed out and has to be so on every clone to count. A problem's text holds no number, process id or time that differs from clone to clone: its fingerprint is made of it.

mod accounts;
mod configuration;
mod expected;
pub mod facts;
mod files;
mod hardware;
mod kernel;
mod network;
mod packages;
pub(in crate::verdict) mod pattern;
mod posture;
mod services;
mod storage;
mod text;
mod tree;

use crate::catalog::hardware::{Claims, Hardware, claims};
use crate::catalog::patch::PatchKind;
use crate::cell::{CaseOutcome, Point};
use crate::id::{Digest, Name};
use crate::plan::PlannedPatch;

use expected::Expected;
pub use facts::{Facts, Unmeasured};
pub use hardware::unmet;
use text::{capped, some_of};
use tree::{Tree, tree, unlisted};

/// The name of the health suite in observations and reports.
pub const SUITE: &str = "health";

/// Characters of a detail.
const DETAIL: usize = 48 * 1024;
/// Notes kept of a check.
const NOTES: usize = 20;

/// What the checks have to know besides the machine's states.
#[derive(Clone, Debug)]
pub struct HealthContext {
    /// When the later facts were taken. After the rollback and after applying again nothing may have changed, not even what the patch
    /// is meant to change.
    pub point: Point,
    /// Whether the lab will still restart the machine before it believes the patch to be in effect.
    pub reboot_pending: bool,
    /// Those that were applied.
    pub patches: Vec<PlannedPatch>,
    /// The profile that the machine has to be.
    pub hardware: Hardware,
    /// Units of the build that must be active.
    pub services: Vec<String>,
    /// Paths of the build that change by themselves (shell patterns).
    pub volatile: Vec<String>,
}

/// What one check gave: a case of the suite [`SUITE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthResult {
    pub check: Name,
    pub outcome: CaseOutcome,
    /// One line: what is wrong, or why it was skipped.
    pub message: String,
    /// All problems and the differences as unified diffs. Guest text, capped.
    pub detail: String,
    /// What people should know and what is no failure.
    pub notes: Vec<String>,
    pub fingerprint: Option<Digest>,
}

/// One check of the suite.
#[derive(Clone, Copy)]
pub struct Check {
    pub name: &'static str,
    /// One line for people.
    pub title: &'static str,
    run: fn(&View<'_>) -> Outcome,
}

impl HealthContext {
    /// Whether one of the patches is made of packages.
    fn bring_packages(&self) -> bool {
        self.patches.iter().any(|patch| patch.manifest.kind == PatchKind::Deb)
    }
}

/// The state now, and the state before with the patch in between, if this is a comparison.
struct View<'a> {
    now: &'a Facts,
    services: &'a [String],
    claims: &'a Claims,
    change: Option<Change<'a>>,
}

struct Change<'a> {
    before: &'a Facts,
    context: &'a HealthContext,
    files: &'a Files<'a>,
}

/// Both trees and what may change in them, read once for all checks.
struct Files<'a> {
    before: Result<Tree<'a>, Unmeasured>,
    now: Result<Tree<'a>, Unmeasured>,
    expected: Expected<'a>,
    /// File systems that were listed only once.
    unlisted: Vec<String>,
}

impl Files<'_> {
    fn trees(&self) -> Result<(&Tree<'_>, &Tree<'_>), Unmeasured> {
        Ok((self.before.as_ref().map_err(Clone::clone)?, self.now.as_ref().map_err(Clone::clone)?))
    }
}

impl Change<'_> {
    /// Whether even the patch's own changes would be news.
    fn strict(&self) -> bool {
        matches!(self.context.point, Point::Reapplied | Point::RolledBack)
    }

    /// Whether the manifest says that the patch changes one of these files or folders.
    fn declares(&self, places: &[&str]) -> bool {
        !self.strict() && places.iter().any(|place| self.files.expected.declares(place))
    }

    /// Whether the machine restarted between the two states.
    fn rebooted(&self, now: &Facts) -> bool {
        self.before.boot_id() != now.boot_id()
    }
}

/// What a check found, or why it could not look.
type Outcome = Result<Report, Unmeasured>;

#[derive(Default)]
struct Report {
    problems: Vec<String>,
    notes: Vec<String>,
    detail: String,
}

impl Report {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

const fn check(name: &'static str, title: &'static str, run: fn(&View<'_>) -> Outcome) -> Check {
    Check { name, title, run }
}

/// Every check, in the order of reports: what says most about a cause first.
pub const CHECKS: &[Check] = &[
    check("failed-services", "no unit is in the state failed", services::failed),
    check("required-services", "the build's required units are active", services::required),
    check("running-services", "what ran before still runs", services::running),
    check("service-restarts", "no service keeps crashing and being started again", services::restarts),
    check("listening-ports", "every port that was listened to still is", network::ports),
    check("interfaces", "network interfaces keep name, hardware address and state", network::interfaces),
    check("addresses", "every address is still there", network::addresses),
    check("routes", "every route and rule is still there", network::routes),
    check("dns", "name servers are unchanged", network::dns),
    check("disk-space", "file systems have room and inodes left", storage::space),
    check("memory", "memory is left", kernel::memory),
    check("mounts", "file systems are mounted as before", storage::mounts),
    check("fstab", "/etc/fstab is sound", storage::fstab),
    check("kernel-errors", "the kernel reports no oops, hang, crash or I/O error", kernel::errors),
    check("journal-errors", "services log no new kind of error", kernel::journal),
    check("core-dumps", "no program dumped core", kernel::core_dumps),
    check("profile-devices", "the profile's devices are driven by what they claim", hardware::devices),
    check("profile-firmware", "the firmware is the profile's, with Secure Boot enforced where it claims so", hardware::firmware),
    check("profile-machine", "processors, TPM and SMBIOS identity are the profile's", hardware::machine),
    check("device-drivers", "every device keeps its driver", kernel::drivers),
    check("boot-files", "kernels and initial RAM disks are complete", kernel::boot_files),
    check("boot-time", "how long the boot took", kernel::boot_time),
    check("clock", "the clock and time zone are right", kernel::clock),
    check("package-state", "no package is broken or half installed", packages::state),
    check("package-holds", "packages are held as before", packages::holds),
    check("undeclared-packages", "only the patch's packages changed", packages::undeclared),
    check("patch-effective", "the patch's versions and kernel are in effect", packages::effective),
    check("old-code-running", "no program still runs replaced code", packages::old_code),
    check("reboot-pending", "no reboot is left to do", packages::reboot_pending),
    check("permissions", "modes, owners and capabilities outside the patch are unchanged", files::permissions),
    check("config-leftovers", "no half-merged configuration is left", configuration::leftovers),
    check("config-syntax", "services accept their configuration", configuration::syntax),
    check("accounts", "accounts, groups, passwords, sudoers and login keys are unchanged", accounts::accounts),
    check("firewall", "the firewall's rules are unchanged", posture::firewall),
    check("access-control", "AppArmor and SELinux guard as before", posture::access_control),
    check("ssh-settings", "sshd's effective settings are unchanged", posture::ssh),
    check("kernel-settings", "the kernel's boot options, hardening settings and limits are unchanged", posture::kernel_settings),
    check("files-outside-patch", "files outside the patch are unchanged", files::outside),
    check("etc-changes", "configuration outside the patch is unchanged", configuration::etc),
];

/// The state before the patch by itself.
pub fn baseline(facts: &Facts, context: &HealthContext) -> Vec<HealthResult> {
    let view = View { now: facts, services: &context.services, claims: &claims(&context.hardware), change: None };
    CHECKS.iter().map(|check| result(check, (check.run)(&view), None)).collect()
}

/// The state after the patch, by itself and against the state before.
pub fn compare(before: &Facts, after: &Facts, context: &HealthContext) -> Vec<HealthResult> {
    let files = Files {
        before: tree(before),
        now: tree(after),
        expected: Expected::new(context, before, after),
        unlisted: unlisted(before, after),
    };
    let claims = claims(&context.hardware);
    let was = View { now: before, services: &context.services, claims: &claims, change: None };
    let is = View { now: after, services: &context.services, claims: &claims, change: Some(Change { before, context, files: &files }) };
    CHECKS.iter().map(|check| result(check, (check.run)(&is), Some((check.run)(&was)))).collect()
}

fn result(check: &Check, now: Outcome, before: Option<Outcome>) -> HealthResult {
    // The table's names are valid: a test reads each of them.
    #[allow(clippy::unwrap_used)]
    let name: Name = check.name.parse().unwrap();
    let (outcome, message, mut report, reference) = match (now, before) {
        (Err(Unmeasured { reason, cut_off }), None | Some(Err(_))) => {
            let outcome = if cut_off { CaseOutcome::HarnessError } else { CaseOutcome::Skip };
            (outcome, format!("not measured: {reason}"), Report::default(), None)
        }
        (Err(Unmeasured { reason, cut_off: true }), Some(Ok(_))) => {
            (CaseOutcome::TimedOut, format!("not measured: {reason}"), Report::default(), None)
        }
        (Err(Unmeasured { reason, cut_off: false }), Some(Ok(_))) => {
            let text = format!("could be measured before the patch and can't be now: {reason}");
            (CaseOutcome::Fail, text.clone(), Report { problems: vec![text], ..Report::default() }, None)
        }
        (Ok(report), before) if report.problems.is_empty() => (CaseOutcome::Pass, String::new(), report, before.and(None)),
        (Ok(mut report), before) => {
            report.problems.sort();
            report.problems.dedup();
            let message = some_of(&report.problems, 3);
            // Fewer of the same problems than before are not another failure.
            let old = before
                .and_then(Result::ok)
                .map(|old| old.problems)
                .filter(|old| report.problems.iter().all(|problem| old.contains(problem)));
            (CaseOutcome::Fail, message, report, old)
        }
    };
    let mut essence = reference.unwrap_or_else(|| report.problems.clone());
    essence.sort();
    essence.dedup();
    if report.problems.len() > 3 {
        report.detail = format!("{}\n{}", report.problems.join("\n"), report.detail);
    }
    let dropped = report.notes.len().saturating_sub(NOTES);
    report.notes.truncate(NOTES);
    if dropped > 0 {
        report.notes.push(format!("and {dropped} more"));
    }
    HealthResult {
        check: name,
        outcome,
        message: capped(&message, 600),
        detail: capped(&report.detail, DETAIL),
        notes: report.notes.iter().map(|note| capped(note, 400)).collect(),
        fingerprint: (outcome == CaseOutcome::Fail).then(|| Digest::of(essence.join("\n"))),
    }
}

#[cfg(test)]
mod tests;
