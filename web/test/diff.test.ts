import { expect, test } from "vitest";
import { headers, lines } from "../src/lib/diff.ts";
import { faults } from "../src/lib/har.ts";

const marks = (left: string, right: string) =>
  lines(left, right).map(({ left: l, right: r, same }) => `${same ? "=" : "!"}${l ?? "·"}|${r ?? "·"}`);

test("lines", () => {
  expect(marks("a\nb\nc", "a\nb\nc")).toEqual(["=a|a", "=b|b", "=c|c"]);
  expect(marks("a\nb\nc", "a\nX\nc")).toEqual(["=a|a", "!b|X", "=c|c"]);
  expect(marks("a\nc", "a\nb\nc")).toEqual(["=a|a", "!·|b", "=c|c"]);
  expect(marks("a\nb\nc\nd", "b\nd")).toEqual(["!a|·", "=b|b", "!c|·", "=d|d"]);
  expect(marks("", "a")).toEqual(["!|a"]);
});

test("both sides are whole whatever differs", () => {
  let seed = 7;
  const random = (n: number): number => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  for (let round = 0; round < 200; round += 1) {
    const text = (): string => Array.from({ length: random(12) }, () => "abcd"[random(4)]!).join("\n");
    const [left, right] = [text(), text()];
    const pairs = lines(left, right);
    expect(pairs.flatMap((pair) => pair.left ?? []).join("\n")).toBe(left);
    expect(pairs.flatMap((pair) => pair.right ?? []).join("\n")).toBe(right);
    for (const pair of pairs) expect(pair.same).toBe(pair.left === pair.right && pair.left !== null);
  }
});

test("ten thousand lines that all differ take no square of time", () => {
  const text = (word: string): string => Array.from({ length: 10_000 }, (_, at) => `${word}${at}`).join("\n");
  expect(lines(text("a"), text("b"))).toHaveLength(10_000);
});

test("headers are matched by name, several of one name by value", () => {
  const pairs = headers(
    [["A", "1"], ["set-cookie", "x"], ["set-cookie", "y"], ["gone", "z"]],
    [["set-cookie", "y"], ["a", "1"], ["set-cookie", "q"], ["new", "n"]],
  );
  expect(pairs.map(({ left, right, same }) => [left?.[1] ?? null, right?.[1] ?? null, same])).toEqual([
    ["1", "1", true], ["x", "y", false], ["y", "q", false], ["z", null, false], [null, "n", false],
  ]);
});

const ENTRY = {
  startedDateTime: "2026-01-01T00:00:00.000Z",
  time: 12,
  request: { method: "GET", url: "http://a.test/", httpVersion: "HTTP/1.1", cookies: [], headers: [{ name: "a", value: "b" }], queryString: [], headersSize: -1, bodySize: 0 },
  response: { status: 200, statusText: "OK", httpVersion: "HTTP/1.1", cookies: [], headers: [], content: { size: 2, mimeType: "text/plain", text: "ok" }, redirectURL: "", headersSize: -1, bodySize: 2 },
  cache: {},
  timings: { send: 0, wait: 11, receive: 1 },
};
const har = (entry: unknown): string => JSON.stringify({ log: { version: "1.2", creator: { name: "f", version: "1" }, entries: [entry] } });

test("an archive is held to the format", () => {
  expect(faults(har(ENTRY))).toEqual([]);
  expect(faults("nope")[0]).toMatch(/not JSON/);
  expect(faults("{}")).not.toEqual([]);
  expect(faults(har({ ...ENTRY, startedDateTime: "soon" }))).toEqual(["log.entries[0].startedDateTime is no time"]);
  expect(faults(har({ ...ENTRY, timings: { send: -1, wait: 1, receive: 1 } }))).toEqual(["log.entries[0].timings.send is negative"]);
  expect(faults(har({ ...ENTRY, request: { ...ENTRY.request, url: "/a" } }))).toEqual(["log.entries[0].request.url is no absolute URL"]);
  expect(faults(har({ ...ENTRY, response: { ...ENTRY.response, headers: [{ name: "a" }] } }))).toEqual(["log.entries[0].response.headers[0].value is not a string"]);
});
