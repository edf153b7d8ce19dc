// Numbers as people read them. Every function takes what the interface may answer, `null` included.

export const NONE = "–";

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(n: number | null | undefined): string {
  return n === null || n === undefined || !Number.isFinite(n) ? NONE : number.format(n);
}

/** 1024 at a time, three digits at most: `982 B`, `4.1 KiB`, `12 MiB`. */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = Math.abs(n);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const sign = n < 0 ? "-" : "";
  return `${sign}${digits(value, unit === 0)} ${units[unit]}`;
}

export const bytesPerSecond = (n: number | null | undefined): string => {
  const text = bytes(n);
  return text === NONE ? NONE : `${text}/s`;
};

/** `380 µs`, `4.2 ms`, `318 ms`, `1.24 s`, `2 min 5 s`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds === 0) return "0 ms";
  if (seconds < 0.000_999_5) return `${Math.max(1, Math.round(seconds * 1e6))} µs`;
  if (seconds < 0.999_5) return `${digits(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 9.995 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  return age(seconds);
}

/** Two units at most: `12 s`, `5 min 3 s`, `4 h 12 min`, `9 d 3 h`. */
export function age(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const steps: [number, string][] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const at = steps.findIndex(([size]) => whole >= size);
  if (at === -1) return "0 s";
  const [size, unit] = steps[at]!;
  const first = Math.floor(whole / size);
  const next = steps[at + 1];
  const rest = next === undefined ? 0 : Math.floor((whole % size) / next[0]);
  return rest === 0 || next === undefined ? `${first} ${unit}` : `${first} ${unit} ${rest} ${next[1]}`;
}

/** A rate: whole from ten on, one decimal below. */
export function rate(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return NONE;
  return n >= 10 || n === 0 || Number.isInteger(n) ? number.format(n) : n.toFixed(1);
}

/** The time of day, to the millisecond where asked. */
export function clock(at: number, precise = false): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return NONE;
  const two = (n: number) => String(n).padStart(2, "0");
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return precise ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

export function dateTime(at: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return NONE;
  const two = (n: number) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at, true)}`;
}

/** What class a status is of, for its colour. */
export function statusClass(status: number | null, state?: string): "ok" | "redirect" | "client" | "server" | "info" | "none" {
  if (status === null) return state === "failed" ? "server" : "none";
  if (status < 200) return "info";
  if (status < 300) return "ok";
  if (status < 400) return "redirect";
  return status < 500 ? "client" : "server";
}

/** `max_streams_per_second` and `max-streams` are read by people. */
export function words(name: string): string {
  return name.replace(/[_-]+/g, " ");
}

/** Characters that would turn text around or hide in it become visible. What a visitor sends is text, and looks like it. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, (char) => {
    const code = char.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** Cuts in the middle of nothing: the beginning is what tells texts apart. */
export function shorten(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

function digits(value: number, whole = false): string {
  if (whole || value >= 99.95) return String(Math.round(value));
  return value >= 9.995 ? trim(value.toFixed(1)) : trim(value.toFixed(2));
}

function trim(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
