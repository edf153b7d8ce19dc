//! Plugins that fail in a running server: what it costs, and what is logged. In a process of its own, since what is
//! logged at the same places by other tests would be taken for what is logged here.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use ferrotunnel::Plugin;
use ferrotunnel::plugin::http::{Request, StatusCode};
use ferrotunnel::plugin::{PluginAction, RequestContext, Result, async_trait};
use ferrotunnel_tests::{Carrier, Site, TestBed, run_logged, soon};

/// Fails as the path says.
struct Faulty;

#[async_trait]
impl Plugin for Faulty {
    async fn on_request(
        &self,
        request: &mut Request<()>,
        _: &RequestContext,
    ) -> Result<PluginAction> {
        match request.uri().path() {
            "/fail" => return Err("secret words".into()),
            "/panic" => {
                tokio::task::yield_now().await;
                // Not there, as the plugin believes it is.
                request.headers_mut().remove("x-missing").unwrap();
            }
            _ => {}
        }
        Ok(PluginAction::Continue)
    }
}

#[test]
fn plugin_panic_is_contained() {
    run_logged(async |log| {
        let bed = TestBed::with(Carrier::Tls, |server| server.plugin(Faulty)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for (path, words) in [("/panic", "panicked: "), ("/fail", "secret words")] {
            let failed = soon("an answer", bed.get("app", path)).await;
            assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(failed.ferrotunnel_error(), Some("plugin-failed"));
            assert!(!failed.body.contains(words), "{failed:?}");
            log.says(words).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
        }
        assert_eq!(log.count("a plugin failed"), 2);
    });
}
