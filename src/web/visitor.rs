//! Who looks at a page, and how pages are answered.

use std::sync::Arc;

use askama::Template;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use jiff::Timestamp;

use super::fields::Fields;
use super::session::{Seen, same};
use super::view::frame::{Frame, May, Notice, Section, Who};
use super::view::plain::{AgainPage, ErrorPage};
use super::{Web, assets, guard};
use crate::api::extract::bytes;
use crate::api::{Caller, Problem, Role};
use crate::report::html::Sign;

/// Somebody who is signed in.
pub struct Visitor {
    pub caller: Caller,
    pub seen: Seen,
    pub now: Timestamp,
}

/// A form that a page of this server has sent, by somebody who is signed in.
pub struct Sent {
    pub visitor: Visitor,
    pub fields: Fields,
}

/// A page that can't be given, in words.
pub struct Trouble {
    problem: Problem,
    visitor: Option<Box<Frame>>,
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self { problem, visitor: None }
    }
}

macro_rules! trouble {
    ($($error:ty),*) => {$(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Problem::from(error).into()
            }
        }
    )*};
}

trouble!(crate::journal::JournalError, crate::lab::desk::DeskError, crate::lab::gate::GateError);

impl Visitor {
    /// The frame of a page for this person.
    pub async fn frame(&self, web: &Web, here: Section, title: &str) -> Result<Frame, Trouble> {
        let waiting = super::overview::waiting(web, super::overview::viewer(self), self.now).await?;
        Ok(Frame { title: title.to_owned(), here, waiting, notice: web.sessions.take(&self.seen.key), ..self.plain(title) })
    }

    fn plain(&self, title: &str) -> Frame {
        let may = May { work: self.caller.role >= Role::Engineer, approve: self.caller.role >= Role::Approver };
        let who = Who { name: self.caller.name.to_string(), role: self.caller.role.as_str(), csrf: self.seen.csrf.clone(), may };
        Frame { who: Some(who), ..Frame::outside(title, assets::version()) }
    }

    /// Leaves a word for the next page, and goes there.
    pub fn go(&self, web: &Web, place: &str, sign: Sign, text: impl Into<String>) -> Redirect {
        web.sessions.leave(&self.seen.key, Notice { sign, text: text.into() });
        Redirect::to(place)
    }
}

impl FromRequestParts<Arc<Web>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        let now = Timestamp::now();
        match visitor(web, &parts.headers, now) {
            Ok(Some(visitor)) => Ok(visitor),
            Ok(None) => Err(stranger(parts)),
            Err(problem) => Err(Trouble::from(problem).into_response()),
        }
    }
}

fn visitor(web: &Web, headers: &HeaderMap, now: Timestamp) -> Result<Option<Visitor>, Problem> {
    let seen = guard::cookie(headers, super::login::cookie_name(web)).and_then(|id| web.sessions.find(id, now));
    let Some(seen) = seen else { return Ok(None) };
    // A token that was revoked or has expired takes its sessions with it.
    match web.service.tokens.holder(&seen.token, now).map_err(Problem::fault)? {
        Ok((name, role)) => Ok(Some(Visitor { caller: Caller { name, role, token: seen.token }, seen, now })),
        Err(_) => {
            web.sessions.end(&seen.key);
            Ok(None)
        }
    }
}

/// Sends somebody who is not signed in to the door.
fn stranger(parts: &Parts) -> Response {
    let wanted = guard::place(parts.uri.path_and_query().map_or("/", |path| path.as_str()));
    if parts.method != axum::http::Method::GET {
        return Trouble::from(Problem::no_token("your session is over; sign in again")).into_response();
    }
    if guard::is_from_elsewhere(&parts.headers) {
        let page = AgainPage { frame: Frame::outside("patchlab", assets::version()), address: wanted.to_owned() };
        return show(&page);
    }
    let next: String = form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
    Redirect::to(&format!("/login?next={next}")).into_response()
}

impl axum::extract::FromRequest<Arc<Web>> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, web).await?;
        let refuse = |problem: Problem| Trouble { problem, visitor: Some(Box::new(visitor.plain(""))) }.into_response();
        let fields = form(&parts.headers, body).await.map_err(refuse)?;
        if !same(fields.get("csrf"), &visitor.seen.csrf) {
            let detail = "the form is not of this session; go back, load the page again, and send it once more";
            return Err(refuse(Problem::not_allowed(detail)));
        }
        Ok(Self { visitor, fields })
    }
}

/// A form's fields, if a page of this server has sent it.
///
/// # Errors
/// When another has, or it is no form, too large or too slow.
pub async fn form(headers: &HeaderMap, body: axum::body::Body) -> Result<Fields, Problem> {
    if !guard::is_own(headers) {
        return Err(Problem::not_allowed("the form was not sent from a page of this server"));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", "expected a form"));
    }
    Ok(Fields::parse(&bytes(Request::new(body)).await?))
}

/// A page as an answer.
pub fn show(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => Problem::fault(error).into_response(),
    }
}

impl Trouble {
    /// With the way around that somebody who is signed in has.
    pub fn for_visitor(self, visitor: &Visitor) -> Self {
        Self { visitor: Some(Box::new(visitor.plain(""))), ..self }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = self.problem.status();
        let title = match status {
            StatusCode::NOT_FOUND => "There is no such thing",
            StatusCode::FORBIDDEN => "You may not do this",
            StatusCode::UNAUTHORIZED => "You are not signed in",
            StatusCode::CONFLICT => "That does not go with how things stand",
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => "That can't be read",
            StatusCode::METHOD_NOT_ALLOWED => "That can't be done here",
            StatusCode::TOO_MANY_REQUESTS => "Too many tries",
            StatusCode::PAYLOAD_TOO_LARGE => "That is too large",
            _ => "The lab could not do it",
        };
        let mut frame = self.visitor.map_or_else(|| Frame::outside(title, assets::version()), |frame| *frame);
        frame.title = title.to_owned();
        let ways = if status == StatusCode::UNAUTHORIZED { ("/login", "Sign in") } else { ("/", "Board") };
        let page = ErrorPage {
            frame,
            status: status.as_u16(),
            title: title.to_owned(),
            detail: crate::report::text::one_line(self.problem.detail(), 600),
            ways: vec![(ways.0.to_owned(), ways.1)],
        };
        let mut response = show(&page);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
