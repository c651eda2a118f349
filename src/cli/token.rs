//! `patchlab token`.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::args::{Format, TokenVerb};
use super::context::Context;
use super::error::{Exit, Failure};
use super::print;
use crate::api::tokens::{TokenError, Tokens};

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::File { .. } => Self::lab(error),
            TokenError::Taken { .. } | TokenError::Nobody { .. } => Self::usage(error),
        }
    }
}

pub fn token(context: &Context, verb: &TokenVerb) -> Result<Exit, Failure> {
    let tokens = Tokens::of(&context.state.folder);
    let now = Timestamp::now();
    match verb {
        TokenVerb::Add { name, role, expires, answer } => {
            let ends = expires.map(|expires| {
                let after = SignedDuration::try_from(expires.0).map_err(Failure::usage)?;
                now.checked_add(after).map_err(|_| Failure::usage(format!("--expires {expires} is too far away")))
            });
            let ends = ends.transpose()?;
            let token = tokens.add(name.clone(), *role, ends, now)?;
            match answer.format {
                Format::Human => {
                    print(&format!("{token}\n"))?;
                    super::say("it is not kept and not shown again");
                }
                Format::Json => print(&format!("{:#}\n", json!({ "name": name, "token": token, "expires": ends })))?,
            }
        }
        TokenVerb::List(answer) => {
            let all = tokens.list()?;
            match answer.format {
                Format::Human if all.is_empty() => print("no tokens yet; make one: patchlab token add NAME --role engineer\n")?,
                Format::Human => {
                    for (token, used) in &all {
                        let day = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.strftime("%F %H:%M").to_string());
                        let standing = match token.revoked {
                            Some(at) => format!("revoked {}", day(Some(at))),
                            None if token.is_good(now) => format!("expires {}", day(token.expires)),
                            None => format!("expired {}", day(token.expires)),
                        };
                        print(&format!("{:20} {:13} {standing:26} last used {}\n", token.name, token.role.as_str(), day(*used)))?;
                    }
                }
                Format::Json => {
                    let rows = all.iter().map(|(token, used)| {
                        json!({ "name": token.name, "role": token.role, "created": token.created, "expires": token.expires,
                            "revoked": token.revoked, "last-used": used, "good": token.is_good(now) })
                    });
                    print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
                }
            }
        }
        TokenVerb::Revoke { name } => {
            tokens.revoke(name, now)?;
            super::say(format_args!("{name} has no good token any more"));
        }
    }
    Ok(Exit::Pass)
}
