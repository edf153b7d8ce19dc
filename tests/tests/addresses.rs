//! IPv6, names with several addresses, and local addresses of every form.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that is skipped, or measures, says so")]

use ferrotunnel::Tunnel;
use ferrotunnel_tests::{LocalService, Site, TOKEN, TestBed, over_both, own_ip, public_addr, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Whether this machine has an IPv6 loopback.
async fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").await.is_ok();
    if !has {
        println!("skipped: no IPv6 on this machine");
    }
    has
}

#[test]
fn ipv6_server_address_works() {
    over_both(async |carrier| {
        if !has_ipv6().await {
            return;
        }
        let server =
            |server: ferrotunnel::ServerBuilder| server.bind("[::1]:0").http_bind("[::1]:0");
        let bed = TestBed::with(carrier, server).await;
        let site = Site::start().await;
        assert!(bed.server.tunnel_addr().is_ipv6());
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        let head = bed.get("app", "/head").await.body;
        assert!(head.contains("\nx-forwarded-for: ::1\n"), "{head}");
        assert!(head.contains("for=\"[::1]\""), "{head}");

        let (_tcp, public) = bed.tcp(site.addr()).await;
        assert!(public.is_ipv6(), "{public}");
        let mut visitor = TcpStream::connect(public).await.unwrap();
        let asking = b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        visitor.write_all(asking).await.unwrap();
        let mut answer = String::new();
        soon("an answer", visitor.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    });
}

#[test]
fn a_listener_on_all_ipv6_addresses_takes_ipv4_too() {
    over_both(async |carrier| {
        if !has_ipv6().await {
            return;
        }
        let server = |server: ferrotunnel::ServerBuilder| server.bind("[::]:0").http_bind("[::]:0");
        let bed = TestBed::with(carrier, server).await;
        let site = Site::start().await;
        let (tunnel, http) = (bed.server.tunnel_addr().port(), bed.http_addr().port());
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let client = bed.client().server_addr(format!("{host}:{tunnel}"));
            let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
            let client = client.build().unwrap();
            soon(host, client.start()).await.unwrap();
            let name = bed.host("app");
            let hello = ferrotunnel_tests::get(ferrotunnel_tests::loopback(http), &name, "/head");
            let head = hello.await.body;
            assert!(head.contains("\nx-forwarded-for: 127.0.0.1\n"), "{head}");
            client.shutdown().await.unwrap();
        }
    });
}

#[test]
fn a_name_with_several_addresses_is_tried_through() {
    over_both(async |carrier| {
        // `localhost` is ::1 and 127.0.0.1 on most machines; the server has only one of them.
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let server = format!("localhost:{}", bed.server.tunnel_addr().port());
        let client = bed.client().server_addr(server);
        let local = format!("localhost:{}", site.addr().port());
        let client = client.tunnel(Tunnel::http("app").local_addr(local)).build().unwrap();
        soon("the start", client.start()).await.unwrap();
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn a_local_address_may_be_a_bare_port_or_ipv6() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let port = site.addr().port();
        for local in [port.to_string(), format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
            let client = bed.client().token(TOKEN).local_addr(&local).build().unwrap();
            let info = client.start().await.unwrap();
            assert_eq!(bed.get(&info.name, "/hello").await.body, "hello", "{local}");
        }
        if has_ipv6().await {
            let listener = TcpListener::bind("[::1]:0").await.unwrap();
            let local = listener.local_addr().unwrap().to_string();
            let serving = tokio::spawn(async move { listener.accept().await.unwrap() });
            let client = bed.client().tunnel(Tunnel::tcp().local_addr(local)).build().unwrap();
            let public = public_addr(&client.start().await.unwrap().public_url);
            let visitor = TcpStream::connect(public).await.unwrap();
            soon("the local service", serving).await.unwrap();
            drop(visitor);
        }
    });
}

#[test]
fn tcp_tunnels_listen_where_http_visitors_come_in() {
    over_both(async |carrier| {
        let (for_clients, for_visitors) = (own_ip(), own_ip());
        let bed = TestBed::with(carrier, |server| {
            let at = |ip| std::net::SocketAddr::new(ip, 0);
            server.bind(at(for_clients)).http_bind(at(for_visitors))
        })
        .await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        assert!(TcpStream::connect((for_clients, public.port())).await.is_err());
        let mut visitor = TcpStream::connect((for_visitors, public.port())).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        assert_eq!(soon("an echo", visitor.read_u8()).await.unwrap(), b'x');
    });
}
