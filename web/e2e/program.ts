// The built program as server and client, a local site behind them, and a visitor.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, request, type IncomingHttpHeaders, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const PROGRAM = process.env["FERROTUNNEL"] ?? join(dirname(fileURLToPath(import.meta.url)), "../../target/debug/ferrotunnel");
export const TOKEN = "a-secret-of-the-dashboards-tests";

/** Longer than anything here takes on a busy machine. */
export const PATIENCE = 30_000;

/** Variables of the program, by name. */
export type Variables = Record<string, string>;

/** What a program is started with: nothing of this process's own that would tell it something else. */
export function environment(more: Variables = {}): Variables {
  const own = Object.entries(process.env).filter(([name, value]) => !/^(FERROTUNNEL|RUST_LOG|OTEL|NO_COLOR)/.test(name) && value !== undefined);
  return { ...(Object.fromEntries(own) as Variables), ...more };
}

export class Program {
  readonly lines: string[] = [];
  private waiting: (() => void)[] = [];
  stderr = "";

  private constructor(private child: ChildProcess) {
    createInterface({ input: child.stdout! }).on("line", (line) => {
      this.lines.push(line);
      for (const wake of this.waiting.splice(0)) wake();
    });
    child.stderr!.on("data", (text) => (this.stderr += String(text)));
    child.on("exit", () => {
      for (const wake of this.waiting.splice(0)) wake();
    });
  }

  static start(args: string[], variables: Variables = {}): Program {
    return new Program(spawn(PROGRAM, args, { env: environment(variables), stdio: ["ignore", "pipe", "pipe"] }));
  }

  /** The first line on stdout. */
  async line(): Promise<string> {
    const end = Date.now() + PATIENCE;
    while (this.lines.length === 0) {
      if (this.child.exitCode !== null || Date.now() > end) throw new Error(`the program said nothing on stdout, but: ${this.stderr}`);
      await new Promise<void>((resolve) => {
        this.waiting.push(resolve);
        setTimeout(resolve, 1000);
      });
    }
    return this.lines[0]!;
  }

  /** Until it has said something on stderr. */
  async says(what: RegExp): Promise<void> {
    await until(`${what} of ${this.stderr}`, () => what.test(this.stderr));
  }

  /** Ends it in order, and waits for that. */
  async stop(): Promise<void> {
    const ended = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await ended;
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
  }
}

export interface RunningServer {
  program: Program;
  tunnel: string;
  http: number;
  admin: string;
}

export async function server(more: string[] = [], variables: Variables = {}): Promise<RunningServer> {
  const args = ["server", "--json", "--token", TOKEN, "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
  const program = Program.start([...args, "--admin-bind", "127.0.0.1:0", ...more], variables);
  const said = JSON.parse(await program.line()) as { tunnel_addr: string; http_addr: string; admin_addr: string };
  return { program, tunnel: said.tunnel_addr, http: Number(said.http_addr.split(":")[1]), admin: `http://${said.admin_addr}` };
}

export async function client(to: RunningServer, name: string, local: number, more: string[] = [], variables: Variables = {}): Promise<Program> {
  const program = Program.start(["http", String(local), "--server", to.tunnel, "--token", TOKEN, "--name", name, ...more], variables);
  await program.line();
  return program;
}

/** Whether this build has an admin interface at the client, with the inspector behind it. */
export async function hasInspector(): Promise<boolean> {
  const child = spawn(PROGRAM, ["http", "--help"], { stdio: ["ignore", "pipe", "ignore"] });
  let text = "";
  child.stdout.on("data", (part) => (text += String(part)));
  await once(child, "close");
  return text.includes("--no-inspect") && text.includes("--admin-bind");
}

/** A port that is free now, for what cannot say which one it took. */
export async function freePort(): Promise<number> {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const { port } = holder.address() as AddressInfo;
  holder.close();
  await once(holder, "close");
  return port;
}

/** Until something answers there. */
export async function answering(url: string): Promise<void> {
  await until(`an answer of ${url}`, async () => {
    try {
      return (await fetch(url)).ok;
    } catch {
      return false;
    }
  });
}

/** Until something is so that nobody tells of. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`it did not come to ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export interface Seen {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A site that answers as JSON with what it was asked, and remembers it. */
export async function site(): Promise<{ port: number; seen: Seen[]; close: () => Promise<void> }> {
  const seen: Seen[] = [];
  const server: Server = createServer((asked, answer) => {
    let body = "";
    asked.on("data", (part) => (body += String(part)));
    asked.on("end", () => {
      const path = asked.url ?? "";
      seen.push({ method: asked.method ?? "", path, headers: asked.headers, body });
      if (path.startsWith("/events")) {
        answer.writeHead(200, { "content-type": "text/event-stream" });
        answer.end("data: one\n\nevent: more\ndata: two\n\n");
        return;
      }
      const status = Number(/status=(\d+)/.exec(path)?.[1] ?? 200);
      if (path.startsWith("/evil")) {
        answer.writeHead(200, { "content-type": "text/html", "x-evil": EVIL, "set-cookie": "secret-cookie=1" });
        answer.end(EVIL);
        return;
      }
      answer.writeHead(status, { "content-type": "application/json", "x-number": String(seen.length), "set-cookie": "secret-cookie=1" });
      answer.end(JSON.stringify({ number: seen.length, method: asked.method, path, body, long: 0 }).replace('"long":0', '"long":90071992547409931'));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const EVIL = `<script>window.hacked=1</script><img src=x onerror="window.hacked=2">`;

export interface Visit {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** A visitor comes to a tunnel by its name. */
export async function visit(to: RunningServer, name: string, path: string, what: Visit = {}): Promise<{ status: number; body: string }> {
  const asked = request({
    host: "127.0.0.1",
    port: to.http,
    path,
    method: what.method ?? "GET",
    headers: { host: `${name}.localhost`, ...what.headers },
    agent: false,
  });
  asked.end(what.body);
  const [answer] = (await once(asked, "response")) as [import("node:http").IncomingMessage];
  let body = "";
  for await (const part of answer) body += String(part);
  return { status: answer.statusCode ?? 0, body };
}

/** Bytes as they are: for what no client of HTTP would send. */
export async function raw(to: RunningServer, bytes: string): Promise<string> {
  const socket = connect(to.http, "127.0.0.1");
  socket.end(bytes);
  let text = "";
  for await (const part of socket) text += String(part);
  return text;
}
