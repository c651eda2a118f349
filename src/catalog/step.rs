//! The steps of an interoperability case: what happens on which machine, and on the wire between them, one after the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::suite::ResultForm;
use super::text::Span;
use crate::id::Name;

/// One step. It does exactly one of `run`, `start`, `expect`, `stop`, `wait`, `barrier` and `network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// The role whose machine it happens on, for `run`, `start` and `expect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// A script of the suite's folder that has to succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A script of the suite's folder that goes on in the background, until it is stopped or the case ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// A script of the suite's folder that is tried again until it succeeds, for as long as `within` lets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// The background script, by its name, that is ended. Having failed before that fails the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Name>,
    /// The background script, by its name, that has to end by itself and succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Name>,
    /// The background scripts, by their names, that all have to be ready (see `ready`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barrier: Vec<Name>,
    /// What happens to the network: `"down client"`, `"up client"`, `"delay server 200ms"`, `"jitter server 50ms"`, `"loss lan 10%"`,
    /// `"duplicate client 5%"`, `"partition client"`, `"heal"`. The place is a role (all its NICs), a role's NIC (`client/lan`) or a segment.
    /// All is healed when the case ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Disturbance>,
    /// The name of a background script, for `start`. Its script's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// For `start`: whether the next step waits until the script says that it is ready by making the file `$PATCHLAB_READY`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// Arguments of the script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    /// Commands that must be there on the role's machine. Where one is not, the case is skipped with that reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// How its script says what it found; of a background script, once it has ended.
    #[serde(default, skip_serializing_if = "ResultForm::is_exit")]
    pub result: ResultForm,
    /// How long the step may take, where that is less than the case's time limit. Of a background script, how long until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    Run { role: &'a Name, script: &'a str },
    Start { role: &'a Name, script: &'a str, name: &'a str },
    Expect { role: &'a Name, script: &'a str },
    Stop(&'a Name),
    Wait(&'a Name),
    Barrier(&'a [Name]),
    Network(&'a Disturbance),
}

impl Step {
    /// What it does.
    ///
    /// # Errors
    /// What is wrong, when it does nothing, several things, or lacks its role.
    pub fn action(&self) -> Result<Action<'_>, &'static str> {
        const ONE: &str = "a step does exactly one of run, start, expect, stop, wait, barrier and network";
        const ROLE: &str = "run, start and expect happen on a machine: name its role";
        let role = self.role.as_ref().ok_or(ROLE);
        let mut found = Vec::new();
        if let Some(script) = &self.run {
            found.push(role.map(|role| Action::Run { role, script }));
        }
        if let Some(script) = &self.start {
            let name = self.name.as_ref().map_or(script.as_str(), Name::as_str);
            found.push(role.map(|role| Action::Start { role, script, name }));
        }
        if let Some(script) = &self.expect {
            found.push(role.map(|role| Action::Expect { role, script }));
        }
        found.extend(self.stop.as_ref().map(|name| Ok(Action::Stop(name))));
        found.extend(self.wait.as_ref().map(|name| Ok(Action::Wait(name))));
        found.extend((!self.barrier.is_empty()).then_some(Ok(Action::Barrier(&self.barrier))));
        found.extend(self.network.as_ref().map(|what| Ok(Action::Network(what))));
        match found.as_slice() {
            [one] => *one,
            _ => Err(ONE),
        }
    }

    /// The keys that mean nothing for what it does.
    pub fn idle_keys(&self) -> Vec<&'static str> {
        let script = self.script().is_some();
        let waits = !self.barrier.is_empty() || self.wait.is_some() || self.run.is_some() || self.expect.is_some() || self.ready;
        [
            ("role", self.role.is_some() && !script),
            ("with", !self.with.is_empty() && !script),
            ("needs", !self.needs.is_empty() && !script),
            ("result", !self.result.is_exit() && !script),
            ("name", self.name.is_some() && self.start.is_none()),
            ("ready", self.ready && self.start.is_none()),
            ("within", self.within.is_some() && !waits),
        ]
        .into_iter()
        .filter_map(|(key, idle)| idle.then_some(key))
        .collect()
    }

    /// Its script, if it has one.
    pub fn script(&self) -> Option<&str> {
        [&self.run, &self.start, &self.expect].into_iter().find_map(|script| script.as_deref())
    }
}

/// Where a disturbance happens: every NIC of a role, one NIC, or a segment. Names are told apart when the case meets its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// A role or a segment.
    Whole(Name),
    Nic {
        role: Name,
        segment: Name,
    },
}

/// Something that happens to the network.
#[derive(Clone, PartialEq, Eq)]
pub enum Disturbance {
    Down(Site),
    Up(Site),
    Delay(Site, Duration),
    Jitter(Site, Duration),
    /// Thousandths of the frames.
    Loss(Site, u16),
    Duplicate(Site, u16),
    /// These see each other and none of the rest, who see each other too.
    Partition(Vec<Name>),
    /// Everything is well again.
    Heal,
}

impl Disturbance {
    /// Where it happens, unless it is everywhere or between roles.
    pub const fn site(&self) -> Option<&Site> {
        match self {
            Self::Down(site)
            | Self::Up(site)
            | Self::Delay(site, _)
            | Self::Jitter(site, _)
            | Self::Loss(site, _)
            | Self::Duplicate(site, _) => Some(site),
            Self::Partition(_) | Self::Heal => None,
        }
    }
}

impl FromStr for Disturbance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "expected down|up PLACE, delay|jitter PLACE TIME (at most 60s), loss|duplicate PLACE PERCENT (such as 2.5%), partition \
                 ROLE..., or heal, found {text:?}"
            )
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let span = |text: &str| text.parse::<Span>().map(|span| span.0).ok().filter(|span| *span <= Duration::from_secs(60));
        let place = |text: &str| text.parse::<Site>().ok();
        let read = match words.as_slice() {
            ["down", at] => place(at).map(Self::Down),
            ["up", at] => place(at).map(Self::Up),
            ["delay", at, time] => place(at).zip(span(time)).map(|(at, time)| Self::Delay(at, time)),
            ["jitter", at, time] => place(at).zip(span(time)).map(|(at, time)| Self::Jitter(at, time)),
            ["loss", at, share] => place(at).zip(thousandths(share)).map(|(at, share)| Self::Loss(at, share)),
            ["duplicate", at, share] => place(at).zip(thousandths(share)).map(|(at, share)| Self::Duplicate(at, share)),
            ["partition", first, rest @ ..] => {
                std::iter::once(first).chain(rest).map(|role| role.parse().ok()).collect::<Option<Vec<Name>>>().map(Self::Partition)
            }
            ["heal"] => Some(Self::Heal),
            _ => None,
        };
        read.ok_or_else(bad)
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
        match text.split_once('/') {
            Some((role, segment)) => Ok(Self::Nic { role: name(role)?, segment: name(segment)? }),
            None => name(text).map(Self::Whole),
        }
    }
}

/// `"2.5%"` as 25.
fn thousandths(text: &str) -> Option<u16> {
    let number = text.strip_suffix('%')?;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse::<u16>().ok()).flatten();
    let share = digits(whole)?.checked_mul(10)?.checked_add(digits(tenth).filter(|_| tenth.len() == 1)?)?;
    (share <= 1000).then_some(share)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = |script: &str| std::iter::once(script).chain(self.with.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        match self.action() {
            Err(_) => return f.write_str("nothing"),
            Ok(Action::Run { role, script }) => write!(f, "{role} runs {}", call(script))?,
            Ok(Action::Expect { role, script }) => write!(f, "{role} is expected to pass {}", call(script))?,
            Ok(Action::Start { role, script, name }) => {
                write!(f, "{role} starts {} in the background", call(script))?;
                if name != script {
                    write!(f, " as {name}")?;
                }
                if self.ready {
                    f.write_str(", and is waited for until ready")?;
                }
            }
            Ok(Action::Stop(name)) => write!(f, "{name} is stopped")?,
            Ok(Action::Wait(name)) => write!(f, "{name} is to end")?,
            Ok(Action::Barrier(names)) => {
                write!(f, "{} are to be ready", names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))?;
            }
            Ok(Action::Network(what)) => write!(f, "network: {what}")?,
        }
        self.within.map_or(Ok(()), |within| write!(f, ", within {within}"))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(name) => write!(f, "{name}"),
            Self::Nic { role, segment } => write!(f, "{role}/{segment}"),
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &u16| format!("{}.{}%", share / 10, share % 10);
        match self {
            Self::Down(at) => write!(f, "down {at}"),
            Self::Up(at) => write!(f, "up {at}"),
            Self::Delay(at, time) => write!(f, "delay {at} {}ms", time.as_millis()),
            Self::Jitter(at, time) => write!(f, "jitter {at} {}ms", time.as_millis()),
            Self::Loss(at, share) => write!(f, "loss {at} {}", percent(share)),
            Self::Duplicate(at, share) => write!(f, "duplicate {at} {}", percent(share)),
            Self::Partition(roles) => {
                f.write_str("partition")?;
                roles.iter().try_for_each(|role| write!(f, " {role}"))
            }
            Self::Heal => f.write_str("heal"),
        }
    }
}

super::text::as_text!(
    Disturbance,
    "^(down|up|delay|jitter|loss|duplicate|partition|heal)( .+)?$",
    "A disturbance of the network such as \"down client\", \"delay server 200ms\" or \"loss lan 10%\"."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbances_read_back_and_refuse_all_else() {
        for good in [
            "down client",
            "up client/lan",
            "delay server 200ms",
            "jitter lan 50ms",
            "loss lan 2.5%",
            "duplicate client 100.0%",
            "partition client server",
            "heal",
        ] {
            assert_eq!(good.parse::<Disturbance>().map(|read| read.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["", "down", "down a b", "loss lan", "loss lan 10", "loss lan 101%", "loss lan 1.25%", "delay lan 2h", "partition", "heal x"]
        {
            assert!(bad.parse::<Disturbance>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_step_does_one_thing() {
        let role = || Some("client".parse::<Name>().expect("a name"));
        assert!(Step::default().action().is_err());
        assert!(Step { run: Some("get".to_owned()), ..Step::default() }.action().is_err(), "it lacks its role");
        let both = Step { role: role(), run: Some("get".to_owned()), expect: Some("get".to_owned()), ..Step::default() };
        assert!(both.action().is_err());
        let one = Step { role: role(), start: Some("serve".to_owned()), ..Step::default() };
        assert!(matches!(one.action(), Ok(Action::Start { name: "serve", .. })));
        assert_eq!(one.to_string(), "client starts serve in the background");
        assert!(Step { within: Some(Span::secs(5)), ..one.clone() }.idle_keys().contains(&"within"), "nobody waits for it");
        let waited = Step { within: Some(Span::secs(5)), ready: true, with: vec!["80".to_owned()], ..one };
        assert_eq!(
            (waited.to_string().as_str(), waited.idle_keys().len()),
            ("client starts serve 80 in the background, and is waited for until ready, within 5s", 0)
        );
    }
}
