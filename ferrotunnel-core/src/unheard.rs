//! Those at the door who have not said yet what they want.
//!
//! Each has a place for as long as a handshake may take, and somebody who only sits there could take them all. Whoever
//! means to come in says so at once. So when somebody comes who finds no place, one of the others makes room: of the
//! source that has most of them the one that has sat there longest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::source::Source;

/// All of them. It holds an entry for each, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Unheard(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// By where they come from, in the order in which they came; no source has none.
    sources: HashMap<Source, BTreeMap<u64, oneshot::Sender<()>>>,
}

impl Unheard {
    /// Listens to somebody from there. `None`: it has to make room. Who has spoken already is heard first.
    pub(crate) async fn listen<T>(
        &self,
        from: IpAddr,
        hearing: impl Future<Output = T>,
    ) -> Option<T> {
        let (_seat, make_room) = self.sit(Source::of(from));
        tokio::select! {
            biased;
            heard = hearing => Some(heard),
            _ = make_room => None,
        }
    }

    /// Tells one of them to make room, if there is any.
    pub(crate) fn make_room(&self) {
        let mut inside = self.0.lock();
        let largest = inside.sources.iter().max_by_key(|(_, those)| those.len());
        let Some(source) = largest.map(|(source, _)| *source) else { return };
        let first = inside.sources.get(&source).and_then(|those| those.keys().next().copied());
        if let Some(tell) = first.and_then(|number| inside.remove(source, number)) {
            let _ = tell.send(());
        }
    }

    fn sit(&self, source: Source) -> (Seat<'_>, oneshot::Receiver<()>) {
        let (tell, make_room) = oneshot::channel();
        let mut inside = self.0.lock();
        let number = inside.next;
        inside.next += 1;
        inside.sources.entry(source).or_default().insert(number, tell);
        (Seat { unheard: self, source, number }, make_room)
    }
}

impl Inside {
    fn remove(&mut self, source: Source, number: u64) -> Option<oneshot::Sender<()>> {
        let those = self.sources.get_mut(&source)?;
        let tell = those.remove(&number);
        if those.is_empty() {
            self.sources.remove(&source);
        }
        tell
    }
}

/// One of them, until it is dropped.
struct Seat<'a> {
    unheard: &'a Unheard,
    source: Source,
    number: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.unheard.0.lock().remove(self.source, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test]
    async fn of_the_largest_crowd_who_has_sat_longest_makes_room() {
        let unheard = Unheard::default();
        let (few, crowd) = (Source::of(address(1)), Source::of(address(2)));
        let (_one, mut stays) = unheard.sit(few);
        let mut seats: Vec<_> = (0..3).map(|_| unheard.sit(crowd)).collect();
        unheard.make_room();
        assert!(seats[0].1.try_recv().is_ok());
        unheard.make_room();
        assert!(seats[1].1.try_recv().is_ok());
        assert!(seats[2].1.try_recv().is_err() && stays.try_recv().is_err());
        seats.clear();
        unheard.make_room();
        assert!(stays.try_recv().is_ok(), "nobody else is there");
        unheard.make_room();
        assert!(unheard.0.lock().sources.is_empty());
    }

    #[tokio::test]
    async fn who_has_spoken_is_heard_and_who_has_not_goes() {
        let unheard = Unheard::default();
        assert_eq!(unheard.listen(address(1), ready("hello")).await, Some("hello"));
        let silent = unheard.listen(address(1), pending::<()>());
        let others = async {
            while unheard.0.lock().sources.is_empty() {
                tokio::task::yield_now().await;
            }
            unheard.make_room();
        };
        assert_eq!(tokio::join!(silent, others).0, None);
        assert!(unheard.0.lock().sources.is_empty());
    }
}
