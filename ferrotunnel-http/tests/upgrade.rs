//! Connections that become something else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use support::{Public, hear, hear_head, local, parts, request, rest, say};
use tokio::io::AsyncWriteExt;

const UPGRADE: &str =
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: key\r\n";

/// A local service that agrees, greets, echoes, and says goodbye when the visitor has finished.
async fn agreeing() -> std::net::SocketAddr {
    local(|_, mut socket| async move {
        let head = hear_head(&mut socket).await.unwrap();
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: key"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
        }
        let head = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: yes\r\n";
        // The first bytes after the head come with it.
        say(&mut socket, &format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\nhello")).await;
        let said = rest(&mut socket).await;
        say(&mut socket, &format!("{said} and goodbye")).await;
    })
    .await
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_until_both_sides_end() {
    let public = Public::of(agreeing().await).await;
    let mut visitor = public.connect().await;
    // The visitor does not wait for the answer either.
    say(&mut visitor, &(request("GET / HTTP/1.1", UPGRADE) + "early")).await;
    let head = hear(&mut visitor, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: yes"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
    }
    hear(&mut visitor, "hello").await;
    say(&mut visitor, " late").await;
    visitor.shutdown().await.unwrap();
    assert_eq!(rest(&mut visitor).await, "early late and goodbye");
    public.until_streams(0).await;
}

#[tokio::test]
async fn a_visitor_that_leaves_an_upgraded_connection_frees_the_stream() {
    let public = Public::of(agreeing().await).await;
    let mut visitor = public.connect().await;
    say(&mut visitor, &request("GET / HTTP/1.1", UPGRADE)).await;
    hear(&mut visitor, "hello").await;
    drop(visitor);
    public.until_streams(0).await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    let service = local(|_, mut socket| async move {
        while hear_head(&mut socket).await.is_some() {
            let head = "Upgrade: other\r\nConnection: upgrade\r\nContent-Length: 2\r\n";
            say(&mut socket, &format!("HTTP/1.1 426 Upgrade Required\r\n{head}\r\nno")).await;
        }
    });
    let public = Public::of(service.await).await;
    let mut visitor = public.connect().await;
    for _ in 0..2 {
        say(&mut visitor, &request("GET / HTTP/1.1", UPGRADE)).await;
        let answer = hear(&mut visitor, "\r\n\r\nno").await;
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 426 ") && body == "no", "{answer}");
        assert!(head.contains("upgrade: other"), "{answer}");
    }
}

#[tokio::test]
async fn a_local_service_that_switches_unasked_is_refused() {
    let service = local(|_, mut socket| async move {
        let head = hear_head(&mut socket).await.unwrap();
        assert!(!head.to_lowercase().contains("upgrade"), "{head}");
        let head = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
        say(&mut socket, &format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n")).await;
    });
    let public = Public::of(service.await).await;
    let h2c =
        "Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    let answer = public.ask(&request("GET / HTTP/1.1", h2c)).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}
