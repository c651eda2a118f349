//! Who may do what: tokens and their roles, in `<state>/tokens.json`.
//!
//! Invariants: a token is 256 random bits and is shown once, when it is made; only its sha256 is kept. The file is replaced whole, is
//! readable by its owner alone, and is read again whenever it was replaced: a revocation counts from the next request on. Whatever can't be
//! read lets nobody in.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::stamp::{Stamp, Watched};
use crate::catalog::policy::Role;
use crate::id::{Digest, Name};

/// What tells a token from other texts.
const PREFIX: &str = "patchlab_";

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Token {
    /// Whose it is. Records name the person by it.
    pub name: Name,
    pub role: Role,
    pub sha256: Digest,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

impl Token {
    /// Whether it lets anybody in at that time.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// Tokens could not be read or changed.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("could not {tried} the tokens {}: {source}", path.display())]
    File { tried: &'static str, path: PathBuf, source: io::Error },
    #[error("{name} has a token already; revoke it first: patchlab token revoke {name}")]
    Taken { name: Name },
    #[error("{name} has no token that could be revoked; list them: patchlab token list")]
    Nobody { name: Name },
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unknown,
    Revoked,
    Expired,
}

/// The file of tokens.
pub struct Tokens {
    path: PathBuf,
    used: PathBuf,
    watched: Watched,
    cache: Mutex<Cache>,
    /// When each was used last, as far as it is not written yet.
    uses: Mutex<BTreeMap<Name, Timestamp>>,
}

#[derive(Default)]
struct Cache {
    /// Which file it was; `None` where another could look the same.
    stamp: Option<Stamp>,
    tokens: Arc<Vec<Token>>,
}

impl Tokens {
    pub fn of(state: &Path) -> Self {
        let path = state.join("tokens.json");
        let used = state.join("tokens-used.json");
        Self { watched: Watched::new(&path), path, used, cache: Mutex::default(), uses: Mutex::default() }
    }

    /// Makes a token and returns it. It is not kept.
    ///
    /// # Errors
    /// When the name has one that is good, or the file can't be read or written.
    pub fn add(&self, name: Name, role: Role, expires: Option<Timestamp>, now: Timestamp) -> Result<String, TokenError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| self.failed("make a token for")(io::Error::other(error)))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let kept = Token { name, role, sha256: Digest::of(&token), created: now, expires, revoked: None };
        self.change(|tokens| {
            if tokens.iter().any(|other| other.name == kept.name && other.is_good(now)) {
                return Err(TokenError::Taken { name: kept.name.clone() });
            }
            tokens.push(kept);
            Ok(())
        })?;
        Ok(token)
    }

    /// Revokes a name's tokens.
    ///
    /// # Errors
    /// When it has none that is good, or the file can't be read or written.
    pub fn revoke(&self, name: &Name, now: Timestamp) -> Result<(), TokenError> {
        self.change(|tokens| {
            let mut good: Vec<_> = tokens.iter_mut().filter(|token| token.name == *name && token.is_good(now)).collect();
            good.iter_mut().for_each(|token| token.revoked = Some(now));
            if good.is_empty() { Err(TokenError::Nobody { name: name.clone() }) } else { Ok(()) }
        })
    }

    /// Every token, and when its name was used last.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn list(&self) -> Result<Vec<(Token, Option<Timestamp>)>, TokenError> {
        let uses = self.written_uses();
        Ok(self.read()?.iter().map(|token| (token.clone(), uses.get(&token.name).copied())).collect())
    }

    /// Whose the token with this sha256 is.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn holder(&self, sha256: &Digest, now: Timestamp) -> Result<Result<(Name, Role), Refusal>, TokenError> {
        let sha256 = sha256.bytes();
        let tokens = self.read()?;
        // Each is compared, whichever fits.
        let fitting =
            tokens.iter().fold(None, |found, kept| if bool::from(kept.sha256.bytes().ct_eq(&sha256)) { Some(kept) } else { found });
        Ok(match fitting {
            None => Err(Refusal::Unknown),
            Some(kept) if kept.revoked.is_some() => Err(Refusal::Revoked),
            Some(kept) if !kept.is_good(now) => Err(Refusal::Expired),
            Some(kept) => {
                let mut uses = self.uses();
                match uses.get_mut(&kept.name) {
                    Some(used) => *used = now,
                    None => drop(uses.insert(kept.name.clone(), now)),
                }
                Ok((kept.name.clone(), kept.role))
            }
        })
    }

    /// Writes down when tokens were used last.
    ///
    /// # Errors
    /// When the file can't be written; it is tried again the next time.
    pub fn flush(&self) -> Result<(), TokenError> {
        // A folder above it may be another now.
        self.watched.again();
        let fresh = self.uses().clone();
        if fresh.is_empty() {
            return Ok(());
        }
        let mut all = self.written_uses();
        all.extend(fresh.clone());
        replace(&self.used, &all).map_err(self.failed("note the use of"))?;
        self.uses().retain(|name, at| fresh.get(name) != Some(at));
        Ok(())
    }

    fn uses(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Timestamp>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of their uses; it is no secret and decides nothing, so that what can't be read is left out.
    fn written_uses(&self) -> BTreeMap<Name, Timestamp> {
        std::fs::read(&self.used).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn failed(&self, tried: &'static str) -> impl FnOnce(io::Error) -> TokenError {
        let path = self.path.clone();
        move |source| TokenError::File { tried, path, source }
    }

    fn read(&self) -> Result<Arc<Vec<Token>>, TokenError> {
        // First the stamp, then the reading: what is written between is read twice rather than never.
        let stamp = self.watched.stamp();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && cache.stamp == stamp {
            return Ok(cache.tokens.clone());
        }
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(self.failed("read")(error)),
        };
        let tokens = serde_json::from_slice(&bytes).map_err(|bad| self.failed("read")(bad.into()))?;
        *cache = Cache { stamp: stamp.and_then(Stamp::settled), tokens: Arc::new(tokens) };
        Ok(cache.tokens.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> Result<(), TokenError>) -> Result<(), TokenError> {
        let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.path.with_extension("lock"));
        let lock = lock.map_err(self.failed("change"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| self.failed("change")(errno.into()))?;
        let mut tokens = self.read()?.to_vec();
        change(&mut tokens)?;
        replace(&self.path, &tokens).map_err(self.failed("change"))
    }
}

/// Puts a new file in the place of the old; made by `tempfile`, it is its owner's alone.
fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn check(tokens: &Tokens, token: &str, now: Timestamp) -> Result<Result<(Name, Role), Refusal>, TokenError> {
        tokens.holder(&Digest::of(token), now)
    }

    #[test]
    fn a_token_lets_its_owner_in_until_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::of(folder.path());
        assert_eq!(check(&tokens, "anything", at(0)).expect("read"), Err(Refusal::Unknown), "nobody has one");
        let token = tokens.add(name("erika"), Role::Approver, Some(at(100)), at(0)).expect("made");
        assert_eq!(check(&tokens, &token, at(99)).expect("read"), Ok((name("erika"), Role::Approver)));
        assert_eq!(check(&tokens, &token, at(100)).expect("read"), Err(Refusal::Expired));
        for bad in ["", "patchlab_", &token[1..], &format!("{token} "), &token.to_uppercase()] {
            assert_eq!(check(&tokens, bad, at(1)).expect("read"), Err(Refusal::Unknown), "{bad}");
        }
        let kept = std::fs::read_to_string(folder.path().join("tokens.json")).expect("kept");
        assert!(!kept.contains(token.strip_prefix(PREFIX).expect("the prefix")), "only the hash is kept");
        assert_eq!(folder.path().join("tokens.json").metadata().expect("kept").permissions().mode() & 0o077, 0);
    }

    #[test]
    fn a_revocation_by_another_process_counts_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (server, person) = (Tokens::of(folder.path()), Tokens::of(folder.path()));
        let token = person.add(name("ci"), Role::Engineer, None, at(0)).expect("made");
        assert!(matches!(person.add(name("ci"), Role::Viewer, None, at(0)), Err(TokenError::Taken { .. })));
        assert!(check(&server, &token, at(1)).expect("read").is_ok());
        server.flush().expect("written");
        assert_eq!(person.list().expect("read").first().and_then(|(_, used)| *used), Some(at(1)));
        person.revoke(&name("ci"), at(2)).expect("revoked");
        assert_eq!(check(&server, &token, at(3)).expect("read"), Err(Refusal::Revoked));
        assert!(matches!(person.revoke(&name("ci"), at(4)), Err(TokenError::Nobody { .. })));
        let again = person.add(name("ci"), Role::Viewer, None, at(5)).expect("made anew");
        assert_eq!(check(&server, &again, at(6)).expect("read"), Ok((name("ci"), Role::Viewer)));
    }

    #[test]
    fn what_cannot_be_read_lets_nobody_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::of(folder.path());
        let token = tokens.add(name("ci"), Role::Engineer, None, at(0)).expect("made");
        std::fs::write(folder.path().join("tokens.json"), "[").expect("damaged");
        assert!(check(&tokens, &token, at(1)).is_err());
    }
}
