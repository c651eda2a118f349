//! Shell patterns over paths: `*` any run of characters, slashes included, as in `case`; `?` one character. A pattern that matches a folder
//! covers all that is in it.

/// Whether the pattern matches the path or one of the folders above it.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_end_matches("/**").trim_end_matches('/');
    if pattern.is_empty() {
        return false;
    }
    if matches(pattern, path) {
        return true;
    }
    path.match_indices('/').skip(1).any(|(at, _)| matches(pattern, &path[..at]))
}

/// Whether the pattern matches the whole text.
pub(in crate::verdict) fn matches(pattern: &str, text: &str) -> bool {
    matches_bytes(pattern.as_bytes(), text.as_bytes())
}

/// Classic two-pointer matching: linear in practice, never exponential.
fn matches_bytes(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((after_star, from)) => {
                    p = after_star;
                    t = from + 1;
                    back = Some((after_star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_paths_and_what_is_below() {
        for (pattern, path) in [
            ("/etc/motd", "/etc/motd"),
            ("/srv/www", "/srv/www/a/b"),
            ("/srv/www/", "/srv/www/a"),
            ("/srv/**", "/srv/www/a"),
            ("/var/log/*.log", "/var/log/a.log"),
            ("*.pyc", "/usr/lib/x/__pycache__/a.pyc"),
            ("*/__pycache__", "/usr/lib/x/__pycache__/a.pyc"),
            ("/a?c", "/abc"),
        ] {
            assert!(covers(pattern, path), "{pattern} should cover {path}");
        }
        for (pattern, path) in
            [("/etc/motd", "/etc/motd2"), ("/srv/www", "/srv/wwwx"), ("", "/a"), ("/", "/a"), ("/a?c", "/ac"), ("*.log", "/x/log")]
        {
            assert!(!covers(pattern, path), "{pattern} should not cover {path}");
        }
    }
}
