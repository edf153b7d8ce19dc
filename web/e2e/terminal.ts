// Programs at a terminal, and what stands on it as a page.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { PROGRAM, environment, until, type Variables } from "./program.ts";

/** The program at a terminal of its own, which util-linux' `script` makes. */
export class Terminal {
  private said = "";

  private constructor(private child: ChildProcess) {
    child.stdout!.on("data", (text) => (this.said += String(text)));
  }

  static start(args: string[], variables: Variables = {}): Terminal {
    const quoted = [PROGRAM, ...args].map((one) => `'${one.replaceAll("'", `'\\''`)}'`).join(" ");
    // The number of the process is told first: to be stopped it has to be known.
    const command = ["--quiet", "--flush", "--return", "--command", `echo $$; exec ${quoted}`, "/dev/null"];
    const env = environment({ SHELL: "/bin/sh", TERM: "xterm-256color", ...variables });
    return new Terminal(spawn("script", command, { env, stdio: ["ignore", "pipe", "ignore"] }));
  }

  /** What stands there, escapes included. */
  get text(): string {
    return this.said.replaceAll("\r", "").replace(/^\d+\n/, "");
  }

  /** Until that stands there; returns the first group. */
  async shows(what: RegExp): Promise<string> {
    await until(`${what} on a terminal with: ${this.text}`, () => what.test(plain(this.text)));
    return what.exec(plain(this.text))![1] ?? "";
  }

  /** Until the program has ended by itself. */
  async end(): Promise<string> {
    if (this.child.exitCode === null) await once(this.child, "close");
    return this.text;
  }

  /** Ends it in order. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const closed = once(this.child, "close");
    const number = /^\d+/.exec(this.said);
    if (number) process.kill(Number(number[0]), "SIGTERM");
    else this.child.kill("SIGKILL");
    await closed;
  }
}

/** Without escapes. */
export function plain(text: string): string {
  return text.replace(/\x1b\[[0-9;]*m/g, "");
}

/** What was typed, and what came of it. */
export interface Typed {
  title: string;
  typed: string;
  text: string;
}

/** Terminals one below the other, as a page. */
export function terminals(all: Typed[]): string {
  const windows = all.map(
    ({ title, typed, text }) =>
      `<section><header><i></i><i></i><i></i>${escaped(title)}</header><pre><b class="prompt">$</b> ${escaped(typed)}\n${colored(text.trimEnd())}</pre></section>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Terminals</title><style>${STYLE}</style><main>${windows.join("")}</main></html>`;
}

export function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Colours and weights of ECMA-48, as far as the log has them. */
function colored(text: string): string {
  let classes = new Set<string>();
  return text
    .split(/(\x1b\[[0-9;]*m)/)
    .map((part) => {
      const codes = /^\x1b\[([0-9;]*)m$/.exec(part);
      if (codes === null) return part === "" || classes.size === 0 ? escaped(part) : `<span class="${[...classes].join(" ")}">${escaped(part)}</span>`;
      for (const code of codes[1]!.split(";").map(Number)) {
        if (code === 0) classes = new Set();
        else if (code >= 30 && code < 38) classes = new Set([...[...classes].filter((one) => !one.startsWith("c3")), `c${code}`]);
        else classes.add(`c${code}`);
      }
      return "";
    })
    .join("");
}

const STYLE = `
body{margin:0;background:#fff}
main{display:grid;gap:16px;padding:16px;width:1168px}
section{border-radius:8px;overflow:hidden;background:#1d1f24}
header{display:flex;gap:7px;align-items:center;padding:9px 14px;background:#2b2e35;color:#b9bec9;font:13px Inter,"DejaVu Sans",sans-serif}
header i{width:11px;height:11px;border-radius:50%;background:#4b505b}
header i:nth-child(3){margin-right:8px}
pre{margin:0;padding:12px 14px;color:#d8dbe2;font:12.5px/1.5 "DejaVu Sans Mono",monospace;white-space:pre-wrap;word-break:break-all}
.prompt{color:#7fb98a}
.c1{font-weight:bold}.c2{color:#8b919e}.c3{font-style:italic}
.c31{color:#ef7d7d}.c32{color:#8bc891}.c33{color:#e3bd6b}.c34{color:#7fb0ea}.c35{color:#cb97dd}.c36{color:#79c3c9}`;
