//! How a boot goes when nothing is wrong: its phases, what each writes to the console, and how long each takes.

use std::time::Duration;

use super::scenario::Pace;
use crate::catalog::hardware::Firmware;
use crate::cell::cause::BootPhase;

/// How long the agent's port is open before it answers.
const AGENT_WAKES: Duration = Duration::from_millis(200);

pub const fn after(phase: BootPhase) -> Option<BootPhase> {
    match phase {
        BootPhase::Firmware => Some(BootPhase::BootLoader),
        BootPhase::BootLoader => Some(BootPhase::Kernel),
        BootPhase::Kernel => Some(BootPhase::Userspace),
        BootPhase::Userspace => Some(BootPhase::Agent),
        BootPhase::Agent => None,
    }
}

/// How long a phase takes at its best.
pub const fn length(phase: BootPhase, pace: &Pace) -> Duration {
    match phase {
        BootPhase::Firmware => pace.firmware.0,
        BootPhase::BootLoader => pace.boot_loader.0,
        BootPhase::Kernel => pace.kernel.0,
        BootPhase::Userspace => pace.userspace.0,
        BootPhase::Agent => AGENT_WAKES,
    }
}

/// What a phase writes: its first line at once, the others spread evenly over it.
pub const fn lines(phase: BootPhase, firmware: Firmware) -> &'static [&'static str] {
    match (phase, firmware) {
        (BootPhase::Firmware, Firmware::Bios) => {
            &["SeaBIOS (version 1.16.2-debian-1.16.2-1)", "iPXE (http://ipxe.org) 00:02.0", "Booting from Hard Disk..."]
        }
        (BootPhase::Firmware, Firmware::Uefi | Firmware::UefiSecureBoot) => &[
            "UEFI firmware (version 2022.11-6)",
            "BdsDxe: loading Boot0001 \"UEFI Misc Device\"",
            "BdsDxe: starting Boot0001 \"UEFI Misc Device\"",
        ],
        (BootPhase::BootLoader, _) => {
            &["GRUB loading.", "Welcome to GRUB!", "Loading Linux 6.1.0-sim-amd64 ...", "Loading initial ramdisk ..."]
        }
        (BootPhase::Kernel, _) => &[
            "[    0.000000] Linux version 6.1.0-sim-amd64 (sim@patchlab) #1 SMP PREEMPT_DYNAMIC",
            "[    0.412000] smpboot: CPU0: QEMU Virtual CPU",
            "[    1.204000] virtio_blk virtio2: [vda] 8388608 512-byte logical blocks",
            "[    2.870000] EXT4-fs (vda1): mounted filesystem with ordered data mode",
        ],
        (BootPhase::Userspace, _) => &[
            "[    4.101000] systemd[1]: systemd 252 running in system mode",
            "[    5.330000] systemd[1]: Hostname set to <sim>.",
            "[  OK  ] Started systemd-journald.service - Journal Service.",
            "[  OK  ] Reached target network.target - Network.",
            "[  OK  ] Started ssh.service - OpenBSD Secure Shell server.",
        ],
        (BootPhase::Agent, _) => &["[  OK  ] Started qemu-guest-agent.service - QEMU Guest Agent.", "Debian GNU/Linux 12 sim ttyS0"],
    }
}

/// What a kernel writes with its last breath.
pub const PANIC: &str = "[    9.990000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n\
                         [    9.991000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---";
