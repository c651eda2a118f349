//! For each row of the blame table, the scenario that brings it about.
//!
//! Invariant: the match is exhaustive, so that a new cause does not compile until it is said how a world shows it, or why none can.

use std::time::Duration;

use patchlab::catalog::text::Span;
use patchlab::cell::cause::{BootPhase, Cause, Side};
use patchlab::cell::observation::Point;
use patchlab::hypervisor::sim::{Deed, DiskError, Ends, Facts, Fault, For, Moment, Refusal, Scenario, Stall, Step, StepName, When};

/// While a step runs, and not as it starts.
const MIDWAY: Span = Span(Duration::from_millis(150));

/// A world in which each clone comes to this trouble on this side of the patch. `None` where no machine can be the cause, or the
/// cause has no such side. Exit codes are those of the lab's own scripts (`guest/linux`).
pub fn provoking(cause: &Cause, side: Side) -> Option<Scenario> {
    let world = wanting_a_reboot(Scenario::seeded(1));
    // What happens while the guest boots; after the patch, in its first boot with it.
    let at_boot = |phase: BootPhase, does: Deed| Some(world.clone().fault(Fault::new(Moment::Boot(phase), does).when(When::side(side))));
    // What happens while the guest works: before the patch as its facts are taken, after it in the middle of applying.
    let at_work = |does: Deed| {
        let step = match side {
            Side::Before => "facts",
            Side::After => "apply",
        };
        let fault = Fault::new(Moment::Step(step.to_owned()), does).when(When::side(side)).after(MIDWAY);
        Some(world.clone().fault(fault))
    };
    let step = |name: &str, ends: Ends| Step::new(StepName::Step(name.to_owned()), ends);
    let only_after = |step: Step| (side == Side::After).then(|| world.clone().step(step));
    match cause {
        Cause::Hypervisor => match side {
            Side::Before => Some(world.clone().fault(Fault::new(Moment::Start, Deed::Refuse(Refusal::Refused)))),
            Side::After => at_work(Deed::LoseConnection(For { span: Some(Span::secs(60)) })),
        },
        Cause::HostDiskFull => match side {
            Side::Before => Some(world.clone().fault(Fault::new(Moment::Create, Deed::Refuse(Refusal::NoSpace)))),
            // Once the machine runs, a full host shows as a disk error.
            Side::After => None,
        },
        // Found before any machine is asked for.
        Cause::ImageDamaged | Cause::PayloadDamaged => None,
        Cause::NotApplicable => only_after(step("preflight", Ends::Exit(64)).saying("none of its packages is installed\n")),
        // Only machines among peers wait for one another.
        Cause::NotReady => None,
        // Done from outside the world.
        Cause::ControllerEnded | Cause::Cancelled => None,
        Cause::EmulatorDied => at_work(Deed::EmulatorCrash),
        Cause::DiskError { nospace } => at_work(Deed::DiskError(DiskError { nospace: *nospace })),
        Cause::BootStalled { reached } => at_boot(*reached, Deed::Stall(Stall { busy: false })),
        Cause::BootLoop => at_boot(BootPhase::Kernel, Deed::Reboot),
        Cause::PoweredOff => at_boot(BootPhase::Userspace, Deed::PowerOff),
        Cause::KernelPanic => at_boot(BootPhase::Kernel, Deed::Panic),
        Cause::AgentLost => at_work(Deed::AgentLost(For::default())),
        Cause::AgentNonsense => at_work(Deed::AgentNonsense(For::default())),
        Cause::UnexpectedReboot => {
            let fault = Fault::new(Moment::Step("facts".to_owned()), Deed::Reboot).when(When::side(side)).after(MIDWAY);
            Some(world.clone().fault(fault))
        }
        Cause::ProbeFailed => Some(world.clone().step(step("facts", Ends::Exit(1)).when(When::side(side)).saying("sh: facts: broken\n"))),
        // After the patch it is a finding of the health suite and cuts nothing short.
        Cause::HardwareUnmet => (side == Side::Before).then(|| {
            let no_devices = Facts { when: When::side(side), text: Some(String::new()), ..Facts::section("devices") };
            world.clone().facts(no_devices)
        }),
        Cause::GuestDiskFull => at_work(Deed::FillDisk),
        Cause::ApplyFailed { exit } => only_after(step("apply", Ends::Exit(*exit)).saying("E: it does not work\n")),
        Cause::ApplyTimedOut => only_after(step("apply", Ends::TimesOut)),
        Cause::ApplyAsked => only_after(step("apply", Ends::Asks).saying("Do you want to continue? [Y/n] ")),
        Cause::UndeclaredRemovals => only_after(step("preflight", Ends::Exit(65)).saying("installing it would remove nginx\n")),
        Cause::NotEffective => only_after(step("confirm", Ends::Exit(66)).saying("the old version is still there\n")),
        Cause::NotIdempotent => only_after(step("reapply", Ends::Exit(1)).saying("E: it is there already\n")),
        Cause::RollbackFailed => only_after(step("rollback", Ends::Exit(1)).saying("E: cannot remove\n")),
    }
}

/// The same world, where guests want a restart after the patch.
fn wanting_a_reboot(world: Scenario) -> Scenario {
    let applied = When::at(&[Point::Applied]);
    let facts = Facts { when: applied.clone(), ..Facts::section("reboot-required").adding("yes\nlinux-image-amd64") };
    let step = Step::new(StepName::Step("reboot-wanted".to_owned()), Ends::AsUsual).when(applied);
    world.step(step.saying("reboot: linux-image-amd64\n")).facts(facts)
}
