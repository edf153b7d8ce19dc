// An admin interface without a program behind it: the same paths, answers and headers, and what they say is the test's to decide.
// For what the real one cannot be brought to say at will (ten thousand requests, a token, faults), and to work on the pages.
import { createReadStream, existsSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Body, Limit, Principal, Replay, RequestDetail, RequestSummary, Sample, Session, Status, Tunnel } from "../src/api.ts";

const ASSETS = join(dirname(fileURLToPath(import.meta.url)), "../../ferrotunnel-observability/assets");
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

export const text = (value: string, encoding: string | null = null): Body => ({
  size: Buffer.byteLength(value),
  captured: Buffer.byteLength(value),
  truncated: false,
  encoding,
  text: value,
  base64: null,
});
export const binary = (value: Buffer): Body => ({
  size: value.length,
  captured: value.length,
  truncated: false,
  encoding: null,
  text: null,
  base64: value.toString("base64"),
});
export const NO_BODY: Body = { size: 0, captured: 0, truncated: false, encoding: null, text: null, base64: null };

const SECRET = /^(authorization|proxy-authorization|cookie|set-cookie|x-api-key)$/i;

export class FakeApi {
  status: Status;
  sessions: Session[] = [];
  tunnels: Tunnel[] = [];
  principals: Principal[] = [];
  limits: Limit[] = [];
  samples: Sample[] = [];
  requests: RequestDetail[] = [];
  token: string | null = null;
  /** What was done, like `pause t1`. */
  done: string[] = [];
  replays: Replay[] = [];
  private server: Server;
  private listeners = new Set<ServerResponse>();
  private sockets = new Set<Socket>();
  private next = 1;
  private port = 0;

  constructor(side: Status["side"]) {
    this.status = {
      side,
      version: "0.1.0",
      phase: "ready",
      uptime_seconds: 7263,
      started_at: Date.now() - 7_263_000,
      sessions: 0,
      tunnels: 0,
      streams: 0,
      inspecting: true,
      build: { version: "0.1.0", target: "x86_64-unknown-linux-gnu", profile: "release", rustc: null },
      config_file: "/etc/ferrotunnel.toml",
    };
    this.server = createServer((request, response) => void this.handle(request, response));
    this.server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
  }

  /** On the port of before, when it was open once. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(this.port, "127.0.0.1", resolve));
    this.port = (this.server.address() as AddressInfo).port;
    return `http://127.0.0.1:${this.port}`;
  }

  async close(): Promise<void> {
    this.listeners.clear();
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  emit(event: string, data: unknown): void {
    for (const listener of this.listeners) listener.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  tell(): void {
    this.status.sessions = this.sessions.length;
    this.status.tunnels = this.tunnels.length;
    this.status.streams = this.tunnels.reduce((sum, tunnel) => sum + tunnel.visitors, 0);
    this.emit("status", this.status);
    this.emit("sessions", { sessions: this.sessions });
    this.emit("tunnels", { tunnels: this.tunnels });
  }

  /** A request that is over, or changes of it: what is not given is plain. */
  request(given: Partial<RequestDetail> = {}): RequestDetail {
    const id = given.id ?? `r${this.next++}`;
    const full: RequestDetail = {
      id,
      at: Date.now(),
      tunnel: "web",
      method: "GET",
      path: "/",
      host: "web.example.test",
      version: "1.1",
      status: 200,
      state: "done",
      duration_seconds: 0.012,
      request_bytes: given.request?.body.size ?? 0,
      response_bytes: given.response?.body.size ?? 2,
      content_type: "text/plain",
      kind: "http",
      replay_of: null,
      visitor: "203.0.113.7:51820",
      request_id: `01hq${id}`,
      error: null,
      request: { headers: [["host", "web.example.test"], ["accept", "*/*"]], trailers: [], body: NO_BODY },
      response: { status: given.status ?? 200, reason: "OK", headers: [["content-type", "text/plain"]], trailers: [], body: text("ok") },
      interim: [],
      timing: { queue_seconds: 0.0002, connect_seconds: 0.0009, send_seconds: 0.0001, wait_seconds: 0.0098, receive_seconds: 0.001 },
      grpc: null,
      messages: [],
      messages_lost: 0,
      ...given,
    };
    const known = this.requests.findIndex((request) => request.id === id);
    if (known === -1) this.requests.push(full);
    else this.requests[known] = full;
    this.emit("request", summary(full));
    return full;
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://fake");
    response.setHeader("x-content-type-options", "nosniff");
    if (!url.pathname.startsWith("/api/")) {
      const file = join(ASSETS, url.pathname === "/" ? "index.html" : url.pathname);
      if (!existsSync(file)) return void response.writeHead(404).end();
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": CSP });
      createReadStream(file).pipe(response);
      return;
    }
    const path = url.pathname.slice("/api/v1".length);
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const json = (status: number, value: unknown, type = "application/json"): void => {
      response.writeHead(status, { "content-type": type }).end(JSON.stringify(value));
    };
    const problem = (status: number, detail: string): void =>
      json(status, { type: "about:blank", title: detail, status, detail }, "application/problem+json");
    if (path === "/login") {
      if ((JSON.parse(body) as { token?: string }).token !== this.token) return problem(401, "wrong token");
      response.setHeader("set-cookie", `${this.cookie()}=yes; HttpOnly; SameSite=Strict; Path=/`);
      return json(200, { key: "the-key" });
    }
    const isIn = request.headers.cookie?.includes(`${this.cookie()}=yes`) && request.headers["x-ferrotunnel-key"] === "the-key";
    if (this.token !== null && !isIn) return problem(401, "no token");
    const acted = (detail: string): void => {
      this.done.push(`${path.slice(1)}`);
      json(200, { done: true, detail });
    };
    const parts = path.split("/").slice(1).map(decodeURIComponent);
    if (request.method === "POST") {
      if (path === "/logout") return void response.writeHead(204, { "set-cookie": `${this.cookie()}=; Max-Age=0; Path=/` }).end();
      if (request.headers["x-ferrotunnel-action"] === undefined && request.headers["content-type"] !== "application/json") {
        return problem(400, "not an action");
      }
      if (path === "/reload") return problem(409, "line 3: `max-tunels` is not a setting");
      if (path === "/drain") return acted("draining");
      if (parts[0] === "requests" && parts[2] === "replay") return this.replay(parts[1]!, body, json, problem);
      if (parts[2] === "close") {
        this.sessions = this.sessions.filter((session) => session.id !== parts[1]);
        acted("closed");
        return this.tell();
      }
      const tunnel = this.tunnels.find((one) => one.id === parts[1]);
      if (tunnel && (parts[2] === "pause" || parts[2] === "resume")) {
        tunnel.state = parts[2] === "pause" ? "paused" : "up";
        acted(parts[2]);
        return this.tell();
      }
      if (parts[2] === "revoke") {
        for (const principal of this.principals) if (principal.name === parts[1]) principal.disabled = true;
        return acted("revoked");
      }
      return problem(404, "no such thing");
    }
    if (request.method === "DELETE" && path === "/requests") {
      this.requests = [];
      response.writeHead(204).end();
      return this.emit("requests_cleared", {});
    }
    switch (path) {
      case "/status":
        return json(200, this.status);
      case "/sessions":
        return json(200, { sessions: this.sessions });
      case "/tunnels":
        return json(200, { tunnels: this.tunnels });
      case "/principals":
        return this.status.side === "server" ? json(200, { principals: this.principals }) : problem(404, "not at a client");
      case "/limits":
        return this.status.side === "server" ? json(200, { limits: this.limits }) : problem(404, "not at a client");
      case "/traffic":
        return json(200, { step_seconds: 1, samples: this.samples });
      case "/requests": {
        const limit = Number(url.searchParams.get("limit") ?? 100);
        const before = url.searchParams.get("before");
        const end = before === null ? this.requests.length : this.requests.findIndex((one) => one.id === before);
        const q = (url.searchParams.get("q") ?? "").toLowerCase();
        const has = (one: RequestDetail): boolean => q === "" || JSON.stringify(masked(one)).toLowerCase().includes(q);
        const newest = this.requests.slice(0, end).filter(has).slice(-limit).reverse().map(summary);
        return json(200, { requests: newest, total: this.requests.length, search_cut: false, bytes: 1_250_000, budget_bytes: 67_108_864 });
      }
      case "/events":
        response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
        this.listeners.add(response);
        response.on("close", () => this.listeners.delete(response));
        for (const [event, data] of [
          ["status", this.status],
          ["sessions", { sessions: this.sessions }],
          ["tunnels", { tunnels: this.tunnels }],
        ] as const) {
          response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
        }
        return;
    }
    if (parts[0] === "requests" && parts.length === 2) {
      const found = this.requests.find((one) => one.id === parts[1]);
      if (!found) return problem(404, "no such request");
      return json(200, url.searchParams.get("reveal") === "true" ? found : masked(found));
    }
    problem(404, "no such path");
  }

  private cookie(): string {
    return `ferrotunnel_admin_${this.port}`;
  }

  private replay(id: string, body: string, json: (status: number, value: unknown) => void, problem: (status: number, detail: string) => void): void {
    const original = this.requests.find((one) => one.id === id);
    if (!original) return problem(404, "no such request");
    const changes = JSON.parse(body === "" ? "{}" : body) as Replay;
    this.replays.push(changes);
    const sent = changes.body_text === undefined ? original.request.body : text(changes.body_text);
    const made = this.request({
      ...original,
      id: `r${this.next++}`,
      at: Date.now(),
      method: changes.method ?? original.method,
      path: changes.path ?? original.path,
      replay_of: original.id,
      request: { headers: changes.headers ?? original.request.headers, trailers: [], body: sent },
    });
    json(202, { id: made.id });
  }
}

export function summary(full: RequestDetail): RequestSummary {
  const { request: _a, response: _b, interim: _c, timing: _d, grpc: _e, messages: _f, messages_lost: _g, ...rest } = full;
  return rest;
}

function masked(full: RequestDetail): RequestDetail {
  const mask = (headers: [string, string][]): [string, string][] =>
    headers.map(([name, value]) => [name, SECRET.test(name) ? "••••" : value]);
  return {
    ...full,
    request: { ...full.request, headers: mask(full.request.headers) },
    response: full.response && { ...full.response, headers: mask(full.response.headers) },
  };
}
