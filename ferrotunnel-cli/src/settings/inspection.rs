//! How requests are inspected.

use ferrotunnel::InspectorSettings;

use crate::args::InspectArgs;

pub(super) fn settings(args: InspectArgs) -> InspectorSettings {
    let mut settings = InspectorSettings::default();
    if let Some(bytes) = args.inspect_body_bytes {
        settings.body_bytes = bytes;
    }
    settings.hide = args.inspect_hide.unwrap_or_default();
    settings
}
