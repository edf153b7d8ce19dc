//! What an inspector may be told.

/// How much an inspector keeps, and what it hides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectorSettings {
    /// Of each body the first bytes are kept, so many.
    pub body_bytes: usize,
    /// Over all requests that are kept; the oldest go, those that are over first.
    pub budget_bytes: usize,
    /// Requests that are kept.
    pub most_requests: usize,
    /// Headers whose values are secrets, beside those that everybody knows.
    pub hide: Vec<String>,
}

impl InspectorSettings {
    /// Nearly every body of an API fits; of an upload or a picture the kind is clear.
    pub const BODY_BYTES: usize = 64 << 10;

    /// The requests of some minutes at a developer's desk; nobody misses the memory.
    pub const BUDGET_BYTES: usize = 32 << 20;

    /// More than anybody scrolls through.
    pub const MOST_REQUESTS: usize = 10_000;
}

impl Default for InspectorSettings {
    fn default() -> Self {
        Self {
            body_bytes: Self::BODY_BYTES,
            budget_bytes: Self::BUDGET_BYTES,
            most_requests: Self::MOST_REQUESTS,
            hide: Vec::new(),
        }
    }
}
