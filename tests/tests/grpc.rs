//! gRPC with tonic at both ends: all four kinds of calls, errors and trailers, deadlines, calls that are given up, and
//! reflection.
//!
//! The messages and the service are written by hand: no `protoc` is needed to run the tests.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ferrotunnel::inspector::Filter;
use ferrotunnel::{Inspector, Tunnel};
use ferrotunnel_tests::{Carrier, TestBed, eventually, over_both, soon};
use futures_util::{Stream, StreamExt, stream};
use prost_types::{FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::server::{
    ClientStreamingService, Grpc, NamedService, ServerStreamingService, StreamingService,
    UnaryService,
};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[derive(Clone, PartialEq, prost::Message)]
struct Word {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint64, tag = "2")]
    number: u64,
}

fn word(text: &str, number: u64) -> Word {
    Word { text: text.to_owned(), number }
}

type Codec = ProstCodec<Word, Word>;
type Words = Pin<Box<dyn Stream<Item = Result<Word, Status>> + Send>>;
type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<Response<T>, Status>> + Send>>;

/// `test.Parrot`: `/Say` repeats, `/Count` counts up, `/Add` sums up, `/Chat` answers each word, `/Fail` fails with
/// metadata in its trailers, `/Think` never answers, and `/Hold` says one word and then nothing.
#[derive(Clone, Default)]
struct Parrot {
    busy: Busy,
}

/// Calls of `/Think` and `/Hold` that have not been given up.
#[derive(Clone, Default)]
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn one_more(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends with the call.
struct AtWork(Busy);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Think(Busy);

impl UnaryService<Word> for Think {
    type Response = Word;
    type Future = Future<Word>;

    fn call(&mut self, _: Request<Word>) -> Self::Future {
        let at_work = AtWork(self.0.one_more());
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(at_work);
            Err(Status::internal("nobody thinks for ever"))
        })
    }
}

struct Hold(Busy);

impl ServerStreamingService<Word> for Hold {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Future<Words>;

    fn call(&mut self, _: Request<Word>) -> Self::Future {
        let at_work = AtWork(self.0.one_more());
        Box::pin(async move {
            let first = stream::once(async { Ok(word("first", 1)) });
            let silence = stream::once(async move {
                std::future::pending::<()>().await;
                drop(at_work);
                Err(Status::internal("nobody holds on for ever"))
            });
            Ok(Response::new(Box::pin(first.chain(silence)) as Words))
        })
    }
}

impl NamedService for Parrot {
    const NAME: &'static str = "test.Parrot";
}

struct Say;

impl UnaryService<Word> for Say {
    type Response = Word;
    type Future = Future<Word>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        Box::pin(async move {
            let mut response = Response::new(request.get_ref().clone());
            for (asked, told) in [
                ("x-ask", "x-answer"),
                ("x-authority", "x-authority"),
                ("grpc-timeout", "x-timeout"),
            ] {
                if let Some(value) = request.metadata().get(asked) {
                    response.metadata_mut().insert(told, value.clone());
                }
            }
            Ok(response)
        })
    }
}

struct Fail;

impl UnaryService<Word> for Fail {
    type Response = Word;
    type Future = Future<Word>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        Box::pin(async move {
            let mut status = Status::new(Code::ResourceExhausted, request.get_ref().text.clone());
            status.metadata_mut().insert("x-why", MetadataValue::from_static("no crackers left"));
            Err(status)
        })
    }
}

struct Count;

impl ServerStreamingService<Word> for Count {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Future<Words>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        Box::pin(async move {
            let words = (0..request.get_ref().number).map(|number| Ok(word("count", number)));
            // Words first, then an error: it can only travel in the trailers.
            let end = stream::once(async { Err(Status::out_of_range("that was the last number")) });
            Ok(Response::new(Box::pin(stream::iter(words).chain(end)) as Words))
        })
    }
}

struct Add;

impl ClientStreamingService<Word> for Add {
    type Response = Word;
    type Future = Future<Word>;

    fn call(&mut self, request: Request<Streaming<Word>>) -> Self::Future {
        Box::pin(async move {
            let mut words = request.into_inner();
            let mut sum = word("", 0);
            while let Some(word) = words.next().await {
                let word = word?;
                sum.text.push_str(&word.text);
                sum.number += word.number;
            }
            Ok(Response::new(sum))
        })
    }
}

struct Chat;

impl StreamingService<Word> for Chat {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Future<Words>;

    fn call(&mut self, request: Request<Streaming<Word>>) -> Self::Future {
        Box::pin(async move {
            let answers = request
                .into_inner()
                .map(|word| word.map(|Word { text, number }| word_back(&text, number)));
            Ok(Response::new(Box::pin(answers) as Words))
        })
    }
}

fn word_back(text: &str, number: u64) -> Word {
    word(&text.chars().rev().collect::<String>(), number + 1)
}

impl tonic::codegen::Service<http::Request<Body>> for Parrot {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future =
        Pin<Box<dyn std::future::Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let busy = self.busy.clone();
        Box::pin(async move {
            // Over HTTP/2 there is no other host.
            assert!(!request.headers().contains_key("host"));
            let authority = request.uri().authority().unwrap().as_str().parse().unwrap();
            request.headers_mut().insert("x-authority", authority);
            let mut grpc = Grpc::new(Codec::default());
            Ok(match request.uri().path().rsplit('/').next().unwrap() {
                "Say" => grpc.unary(Say, request).await,
                "Fail" => grpc.unary(Fail, request).await,
                "Count" => grpc.server_streaming(Count, request).await,
                "Add" => grpc.client_streaming(Add, request).await,
                "Chat" => grpc.streaming(Chat, request).await,
                "Think" => grpc.unary(Think(busy), request).await,
                "Hold" => grpc.server_streaming(Hold(busy), request).await,
                _ => Status::unimplemented("no such call").into_http(),
            })
        })
    }
}

/// A parrot on a free port, which says by reflection that it is one.
fn parrot() -> (SocketAddr, Busy) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = incoming.local_addr().unwrap();
    let parrot = Parrot::default();
    let busy = parrot.busy.clone();
    let file = FileDescriptorProto {
        name: Some("parrot.proto".to_owned()),
        package: Some("test".to_owned()),
        service: vec![ServiceDescriptorProto {
            name: Some("Parrot".to_owned()),
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_file_descriptor_set(FileDescriptorSet { file: vec![file] })
        .build_v1()
        .unwrap();
    let server = Server::builder().add_service(parrot).add_service(reflection);
    tokio::spawn(server.serve_with_incoming(incoming));
    (addr, busy)
}

/// A parrot behind a tunnel, and a visitor of it.
struct Scene {
    bed: TestBed,
    _client: ferrotunnel::Client,
    channel: Channel,
    visitor: tonic::client::Grpc<Channel>,
    busy: Busy,
}

async fn scene(carrier: Carrier) -> Scene {
    scene_with(carrier, &[]).await
}

/// With an inspector at the server and at the client, if there are any.
async fn scene_with(carrier: Carrier, inspectors: &[Inspector]) -> Scene {
    let bed = TestBed::with(carrier, |server| match inspectors.first() {
        Some(inspector) => server.inspector(inspector),
        None => server,
    });
    let bed = bed.await;
    let (addr, busy) = parrot();
    // Not marked as one that speaks HTTP/2: gRPC says that itself.
    let tunnel = Tunnel::http("parrot").local_addr(addr.to_string());
    let mut client = bed.client().tunnel(tunnel);
    if let Some(inspector) = inspectors.last() {
        client = client.inspector(inspector);
    }
    let client = client.build().unwrap();
    client.start().await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", bed.http_addr())).unwrap();
    let endpoint = endpoint.origin(format!("http://{}", bed.host("parrot")).parse().unwrap());
    let channel = endpoint.connect().await.unwrap();
    let visitor = tonic::client::Grpc::new(channel.clone());
    Scene { bed, _client: client, channel, visitor, busy }
}

impl Scene {
    async fn path(&mut self, call: &str) -> PathAndQuery {
        self.visitor.ready().await.unwrap();
        format!("/test.Parrot/{call}").parse().unwrap()
    }

    async fn unary(
        &mut self,
        call: &str,
        request: Request<Word>,
    ) -> Result<Response<Word>, Status> {
        let path = self.path(call).await;
        soon(call, self.visitor.unary(request, path, Codec::default())).await
    }
}

#[test]
fn unary_calls_pass_with_their_metadata() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        for number in 0..20 {
            let mut request = Request::new(word("hello", number));
            request.metadata_mut().insert("x-ask", MetadataValue::from(number));
            let response = scene.unary("Say", request).await.unwrap();
            assert_eq!(response.metadata().get("x-answer").unwrap(), &MetadataValue::from(number));
            assert_eq!(response.into_inner(), word("hello", number));
        }
        let large = word(&"crackers ".repeat(400_000), 1);
        let echo = scene.unary("Say", Request::new(large.clone())).await.unwrap().into_inner();
        assert!(echo == large);
    });
}

#[test]
fn grpc_trailers_survive() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        let error = scene.unary("Fail", Request::new(word("enough", 0))).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, "enough"));
        assert_eq!(error.metadata().get("x-why").unwrap(), "no crackers left");

        let path = scene.path("Count").await;
        let request = Request::new(word("", 1_000));
        let response = scene.visitor.server_streaming(request, path, Codec::default()).await;
        let mut words = response.unwrap().into_inner();
        for number in 0..1_000 {
            let next: Word = soon("a number", words.message()).await.unwrap().unwrap();
            assert_eq!(next.number, number);
        }
        let error = soon("the error after the words", words.message()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::OutOfRange, "that was the last number"));

        let error = scene.unary("Sing", Request::new(word("", 0))).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
    });
}

#[test]
fn client_streaming_calls_pass() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        let path = scene.path("Add").await;
        let words = stream::iter((1..=1_000).map(|number| word("+", number)));
        let sum = scene.visitor.client_streaming(Request::new(words), path, Codec::default());
        let sum: Word = soon("the sum", sum).await.unwrap().into_inner();
        assert_eq!(sum, word(&"+".repeat(1_000), 500_500));
    });
}

#[test]
fn bidirectional_calls_talk_in_turns() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        let path = scene.path("Chat").await;
        let (say, listen) = mpsc::channel(1);
        let words =
            stream::unfold(listen, |mut listen| async { Some((listen.recv().await?, listen)) });
        let request = Request::new(words);
        let response = scene.visitor.streaming(request, path, Codec::default());
        let mut answers = soon("the head", response).await.unwrap().into_inner();
        // Each word is said only after the answer to the one before.
        for number in 0..50 {
            say.send(word("abc", number)).await.unwrap();
            let answer: Word = soon("an answer", answers.message()).await.unwrap().unwrap();
            assert_eq!(answer, word("cba", number + 1));
        }
        drop(say);
        assert_eq!(soon("the end", answers.message()).await.unwrap(), None);
    });
}

#[test]
fn an_unreachable_grpc_service_is_unavailable() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let nobody = ferrotunnel_tests::LocalService::nobody().await;
        let tunnel = Tunnel::http("parrot").http2().local_addr(nobody.to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", bed.http_addr())).unwrap();
        let endpoint = endpoint.origin(format!("http://{}", bed.host("parrot")).parse().unwrap());
        let channel = endpoint.connect().await.unwrap();
        let mut visitor = tonic::client::Grpc::new(channel);
        visitor.ready().await.unwrap();
        let path = PathAndQuery::from_static("/test.Parrot/Say");
        let call = visitor.unary(Request::new(word("", 0)), path, Codec::default());
        let error: Status = soon("the answer", call).await.map(|_: Response<Word>| ()).unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    });
}

#[test]
fn a_call_comes_with_its_authority_and_its_deadline() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        let mut request = Request::new(word("hello", 1));
        request.set_timeout(Duration::from_secs(30));
        let response = scene.unary("Say", request).await.unwrap();
        let told = |name: &str| response.metadata().get(name).unwrap().to_str().unwrap();
        assert_eq!(told("x-authority"), scene.bed.host("parrot"));
        assert_eq!(told("x-timeout"), "30000000u");
    });
}

#[test]
fn a_deadline_ends_the_call_on_both_sides() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        let mut request = Request::new(word("", 0));
        request.set_timeout(Duration::from_millis(100));
        let error = scene.unary("Think", request).await.unwrap_err();
        // Both have a clock: the visitor calls it cancelled, the service a deadline that has passed.
        assert!(matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded), "{error:?}");
        eventually("the call to end at the service", || scene.busy.count() == 0).await;
        // The connection serves on.
        scene.unary("Say", Request::new(word("still", 0))).await.unwrap();
    });
}

#[test]
fn a_call_that_is_given_up_ends_at_the_service() {
    over_both(async |carrier| {
        let mut scene = scene(carrier).await;
        // Before there is an answer.
        let mut visitor = scene.visitor.clone();
        let path = scene.path("Think").await;
        visitor.ready().await.unwrap();
        let call = tokio::spawn(async move {
            let request = Request::new(word("", 0));
            let _: Result<Response<Word>, _> = visitor.unary(request, path, Codec::default()).await;
        });
        eventually("the call to begin", || scene.busy.count() == 1).await;
        call.abort();
        eventually("the call to end at the service", || scene.busy.count() == 0).await;

        // In the middle of one.
        let path = scene.path("Hold").await;
        let request = Request::new(word("", 0));
        let response = scene.visitor.server_streaming(request, path, Codec::default()).await;
        let mut words: Streaming<Word> = response.unwrap().into_inner();
        let first = soon("the first word", words.message()).await.unwrap().unwrap();
        assert_eq!((first, scene.busy.count()), (word("first", 1), 1));
        drop(words);
        eventually("the stream to end at the service", || scene.busy.count() == 0).await;
        scene.unary("Say", Request::new(word("still", 0))).await.unwrap();
    });
}

#[test]
fn reflection_tells_what_the_service_offers() {
    over_both(async |carrier| {
        let scene = scene(carrier).await;
        let origin = format!("http://{}", scene.bed.host("parrot")).parse().unwrap();
        let mut reflection = ServerReflectionClient::with_origin(scene.channel.clone(), origin);
        let asking = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answers = reflection.server_reflection_info(stream::iter([asking]));
        let mut answers = soon("the head", answers).await.unwrap().into_inner();
        let answer = soon("the list", answers.message()).await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            unreachable!("{answer:?}");
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&"test.Parrot"), "{names:?}");
        assert_eq!(soon("the end", answers.message()).await.unwrap(), None);
    });
}

/// What a visitor hears of calls of every kind, with metadata and trailers, but for the time of day.
async fn heard(scene: &mut Scene) -> Vec<String> {
    fn told<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> String {
        match answer {
            Ok(answer) => {
                let (mut metadata, said, _) = answer.into_parts();
                metadata.remove("date");
                format!("{:?} {said:?}", metadata.into_headers())
            }
            Err(status) => {
                let mut metadata = status.metadata().clone();
                metadata.remove("date");
                format!("{:?} {} {:?}", status.code(), status.message(), metadata.into_headers())
            }
        }
    }
    fn asking<T>(said: T) -> Request<T> {
        let mut request = Request::new(said);
        request.metadata_mut().insert("x-request-id", MetadataValue::from_static("mine"));
        request.metadata_mut().insert("x-ask", MetadataValue::from_static("what"));
        request
    }
    let mut heard = vec![told(scene.unary("Say", asking(word("hello", 1))).await)];
    heard.push(told(scene.unary("Fail", asking(word("enough", 2))).await));

    let path = scene.path("Count").await;
    let counting = scene.visitor.server_streaming(asking(word("", 5)), path, Codec::default());
    let mut words: Streaming<Word> = soon("the head", counting).await.unwrap().into_inner();
    loop {
        match soon("a word", words.message()).await {
            Ok(Some(word)) => heard.push(format!("{word:?}")),
            Ok(None) => break,
            Err(status) => break heard.push(told::<()>(Err(status))),
        }
    }
    let path = scene.path("Add").await;
    let adding = asking(stream::iter((1..=3).map(|number| word("+", number))));
    let adding = scene.visitor.client_streaming(adding, path, Codec::default());
    heard.push(told::<Word>(soon("the sum", adding).await));

    let path = scene.path("Chat").await;
    let (say, listen) = mpsc::channel(1);
    let said = stream::unfold(listen, |mut listen| async { Some((listen.recv().await?, listen)) });
    let talking = scene.visitor.streaming(asking(said), path, Codec::default());
    let mut answers: Streaming<Word> = soon("the head", talking).await.unwrap().into_inner();
    for number in 0..3 {
        // Said only after the answer to the one before.
        say.send(word("abc", number)).await.unwrap();
        heard.push(format!("{:?}", soon("an answer", answers.message()).await.unwrap()));
    }
    drop(say);
    heard.push(format!("{:?}", soon("the end", answers.message()).await.unwrap()));
    // Each bed has a port of its own.
    let host = scene.bed.host("parrot");
    heard.iter().map(|line| line.replace(&host, "parrot")).collect()
}

#[test]
fn calls_that_are_inspected_are_the_same_and_shown_with_their_ends() {
    over_both(async |carrier| {
        let without = heard(&mut scene_with(carrier, &[]).await).await;
        let inspectors = [Inspector::default(), Inspector::default()];
        let mut scene = scene_with(carrier, &inspectors).await;
        assert_eq!(heard(&mut scene).await, without);

        for inspector in &inspectors {
            eventually("the ends of the calls", || {
                let calls = inspector.list(&Filter::default()).requests;
                calls.len() == 5 && calls.iter().all(|call| call.state == "done")
            })
            .await;
            let calls = inspector.list(&Filter::default()).requests;
            // The newest first.
            for (call, (name, code, words, messages)) in calls.iter().rev().zip([
                ("Say", 0, "", [1, 1]),
                ("Fail", 8, "enough", [1, 0]),
                ("Count", 11, "that was the last number", [1, 5]),
                ("Add", 0, "", [3, 1]),
                ("Chat", 0, "", [3, 3]),
            ]) {
                assert_eq!((call.kind, &*call.path), ("grpc", &*format!("/test.Parrot/{name}")));
                let shown = inspector.get(&call.id, false).unwrap();
                let grpc = shown.grpc.unwrap();
                assert_eq!(
                    (grpc.status, grpc.message.as_deref()),
                    (Some(code), Some(words)),
                    "{name}"
                );
                let count = |from| shown.messages.iter().filter(|it| it.from == from).count();
                assert_eq!(["visitor", "service"].map(count), messages, "{name}");
            }
            let fail = &inspector.get(&calls[3].id, false).unwrap().response.unwrap();
            let why = ["x-why".to_owned(), "no crackers left".to_owned()];
            assert!(fail.trailers.contains(&why) || fail.headers.contains(&why), "{fail:?}");
        }
    });
}
