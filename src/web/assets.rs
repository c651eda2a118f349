//! The files that pages refer to: style, script, icon. They are in the binary.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::id::Digest;

/// The report's style, and the dashboard's on top of it.
pub const STYLE: &str = concat!(include_str!("../report/look/style.css"), include_str!("pages/web.css"));
pub const SCRIPT: &str = include_str!("pages/live.js");
pub const ICON: &str = include_str!("pages/icon.svg");

/// Changes whenever one of them does, so that they may be kept for good.
static VERSION: LazyLock<String> = LazyLock::new(|| Digest::of([STYLE, SCRIPT, ICON].concat()).short());

pub fn version() -> &'static str {
    &VERSION
}

/// The file of this name, and its media type.
pub fn file(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "style.css" => Some((STYLE, "text/css; charset=utf-8")),
        "live.js" => Some((SCRIPT, "text/javascript; charset=utf-8")),
        "icon.svg" => Some((ICON, "image/svg+xml")),
        _ => None,
    }
}

/// One of the files. They change with their address alone.
pub async fn serve(Path(name): Path<String>) -> Response {
    match file(&name) {
        Some((contents, kind)) => {
            let kept = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");
            ([(header::CONTENT_TYPE, kind), kept], contents).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
