//! The inspector: sees the requests of HTTP tunnels pass, keeps the last of them, and can repeat them.
//!
//! It looks at streams through a [tap](ferrotunnel_core::Tap): it is shown what passes and can neither delay, collect,
//! cut nor change it. What it cannot follow it stops looking at. How an admin interface shows all this is not here.

mod counted;
mod decode;
mod exchange;
mod grpc;
mod har;
mod head;
mod http1;
mod http2;
mod inspector;
mod mask;
mod record;
mod replay;
mod search;
mod settings;
mod sse;
mod store;
mod stream_tap;
mod view;
mod websocket;

pub use har::Archive;
pub use inspector::{Filter, Inspector, News, Whose};
pub use replay::{Edits, Reach, Reached, ReplayError};
pub use settings::InspectorSettings;
pub use view::{
    BodyView, GrpcView, InterimView, MessageView, RawBody, RequestDetail, RequestSummary,
    RequestView, Requests, ResponseView, Timing,
};
