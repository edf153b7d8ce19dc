// With which other request to compare.
import { useMemo, useState } from "preact/hooks";
import { EVERYTHING, compile } from "../lib/filter.ts";
import { clock, duration, shorten, statusClass, visible } from "../lib/format.ts";
import { compareHref, go } from "../route.ts";
import { requests, requestsVersion } from "../store.ts";
import { Dialog, Empty } from "../ui/bits.tsx";

const MOST = 50;

export function Picker({ id, onClose }: { id: string; onClose: () => void }) {
  const [text, setText] = useState("");
  const version = requestsVersion.value;
  const found = useMemo(() => {
    const test = compile({ ...EVERYTHING, text });
    const path = requests.get(id)?.path.split("?")[0];
    const all = requests.newest((request) => request.id !== id && test(request));
    // Those of the same path are most likely meant.
    return [...all.filter((request) => request.path.split("?")[0] === path), ...all.filter((request) => request.path.split("?")[0] !== path)].slice(0, MOST);
  }, [id, text, version]);
  return (
    <Dialog title="Compare with" onClose={onClose} wide>
      <input
        class="input"
        type="search"
        placeholder="Filter"
        autofocus
        aria-label="Filter requests"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      {found.length === 0 ? (
        <Empty title="There is no other like that" />
      ) : (
        <ul class="picker">
          {found.map((request) => (
            <li key={request.id}>
              <button
                type="button"
                onClick={() => {
                  onClose();
                  go(compareHref(id, request.id));
                }}
              >
                <span class={`status ${statusClass(request.status, request.state)}`}>{request.status ?? "···"}</span>
                <span class="method">{visible(request.method)}</span>
                <span class="picker-path">{shorten(visible(request.path), 200)}</span>
                {request.replay_of !== null && <span class="badge accent">replay</span>}
                <span class="muted">{duration(request.duration_seconds)}</span>
                <span class="muted">{clock(request.at)}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </Dialog>
  );
}
