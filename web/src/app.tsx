// The frame: who this is, where one can go, how the connection is, and what can be done to the whole program.
import { useEffect } from "preact/hooks";
import { api } from "./api.ts";
import { ask, attempt } from "./notices.ts";
import { route, type Route } from "./route.ts";
import { begin, connection, requests, requestsVersion, sessions, status, trouble, tunnels, withToken } from "./store.ts";
import { setTheme, theme, type Theme } from "./theme.ts";
import { Button, Empty, Menu, State, type MenuItem } from "./ui/bits.tsx";
import { Mark } from "./ui/icon.tsx";
import { Notices, Question } from "./ui/overlay.tsx";
import { Compare } from "./views/compare.tsx";
import { Login } from "./views/login.tsx";
import { Overview } from "./views/overview.tsx";
import { Principals } from "./views/principals.tsx";
import { Requests } from "./views/requests.tsx";
import { Sessions } from "./views/sessions.tsx";

export function App() {
  const at = connection.value;
  useTitle();
  if (at === "login") {
    return (
      <>
        <Login />
        <Notices />
      </>
    );
  }
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        To the content
      </a>
      <Header />
      {at === "lost" && status.value !== null && <Lost />}
      <main id="main" tabIndex={-1} class={route.value.page === "requests" ? "full" : "page"}>
        {status.value === null ? at === "lost" ? <Nothing /> : <p class="loading">Connecting…</p> : <Page route={route.value} />}
      </main>
      <Notices />
      <Question />
    </>
  );
}

// The fragment belongs to the route, so the link does by itself what it says.
function skip(event: MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Page({ route: at }: { route: Route }) {
  switch (at.page) {
    case "requests":
      return <Requests id={at.id} />;
    case "compare":
      return <Compare key={`${at.left} ${at.right}`} left={at.left} right={at.right} />;
    case "sessions":
      return <Sessions />;
    case "principals":
      return <Principals />;
    default:
      return <Overview />;
  }
}

function Header() {
  const now = status.value;
  const page = route.value.page;
  void requestsVersion.value;
  const server = now?.side === "server";
  const tabs: [page: string, href: string, text: string, number: number | null][] = [
    ["overview", "#/", "Overview", null],
    ["requests", "#/requests", "Requests", now?.inspecting ? requests.size : null],
    ["sessions", "#/sessions", server ? "Sessions" : "Servers", sessions.value?.length ?? null],
  ];
  if (server) tabs.push(["principals", "#/principals", "Principals", null]);
  return (
    <header class="top">
      <a class="brand" href="#/">
        <Mark />
        <span class="brand-name">FerroTunnel</span>
        {now && <span class="side"> {now.side}</span>}
      </a>
      <nav aria-label="Pages">
        {tabs.map(([name, href, text, number]) => (
          <a key={name} href={href} aria-current={page === name || (name === "requests" && page === "compare") ? "page" : undefined}>
            {text}
            {number !== null && number > 0 && <span class="tab-count">{number > 9999 ? "10k+" : number}</span>}
          </a>
        ))}
      </nav>
      <div class="top-end">
        <Standing />
        <ThemeButton />
        {now && <Menu label="Actions" items={actions()} />}
      </div>
    </header>
  );
}

function Standing() {
  const now = status.value;
  if (connection.value === "lost") return <State tone="bad" text="Disconnected" />;
  if (now === null || connection.value === "connecting") return <State tone="idle" text="Connecting" />;
  if (now.phase === "draining") return <State tone="warn" text="Draining" />;
  if (now.side === "client") {
    const up = (sessions.value ?? []).filter((session) => session.state === "up").length;
    if (sessions.value !== null && up === 0) return <State tone="warn" text="No server" />;
  }
  return <State tone="ok" text="Live" />;
}

const THEMES: Record<Theme, { next: Theme; icon: "auto" | "sun" | "moon"; label: string }> = {
  system: { next: "light", icon: "auto", label: "Theme: as the system" },
  light: { next: "dark", icon: "sun", label: "Theme: light" },
  dark: { next: "system", icon: "moon", label: "Theme: dark" },
};

function ThemeButton() {
  const { next, icon, label } = THEMES[theme.value];
  return <Button icon={icon} label={label} bare kind="quiet" onClick={() => setTheme(next)} />;
}

function actions(): MenuItem[] {
  const now = status.value;
  const server = now?.side === "server";
  const items: MenuItem[] = [];
  if (now && now.config_file !== null) {
    items.push({
      label: "Reload settings…",
      run: () =>
        ask({
          title: "Reload the settings?",
          text: `${now.config_file} is read again. What is wrong with it is said, and then nothing changes.`,
          action: "Reload",
          danger: false,
          run: api.reload,
        }),
    });
  }
  items.push({
    label: "Drain…",
    danger: true,
    run: () =>
      ask({
        title: server ? "Drain this server?" : "Drain this client?",
        text: `It takes nothing new, finishes what is open, and ends. Nobody can undo that from here.`,
        action: "Drain",
        danger: true,
        run: api.drain,
      }),
  });
  if (withToken.value) {
    items.push({
      label: "Log out",
      run: () =>
        void attempt(async () => {
          await api.logout();
          connection.value = "login";
        }, "Logged out"),
    });
  }
  return items;
}

function sentence(text: string | null): string {
  return text === null || text === "" ? "" : `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

function Lost() {
  return (
    <div class="banner" role="alert">
      <strong>Disconnected.</strong> <span>{sentence(trouble.value)} What is below is how it was; trying again…</span>
      <Button label="Try now" onClick={() => void begin()} />
    </div>
  );
}

function Nothing() {
  return (
    <Empty title="Nothing answers here">
      <p>{sentence(trouble.value)}</p>
      <p>This page tries again by itself as soon as the program is there.</p>
      <Button label="Try now" kind="main" onClick={() => void begin()} />
    </Empty>
  );
}

function useTitle(): void {
  const now = status.value;
  const first = now?.side === "client" ? tunnels.value?.[0]?.name : null;
  const title = [connection.value === "lost" ? "Disconnected" : first, now ? `FerroTunnel ${now.side}` : "FerroTunnel"];
  const text = title.filter((part) => part !== null && part !== undefined && part !== "").join(" · ");
  useEffect(() => {
    document.title = text;
  }, [text]);
}
