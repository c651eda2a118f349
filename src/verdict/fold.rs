//! What stays of a text when all that differs between two equal events is taken out: numbers, addresses, times, hashes, temporary
//! names. Two failures with the same folded text are the same failure.

use std::collections::BTreeSet;

use crate::id::Digest;

/// The months and days that logs write before a number.
const CALENDAR: [&str; 19] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Folders whose contents have made-up names.
const TEMPORARY: [&str; 4] = ["/tmp/", "/var/tmp/", "/run/patchlab/", "/var/lib/patchlab/"];

/// One line with numbers, hexadecimal words, addresses, times and temporary paths replaced by `#`.
pub fn fold(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let folded = fold_word(word);
        // "Nov 21 10:00:00" is one moment, and so is "21 Nov".
        let calendar =
            CALENDAR.contains(&word.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_ascii_lowercase().as_str()) && word.len() <= 5;
        let folded = if calendar { "#".to_owned() } else { folded };
        if folded == "#" && words.last().is_some_and(|last| last == "#") {
            continue;
        }
        words.push(folded);
    }
    words.join(" ")
}

fn fold_word(word: &str) -> String {
    if let Some(at) = TEMPORARY.iter().filter_map(|folder| word.find(folder)).min() {
        let (start, path) = word.split_at(at);
        let end = path.find(['\'', '"', ':', ',', ';', ')', ']', '=']).unwrap_or(path.len());
        return format!("{}/tmp/#{}", fold_word(start), fold_plain(&path[end..]));
    }
    fold_plain(word)
}

fn fold_plain(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    let mut inside = false;
    while let Some(first) = rest.chars().next() {
        let address = rest.find(|c: char| !c.is_ascii_hexdigit() && c != ':').unwrap_or(rest.len());
        let run = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (token, tail) = if !inside && address >= run && rest[..address].matches(':').count() >= 2 {
            // An IPv6 or hardware address, or a time.
            out.push('#');
            rest.split_at(address)
        } else if run > 0 {
            push_token(&mut out, &rest[..run]);
            rest.split_at(run)
        } else {
            out.push(first);
            rest.split_at(first.len_utf8())
        };
        inside = token.ends_with(|c: char| c.is_ascii_alphanumeric());
        rest = tail;
    }
    without_joints(&out)
}

/// Joints inside of numbers and addresses ("#:#:#.#", "#-#-#") vanish with them.
fn without_joints(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let joint = matches!(c, '.' | ':' | '-' | '/' | ',') && chars.get(at + 1) == Some(&'#');
        if out.ends_with('#') && (joint || c == '#') {
            at += if joint { 2 } else { 1 };
            continue;
        }
        out.push(c);
        at += 1;
    }
    out
}

/// Digits alone, or hexadecimal digits that could hardly be a word.
fn is_number(token: &str) -> bool {
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    !token.is_empty() && token.bytes().all(|c| c.is_ascii_hexdigit()) && (digits == token.len() || (digits > 0 && token.len() >= 4))
        || token.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn push_token(out: &mut String, token: &str) {
    let long_hex = token.len() >= 12 && token.bytes().all(|c| c.is_ascii_hexdigit());
    if is_number(token) || long_hex {
        if !out.ends_with('#') {
            out.push('#');
        }
        return;
    }
    // "ext4", "vda3" and "x86" are names; "worker1234" and "17s" hold numbers.
    let name = token.starts_with(|c: char| c.is_ascii_alphabetic()) && token.bytes().filter(u8::is_ascii_digit).count() <= 2;
    for c in token.chars() {
        if name || !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
}

/// The fingerprint of a failure: of its folded lines, in this order.
pub fn fingerprint<'a>(lines: impl IntoIterator<Item = &'a str>) -> Digest {
    let folded: Vec<String> = lines.into_iter().map(fold).filter(|line| !line.is_empty()).collect();
    Digest::of(folded.join("\n"))
}

/// What a failure is, apart from what differs from clone to clone: its own fingerprint, else its folded message.
pub fn essence(fingerprint: Option<Digest>, message: &str) -> String {
    fingerprint.map_or_else(|| fold(message), |fingerprint| fingerprint.to_string())
}

/// The fingerprint of bad news about a case or a stage: what it is called, what it is about, and each way in which it showed.
pub fn identity(code: &str, subject: &str, essences: &BTreeSet<String>) -> Digest {
    Digest::of_json(&(code, subject, essences))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_between_equal_events_goes() {
        for (one, other) in [
            ("nginx[123]: worker 7 exited on signal 11", "nginx[99871]: worker 12 exited on signal 6"),
            ("segfault at 7f3c12 ip 00007f1a2b sp 0x7ffd", "segfault at 5512ab ip 00001f1a2c sp 0x12"),
            ("10:15:01 connect to 192.168.0.1:80 refused", "09:01:59 connect to 10.0.0.200:8080 refused"),
            ("Nov 21 10:00:00 host x failed", "Dec  1 09:12:11 host x failed"),
            ("cannot open /tmp/tmp.Xa8/file: no", "cannot open /tmp/tmp.Qq1Z/other: no"),
            ("id 550e8400-e29b-41d4-a716-446655440000 lost", "id 6ba7b810-9dad-11d1-80b4-00c04fd430c8 lost"),
            ("link fe80::5054:ff:fe12:3456 down", "link fe80::1 down"),
            ("took 1.25s", "took 17s"),
        ] {
            assert_eq!(fold(one), fold(other));
        }
    }

    #[test]
    fn what_tells_events_apart_stays() {
        for (one, other) in [
            ("nginx: bind failed", "sshd: bind failed"),
            ("cannot open /etc/nginx/nginx.conf", "cannot open /etc/ssh/sshd_config"),
            ("status=1/FAILURE", "code=dumped"),
            ("not found", "permission denied"),
        ] {
            assert_ne!(fold(one), fold(other));
        }
    }

    proptest! {
        #[test]
        fn any_text_folds(text in any::<String>()) {
            let once = fold(&text);
            prop_assert!(once.len() <= text.len() + 16 * (1 + text.matches("tmp/").count() + text.matches("patchlab/").count()));
        }
    }
}
