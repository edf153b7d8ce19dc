// Two requests beside each other: an original and its replay, or any two.
import { useMemo, useState } from "preact/hooks";
import type { Body, Header, RequestDetail } from "../api.ts";
import { content } from "../lib/content.ts";
import { headers as diffHeaders, lines as diffLines, type Pair } from "../lib/diff.ts";
import { bytes, clock, count, duration, statusClass, visible } from "../lib/format.ts";
import { rows } from "../lib/hex.ts";
import { pretty } from "../lib/json.ts";
import { requestHref } from "../route.ts";
import { Button, Choice, Empty } from "../ui/bits.tsx";
import { replayUnchanged, useRequest } from "./detail.tsx";
import { Editor } from "./editor.tsx";

const TABS = [
  ["response", "Responses"],
  ["request", "Requests"],
] as const;

export function Compare({ left, right }: { left: string; right: string }) {
  const [tab, setTab] = useState<"response" | "request">("response");
  const [only, setOnly] = useState(false);
  const [editing, setEditing] = useState(false);
  const [reveal, setReveal] = useState(false);
  const a = useRequest(left, reveal);
  const b = useRequest(right, reveal);
  const fault = a.request === null && a.fault !== null ? a.fault : b.request === null ? b.fault : null;
  if (fault !== null) {
    return (
      <Empty title="These cannot be compared">
        <p>{fault}</p>
        <a class="button plain" href="#/requests">
          To the list
        </a>
      </Empty>
    );
  }
  if (a.request === null || b.request === null) return <p class="loading">Loading…</p>;
  const replay = b.request.replay_of === left;
  return (
    <section class="compare" aria-labelledby="compare">
      <div class="section-head">
        <h1 id="compare">{replay ? "Original and replay" : "Two requests"}</h1>
        {replay && (
          <div class="detail-actions">
            <Button icon="replay" label="Replay again" kind="main" onClick={() => void replayUnchanged(left)} />
            <Button icon="edit" label="Edit" onClick={() => setEditing(true)} />
          </div>
        )}
      </div>
      <div class="sides">
        <Side name={replay ? "Original" : "Left"} request={a.request} />
        <Side name={replay ? "Replay" : "Right"} request={b.request} />
      </div>
      <div class="detail-tabs">
        <Choice label="What to compare" value={tab} options={TABS} onChange={setTab} />
        <label class="check">
          <input type="checkbox" checked={only} onChange={(event) => setOnly(event.currentTarget.checked)} /> Differences only
        </label>
        <Button icon="eye" label={reveal ? "Hide secrets" : "Show secrets"} kind="quiet" pressed={reveal} onClick={() => setReveal(!reveal)} />
      </div>
      {tab === "request" ? (
        <Parts key="request" a={a.request.request} b={b.request.request} only={only} />
      ) : (
        <Parts key="response" a={a.request.response} b={b.request.response} only={only} waiting={b.request.state === "open"} />
      )}
      {editing && <Editor id={right} onClose={() => setEditing(false)} />}
    </section>
  );
}

function Side({ name, request }: { name: string; request: RequestDetail }) {
  return (
    <a class="card side-card" href={requestHref(request.id)}>
      <span class="side-name">{name}</span>
      <span class="side-line">
        <span class={`status ${statusClass(request.status, request.state)}`}>
          {request.status ?? (request.state === "failed" ? "ERR" : "···")}
        </span>
        <span class="method">{visible(request.method)}</span>
        <span class="side-path">{visible(request.path)}</span>
      </span>
      <span class="muted">
        {request.state === "open" ? "still open" : duration(request.duration_seconds)} · {bytes(request.response_bytes)} · {clock(request.at)}
      </span>
      {request.error !== null && <span class="fault">{visible(request.error)}</span>}
    </a>
  );
}

type Half = { headers: Header[]; trailers: Header[]; body: Body } | null;

function Parts({ a, b, only, waiting }: { a: Half; b: Half; only: boolean; waiting?: boolean }) {
  const heads = useMemo(() => diffHeaders(a?.headers ?? [], b?.headers ?? []), [a, b]);
  const left = useMemo(() => readable(a), [a]);
  const right = useMemo(() => readable(b), [b]);
  const body = useMemo(() => diffLines(left, right), [left, right]);
  if (a === null && b === null) return <Empty title="Neither has an answer" />;
  if (b === null && waiting) return <Empty title="The answer is on its way" />;
  const changedHeads = heads.filter((pair) => !pair.same).length;
  const changedLines = body.filter((pair) => !pair.same).length;
  return (
    <>
      <h2 class="part">
        Headers <span class="muted">{changedHeads === 0 ? "the same" : `${count(changedHeads)} differ`}</span>
      </h2>
      <Table
        label="Headers"
        pairs={heads.map(({ left: l, right: r, same }) => ({ left: line(l), right: line(r), same }))}
        only={only}
        wrap
      />
      <h2 class="part">
        Body <span class="muted">{left === "" && right === "" ? "none" : changedLines === 0 ? "the same" : `${count(changedLines)} lines differ`}</span>
      </h2>
      {(left !== "" || right !== "") && <Table label="Body" pairs={body} only={only} />}
    </>
  );
}

function line(header: Header | null): string | null {
  return header === null ? null : `${header[0]}: ${header[1]}`;
}

/** A body as lines: JSON set out, text as it is, all else in hexadecimal. */
function readable(half: Half): string {
  if (half === null || half.body.captured === 0) return "";
  const read = content(half.body, half.headers);
  if (read.tree !== null) return pretty(read.tree);
  if (read.text !== null) return read.text.replaceAll("\r\n", "\n").replace(/\n$/, "");
  return rows(read.bytes, 512)
    .map((row) => `${row.offset}  ${row.hex}  ${row.text}`)
    .join("\n");
}

/** Rows at once; a body of many short lines has thousands. */
const PAGE = 400;

function Table({ label, pairs, only, wrap }: { label: string; pairs: Pair<string>[]; only: boolean; wrap?: boolean }) {
  const [most, setMost] = useState(PAGE);
  const shown = only ? pairs.filter((pair) => !pair.same) : pairs;
  if (shown.length === 0) return <p class="muted none">{only ? "no differences" : "none"}</p>;
  return (
    <>
      <div class="block diff" tabIndex={0} role="region" aria-label={label}>
        <table class={wrap ? "wrap" : ""}>
          <thead class="hidden">
            <tr>
              <th scope="col">left</th>
              <th scope="col">right</th>
            </tr>
          </thead>
          <tbody>
            {shown.slice(0, most).map((pair, at) => (
              <tr key={at} class={pair.same ? "same" : "differs"}>
                <Cell text={pair.left} mark="−" meaning="left only or different: " kind="gone" same={pair.same} />
                <Cell text={pair.right} mark="+" meaning="right only or different: " kind="come" same={pair.same} />
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown.length > most && <Button label={`Show more (${count(shown.length - most)} lines)`} onClick={() => setMost(most * 5)} />}
    </>
  );
}

function Cell({ text, mark, meaning, kind, same }: { text: string | null; mark: string; meaning: string; kind: string; same: boolean }) {
  if (text === null) return <td class="absent" />;
  return (
    <td class={same ? "" : kind}>
      {!same && (
        <>
          <span class="diff-mark" aria-hidden="true">
            {mark}
          </span>
          <span class="hidden">{meaning}</span>
        </>
      )}
      {visible(text)}
    </td>
  );
}
