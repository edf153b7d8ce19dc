//! A public TCP port, and the tunnel behind it.

use std::sync::Arc;

use ferrotunnel_protocol::{OpenError, ReceiveBudget};
use parking_lot::Mutex;

use super::Tunnel;
use super::trial::Trial;
use super::tunnel::Opened;
use crate::arrivals::Arrivals;
use crate::crowd::Crowd;
use crate::direct::Met;
use crate::proxies::TrustedProxies;
use crate::tasks::Tasks;
use crate::tcp_ingress::{Bound, Ingress, Visitor};

/// A port that visitors can reach. A takeover replaces the tunnel while the listener stays.
#[derive(Debug)]
pub(super) struct Port {
    current: Arc<Mutex<Arc<Tunnel>>>,
    /// Ends with the port.
    _listener: Ingress,
}

impl Port {
    pub(super) fn open(
        bound: Bound,
        tunnel: Arc<Tunnel>,
        visitors: Tasks,
        listeners: &Tasks,
        visiting: (Arc<Arrivals>, Arc<Crowd>),
        proxies: TrustedProxies,
        budget: ReceiveBudget,
    ) -> Self {
        let current = Arc::new(Mutex::new(tunnel));
        let find = {
            let current = Arc::clone(&current);
            move || Some(Arc::clone(&current.lock()))
        };
        let way_in = WayIn::new(find, visitors.clone(), budget);
        let admit = move |visitor| way_in.admit(visitor);
        let listener = bound.serve(admit, visitors, listeners, visiting, proxies);
        Self { current, _listener: listener }
    }

    /// The tunnel that visitors reach now.
    pub(super) fn current(&self) -> Arc<Tunnel> {
        Arc::clone(&self.current.lock())
    }

    pub(super) fn replace(&self, tunnel: Arc<Tunnel>) {
        *self.current.lock() = tunnel;
    }
}

/// From where visitors come in to the tunnel of the moment, if there is one.
#[derive(Clone)]
pub(super) struct WayIn {
    find: Find,
    visitors: Tasks,
    /// What is kept of visitors counts against it.
    pub(super) budget: ReceiveBudget,
}

type Find = Arc<dyn Fn() -> Option<Arc<Tunnel>> + Send + Sync>;

impl WayIn {
    pub(super) fn new(
        find: impl Fn() -> Option<Arc<Tunnel>> + Send + Sync + 'static,
        visitors: Tasks,
        budget: ReceiveBudget,
    ) -> Self {
        Self { find: Arc::new(find), visitors, budget }
    }

    pub(super) fn tunnel(&self) -> Option<Arc<Tunnel>> {
        (self.find)()
    }

    pub(super) fn admit(&self, visitor: Visitor) {
        let Some((tunnel, visitor)) = self.enter(visitor, Self::admit) else { return };
        let way_in = self.clone();
        let multiplex = move |visitor: Visitor, met: Met| match met {
            Met::Nobody => way_in.multiplex(visitor),
            Met::LostCarrier => way_in.admit_again(visitor),
        };
        match tunnel.soon_directly() {
            None => tunnel.serve_directly(visitor, None, multiplex),
            Some(soon) => drop(self.visitors.spawn(async move {
                match soon.await {
                    None => multiplex(visitor, Met::Nobody),
                    carrier => tunnel.serve_directly(visitor, carrier, multiplex),
                }
            })),
        }
    }

    /// The tunnel that the visitor may enter now. While its client is away the visitor waits for it, to be
    /// admitted then.
    fn enter(&self, visitor: Visitor, admit: fn(&Self, Visitor)) -> Option<(Arc<Tunnel>, Visitor)> {
        let Some(tunnel) = self.tunnel() else {
            visitor.too_late();
            return None;
        };
        if tunnel.access().is_some_and(|access| !access.admits(visitor.addr.ip())) {
            visitor.deny(tunnel.name());
            return None;
        }
        if tunnel.turns_away() {
            visitor.find_paused(tunnel.name());
            return None;
        }
        let Some(away) = tunnel.away() else { return Some((tunnel, visitor)) };
        let way_in = self.clone();
        self.visitors.spawn(async move {
            away.await;
            admit(&way_in, visitor);
        });
        None
    }

    /// Opens a stream for the visitor. One that somebody else may have as well changes hands until somebody
    /// has answered.
    fn multiplex(&self, visitor: Visitor) {
        let Some((tunnel, visitor)) = self.enter(visitor, Self::multiplex) else { return };
        match tunnel.open_on(visitor.addr, visitor.ingress, |_| true) {
            Ok(opened) if opened.is_shared => self.try_out(opened, visitor),
            Ok(opened) => match tunnel.mover(&opened) {
                None => visitor.serve(opened.stream, opened.home, &self.visitors),
                Some(mover) => {
                    visitor.serve_moving(opened.stream, mover, opened.home, &self.visitors);
                }
            },
            Err(error) => self.wait_or_turn_away((tunnel, error), visitor, Self::multiplex),
        }
    }

    fn try_out(&self, opened: Opened, mut visitor: Visitor) {
        let Opened { stream, home, by, .. } = opened;
        let (from, arriving) = ((visitor.addr, visitor.ingress), visitor.arriving.take());
        let trial = Trial::new((stream, by), self.clone(), from, arriving);
        visitor.serve(trial, home, &self.visitors);
    }

    /// For one who has lost a carrier of its own: its client may be lost as well, and back in a moment.
    fn admit_again(&self, visitor: Visitor) {
        let Some((tunnel, visitor)) = self.enter(visitor, Self::admit_again) else { return };
        match tunnel.open_on(visitor.addr, visitor.ingress, |_| true) {
            Ok(opened) => self.try_out(opened, visitor),
            Err(error) => self.wait_or_turn_away((tunnel, error), visitor, Self::admit_again),
        }
    }

    /// There is no stream for the visitor. Where that is so because a session is over, it is known a moment before that
    /// leaves, and its client may be back in a moment: the visitor waits to be admitted then.
    fn wait_or_turn_away(
        &self,
        (tunnel, error): (Arc<Tunnel>, OpenError),
        visitor: Visitor,
        admit: fn(&Self, Visitor),
    ) {
        let is_over = matches!(error, OpenError::SessionClosed | OpenError::Draining);
        match tunnel.another() {
            Some(another) if is_over => {
                let way_in = self.clone();
                self.visitors.spawn(async move {
                    another.await;
                    admit(&way_in, visitor);
                });
            }
            // It has left meanwhile, and another one has come. While there is one that has not, the same would come of it.
            None if error == OpenError::SessionClosed
                && tunnel.is_served()
                && !tunnel.is_losing_one() =>
            {
                admit(self, visitor);
            }
            _ => visitor.turn_away(error),
        }
    }
}
