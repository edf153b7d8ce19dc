//! The chain with plugins that say what they saw.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ferrotunnel_common::{SessionId, TunnelKind};
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;

use crate::{
    Answer, AnsweredBy, Chain, Dir, Error, Exchange, Outcome, Plugin, PluginAction,
    RegistrationContext, RequestContext, Result, SessionContext, async_trait,
};

type Diary = Arc<Mutex<Vec<String>>>;

/// Writes down what it sees, and does what it is made for.
struct Scribe {
    name: &'static str,
    diary: Diary,
    decides: fn() -> Result<PluginAction>,
    decides_on_response: fn() -> Result<PluginAction>,
    chunks: Option<fn() -> Result<()>>,
}

impl Scribe {
    fn new(name: &'static str, diary: &Diary) -> Self {
        let go_on = || Ok(PluginAction::Continue);
        let diary = Arc::clone(diary);
        Self { name, diary, decides: go_on, decides_on_response: go_on, chunks: None }
    }

    fn note(&self, what: &str) {
        self.diary.lock().push(format!("{} {what}", self.name));
    }
}

#[async_trait]
impl Plugin for Scribe {
    fn name(&self) -> &str {
        self.name
    }

    async fn on_session(&self, _: &SessionContext) -> Result<PluginAction> {
        (self.decides)()
    }

    async fn on_registration(&self, _: &RegistrationContext) -> Result<PluginAction> {
        (self.decides)()
    }

    async fn on_request(&self, _: &mut Request<()>, _: &RequestContext) -> Result<PluginAction> {
        self.note("request");
        (self.decides)()
    }

    async fn on_response(
        &self,
        response: &mut Response<()>,
        _: &RequestContext,
    ) -> Result<PluginAction> {
        self.note(&format!("response {}", response.status().as_u16()));
        (self.decides_on_response)()
    }

    fn wants_body_chunks(&self) -> bool {
        self.chunks.is_some()
    }

    fn on_request_chunk(&self, chunk: &Bytes, _: &RequestContext) -> Result<()> {
        self.note(&format!("sent {}", chunk.len()));
        self.chunks.map_or(Ok(()), |decide| decide())
    }

    fn on_response_chunk(&self, chunk: &Bytes, _: &RequestContext) -> Result<()> {
        self.note(&format!("got {}", chunk.len()));
        self.chunks.map_or(Ok(()), |decide| decide())
    }

    fn on_finished(&self, _: &RequestContext, outcome: &Outcome) {
        let status = outcome.status.map_or(0, |status| status.as_u16());
        let Outcome { request_bytes, response_bytes, is_complete, .. } = outcome;
        self.note(&format!("finished {status} {request_bytes} {response_bytes} {is_complete}"));
    }
}

fn chain(plugins: Vec<Scribe>) -> Chain {
    Chain::new(plugins.into_iter().map(|one| Arc::new(one) as Arc<dyn Plugin>).collect()).unwrap()
}

fn context() -> RequestContext {
    let addr = SocketAddr::from(([127, 0, 0, 1], 9));
    RequestContext::new(addr, addr, None)
}

fn ask(chain: &Chain) -> (Arc<Exchange>, Option<Answer>) {
    let mut request = Request::new(());
    chain.request(&mut request, context()).now_or_never().unwrap()
}

fn hear(exchange: &Exchange, status: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    exchange
        .response(&mut response, |answer| {
            let mut response = Response::new(());
            *response.status_mut() = match answer {
                Answer::Reject { status, .. } | Answer::Redirect { status, .. } => status,
                Answer::Respond(answer) => answer.status(),
                Answer::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            };
            response
        })
        .now_or_never()
        .unwrap();
    response
}

fn reject() -> Result<PluginAction> {
    Ok(PluginAction::Reject { status: 403, reason: "no".into() })
}

fn fail() -> Result<PluginAction> {
    Err("out of order".into())
}

fn fall() -> Result<PluginAction> {
    panic!("a bug")
}

#[test]
fn plugins_are_asked_in_order_and_hear_of_the_response_backwards() {
    let diary = Diary::default();
    let chain = chain(vec![Scribe::new("a", &diary), Scribe::new("b", &diary)]);
    let (exchange, answer) = ask(&chain);
    assert!(answer.is_none());
    hear(&exchange, 200);
    assert_eq!(exchange.context().answered_by(), Some(AnsweredBy::LocalService));
    drop(exchange);
    let seen = ["a request", "b request", "b response 200", "a response 200"];
    let ends = ["b finished 200 0 0 false", "a finished 200 0 0 false"];
    assert_eq!(*diary.lock(), [&seen[..], &ends[..]].concat());
}

#[test]
fn the_first_that_answers_ends_the_chain() {
    let diary = Diary::default();
    let mut second = Scribe::new("b", &diary);
    second.decides = reject;
    let chain = chain(vec![Scribe::new("a", &diary), second, Scribe::new("c", &diary)]);
    let (exchange, answer) = ask(&chain);
    assert!(matches!(answer, Some(Answer::Reject { status, .. }) if status == 403), "{answer:?}");
    assert_eq!(exchange.context().answered_by(), Some(AnsweredBy::Plugin("b".into())));
    hear(&exchange, 403);
    assert_eq!(*diary.lock(), ["a request", "b request", "b response 403", "a response 403"]);
}

#[test]
fn what_fails_or_panics_costs_its_request_and_hears_no_more_of_it() {
    for fault in [fail, fall] {
        let diary = Diary::default();
        let mut second = Scribe::new("b", &diary);
        second.decides = fault;
        let chain = chain(vec![Scribe::new("a", &diary), second]);
        for _ in 0..2 {
            let (exchange, answer) = ask(&chain);
            assert!(matches!(answer, Some(Answer::Failed)), "{answer:?}");
            hear(&exchange, 500);
            drop(exchange);
            let seen = ["a request", "b request", "a response 500", "a finished 500 0 0 false"];
            assert_eq!(std::mem::take(&mut *diary.lock()), seen);
        }
    }
}

#[test]
fn a_response_may_be_replaced_and_the_others_see_what_it_became() {
    for (decides, status) in [(reject as fn() -> Result<PluginAction>, 403), (fall, 500)] {
        let diary = Diary::default();
        let mut second = Scribe::new("b", &diary);
        second.decides_on_response = decides;
        let chain = chain(vec![Scribe::new("a", &diary), second]);
        let (exchange, _) = ask(&chain);
        assert_eq!(hear(&exchange, 200).status(), status);
        let expected = format!("a response {status}");
        assert_eq!(diary.lock()[2..], ["b response 200".to_owned(), expected]);
    }
}

#[test]
fn actions_that_make_no_sense_are_failures() {
    let deciders: [fn() -> Result<PluginAction>; 4] = [
        || Ok(PluginAction::Reject { status: 200, reason: String::new() }),
        || Ok(PluginAction::Reject { status: 4_000, reason: String::new() }),
        || Ok(PluginAction::Redirect { status: 200, location: "/".into() }),
        || Ok(PluginAction::Redirect { status: 302, location: "a\r\nb: c".into() }),
    ];
    for decides in deciders {
        let mut plugin = Scribe::new("a", &Diary::default());
        plugin.decides = decides;
        let (_, answer) = ask(&chain(vec![plugin]));
        assert!(matches!(answer, Some(Answer::Failed)), "{answer:?}");
    }
}

#[test]
fn chunks_are_shown_to_those_who_want_them_and_counted_for_all() {
    let diary = Diary::default();
    let mut second = Scribe::new("b", &diary);
    second.chunks = Some(|| Ok(()));
    let chain = chain(vec![Scribe::new("a", &diary), second]);
    let (exchange, _) = ask(&chain);
    let (sent, got) = (exchange.watch(Dir::Request), exchange.watch(Dir::Response));
    sent.chunk(&Bytes::from_static(b"abc")).unwrap();
    hear(&exchange, 200);
    got.chunk(&Bytes::from_static(b"defgh")).unwrap();
    got.end();
    drop((exchange, sent));
    assert_eq!(diary.lock().len(), 6, "it is not over before its last part is");
    drop(got);
    let diary = diary.lock();
    assert_eq!(diary[2], "b sent 3");
    assert_eq!(diary[5..], ["b got 5", "b finished 200 3 5 true", "a finished 200 3 5 true"]);
}

#[test]
fn a_body_breaks_off_where_a_plugin_says_so_or_panics() {
    let faults: [fn() -> Result<()>; 2] = [|| Err(Error::from("enough")), || panic!("a bug")];
    for fault in faults {
        let mut plugin = Scribe::new("a", &Diary::default());
        plugin.chunks = Some(fault);
        let (exchange, _) = ask(&chain(vec![plugin]));
        for dir in [Dir::Request, Dir::Response] {
            exchange.watch(dir).chunk(&Bytes::from_static(b"abc")).unwrap_err();
        }
    }
}

#[test]
fn a_visitor_that_leaves_early_is_heard_of() {
    let diary = Diary::default();
    let (exchange, _) = ask(&chain(vec![Scribe::new("a", &diary)]));
    drop(exchange);
    assert_eq!(*diary.lock(), ["a request", "a finished 0 0 0 false"]);
}

#[test]
fn sessions_and_registrations_are_refused_with_a_reason() {
    let decided = |decides| {
        let mut plugin = Scribe::new("a", &Diary::default());
        plugin.decides = decides;
        let chain = chain(vec![plugin]);
        let session = SessionContext::new(SessionId(1), "peer");
        let wanted =
            RegistrationContext::new(Some(SessionId(1)), "", Some(TunnelKind::Http), "app");
        let session = chain.session(&session).now_or_never().unwrap();
        assert_eq!(session, chain.registration(&wanted).now_or_never().unwrap());
        session
    };
    assert_eq!(decided(|| Ok(PluginAction::Continue)), Ok(()));
    assert_eq!(decided(reject), Err("no".to_owned()));
    for fault in [fail, fall] {
        let reason = decided(fault).unwrap_err();
        assert!(!reason.contains("out of order") && !reason.contains("bug"), "{reason}");
    }
}

#[test]
fn what_one_phase_leaves_another_finds() {
    let context = context();
    assert_eq!(context.insert(7_u32), None);
    assert_eq!(context.insert(8_u32), Some(7));
    assert_eq!(context.get::<u32>(), Some(8));
    assert_eq!(context.get::<u64>(), None);
    assert_eq!(context.remove::<u32>(), Some(8));
    assert_eq!(context.get::<u32>(), None);
}

#[test]
fn a_plugin_needs_no_method_at_all() {
    struct Nothing;
    #[async_trait]
    impl Plugin for Nothing {}
    let chain = Chain::new(vec![Arc::new(Nothing)]).unwrap();
    assert!(format!("{chain:?}").contains("Nothing"), "{chain:?}");
    assert!(ask(&chain).1.is_none());
    assert!(Chain::new(Vec::new()).is_none());
}
