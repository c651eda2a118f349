//! Reading a boot's console: how far it got, and where it ended for good.
//!
//! Invariants: pure; memory is bounded whatever the guest prints; a phase never goes back within one boot.

use super::cause::BootPhase;

/// Follows the console of one boot.
#[derive(Clone, Debug)]
pub struct BootWatch {
    phase: BootPhase,
    /// Something after which nothing comes any more, as it was printed.
    dead_end: Option<DeadEnd>,
    /// The end of what was fed, in case a mark is cut in two.
    carry: Vec<u8>,
}

/// A console line after which a boot does not go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadEnd {
    Panic(String),
    /// A prompt that waits for a person.
    Prompt(&'static str),
}

/// What each phase prints first. GRUB's own messages, the kernel's banner and systemd's first line are stable over many releases.
const MARKS: [(BootPhase, &[&str]); 3] = [
    (BootPhase::Userspace, &["systemd[1]:", "INIT: version", "Welcome to \u{1b}[", "Welcome to Debian", "Run /sbin/init as init process"]),
    (BootPhase::Kernel, &["Linux version ", "Decompressing Linux", "Run /init as init process", "Loading, please wait..."]),
    (BootPhase::BootLoader, &["GRUB", "Loading Linux ", "Loading initial ramdisk", "error: no such device", "grub rescue>"]),
];

const PROMPTS: [&str; 6] =
    ["grub rescue>", "grub>", "(initramfs)", "Press Enter for maintenance", "You are in emergency mode", "No bootable device"];

/// Longer than any mark; a panic's message is cut here.
const CARRY: usize = 256;

impl BootWatch {
    pub fn new() -> Self {
        Self { phase: BootPhase::Firmware, dead_end: None, carry: Vec::new() }
    }

    /// Takes what the console printed since the last call.
    pub fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let all = [self.carry.as_slice(), bytes].concat();
        let text = String::from_utf8_lossy(&all);
        for (phase, marks) in MARKS {
            if phase > self.phase && marks.iter().any(|mark| text.contains(mark)) {
                self.phase = phase;
            }
        }
        if let Some(at) = text.find("Kernel panic - not syncing") {
            let line = text[at..].lines().next().unwrap_or_default();
            self.dead_end = Some(DeadEnd::Panic(line.chars().take(CARRY).collect()));
        } else if self.dead_end.is_none() {
            self.dead_end = PROMPTS.iter().find(|prompt| text.contains(**prompt)).map(|prompt| DeadEnd::Prompt(prompt));
        }
        self.carry = all[all.len().saturating_sub(CARRY)..].to_vec();
    }

    /// The machine restarted: everything starts over.
    pub fn restart(&mut self) {
        *self = Self::new();
    }

    pub fn phase(&self) -> BootPhase {
        self.phase
    }

    pub fn dead_end(&self) -> Option<&DeadEnd> {
        self.dead_end.as_ref()
    }
}

impl Default for BootWatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(chunks: &[&str]) -> BootWatch {
        let mut watch = BootWatch::new();
        chunks.iter().for_each(|chunk| watch.feed(chunk.as_bytes()));
        watch
    }

    #[test]
    fn phases_by_what_was_printed() {
        let table: [(&[&str], BootPhase); 6] = [
            (&["SeaBIOS (version 1.16)\r\n"], BootPhase::Firmware),
            (&["GRUB loading..\r\n"], BootPhase::BootLoader),
            (&["Loading Linux 6.1.0-1-amd64 ..."], BootPhase::BootLoader),
            (&["[    0.000000] Linux ver", "sion 6.1.0"], BootPhase::Kernel),
            (&["Linux version 6", "[    9.1] systemd[1]: Hostname set"], BootPhase::Userspace),
            (&["systemd[1]: up", "GRUB"], BootPhase::Userspace),
        ];
        for (chunks, phase) in table {
            assert_eq!(watch(chunks).phase(), phase, "{chunks:?}");
        }
    }

    #[test]
    fn dead_ends() {
        assert_eq!(watch(&["error: no such device.\r\ngrub res", "cue> "]).dead_end(), Some(&DeadEnd::Prompt("grub rescue>")));
        let panic = watch(&["[ 2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"]);
        assert_eq!(panic.dead_end(), Some(&DeadEnd::Panic("Kernel panic - not syncing: VFS: Unable to mount root fs".to_owned())));
        assert_eq!(watch(&["systemd[1]: all is well"]).dead_end(), None);
    }

    proptest::proptest! {
        #[test]
        fn memory_is_bounded(chunks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..2000), 0..20)) {
            let mut watch = BootWatch::new();
            for chunk in &chunks {
                watch.feed(chunk);
                proptest::prop_assert!(watch.carry.len() <= CARRY);
            }
        }
    }
}
