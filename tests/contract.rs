//! What every hypervisor with its guests must keep, whichever adapter it is. The same functions run against the simulator and against
//! libvirt with a golden image (`scripts/test`).

#[path = "contract/guest.rs"]
mod guest;
#[path = "contract/lab.rs"]
mod lab;
#[path = "contract/machine.rs"]
mod machine;
#[path = "contract/network.rs"]
mod network;
#[path = "contract/template.rs"]
mod template;

use std::sync::Arc;

macro_rules! contract {
    ($($part:ident: $($name:ident),+;)+) => {
        mod simulated {
            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    let lab = super::lab::simulated(None);
                    super::$part::$name(&lab).await;
                    lab.ends_empty().await;
                }
            )+)+
        }

        mod simulated_in_a_folder {
            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    let folder = tempfile::tempdir().expect("a temporary folder");
                    let lab = super::lab::simulated(Some(folder.path()));
                    super::$part::$name(&lab).await;
                    lab.ends_empty().await;
                    let left = std::fs::read_dir(folder.path().join("machines")).expect("the machines' folder").count();
                    assert_eq!(left, 0, "folders left");
                }
            )+)+
        }

        async fn whole(lab: Arc<lab::Lab>) {
            $($(
                let began = std::time::Instant::now();
                $part::$name(&lab).await;
                eprintln!("{}: {:.1?}", stringify!($name), began.elapsed());
            )+)+
            lab.ends_empty().await;
        }
    };
}

// In this order on libvirt, where the guest's functions share one machine: the last one is free to switch it off.
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
    network:
        a_network_is_owned_until_it_is_removed,
        a_machine_needs_a_place_on_an_open_network,
        calls_to_a_missing_network_say_so,
        links_go_down_and_up,
        networks_with_the_same_addresses_share_nothing,
        a_lab_leaves_anothers_network_alone;
    template:
        only_what_runs_is_frozen,
        only_a_clone_of_a_template_is_thawed,
        a_machine_on_no_template_is_refused_and_leaves_nothing,
        a_clone_that_never_went_on_leaves_nothing,
        a_clone_goes_on_only_once,
        clones_of_a_template_are_machines_of_their_own,
        a_clone_is_frozen_in_its_turn;
    guest:
        files_are_read_up_to_a_cap,
        jobs_run_to_their_ends,
        a_killed_job_runs_no_more,
        a_machine_restarts_and_shuts_down;
}

/// One test: a process has one embedded libvirt, and boots are what takes the time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs golden images: scripts/test"]
async fn libvirt() {
    let lab = Arc::new(lab::libvirt().await);
    lab.clear().await;
    let ended = tokio::spawn(whole(lab.clone())).await;
    // A machine that a failed test leaves would go on working.
    lab.clear().await;
    if let Err(failed) = ended {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// Two labs at one libvirt, in one test since a process has one fake. An embedded one has room for one lab alone, so this is libvirt's fake, whose machines do nothing.
#[tokio::test(flavor = "multi_thread")]
async fn two_labs_at_one_libvirt() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lab = lab::fake(folder.path());
    machine::a_lab_sees_and_removes_its_own_alone(&lab).await;
    network::a_lab_leaves_anothers_network_alone(&lab).await;
    template::machines_elsewhere_are_not_frozen(&lab);
    template::only_a_clone_of_a_template_is_thawed(&lab).await;
    template::a_machine_on_no_template_is_refused_and_leaves_nothing(&lab).await;
    // The fake's networks are those of a libvirt on another host.
    network::a_network_is_owned_until_it_is_removed(&lab).await;
    network::a_machine_needs_a_place_on_an_open_network(&lab).await;
    network::calls_to_a_missing_network_say_so(&lab).await;
    network::networks_with_the_same_addresses_share_nothing(&lab).await;
    network::what_a_distant_network_cannot_do_is_said(&lab).await;
    lab.ends_empty().await;
}

/// The networks of a libvirt elsewhere, which an address such as `qemu+ssh://HOST/system` names. Its folders must be the same as here.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a libvirt: PATCHLAB_TEST_DISTANT is its address"]
async fn distant() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a temporary folder");
    let lab = lab::distant(folder.path(), &std::env::var("PATCHLAB_TEST_DISTANT").expect("an address"));
    lab.clear().await;
    template::machines_elsewhere_are_not_frozen(&lab);
    network::a_network_is_owned_until_it_is_removed(&lab).await;
    network::a_machine_needs_a_place_on_an_open_network(&lab).await;
    network::calls_to_a_missing_network_say_so(&lab).await;
    network::links_go_down_and_up(&lab).await;
    network::networks_with_the_same_addresses_share_nothing(&lab).await;
    network::a_lab_leaves_anothers_network_alone(&lab).await;
    network::what_a_distant_network_cannot_do_is_said(&lab).await;
    lab.ends_empty().await;
}
