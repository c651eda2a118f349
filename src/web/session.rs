//! Who is signed in. Sessions live in memory alone: a server that starts anew knows nobody.
//!
//! Invariants: a session's id is 256 random bits, of which only the sha256 is kept; it ends after an idle while, after half a day at the
//! latest, when the clock is put back, and as soon as its token does. Functions take the moment from their caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::view::Notice;
use crate::id::Digest;
use crate::verdict::gate::was_ahead;

/// A session that is not used for so long ends.
const IDLE: SignedDuration = SignedDuration::from_mins(30);
/// No session lasts longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);
/// Sessions at once. The one that was idle for longest ends for a new one.
const MOST: usize = 1_000;

/// All sessions, by the sha256 of their ids.
#[derive(Default)]
pub struct Sessions {
    all: Mutex<HashMap<Digest, Session>>,
}

struct Session {
    token: Digest,
    csrf: String,
    begun: Timestamp,
    seen: Timestamp,
    notice: Option<Notice>,
}

/// What a request needs of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The sha256 of its id.
    pub key: Digest,
    /// The sha256 of the token that it began with.
    pub token: Digest,
    pub csrf: String,
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session and returns its id, for the cookie.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn begin(&self, token: Digest, now: Timestamp) -> Result<String, getrandom::Error> {
        let (id, csrf) = (secret()?, secret()?);
        let mut all = self.all();
        all.retain(|_, session| session.lasts(now));
        if all.len() >= MOST {
            let oldest = all.iter().min_by_key(|(_, session)| session.seen).map(|(key, _)| *key);
            oldest.and_then(|key| all.remove(&key));
        }
        all.insert(Digest::of(&id), Session { token, csrf, begun: now, seen: now, notice: None });
        Ok(id)
    }

    /// The session with this id, if it lasts; it has been used now.
    pub fn find(&self, id: &str, now: Timestamp) -> Option<Seen> {
        let key = Digest::of(id);
        let mut all = self.all();
        let session = all.get_mut(&key).filter(|session| session.lasts(now));
        let Some(session) = session else {
            all.remove(&key);
            return None;
        };
        session.seen = session.seen.max(now);
        Some(Seen { key, token: session.token, csrf: session.csrf.clone() })
    }

    /// Whether a session lasts, without using it.
    pub fn lasts(&self, key: &Digest, now: Timestamp) -> bool {
        self.all().get(key).is_some_and(|session| session.lasts(now))
    }

    pub fn end(&self, key: &Digest) {
        self.all().remove(key);
    }

    /// Leaves a word for the next page of this session.
    pub fn leave(&self, key: &Digest, notice: Notice) {
        if let Some(session) = self.all().get_mut(key) {
            session.notice = Some(notice);
        }
    }

    /// The word that was left, once.
    pub fn take(&self, key: &Digest) -> Option<Notice> {
        self.all().get_mut(key)?.notice.take()
    }
}

impl Session {
    fn lasts(&self, now: Timestamp) -> bool {
        now.duration_since(self.seen) < IDLE && now.duration_since(self.begun) < LONGEST && !was_ahead(self.seen, now)
    }
}

/// 256 random bits as 64 digits.
///
/// # Errors
/// When the system gives none.
pub fn secret() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(Digest::from_bytes(random).hex())
}

/// Whether two secrets are the same. Their hashes are compared: how long that takes says nothing of them.
pub fn same(one: &str, other: &str) -> bool {
    !one.is_empty() && Digest::of(one) == Digest::of(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::Sign;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_772_616_600 + 60 * minutes).expect("a moment")
    }

    #[test]
    fn a_session_lasts_while_it_is_used_and_no_longer_than_half_a_day() {
        let sessions = Sessions::default();
        let token = Digest::of("token");
        let id = sessions.begin(token, at(0)).expect("begun");
        assert_eq!(id.len(), 64);
        let seen = sessions.find(&id, at(29)).expect("there");
        assert_eq!((seen.token, seen.csrf.len()), (token, 64));
        assert_eq!(sessions.find(&seen.key.hex(), at(29)), None, "what is kept opens nothing");
        assert!(sessions.find(&id, at(58)).is_some() && sessions.find(&id, at(88)).is_none(), "idle for half an hour");
        assert_eq!(sessions.find(&id, at(59)), None, "ended is ended");
        let id = sessions.begin(token, at(0)).expect("begun");
        let lasted = (0..100).map(|n| n * 20).take_while(|minute| sessions.find(&id, at(*minute)).is_some()).last();
        assert_eq!(lasted, Some(700), "the last before twelve hours");
        let id = sessions.begin(token, at(0)).expect("begun");
        assert!(sessions.find(&id, at(-5)).is_some() && sessions.find(&id, at(-6)).is_none(), "the clock was put back");
    }

    #[test]
    fn signing_out_ends_it_and_a_notice_is_read_once() {
        let sessions = Sessions::default();
        let id = sessions.begin(Digest::of("token"), at(0)).expect("begun");
        let seen = sessions.find(&id, at(1)).expect("there");
        let notice = Notice { sign: Sign::Good, text: "done".to_owned() };
        sessions.leave(&seen.key, notice.clone());
        assert_eq!((sessions.take(&seen.key), sessions.take(&seen.key)), (Some(notice), None));
        sessions.end(&seen.key);
        assert_eq!(sessions.find(&id, at(1)), None);
    }

    #[test]
    fn there_are_never_more_than_can_be_kept() {
        let sessions = Sessions::default();
        let first = sessions.begin(Digest::of("token"), at(0)).expect("begun");
        for _ in 0..MOST {
            sessions.begin(Digest::of("token"), at(1)).expect("begun");
        }
        assert_eq!(sessions.all().len(), MOST);
        assert_eq!(sessions.find(&first, at(1)), None);
    }

    #[test]
    fn nothing_is_no_secret() {
        assert!(same("a", "a") && !same("a", "b") && !same("", ""));
    }
}
