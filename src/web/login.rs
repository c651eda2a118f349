//! Signing in and out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;

use super::fields::Fields;
use super::session::{same, secret};
use super::view::frame::Frame;
use super::view::plain::LoginPage;
use super::visitor::{Sent, Trouble, form, show};
use super::{Web, assets, guard};
use crate::api::Problem;
use crate::api::caller::Peer;
use crate::id::Digest;

/// The session's cookie. Under TLS no page of another host can set it.
pub fn cookie_name(web: &Web) -> &'static str {
    if web.service.secure { "__Host-patchlab-session" } else { "patchlab-session" }
}

/// Of the login form alone: nobody is there yet who could have a session.
fn door_name(web: &Web) -> &'static str {
    if web.service.secure { "__Host-patchlab-door" } else { "patchlab-door" }
}

fn cookie(web: &Web, name: &str, value: &str, age: Option<u32>) -> HeaderValue {
    let secure = if web.service.secure { "; Secure" } else { "" };
    let age = age.map(|age| format!("; Max-Age={age}")).unwrap_or_default();
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// What the form carries: it follows from the cookie, which no other site can read or set.
fn door_token(door: &str) -> String {
    Digest::of(format!("door {door}")).hex()
}

/// The form.
pub async fn page(State(web): State<Arc<Web>>, request: Request) -> Response {
    let fields = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
    offer(&web, request.headers(), guard::place(fields.get("next")), None, StatusCode::OK)
}

fn offer(web: &Web, headers: &HeaderMap, next: &str, problem: Option<String>, status: StatusCode) -> Response {
    let known = guard::cookie(headers, door_name(web)).filter(|door| door.len() == 64 && door.bytes().all(|c| c.is_ascii_hexdigit()));
    let door = match known.map(str::to_owned).map_or_else(secret, Ok) {
        Ok(door) => door,
        Err(error) => return Trouble::from(Problem::fault(error)).into_response(),
    };
    let frame = Frame::outside("Sign in", assets::version());
    let mut response = show(&LoginPage { frame, csrf: door_token(&door), next: next.to_owned(), problem });
    *response.status_mut() = status;
    response.headers_mut().append(SET_COOKIE, cookie(web, door_name(web), &door, None));
    response
}

/// Begins a session for a good token.
pub async fn sign_in(State(web): State<Arc<Web>>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let (parts, body) = request.into_parts();
    let fields = match form(&parts.headers, body).await {
        Ok(fields) => fields,
        Err(problem) => return Trouble::from(problem).into_response(),
    };
    let next = guard::place(fields.get("next"));
    let door = guard::cookie(&parts.headers, door_name(&web)).unwrap_or_default();
    if door.is_empty() || !same(fields.get("csrf"), &door_token(door)) {
        let told = "The form was too old. Your browser has to keep cookies of this server.".to_owned();
        return offer(&web, &parts.headers, next, Some(told), StatusCode::FORBIDDEN);
    }
    let token = fields.get("token").trim();
    if let Err(problem) = web.service.caller(token, peer) {
        let told = match problem.status() {
            StatusCode::UNAUTHORIZED => "No such token is known here, or it is over.".to_owned(),
            _ => problem.detail().to_owned(),
        };
        return offer(&web, &parts.headers, next, Some(told), problem.status());
    }
    if let Some(old) = guard::cookie(&parts.headers, cookie_name(&web)).and_then(|id| web.sessions.find(id, Timestamp::now())) {
        web.sessions.end(&old.key);
    }
    match web.sessions.begin(Digest::of(token), Timestamp::now()) {
        Ok(id) => {
            let mut response = Redirect::to(next).into_response();
            response.headers_mut().append(SET_COOKIE, cookie(&web, cookie_name(&web), &id, None));
            response
        }
        Err(error) => Trouble::from(Problem::fault(error)).into_response(),
    }
}

/// Ends the session.
pub async fn sign_out(State(web): State<Arc<Web>>, sent: Sent) -> Response {
    web.sessions.end(&sent.visitor.seen.key);
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().append(SET_COOKIE, cookie(&web, cookie_name(&web), "", Some(0)));
    response.headers_mut().append("vary", HeaderValue::from_name(COOKIE));
    response
}
