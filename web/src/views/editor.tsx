// A request to be sent again, changed. Secrets are fetched so that they can be sent, and stay dots until somebody looks.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type Header, type Replay, type RequestDetail } from "../api.ts";
import { isMasked } from "../lib/curl.ts";
import { wrong } from "../lib/edit.ts";
import { bytes } from "../lib/format.ts";
import { notify } from "../notices.ts";
import { compareHref, go } from "../route.ts";
import { Button, Dialog } from "../ui/bits.tsx";

interface Row {
  key: number;
  name: string;
  value: string;
  secret: boolean;
}

/** What the program sets by itself from what is sent. */
const SET_ANYWAY = new Set(["content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"]);

export function Editor({ id, onClose }: { id: string; onClose: () => void }) {
  const [original, setOriginal] = useState<RequestDetail | null>(null);
  const [method, setMethod] = useState("");
  const [path, setPath] = useState("");
  const [rows, setRows] = useState<Row[]>([]);
  const [body, setBody] = useState<string | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    Promise.all([api.request(id), api.request(id, true)])
      .then(([masked, whole]) => {
        setOriginal(whole);
        setMethod(whole.method);
        setPath(whole.path);
        setRows(
          whole.request.headers.flatMap(([name, value], key) =>
            name.startsWith(":") || SET_ANYWAY.has(name.toLowerCase())
              ? []
              : [{ key, name, value, secret: isMasked(masked.request.headers[key]?.[1] ?? "") }],
          ),
        );
        setBody(whole.request.body.text ?? (whole.request.body.size === 0 ? "" : null));
      })
      .catch((error: unknown) => setFault(error instanceof Error ? error.message : String(error)));
  }, [id]);

  const first = useRef<HTMLInputElement>(null);
  useEffect(() => first.current?.focus(), [original]);

  const change = (key: number, part: Partial<Row>): void => setRows(rows.map((row) => (row.key === key ? { ...row, ...part } : row)));
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (original === null) return;
    const headers: Header[] = rows.filter((row) => row.name.trim() !== "").map((row) => [row.name.trim(), row.value]);
    const problem = wrong(method, path, headers);
    if (problem !== null) return setFault(problem);
    const changes: Replay = { method, path, headers };
    const before = original.request.body;
    if (body !== null) {
      changes.body_text = body;
      // What was unpacked to be read is sent unpacked.
      if (before.encoding !== null) changes.headers = headers.filter(([name]) => name.toLowerCase() !== "content-encoding");
    } else if (before.base64 !== null) {
      changes.body_base64 = before.base64;
    }
    setBusy(true);
    try {
      const made = await api.replay(id, changes);
      notify("done", "Sent");
      onClose();
      go(compareHref(id, made));
    } catch (error) {
      setFault(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };

  return (
    <Dialog title="Edit and replay" onClose={onClose} wide>
      {original === null ? (
        <p class="loading">{fault ?? "Loading…"}</p>
      ) : (
        <form class="editor" onSubmit={(event) => void send(event)}>
          <div class="editor-line">
            <label>
              <span class="label">Method</span>
              <input class="input mono" list="methods" value={method} spellcheck={false} onInput={(event) => setMethod(event.currentTarget.value)} />
              <datalist id="methods">
                {["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"].map((name) => (
                  <option key={name} value={name} />
                ))}
              </datalist>
            </label>
            <label class="grow">
              <span class="label">Path</span>
              <input ref={first} class="input mono" value={path} spellcheck={false} onInput={(event) => setPath(event.currentTarget.value)} />
            </label>
          </div>
          <fieldset class="editor-headers">
            <legend class="label">Headers</legend>
            {rows.map((row) => (
              <div key={row.key} class="editor-header">
                <input
                  class="input mono"
                  aria-label="Name of the header"
                  value={row.name}
                  spellcheck={false}
                  onInput={(event) => change(row.key, { name: event.currentTarget.value })}
                />
                <input
                  class="input mono"
                  aria-label={`Value of ${row.name || "the header"}`}
                  {...(row.secret ? { type: "password" as const } : { type: "text" as const })}
                  autocomplete="off"
                  value={row.value}
                  spellcheck={false}
                  onInput={(event) => change(row.key, { value: event.currentTarget.value })}
                />
                {row.secret && (
                  <Button icon="eye" label={`Show ${row.name}`} bare kind="quiet" onClick={() => change(row.key, { secret: false })} />
                )}
                <Button
                  icon="trash"
                  label={`Leave out ${row.name || "the header"}`}
                  bare
                  kind="quiet"
                  onClick={() => setRows(rows.filter((other) => other.key !== row.key))}
                />
              </div>
            ))}
            <Button
              icon="plus"
              label="Add a header"
              kind="quiet"
              onClick={() => setRows([...rows, { key: Math.max(-1, ...rows.map((row) => row.key)) + 1, name: "", value: "", secret: false }])}
            />
          </fieldset>
          <label>
            <span class="label">Body</span>
            {body === null ? (
              <span class="hint">
                It is not text ({bytes(original.request.body.size)}), and is sent as it was.{" "}
                <Button label="Write another" kind="quiet" onClick={() => setBody("")} />
              </span>
            ) : (
              <textarea
                class="input mono"
                rows={8}
                spellcheck={false}
                value={body}
                onInput={(event) => setBody(event.currentTarget.value)}
              />
            )}
          </label>
          {original.request.body.truncated && (
            <p class="hint">Only its first {bytes(original.request.body.captured)} were kept, so the body above is not all of it.</p>
          )}
          <p class="fault" role="alert">
            {fault}
          </p>
          <div class="dialog-foot">
            <Button label="Cancel" onClick={onClose} />
            <button type="submit" class="button main" disabled={busy}>
              Send
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
