//! With an inspector at either end and without any the two ends of a conversation hear the same, byte for byte and as
//! soon, and the inspectors show what it was.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use ferrotunnel::inspector::{Filter, RequestDetail, Whose};
use ferrotunnel::{Client, Inspector, InspectorSettings, Tunnel};
use ferrotunnel_tests::{Carrier, TestBed, eventually, run, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A visitor and a local service that speak by hand, and a tunnel between them.
struct Stage {
    visitor: TcpStream,
    /// What has come to it so far.
    to_visitor: Vec<u8>,
    listener: TcpListener,
    service: Option<TcpStream>,
    to_service: Vec<u8>,
    /// At the server and at the client, if there are any.
    inspectors: Vec<Inspector>,
    _client: Client,
    bed: TestBed,
}

impl Stage {
    async fn set(inspectors: Vec<Inspector>) -> Self {
        let bed = TestBed::with(Carrier::Plaintext, |server| match inspectors.first() {
            Some(inspector) => server.inspector(inspector),
            None => server,
        });
        let bed = bed.await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap().to_string();
        let mut client = bed.client().tunnel(Tunnel::http("app").local_addr(local));
        if let Some(inspector) = inspectors.last() {
            client = client.inspector(inspector);
        }
        let client = client.build().unwrap();
        client.start().await.unwrap();
        let visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        visitor.set_nodelay(true).unwrap();
        Self {
            visitor,
            to_visitor: Vec::new(),
            listener,
            service: None,
            to_service: Vec::new(),
            inspectors,
            _client: client,
            bed,
        }
    }

    /// The visitor says that, and it comes to the service, which has heard as many bytes more when it ends with that.
    async fn visitor_says(&mut self, said: &[u8], end: &[u8]) {
        let (reading, writing) = (
            async {
                if self.service.is_none() {
                    let (service, _) = self.listener.accept().await.unwrap();
                    service.set_nodelay(true).unwrap();
                    self.service = Some(service);
                }
                hear(self.service.as_mut().unwrap(), &mut self.to_service, end).await;
            },
            self.visitor.write_all(said),
        );
        soon("what the visitor says", async { tokio::join!(reading, writing) }).await.1.unwrap();
    }

    /// The service says that, and it comes to the visitor.
    async fn service_says(&mut self, said: &[u8], end: &[u8]) {
        let writing = self.service.as_mut().unwrap().write_all(said);
        let reading = hear(&mut self.visitor, &mut self.to_visitor, end);
        soon("what the service says", async { tokio::join!(reading, writing) }).await.1.unwrap();
    }

    /// What has come to both, without the one thing that is another at each stage.
    fn heard(mut self) -> [Vec<u8>; 2] {
        let port = format!("x-forwarded-port: {}\r\n", self.bed.http_addr().port());
        let windows = self.to_service.windows(port.len());
        let at = windows.enumerate().find(|(_, part)| *part == port.as_bytes()).unwrap().0;
        self.to_service.drain(at..at + port.len());
        [self.to_visitor, self.to_service]
    }

    /// Waits until both inspectors show that of the only request.
    async fn is_shown(&self, what: &str, is_it: impl Fn(&RequestDetail) -> bool) {
        for inspector in &self.inspectors {
            eventually(what, || is_it(&shown(inspector))).await;
        }
    }
}

/// Until what has come to them ends with that, and something has come now.
async fn hear(socket: &mut TcpStream, heard: &mut Vec<u8>, end: &[u8]) {
    let before = heard.len();
    let mut buffer = vec![0; 64 << 10];
    while heard.len() < before + end.len() || !heard.ends_with(end) {
        let count = socket.read(&mut buffer).await.unwrap();
        assert!(count > 0, "it ended with {:?}", String::from_utf8_lossy(heard));
        heard.extend_from_slice(&buffer[..count]);
    }
}

fn shown(inspector: &Inspector) -> RequestDetail {
    let requests = inspector.list(&Filter::default()).requests;
    assert_eq!(requests.len(), 1, "{requests:?}");
    inspector.get(&requests[0].id, false).unwrap()
}

/// Plays it without inspectors and with them.
fn alike(settings: &InspectorSettings, play: &impl AsyncFn(&mut Stage)) {
    run(async {
        let mut heard = Vec::new();
        for inspectors in
            [vec![], vec![Inspector::new(settings.clone()), Inspector::new(settings.clone())]]
        {
            let mut stage = Stage::set(inspectors).await;
            play(&mut stage).await;
            heard.push(stage.heard());
        }
        for (without, with) in heard[0].iter().zip(&heard[1]) {
            let beginning = |heard: &[u8]| {
                String::from_utf8_lossy(&heard[..heard.len().min(2_000)]).into_owned()
            };
            assert!(without == with, "{}\n{}", beginning(without), beginning(with));
        }
    });
}

/// What makes the server add nothing that is another thing each time.
const HEAD: &str = "host: app.localhost\r\nx-request-id: mine\r\n";
const DATE: &str = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

#[test]
fn events_come_one_by_one() {
    alike(&InspectorSettings::default(), &async |stage: &mut Stage| {
        let ask = format!("GET /events HTTP/1.1\r\n{HEAD}\r\n");
        stage.visitor_says(ask.as_bytes(), b"\r\n\r\n").await;
        let head = format!(
            "HTTP/1.1 200 OK\r\n{DATE}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        stage.service_says(head.as_bytes(), b"\r\n\r\n").await;
        for number in 0..20_usize {
            // The next one is said when this one has come.
            let event = format!("id: {number:02}\ndata: so much\n\n");
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            stage.service_says(chunk.as_bytes(), chunk.as_bytes()).await;
            stage.is_shown("the event", |shown| shown.messages.len() == number + 1).await;
            stage.is_shown("it to go on", |shown| shown.summary.state == "open").await;
        }
        stage.service_says(b"0\r\n\r\n", b"0\r\n\r\n").await;
        stage.is_shown("the end", |shown| shown.summary.state == "done").await;
        stage
            .is_shown("all events", |shown| {
                let texts = shown.messages.iter().map(|message| message.text.clone().unwrap());
                let kinds =
                    shown.messages.iter().all(|it| (it.kind, it.from) == ("event", "service"));
                kinds
                    && shown.summary.kind == "sse"
                    && texts.eq((0..20).map(|number| format!("id: {number:02}\ndata: so much")))
            })
            .await;
    });
}

#[test]
fn trailers_pass_both_ways() {
    alike(&InspectorSettings::default(), &async |stage: &mut Stage| {
        let ask = format!(
            "POST /sum HTTP/1.1\r\n{HEAD}te: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"
        );
        stage.visitor_says(ask.as_bytes(), b"0\r\nx-sum: 7\r\n\r\n").await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{DATE}trailer: x-total\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-total: 9\r\n\r\n"
        );
        stage.service_says(answer.as_bytes(), b"0\r\nx-total: 9\r\n\r\n").await;
        stage.is_shown("the end", |shown| shown.summary.state == "done").await;
        stage
            .is_shown("the trailers", |shown| {
                let response = shown.response.as_ref().unwrap();
                let pair = |name: &str, value: &str| vec![[name.to_owned(), value.to_owned()]];
                shown.request.trailers == pair("x-sum", "7")
                    && response.trailers == pair("x-total", "9")
                    && shown.request.body.text.as_deref() == Some("hello")
                    && response.body.text.as_deref() == Some("abc")
            })
            .await;
    });
}

/// A frame of a WebSocket (RFC 6455, section 5.2), masked where it is a visitor's.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(masked | u8::try_from(short).unwrap()),
        long => {
            frame.push(masked | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let keys = mask.unwrap_or_default().into_iter().cycle();
    frame.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
    frame
}

/// RFC 7692, sections 7.2.3.1 and 7.2.3.2: a word, and the same word again, which refers to the first.
const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const HELLO_AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];

/// The last frame of a compressed text, of an uncompressed message of bytes, a ping, and a goodbye.
const COMPRESSED: u8 = 0xc1;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

#[test]
fn compressed_messages_of_a_websocket_pass() {
    let large: Vec<u8> =
        (0..300_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    alike(&InspectorSettings::default(), &async |stage: &mut Stage| {
        let ask = format!(
            "GET /chat HTTP/1.1\r\n{HEAD}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"
        );
        stage.visitor_says(ask.as_bytes(), b"\r\n\r\n").await;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\n{DATE}connection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"
        );
        stage.service_says(answer.as_bytes(), b"\r\n\r\n").await;
        let goodbye = 1_000_u16.to_be_bytes();
        let said = [
            (COMPRESSED, HELLO),
            (COMPRESSED, HELLO_AGAIN),
            (BINARY, &large),
            (PING, b"?"),
            (CLOSE, &goodbye),
        ];
        for (first, payload) in said {
            let mine = frame(first, payload, Some([0x37, 0xfa, 0x21, 0x3d]));
            stage.visitor_says(&mine, &mine).await;
            let its = frame(first, payload, None);
            stage.service_says(&its, &its).await;
        }
        stage.is_shown("the messages", |shown| shown.messages.len() == 2 * said.len()).await;
        stage
            .is_shown("what they were", |shown| {
                let of = |from: &str| -> Vec<(&str, u64, Option<&str>)> {
                    let messages = shown.messages.iter().filter(|message| message.from == from);
                    messages.map(|it| (it.kind, it.size, it.text.as_deref())).collect()
                };
                let wanted = [
                    ("text", 5, Some("Hello")),
                    ("text", 5, Some("Hello")),
                    ("binary", 300_000, None),
                    ("ping", 1, None),
                    ("close", 2, None),
                ];
                shown.summary.kind == "websocket"
                    && of("visitor") == wanted
                    && of("service") == wanted
            })
            .await;
    });
}

#[test]
fn of_long_bodies_the_beginnings_are_kept_and_all_of_them_pass() {
    let body: Vec<u8> =
        (0..4_000_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let mut settings = InspectorSettings::default();
    (settings.body_bytes, settings.budget_bytes) = (1_000, 16 << 10);
    alike(&settings, &async |stage: &mut Stage| {
        let lengths = format!(
            "content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let ask = [format!("POST /long HTTP/1.1\r\n{HEAD}{lengths}").as_bytes(), &body].concat();
        stage.visitor_says(&ask, &body[body.len() - 64..]).await;
        let answer = [format!("HTTP/1.1 200 OK\r\n{DATE}{lengths}").as_bytes(), &body].concat();
        stage.service_says(&answer, &body[body.len() - 64..]).await;
        assert!(stage.to_visitor.ends_with(&body) && stage.to_service.ends_with(&body));
        stage.is_shown("the end", |shown| shown.summary.state == "done").await;
        for inspector in &stage.inspectors {
            let shown = shown(inspector);
            for (view, whose) in [
                (&shown.request.body, Whose::Request),
                (&shown.response.as_ref().unwrap().body, Whose::Response),
            ] {
                assert_eq!((view.size, view.captured, view.truncated), (4_000_000, 1_000, true));
                let raw = inspector.body(&shown.summary.id, whose).unwrap();
                assert!(raw.is_truncated && raw.bytes == body[..1_000]);
            }
            let all = inspector.list(&Filter::default());
            assert!(all.bytes <= all.budget_bytes, "{} of {}", all.bytes, all.budget_bytes);
        }
    });
}
