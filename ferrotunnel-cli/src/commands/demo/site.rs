//! The demo's site: a page that says what just happened, and two addresses to try things with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{Html, IntoResponse};
use axum::routing::{any, get};
use ferrotunnel::TunnelInfo;
use serde_json::{Map, Value, json};

/// The page, with `{{words}}` to fill in.
const PAGE: &str = include_str!("page.html");

/// What the page tells about the tunnel it came through.
struct Site {
    public_url: String,
    tunnel_addr: SocketAddr,
    visits: AtomicU64,
}

/// The site's addresses.
pub(super) fn router(info: &TunnelInfo, tunnel_addr: SocketAddr) -> Router {
    let site = Site { public_url: info.public_url.clone(), tunnel_addr, visits: AtomicU64::new(0) };
    Router::new()
        .route("/", get(page))
        .route("/ping", get(ping))
        .route("/echo", any(echo))
        .with_state(Arc::new(site))
}

/// What happened, and what to do next.
async fn page(State(site): State<Arc<Site>>, headers: HeaderMap) -> Html<String> {
    let visit = site.visits.fetch_add(1, Ordering::Relaxed) + 1;
    let words = [
        ("{{public_url}}", escape(&site.public_url)),
        ("{{tunnel_addr}}", escape(&site.tunnel_addr.to_string())),
        ("{{visitor}}", escape(text(&headers, "x-forwarded-for"))),
        ("{{host}}", escape(text(&headers, header::HOST.as_str()))),
        ("{{visit}}", visit.to_string()),
    ];
    Html(words.iter().fold(PAGE.to_owned(), |page, (word, value)| page.replace(word, value)))
}

/// The shortest answer there is; the page measures a round trip with it.
async fn ping() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], "pong")
}

/// The request as the local service saw it.
async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let headers: Map<String, Value> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let seen = json!({ "method": method.as_str(), "path": uri.to_string(), "headers": headers, "body_bytes": body.len() });
    ([(header::CONTENT_TYPE, "application/json")], format!("{seen:#}\n"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("unknown")
}

/// What a visitor sends must not become part of the page's markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Nor be taken for a word to fill in.
            '{' => escaped.push_str("&#123;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Arc<Site> {
        Arc::new(Site {
            public_url: "http://demo.localhost:8080/".to_owned(),
            tunnel_addr: SocketAddr::from(([127, 0, 0, 1], 7835)),
            visits: AtomicU64::new(0),
        })
    }

    #[tokio::test]
    async fn every_word_of_the_page_is_filled_in() {
        let Html(page) = page(State(site()), HeaderMap::new()).await;
        assert!(page.contains("http://demo.localhost:8080/"));
        assert!(page.contains("127.0.0.1:7835"));
        assert!(!page.contains("{{"), "a word is left");
    }

    #[tokio::test]
    async fn what_a_visitor_sends_stays_text() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "<script>alert(1)</script>{{visit}}".parse().unwrap());
        let Html(page) = page(State(site()), headers).await;
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(!page.contains("<script>alert"));
    }

    #[tokio::test]
    async fn visits_are_counted() {
        let site = site();
        let _ = page(State(site.clone()), HeaderMap::new()).await;
        let _ = page(State(site.clone()), HeaderMap::new()).await;
        assert_eq!(site.visits.load(Ordering::Relaxed), 2);
    }
}
