//! The handle on everything that is kept.

use std::sync::Arc;

use ferrotunnel_core::TapMaker;
use ferrotunnel_core::tasks::Tasks;
use ferrotunnel_plugin::RequestMeter;
use tokio::sync::broadcast;

use crate::har::Archive;
use crate::record::{Record, State};
use crate::replay::{Edits, Reach, ReplayError, begin};
use crate::search::Search;
use crate::settings::InspectorSettings;
use crate::store::Shared;
use crate::stream_tap::Taps;
use crate::view::{RawBody, RequestDetail, RequestSummary, Requests};

/// Sees the requests of HTTP tunnels, and keeps the last of them. Clones share what they keep.
#[derive(Clone, Debug)]
pub struct Inspector {
    shared: Arc<Shared>,
    /// Replays under way.
    tasks: Arc<Tasks>,
}

/// What happens to what is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum News {
    /// A request has begun, was answered, or is over.
    Request(Arc<RequestSummary>),
    /// All were thrown away.
    Cleared,
}

/// Which requests to list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Filter {
    /// At most so many; 100 by default, 1,000 at most.
    pub limit: Option<usize>,
    /// Only those that came before that one.
    pub before: Option<String>,
    /// Only those that have that in their tunnel, host, path, headers, messages, or in what was captured of their bodies, in
    /// whatever case. Of headers that are secrets only the names are looked at.
    pub q: Option<String>,
    /// Only those with that method.
    pub method: Option<String>,
    /// Only those with that status, like `404`, `4xx`, `open` or `failed`.
    pub status: Option<String>,
}

/// Whose body of a request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The visitor's.
    Request,
    /// The local service's.
    Response,
}

impl Default for Inspector {
    fn default() -> Self {
        Self::new(InspectorSettings::default())
    }
}

impl Inspector {
    /// One that has seen nothing yet.
    pub fn new(settings: InspectorSettings) -> Self {
        Self { shared: Arc::new(Shared::new(settings)), tasks: Arc::default() }
    }

    /// What looks at streams on its behalf.
    pub fn taps(&self) -> Arc<dyn TapMaker> {
        Arc::new(Taps(Arc::clone(&self.shared)))
    }

    /// Has somebody count the requests of visitors from now on, kept or not; what is repeated is none of them. Only the
    /// first call counts.
    pub fn count_with(&self, meter: Arc<dyn RequestMeter>) {
        let _ = self.shared.meter.set(meter);
    }

    /// How often requests went by unseen: those of the rest of a connection that it could not follow, or one beyond
    /// those that it follows at once.
    pub fn lost_sight(&self) -> u64 {
        self.shared.lost_sight()
    }

    /// Replays go over that from now on.
    pub fn replay_over(&self, reach: Arc<dyn Reach>) {
        *self.shared.reach.write() = Some(reach);
    }

    /// The requests that are kept, the newest first. To look for a text in all of them takes some tenths of a second.
    pub fn list(&self, filter: &Filter) -> Requests {
        let before = filter.before.as_deref().and_then(|id| id.parse().ok());
        let limit = filter.limit.unwrap_or(LISTED).min(MOST_LISTED);
        let found = self.shared.all(before);
        let mut search = Search::of(filter.q.as_deref(), &self.shared.mask);
        let found = found.iter().filter(|one| filter.takes(one) && search.finds(one)).take(limit);
        let requests = found.map(|record| RequestSummary::of(record)).collect();
        Requests {
            requests,
            search_cut: search.is_cut(),
            total: self.shared.count(),
            bytes: self.shared.held(),
            budget_bytes: self.shared.settings.budget_bytes,
        }
    }

    /// Everything about one. Secrets are shown with `reveal` only.
    pub fn get(&self, id: &str, reveal: bool) -> Option<RequestDetail> {
        let record = self.record(id)?;
        Some(RequestDetail::of(&record, &self.shared.mask, reveal))
    }

    /// Whether that one is kept.
    pub fn has(&self, id: &str) -> bool {
        self.record(id).is_some()
    }

    /// What was captured of a body, as it came.
    pub fn body(&self, id: &str, whose: Whose) -> Option<RawBody> {
        let record = self.record(id)?;
        let content = record.content.lock();
        let body = match whose {
            Whose::Request => &content.request_body,
            Whose::Response => &content.response_body,
        };
        Some(RawBody { bytes: body.kept.clone(), is_truncated: body.is_truncated() })
    }

    /// What happens from now on. Who is too slow misses some.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.shared.subscribe()
    }

    /// Throws all away.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// All that are over, or one, as an HTTP archive (HAR 1.2), the oldest first.
    pub fn har(&self, id: Option<&str>, reveal: bool) -> String {
        self.archive(id, reveal).collect()
    }

    /// The same in pieces, one for each request: all together may be several times what is kept.
    pub fn archive(&self, id: Option<&str>, reveal: bool) -> Archive {
        let mut records = match id {
            Some(id) => self.record(id).into_iter().collect(),
            None => self.shared.all(None),
        };
        records.reverse();
        Archive::of(records, &self.shared.mask, reveal)
    }

    /// Says it again to the local service, with changes or without. Returns the id of the new request at once.
    ///
    /// # Errors
    /// There is nothing to repeat, it cannot be repeated, or too many are under way.
    pub fn replay(&self, id: &str, edits: Edits) -> Result<String, ReplayError> {
        let record = self.record(id).ok_or(ReplayError::NotFound)?;
        let (id, replay) = begin(&self.shared, &record, edits)?;
        self.tasks.spawn(replay);
        Ok(id.to_string())
    }

    fn record(&self, id: &str) -> Option<Arc<Record>> {
        self.shared.get(id.parse().ok()?)
    }
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let content = record.content.lock();
        if content.is_gone {
            return false;
        }
        let status = content.response.as_ref().map(|response| response.status);
        let has_status = self.status.as_deref().is_none_or(|wanted| {
            match (wanted.to_ascii_lowercase().as_str(), status) {
                ("open", _) => content.state == State::Open,
                ("failed", _) => content.state == State::Failed,
                ("", _) => true,
                (_, None) => false,
                (wanted, Some(status)) => match wanted.strip_suffix("xx") {
                    Some(class) => class == (status / 100).to_string(),
                    None => wanted == status.to_string(),
                },
            }
        });
        let is_method = |wanted: &str| content.request.method.eq_ignore_ascii_case(wanted);
        let method = self.method.as_deref().filter(|wanted| !wanted.is_empty());
        has_status && method.is_none_or(is_method)
    }
}

const LISTED: usize = 100;

/// Some 300 KB of JSON.
const MOST_LISTED: usize = 1_000;
