//! gRPC with tonic at both ends: all four kinds of calls, errors and trailers.
//!
//! The messages and the service are written by hand: no `protoc` is needed to run the tests.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use ferrotunnel::Tunnel;
use ferrotunnel_tests::{Carrier, TestBed, over_both, soon};
use futures_util::{Stream, StreamExt, stream};
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
/// metadata in its trailers.
#[derive(Clone)]
struct Parrot;

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
            if let Some(value) = request.metadata().get("x-ask") {
                response.metadata_mut().insert("x-answer", value.clone());
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

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(Codec::default());
            Ok(match request.uri().path().rsplit('/').next().unwrap() {
                "Say" => grpc.unary(Say, request).await,
                "Fail" => grpc.unary(Fail, request).await,
                "Count" => grpc.server_streaming(Count, request).await,
                "Add" => grpc.client_streaming(Add, request).await,
                "Chat" => grpc.streaming(Chat, request).await,
                _ => Status::unimplemented("no such call").into_http(),
            })
        })
    }
}

/// A parrot on a free port.
fn parrot() -> SocketAddr {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = incoming.local_addr().unwrap();
    tokio::spawn(Server::builder().add_service(Parrot).serve_with_incoming(incoming));
    addr
}

/// A parrot behind a tunnel, and a visitor of it.
struct Scene {
    _bed: TestBed,
    _client: ferrotunnel::Client,
    visitor: tonic::client::Grpc<Channel>,
}

async fn scene(carrier: Carrier) -> Scene {
    let bed = TestBed::start(carrier).await;
    let tunnel = Tunnel::http("parrot").http2().local_addr(parrot().to_string());
    let client = bed.client().tunnel(tunnel).build().unwrap();
    client.start().await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", bed.http_addr())).unwrap();
    let endpoint = endpoint.origin(format!("http://{}", bed.host("parrot")).parse().unwrap());
    let channel = endpoint.connect().await.unwrap();
    Scene { _bed: bed, _client: client, visitor: tonic::client::Grpc::new(channel) }
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
