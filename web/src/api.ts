// What the admin interface answers, and how it is asked. The interface is that of the OpenAPI text at
// `/api/v1/openapi.json`; what is not known is `null`.

export interface Status {
  side: "server" | "client";
  version: string;
  phase: string;
  uptime_seconds: number;
  started_at: number;
  sessions: number;
  tunnels: number;
  streams: number;
  inspecting: boolean;
  build: { version: string; target: string; profile: string; rustc: string | null };
  config_file: string | null;
}

export interface Session {
  id: string;
  client: string | null;
  principal: string | null;
  address: string;
  software: string | null;
  state: "up" | "down" | "draining";
  age_seconds: number;
  round_trip_seconds: number | null;
  tunnels: number;
  streams: number;
  streams_opened: number;
  bytes_from_client: number;
  bytes_to_client: number;
  last_error: string | null;
}

export interface Tunnel {
  id: string;
  kind: string;
  name: string;
  hosts: string[];
  public_urls: string[];
  principal: string | null;
  local: string | null;
  group: string | null;
  sessions: string[];
  state: "up" | "away" | "paused" | "refused" | "connecting";
  health: "up" | "down" | null;
  visitors: number;
  streams_opened: number;
  bytes_in: number;
  bytes_out: number;
  /** `null` where nobody sees requests. */
  requests: { total: number; by_status: { status: string; count: number }[] } | null;
  round_trip_seconds: number | null;
  last_error: string | null;
}

export interface Principal {
  name: string;
  disabled: boolean;
  sessions: number;
  tunnels: number;
  streams: number;
  limits: Record<string, unknown>;
}

export interface Limit {
  name: string;
  value: number | null;
  unit: string | null;
  /** How often it was met; `null` where that is not counted. */
  hit: number | null;
}

export interface Sample {
  at: number;
  /** `null` where nobody sees requests. */
  requests: number | null;
  errors: number;
  bytes_in: number;
  bytes_out: number;
  streams: number;
  streams_opened: number;
  p50_seconds: number | null;
  p90_seconds: number | null;
  p99_seconds: number | null;
}

export interface RequestSummary {
  id: string;
  at: number;
  tunnel: string;
  method: string;
  path: string;
  host: string;
  version: string;
  status: number | null;
  state: "open" | "done" | "failed";
  duration_seconds: number | null;
  request_bytes: number;
  response_bytes: number;
  content_type: string | null;
  kind: "http" | "websocket" | "sse" | "grpc";
  replay_of: string | null;
  visitor: string | null;
  request_id: string | null;
  error: string | null;
}

export type Header = [name: string, value: string];

export interface Body {
  size: number;
  captured: number;
  truncated: boolean;
  encoding: string | null;
  text: string | null;
  base64: string | null;
}

export interface Message {
  at: number;
  from: "visitor" | "service";
  kind: "text" | "binary" | "close" | "ping" | "pong" | "event" | "grpc";
  size: number;
  text: string | null;
  base64: string | null;
  truncated: boolean;
}

export interface Timing {
  queue_seconds: number | null;
  connect_seconds: number | null;
  send_seconds: number | null;
  wait_seconds: number | null;
  receive_seconds: number | null;
}

export interface RequestDetail extends RequestSummary {
  request: { headers: Header[]; trailers: Header[]; body: Body };
  response: { status: number; reason: string | null; headers: Header[]; trailers: Header[]; body: Body } | null;
  interim: { status: number; headers: Header[] }[];
  timing: Timing;
  grpc: { status: number | null; message: string | null } | null;
  messages: Message[];
  messages_lost: number;
}

export interface Replay {
  method?: string;
  path?: string;
  headers?: Header[];
  body_text?: string;
  body_base64?: string;
}

/** An answer that was not a success, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** Called on every 401, wherever it comes from. */
let on401: () => void = () => {};
export function onUnauthorised(callback: () => void): void {
  on401 = callback;
}

/** What a login answers beside its cookie: a cookie is also sent to other ports of this host, and this is not. For this page until
    it is closed. */
const KEY = "ferrotunnel-key";
let key = ((): string | null => {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
})();

function keep(given: string | null): void {
  key = given;
  try {
    if (given === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, given);
  } catch {
    // Until the page is loaded again, then.
  }
}

async function call(method: string, path: string, body?: unknown, given: RequestInit = {}): Promise<Response> {
  // The header beside the content type is what tells our own page from a form on somebody else's.
  const headers: Record<string, string> = { accept: "application/json" };
  if (key !== null) headers["x-ferrotunnel-key"] = key;
  if (method !== "GET") headers["x-ferrotunnel-action"] = "1";
  if (body !== undefined) headers["content-type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      ...given,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, "no answer: the program may have ended, or the way to it is interrupted");
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/login") on401();
  throw new ApiError(response.status, await problem(response));
}

async function problem(response: Response): Promise<string> {
  try {
    const read = (await response.json()) as { title?: unknown; detail?: unknown; error?: unknown };
    for (const text of [read.detail, read.title, read.error]) {
      if (typeof text === "string" && text !== "") return text;
    }
  } catch {
    // Not JSON: the status alone has to do.
  }
  return `answered ${response.status}`;
}

/** Takes each server-sent event, until the stream ends. That one cannot be told headers is why it is no `EventSource`. */
async function listen(signal: AbortSignal, opened: () => void, take: (name: string, data: string) => void): Promise<void> {
  const { body } = await call("GET", "/events", undefined, { signal });
  if (body === null) return;
  opened();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    // What is there twice is looked through once: an event may come in many parts.
    const from = Math.max(0, text.length - 1);
    text += value;
    let begin = 0;
    for (let end = text.indexOf("\n\n", from); end !== -1; end = text.indexOf("\n\n", begin)) {
      let name = "message";
      const data: string[] = [];
      for (const line of text.slice(begin, end).split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      begin = end + 2;
      if (data.length > 0 && !signal.aborted) take(name, data.join("\n"));
    }
    text = text.slice(begin);
  }
}

async function read<T>(path: string): Promise<T> {
  return (await (await call("GET", path)).json()) as T;
}

async function act(path: string, body?: unknown): Promise<string> {
  const response = await call("POST", path, body ?? {});
  try {
    const { detail } = (await response.json()) as { detail?: string };
    return detail ?? "done";
  } catch {
    return "done";
  }
}

const id = encodeURIComponent;

export const api = {
  status: () => read<Status>("/status"),
  sessions: () => read<{ sessions: Session[] }>("/sessions"),
  tunnels: () => read<{ tunnels: Tunnel[] }>("/tunnels"),
  principals: () => read<{ principals: Principal[] }>("/principals"),
  limits: () => read<{ limits: Limit[] }>("/limits"),
  traffic: () => read<{ step_seconds: number; samples: Sample[] }>("/traffic"),
  /** The newest that have that text anywhere. */
  search: (text: string) =>
    read<{ requests: RequestSummary[]; search_cut: boolean }>(`/requests?limit=1000&q=${encodeURIComponent(text)}`),
  requests: (limit: number, before?: string) =>
    read<{ requests: RequestSummary[]; total: number; bytes: number; budget_bytes: number }>(
      `/requests?limit=${limit}${before === undefined ? "" : `&before=${id(before)}`}`,
    ),
  request: (request: string, reveal = false) =>
    read<RequestDetail>(`/requests/${id(request)}${reveal ? "?reveal=true" : ""}`),
  replay: async (request: string, changes: Replay) =>
    ((await (await call("POST", `/requests/${id(request)}/replay`, changes)).json()) as { id: string }).id,
  clearRequests: async () => void (await call("DELETE", "/requests")),
  har: async (query: string) => (await call("GET", `/requests.har${query}`)).blob(),
  body: async (request: string, which: "request" | "response") =>
    (await call("GET", `/requests/${id(request)}/body/${which}`)).blob(),
  listen,
  login: async (token: string) => keep(((await (await call("POST", "/login", { token })).json()) as { key: string }).key),
  logout: async () => {
    await call("POST", "/logout", {});
    keep(null);
  },
  drain: () => act("/drain"),
  reload: () => act("/reload"),
  closeSession: (session: string) => act(`/sessions/${id(session)}/close`),
  revoke: (principal: string) => act(`/principals/${id(principal)}/revoke`),
  pause: (tunnel: string) => act(`/tunnels/${id(tunnel)}/pause`),
  resume: (tunnel: string) => act(`/tunnels/${id(tunnel)}/resume`),
};
