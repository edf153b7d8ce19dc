// Receives spans as OTLP over HTTP, and draws a trace.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { until } from "./program.ts";
import { escaped } from "./terminal.ts";

export interface Span {
  service: string;
  trace: string;
  id: string;
  parent: string;
  name: string;
  kind: "internal" | "server" | "client" | "other";
  start: bigint;
  end: bigint;
  attributes: Record<string, string>;
}

/** Takes all spans that are sent to it. */
export async function receiver(): Promise<{ url: string; spans: Span[]; close: () => Promise<void> }> {
  const spans: Span[] = [];
  const server = createServer((asked, answer) => {
    const parts: Buffer[] = [];
    asked.on("data", (part: Buffer) => parts.push(part));
    asked.on("end", () => {
      spans.push(...spansOf(Buffer.concat(parts)));
      answer.writeHead(200, { "content-type": "application/x-protobuf" }).end();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The spans of one trace, once it has that many. */
export async function traceOf(spans: Span[], trace: string, count: number): Promise<Span[]> {
  const found = (): Span[] => spans.filter((span) => span.trace === trace);
  await until(`${count} spans of ${trace}`, () => found().length >= count);
  return found();
}

/** `ExportTraceServiceRequest` of opentelemetry-proto, trace/v1/trace.proto. */
function spansOf(message: Buffer): Span[] {
  return list(message, 1).flatMap((resource) => {
    const attributes = attributesOf(list(resource, 1).flatMap((one) => list(one, 1)));
    const service = attributes["service.name"] ?? "";
    return list(resource, 2)
      .flatMap((scope) => list(scope, 2))
      .map((span) => {
        const fields = read(span);
        const bytes = (number: number): Buffer => fields.find((field) => field.number === number)?.bytes ?? Buffer.alloc(0);
        const value = (number: number): bigint => fields.find((field) => field.number === number)?.value ?? 0n;
        return {
          service,
          trace: bytes(1).toString("hex"),
          id: bytes(2).toString("hex"),
          parent: bytes(4).toString("hex"),
          name: bytes(5).toString(),
          kind: ([undefined, "internal", "server", "client"] as const)[Number(value(6))] ?? "other",
          start: value(7),
          end: value(8),
          attributes: attributesOf(list(span, 9)),
        };
      });
  });
}

function attributesOf(pairs: Buffer[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      // Of an `AnyValue`: text, or a number.
      const value = list(pair, 2).flatMap(read)[0];
      return [list(pair, 1)[0]?.toString() ?? "", value?.bytes?.toString() ?? String(value?.value ?? "")];
    }),
  );
}

interface Field {
  number: number;
  bytes?: Buffer;
  value?: bigint;
}

/** Everything of one number that has a length. */
function list(message: Buffer, number: number): Buffer[] {
  return read(message).flatMap((field) => (field.number === number && field.bytes !== undefined ? [field.bytes] : []));
}

/** The encoding of protobuf: fields one after the other, each with its number and how long it is. */
function read(message: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at);
      at += 1;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = Number(varint());
    const number = key >> 3;
    switch (key & 7) {
      case 0:
        fields.push({ number, value: varint() });
        break;
      case 1:
        fields.push({ number, value: message.readBigUInt64LE(at) });
        at += 8;
        break;
      case 2: {
        const length = Number(varint());
        fields.push({ number, bytes: message.subarray(at, at + length) });
        at += length;
        break;
      }
      case 5:
        fields.push({ number, value: BigInt(message.readUInt32LE(at)) });
        at += 4;
        break;
      default:
        throw new Error(`no protobuf: ${key}`);
    }
  }
  return fields;
}

/** A span and how deep it lies. */
type Row = [span: Span, depth: number];

/** Those without a parent in there first, and behind each its own, as they began. */
export function nested(spans: Span[]): Row[] {
  const sorted = [...spans].sort((a, b) => Number(a.start - b.start));
  const below = (parent: string, depth: number): Row[] =>
    sorted.filter((span) => span.parent === parent).flatMap((span): Row[] => [[span, depth], ...below(span.id, depth + 1)]);
  const ids = new Set(spans.map((span) => span.id));
  const outside = [...new Set(sorted.map((span) => span.parent).filter((parent) => !ids.has(parent)))];
  return outside.flatMap((parent) => below(parent, 0));
}

/** One trace as a page. */
export function waterfall(spans: Span[]): string {
  const rows = nested(spans);
  const starts = spans.map(({ start }) => start);
  const first = starts.reduce((a, b) => (a < b ? a : b));
  const last = spans.map(({ end }) => end).reduce((a, b) => (a > b ? a : b));
  const share = (of: bigint): number => (Number(of) / Number(last - first)) * 100;
  const services = [...new Set(spans.map(({ service }) => service))].sort().reverse();
  const line = ([span, depth]: Row): string => {
    const took = span.end - span.start;
    const at = share(span.start - first);
    // Where there is no room to the right of a bar, its time stands inside, or to the left.
    const label = at + share(took) < 88 ? "" : share(took) > 12 ? "inside" : "before";
    return `<tr><th style="padding-left:${12 + depth * 18}px">${escaped(span.name)} <small>${span.kind === "internal" ? "" : span.kind}</small></th>
      <td><i class="s${services.indexOf(span.service)} ${label}" style="left:${at}%;width:max(3px,${share(took)}%)"><em>${millis(took)}</em></i></td></tr>`;
  };
  const root = rows[0]![0];
  const attributes = Object.entries(root.attributes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`);
  const legend = services.map((service, at) => `<span><i class="s${at}"></i>${escaped(service)}</span>`);
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>A trace</title><style>${STYLE}</style><main>
    <header><h1>${escaped(`${root.attributes["http.request.method"] ?? ""} ${root.attributes["url.path"] ?? ""}`)}</h1>
    <p>trace <code>${root.trace}</code>, ${spans.length} spans, ${millis(last - first)}</p><p class="legend">${legend.join("")}</p></header>
    <table>${rows.map(line).join("")}</table>
    <h2>${escaped(root.name)} <small>${root.kind}</small></h2><dl>${attributes.join("")}</dl></main></html>`;
}

function millis(nanos: bigint): string {
  const value = Number(nanos) / 1e6;
  return value < 1 ? `${Math.round(value * 1000)} µs` : `${value.toFixed(value < 10 ? 2 : 1)} ms`;
}

const STYLE = `
body{margin:0;background:#fff;color:#1d1f24;font:14px/1.4 Inter,"DejaVu Sans",sans-serif}
main{width:1152px;padding:24px}
h1{font-size:20px;margin:0}h2{font-size:15px;margin:24px 0 8px}
header{display:grid;gap:6px;margin-bottom:16px}p{margin:0;color:#5b6270}
small{color:#707786;font-weight:normal}code{font:13px "DejaVu Sans Mono",monospace}
.legend{display:flex;gap:20px}.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}
table{width:100%;border-collapse:collapse;table-layout:fixed;border:1px solid #e3e5ea}
tr:nth-child(even){background:#f7f8fa}
th{width:250px;text-align:left;font-weight:normal;padding:6px 12px;border-right:1px solid #e3e5ea}
td{position:relative;padding:0 12px}
td i{position:absolute;top:7px;bottom:7px;border-radius:3px}
td em{position:absolute;left:calc(100% + 8px);top:-2px;font-style:normal;font-size:12px;white-space:nowrap;color:#5b6270}
td i.inside em{left:auto;right:8px;color:#fff;top:-1px}
td i.before em{left:auto;right:calc(100% + 8px)}
.s0{background:#a83c17}.s1{background:#2d6aa6}.s2{background:#3b8f72}
dl{display:grid;grid-template-columns:230px 1fr 230px 1fr;gap:5px 12px;margin:0;font:12.5px "DejaVu Sans Mono",monospace}
dt{color:#5b6270}dd{margin:0;overflow-wrap:anywhere}`;
