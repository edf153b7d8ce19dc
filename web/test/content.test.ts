import { expect, test } from "vitest";
import { content, multipart, urlencoded } from "../src/lib/content.ts";
import { fromBase64, rows, toBase64 } from "../src/lib/hex.ts";
import { isToken, wrong } from "../src/lib/edit.ts";
import { fill, peak } from "../src/lib/series.ts";
import { parts, total } from "../src/lib/timing.ts";
import { FakeApi, binary, text } from "../e2e/fake-api.ts";

const views = (type: string, value: string) => content(text(value), type === "" ? [] : [["Content-Type", type]]).views;

test("a body is shown first as what it is", () => {
  expect(views("application/json; charset=utf-8", '{"a":1}')).toEqual(["tree", "text", "hex"]);
  expect(views("application/problem+json", "[1]")).toEqual(["tree", "text", "hex"]);
  expect(views("text/html", "<p>")).toEqual(["text", "hex"]);
  expect(views("application/json", "not json")).toEqual(["text", "hex"]);
  expect(views("application/json", "12")).toEqual(["text", "hex"]);
  expect(views("", '{"a":1}')).toEqual(["tree", "text", "hex"]);
  expect(views("application/x-www-form-urlencoded", "a=1")).toEqual(["form", "text", "hex"]);
  expect(views("image/svg+xml", "<svg/>")).toEqual(["image", "text", "hex"]);
});

test("bytes are shown as a picture only where they are one, and whole", () => {
  const body = binary(Buffer.from([1, 2, 3]));
  expect(content(body, [["content-type", "image/png"]]).views).toEqual(["image", "hex"]);
  expect(content({ ...body, truncated: true }, [["content-type", "image/png"]]).views).toEqual(["hex"]);
  expect(content(body, [["content-type", "image/x-evil"]]).views).toEqual(["hex"]);
  expect(content(body, [["content-type", "text/html"]]).views).toEqual(["hex"]);
});

test("forms", () => {
  expect(urlencoded("a=1&b=two+words&b=%3Cscript%3E&c")).toEqual([
    { name: "a", value: "1", note: null },
    { name: "b", value: "two words", note: null },
    { name: "b", value: "<script>", note: null },
    { name: "c", value: "", note: null },
  ]);
  const sent = '--x.+y\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\ntwo\r\n--x.+y\r\ncontent-disposition: form-data; name="f"; filename="n.txt"\r\nContent-Type: text/plain\r\n\r\nfile\r\n--x.+y--\r\n';
  expect(multipart(sent, "x.+y")).toEqual([
    { name: "a", value: "one\r\ntwo", note: null },
    { name: "f", value: "file", note: "n.txt, text/plain" },
  ]);
  expect(multipart(sent, "")).toEqual([]);
});

test("hexadecimal rows", () => {
  const all = rows(new TextEncoder().encode("0123456789abcdefXé\n"));
  expect(all).toEqual([
    { offset: "00000000", hex: "30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66", text: "0123456789abcdef" },
    { offset: "00000010", hex: "58 c3 a9 0a".padEnd(48), text: "X···" },
  ]);
  expect(rows(new Uint8Array(1000), 3)).toHaveLength(3);
  expect(rows(new Uint8Array(0))).toEqual([]);
});

test("base64 there and back", () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, at) => at);
  expect(fromBase64(toBase64(bytes))).toEqual(bytes);
});

test("what is edited is looked at before it is sent", () => {
  expect(wrong("GET", "/a?b", [["x", "y"]])).toBeNull();
  expect(wrong("OPTIONS", "*", [])).toBeNull();
  expect(wrong("GE T", "/", [])).toMatch(/method/);
  expect(wrong("GET", "a", [])).toMatch(/slash/);
  expect(wrong("GET", "/a b", [])).toMatch(/space/);
  expect(wrong("GET", "/", [["a b", ""]])).toMatch(/name/);
  expect(wrong("GET", "/", [["a", "b\r\nc: d"]])).toMatch(/line break/);
  expect(isToken("")).toBe(false);
});

test("timing parts follow each other, and what is not known takes no room", () => {
  const request = new FakeApi("client").request({
    duration_seconds: 0.5,
    timing: { queue_seconds: 0.1, connect_seconds: null, send_seconds: 0, wait_seconds: 0.2, receive_seconds: 0.1 },
  });
  expect(parts(request).map(({ name, start }) => [name, Math.round(start * 10) / 10])).toEqual([["queue", 0], ["send", 0.1], ["wait", 0.1], ["receive", 0.3]]);
  expect(total(request)).toBe(0.5);
});

test("gaps are bridged as far as is asked, and the peak is that of what is seen", () => {
  expect(fill([1, null, null, 4, null, null, null, 8, null], 2)).toEqual([1, 1, 1, 4, null, null, null, 8, null]);
  expect(fill([null, 2], 5)).toEqual([null, 2]);
  expect(peak([[1, 2, 3, 4], [9, 1, null, 2], [0, 3, 1, 1]], 3)).toBe(3);
  expect(peak([[], []], 3)).toBe(0);
});
