//! What plugins cost a request: none at all, and several that do nothing.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ferrotunnel::plugin::http::{Request, Response};
use ferrotunnel::plugin::{Answer, Bytes, Chain, Dir, Plugin, RequestContext, async_trait};

struct Nothing;

#[async_trait]
impl Plugin for Nothing {}

/// One request with its response, as far as plugins have to do with it.
async fn exchange(chain: Option<&Chain>, chunk: &Bytes) {
    let Some(chain) = chain else { return };
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut request = Request::new(());
    let context = RequestContext::new(addr, addr, None);
    let (exchange, answer) = chain.request(&mut request, context).await;
    assert!(answer.is_none());
    let mut response = Response::new(());
    let replace = |_: Answer| Response::new(());
    exchange.response(&mut response, replace).await;
    let watch = exchange.watch(Dir::Response);
    watch.chunk(chunk).unwrap();
    watch.end();
}

fn requests(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let chunk = Bytes::from_static(&[0; 1024]);
    for count in [0, 1, 4] {
        let plugins = (0..count).map(|_| Arc::new(Nothing) as Arc<dyn Plugin>).collect();
        let chain = Chain::new(plugins);
        c.bench_function(&format!("plugins/{count}"), |b| {
            b.iter(|| runtime.block_on(exchange(black_box(chain.as_ref()), &chunk)));
        });
    }
}

criterion_group!(plugins, requests);
criterion_main!(plugins);
