// One request: what was asked, what came back, and where its time went.
import { useComputed } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, api, type Header, type RequestDetail } from "../api.ts";
import { curl, hasMasked, isMasked } from "../lib/curl.ts";
import { bytes, count, dateTime, duration, statusClass, visible } from "../lib/format.ts";
import { parts, total } from "../lib/timing.ts";
import { attempt, copy, notify } from "../notices.ts";
import { compareHref, go, requestHref } from "../route.ts";
import { requests, requestsVersion, tunnels } from "../store.ts";
import { BodyView } from "../ui/body.tsx";
import { Button, Choice, Empty, Menu } from "../ui/bits.tsx";
import { Messages } from "../ui/messages.tsx";
import { Editor } from "./editor.tsx";
import { Picker } from "./picker.tsx";

/** A request as it is now: read again when the list says that more has become of it. */
export function useRequest(id: string, reveal: boolean): { request: RequestDetail | null; fault: string | null } {
  const [request, setRequest] = useState<RequestDetail | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const [turn, setTurn] = useState(0);
  const last = useRef("");
  const change = useComputed(() => {
    void requestsVersion.value;
    const now = requests.get(id);
    return now === undefined ? "" : `${now.state} ${now.status} ${now.response_bytes} ${now.request_bytes}`;
  });
  const now = change.value;
  useEffect(() => {
    let current = true;
    // Long ones change many times a second; twice is enough to look at.
    const wait = last.current === "" || !now.startsWith("open") ? 0 : 500;
    const timer = setTimeout(() => {
      api
        .request(id, reveal)
        .then((read) => {
          if (!current) return;
          last.current = now;
          setRequest(read);
          setFault(null);
          // The list may not tell of each message.
          if (read.state === "open") setTimeout(() => current && setTurn((n) => n + 1), 1500);
        })
        .catch((error: unknown) => {
          if (!current) return;
          const gone = error instanceof ApiError && error.status === 404;
          setFault(gone ? "It is no longer kept: newer requests have taken its place." : error instanceof Error ? error.message : String(error));
        });
    }, wait);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [id, reveal, now, turn]);
  return { request, fault };
}

export function publicOrigin(request: RequestDetail): string {
  const known = (tunnels.value ?? [])
    .flatMap((tunnel) => tunnel.public_urls)
    .find((url) => {
      try {
        return new URL(url).host === request.host;
      } catch {
        return false;
      }
    });
  return known === undefined ? `http://${request.host}` : new URL(known).origin;
}

type Tab = "response" | "request" | "messages";

export function Detail({ id, onBack }: { id: string; onBack: () => void }) {
  const [reveal, setReveal] = useState(false);
  const [tab, setTab] = useState<Tab | null>(null);
  const [editing, setEditing] = useState(false);
  const [picking, setPicking] = useState(false);
  const { request, fault } = useRequest(id, reveal);

  const asCurl = (): void => {
    if (!request) return;
    if (hasMasked(request)) notify("failed", "Secrets in it are masked: show them first to have a command that works.");
    void copy(curl(request, publicOrigin(request)), "curl command");
  };
  const replay = (): void => void replayUnchanged(id);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open], [role=menu]")) return;
      if ((event.target as HTMLElement).matches("input, textarea, select")) return;
      if (event.key === "r") replay();
      else if (event.key === "c") asCurl();
      else if (event.key === "e") setEditing(true);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  if (fault !== null && request === null) {
    return (
      <Empty title="This request cannot be shown">
        <p>{fault}</p>
        <Button icon="back" label="To the list" onClick={onBack} />
      </Empty>
    );
  }
  if (request === null) return <p class="loading">Loading…</p>;
  const hasMessages = request.kind !== "http" || request.messages.length > 0;
  const shown = tab ?? (hasMessages ? "messages" : "response");
  const tabs: (readonly [Tab, string])[] = [
    ["response", "Response"],
    ["request", "Request"],
  ];
  if (hasMessages) tabs.unshift(["messages", `${request.kind === "sse" ? "Events" : "Messages"} ${count(request.messages.length + request.messages_lost)}`]);
  return (
    <article class="detail">
      <header class="detail-head">
        <div class="detail-bar">
          <Button icon="back" label="Back to the list" bare kind="quiet" onClick={onBack} />
          <div class="detail-actions">
            <Button icon="replay" label="Replay" kind="main" onClick={replay} />
            <Button icon="edit" label="Edit" onClick={() => setEditing(true)} />
            <Button icon="compare" label="Compare" onClick={() => setPicking(true)} />
            <Button icon="terminal" label="curl" onClick={asCurl} />
            <Menu
              label="More about this request"
              items={[
                { label: "Export as HAR", href: `/api/v1/requests.har?id=${encodeURIComponent(id)}`, download: `${id}.har` },
                ...(request.replay_of === null
                  ? []
                  : [{ label: "Compare with the original", run: () => go(compareHref(request.replay_of!, id)) }]),
                { label: "Copy the address", run: () => void copy(publicOrigin(request) + request.path, "address") },
              ]}
            />
          </div>
        </div>
        <h2 class="detail-title">
          <span class={`status big ${statusClass(request.status, request.state)}`}>
            {request.status ?? (request.state === "failed" ? "ERR" : "···")}
          </span>
          <span class="method">{visible(request.method)}</span>
          <span class="detail-path" tabIndex={0}>{visible(request.path)}</span>
        </h2>
        <Facts request={request} />
        {request.error !== null && <p class="fault">{visible(request.error)}</p>}
        {request.grpc !== null && <Grpc grpc={request.grpc} />}
      </header>
      <Waterfall request={request} />
      <div class="detail-tabs">
        <Choice label="What to show" value={shown} options={tabs} onChange={setTab} />
        <Button icon="eye" label={reveal ? "Hide secrets" : "Show secrets"} kind="quiet" pressed={reveal} onClick={() => setReveal(!reveal)} />
      </div>
      {shown === "messages" && <Messages request={request} />}
      {shown === "request" && (
        <>
          <Headers title="Headers" headers={request.request.headers} />
          <Headers title="Trailers" headers={request.request.trailers} quiet />
          <h3 class="part">Body</h3>
          <BodyView request={id} which="request" body={request.request.body} headers={request.request.headers} />
        </>
      )}
      {shown === "response" &&
        (request.response === null ? (
          <Empty title={request.state === "open" ? "No answer yet" : "There was no answer"}>
            <p>{request.state === "open" ? "It is shown as soon as it comes." : (request.error ?? "")}</p>
          </Empty>
        ) : (
          <>
            {request.interim.map((interim, at) => (
              <Headers key={at} title={`Before it: ${interim.status}`} headers={interim.headers} />
            ))}
            <Headers title="Headers" headers={request.response.headers} />
            <Headers title="Trailers" headers={request.response.trailers} quiet />
            {request.kind !== "websocket" && (
              <>
                <h3 class="part">Body</h3>
                <BodyView request={id} which="response" body={request.response.body} headers={request.response.headers} />
              </>
            )}
          </>
        ))}
      {editing && <Editor id={id} onClose={() => setEditing(false)} />}
      {picking && <Picker id={id} onClose={() => setPicking(false)} />}
    </article>
  );
}

/** Sends it again and shows both beside each other. */
export async function replayUnchanged(id: string): Promise<void> {
  await attempt(async () => {
    const made = await api.replay(id, {});
    go(compareHref(id, made));
  }, "Replayed");
}

function Facts({ request }: { request: RequestDetail }) {
  const facts: [string, string | null][] = [
    ["Host", request.host],
    ["Tunnel", request.tunnel],
    ["At", dateTime(request.at)],
    ["Took", request.state === "open" ? "still open" : duration(request.duration_seconds)],
    ["Sent", bytes(request.request_bytes)],
    ["Received", bytes(request.response_bytes)],
    ["Visitor", request.visitor],
    ["HTTP", request.version],
    ["Request id", request.request_id],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) =>
        value === null ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{visible(value)}</dd>
          </div>
        ),
      )}
      {request.replay_of !== null && (
        <div>
          <dt>Replay of</dt>
          <dd>
            <a href={requestHref(request.replay_of)}>{visible(request.replay_of)}</a>
          </dd>
        </div>
      )}
    </dl>
  );
}

function Grpc({ grpc }: { grpc: NonNullable<RequestDetail["grpc"]> }) {
  const ok = grpc.status === 0;
  return (
    <p class={ok ? "grpc ok-text" : "grpc bad-text"}>
      gRPC {grpc.status === null ? "without a status" : `${grpc.status} ${GRPC[grpc.status] ?? ""}`}
      {grpc.message !== null && grpc.message !== "" && `: ${visible(grpc.message)}`}
    </p>
  );
}

// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
const GRPC = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
  "UNAUTHENTICATED",
];

function Waterfall({ request }: { request: RequestDetail }) {
  const all = parts(request);
  const whole = total(request);
  if (all.length === 0 || whole <= 0) return null;
  return (
    <section class="waterfall" aria-label="Timing">
      {all.map((part) => (
        <div key={part.name} class="fall" title={part.meaning}>
          <span class="fall-name">{part.name}</span>
          <span class="fall-track" aria-hidden="true">
            <span
              class={`fall-bar ${part.name}`}
              style={{ left: `${(part.start / whole) * 100}%`, width: `${Math.max(0.4, (part.seconds / whole) * 100)}%` }}
            />
          </span>
          <span class="fall-time">{duration(part.seconds)}</span>
        </div>
      ))}
    </section>
  );
}

export function Headers({ title, headers, quiet }: { title: string; headers: Header[]; quiet?: boolean }) {
  if (quiet && headers.length === 0) return null;
  return (
    <>
      <h3 class="part">
        {title} <span class="muted">{headers.length}</span>
      </h3>
      {headers.length === 0 ? (
        <p class="muted none">none</p>
      ) : (
        <dl class="pairs block">
          {headers.map(([name, value], at) => (
            <div key={at}>
              <dt>{visible(name)}</dt>
              <dd>{isMasked(value) ? <span class="masked">{visible(value)}</span> : <Long text={value} />}</dd>
            </div>
          ))}
        </dl>
      )}
    </>
  );
}

/** A header may be a megabyte. */
const MOST_VALUE = 2000;

function Long({ text }: { text: string }) {
  const [all, setAll] = useState(false);
  if (text.length <= MOST_VALUE || all) return <>{visible(text)}</>;
  return (
    <>
      {visible(text.slice(0, MOST_VALUE))}…{" "}
      <Button label={`Show all ${count(text.length)} characters`} kind="quiet" onClick={() => setAll(true)} />
    </>
  );
}
