// What the fake interface tells of in the pictures and in some of the tests: a small shop behind a tunnel. Nothing of it is by
// chance, so that the pictures change only with the pages.
import type { RequestDetail, Sample } from "../src/api.ts";
import { binary, FakeApi, text } from "./fake-api.ts";
import { encode } from "./png.ts";

/** A wave that looks like traffic and is the same each time. */
function wave(at: number, period: number, phase = 0): number {
  return 0.5 + 0.5 * Math.sin((at / period) * 2 * Math.PI + phase);
}

export function sample(at: number, n: number, scale = 1): Sample {
  const noise = wave(n * 7.3, 5) * 0.5 + wave(n * 3.1, 7.7) * 0.5;
  const requests = Math.round(scale * (14 + 18 * wave(n, 160) + 9 * noise + (n % 97 > 88 ? 14 : 0)));
  const errors = n % 61 === 7 ? 3 : n % 61 === 8 ? 2 : n % 43 === 3 ? 1 : 0;
  const p50 = 0.006 + 0.003 * wave(n, 90) + 0.002 * noise;
  return {
    at,
    requests,
    errors,
    bytes_in: requests * (900 + 700 * noise),
    bytes_out: requests * (8000 + 9000 * wave(n, 120, 1) + 4000 * noise),
    streams: 6 + Math.round(4 * noise),
    streams_opened: requests,
    p50_seconds: p50,
    p90_seconds: p50 * (2.2 + wave(n, 37)),
    p99_seconds: p50 * (4.5 + 3 * wave(n, 53) + (n % 97 > 90 ? 3 : 0)),
  };
}

export function clientScene(): FakeApi {
  const fake = new FakeApi("client");
  fill(fake);
  fake.sessions = [
    {
      id: "s-7f3a",
      client: "laptop-4c1e",
      principal: null,
      address: "tunnel.example.com:7835",
      software: "ferrotunnel 0.1.0",
      state: "up",
      age_seconds: 7250,
      round_trip_seconds: 0.0184,
      tunnels: 2,
      streams: 9,
      streams_opened: 4211,
      bytes_from_client: 918_000_000,
      bytes_to_client: 71_000_000,
      last_error: null,
    },
  ];
  const tunnel = {
    principal: null,
    group: null,
    sessions: ["s-7f3a"],
    round_trip_seconds: 0.0184,
    last_error: null,
  };
  fake.tunnels = [
    {
      ...tunnel,
      id: "t1",
      kind: "http",
      name: "shop",
      hosts: ["shop.example.com"],
      public_urls: ["https://shop.example.com/"],
      local: "127.0.0.1:3000",
      state: "up",
      health: "up",
      visitors: 7,
      requests: {
        total: 18_240,
        by_status: [
          { status: "2xx", count: 17_903 },
          { status: "3xx", count: 214 },
          { status: "4xx", count: 118 },
          { status: "5xx", count: 4 },
          { status: "none", count: 1 },
        ],
      },
      streams_opened: 3980,
      bytes_in: 62_300_000,
      bytes_out: 871_000_000,
    },
    {
      ...tunnel,
      id: "t2",
      kind: "tcp",
      name: "5432",
      hosts: [],
      public_urls: ["tcp://tunnel.example.com:5432"],
      local: "127.0.0.1:5432",
      state: "up",
      health: null,
      visitors: 2,
      requests: null,
      streams_opened: 231,
      bytes_in: 8_700_000,
      bytes_out: 47_000_000,
    },
  ];
  fake.status = { ...fake.status, sessions: 1, tunnels: 2, streams: 9 };
  return fake;
}

export function serverScene(): FakeApi {
  const fake = new FakeApi("server");
  fake.status.inspecting = false;
  fill(fake, 6);
  fake.requests = [];
  const names = ["shop", "api", "docs", "staging", "hooks", "grafana", "wiki", "demo"];
  const who = ["anna", "build-farm", "anna", "jonas", "jonas", "ops", "ops", "mira"];
  fake.sessions = ["anna", "build-farm", "jonas", "ops", "mira"].map((name, at) => ({
    id: `s-${(0x7f3a + at * 991).toString(16)}`,
    client: `${name}-${(0x4c1e + at * 77).toString(16)}`,
    principal: name,
    address: `198.51.100.${17 + at * 23}:${40_112 + at * 311}`,
    software: at === 2 ? "ferrotunnel 0.0.9" : "ferrotunnel 0.1.0",
    state: at === 3 ? ("draining" as const) : ("up" as const),
    age_seconds: 86_400 * (at + 1) + 1234 * at + 412,
    round_trip_seconds: 0.0124 * (at + 1),
    tunnels: who.filter((one) => one === name).length,
    streams: 3 + at * 4,
    streams_opened: 4211 * (at + 1),
    bytes_from_client: 918_000_000 * (at + 1),
    bytes_to_client: 71_000_000 * (at + 1),
    last_error: null,
  }));
  fake.tunnels = names.map((name, at) => ({
    id: `t${at}`,
    kind: at === 5 ? "tls" : "http",
    name,
    hosts: [`${name}.tunnel.example.com`],
    public_urls: [`https://${name}.tunnel.example.com/`],
    principal: who[at]!,
    local: null,
    group: null,
    sessions: [],
    state: at === 3 ? ("away" as const) : at === 6 ? ("paused" as const) : ("up" as const),
    health: null,
    visitors: at === 3 || at === 6 ? 0 : 3 + ((at * 5) % 9),
    requests: at === 5 ? null : { total: 5100 + at * 977, by_status: [{ status: "2xx", count: 5100 + at * 977 }] },
    streams_opened: 800 + at * 311,
    bytes_in: 62_300_000 * (at + 1),
    bytes_out: 871_000_000 * (at + 1),
    round_trip_seconds: at === 3 ? null : 0.0124 * (at + 1),
    last_error: null,
  }));
  fake.principals = ["anna", "build-farm", "jonas", "mira", "ops"].map((name, at) => ({
    name,
    disabled: at === 3,
    sessions: at === 3 ? 0 : 1,
    tunnels: who.filter((one) => one === name).length,
    streams: at === 3 ? 0 : 3 + at * 4,
    limits: at === 1 ? { sessions: 20, streams: 500, bytes_per_second: 10_485_760 } : at === 2 ? { tunnels: 4 } : { tunnels: null },
  }));
  fake.limits = [
    { name: "max_sessions", value: 10_000, unit: null, hit: 0 },
    { name: "max_tunnels_per_session", value: 256, unit: null, hit: 0 },
    { name: "max_streams_per_session", value: 4096, unit: null, hit: 0 },
    { name: "receive_memory", value: 268_435_456, unit: "bytes", hit: 0 },
    { name: "max_visitors_per_address", value: 64, unit: null, hit: 132 },
    { name: "max_visitors_per_tunnel", value: null, unit: null, hit: 0 },
    { name: "max_failed_handshakes", value: 10, unit: "per_second", hit: 41 },
    { name: "max_bytes_per_second", value: null, unit: "bytes_per_second", hit: 0 },
  ];
  fake.status = { ...fake.status, sessions: 5, tunnels: 8, streams: 41 };
  return fake;
}

function fill(fake: FakeApi, scale = 1): void {
  const now = Date.now();
  fake.samples = Array.from({ length: 600 }, (_, n) => sample(now - (599 - n) * 1000, n, scale));
  shop(fake, now);
}

const HOST = "shop.example.com";
const AGENT: [string, string] = ["user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"];

function shop(fake: FakeApi, now: number): void {
  const paths: [string, string, number, string, number][] = [
    ["GET", "/", 200, "text/html", 0.014],
    ["GET", "/assets/shop.css", 304, "text/css", 0.002],
    ["GET", "/api/products?page=2&sort=price", 200, "application/json", 0.031],
    ["GET", "/api/cart", 200, "application/json", 0.009],
    ["GET", "/images/teapot-blue.png", 200, "image/png", 0.006],
    ["POST", "/api/cart/items", 201, "application/json", 0.044],
    ["GET", "/api/products/teapot-blue", 200, "application/json", 0.012],
    ["GET", "/favicon.ico", 404, "text/plain", 0.001],
    ["PUT", "/api/cart/items/7", 200, "application/json", 0.038],
    ["GET", "/api/recommendations?for=teapot-blue", 500, "application/json", 1.204],
    ["DELETE", "/api/cart/items/3", 204, "", 0.021],
    ["GET", "/login?next=%2Fcheckout", 302, "text/html", 0.003],
  ];
  for (let n = 0; n < 48; n += 1) {
    const [method, path, status, type, seconds] = paths[n % paths.length]!;
    const entry: Partial<RequestDetail> = {
      at: now - (60 - n) * 1900 - ((n * 377) % 900),
      tunnel: "shop",
      method,
      path,
      host: HOST,
      status,
      content_type: type === "" ? null : type,
      duration_seconds: seconds * (1 + ((n * 7) % 5) / 10),
      response_bytes: status === 204 || status === 304 ? 0 : 400 + ((n * 7919) % 60_000),
    };
    fake.request(entry);
  }
  const order = {
    id: 90071992547409920,
    customer: { name: "Grace Hopper", email: "grace@example.com", vip: true },
    items: [
      { sku: "teapot-blue", quantity: 1, price: 34.9 },
      { sku: "cup-white", quantity: 4, price: 6.5 },
    ],
    note: null,
    total: 60.9,
  };
  const asked = { items: order.items.map(({ sku, quantity }) => ({ sku, quantity })), coupon: "TEA10" };
  fake.request({
    id: "order",
    at: now - 1500,
    tunnel: "shop",
    method: "POST",
    path: "/api/orders",
    host: HOST,
    status: 201,
    content_type: "application/json",
    duration_seconds: 0.1873,
    request: {
      headers: [
        ["host", HOST],
        AGENT,
        ["accept", "application/json"],
        ["accept-encoding", "gzip, deflate, br"],
        ["authorization", "Bearer 6f1d-shop-session"],
        ["cookie", "cart=81f2; theme=dark"],
        ["content-type", "application/json"],
        ["content-length", String(JSON.stringify(asked).length)],
        ["x-forwarded-for", "203.0.113.7"],
        ["x-forwarded-proto", "https"],
      ],
      trailers: [],
      body: text(JSON.stringify(asked)),
    },
    response: {
      status: 201,
      reason: "Created",
      headers: [
        ["content-type", "application/json; charset=utf-8"],
        ["location", "/api/orders/90071992547409931"],
        ["set-cookie", "cart=; Max-Age=0"],
        ["cache-control", "no-store"],
        ["server-timing", "db;dur=41.2, stripe;dur=118"],
      ],
      trailers: [],
      body: text(JSON.stringify(order).replace(/\d{17}/, "90071992547409931"), "gzip"),
    },
    timing: { queue_seconds: 0.0004, connect_seconds: 0.0021, send_seconds: 0.0009, wait_seconds: 0.1752, receive_seconds: 0.0087 },
  });
  const changed = { items: [{ sku: "teapot-blue", quantity: 1 }, { sku: "cup-white", quantity: 6 }], coupon: null };
  const first = fake.requests.at(-1)!;
  fake.request({
    ...first,
    id: "again",
    at: now - 1400,
    replay_of: "order",
    status: 200,
    duration_seconds: 0.0412,
    request: {
      ...first.request,
      headers: first.request.headers.map(([name, value]) => [name, name === "content-length" ? String(JSON.stringify(changed).length) : value]),
      body: text(JSON.stringify(changed)),
    },
    response: {
      ...first.response!,
      status: 200,
      reason: "OK",
      headers: first.response!.headers
        .filter(([name]) => name !== "location")
        .map(([name, value]) => [name, name === "server-timing" ? "db;dur=12.8" : value]),
      body: text(
        first.response!.body.text!.replace('"quantity":4', '"quantity":6').replace('"note":null', '"note":"the coupon was left out"').replace("60.9", "73.9"),
        "gzip",
      ),
    },
  });
  fake.request({
    id: "image",
    at: now - 1300,
    tunnel: "shop",
    path: "/images/teapot-mini.png",
    host: HOST,
    content_type: "image/png",
    response: { status: 200, reason: "OK", headers: [["content-type", "image/png"]], trailers: [], body: binary(png()) },
  });
  fake.request({
    id: "chat",
    at: now - 9000,
    tunnel: "shop",
    path: "/support/chat",
    host: HOST,
    status: 101,
    state: "open",
    kind: "websocket",
    duration_seconds: null,
    content_type: null,
    messages: Array.from({ length: 12 }, (_, n) => ({
      at: now - 8800 + n * 640,
      from: n % 3 === 0 ? ("visitor" as const) : ("service" as const),
      kind: n === 7 ? ("binary" as const) : ("text" as const),
      size: n === 7 ? 5 : 40 + n,
      text: n === 7 ? null : JSON.stringify({ n, say: n % 3 === 0 ? "is the blue teapot in stock?" : "let me have a look", typing: n % 2 === 1 }),
      base64: n === 7 ? Buffer.from([0, 1, 254, 255, 64]).toString("base64") : null,
      truncated: false,
    })),
    messages_lost: 3,
  });
  fake.request({
    id: "form",
    at: now - 1100,
    tunnel: "shop",
    method: "POST",
    path: "/login",
    host: HOST,
    status: 303,
    request: {
      headers: [["content-type", "application/x-www-form-urlencoded"]],
      trailers: [],
      body: text("user=grace&remember=on&note=two+words"),
    },
  });
  fake.request({
    id: "grpc",
    at: now - 1000,
    tunnel: "shop",
    method: "POST",
    path: "/shop.v1.Stock/Watch",
    host: HOST,
    version: "2",
    kind: "grpc",
    content_type: "application/grpc",
    grpc: { status: 5, message: "no such product" },
    messages: [
      { at: now - 1000, from: "visitor", kind: "grpc", size: 9, text: null, base64: Buffer.from("\n\u0007teapots").toString("base64"), truncated: false },
    ],
  });
}

/** A picture of 48 by 48, made here so that no file has to be kept. */
function png(): Buffer {
  const size = 48;
  const rgb = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const inside = (x - 24) ** 2 + (y - 26) ** 2 < 300;
      rgb.set(inside ? [43, 109, 168] : [245, 240, 230], (y * size + x) * 3);
    }
  }
  return encode({ width: size, height: size, rgb });
}
