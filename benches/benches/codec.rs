//! The decoder, on the frames that make up the traffic.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::frame::{Frame, FrameType, Header, WindowUpdate};
use ferrotunnel_protocol::{Decoded, Decoder};

fn data_frames(payload: usize, count: usize) -> BytesMut {
    let mut wire = BytesMut::new();
    for _ in 0..count {
        let length = payload as u16;
        let header = Header { kind: FrameType::Data, flags: 0, length, stream: 2 };
        wire.extend_from_slice(&header.encode());
        wire.extend_from_slice(&vec![7; payload]);
    }
    wire
}

fn decode_all(mut wire: BytesMut) -> usize {
    let mut decoder = Decoder::default();
    decoder.authenticated();
    let mut bytes = 0;
    while let Some(item) = decoder.decode(&mut wire).unwrap() {
        match item {
            Decoded::Data { bytes: piece, .. } => bytes += piece.len(),
            Decoded::Frame(frame) => {
                black_box(frame);
            }
        }
    }
    bytes
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, payload, count) in
        [("64 KiB frames", 65_535, 4), ("1 KiB frames", 1_024, 256), ("64 B frames", 64, 1_000)]
    {
        let wire = data_frames(payload, count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |b| {
            b.iter_batched(|| wire.clone(), decode_all, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let update = Frame::WindowUpdate(StreamId(2), WindowUpdate { credit: 65_536 });
    c.bench_function("encode window update", |b| b.iter(|| black_box(&update).encode()));
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
