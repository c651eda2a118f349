//! Whether a form was sent from one of the dashboard's own pages.

use axum::http::{HeaderMap, Uri, header};

/// Whether the browser says that the request comes from a page of this very server. One that says nothing is not believed:
/// programs have the API.
pub fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    let origin = text("origin").map(|origin| origin.parse::<Uri>().ok().and_then(|origin| Some(origin.authority()?.as_str().to_owned())));
    match origin {
        Some(origin) => origin.is_some() && origin.as_deref() == text(header::HOST.as_str()),
        None => site.is_some(),
    }
}

/// Whether a browser follows a link from another site. It leaves the session's cookie out then.
pub fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| value == wanted);
    is("sec-fetch-site", "cross-site") && is("sec-fetch-mode", "navigate")
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Where a person wanted to go, if that is a place of the dashboard; else the board.
pub fn place(wanted: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~:@+?&=%".contains(c);
    let own = wanted.starts_with('/') && !wanted.starts_with("//") && wanted.len() <= 500 && wanted.chars().all(plain);
    if own && !wanted.starts_with("/login") { wanted } else { "/" }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let host = ("host", "lab.example:8400");
        for (sent, own) in [
            (&[host, ("sec-fetch-site", "same-origin"), ("origin", "https://lab.example:8400")][..], true),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("origin", "http://lab.example:8400")], true),
            (&[host], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("sec-fetch-site", "cross-site"), ("origin", "http://lab.example:8400")], false),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "none")], false),
            (&[host, ("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], false),
            (&[host, ("origin", "https://lab.example:8401")], false),
            (&[("origin", "https://lab.example:8400")], false),
        ] {
            assert_eq!(is_own(&headers(sent)), own, "{sent:?}");
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let headers = headers(&[("cookie", "a=1; patchlab-session=x; xpatchlab-session=y")]);
        assert_eq!((cookie(&headers, "patchlab-session"), cookie(&headers, "session")), (Some("x"), None));
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        for good in ["/", "/runs/019cb82e/cells/acme.web@virtio-bios", "/?status=rejected&customer=acme"] {
            assert_eq!(place(good), good);
        }
        for bad in
            ["", "https://evil.example", "//evil.example", "/\\evil.example", "/x\r\nset-cookie: a=b", "javascript:alert(1)", "/login"]
        {
            assert_eq!(place(bad), "/", "{bad:?}");
        }
    }
}
