// Who may have what on this server, and where its limits are.
import { api, type Limit, type Principal } from "../api.ts";
import { bytes, count, duration, words } from "../lib/format.ts";
import { ask } from "../notices.ts";
import { limits, principals } from "../store.ts";
import { Empty, Menu, State } from "../ui/bits.tsx";

export function Principals() {
  return (
    <>
      <section class="section" aria-labelledby="principals">
        <div class="section-head">
          <h1 id="principals">Principals</h1>
        </div>
        {principals.value === null || principals.value.length === 0 ? (
          <div class="card">
            <Empty title="There is the shared token alone">
              <p>
                Named tokens, each with what it may have, come from <code>ferrotunnel token new</code> and a settings file.
              </p>
            </Empty>
          </div>
        ) : (
          <div class="table-box card" tabIndex={0} role="region" aria-label="Principals">
            <table>
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col">State</th>
                  <th scope="col" class="number">Sessions</th>
                  <th scope="col" class="number">Tunnels</th>
                  <th scope="col" class="number">Visitors</th>
                  <th scope="col">Limits</th>
                  <th scope="col"><span class="hidden">Actions</span></th>
                </tr>
              </thead>
              <tbody>
                {principals.value.map((principal) => (
                  <Row key={principal.name} principal={principal} />
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      {limits.value !== null && limits.value.length > 0 && (
        <section class="section" aria-labelledby="limits">
          <div class="section-head">
            <h2 id="limits">Limits of the server</h2>
          </div>
          <ul class="limits card">
            {limits.value.map((limit) => (
              <li key={limit.name}>
                <span class="limit-name">{words(limit.name)}</span>
                <span class="limit-value">{amount(limit)}</span>
                {limit.hit !== null && (
                  <span class={limit.hit > 0 ? "limit-hit warn-text" : "limit-hit muted"}>
                    {limit.hit > 0 ? `met ${count(limit.hit)} ×` : "never met"}
                  </span>
                )}
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function amount(limit: Limit): string {
  if (limit.value === null) return "no limit";
  if (limit.unit === "bytes") return bytes(limit.value);
  if (limit.unit === "bytes_per_second" || limit.unit === "bytes/s") return `${bytes(limit.value)}/s`;
  if (limit.unit === "seconds") return duration(limit.value);
  return `${count(limit.value)}${limit.unit === null ? "" : ` ${words(limit.unit)}`}`;
}

function Row({ principal }: { principal: Principal }) {
  const set = Object.entries(principal.limits).filter(([, value]) => value !== null);
  return (
    <tr>
      <th scope="row">{principal.name}</th>
      <td class="wide" data-label="State">
        <State
          tone={principal.disabled ? "bad" : principal.sessions > 0 ? "ok" : "idle"}
          text={principal.disabled ? "revoked" : principal.sessions > 0 ? "connected" : "not connected"}
        />
      </td>
      <td class="number" data-label="Sessions">{count(principal.sessions)}</td>
      <td class="number" data-label="Tunnels">{count(principal.tunnels)}</td>
      <td class="number" data-label="Visitors">{count(principal.streams)}</td>
      <td class="wide" data-label="Limits">
        {set.length === 0 ? (
          <span class="muted">none of its own</span>
        ) : (
          <ul class="tags">
            {set.map(([name, value]) => (
              <li key={name} class="badge">
                {words(name)} {typeof value === "number" ? (/bytes/.test(name) ? bytes(value) : count(value)) : String(value)}
              </li>
            ))}
          </ul>
        )}
      </td>
      <td class="actions">
        {!principal.disabled && (
          <Menu
            label={`Actions for ${principal.name}`}
            items={[
              {
                label: "Revoke…",
                danger: true,
                run: () =>
                  ask({
                    title: `Revoke ${principal.name}?`,
                    text: "Its sessions are closed and its token is taken no more, until the settings are reloaded. To make that lasting, take it out of the settings.",
                    action: "Revoke",
                    danger: true,
                    run: () => api.revoke(principal.name),
                  }),
              },
            ]}
          />
        )}
      </td>
    </tr>
  );
}
