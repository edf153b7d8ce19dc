import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import type { RequestDetail } from "../src/api.ts";
import { curl, hasMasked, quote } from "../src/lib/curl.ts";
import { FakeApi, binary, text } from "../e2e/fake-api.ts";

const detail = (given: Partial<RequestDetail>): RequestDetail => new FakeApi("client").request(given);

/** What bash makes of the command, with a `curl` that prints its arguments. */
function argumentsOf(command: string): string[] {
  const script = `curl() { printf '%s\\0' "$@"; if [[ " $* " == *" @- "* ]]; then od -An -tx1 | tr -d ' \\n'; printf '\\0'; fi; }\n${command}`;
  return execFileSync("bash", ["-c", script], { encoding: "utf8" }).split("\0").slice(0, -1);
}

test.each(["plain", "it's", "a b", "$(id) `id` $HOME", '"double"', "back\\slash", "new\nline", "tab\tand\r", "bang!", "", "'", "\\'", "é漢🙂", "\u0001\u007f", "-x", "~", "*", "#", "a\\nb!"])(
  "the shell reads %j as it is",
  (value) => {
    expect(execFileSync("bash", ["-c", `printf %s ${quote(value)}`], { encoding: "utf8" })).toBe(value);
  },
);

test("a plain request is a plain command", () => {
  const command = curl(detail({ path: "/a?b=c" }), "https://web.example.test/");
  expect(command).toBe("curl --path-as-is --globoff \\\n  'https://web.example.test/a?b=c' \\\n  --header 'accept: */*'");
});

test("method, headers and body arrive as they were", () => {
  const body = `{"say":"it's $HOME","n":1}`;
  const command = curl(
    detail({
      method: "PUT",
      path: "/x y/../[1]'",
      request: {
        headers: [["host", "h"], ["content-type", "application/json"], ["content-length", "9"], ["x-empty", ""], ["accept-encoding", "gzip, br"], ["x-odd", "a'b\"c"]],
        trailers: [],
        body: text(body),
      },
    }),
    "http://h",
  );
  expect(argumentsOf(command)).toEqual([
    "--request", "PUT", "--path-as-is", "--globoff", "http://h/x y/../[1]'", "--header", "content-type: application/json", "--header", "x-empty;",
    "--header", "x-odd: a'b\"c", "--compressed", "--data-raw", body,
  ]);
});

test("POST with a body needs no method, HEAD is asked for as such", () => {
  const post = detail({ method: "POST", request: { headers: [], trailers: [], body: text("a=1") } });
  expect(argumentsOf(curl(post, "http://h"))).toEqual(["--path-as-is", "--globoff", "http://h/", "--header", "content-type:", "--data-raw", "a=1"]);
  expect(argumentsOf(curl(detail({ method: "HEAD" }), "http://h"))[0]).toBe("--head");
});

test("bytes that are no text go by base64", () => {
  const command = curl(detail({ method: "POST", request: { headers: [], trailers: [], body: binary(Buffer.from([0, 255, 10, 39])) } }), "http://h");
  const seen = argumentsOf(command);
  expect(seen.slice(-3)).toEqual(["--data-binary", "@-", "00ff0a27"]);
});

test("what was cut off is said", () => {
  const body = { ...text("abc"), size: 99, truncated: true };
  expect(curl(detail({ method: "POST", request: { headers: [], trailers: [], body } }), "http://h")).toMatch(/^# only the first 3 of 99 bytes/);
});

test("masked secrets are noticed", () => {
  expect(hasMasked(detail({}))).toBe(false);
  expect(hasMasked(detail({ request: { headers: [["authorization", "••••"]], trailers: [], body: text("") } }))).toBe(true);
});
