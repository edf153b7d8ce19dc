//! Who gets a request: by host, wildcard and path, with several clients behind one host.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use ferrotunnel::{
    Client, ErrorKind, PrincipalConfig, Retry, Server, Tunnel, TunnelInfo, issue_token,
};
use ferrotunnel_tests::{LocalService, TestBed, over_both, raw, read_head, ready, soon};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// A local service that answers with that name and the head of the request as it came.
async fn shows(name: &'static str) -> LocalService {
    LocalService::each(move |mut socket| async move {
        let head = read_head(&mut socket).await;
        let len = name.len() + 1 + head.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{name} {head}");
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.shutdown().await;
    })
    .await
}

/// A client with one tunnel.
async fn client(bed: &TestBed, tunnel: Tunnel, local: &LocalService) -> (Client, TunnelInfo) {
    let tunnel = tunnel.local_addr(local.addr().to_string());
    let client = bed.client().tunnel(tunnel).build().unwrap();
    let info = soon("the tunnel", client.start()).await.unwrap();
    (client, info)
}

/// What the visitors of that host and path get: who answers, and to which request line.
async fn seen(bed: &TestBed, host: &str, path: &str) -> String {
    let asking = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    match (status, body.split_once(" HTTP/1.1")) {
        ("200", Some((line, _))) => line.to_owned(),
        _ => {
            let ours = head.lines().find_map(|line| line.strip_prefix("ferrotunnel-error: "));
            format!("{status} {}", ours.unwrap_or_default())
        }
    }
}

#[test]
fn two_clients_share_a_host_by_path() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (web, api) = (shows("web").await, shows("api").await);
        let (web_client, info) = client(&bed, Tunnel::http("app"), &web).await;
        assert_eq!(info.public_url, format!("http://{}/", bed.host("app")));
        let (_api_client, info) = client(&bed, Tunnel::http("app").path("/api"), &api).await;
        assert_eq!(info.public_url, format!("http://{}/api", bed.host("app")));
        assert_eq!(info.name, "app/api");
        for (path, expected) in [
            ("/", "web GET /"),
            ("/apix?/api", "web GET /apix?/api"),
            ("/api", "api GET /api"),
            ("/api?q", "api GET /api?q"),
            ("/api/x/", "api GET /api/x/"),
            ("/api/../x", "400 unclear-path"),
            ("/%61pi", "400 unclear-path"),
            ("//api", "400 unclear-path"),
            ("/api%2F..%2Fadmin", "400 unclear-path"),
            ("/api%2Fx", "400 unclear-path"),
            ("/api%00x", "400 unclear-path"),
            ("/api/group%2Fproject", "api GET /api/group%2Fproject"),
            ("/see/%2Fx", "web GET /see/%2Fx"),
            ("/see/%7Ex//y", "web GET /see/%7Ex//y"),
        ] {
            assert_eq!(seen(&bed, "app.localhost", path).await, expected, "{path}");
        }
        soon("the shutdown", web_client.shutdown()).await.unwrap();
        // Just as for a host that nobody has.
        for path in ["/", "/apix", "/x/../api", "/%61pi"] {
            assert_eq!(seen(&bed, "app.localhost", path).await, "404 no-such-tunnel", "{path}");
            assert_eq!(seen(&bed, "none.localhost", path).await, "404 no-such-tunnel", "{path}");
        }
        assert_eq!(seen(&bed, "app.localhost", "/api").await, "api GET /api");
    });
}

#[test]
fn a_host_of_one_tunnel_gets_every_path_as_it_is() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let web = shows("web").await;
        let (_client, _) = client(&bed, Tunnel::http("app"), &web).await;
        for path in ["/api/../x", "/%61pi", "//api", "/a%2fb", "/.."] {
            assert_eq!(seen(&bed, "app.localhost", path).await, format!("web GET {path}"));
        }
    });
}

#[test]
fn a_newer_client_takes_one_path_over_and_no_other() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (web, old, new) = (shows("web").await, shows("old").await, shows("new").await);
        let api = || Tunnel::http("app").host("shop.example").path("/api");
        let (_web, _) = client(&bed, Tunnel::http("app").host("shop.example"), &web).await;
        let (old_client, _) = client(&bed, api(), &old).await;
        assert_eq!(seen(&bed, "shop.example", "/api").await, "old GET /api");
        let (_new, _) = client(&bed, api(), &new).await;
        let error = soon("the end", old_client.wait()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Superseded);
        for host in ["shop.example", "app.localhost"] {
            assert_eq!(seen(&bed, host, "/api").await, "new GET /api");
            assert_eq!(seen(&bed, host, "/").await, "web GET /");
        }
    });
}

#[test]
fn a_host_of_one_principal_has_no_room_for_paths_of_another() {
    over_both(async |carrier| {
        let [(alice, first), (bob, second)] = ["alice", "bob"].map(|name| {
            let (token, verifier) = issue_token().unwrap();
            let mut config = PrincipalConfig::new(name).verifier(verifier);
            config.hosts = Some(vec!["*".into(), "*.example".into()]);
            (config, token.reveal())
        });
        let bed = TestBed::with(carrier, |server| server.principals([alice, bob])).await;
        let ask = async |token: &str, tunnel: Tunnel| {
            let client = bed.client().token(token).retry(Retry::Never);
            let client = client.tunnel(tunnel.local_addr("1")).build().unwrap();
            soon("an answer", client.start()).await.map(|info| (client, info))
        };
        let shop = |path| Tunnel::http("").host("shop.example").path(path);
        let held = ask(&first, shop("/api")).await.unwrap();
        for path in ["/api", "/other", "/"] {
            let error = ask(&second, shop(path)).await.err().unwrap();
            assert!(error.to_string().contains("belongs to somebody else"), "{error}");
        }
        let _more = ask(&first, shop("/other")).await.unwrap();
        // What an operator permits to both is one host each: the exact one goes before the wildcard.
        let _wild = ask(&second, Tunnel::http("").host("*.example")).await.unwrap();
        let error = ask(&second, Tunnel::http("").host("*.localhost")).await.err().unwrap();
        assert!(error.to_string().contains("is not among those of principal \"bob\""), "{error}");
        drop(held);
    });
}

#[test]
fn a_wildcard_answers_for_one_label_that_nobody_else_has() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.reserved_names(["www", "Admin"])).await;
        let (all, one) = (shows("all").await, shows("one").await);
        let tunnel =
            Tunnel::http("all").host("*.Shop.example").host("*.localhost").host("*.bücher.example");
        let (_all, _) = client(&bed, tunnel, &all).await;
        let (_one, _) = client(&bed, Tunnel::http("one").host("one.shop.example"), &one).await;
        for (host, expected) in [
            ("x.shop.example", "all GET /"),
            ("X.SHOP.EXAMPLE:80", "all GET /"),
            ("a.xn--bcher-kva.example", "all GET /"),
            ("one.shop.example", "one GET /"),
            ("one.localhost", "one GET /"),
            ("two.localhost", "all GET /"),
            ("www.localhost", "404 no-such-tunnel"),
            ("admin.localhost", "404 no-such-tunnel"),
            ("y.x.localhost", "404 no-such-tunnel"),
        ] {
            assert_eq!(seen(&bed, host, "/").await, expected, "{host}");
        }
        for tunnel in [Tunnel::http("www"), Tunnel::http("x").host("a.admin.localhost")] {
            let client = bed.client().retry(Retry::Never).tunnel(tunnel.local_addr("1"));
            let error = soon("an answer", client.build().unwrap().start()).await.unwrap_err();
            assert!(error.to_string().contains("is reserved on this server"), "{error}");
        }
    });
}

#[test]
fn a_stripped_path_is_told_in_a_header() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (web, api) = (shows("web").await, shows("api").await);
        let (_web, _) = client(&bed, Tunnel::http("app"), &web).await;
        let (_api, _) = client(&bed, Tunnel::http("app").path("/api/").strip_path(), &api).await;
        for (path, expected) in [
            ("/api/x?q=/api", "api GET /x?q=/api"),
            ("/api", "api GET /"),
            ("/api?q", "api GET /?q"),
            ("/api/api/", "api GET /api/"),
            ("/api//%2Fx.example/y", "api GET /x.example/y"),
            ("/api/x%2Fy", "api GET /x%2Fy"),
            ("/api/%2e%2e%2fx", "400 unclear-path"),
            ("/apix", "web GET /apix"),
        ] {
            assert_eq!(seen(&bed, "app.localhost", path).await, expected, "{path}");
        }
        let lie = "GET /PATH HTTP/1.1\r\nhost: app.localhost\r\nx-forwarded-prefix: /lie\r\nconnection: close\r\n\r\n";
        for (path, told) in [("api/x", Some("/api")), ("x", None)] {
            let asking = lie.replace("PATH", path);
            let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
            let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
            let header = answer.lines().find_map(|line| line.strip_prefix("x-forwarded-prefix: "));
            assert_eq!(header, told, "{answer}");
        }
    });
}

#[test]
fn visitors_over_http2_are_told_apart_by_path_on_one_connection() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (web, api) = (shows("web").await, shows("api").await);
        let (_web, _) = client(&bed, Tunnel::http("app"), &web).await;
        let (_api, _) = client(&bed, Tunnel::http("app").path("/api").strip_path(), &api).await;
        let visitor = reqwest::Client::builder().no_proxy().http2_prior_knowledge();
        let visitor = visitor.resolve("app.localhost", bed.http_addr()).build().unwrap();
        for (path, expected) in [("/x", "web GET /x "), ("/api/x", "api GET /x ")] {
            let asking = visitor.get(format!("http://{}{path}", bed.host("app"))).send();
            let answer = soon("an answer", asking).await.unwrap();
            assert_eq!(answer.version(), reqwest::Version::HTTP_2);
            let body = answer.text().await.unwrap();
            assert!(body.starts_with(expected), "{body}");
        }
    });
}

#[test]
#[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
fn a_websocket_under_a_path_echoes() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (web, (heard, mut hears)) = (shows("web").await, tokio::sync::mpsc::channel(8));
        let service = LocalService::each(move |socket| {
            let heard = heard.clone();
            async move {
                #[expect(clippy::result_large_err, reason = "it is the library's")]
                let callback = |request: &tokio_tungstenite::tungstenite::http::Request<()>,
                                response| {
                    heard.try_send(request.uri().to_string()).unwrap();
                    Ok(response)
                };
                let socket = tokio_tungstenite::accept_hdr_async(socket, callback).await;
                let mut socket = socket.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() {
                        socket.send(message).await.unwrap();
                    }
                }
            }
        })
        .await;
        let (_web, _) = client(&bed, Tunnel::http("app"), &web).await;
        let tunnel = Tunnel::http("app").path("/live").strip_path();
        let (_live, _) = client(&bed, tunnel, &service).await;
        let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
        let url = format!("ws://{}/live/chat?room=1", bed.host("app"));
        let opening = tokio_tungstenite::client_async(url, socket);
        let (mut socket, _) = soon("the upgrade", opening).await.unwrap();
        assert_eq!(soon("the request", hears.recv()).await.as_deref(), Some("/chat?room=1"));
        socket.send(Message::text("hello")).await.unwrap();
        let echo = soon("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echo.into_text().unwrap(), "hello");
    });
}

#[test]
fn settings_that_make_no_route_are_errors_of_the_builder() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for (tunnel, expected) in [
            (Tunnel::http("app").path("api"), "path: \"api\" is no path like /api"),
            (Tunnel::http("app").path("/a/../b"), "path: \"/a/../b\" is no path like /api"),
            (Tunnel::http("app").strip_path(), "strip_path: there is no path to strip"),
            (Tunnel::tcp().path("/api"), "path: only HTTP tunnels have paths"),
            (Tunnel::http("app").host("*.*.example"), "host: \"*.*.example\" is no host name"),
            (Tunnel::http("a.ü"), "name: \"a.ü\" is no name"),
        ] {
            let error = bed.client().tunnel(tunnel.local_addr("1")).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = Server::builder().token("s").reserved_names(["a.b"]).build().unwrap_err();
        assert!(error.to_string().contains("reserved_names: \"a.b\" is no name"), "{error}");
    });
}

#[test]
fn one_client_has_several_paths_of_a_host_and_a_password_for_one() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (web, admin) = (shows("web").await, shows("admin").await);
        let hash = ferrotunnel::hash_password("open sesame").unwrap();
        let open = Tunnel::http("app").local_addr(web.addr().to_string());
        let closed = Tunnel::http("app").path("/admin").basic_auth("aladdin", hash);
        let closed = closed.local_addr(admin.addr().to_string());
        let client = bed.client().tunnel(open).tunnel(closed).build().unwrap();
        soon("the tunnels", client.start()).await.unwrap();
        ferrotunnel_tests::eventually("both tunnels", || bed.server.tunnels() == 2).await;
        assert_eq!(seen(&bed, "app.localhost", "/x").await, "web GET /x");
        assert_eq!(seen(&bed, "app.localhost", "/admin/x").await, "401 unauthorized");
        let answer = bed.get("app", "/admin").await;
        assert_eq!(
            answer.headers["www-authenticate"],
            "Basic realm=\"app/admin\", charset=\"UTF-8\""
        );
        for path in [
            "//admin/x",
            "/%61dmin/x",
            "/x/../admin/x",
            "/x/%2e%2e/admin/x",
            "/admin;v=1/x",
            "/x%2f..%2fadmin",
            "/admin%2Fx",
            "/admin%3fx",
            "/%61dmin%2fx",
            "/.//admin",
        ] {
            assert_eq!(seen(&bed, "app.localhost", path).await, "400 unclear-path", "{path}");
        }
    });
}

#[test]
fn an_absolute_target_is_stripped_too() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let api = shows("api").await;
        let (_api, _) = client(&bed, Tunnel::http("app").path("/api").strip_path(), &api).await;
        let seen = seen(&bed, "app.localhost", "http://app.localhost/api/x?q").await;
        assert_eq!(seen, "api GET /x?q");
    });
}

#[test]
fn a_picked_name_with_a_path_is_the_same_after_an_outage() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let (tunnel_addr, http_addr) = (bed.server.tunnel_addr(), bed.http_addr());
        let api = shows("api").await;
        let tunnel = Tunnel::http("").path("/api").local_addr(api.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let mut events = client.events();
        let info = soon("the tunnel", client.start()).await.unwrap();
        let (name, path) = info.name.split_once('/').unwrap();
        assert_eq!((path, ready(&mut events).await.name), ("api", info.name.clone()));
        soon("the shutdown", bed.server.shutdown()).await.unwrap();
        let bed = TestBed::again(carrier, tunnel_addr, http_addr).await;
        let again = ready(&mut events).await;
        assert_eq!((&again.name, &again.public_url), (&info.name, &info.public_url));
        assert_eq!(seen(&bed, &format!("{name}.localhost"), "/api").await, "api GET /api");
    });
}
