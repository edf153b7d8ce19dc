// A body, shown as what it is. Whatever it holds is shown as text, or drawn from a blob; nothing of it is ever markup of this page.
import { useEffect, useMemo, useState } from "preact/hooks";
import { rawBody, type Body, type Header } from "../api.ts";
import { content, type Content, type View } from "../lib/content.ts";
import { bytes, count, visible } from "../lib/format.ts";
import { rows } from "../lib/hex.ts";
import { pretty, size, type Node } from "../lib/json.ts";
import { Choice, CopyButton, Button } from "./bits.tsx";

const NAMES: Record<View, string> = { tree: "JSON", form: "Form", image: "Image", text: "Text", hex: "Hex" };
/** So much text is laid out at once; more on demand. */
const MOST_TEXT = 100_000;
const MOST_ROWS = 512;

interface BodyProps {
  request: string;
  which: "request" | "response";
  body: Body;
  headers: Header[];
}

export function BodyView({ request, which, body, headers }: BodyProps) {
  const read = useMemo(() => content(body, headers), [body, headers]);
  const [chosen, setChosen] = useState<View | null>(null);
  if (body.size === 0) return <p class="muted none">no body</p>;
  const view = chosen !== null && read.views.includes(chosen) ? chosen : read.views[0]!;
  return (
    <div class="body">
      <div class="body-bar">
        <Choice label="How to show the body" value={view} options={read.views.map((name) => [name, NAMES[name]] as const)} onChange={setChosen} />
        <span class="muted body-facts">
          {bytes(body.size)}
          {read.type !== "" && ` · ${visible(read.type)}`}
          {body.encoding !== null && ` · ${visible(body.encoding)}`}
        </span>
        <span class="body-actions">
          {read.text !== null && <CopyButton text={read.tree !== null && view === "tree" ? pretty(read.tree) : read.text} what="body" />}
          <a class="button quiet" href={rawBody(request, which)} download={`${request}-${which}`}>
            Raw
          </a>
        </span>
      </div>
      {body.truncated && (
        <p class="hint">
          Only the first {bytes(body.captured)} of {bytes(body.size)} were kept. The traffic itself was complete.
        </p>
      )}
      <Shown view={view} read={read} />
    </div>
  );
}

function Shown({ view, read }: { view: View; read: Content }) {
  switch (view) {
    case "tree":
      return (
        <div class="block tree" tabIndex={0} role="region" aria-label="JSON">
          <Tree node={read.tree!} depth={0} />
        </div>
      );
    case "form":
      return (
        <div class="block">
          <dl class="pairs">
            {read.fields.map((field, at) => (
              <div key={at}>
                <dt>{visible(field.name)}</dt>
                <dd>
                  {visible(field.value)}
                  {field.note !== null && <span class="muted"> ({visible(field.note)})</span>}
                </dd>
              </div>
            ))}
          </dl>
        </div>
      );
    case "image":
      return <Picture read={read} />;
    case "text":
      return <Text text={read.text ?? ""} />;
    default:
      return <Hex data={read.bytes} />;
  }
}

export function Text({ text }: { text: string }) {
  const [all, setAll] = useState(false);
  const cut = !all && text.length > MOST_TEXT;
  return (
    <>
      <pre class="block text" tabIndex={0}>
        {visible(cut ? text.slice(0, MOST_TEXT) : text)}
      </pre>
      {cut && <Button label={`Show all ${count(text.length)} characters`} onClick={() => setAll(true)} />}
    </>
  );
}

function Hex({ data }: { data: Uint8Array }) {
  const [most, setMost] = useState(MOST_ROWS);
  const lines = useMemo(() => rows(data, most), [data, most]);
  return (
    <>
      <pre class="block hex" tabIndex={0}>
        {lines.map((line) => (
          <span key={line.offset} class="hex-line">
            <span class="muted">{line.offset}</span> {line.hex} <span class="hex-text">{line.text}</span>
            {"\n"}
          </span>
        ))}
      </pre>
      {data.length > most * 16 && <Button label={`Show more of ${bytes(data.length)}`} onClick={() => setMost(most * 4)} />}
    </>
  );
}

function Picture({ read }: { read: Content }) {
  const [url, setUrl] = useState<string | null>(null);
  const [facts, setFacts] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([read.bytes], { type: read.type }));
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [read]);
  return (
    <figure class="block picture">
      {url !== null && (
        <img
          src={url}
          alt="body of the message"
          onLoad={(event) => setFacts(`${event.currentTarget.naturalWidth} × ${event.currentTarget.naturalHeight}`)}
          onError={() => setFacts("this browser cannot draw it")}
        />
      )}
      <figcaption class="muted">{facts}</figcaption>
    </figure>
  );
}

/** Levels that are open at first, and how many members of one are shown at once. */
const OPEN_DEPTH = 2;
const MOST_MEMBERS = 100;

function Tree({ node, depth, name, last = true }: { node: Node; depth: number; name?: string; last?: boolean }) {
  const members = size(node);
  const [open, setOpen] = useState(depth < OPEN_DEPTH && (depth === 0 || members <= 30));
  const [most, setMost] = useState(MOST_MEMBERS);
  const key = name === undefined ? null : <span class="json-key">{visible(JSON.stringify(name))}: </span>;
  const comma = last ? "" : ",";
  if (node.kind !== "object" && node.kind !== "array") {
    return (
      <div class="json-line">
        {key}
        <span class={`json-${node.kind}`}>{visible(node.kind === "string" ? JSON.stringify(node.value) : node.raw)}</span>
        {comma}
      </div>
    );
  }
  const [start, end] = node.kind === "object" ? ["{", "}"] : ["[", "]"];
  if (members === 0) {
    return (
      <div class="json-line">
        {key}
        {start}
        {end}
        {comma}
      </div>
    );
  }
  const all: { key?: string; value: Node }[] = node.kind === "object" ? node.entries : node.items.map((value) => ({ value }));
  return (
    <div class="json-node">
      <button type="button" class="json-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        {key}
        {start}
        {!open && (
          <>
            <span class="muted">
              {" "}
              {count(members)} {node.kind === "object" ? (members === 1 ? "key" : "keys") : members === 1 ? "item" : "items"}{" "}
            </span>
            {end}
            {comma}
          </>
        )}
      </button>
      {open && (
        <>
          <div class="json-members">
            {all.slice(0, most).map((member, at) => (
              <Tree
                key={at}
                node={member.value}
                depth={depth + 1}
                last={at === members - 1}
                {...(member.key === undefined ? {} : { name: member.key })}
              />
            ))}
            {members > most && <Button label={`${count(members - most)} more`} kind="quiet" onClick={() => setMost(most + 1000)} />}
          </div>
          <div class="json-line">
            {end}
            {comma}
          </div>
        </>
      )}
    </div>
  );
}
