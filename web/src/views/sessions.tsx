// Who is connected. At a client: to which servers it is.
import { useMemo, useState } from "preact/hooks";
import { api, type Session } from "../api.ts";
import { bytes, count, duration } from "../lib/format.ts";
import { ask } from "../notices.ts";
import { sessions, status, type DatedSession } from "../store.ts";
import { Button, Empty, Menu, State, Uptime, type Tone } from "../ui/bits.tsx";

const TONES: Record<Session["state"], Tone> = { up: "ok", down: "bad", draining: "warn" };
const PAGE = 200;

export function Sessions() {
  const all = sessions.value;
  const server = status.value?.side === "server";
  const [text, setText] = useState("");
  const [most, setMost] = useState(PAGE);
  const found = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    return (all ?? []).filter((session) =>
      [session.id, session.client, session.principal, session.address, session.software].some((word) =>
        (word ?? "").toLowerCase().includes(wanted),
      ),
    );
  }, [all, text]);
  const title = server ? "Sessions" : "Servers";
  return (
    <section class="section" aria-labelledby="sessions">
      <div class="section-head">
        <h1 id="sessions">{title}</h1>
        {(all?.length ?? 0) > 5 && (
          <input
            class="input small"
            type="search"
            placeholder="Find a session"
            aria-label="Find a session"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        )}
      </div>
      {all === null || all.length === 0 ? (
        <div class="card">
          <Empty title={server ? "Nobody is connected" : "Connected to nobody"}>
            <p>{server ? "A session begins when a client connects with its token." : "The client dials again by itself."}</p>
          </Empty>
        </div>
      ) : (
        <>
          <div class="table-box card" tabIndex={0} role="region" aria-label={title}>
            <table>
              <thead>
                <tr>
                  <th scope="col">{server ? "Client" : "Server"}</th>
                  <th scope="col">State</th>
                  <th scope="col">{server ? "Address" : "Software"}</th>
                  <th scope="col" class="number">Up for</th>
                  <th scope="col" class="number">Round trip</th>
                  <th scope="col" class="number">Tunnels</th>
                  <th scope="col" class="number">Visitors</th>
                  <th scope="col" class="number">In</th>
                  <th scope="col" class="number">Out</th>
                  <th scope="col"><span class="hidden">Actions</span></th>
                </tr>
              </thead>
              <tbody>
                {found.slice(0, most).map((session) => (
                  <Row key={session.id} session={session} server={server} />
                ))}
              </tbody>
            </table>
            {found.length === 0 && <Empty title="No session is like that" />}
          </div>
          {found.length > most && <Button label={`Show more (${count(found.length - most)} left)`} onClick={() => setMost(most + 500)} />}
        </>
      )}
    </section>
  );
}

function Row({ session, server }: { session: DatedSession; server: boolean }) {
  const name = server ? (session.principal ?? session.client ?? session.id) : session.address;
  return (
    <tr>
      <th scope="row">
        {server ? (session.principal ?? "shared token") : <span class="mono">{session.address}</span>}
        <span class="sub mono">{server ? (session.client ?? session.id) : session.id}</span>
      </th>
      <td class="wide" data-label="State">
        <State tone={TONES[session.state]} text={session.state} />
        {session.last_error !== null && <span class="sub fault">{session.last_error}</span>}
      </td>
      <td class="wide" data-label={server ? "Address" : "Software"}>
        {server && <span class="mono">{session.address}</span>}
        <span class={server ? "sub" : ""}>{session.software ?? "–"}</span>
      </td>
      <td class="number" data-label="Up for">
        <Uptime since={session.since} />
      </td>
      <td class="number" data-label="Round trip">{duration(session.round_trip_seconds)}</td>
      <td class="number" data-label="Tunnels">{count(session.tunnels)}</td>
      <td class="number" data-label="Visitors">
        {count(session.streams)}
        <span class="sub">{count(session.streams_opened)} so far</span>
      </td>
      <td class="number" data-label="In">{bytes(session.bytes_to_client)}</td>
      <td class="number" data-label="Out">{bytes(session.bytes_from_client)}</td>
      <td class="actions">
        <Menu
          label={`Actions for ${name}`}
          items={[
            {
              label: "Close…",
              danger: true,
              run: () =>
                ask({
                  title: `Close the session ${server ? "of" : "to"} ${name}?`,
                  text: server
                    ? "What it carries is broken off. The client dials again by itself; to keep it out, revoke its principal."
                    : "What it carries is broken off, and then this client dials again.",
                  action: "Close session",
                  danger: true,
                  run: () => api.closeSession(session.id),
                }),
            },
          ]}
        />
      </td>
    </tr>
  );
}
