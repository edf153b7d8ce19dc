// The parts of a request's time, one after the other.
import type { RequestDetail } from "../api.ts";

export interface Part {
  name: string;
  meaning: string;
  start: number;
  seconds: number;
}

const PARTS = [
  ["queue", "waiting for a stream", "queue_seconds"],
  ["connect", "reaching the local service", "connect_seconds"],
  ["send", "sending the request", "send_seconds"],
  ["wait", "until the first byte of the answer", "wait_seconds"],
  ["receive", "receiving the answer", "receive_seconds"],
] as const;

export function parts(request: RequestDetail): Part[] {
  let start = 0;
  return PARTS.flatMap(([name, meaning, key]) => {
    const seconds = request.timing[key];
    if (seconds === null) return [];
    const part = { name, meaning, start, seconds };
    start += seconds;
    return [part];
  });
}

export function total(request: RequestDetail): number {
  const last = parts(request).at(-1);
  return Math.max(request.duration_seconds ?? 0, last === undefined ? 0 : last.start + last.seconds);
}
