// Which requests the list shows. A filter is what was typed, like `post /api status:5xx >200ms -health`, and what was chosen
// beside it. Every part has to hold.
import type { RequestSummary } from "../api.ts";

export interface Filter {
  text: string;
  method: string;
  status: string;
  slowerThan: number;
}

export const EVERYTHING: Filter = { text: "", method: "", status: "", slowerThan: 0 };

export type Test = (request: RequestSummary) => boolean;

/** The requests that have a text somewhere in them, as the program says: headers and bodies are not here. */
export type Found = (text: string) => ReadonlySet<string> | undefined;

export function isEverything(filter: Filter): boolean {
  return filter.text.trim() === "" && filter.method === "" && filter.status === "" && filter.slowerThan === 0;
}

export function compile(filter: Filter, found: Found = () => undefined): Test {
  const tests: Test[] = words(filter.text).map((word) => term(word, found));
  if (filter.method !== "") tests.push(method(filter.method));
  if (filter.status !== "") tests.push(status(filter.status));
  if (filter.slowerThan > 0) tests.push(slower(filter.slowerThan));
  return (request) => tests.every((test) => test(request));
}

/** Divides at white space; quotes hold together what they enclose. */
export function words(text: string): string[] {
  return (text.match(/-?(?:[a-z_]+:)?"[^"]*"?|\S+/gi) ?? []).filter((word) => word !== "-");
}

/** What of it is to be anywhere in a request, or nowhere. */
export function texts(text: string): string[] {
  const all: string[] = [];
  const note: Found = (wanted) => void all.push(wanted);
  for (const word of words(text)) term(word, note);
  return [...new Set(all)];
}

function term(word: string, found: Found): Test {
  if (word.startsWith("-") && word.length > 1) {
    const not = term(word.slice(1), found);
    return (request) => !not(request);
  }
  const slow = /^([<>])=?(\d+(?:\.\d+)?)(µs|us|ms|s|m|min)?$/i.exec(word);
  if (slow) {
    const seconds = Number(slow[2]) * unit(slow[3]);
    return slow[1] === ">" ? slower(seconds) : (request) => request.duration_seconds !== null && request.duration_seconds < seconds;
  }
  const named = /^([a-z_]+):(.*)$/i.exec(word);
  if (named) {
    const value = unquote(named[2]!).toLowerCase();
    const test = value === "" ? null : field(named[1]!.toLowerCase(), value);
    if (test) return test;
  }
  const wanted = unquote(word).toLowerCase();
  const there = found(wanted);
  return (request) => haystack(request).includes(wanted) || there?.has(request.id) === true;
}

function field(name: string, value: string): Test | null {
  const has = (of: (request: RequestSummary) => string | null): Test => {
    return (request) => (of(request) ?? "").toLowerCase().includes(value);
  };
  switch (name) {
    case "method":
      return method(value);
    case "status":
      return status(value);
    case "path":
      return has((request) => request.path);
    case "host":
      return has((request) => request.host);
    case "tunnel":
      return has((request) => request.tunnel);
    case "type":
      return has((request) => request.content_type);
    case "visitor":
      return has((request) => request.visitor);
    case "kind":
      return has((request) => request.kind);
    case "is":
      return value === "replay" ? (request) => request.replay_of !== null : (request) => request.state === value;
    default:
      return null;
  }
}

function method(wanted: string): Test {
  const upper = wanted.toUpperCase();
  return (request) => request.method.toUpperCase() === upper;
}

/** `404`, `4xx`, `4`, `error` (4xx, 5xx and failed), `open`, `failed`. */
function status(wanted: string): Test {
  const value = wanted.toLowerCase();
  if (value === "open" || value === "failed") return (request) => request.state === value;
  if (value === "error") return (request) => request.state === "failed" || (request.status ?? 0) >= 400;
  const prefix = value.replace(/x+$/, "");
  return (request) => request.status !== null && String(request.status).startsWith(prefix);
}

function slower(seconds: number): Test {
  return (request) => request.duration_seconds !== null && request.duration_seconds >= seconds;
}

function unit(name: string | undefined): number {
  switch (name?.toLowerCase()) {
    case "s":
      return 1;
    case "m":
    case "min":
      return 60;
    case "us":
    case "µs":
      return 1e-6;
    default:
      return 1e-3;
  }
}

function unquote(text: string): string {
  return text.replace(/^"|"$/g, "");
}

function haystack(request: RequestSummary): string {
  return `${request.method} ${request.host}${request.path} ${request.status ?? ""} ${request.content_type ?? ""} ${request.visitor ?? ""} ${request.request_id ?? ""} ${request.id} ${request.error ?? ""}`.toLowerCase();
}
