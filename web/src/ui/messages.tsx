// What went to and fro within one request: frames of a WebSocket, events of a stream, messages of gRPC.
import { useMemo, useState } from "preact/hooks";
import type { Message, RequestDetail } from "../api.ts";
import { bytes, clock, count, shorten, visible } from "../lib/format.ts";
import { fromBase64, rows } from "../lib/hex.ts";
import { parse, pretty } from "../lib/json.ts";
import { Button, Choice, Empty } from "./bits.tsx";
import { Icon } from "./icon.tsx";

const PAGE = 200;
type From = "all" | Message["from"];
const FROM = [
  ["all", "Both ways"],
  ["visitor", "Visitor"],
  ["service", "Service"],
] as const;

export function Messages({ request }: { request: RequestDetail }) {
  const [text, setText] = useState("");
  const [from, setFrom] = useState<From>("all");
  const [most, setMost] = useState(PAGE);
  const found = useMemo(() => {
    const wanted = text.toLowerCase();
    return request.messages.filter(
      (message) => (from === "all" || message.from === from) && (wanted === "" || (message.text ?? "").toLowerCase().includes(wanted)),
    );
  }, [request, text, from]);
  if (request.messages.length === 0) {
    return (
      <Empty title="No messages yet">
        <p>{request.state === "open" ? "They are shown as they come." : "Nothing was said."}</p>
      </Empty>
    );
  }
  const newest = found.slice(-most).reverse();
  return (
    <section class="messages" aria-label="Messages">
      <div class="body-bar">
        <input
          class="input small"
          type="search"
          placeholder="Find in messages"
          aria-label="Find in messages"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        {request.kind !== "sse" && <Choice label="Whose messages" value={from} options={FROM} onChange={setFrom} />}
        <span class="muted body-facts">newest first</span>
      </div>
      {request.messages_lost > 0 && <p class="hint">{count(request.messages_lost)} older ones are no longer kept.</p>}
      <ol class="message-list block" reversed>
        {newest.map((message) => (
          <Row key={`${message.at} ${request.messages.indexOf(message) + request.messages_lost}`} message={message} start={request.at} />
        ))}
      </ol>
      {found.length > most && <Button label={`Show older (${count(found.length - most)})`} onClick={() => setMost(most + 1000)} />}
    </section>
  );
}

function Row({ message, start }: { message: Message; start: number }) {
  const [open, setOpen] = useState(false);
  const up = message.from === "visitor";
  const short = message.text ?? (message.base64 === null ? "" : rows(fromBase64(message.base64), 1).map((row) => row.hex.trim()).join(""));
  return (
    <li class={up ? "message up" : "message down"}>
      <button type="button" class="message-line" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class="message-arrow">
          <Icon name={up ? "up" : "down"} />
          <span class="hidden">{up ? "from the visitor" : "from the service"}</span>
        </span>
        <span class="message-kind">{message.kind}</span>
        <span class="message-text">{visible(shorten(short, 200).replace(/\s+/g, " "))}</span>
        <span class="message-size">{bytes(message.size)}</span>
        <span class="message-at" title={clock(message.at, true)}>
          +{((message.at - start) / 1000).toFixed(2)} s
        </span>
      </button>
      {open && <Whole message={message} />}
    </li>
  );
}

function Whole({ message }: { message: Message }) {
  const tree = message.text === null ? null : parse(message.text.replace(/^data: ?/gm, ""));
  const shown =
    message.text !== null
      ? tree !== null && tree.kind !== "string"
        ? pretty(tree)
        : message.text
      : message.base64 === null
        ? ""
        : rows(fromBase64(message.base64))
            .map((row) => `${row.offset}  ${row.hex}  ${row.text}`)
            .join("\n");
  return (
    <div class="message-whole">
      <pre class="text" tabIndex={0}>
        {visible(shown)}
      </pre>
      {message.truncated && <p class="hint">Only its beginning was kept.</p>}
    </div>
  );
}
