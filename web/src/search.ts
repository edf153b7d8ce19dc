// Texts that are looked for where only the program can look: in headers, bodies and messages.
import { signal } from "@preact/signals";
import { api } from "./api.ts";

/** The requests that have each of them. */
export const found = signal<ReadonlyMap<string, ReadonlySet<string>>>(new Map());
/** Not all bodies were looked through. */
export const searchCut = signal(false);

/** Until somebody has typed a word, and between two looks while requests come. */
const PAUSE_MILLISECONDS = 300;
/** One letter is in nearly every request. */
const SHORTEST = 2;

let wanted: string[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;
let busy = false;

/** Looks for these soon. To be called again when there are other requests. */
export function lookFor(texts: string[]): void {
  wanted = texts.filter((text) => text.length >= SHORTEST);
  if (wanted.length === 0) {
    clearTimeout(timer);
    timer = undefined;
    found.value = new Map();
    searchCut.value = false;
    return;
  }
  timer ??= setTimeout(look, PAUSE_MILLISECONDS);
}

async function look(): Promise<void> {
  timer = undefined;
  if (busy) return;
  busy = true;
  const texts = wanted;
  try {
    const answers = await Promise.all(texts.map((text) => api.search(text)));
    if (wanted.length > 0) {
      found.value = new Map(texts.map((text, at) => [text, new Set(answers[at]!.requests.map(({ id }) => id))]));
      searchCut.value = answers.some((answer) => answer.search_cut);
    }
  } catch {
    // Where the program is gone the page says so, and the list shows what it finds by itself.
  }
  busy = false;
  // Something else was typed meanwhile.
  if (texts.join("\n") !== wanted.join("\n")) lookFor(wanted);
}
