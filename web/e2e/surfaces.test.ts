// What there is to see of the built program beside the dashboard: metrics in Prometheus, a trace, logs, `ferrotunnel status` and
// the pages that a visitor is shown. Each is looked at and has its picture taken. What is in the pictures is what really came;
// how it looks pixel by pixel is nobody's business.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { DOCS, HERE, launch, picture } from "./browser.ts";
import { nested, receiver, traceOf, waterfall } from "./otlp.ts";
import { TOKEN, client, freePort, server, site, until, visit, type Program, type RunningServer } from "./program.ts";
import { hasPrometheus, prometheus } from "./prometheus.ts";
import { Terminal, escaped, plain, terminals } from "./terminal.ts";

/** For how long visitors come whose requests are drawn as a graph: only a picture has to look like something. */
const TRAFFIC_SECONDS = process.env["FT_PICTURES"] === "1" ? 70 : 6;

let browser: Browser;
let page: Page;
let local: Awaited<ReturnType<typeof site>>;
let folder: string;
/** What a test leaves to be ended. */
const left: (() => Promise<void>)[] = [];

beforeAll(async () => {
  browser = await launch();
  page = await (await browser.newContext({ viewport: { width: 1200, height: 720 }, reducedMotion: "reduce", colorScheme: "light" })).newPage();
  local = await site();
  folder = mkdtempSync(join(tmpdir(), "surfaces-"));
});
afterAll(async () => {
  await browser?.close();
  await local?.close();
  rmSync(folder, { recursive: true });
});
afterEach(async () => {
  for (const end of left.splice(0).reverse()) await end();
});

function owned(program: Program): Program {
  left.push(() => program.kill());
  return program;
}

async function serve(more: string[] = [], variables = {}): Promise<RunningServer> {
  const to = await server(more, variables);
  owned(to.program);
  return to;
}

/** A page of our own. */
async function show(html: string): Promise<void> {
  await page.setContent(html);
}

test.skipIf(!hasPrometheus())("metrics and alerts, in Prometheus", async () => {
  const to = await serve();
  const at = await freePort();
  owned(await client(to, "shop", local.port, ["--admin-bind", `127.0.0.1:${at}`]));
  owned(await client(to, "api", local.port, ["--admin-bind", "off"]));
  const reads = await prometheus({ ferrotunnel: to.admin.slice("http://".length), client: `127.0.0.1:${at}` });
  left.push(reads.close);

  // Visitors come and go in waves; some ask for what is not there.
  for (let tenth = 0; tenth < TRAFFIC_SECONDS * 10; tenth += 1) {
    const busy = 2.2 + 2 * Math.sin(tenth / 60);
    const visits = Array.from({ length: Math.round(busy + (tenth % 3)) }, (_, n) =>
      visit(to, n % 3 === 2 ? "api" : "shop", n === 0 && tenth % 7 === 0 ? "/?status=404" : tenth % 90 === 41 ? "/?status=500" : "/"),
    );
    await Promise.all([...visits, new Promise((resolve) => setTimeout(resolve, 100))]);
  }
  // Both ends are read, and say the same of the one tunnel.
  await until("requests in Prometheus", async () => (await reads.ask('sum(ferrotunnel_http_requests_total{tunnel="shop"}) > 0')).length > 0);
  await until("requests of the client in Prometheus", async () => (await reads.ask("sum(ferrotunnel_client_http_requests_total) > 0")).length > 0);
  const query = "sum by (tunnel, status) (rate(ferrotunnel_http_requests_total[10s]))";
  await until("a rate", async () => (await reads.ask(query)).some((value) => value > 0));

  const seconds = Math.max(TRAFFIC_SECONDS - 8, 10);
  const asked = new URLSearchParams({ "g0.expr": query, "g0.tab": "0", "g0.stacked": "1", "g0.range_input": `${seconds}s`, "g0.step_input": "1" });
  // As Debian has it, with the older of its interfaces.
  await page.setViewportSize({ width: 1200, height: 960 });
  const answer = await page.goto(`${reads.url}/classic/graph?${asked}`);
  const hasPage = answer?.status() === 200;
  if (hasPage) {
    await page.locator(".rickshaw_graph svg path").first().waitFor({ state: "attached" });
    await page.getByText(/tunnel="api"/).first().waitFor();
    await picture(join(DOCS, "metrics.png"), page);
  }

  // Without its server a client has an alert of its own.
  await to.program.kill();
  for (const name of ["FerroTunnelServerDown", "FerroTunnelClientDown"]) {
    await until(name, async () => (await reads.ask(`ALERTS{alertname="${name}"}`)).length > 0);
  }
  if (!hasPage) {
    // Elsewhere there is nothing to make pictures of, and the old ones are not to pass for new.
    expect(process.env["FT_PICTURES"]).toBeUndefined();
    return;
  }
  await page.goto(`${reads.url}/classic/alerts`);
  await page.getByRole("cell", { name: "FerroTunnelServerDown" }).first().click();
  await page.locator(".state_indicator:visible").first().waitFor();
  await picture(join(DOCS, "alerts.png"), page);
}, 180_000);

test("the documentation names every metric and every path, and none that is not there", async () => {
  const variables = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" };
  const to = await serve(["--max-requests-per-tunnel", "1000", "--inspect"], variables);
  const at = await freePort();
  owned(await client(to, "shop", local.port, ["--admin-bind", `127.0.0.1:${at}`]));
  expect((await visit(to, "shop", "/")).status).toBe(200);
  const text = readFileSync(join(HERE, "../../docs/observability.md"), "utf8");

  const endings: Record<string, string> = { counter: "_total", info: "_info" };
  const metrics = new Set<string>();
  for (const side of [to.admin, `http://127.0.0.1:${at}`]) {
    const answer = await (await fetch(`${side}/metrics`)).text();
    for (const [, name, type] of answer.matchAll(/^# TYPE (\S+) (\S+)$/gm)) metrics.add(`${name}${endings[type!] ?? ""} ${type}`);
  }
  const rows = [...text.matchAll(/^\| (`(?:ferrotunnel|process)_[^|]*) \| (\w+)/gm)];
  const documented = rows.flatMap(([, names, type]) => [...names!.matchAll(/`(\w+)`/g)].map(([, name]) => `${name} ${type}`));
  expect(documented.sort()).toEqual([...metrics].sort());

  const description = (await (await fetch(`${to.admin}/api/v1/openapi.json`)).json()) as { paths: Record<string, object> };
  const paths = Object.keys(description.paths).map((path) => path.replace("{id}", "ID").replace("{name}", "NAME").replace("{whose}", "request"));
  // Further ones in a row have their ends alone.
  const inRows = [...text.matchAll(/^\| (`(?:[A-Z]+ )?\/[^|]*)/gm)].flatMap(([, cell]) => {
    const [first, ...ends] = [...cell!.matchAll(/`(?:[A-Z]+ )?(\/[^`?]*)/g)].map(([, path]) => path!);
    return [first!, ...ends.map((end) => (end.startsWith("/api/") ? end : first!.slice(0, first!.lastIndexOf("/")) + end))];
  });
  expect(paths.filter((path) => !inRows.includes(path))).toEqual([]);
  const told = [...text.matchAll(/`(?:[A-Z]+ )?(\/api\/v1\/[^`?]+)`/g)].map(([, path]) => path!);
  expect(told.filter((path) => !paths.includes(path))).toEqual([]);
});

test("a trace of one request, through server and client", async () => {
  const collector = await receiver();
  left.push(collector.close);
  const slow = createServer((_, answer) => setTimeout(() => answer.end("in stock"), 6)).listen(0, "127.0.0.1");
  left.push(async () => void slow.close());
  const variables = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "50" };
  const to = await serve(["--max-requests-per-tunnel", "1000"], variables);
  owned(await client(to, "shop", (slow.address() as AddressInfo).port, [], variables));

  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const asked = { traceparent: `00-${trace}-00f067aa0ba902b7-01`, "user-agent": "a browser" };
  expect((await visit(to, "shop", "/api/stock/teapot", { headers: asked })).status).toBe(200);
  const spans = await traceOf(collector.spans, trace, 8);

  const rows = nested(spans);
  expect(rows.length).toBe(spans.length);
  expect(rows.map(([{ service, name, kind }, depth]) => `${depth} ${service} ${name} ${kind}`)).toEqual([
    "0 ferrotunnel-server GET server",
    "1 ferrotunnel-server route internal",
    "1 ferrotunnel-server plugins request internal",
    "1 ferrotunnel-server GET client",
    "2 ferrotunnel-server stream open internal",
    "3 ferrotunnel-client local connect client",
    "2 ferrotunnel-server first byte internal",
    "1 ferrotunnel-server plugins response internal",
  ]);
  expect(rows[0]![0].parent).toBe("00f067aa0ba902b7");
  await show(waterfall(spans));
  await picture(join(DOCS, "trace.png"), page.locator("main"));
});

test("logs at a terminal, as JSON, and of requests", async () => {
  const access = join(folder, "access.log");
  const variables = { FERROTUNNEL_TOKEN: TOKEN, FERROTUNNEL_BIND: "127.0.0.1:0", FERROTUNNEL_HTTP_BIND: "127.0.0.1:0" };
  const run = async (args: string[], isJson: boolean): Promise<string> => {
    const terminal = Terminal.start(args, variables);
    left.push(() => terminal.stop());
    const tunnel = await terminal.shows(/(127\.0\.0\.1:\d+)/);
    const http = Number(await terminal.shows(/HTTP tunnels come in on 127\.0\.0\.1:(\d+)/));
    const to = { tunnel, http } as RunningServer;
    const joined = owned(await client(to, "shop", local.port));
    const gone = owned(await client(to, "api", await freePort()));
    await visit(to, "shop", "/teapots?sort=price");
    await visit(to, "shop", "/cart", { method: "POST", body: "{}" });
    expect((await visit(to, "api", "/orders")).status).toBe(502);
    expect((await visit(to, "shpo", "/")).status).toBe(404);
    if (!isJson) {
      const wrong = ["http", "80", "--server", tunnel, "--token", "b".repeat(32), "--name", "mine"];
      const refused = Terminal.start(wrong);
      left.push(() => refused.stop());
      await refused.end();
      await terminal.shows(/wrong token/);
    }
    await joined.stop();
    await gone.stop();
    await terminal.shows(/client disconnected[^]*client disconnected/);
    await terminal.stop();
    return terminal.text;
  };
  const said = ["server", "--log-level", "info,ferrotunnel_http=debug", "--access-log", access];
  const human = await run(said, false);
  const requests = readFileSync(access, "utf8");
  rmSync(access);
  const json = await run(["server", "--log-format", "json", "--log-level", "info", "--access-log", access, "--access-log-format", "json"], true);
  const requestsJson = readFileSync(access, "utf8");

  // In colour at a terminal, and each line of the other an object with its fields.
  expect(human).toContain("\x1b[");
  expect(plain(human)).toMatch(/ server started tunnel=127\.0\.0\.1:\d+ http=127\.0\.0\.1:\d+$/m);
  expect(plain(human)).toMatch(/INFO ferrotunnel_core::registry: registered session=\w+ tunnel=shop kind=http/);
  const lines = json.split("\n").filter((line) => line.startsWith("{"));
  const events = lines.map((line) => JSON.parse(line) as Record<string, string>);
  expect(events.some(({ message, tunnel }) => message === "registered" && tunnel === "shop")).toBe(true);
  expect(json).not.toContain("\x1b[");
  expect(requests.trim().split("\n").length).toBe(4);
  expect(requestsJson.trim().split("\n").map((line) => (JSON.parse(line) as { status: number }).status)).toEqual([200, 200, 502, 404]);
  for (const text of [human, json, requests, requestsJson]) expect(text).not.toContain(TOKEN);

  const first = (text: string, count: number): string => text.trim().split("\n").slice(0, count).join("\n");
  await show(
    terminals([
      { title: "a server", typed: "ferrotunnel server --log-level info,ferrotunnel_http=debug --access-log access.log", text: human },
      { title: "its access log", typed: "cat access.log", text: requests },
      { title: "with --log-format json", typed: "ferrotunnel server --log-format json", text: first(lines.join("\n"), 3) },
      { title: "with --access-log-format json", typed: "cat access.log", text: first(requestsJson, 2) },
    ]),
  );
  await picture(join(DOCS, "logs.png"), page.locator("main"));
});

test("ferrotunnel status, of a server and of a client", async () => {
  const at = { server: join(folder, "server"), client: join(folder, "client") };
  const to = await serve(["--control", at.server]);
  owned(await client(to, "shop", local.port, ["--control", at.client]));
  owned(await client(to, "docs", local.port));
  for (let n = 0; n < 12; n += 1) await visit(to, n % 3 === 0 ? "docs" : "shop", "/");
  const status = (side: "server" | "client"): Promise<string> => Terminal.start(["status", "--control", at[side]]).end();
  const server_ = await status("server");
  const client_ = await status("client");
  expect(server_).toMatch(/^server \S+, ready, for \d+s; sessions: 2, tunnels: 2, streams: /);
  expect(server_).toMatch(/ shop +up /);
  expect(client_).toMatch(new RegExp(` 127\\.0\\.0\\.1:${local.port} +http://shop\\.localhost`));
  await show(
    terminals([
      { title: "at the server", typed: "ferrotunnel status --control /run/ferrotunnel/control", text: server_ },
      { title: "at a client", typed: "ferrotunnel status --control ~/.ferrotunnel/control", text: client_ },
    ]),
  );
  await picture(join(DOCS, "status.png"), page.locator("main"));
});

test("what a visitor is shown where no local service answers", async () => {
  const to = await serve(["--max-requests-per-tunnel", "2"]);
  owned(await client(to, "shop", local.port));
  owned(await client(to, "api", await freePort()));
  owned(await client(to, "wiki", local.port));
  const paused = await fetch(`${to.admin}/api/v1/tunnels/http:wiki/pause`, { method: "POST", headers: { "x-ferrotunnel-action": "1" } });
  expect(paused.ok).toBe(true);
  const shots: string[] = [];
  const look = async (name: string, status: number, title: string): Promise<void> => {
    const answer = await small.goto(`http://${name}.localhost:${to.http}/`);
    expect([answer?.status(), await small.title()]).toEqual([status, title]);
    const shot = (await small.screenshot()).toString("base64");
    shots.push(`<figure><figcaption>${escaped(new URL(small.url()).host)}</figcaption><img src="data:image/png;base64,${shot}" width="560"></figure>`);
  };
  const small = await page.context().newPage();
  await small.setViewportSize({ width: 560, height: 270 });
  await look("shpo", 404, "No such tunnel");
  await look("api", 502, "Local service unreachable");
  await look("wiki", 503, "The tunnel is paused");
  await until("too many requests", async () => (await visit(to, "shop", "/")).status === 429);
  await look("shop", 429, "Too Many Requests");
  await small.close();
  const style =
    "body{margin:0;background:#e9ebef;font:13px Inter,'DejaVu Sans',sans-serif}main{display:grid;grid-template-columns:1fr 1fr;gap:16px;padding:16px;width:1136px}figure{margin:0;border-radius:8px;overflow:hidden;background:#fff}figcaption{padding:8px 14px;background:#f7f8fa;color:#5b6270;border-bottom:1px solid #e3e5ea}img{display:block}";
  await show(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Pages</title><style>${style}</style><main>${shots.join("")}</main></html>`);
  await picture(join(DOCS, "pages.png"), page.locator("main"));
});
