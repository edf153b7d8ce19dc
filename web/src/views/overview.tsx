// The first page: what is reachable, how it is, and how much passes.
import { useMemo, useState } from "preact/hooks";
import type { Sample, Tunnel } from "../api.ts";
import { api } from "../api.ts";
import { bytes, bytesPerSecond, count, duration, rate } from "../lib/format.ts";
import { ask } from "../notices.ts";
import { samples, status, tunnels } from "../store.ts";
import { CopyButton, Button, Choice, Empty, Menu, Stat, State, Uptime, type Tone } from "../ui/bits.tsx";
import { Chart, type Line } from "../ui/chart.tsx";
import { QrDialog } from "../ui/qr.tsx";

export function Overview() {
  return (
    <>
      <Summary />
      <Traffic />
      <Tunnels />
    </>
  );
}

function Summary() {
  const now = status.value;
  if (!now) return null;
  const last = samples.value.slice(-60);
  const sum = last.reduce((total, sample) => total + (sample.requests ?? sample.streams_opened), 0);
  const errors = last.reduce((total, sample) => total + sample.errors, 0);
  return (
    <section class="summary" aria-label="Summary">
      <dl class="stats">
        <Stat label="Tunnels" value={count(now.tunnels)} />
        <Stat label={now.side === "server" ? "Sessions" : "Connections"} value={count(now.sessions)} />
        <Stat label="Visitors now" value={count(now.streams)} title="streams of visitors that are open" />
        <Stat label={seesRequests() ? "Requests a minute" : "Streams a minute"} value={count(sum)} />
        <Stat label="Errors a minute" value={<span class={errors > 0 ? "bad-text" : ""}>{count(errors)}</span>} />
        <Stat label="Up for" value={<Uptime since={now.started_at} />} title={`version ${now.version}, ${now.build.target}`} />
      </dl>
    </section>
  );
}

/** A client that inspects nothing knows of streams only. */
const seesRequests = (): boolean => status.value?.side !== "client" || status.value.inspecting;

const STREAMS: Line[] = [
  { label: "streams", colour: "chart-1", area: true, value: (sample: Sample) => sample.streams_opened },
  { label: "errors", colour: "chart-bad", bars: true, value: (sample: Sample) => sample.errors },
];
const REQUESTS: Line[] = [
  { label: "requests", colour: "chart-1", area: true, value: (sample: Sample) => sample.requests },
  { label: "errors", colour: "chart-bad", bars: true, value: (sample: Sample) => sample.errors },
];
const BYTES: Line[] = [
  { label: "to visitors", colour: "chart-1", area: true, value: (sample: Sample) => sample.bytes_out },
  { label: "from visitors", colour: "chart-2", value: (sample: Sample) => sample.bytes_in },
];
const LATENCY: Line[] = [
  { label: "p99", colour: "chart-3", bridge: 5, value: (sample: Sample) => sample.p99_seconds },
  { label: "p90", colour: "chart-2", bridge: 5, value: (sample: Sample) => sample.p90_seconds },
  { label: "p50", colour: "chart-1", bridge: 5, value: (sample: Sample) => sample.p50_seconds },
];
const WINDOWS = [
  ["60", "1 min"],
  ["300", "5 min"],
  ["600", "10 min"],
] as const;

/** Powers of two, as the units are. */
const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

const perSecond = (value: number | null): string => (value === null ? "–" : `${rate(value)}/s`);

function Traffic() {
  const [window, setWindow] = useState<"60" | "300" | "600">("300");
  const seconds = Number(window);
  return (
    <section class="section" aria-labelledby="traffic">
      <div class="section-head">
        <h2 id="traffic">Traffic</h2>
        <Choice label="How far back" value={window} options={WINDOWS} onChange={setWindow} />
      </div>
      <div class="charts">
        {seesRequests() ? (
          <Chart key="requests" title="Requests" lines={REQUESTS} format={perSecond} tick={rate} seconds={seconds} floor={4} />
        ) : (
          <Chart key="streams" title="Streams" lines={STREAMS} format={perSecond} tick={rate} seconds={seconds} floor={4} />
        )}
        <Chart title="Bytes" lines={BYTES} format={bytesPerSecond} tick={bytes} steps={BYTE_STEPS} seconds={seconds} floor={1024} />
        {seesRequests() && <Chart title="Latency" lines={LATENCY} format={duration} tick={duration} seconds={seconds} floor={0.01} />}
      </div>
    </section>
  );
}

/** So many fit as cards; beyond, a table. */
const MOST_CARDS = 4;
const PAGE = 100;

function Tunnels() {
  const all = tunnels.value;
  const [text, setText] = useState("");
  const [most, setMost] = useState(PAGE);
  const [qr, setQr] = useState<string | null>(null);
  const found = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    if (!all || wanted === "") return all ?? [];
    return all.filter((tunnel) =>
      [tunnel.name, tunnel.kind, tunnel.principal ?? "", tunnel.local ?? "", ...tunnel.public_urls, ...tunnel.hosts].some((word) =>
        word.toLowerCase().includes(wanted),
      ),
    );
  }, [all, text]);
  const few = (all?.length ?? 0) <= MOST_CARDS;
  return (
    <section class="section" aria-labelledby="tunnels">
      <div class="section-head">
        <h2 id="tunnels">Tunnels</h2>
        {!few && (
          <input
            class="input small"
            type="search"
            placeholder="Find a tunnel"
            aria-label="Find a tunnel"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        )}
      </div>
      {all === null || all.length === 0 ? (
        <NoTunnels />
      ) : few ? (
        <div class="tunnel-cards">
          {all.map((tunnel) => (
            <TunnelCard key={tunnel.id} tunnel={tunnel} onQr={setQr} />
          ))}
        </div>
      ) : (
        <>
          <div class="table-box card" tabIndex={0} role="region" aria-label="Tunnels">
            <table>
              <thead>
                <tr>
                  <th scope="col">Tunnel</th>
                  <th scope="col">Public address</th>
                  <th scope="col">State</th>
                  <th scope="col" class="number">Visitors</th>
                  <th scope="col" class="number">In</th>
                  <th scope="col" class="number">Out</th>
                  <th scope="col" class="number">Round trip</th>
                  <th scope="col"><span class="hidden">Actions</span></th>
                </tr>
              </thead>
              <tbody>
                {found.slice(0, most).map((tunnel) => (
                  <TunnelRow key={tunnel.id} tunnel={tunnel} onQr={setQr} />
                ))}
              </tbody>
            </table>
            {found.length === 0 && <Empty title="No tunnel is like that" />}
          </div>
          {found.length > most && <Button label={`Show more (${count(found.length - most)} left)`} onClick={() => setMost(most + 500)} />}
        </>
      )}
      {qr !== null && <QrDialog url={qr} onClose={() => setQr(null)} />}
    </section>
  );
}

function NoTunnels() {
  const server = status.value?.side === "server";
  return (
    <div class="card">
      <Empty title="No tunnels yet">
        {server ? (
          <>
            <p>A client brings its tunnels with it. On the machine of the service:</p>
            <pre class="command">ferrotunnel http 3000 --server YOUR.SERVER --token-file token</pre>
          </>
        ) : (
          <p>This client asks its server for them as soon as there is a connection.</p>
        )}
      </Empty>
    </div>
  );
}

function stateOf(tunnel: Tunnel): { tone: Tone; text: string } {
  if (tunnel.state === "paused") return { tone: "warn", text: "paused" };
  if (tunnel.state === "refused") return { tone: "bad", text: "refused" };
  if (tunnel.state === "away") return { tone: "warn", text: "away" };
  if (tunnel.state === "connecting") return { tone: "idle", text: "connecting" };
  if (tunnel.health === "down") return { tone: "bad", text: "local service down" };
  return { tone: "ok", text: tunnel.health === "up" ? "healthy" : "up" };
}

/** `2xx 311 · 4xx 7 · no answer 1` */
function byStatus(requests: NonNullable<Tunnel["requests"]>): string {
  const word = (status: string): string => (status === "none" ? "no answer" : status);
  return requests.by_status.map((one) => `${word(one.status)} ${count(one.count)}`).join(" · ");
}

const isWeb = (url: string): boolean => /^https?:\/\//.test(url);

function Address({ url }: { url: string }) {
  return isWeb(url) ? (
    <a class="address" href={url} target="_blank" rel="noopener noreferrer">
      {url}
    </a>
  ) : (
    <span class="address">{url}</span>
  );
}

function pauseItem(tunnel: Tunnel) {
  if (tunnel.state === "paused") {
    return {
      label: "Resume…",
      run: () =>
        ask({
          title: `Resume ${tunnel.name}?`,
          text: "Visitors are let in again.",
          action: "Resume",
          danger: false,
          run: () => api.resume(tunnel.id),
        }),
    };
  }
  return {
    label: "Pause…",
    danger: true,
    run: () =>
      ask({
        title: `Pause ${tunnel.name}?`,
        text: "New visitors are turned away until somebody resumes it. Those that are there stay.",
        action: "Pause",
        danger: true,
        run: () => api.pause(tunnel.id),
      }),
  };
}

interface TunnelProps {
  tunnel: Tunnel;
  onQr: (url: string) => void;
}

function TunnelCard({ tunnel, onQr }: TunnelProps) {
  const { tone, text } = stateOf(tunnel);
  const urls = tunnel.public_urls;
  return (
    <article class="card tunnel" aria-label={`Tunnel ${tunnel.name}`}>
      <header class="tunnel-head">
        <h3>{tunnel.name}</h3>
        <span class="badge">{tunnel.kind}</span>
        {tunnel.group !== null && <span class="badge" title="shares its name with others">group {tunnel.group}</span>}
        <State tone={tone} text={text} />
        <Menu label={`Actions for ${tunnel.name}`} items={[pauseItem(tunnel)]} />
      </header>
      {urls.length === 0 && <p class="muted">no public address yet</p>}
      {urls.map((url) => (
        <div class="tunnel-url" key={url}>
          <Address url={url} />
          <CopyButton text={url} what="address" />
          {isWeb(url) && <Button icon="qr" label="QR code" bare kind="quiet" onClick={() => onQr(url)} />}
        </div>
      ))}
      {tunnel.local !== null && (
        <p class="tunnel-local">
          <span aria-hidden="true">→ </span>
          <span class="hidden">goes to </span>
          <span class="mono">{tunnel.local}</span>
        </p>
      )}
      {tunnel.principal !== null && <p class="tunnel-local">of {tunnel.principal}</p>}
      {(tunnel.requests?.total ?? 0) > 0 && <p class="tunnel-local">{byStatus(tunnel.requests!)}</p>}
      {tunnel.last_error !== null && <p class="fault">{tunnel.last_error}</p>}
      <dl class="stats small">
        <Stat label="Visitors" value={count(tunnel.visitors)} />
        {tunnel.requests === null ? (
          <Stat label="So far" value={count(tunnel.streams_opened)} title="streams opened since the start" />
        ) : (
          <Stat label="Requests" value={count(tunnel.requests.total)} title="since the start" />
        )}
        <Stat label="In" value={bytes(tunnel.bytes_in)} />
        <Stat label="Out" value={bytes(tunnel.bytes_out)} />
        <Stat label="Round trip" value={duration(tunnel.round_trip_seconds)} />
      </dl>
    </article>
  );
}

function TunnelRow({ tunnel, onQr }: TunnelProps) {
  const { tone, text } = stateOf(tunnel);
  const url = tunnel.public_urls[0];
  return (
    <tr>
      <th scope="row">
        {tunnel.name} <span class="badge">{tunnel.kind}</span>
        {tunnel.principal !== null && <span class="sub">{tunnel.principal}</span>}
        {tunnel.local !== null && <span class="sub mono">{tunnel.local}</span>}
      </th>
      <td class="wide" data-label="Public address">
        {url === undefined ? (
          <span class="muted">–</span>
        ) : (
          <span class="cell-url">
            <Address url={url} />
            {tunnel.public_urls.length > 1 && (
              <span class="muted" title={tunnel.public_urls.join("\n")}>
                +{tunnel.public_urls.length - 1}
              </span>
            )}
            <CopyButton text={url} what="address" />
            {isWeb(url) && <Button icon="qr" label={`QR code of ${tunnel.name}`} bare kind="quiet" onClick={() => onQr(url)} />}
          </span>
        )}
      </td>
      <td data-label="State">
        <State tone={tone} text={text} />
        {tunnel.last_error !== null && <span class="sub fault">{tunnel.last_error}</span>}
      </td>
      <td class="number" data-label="Visitors">
        {count(tunnel.visitors)}
        {tunnel.requests !== null && (
          <span class="sub" title={byStatus(tunnel.requests)}>
            {count(tunnel.requests.total)} requests
          </span>
        )}
      </td>
      <td class="number" data-label="In">{bytes(tunnel.bytes_in)}</td>
      <td class="number" data-label="Out">{bytes(tunnel.bytes_out)}</td>
      <td class="number" data-label="Round trip">{duration(tunnel.round_trip_seconds)}</td>
      <td class="actions">
        <Menu label={`Actions for ${tunnel.name}`} items={[pauseItem(tunnel)]} />
      </td>
    </tr>
  );
}
