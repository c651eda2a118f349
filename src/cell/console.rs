//! What a machine's console says after the patch that it did not say before: there the cause of a death stands.
//!
//! Invariants: pure; time and memory are bounded whatever the guest prints.

use std::collections::BTreeSet;

use crate::verdict::fold::fold;

/// Bytes that are looked at, of each side: the last ones.
const CAP: usize = 512 * 1024;
/// Lines that are given.
const LINES: usize = 40;
/// Characters of a line.
const WIDTH: usize = 200;

/// Words of lines that say why, and of those that only say what was under way. Stable over many releases of kernel, initramfs-tools,
/// GRUB and systemd.
const CAUSES: [&str; 33] = [
    "Kernel panic",
    "Oops",
    "BUG:",
    "Out of memory",
    "VFS: Cannot open root",
    "Unable to mount root",
    "Initramfs unpacking failed",
    "No working init found",
    "Gave up waiting for",
    "ALERT!",
    "EXT4-fs error",
    "EXT4-fs (", // with "error" or "orrupt" below
    "I/O error",
    "error: file `",
    "error: no such",
    "error: unknown filesystem",
    "error: you need to load the kernel first",
    "error: bad shim signature",
    "Access Denied",
    "Verification failed",
    "No bootable",
    "sysrq:",
    "Failed to start",
    "Failed to mount",
    "Failed to load configuration",
    "Dependency failed for",
    "Timed out waiting for",
    "emergency mode",
    "Freezing execution",
    "systemd-shutdown[#]: Powering off",
    "systemd-shutdown[#]: Rebooting",
    "Power down",
    "Attempted to kill init",
];
const UNDER_WAY: [&str; 2] = ["Starting ", "A start job is running for"];

/// What `now` says and `before` did not, without stamps and colours, each line once.
pub fn news(before: &[u8], now: &[u8]) -> Vec<String> {
    let known: BTreeSet<String> = lines(before).map(|line| fold(&line)).collect();
    let mut seen = BTreeSet::new();
    let mut news: Vec<String> = Vec::new();
    for line in lines(now) {
        let folded = fold(&line);
        // systemd says it to the kernel's log and, shortened, to the console.
        let start = line.split('…').next().unwrap_or_default();
        let told = line.contains('…') && news.iter().any(|other| other.starts_with(start));
        if !known.contains(&folded) && !told && seen.insert(folded) {
            news.push(line.chars().take(WIDTH).collect());
        }
    }
    news
}

/// The lines that a person would quote: those that say why, else those that say what was under way, in the order of the console.
pub fn telling(news: &[String], most: usize) -> Vec<&str> {
    let says = |words: &[&str], line: &str| {
        let folded = fold(line);
        words.iter().any(|word| folded.contains(word) && (*word != "EXT4-fs (" || folded.contains("error") || folded.contains("orrupt")))
    };
    let under_way = news.iter().filter(|line| says(&UNDER_WAY, line));
    let causes = news.iter().filter(|line| says(&CAUSES, line) && !line.starts_with("---["));
    let mut chosen: Vec<&str> = under_way.take(1).chain(causes).map(String::as_str).collect();
    chosen.truncate(most);
    chosen
}

/// Lines as a detail: the first and, above all, the last.
pub fn detail(news: &[String]) -> String {
    if news.len() <= LINES {
        return news.join("\n");
    }
    let head = LINES / 4;
    let cut = news.len() - LINES;
    let (start, end) = (&news[..head], &news[head + cut..]);
    format!("{}\n[... {cut} lines ...]\n{}", start.join("\n"), end.join("\n"))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(CAP)..]).into_owned();
    let lines: Vec<String> = text.split(['\n', '\r']).map(plain).filter(|line| !line.is_empty()).collect();
    lines.into_iter()
}

/// A line without escape sequences, stamp, systemd's mark and its status in brackets.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            text.extend((!c.is_control()).then_some(c));
        } else if rest.next() == Some('[') {
            // A control sequence ends with a letter.
            let _ = rest.find(|c| c.is_ascii_alphabetic() || *c == '@' || *c == '~');
        }
    }
    let mut text = text.trim();
    // The kernel's stamp, or systemd's moving stars.
    if let Some((inside, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && (inside.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b' '))
            || inside.bytes().all(|byte| matches!(byte, b'*' | b' ')))
    {
        text = after.trim_start();
    }
    text = text.strip_prefix("systemd[1]: ").unwrap_or(text);
    for status in ["[  OK  ] ", "[FAILED] ", "[DEPEND] ", "[ TIME ] ", "[ WARN ] "] {
        text = text.strip_prefix(status).unwrap_or(text);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "[    0.000000] Linux version 6.1.0\r\n[    7.1] systemd[1]: Reached target swap.target - Swaps.\r\n\
        [\u{1b}[0;32m  OK  \u{1b}[0m] Reached target \u{1b}[0;1;39mswap.target\u{1b}[0m - Swaps.\r\n";

    fn told(now: &str) -> Vec<String> {
        news(BEFORE.as_bytes(), format!("{BEFORE}{now}").as_bytes())
    }

    #[test]
    fn the_cause_is_what_was_not_said_before() {
        let table: [(&str, &[&str]); 4] = [
            (
                "[    8.4] systemd[1]: Starting panic.service - Panics...\r\n         Starting \u{1b}[0;1;39mpanic.ser…\u{1b}[0m - Panics...\r\n\
                 [    8.6] sysrq: Trigger a crash\r\n[    8.6] Kernel panic - not syncing: sysrq triggered crash\r\n",
                &["Starting panic.service - Panics...", "sysrq: Trigger a crash", "Kernel panic - not syncing: sysrq triggered crash"],
            ),
            (
                "[\u{1b}[0;1;31m TIME \u{1b}[0m] Timed out waiting for device dev-disk-by.device.\r\n\
                 [\u{1b}[0;1;38:5:185mDEPEND\u{1b}[0m] Dependency failed for /srv/data.\r\nYou are in emergency mode. After logging in, type\r\n",
                &[
                    "Timed out waiting for device dev-disk-by.device.",
                    "Dependency failed for /srv/data.",
                    "You are in emergency mode. After logging in, type",
                ],
            ),
            ("[    9.9] random: crng init done\r\n", &[]),
            (
                "[   81.4] systemd-shutdown[1]: Powering off.\r\n[   81.5] reboot: Power down\r\n",
                &["systemd-shutdown[1]: Powering off.", "reboot: Power down"],
            ),
        ];
        for (now, expected) in table {
            assert_eq!(telling(&told(now), 3), expected, "{now:?}");
        }
        assert_eq!(told(""), Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn any_console_is_read(before: Vec<u8>, now: Vec<u8>) {
            let news = news(&before, &now);
            proptest::prop_assert!(telling(&news, 3).len() <= 3);
            proptest::prop_assert!(detail(&news).lines().count() <= LINES + 1);
        }
    }
}
