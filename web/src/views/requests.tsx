// The inspector: a list that requests appear in as they come, and beside it what one of them was.
import { signal, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api, type RequestSummary } from "../api.ts";
import { EVERYTHING, compile, isEverything, texts, type Filter } from "../lib/filter.ts";
import { bytes, clock, count, duration, shorten, statusClass, visible } from "../lib/format.ts";
import { ask } from "../notices.ts";
import { go, requestHref } from "../route.ts";
import { found, lookFor, searchCut } from "../search.ts";
import { kept, requests, requestsVersion, status, tunnels } from "../store.ts";
import { download, save } from "../save.ts";
import { Button, Dialog, Empty, Menu, useWide } from "../ui/bits.tsx";
import { Icon } from "../ui/icon.tsx";
import { VirtualList } from "../ui/virtual.tsx";
import { Detail } from "./detail.tsx";

// These outlive the page, so that one comes back to the list as one left it.
const filter = signal<Filter>(EVERYTHING);
/** While the list stands still: what it showed when it was stopped. */
const frozen = signal<RequestSummary[] | null>(null);
const cursor = signal<string | null>(null);

export function Requests({ id }: { id: string | null }) {
  const beside = useWide(1000);
  const roomy = useWide(560);
  const help = useSignal(false);
  const search = useRef<HTMLInputElement>(null);
  const list = useComputed(() => {
    void requestsVersion.value;
    const test = compile(filter.value, (text) => found.value.get(text));
    return frozen.value === null ? requests.newest(test) : frozen.value.filter(test);
  });
  useSignalEffect(() => {
    void requestsVersion.value;
    lookFor(texts(filter.value.text));
  });
  const shown = list.value;
  if (id !== null) cursor.value = id;

  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open], [role=menu]")) return;
      const target = event.target as HTMLElement;
      const typing = target.matches("input, textarea, select, [contenteditable]");
      if (typing) {
        if (event.key === "Escape" && target === search.current) {
          if (filter.value.text !== "") filter.value = { ...filter.value, text: "" };
          else document.getElementById("request-list")?.focus();
        }
        if (event.key === "Enter" && target === search.current) document.getElementById("request-list")?.focus();
        return;
      }
      const move = (by: number): void => {
        const all = list.value;
        if (all.length === 0) return;
        const at = all.findIndex((request) => request.id === cursor.value);
        const next = all[Math.max(0, Math.min(all.length - 1, at + by))]!;
        cursor.value = next.id;
        if (id !== null) go(requestHref(next.id), "replace");
      };
      const inList = target.id === "request-list" || target === document.body || target.id === "main";
      switch (event.key) {
        case "j":
          move(1);
          break;
        case "k":
          move(-1);
          break;
        case "ArrowDown":
        case "ArrowUp":
        case "PageDown":
        case "PageUp":
        case "Home":
        case "End":
          if (!inList) return;
          move({ ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[event.key]);
          break;
        case "Enter":
          if (!inList || cursor.value === null) return;
          go(requestHref(cursor.value));
          break;
        case "/":
          search.current?.focus();
          search.current?.select();
          break;
        case "Escape":
          if (id !== null) go("#/requests");
          else if (!isEverything(filter.value)) filter.value = EVERYTHING;
          else return;
          document.getElementById("request-list")?.focus();
          break;
        case "?":
          help.value = true;
          break;
        default:
          return;
      }
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [id, list]);

  if (status.value?.inspecting === false) return <Off />;
  const showList = beside || id === null;
  return (
    <div class={`inspector${id !== null && beside ? " split" : ""}`}>
      {showList && (
        <section class="list-side" aria-label="Requests">
          <Toolbar search={search} shown={shown.length} onHelp={() => (help.value = true)} />
          {shown.length === 0 ? (
            <NoRequests />
          ) : (
            <VirtualList
              id="request-list"
              label="Requests, newest first"
              items={shown}
              height={roomy && id === null ? 36 : 56}
              selected={cursor.value}
              onSelect={(request) => go(requestHref(request))}
              row={(request) => <Row request={request} />}
              rowClass={roomy && id === null ? "row-line" : "row-card"}
            />
          )}
        </section>
      )}
      {id !== null && (
        <section class="detail-side" aria-label="Request">
          <Detail key={id} id={id} onBack={() => go("#/requests")} />
        </section>
      )}
      {help.value && <Help onClose={() => (help.value = false)} />}
    </div>
  );
}

function Row({ request }: { request: RequestSummary }) {
  return (
    <>
      <span class={`status ${statusClass(request.status, request.state)}`}>
        {request.status ?? (request.state === "failed" ? "ERR" : "···")}
      </span>
      <span class="method">{shorten(visible(request.method), 12)}</span>
      <span class="path">
        {/* Where all of it is not seen, the title has it. */}
        <span class="path-text" title={shorten(visible(request.path), 500)}>
          {shorten(visible(request.path), 300)}
        </span>
        {request.kind !== "http" && <span class="badge">{request.kind}</span>}
        {request.replay_of !== null && <span class="badge accent">replay</span>}
      </span>
      <span class="row-host">{shorten(visible(request.host), 80)}</span>
      <span class="row-size">{bytes(request.response_bytes)}</span>
      <span class="row-time">{request.state === "open" ? <span class="open-dot">open</span> : duration(request.duration_seconds)}</span>
      <span class="row-at">{clock(request.at)}</span>
    </>
  );
}

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT"];
const STATUSES = [
  ["2xx", "2xx"],
  ["3xx", "3xx"],
  ["4xx", "4xx"],
  ["5xx", "5xx"],
  ["error", "any error"],
  ["failed", "no answer"],
  ["open", "still open"],
] as const;
const DURATIONS = [
  [0.1, "over 100 ms"],
  [0.5, "over 500 ms"],
  [1, "over 1 s"],
  [5, "over 5 s"],
] as const;

function Toolbar({ search, shown, onHelp }: { search: { current: HTMLInputElement | null }; shown: number; onHelp: () => void }) {
  const now = filter.value;
  const set = (change: Partial<Filter>): void => {
    filter.value = { ...now, ...change };
  };
  const stopped = frozen.value !== null;
  return (
    <div class="toolbar">
      <div class="search">
        <Icon name="search" />
        <input
          ref={search}
          class="input"
          type="search"
          placeholder="Filter: /api status:5xx >200ms -health"
          aria-label="Filter requests"
          spellcheck={false}
          autocomplete="off"
          value={now.text}
          onInput={(event) => set({ text: event.currentTarget.value })}
        />
        <kbd aria-hidden="true">/</kbd>
      </div>
      <span class="toolbar-end">
        <Button
          icon={stopped ? "play" : "pause"}
          label={stopped ? "Go on" : "Hold the list"}
          bare
          kind="quiet"
          pressed={stopped}
          onClick={() => {
            frozen.value = stopped ? null : requests.newest(() => true);
          }}
        />
        <Menu
          label="More about the requests"
          items={[
            { label: "Export as HAR", run: () => download(api.har(""), "requests.har") },
            {
              label: "Export as HAR with secrets…",
              run: () =>
                ask({
                  title: "Export with secrets?",
                  text: "The file has tokens, cookies and passwords as they were sent. Whoever has it can use them.",
                  action: "Export",
                  danger: true,
                  run: async () => save(await api.har("?reveal=true"), "requests-with-secrets.har"),
                }),
            },
            {
              label: "Clear…",
              danger: true,
              run: () =>
                ask({
                  title: "Clear the list?",
                  text: "Every request that is kept is forgotten, for everybody who looks. Traffic goes on.",
                  action: "Clear",
                  danger: true,
                  run: async () => {
                    await api.clearRequests();
                    frozen.value = null;
                  },
                }),
            },
          ]}
        />
        <Button icon="help" label="Keys and words of the filter" bare kind="quiet" onClick={onHelp} />
      </span>
      <div class="toolbar-row">
        <select class="input small" aria-label="Method" value={now.method} onChange={(event) => set({ method: event.currentTarget.value })}>
          <option value="">Method</option>
          {METHODS.map((method) => (
            <option key={method} value={method}>
              {method}
            </option>
          ))}
        </select>
        <select class="input small" aria-label="Status" value={now.status} onChange={(event) => set({ status: event.currentTarget.value })}>
          <option value="">Status</option>
          {STATUSES.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
        <select
          class="input small"
          aria-label="Duration"
          value={String(now.slowerThan)}
          onChange={(event) => set({ slowerThan: Number(event.currentTarget.value) })}
        >
          <option value="0">Duration</option>
          {DURATIONS.map(([value, text]) => (
            <option key={value} value={String(value)}>
              {text}
            </option>
          ))}
        </select>
        <span class="count" role="status" title={keptTitle()}>
          {shown === requests.size ? count(shown) : `${count(shown)} of ${count(requests.size)}`}
          {searchCut.value && ", not all bodies searched"}
        </span>
      </div>
    </div>
  );
}

function keptTitle(): string {
  const now = kept.value;
  return now === null ? "" : `${bytes(now.bytes)} of ${bytes(now.budget_bytes)} were in use when this page was opened; the oldest go first`;
}

function NoRequests() {
  if (requests.size > 0) {
    return (
      <Empty title="No request is like that">
        <p>{count(requests.size)} are kept, and the filter lets none of them through.</p>
        <Button label="Show all" kind="main" onClick={() => (filter.value = EVERYTHING)} />
      </Empty>
    );
  }
  const url = (tunnels.value ?? []).flatMap((tunnel) => tunnel.public_urls).find((text) => text.startsWith("http"));
  return (
    <Empty title="No requests yet">
      <p>They appear here as they come. Send the first one:</p>
      <pre class="command">curl {url ?? "http://YOUR.TUNNEL/"}</pre>
    </Empty>
  );
}

function Off() {
  return (
    <div class="page">
      <div class="card">
        <Empty title="Requests are not inspected here">
          {status.value?.side === "server" ? (
            <p>The client of a tunnel sees its requests. Open the dashboard there.</p>
          ) : (
            <p>
              This client was started with <code>--no-inspect</code>, or none of its tunnels carries HTTP.
            </p>
          )}
        </Empty>
      </div>
    </div>
  );
}

const KEYS = [
  ["j / k", "next, previous request"],
  ["enter", "open it"],
  ["esc", "close it; then clear the filter"],
  ["/", "to the filter"],
  ["r", "replay as it was"],
  ["e", "edit and replay"],
  ["c", "copy as curl"],
  ["?", "this help"],
] as const;
const WORDS = [
  ["users", "has it anywhere: path, host, headers, bodies, messages, visitor, id or error"],
  ["status:4xx", "also 404, error, open, failed"],
  ["method:post", "that method"],
  ["path:/api", "has it in the path; also host: tunnel: type: visitor: kind:"],
  [">200ms", "took longer; also <1s"],
  ["is:replay", "also is:open, is:done, is:failed"],
  ["-health", "not that; works with each of them"],
] as const;

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys and filter" onClose={onClose} wide>
      <div class="help">
        <dl>
          {KEYS.map(([key, text]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
        <dl>
          {WORDS.map(([key, text]) => (
            <div key={key}>
              <dt>
                <code>{key}</code>
              </dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
      </div>
    </Dialog>
  );
}

