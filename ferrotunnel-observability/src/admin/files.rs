//! The dashboard: a page and what it needs, as they were put into the library. They hold nothing of this process, so they are
//! shown to everybody who may come as far as here.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode, Uri};
use include_dir::{Dir, include_dir};

use super::answers::{no_such_path, wrong_method};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets");

/// A file of the dashboard; `/` is its page.
pub(super) async fn file(method: Method, uri: Uri) -> Response {
    let name = match uri.path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    // What is put there for other tools begins with a dot.
    let found = FILES.get_file(name).filter(|_| !name.starts_with('.'));
    match (found, method) {
        (None, _) => no_such_path().await.into_response(),
        (Some(_), method) if method != Method::GET && method != Method::HEAD => {
            wrong_method().await.into_response()
        }
        (Some(file), _) => {
            let kind = HeaderValue::from_static(kind(name));
            (StatusCode::OK, [(CONTENT_TYPE, kind)], file.contents()).into_response()
        }
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
