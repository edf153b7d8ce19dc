import { expect, test } from "vitest";
import type { RequestSummary } from "../src/api.ts";
import { EVERYTHING, compile, isEverything, texts, words, type Filter } from "../src/lib/filter.ts";
import { Ring } from "../src/lib/ring.ts";

function request(given: Partial<RequestSummary>): RequestSummary {
  return {
    id: "r1", at: 0, tunnel: "web", method: "GET", path: "/", host: "web.test", version: "1.1", status: 200, state: "done",
    duration_seconds: 0.01, request_bytes: 0, response_bytes: 0, content_type: null, kind: "http", replay_of: null, visitor: null,
    request_id: null, error: null, ...given,
  };
}

const ALL = [
  request({ id: "a", path: "/api/users?page=2" }),
  request({ id: "b", method: "POST", path: "/api/users", status: 201, duration_seconds: 0.3 }),
  request({ id: "c", path: "/health", status: 204 }),
  request({ id: "d", path: "/api/slow", status: 503, duration_seconds: 2.5, tunnel: "other" }),
  request({ id: "e", path: "/gone", status: null, state: "failed", error: "connection refused", duration_seconds: 0.002 }),
  request({ id: "f", path: "/ws", status: 101, state: "open", kind: "websocket", duration_seconds: null }),
  request({ id: "g", path: "/two words", content_type: "application/json", replay_of: "a" }),
];

function found(filter: Partial<Filter> | string): string {
  const whole = typeof filter === "string" ? { ...EVERYTHING, text: filter } : { ...EVERYTHING, ...filter };
  return ALL.filter(compile(whole)).map(({ id }) => id).join("");
}

test.each([
  ["", "abcdefg"],
  ["/API", "abd"],
  ["users", "ab"],
  ["-users", "cdefg"],
  ["/api -slow", "ab"],
  ["status:5xx", "d"],
  ["status:2xx", "abcg"],
  ["status:20", "abcg"],
  ["status:404", ""],
  ["status:error", "de"],
  ["status:open", "f"],
  ["status:failed", "e"],
  ["-status:2xx", "def"],
  ["method:post", "b"],
  ["method:PO", ""],
  ["path:/api", "abd"],
  ["host:web.test", "abcdefg"],
  ["tunnel:other", "d"],
  ["type:json", "g"],
  ["kind:websocket", "f"],
  ["is:replay", "g"],
  ["is:open", "f"],
  [">200ms", "bd"],
  [">=0.3s", "bd"],
  [">1s", "d"],
  ["<5ms", "e"],
  ["refused", "e"],
  ['"two words"', "g"],
  ['path:"two words"', "g"],
  ["two words", "g"],
  ["unknown:thing", ""],
  ["-", "abcdefg"],
  ["   ", "abcdefg"],
])("%s", (text, ids) => {
  expect(found(text)).toBe(ids);
});

test("what is chosen holds beside what is typed", () => {
  expect(found({ method: "GET", status: "2xx" })).toBe("acg");
  expect(found({ slowerThan: 1 })).toBe("d");
  expect(found({ text: "/api", method: "POST" })).toBe("b");
  expect(isEverything(EVERYTHING)).toBe(true);
  expect(isEverything({ ...EVERYTHING, text: " " })).toBe(true);
  expect(isEverything({ ...EVERYTHING, slowerThan: 1 })).toBe(false);
});

test("nothing that is typed is taken for an expression", () => {
  for (const text of ["(", "[a", "\\", "*", "a|b", "^$", "status:(", ">", "<x", '"', "-\"", "path:"]) {
    expect(() => found(text)).not.toThrow();
  }
  expect(words('a  "b c" d:"e f" -x')).toEqual(["a", '"b c"', 'd:"e f"', "-x"]);
});

test("the ring keeps the newest, finds by id and changes in place", () => {
  const ring = new Ring(100);
  for (let at = 0; at < 500; at += 1) ring.put(request({ id: `r${at}`, at }));
  expect(ring.size).toBeLessThanOrEqual(110);
  expect(ring.get("r0")).toBeUndefined();
  expect(ring.newest(() => true)[0]!.id).toBe("r499");
  ring.put(request({ id: "r499", at: 499, status: 404 }));
  expect(ring.get("r499")!.status).toBe(404);
  expect(ring.newest(({ status }) => status === 404)).toHaveLength(1);
  ring.clear();
  expect(ring.size).toBe(0);
});

test("what comes late is put where it belongs", () => {
  const ring = new Ring();
  for (const at of [5, 1, 3, 4, 2]) ring.put(request({ id: `r${at}`, at }));
  expect(ring.newest(() => true).map(({ at }) => at)).toEqual([5, 4, 3, 2, 1]);
});

test("older pages go before what is known, once", () => {
  const ring = new Ring();
  for (const at of [8, 9]) ring.put(request({ id: `r${at}`, at }));
  ring.putOlder([8, 7, 6].map((at) => request({ id: `r${at}`, at })));
  ring.putOlder([5, 4].map((at) => request({ id: `r${at}`, at })));
  expect(ring.newest(() => true).map(({ at }) => at)).toEqual([9, 8, 7, 6, 5, 4]);
});

test("what is over is not open again, and what is gone is forgotten", () => {
  const ring = new Ring();
  ring.put(request({ id: "a", state: "open", status: null }));
  ring.put(request({ id: "a", state: "done", status: 201 }));
  ring.put(request({ id: "a", state: "open", status: null }));
  expect(ring.get("a")).toMatchObject({ state: "done", status: 201 });
  ring.put(request({ id: "b" }));
  ring.retain(({ id }) => id === "b");
  expect(ring.get("a")).toBeUndefined();
  expect(ring.newest(() => true).map(({ id }) => id)).toEqual(["b"]);
});

test("what is looked for anywhere is found where the program has found it", () => {
  expect(texts('Users -slow status:5xx >1s path:/api "two words" users -"Two Words"')).toEqual(["users", "slow", "two words"]);
  const has: Record<string, string[]> = { teapot: ["b", "c"] };
  const list = (text: string): string =>
    ALL.filter(compile({ ...EVERYTHING, text }, (wanted) => has[wanted] && new Set(has[wanted])))
      .map(({ id }) => id)
      .join("");
  expect([list("teapot"), list("Teapot method:post"), list("-teapot"), list("kettle")]).toEqual(["bc", "b", "adefg", ""]);
});
