//! Who calls. Every route of the API but the two for health checks is asked for [`bearer`] by the front; a handler takes a [`Caller`] and
//! asks for its role.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use tokio::time::Instant;

use super::Service;
use super::problem::Problem;
use super::tokens::Refusal;
use crate::catalog::policy::Role;
use crate::id::{Digest, Name};

/// Bad tokens that an address may send within [`WINDOW`] before it is told to wait.
const MOST_GUESSES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const MOST_PEERS: usize = 4096;

/// Somebody whose token or session is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub name: Name,
    pub role: Role,
    /// The sha256 of the token.
    pub token: Digest,
}

impl Caller {
    /// # Errors
    /// When the role is not enough.
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let detail = format!("this is for the role {} or higher; {} is {}", role.as_str(), self.name, self.role.as_str());
        Err(Problem::not_allowed(detail))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::no_token("this route wants a token"))
    }
}

/// The address of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Who sends these headers.
///
/// # Errors
/// When there is no good token in them.
pub fn bearer(service: &Service, headers: &HeaderMap, peer: Option<Peer>) -> Result<Caller, Problem> {
    service.caller(token(headers)?, peer)
}

/// Who sends these headers, if there is a good token in them; a bad one is not counted.
pub fn good_bearer(service: &Service, headers: &HeaderMap) -> Option<Caller> {
    let token = Digest::of(token(headers).ok()?);
    let (name, role) = service.tokens.holder(&token, Timestamp::now()).ok()?.ok()?;
    Some(Caller { name, role, token })
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => return Err(Problem::no_token("send the header `Authorization: Bearer TOKEN`; get one with: patchlab token add")),
        (Some(Ok(value)), None) => value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")),
        _ => None,
    };
    Ok(token.map(|(_, token)| token.trim()).unwrap_or_default())
}

/// Counts bad tokens by address. Good ones always pass: they can't be guessed, and one client with an old token must not shut out the
/// others behind its proxy.
#[derive(Default)]
pub struct Guesses {
    peers: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Guesses {
    /// Notes a bad token. Returns for how long its address is to wait, once it has sent too many.
    pub fn bad(&self, peer: Option<Peer>) -> Option<Duration> {
        let now = Instant::now();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MOST_PEERS {
            peers.retain(|_, (_, since)| now - *since < WINDOW);
        }
        let address = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |Peer(address)| network(address.ip()));
        if peers.len() >= MOST_PEERS && !peers.contains_key(&address) {
            // More addresses than can be remembered: nobody new is heard for a while.
            return Some(WINDOW);
        }
        let (count, since) = peers.entry(address).or_insert((0, now));
        if now - *since >= WINDOW {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        (*count > MOST_GUESSES).then(|| WINDOW.saturating_sub(now - *since))
    }
}

/// An IPv6 host has a whole network to itself.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl Service {
    /// Whose token this is.
    ///
    /// # Errors
    /// When it lets nobody in, or too many such came from there.
    pub fn caller(&self, token: &str, peer: Option<Peer>) -> Result<Caller, Problem> {
        let token = Digest::of(token);
        let refusal = match self.tokens.holder(&token, Timestamp::now()).map_err(Problem::fault)? {
            Ok((name, role)) => return Ok(Caller { name, role, token }),
            Err(refusal) => refusal,
        };
        tracing::warn!(?refusal, peer = ?peer.map(|Peer(address)| address), "a bad token");
        if let Some(wait) = self.guesses.bad(peer) {
            let detail = "too many bad tokens came from this address";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-bad-tokens", detail).retry_after(wait.as_secs().max(1)));
        }
        Err(no_more(refusal))
    }

    /// Whether somebody who was let in still would be: for answers that take their time.
    ///
    /// # Errors
    /// When the token lets nobody in any more.
    pub fn still(&self, caller: &Caller) -> Result<(), Problem> {
        match self.tokens.holder(&caller.token, Timestamp::now()).map_err(Problem::fault)? {
            Ok((_, role)) => Caller { role, ..caller.clone() }.require(Role::Viewer),
            Err(refusal) => Err(no_more(refusal)),
        }
    }
}

fn no_more(refusal: Refusal) -> Problem {
    Problem::no_token(match refusal {
        Refusal::Unknown => "the token is not one of this lab's",
        Refusal::Revoked => "the token was revoked",
        Refusal::Expired => "the token has expired",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn too_many_guesses_have_to_wait_and_others_do_not() {
        let guesses = Guesses::default();
        let peer = |address: &str| Some(Peer(SocketAddr::new(address.parse().expect("an address"), 1)));
        for _ in 0..MOST_GUESSES {
            assert_eq!(guesses.bad(peer("2001:db8::1")), None);
        }
        assert!(guesses.bad(peer("2001:db8::2")).is_some(), "the same network");
        assert_eq!(guesses.bad(peer("192.0.2.1")), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(guesses.bad(peer("2001:db8::1")), None);
    }
}
