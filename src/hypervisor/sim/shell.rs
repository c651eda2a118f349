//! The few shell commands that a simulated guest understands, for steps that say nothing else about themselves: `echo`, `sleep`, `read`,
//! `exit`, `true` and `false`, joined by `;` or `&&`. It is no shell: a line with any other command does nothing and ends well.

use std::time::Duration;

use crate::guest::StepEnd;

/// What a command line did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub end: StepEnd,
    pub output: String,
    pub takes: Duration,
}

/// Runs a command line. `None` when it holds anything but the known commands.
pub fn run(line: &str, terminal: bool) -> Option<Ran> {
    let mut ran = Ran { end: StepEnd::Exit(0), output: String::new(), takes: Duration::ZERO };
    for piece in line.split(';') {
        for command in piece.split("&&") {
            let mut words = command.split_whitespace();
            let code = match (words.next(), words.next()) {
                (None, _) => continue,
                (Some("true"), None) => 0,
                (Some("false"), None) => 1,
                (Some("echo"), first) => {
                    let said: Vec<&str> = first.into_iter().chain(words).collect();
                    ran.output.push_str(&said.join(" "));
                    ran.output.push('\n');
                    0
                }
                (Some("sleep"), Some(seconds)) => {
                    ran.takes = ran.takes.saturating_add(Duration::from_secs(seconds.parse().ok()?));
                    0
                }
                (Some("exit"), code) => {
                    let code: u8 = code.map_or(Some(0), |code| code.parse().ok())?;
                    return Some(Ran { end: StepEnd::Exit(code.into()), ..ran });
                }
                (Some("read"), Some(_)) if terminal => return Some(Ran { end: StepEnd::Asked, ..ran }),
                (Some("read"), Some(_)) => 1,
                (Some(_), _) => return None,
            };
            ran.end = StepEnd::Exit(code);
            if code != 0 {
                break;
            }
        }
    }
    Some(ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_commands_do_what_a_shell_does() {
        let ended = |line, terminal| run(line, terminal).map(|ran| (ran.end, ran.output, ran.takes.as_secs()));
        let said = |code, text: &str, secs| Some((StepEnd::Exit(code), text.to_owned(), secs));
        assert_eq!(ended("echo a b; sleep 2; exit 3; echo c", false), said(3, "a b\n", 2));
        assert_eq!(ended("false && echo a; echo b", false), said(0, "b\n", 0));
        assert_eq!(ended("echo q; read x", false), said(1, "q\n", 0));
        assert_eq!(ended("echo q; read x", true), Some((StepEnd::Asked, "q\n".to_owned(), 0)));
        assert_eq!(ended("", true), said(0, "", 0));
        for unknown in ["rm -rf /", "echo a; ls", "sleep x", "exit 256", "sleep"] {
            assert_eq!(ended(unknown, true), None, "{unknown}");
        }
    }
}
