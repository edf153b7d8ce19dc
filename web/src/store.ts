// What the page knows of the program, kept up to date by its events.
import { batch, signal } from "@preact/signals";
import {
  ApiError,
  api,
  onUnauthorised,
  type Limit,
  type Principal,
  type RequestSummary,
  type Sample,
  type Session,
  type Status,
  type Tunnel,
} from "./api.ts";
import { MOST_REQUESTS, Ring } from "./lib/ring.ts";

const TOKEN_KEY = "ferrotunnel-with-token";

export type Connection = "connecting" | "live" | "lost" | "login";

export const connection = signal<Connection>("connecting");
/** Why there is no connection, for people. */
export const trouble = signal<string | null>(null);
export const status = signal<Status | null>(null);
/** With when each began by our own clock: its age is told only when something else changes. */
export type DatedSession = Session & { since: number };
export const sessions = signal<DatedSession[] | null>(null);
export const tunnels = signal<Tunnel[] | null>(null);
export const principals = signal<Principal[] | null>(null);
export const limits = signal<Limit[] | null>(null);
export const samples = signal<Sample[]>([]);
export const requests = new Ring();
/** Grows when `requests` has changed, once a frame. */
export const requestsVersion = signal(0);
/** What the program says it keeps of requests; `null` where it inspects nothing. */
export const kept = signal<{ bytes: number; budget_bytes: number } | null>(null);
/** Whether a token was asked for, so that there is something to log out of. Kept, for the cookie outlives the page and shows itself to
    no script. */
export const withToken = signal(remembered());
/** The clock of the program, in milliseconds ahead of ours. */
export const ahead = signal(0);

/** The last ten minutes, as the program keeps them. */
const MOST_SAMPLES = 600;
/** Requests that are asked for at once: the first are seen soon, and the rest come behind them. */
const REQUESTS_AT_ONCE = 500;
/** What has no event of its own is asked for so often. */
const POLL_MILLISECONDS = 4000;
/** A program that was ended and started is back soon; one that is gone is not worth much asking. */
const RETRY_MILLISECONDS = [300, 700, 1500, 3000];
/** A stream of events that lasted so long was a good one. */
const STEADY_MILLISECONDS = 2000;

/** Requests that events told of since they are listened to; only what is told while the list is fetched matters. */
const heard = new Set<string>();
const MOST_HEARD = 5000;

/** A page that nobody looks at lets go of its connection after so long: a browser has six for each host. */
const IDLE_MILLISECONDS = 60_000;

let source: EventSource | null = null;
let retry: ReturnType<typeof setTimeout> | null = null;
let poll: ReturnType<typeof setInterval> | null = null;
let failures = 0;
let frame = 0;

export function connect(): void {
  onUnauthorised(() => {
    stop();
    withToken.value = true;
    remember();
    connection.value = "login";
  });
  let asleep = false;
  let idle: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(idle);
    if (document.hidden) {
      idle = setTimeout(() => {
        if (connection.value !== "live") return;
        asleep = true;
        stop();
      }, IDLE_MILLISECONDS);
    } else if (asleep || connection.value === "lost") {
      asleep = false;
      void begin();
    }
  });
  void begin();
}

/** Listens, and asks for what the events do not begin with. Also what follows a login. */
export async function begin(): Promise<void> {
  stop();
  try {
    const now = await api.status();
    take(now);
    // Before the rest is asked for, so that nothing falls in between.
    listen();
    const traffic = await optional(api.traffic());
    const last = traffic?.samples.at(-1);
    if (traffic && last) {
      ahead.value = last.at - Date.now();
      samples.value = [...traffic.samples, ...samples.value.filter(({ at }) => at > last.at)].slice(-MOST_SAMPLES);
    }
    if (now.inspecting) await loadRequests();
    await slow(now);
  } catch (error) {
    lost(error);
  }
}

/** What is kept: the newest at once, and then page by page what is older. */
async function loadRequests(): Promise<void> {
  const first = await optional(api.requests(REQUESTS_AT_ONCE));
  if (!first) return;
  kept.value = { bytes: first.bytes, budget_bytes: first.budget_bytes };
  // All that there is, so what else is known is gone, but for what has come since.
  if (first.requests.length >= first.total) {
    const there = new Set(first.requests.map(({ id }) => id));
    requests.retain(({ id }) => there.has(id) || heard.has(id));
  }
  for (const request of first.requests.slice().reverse()) requests.put(request);
  changed();
  // Where that fails the list is shorter, and the connection most likely gone.
  loadOlder(first.requests, first.total).catch(() => {});
}

async function loadOlder(page: RequestSummary[], total: number): Promise<void> {
  let got = page.length;
  while (page.length > 0 && got < Math.min(total, MOST_REQUESTS)) {
    const next = await api.requests(REQUESTS_AT_ONCE, page.at(-1)!.id);
    page = next.requests;
    total = next.total;
    got += page.length;
    requests.putOlder(page);
    changed();
  }
}

function dated(session: Session): DatedSession {
  return { ...session, since: Date.now() - session.age_seconds * 1000 };
}

/** What a side does not have it answers with 404, which is no fault. */
async function optional<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

async function slow(now: Status): Promise<void> {
  if (now.side !== "server") return;
  const [readPrincipals, readLimits] = await Promise.all([optional(api.principals()), optional(api.limits())]);
  batch(() => {
    principals.value = readPrincipals?.principals ?? null;
    limits.value = readLimits?.limits ?? null;
  });
}

function listen(): void {
  stop();
  const events = new EventSource("/api/v1/events");
  source = events;
  heard.clear();
  let openedAt = Number.POSITIVE_INFINITY;
  const on = <T>(name: string, take: (value: T) => void): void => {
    events.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data) as T));
  };
  on<Status>("status", take);
  on<{ sessions: Session[] }>("sessions", (value) => (sessions.value = value.sessions.map(dated)));
  on<{ tunnels: Tunnel[] }>("tunnels", (value) => (tunnels.value = value.tunnels));
  on<Sample>("sample", (sample) => {
    ahead.value = sample.at - Date.now();
    const before = samples.value.at(-1);
    if (before && before.at >= sample.at) return;
    samples.value = [...samples.value.slice(-(MOST_SAMPLES - 1)), sample];
  });
  on<RequestSummary>("request", (request) => {
    heard.add(request.id);
    if (heard.size > MOST_HEARD) heard.clear();
    requests.put(request);
    changed();
  });
  events.addEventListener("requests_cleared", () => {
    requests.clear();
    changed();
  });
  events.onopen = () => {
    openedAt = Date.now();
    batch(() => {
      trouble.value = null;
      connection.value = "live";
    });
  };
  // A browser's own retrying tells neither why nor when: each time we ask anew, from the status on.
  // At once, too: a stream of events that was merely cut off is nothing to tell of.
  events.onerror = () => {
    if (source !== events) return;
    if (Date.now() - openedAt < STEADY_MILLISECONDS) return lost(null);
    failures = 0;
    void begin();
  };
  poll = setInterval(() => {
    if (document.hidden || status.value === null) return;
    slow(status.value).catch(() => {});
  }, POLL_MILLISECONDS);
}

function take(now: Status): void {
  const before = status.value;
  status.value = now;
  // Another process answers: what was seen of the old one is gone.
  if (before && before.started_at !== now.started_at) {
    batch(() => {
      samples.value = [];
      kept.value = null;
    });
    requests.clear();
    changed();
  }
}

function lost(error: unknown): void {
  stop();
  if (connection.value === "login") return;
  batch(() => {
    connection.value = "lost";
    if (error !== null || trouble.value === null) {
      trouble.value = error instanceof Error ? error.message : "the connection was interrupted";
    }
  });
  const wait = RETRY_MILLISECONDS[Math.min(failures, RETRY_MILLISECONDS.length - 1)];
  failures += 1;
  retry = setTimeout(() => void begin(), wait);
}

function stop(): void {
  source?.close();
  source = null;
  if (retry !== null) clearTimeout(retry);
  retry = null;
  if (poll !== null) clearInterval(poll);
  poll = null;
}

function changed(): void {
  if (frame !== 0) return;
  // Where the page is not to be seen no frame comes; then a timer will do.
  const run = (): void => {
    frame = 0;
    requestsVersion.value += 1;
  };
  frame = document.hidden ? window.setTimeout(run, 500) : requestAnimationFrame(run);
}

function remembered(): boolean {
  try {
    return localStorage.getItem(TOKEN_KEY) !== null;
  } catch {
    return false;
  }
}

function remember(): void {
  try {
    localStorage.setItem(TOKEN_KEY, "1");
  } catch {
    // Logging out is offered until the page is closed.
  }
}
