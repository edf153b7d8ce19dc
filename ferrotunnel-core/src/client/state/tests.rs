//! What is asked for over which session, and what is told of it. The server's end is its pure machine.

use std::collections::VecDeque;

use bytes::BytesMut;
use ferrotunnel_common::{ClientId, Token};
use ferrotunnel_protocol::frame::CLIENT_PROOF_LEN;
use ferrotunnel_protocol::{Accept, Config, Event as Heard, HelloRequest, Session as Machine};
use tokio::sync::broadcast::Receiver;

use super::super::{ClientConfig, ClientTransport, Connections, Target};
use super::*;
use crate::client::reader::ControlError;
use crate::options;
use crate::shards::Shards;
use crate::shared::Shared;

struct Bed {
    state: State,
    events: Receiver<Event>,
}

impl Bed {
    fn new() -> Self {
        Self::with(ServerMode::Failover)
    }

    fn with(mode: ServerMode) -> Self {
        Self::retrying(mode, Retry::Forever)
    }

    fn retrying(mode: ServerMode, retry: Retry) -> Self {
        let config = ClientConfig {
            servers: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            server_mode: mode,
            transport: ClientTransport::Plaintext,
            token: Token::new("secret").unwrap(),
            software: String::new(),
            retry,
            connect_timeout: Duration::from_secs(1),
            handshake_deadline: Duration::from_secs(1),
            connections: Connections::Auto,
            shards: Shards::inherit(),
        };
        let connector = Connector::new(config, ClientId([1; 16])).unwrap();
        let (sender, events) = broadcast::channel(64);
        let roster = Roster::new(mode, 2, 2);
        Self { state: State::new(connector, retry, roster, sender), events }
    }

    /// A tunnel whose name the server picks; who waits for it is told by [`Bed::told`] too.
    fn add(&self) -> u32 {
        self.state.add(spec(), Some(oneshot::channel().0))
    }

    /// A session over a carrier to the first server.
    fn enter(&self, carrier: u8, id: u64) -> Server {
        self.enter_at(to_first(carrier), id)
    }

    fn enter_at(&self, carrier: CarrierId, id: u64) -> Server {
        let server = Server::new(carrier, id);
        self.state.enter(carrier, &server.session, SessionId(id), None);
        server
    }

    fn leave(&self, carrier: u8) {
        self.leave_at(to_first(carrier));
    }

    fn leave_at(&self, carrier: CarrierId) {
        let server = self.state.connector.server(carrier.server).to_owned();
        let (reason, retry_in) = (String::new(), Duration::ZERO);
        self.state.leave(carrier, Some(Event::Disconnected { server, reason, retry_in }));
    }

    fn is_wanted(&self, carrier: CarrierId) -> bool {
        self.state.roster.borrow().is_wanted(carrier)
    }

    fn answer(&self, server: &Server, number: u32, answer: Registered) -> Next {
        self.state.answered(server.carrier, server.id, number, answer)
    }

    /// What was told since the last call, by the names of the events.
    fn told(&mut self) -> Vec<&'static str> {
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            told.push(match event {
                Event::Connected { .. } => "connected",
                Event::TunnelReady(_) => "ready",
                Event::TunnelLost { .. } => "lost",
                Event::Disconnected { .. } => "disconnected",
                Event::LocalServiceDown { .. } => "down",
                Event::LocalServiceUp { .. } => "up",
                Event::Ended { .. } => "ended",
            });
        }
        told
    }
}

fn to_first(number: u8) -> CarrierId {
    CarrierId { server: ServerIndex(0), number: CarrierNumber(number) }
}

fn to_second(number: u8) -> CarrierId {
    CarrierId { server: ServerIndex(1), number: CarrierNumber(number) }
}

fn spec() -> TunnelSpec {
    TunnelSpec {
        kind: TunnelKind::Http,
        name: String::new(),
        hosts: Vec::new(),
        port: 0,
        options: Vec::new(),
        proxy_protocol: None,
        target: "127.0.0.1:1".parse::<Target>().unwrap(),
        health: None,
    }
}

fn ok() -> Registered {
    Registered::Ok { address: "http://app.localhost/".to_owned() }
}

fn refused(code: RefusalCode) -> Registered {
    Registered::Refused(Refusal { code, reason: "no".to_owned() })
}

/// A session of the client, and the server's end of it.
struct Server {
    carrier: CarrierId,
    id: SessionId,
    session: Session,
    client: Arc<Shared>,
    machine: Machine,
    /// The names that were asked for.
    asked: Vec<String>,
}

impl Server {
    fn new(carrier: CarrierId, id: u64) -> Self {
        let now = Instant::now();
        let client = Arc::new(Shared::new(Machine::client(Config::default(), now)));
        let mut server = Self {
            carrier,
            id: SessionId(id),
            session: Session::new(Arc::clone(&client)),
            client,
            machine: Machine::server(Config::default(), [0; 32], now),
            asked: Vec::new(),
        };
        server.exchange();
        server.client.lock(|inner| {
            inner.machine.hello(HelloRequest {
                client_id: ClientId([1; 16]),
                token_id: String::new(),
                nonce: [0; 32],
                proof: [0; CLIENT_PROOF_LEN],
                software: String::new(),
                direct_for: None,
            });
        });
        server.exchange();
        let (session_id, software) = (server.id, String::new());
        server.machine.accept(Accept { session_id, proof: [0; 32], software }, now);
        server.exchange();
        server.client.lock(|inner| inner.machine.confirm(now));
        server.heard();
        server
    }

    fn exchange(&mut self) {
        self.client.lock(|inner| {
            pass(&mut inner.machine, &mut self.machine);
            pass(&mut self.machine, &mut inner.machine);
        });
    }

    /// What the client has sent since the last call: `+3` for a tunnel asked for, `+3 join` where it
    /// only joins in, `-3` for one taken away.
    fn heard(&mut self) -> Vec<String> {
        self.exchange();
        let mut heard = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match event {
                Heard::Register(number, wanted) => {
                    assert_eq!(CarrierNumber::of(&wanted), Some(self.carrier.number));
                    self.asked.push(wanted.name.clone());
                    let join = if options::is_joining(&wanted) { " join" } else { "" };
                    let said = options::Condition::of(&wanted).unwrap_or_default();
                    let word = |is, [yes, no]: [&'static str; 2]| match is {
                        None => "",
                        Some(true) => yes,
                        Some(false) => no,
                    };
                    let health = word(said.is_down, [" down", " up"]);
                    let paused = word(said.is_paused, [" paused", " resumed"]);
                    heard.push(format!("+{number}{join}{health}{paused}"));
                }
                Heard::Unregister(number) => heard.push(format!("-{number}")),
                _ => {}
            }
        }
        heard
    }

    fn is_closed(&self) -> bool {
        self.client.lock(|inner| inner.machine.state() == ferrotunnel_protocol::State::Closed)
    }
}

fn pass(from: &mut Machine, to: &mut Machine) {
    let (now, mut frames, mut bytes) = (Instant::now(), VecDeque::new(), BytesMut::new());
    from.poll_transmit(now, &mut frames, usize::MAX);
    for frame in frames {
        bytes.extend_from_slice(frame.head());
        bytes.extend_from_slice(frame.body());
    }
    to.handle_input(now, &mut bytes).unwrap();
}

#[test]
fn the_first_carrier_asks_alone_and_the_others_join() {
    let mut bed = Bed::new();
    let (mut first, mut second) = (bed.enter(0, 1), bed.enter(1, 2));
    let tunnel = bed.add();
    assert_eq!(first.heard(), ["+1"]);
    assert!(second.heard().is_empty());
    bed.answer(&first, tunnel, ok());
    assert_eq!(second.heard(), ["+1 join"]);
    bed.answer(&second, tunnel, ok());
    assert!(first.heard().is_empty() && second.heard().is_empty());
    assert_eq!(bed.told(), ["connected", "ready"]);
    // One that comes back joins those that are left; if nobody is left, it has to ask.
    bed.leave(0);
    let mut first = bed.enter(0, 3);
    assert_eq!(first.heard(), ["+1 join"]);
    bed.answer(&first, tunnel, ok());
    assert!(bed.told().is_empty());
    bed.leave(0);
    bed.leave(1);
    assert_eq!(bed.enter(0, 4).heard(), ["+1"]);
}

#[test]
fn a_tunnel_that_comes_later_and_is_refused_does_not_end_a_client_that_gives_up() {
    let mut bed = Bed::retrying(ServerMode::Failover, Retry::Never);
    let mut first = bed.enter(0, 1);
    let tunnel = bed.add();
    bed.answer(&first, tunnel, ok());
    let later = bed.state.add(spec(), None);
    assert_eq!(first.heard(), ["+1", "+2"]);
    let again = bed.answer(&first, later, refused(RefusalCode::NameTaken));
    assert!(matches!(again, Next::AskAgain(_)));
    assert_eq!(bed.told(), ["connected", "ready", "lost"]);
    assert!(bed.state.target(tunnel).is_some() && bed.state.target(later).is_some());
}

#[test]
fn a_tunnel_that_a_newer_client_has_is_given_up_over_all_carriers() {
    let mut bed = Bed::new();
    let (mut first, mut second, mut third) = (bed.enter(0, 1), bed.enter(1, 2), bed.enter(2, 3));
    let (lost, kept) = (bed.add(), bed.add());
    for tunnel in [lost, kept] {
        bed.answer(&first, tunnel, ok());
        bed.answer(&second, tunnel, ok());
    }
    assert_eq!(third.heard(), ["+1 join", "+2 join"]);
    second.heard();
    first.heard();
    assert!(matches!(bed.answer(&first, lost, refused(RefusalCode::Superseded)), Next::GoOn));
    assert_eq!(second.heard(), ["-1"]);
    assert_eq!(third.heard(), ["-1"]);
    // The answer was under way already.
    bed.answer(&third, lost, ok());
    assert_eq!(third.heard(), ["-1"]);
    assert_eq!(bed.told(), ["connected", "ready", "ready", "lost"]);
    let end = bed.answer(&first, kept, refused(RefusalCode::Superseded));
    assert!(matches!(end, Next::End(ConnectError::Superseded(_))));
}

#[test]
fn who_waits_for_a_tunnel_that_a_newer_client_has_is_told_so() {
    for is_last in [false, true] {
        let bed = Bed::new();
        let first = bed.enter(0, 1);
        if !is_last {
            let kept = bed.add();
            bed.answer(&first, kept, ok());
        }
        let (answer, mut answered) = oneshot::channel();
        let late = bed.state.add(spec(), Some(answer));
        let next = bed.answer(&first, late, refused(RefusalCode::Superseded));
        assert!(matches!(answered.try_recv(), Ok(Err(ConnectError::Superseded(_)))));
        // With other tunnels the client has something to live for.
        assert_eq!(matches!(next, Next::End(ConnectError::Superseded(_))), is_last);
    }
}

#[test]
fn a_tunnel_that_is_taken_away_while_it_is_asked_for_is_taken_away_again() {
    let bed = Bed::new();
    let mut first = bed.enter(0, 1);
    let tunnel = bed.add();
    bed.state.remove(tunnel);
    assert_eq!(first.heard(), ["+1", "-1"]);
    bed.answer(&first, tunnel, ok());
    assert_eq!(first.heard(), ["-1"]);
}

#[test]
fn a_refusal_is_told_when_nobody_has_the_tunnel_any_more() {
    let mut bed = Bed::new();
    let (first, mut second) = (bed.enter(0, 1), bed.enter(1, 2));
    let tunnel = bed.add();
    bed.answer(&first, tunnel, ok());
    let again = bed.answer(&second, tunnel, refused(RefusalCode::LimitExceeded));
    assert!(matches!(again, Next::AskAgain(_)));
    assert_eq!(second.heard(), ["+1 join"]);
    assert_eq!(bed.told(), ["connected", "ready"]);
    // Nobody waits for the end of the pause: there is nobody else to ask.
    bed.leave(0);
    assert_eq!(second.heard(), ["+1"]);
    bed.answer(&second, tunnel, refused(RefusalCode::LimitExceeded));
    assert_eq!(bed.told(), ["lost"]);
    // Told once, for as long as it stays so.
    bed.state.ask_again(to_first(1), tunnel);
    assert_eq!(second.heard(), ["+1"]);
    bed.answer(&second, tunnel, refused(RefusalCode::LimitExceeded));
    assert!(bed.told().is_empty());
}

#[test]
fn while_a_tunnel_is_refused_one_carrier_asks_for_all() {
    let bed = Bed::new();
    let (mut first, mut second) = (bed.enter(0, 1), bed.enter(1, 2));
    let tunnel = bed.add();
    bed.answer(&first, tunnel, ok());
    bed.answer(&second, tunnel, ok());
    bed.answer(&second, tunnel, refused(RefusalCode::Internal));
    bed.answer(&first, tunnel, refused(RefusalCode::Internal));
    first.heard();
    second.heard();
    bed.state.ask_again(to_first(0), tunnel);
    assert_eq!(first.heard(), ["+1"]);
    assert!(second.heard().is_empty());
    bed.state.ask_again(to_first(0), tunnel);
    assert!(first.heard().is_empty(), "it is asked for already");
    bed.answer(&first, tunnel, ok());
    bed.state.ask_again(to_first(1), tunnel);
    assert_eq!(second.heard(), ["+1 join"]);
}

#[test]
fn connected_and_disconnected_take_turns() {
    let mut bed = Bed::new();
    // The first attempt failed.
    bed.leave(0);
    bed.enter(0, 1);
    bed.enter(1, 2);
    bed.leave(0);
    bed.enter(0, 3);
    bed.leave(0);
    bed.leave(1);
    // Of a further carrier nobody wants to know.
    bed.leave(1);
    bed.leave(0);
    assert_eq!(bed.told(), ["disconnected", "connected", "disconnected", "disconnected"]);
}

#[test]
fn where_one_server_is_enough_an_outage_is_one_of_all() {
    let mut bed = Bed::new();
    bed.leave_at(to_first(0));
    bed.enter_at(to_second(0), 1);
    assert_eq!(bed.told(), ["disconnected", "connected"]);
    // Looks for the first one fail unnoticed.
    bed.leave_at(to_first(0));
    bed.enter_at(to_first(0), 2);
    bed.leave_at(to_second(0));
    assert_eq!(bed.told(), ["connected"]);
}

#[test]
fn where_all_servers_are_used_each_has_its_own_outages() {
    let mut bed = Bed::with(ServerMode::All);
    bed.enter_at(to_first(0), 1);
    bed.leave_at(to_second(0));
    bed.enter_at(to_second(0), 2);
    bed.leave_at(to_first(0));
    let told = std::iter::from_fn(|| bed.events.try_recv().ok()).map(|event| match event {
        Event::Connected { server, .. } => format!("+{server}"),
        Event::Disconnected { server, .. } => format!("-{server}"),
        other => unreachable!("{other:?}"),
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told, ["+127.0.0.1:1", "-127.0.0.1:2", "+127.0.0.1:2", "-127.0.0.1:1"]);
}

#[test]
fn each_server_is_asked_by_itself_and_picks_by_itself() {
    let mut bed = Bed::with(ServerMode::All);
    let tunnel = bed.add();
    let mut one = bed.enter_at(to_first(0), 1);
    let mut two = bed.enter_at(to_second(0), 2);
    let mut more = bed.enter_at(to_second(1), 3);
    assert_eq!(one.heard(), ["+1"]);
    assert_eq!(two.heard(), ["+1"], "a newer client takes over at each of them");
    bed.answer(&one, tunnel, ok());
    assert!(more.heard().is_empty(), "what another server has is not joined");
    bed.answer(&two, tunnel, Registered::Ok { address: "http://other.localhost/".to_owned() });
    assert_eq!(more.heard(), ["+1 join"]);
    assert_eq!(bed.told(), ["connected", "connected", "ready", "ready"]);
    bed.leave_at(to_first(0));
    bed.leave_at(to_second(0));
    bed.leave_at(to_second(1));
    let (mut one, mut two) = (bed.enter_at(to_first(0), 4), bed.enter_at(to_second(0), 5));
    one.heard();
    two.heard();
    assert_eq!((one.asked, two.asked), (vec!["app".to_owned()], vec!["other".to_owned()]));
}

#[test]
fn a_refusal_by_one_server_leaves_the_tunnel_to_the_other() {
    let mut bed = Bed::with(ServerMode::All);
    let (one, two) = (bed.enter_at(to_first(0), 1), bed.enter_at(to_second(0), 2));
    let tunnel = bed.add();
    let again = bed.answer(&one, tunnel, refused(RefusalCode::LimitExceeded));
    assert!(matches!(again, Next::AskAgain(_)));
    bed.answer(&two, tunnel, ok());
    assert_eq!(bed.told(), ["connected", "connected", "lost", "ready"]);
    // Nobody is left who could say yes.
    let tunnel = bed.add();
    bed.answer(&one, tunnel, refused(RefusalCode::LimitExceeded));
    bed.answer(&two, tunnel, refused(RefusalCode::LimitExceeded));
    assert!(bed.state.target(tunnel).is_none());
}

#[test]
fn a_newer_client_at_one_server_leaves_the_tunnel_at_the_other() {
    let mut bed = Bed::with(ServerMode::All);
    let (one, two) = (bed.enter_at(to_first(0), 1), bed.enter_at(to_second(0), 2));
    let mut more = bed.enter_at(to_first(1), 3);
    let tunnel = bed.add();
    bed.answer(&one, tunnel, ok());
    bed.answer(&two, tunnel, ok());
    more.heard();
    bed.told();
    let next = bed.answer(&one, tunnel, refused(RefusalCode::Superseded));
    assert!(matches!(next, Next::GoOn));
    assert_eq!(bed.told(), ["lost"]);
    assert_eq!(more.heard(), ["-1"]);
    // It does not fight back.
    bed.leave_at(to_first(0));
    let mut one = bed.enter_at(to_first(0), 4);
    assert!(one.heard().is_empty());
    let end = bed.answer(&two, tunnel, refused(RefusalCode::Superseded));
    assert!(matches!(end, Next::End(ConnectError::Superseded(_))));
}

#[test]
fn a_newer_client_at_one_of_two_addresses_of_a_server_has_it_at_both() {
    let mut bed = Bed::with(ServerMode::All);
    let (one, two) = (bed.enter_at(to_first(0), 1), bed.enter_at(to_second(0), 2));
    let tunnel = bed.add();
    bed.answer(&one, tunnel, ok());
    bed.answer(&one, tunnel, refused(RefusalCode::Moved));
    bed.answer(&two, tunnel, ok());
    let end = bed.answer(&two, tunnel, refused(RefusalCode::Superseded));
    assert!(matches!(end, Next::End(ConnectError::Superseded(_))));
    assert_eq!(bed.told(), ["connected", "connected", "ready", "lost", "ready", "lost"]);
}

#[test]
fn a_tunnel_that_moved_is_asked_for_again_when_nobody_has_it() {
    let bed = Bed::with(ServerMode::All);
    let (mut one, mut two) = (bed.enter_at(to_first(0), 1), bed.enter_at(to_second(0), 2));
    let tunnel = bed.add();
    bed.answer(&one, tunnel, ok());
    bed.answer(&one, tunnel, refused(RefusalCode::Moved));
    bed.answer(&two, tunnel, ok());
    assert_eq!((one.heard().len(), two.heard().len()), (1, 1));
    // Lost there, and then the session is lost too.
    assert!(matches!(
        bed.answer(&two, tunnel, refused(RefusalCode::LimitExceeded)),
        Next::AskAgain(_)
    ));
    assert!(one.heard().is_empty());
    bed.leave_at(to_second(0));
    assert_eq!(one.heard(), ["+1"]);
}

#[test]
fn a_tunnel_that_moved_to_a_session_that_was_left_is_asked_for_again() {
    for mode in [ServerMode::Failover, ServerMode::All] {
        let mut bed = Bed::with(mode);
        let old = bed.enter(0, 1);
        let tunnel = bed.add();
        bed.answer(&old, tunnel, ok());
        bed.leave(0);
        let mut new = bed.enter(0, 2);
        bed.answer(&new, tunnel, ok());
        assert_eq!(new.heard(), ["+1"]);
        bed.told();
        // What the old one had asked for has come through only now.
        let next = bed.answer(&new, tunnel, refused(RefusalCode::Moved));
        assert!(matches!(next, Next::AskAgain(_)));
        assert_eq!(bed.told(), ["lost"]);
        bed.state.ask_again(to_first(0), tunnel);
        assert_eq!(new.heard(), ["+1"]);
        bed.answer(&new, tunnel, ok());
        assert_eq!(bed.told(), ["ready"]);
    }
}

#[test]
fn a_server_makes_way_once_the_earlier_one_has_all_that_it_has() {
    let bed = Bed::new();
    let later = bed.enter_at(to_second(0), 1);
    let (kept, refused_there) = (bed.add(), bed.add());
    bed.answer(&later, kept, ok());
    bed.answer(&later, refused_there, ok());
    let mut earlier = bed.enter_at(to_first(0), 2);
    assert_eq!(earlier.heard(), ["+1", "+2"]);
    bed.answer(&earlier, kept, ok());
    assert!(bed.is_wanted(to_second(0)));
    bed.answer(&earlier, refused_there, refused(RefusalCode::LimitExceeded));
    assert!(bed.is_wanted(to_second(0)), "visitors of the other tunnel would lose it");
    bed.state.ask_again(to_first(0), refused_there);
    bed.answer(&earlier, refused_there, ok());
    assert!(!bed.is_wanted(to_second(0)));
    assert!(bed.is_wanted(to_first(0)));
}

#[test]
fn an_answer_over_a_session_that_has_left_is_nobodys() {
    let mut bed = Bed::new();
    let old = bed.enter(0, 1);
    let tunnel = bed.add();
    bed.leave(0);
    let new = bed.enter(0, 2);
    bed.answer(&old, tunnel, ok());
    assert_eq!(bed.told(), ["connected", "disconnected", "connected"]);
    bed.answer(&new, tunnel, ok());
    assert_eq!(bed.told(), ["ready"]);
}

#[test]
fn each_server_is_where_a_session_has_led() {
    let bed = Bed::new();
    assert_eq!(bed.state.reached(ServerIndex(0)), None);
    let server = Server::new(to_first(0), 1);
    let addr = "192.0.2.1:7835".parse().unwrap();
    bed.state.enter(server.carrier, &server.session, server.id, Some(addr));
    assert_eq!(bed.state.reached(ServerIndex(0)), Some(addr));
    assert_eq!(bed.state.reached(ServerIndex(1)), None);
    bed.leave(0);
    assert_eq!(bed.state.reached(ServerIndex(0)), None);
    assert_eq!(bed.state.last_reached(), BTreeSet::from([addr]));
}

#[test]
fn every_server_that_has_a_tunnel_hears_that_its_service_is_down() {
    let mut bed = Bed::with(ServerMode::All);
    let (mut one, mut two) = (bed.enter_at(to_first(0), 1), bed.enter_at(to_second(0), 2));
    let tunnel = bed.add();
    assert_eq!((one.heard().len(), two.heard().len()), (1, 1));
    bed.answer(&one, tunnel, ok());
    // The other has not answered yet.
    bed.state.set_health(tunnel, Some("refused".to_owned()));
    assert_eq!(
        (one.heard(), two.heard()),
        (vec!["+1 join down".into()], vec!["+1 join down".into()])
    );
    // Who asks now says so at once.
    assert_eq!(bed.enter_at(to_first(1), 3).heard(), ["+1 join down"]);
    bed.answer(&two, tunnel, ok());
    bed.answer(&two, tunnel, ok());
    bed.state.set_health(tunnel, None);
    assert_eq!((one.heard(), two.heard()), (vec!["+1 join up".into()], vec!["+1 join up".into()]));
    assert_eq!(bed.told(), ["connected", "connected", "ready", "down", "ready", "up"]);
    bed.state.set_health(99, None);
    assert!(bed.told().is_empty());
}

#[test]
fn every_server_hears_that_a_tunnel_takes_no_visitors_and_keeps_it() {
    let mut bed = Bed::with(ServerMode::All);
    let (mut one, mut two) = (bed.enter_at(to_first(0), 1), bed.enter_at(to_second(0), 2));
    let tunnel = bed.add();
    assert_eq!((one.heard().len(), two.heard().len()), (1, 1));
    bed.answer(&one, tunnel, ok());
    bed.answer(&two, tunnel, ok());
    bed.state.set_paused(tunnel, true).unwrap();
    assert_eq!(bed.state.set_paused(tunnel, true), Err(ControlError::Already));
    assert_eq!(
        (one.heard(), two.heard()),
        (vec!["+1 join paused".into()], vec!["+1 join paused".into()])
    );
    assert_eq!(bed.enter_at(to_first(1), 3).heard(), ["+1 join paused"]);
    // Both are told, whatever changes.
    bed.state.set_health(tunnel, Some("refused".to_owned()));
    assert_eq!(one.heard(), ["+1 join down paused"]);
    bed.state.set_paused(tunnel, false).unwrap();
    assert_eq!(one.heard(), ["+1 join down resumed"]);
    assert_eq!(bed.state.set_paused(99, true), Err(ControlError::NoSuchTunnel));
    assert_eq!(bed.told(), ["connected", "connected", "ready", "ready", "down"]);
}

#[test]
fn nothing_begins_after_the_end() {
    let mut bed = Bed::new();
    bed.add();
    bed.state.finish(ConnectError::Shutdown);
    let late = bed.enter(0, 1);
    assert!(late.is_closed());
    assert_eq!(bed.told(), ["ended"]);
}
