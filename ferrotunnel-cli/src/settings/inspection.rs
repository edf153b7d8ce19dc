//! Who sees requests pass.

use ferrotunnel::{Inspector, InspectorSettings};

use crate::args::InspectArgs;

/// One that has seen nothing yet.
pub(super) fn inspector(args: InspectArgs) -> Inspector {
    let mut settings = InspectorSettings::default();
    if let Some(bytes) = args.inspect_body_bytes {
        settings.body_bytes = bytes;
    }
    settings.hide = args.inspect_hide.unwrap_or_default();
    Inspector::new(settings)
}
