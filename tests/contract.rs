//! What every hypervisor with its guests must keep, whichever adapter it is. The same functions run against the simulator, always, and
//! against libvirt where there is an image to boot: `PATCHLAB_TEST_IMAGE` names a qcow2 file whose guest has the agent.

#[path = "contract/guest.rs"]
mod guest;
#[path = "contract/lab.rs"]
mod lab;
#[path = "contract/machine.rs"]
mod machine;

macro_rules! contract {
    ($($part:ident: $($name:ident),+;)+) => {
        mod simulated {
            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    super::$part::$name(&super::lab::simulated(None)).await;
                }
            )+)+
        }

        mod simulated_in_a_folder {
            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    let folder = tempfile::tempdir().expect("a temporary folder");
                    super::$part::$name(&super::lab::simulated(Some(folder.path()))).await;
                    let left = std::fs::read_dir(folder.path().join("machines")).expect("the machines' folder").count();
                    assert_eq!(left, 0, "folders left");
                }
            )+)+
        }

        /// One test: a host may have room for one machine alone.
        #[tokio::test(flavor = "multi_thread")]
        async fn libvirt() {
            let Some(lab) = lab::libvirt() else {
                eprintln!("skipped: PATCHLAB_TEST_IMAGE names no image to boot");
                return;
            };
            $($(
                eprintln!("{}", stringify!($name));
                $part::$name(&lab).await;
            )+)+
        }
    };
}

contract! {
    machine:
        create_then_destroy_leaves_nothing,
        a_name_is_used_once,
        destroy_is_idempotent,
        calls_to_a_missing_machine_say_so,
        a_machine_that_is_off_refuses_what_needs_power,
        power_comes_and_goes,
        machines_are_made_at_the_same_time,
        a_lab_sees_and_removes_its_own_alone;
    guest:
        a_machine_boots_restarts_and_shuts_down,
        jobs_run_to_their_ends,
        jobs_end_with_their_boot,
        files_are_read_up_to_a_cap;
}
