//! No fault plan can make the world panic or hang.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;

use patchlab::catalog::text::{Size, Span};
use patchlab::cell::cause::{BootPhase, Side};
use patchlab::hypervisor::sim::{Deed, DiskError, Ends, Fault, For, Moment, Pace, Refusal, Scenario, Stall, Step, StepName, When, World};

use crate::{Life, in_virtual_time};

fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![Just(0), 0u64..5000, Just(u64::MAX)].prop_map(|ms| Span(Duration::from_millis(ms)))
}

fn any_moment() -> impl Strategy<Value = Moment> {
    let phases = [BootPhase::Firmware, BootPhase::BootLoader, BootPhase::Kernel, BootPhase::Userspace, BootPhase::Agent];
    let calls = [Moment::Create, Moment::Start, Moment::PowerOff, Moment::Destroy, Moment::Up];
    let steps = ["*", "apply", "facts", "rollback", "con*"];
    prop_oneof![
        prop::sample::select(calls.to_vec()),
        prop::sample::select(phases.to_vec()).prop_map(Moment::Boot),
        prop::sample::select(steps.to_vec()).prop_map(|name| Moment::Step(name.to_owned())),
    ]
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let length = || prop::option::of(any_span()).prop_map(|span| For { span });
    prop_oneof![
        prop::sample::select(vec![Refusal::Gone, Refusal::NoSpace, Refusal::TimedOut, Refusal::Refused]).prop_map(Deed::Refuse),
        length().prop_map(Deed::LoseConnection),
        any::<bool>().prop_map(|busy| Deed::Stall(Stall { busy })),
        any::<bool>().prop_map(|nospace| Deed::DiskError(DiskError { nospace })),
        length().prop_map(Deed::AgentLost),
        length().prop_map(Deed::AgentNonsense),
        prop_oneof![0u32..1000, Just(u32::MAX)].prop_map(Deed::Slow),
        prop::sample::select(vec![Deed::Panic, Deed::Reboot, Deed::PowerOff, Deed::EmulatorCrash, Deed::NeverSettles, Deed::FillDisk]),
    ]
}

prop_compose! {
    fn any_when()(
        nth in prop::collection::vec(0u32..3, 0..2),
        side in prop::option::of(prop::sample::select(vec![Side::Before, Side::After])),
        boot in prop::collection::vec(0u32..4, 0..2),
    ) -> When {
        When { nth, side, boot, ..When::default() }
    }
}

prop_compose! {
    fn any_fault()(
        on in any_moment(), when in any_when(), after in any_span(), times in prop::option::of(0u32..3), does in any_deed(),
    ) -> Fault {
        Fault { on, when, after, times, does }
    }
}

prop_compose! {
    fn any_step()(
        name in prop::sample::select(vec!["*", "apply", "facts", "rollback"]),
        when in any_when(),
        chance in any::<u8>(),
        takes in prop::option::of(any_span()),
        ends in prop_oneof![
            any::<i64>().prop_map(Ends::Exit),
            prop::sample::select(vec![Ends::AsUsual, Ends::TimesOut, Ends::Asks, Ends::Signal(9), Ends::Lacks("sh".to_owned())]),
        ],
        output in prop::option::of(".{0,9}"),
        floods in prop::option::of(any::<u64>().prop_map(Size)),
    ) -> Step {
        Step { chance, takes, output, floods, ..Step::new(StepName::Step(name.to_owned()), ends).when(when) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The life below waits a bounded time for everything, so only a world that stops the clock or a call that never returns hangs it.
    #[test]
    fn no_fault_plan_makes_the_world_panic_or_hang(
        seed in any::<u64>(),
        speed in 0u32..4,
        jitter in any::<u8>(),
        faults in prop::collection::vec(any_fault(), 0..5),
        steps in prop::collection::vec(any_step(), 0..3),
    ) {
        let pace = Pace { speed, jitter, ..Pace::default() };
        let scenario = Scenario { pace, faults, steps, ..Scenario::seeded(seed) };
        let life = || in_virtual_time(async {
            let world = World::new(scenario.clone());
            let notes = timeout(Duration::from_secs(24 * 3600), Life::live(&world, "m")).await;
            (notes.ok(), world.trace())
        });
        let (notes, trace) = life();
        prop_assert!(notes.is_some(), "the life did not end within a virtual day");
        prop_assert_eq!((notes, trace), life());
    }
}
