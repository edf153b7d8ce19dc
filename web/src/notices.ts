// Short words on what has just been done, and questions before what cannot be undone.
import { signal } from "@preact/signals";

export interface Notice {
  id: number;
  kind: "done" | "failed";
  text: string;
}

export const notices = signal<Notice[]>([]);
let last = 0;

export function notify(kind: Notice["kind"], text: string): void {
  last += 1;
  const id = last;
  notices.value = [...notices.value.slice(-3), { id, kind, text }];
  // A fault stays until it was likely read.
  setTimeout(() => dismiss(id), kind === "failed" ? 9000 : 3500);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

export interface Question {
  title: string;
  text: string;
  action: string;
  danger: boolean;
  run: () => Promise<string | void>;
}

export const question = signal<Question | null>(null);

export function ask(what: Question): void {
  question.value = what;
}

/** Runs it and says how it went. */
export async function attempt(run: () => Promise<string | void>, done: string): Promise<boolean> {
  try {
    const detail = await run();
    notify("done", typeof detail === "string" && detail !== "" && detail !== "done" ? `${done}: ${detail}` : done);
    return true;
  } catch (error) {
    notify("failed", error instanceof Error ? error.message : String(error));
    return false;
  }
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS, beyond loopback, browsers have no clipboard for pages; the old way works.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "off-screen";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) return notify("failed", "the browser does not allow copying here");
  }
  notify("done", `${what} copied`);
}
