//! Certificates by the names that they are for.

use std::collections::HashMap;
use std::sync::Arc;

use super::certificate::Certificate;

/// Several certificates, in order: of two for one name the earlier one is shown.
#[derive(Debug, Default)]
pub(super) struct Store {
    by_name: HashMap<String, Arc<Certificate>>,
    all: Vec<Arc<Certificate>>,
}

impl Store {
    pub(super) fn add(&mut self, certificate: Arc<Certificate>) {
        for name in certificate.names() {
            self.by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&certificate));
        }
        self.all.push(certificate);
    }

    /// The one for a host in lower case: by its own name before one by a star.
    pub(super) fn find(&self, host: &str) -> Option<&Arc<Certificate>> {
        self.by_name.get(host).or_else(|| {
            let (_, under) = host.split_once('.')?;
            self.by_name.get(&format!("*.{under}"))
        })
    }

    /// All of them, each once.
    pub(super) fn all(&self) -> &[Arc<Certificate>] {
        &self.all
    }

    /// For visitors that do not say whom they want, or want somebody unknown.
    pub(super) fn first(&self) -> Option<&Arc<Certificate>> {
        self.all.first()
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::made;
    use super::super::config::OldestTls;
    use super::super::shown::Manner;
    use super::*;

    #[test]
    fn the_name_itself_wins_over_a_star_and_the_earlier_over_the_later() {
        let manner = Manner::new(OldestTls::V1_2).unwrap();
        let one = |names: &[&str]| Arc::new(Certificate::new(made(names), &manner).unwrap());
        let (star, exact, later) =
            (one(&["*.x.test"]), one(&["a.x.test"]), one(&["a.x.test", "c.y.test"]));
        let mut store = Store::default();
        assert!(store.first().is_none());
        for certificate in [&star, &exact, &later] {
            store.add(Arc::clone(certificate));
        }
        let is = |host, other: &Arc<Certificate>| Arc::ptr_eq(store.find(host).unwrap(), other);
        assert!(is("a.x.test", &exact) && is("b.x.test", &star) && is("c.y.test", &later));
        assert!(store.find("x.test").is_none() && store.find("d.y.test").is_none());
        assert!(Arc::ptr_eq(store.first().unwrap(), &star));
    }
}
