import { expect, test } from "vitest";
import { parse, pretty, size } from "../src/lib/json.ts";

test.each(["{}", "[]", "null", "true", '"a"', "0", "-1.5e+10", '{"a":[1,2,{"b":null}],"c":"\\u00e9\\n"}', " [ 1 , 2 ] ", '[[],{},""]', '{"":{"":[]}}'])(
  "%s is read as JSON.parse reads it",
  (text) => {
    const node = parse(text);
    expect(node).not.toBeNull();
    expect(pretty(node!)).toBe(JSON.stringify(JSON.parse(text), null, 2).replace("-15000000000", "-1.5e+10"));
  },
);

test.each(["", "{", "[1,]", '{"a"}', '{"a":}', "{a:1}", "[1 2]", "01", "1.", ".5", "+1", "nul", "[1]x", '"a', '"\n"', '"\\x"', "]", '{"a":1,}', "--1", "NaN", "undefined"])(
  "%j is no JSON",
  (text) => {
    expect(parse(text)).toBeNull();
    expect(() => JSON.parse(text)).toThrow();
  },
);

test("long numbers and double keys stay as they were written", () => {
  expect(pretty(parse('{"id":90071992547409931,"x":1.10,"x":2}')!)).toBe('{\n  "id": 90071992547409931,\n  "x": 1.10,\n  "x": 2\n}');
});

test("a key of the prototype is a key", () => {
  const node = parse('{"__proto__":{"a":1},"constructor":2}')!;
  expect(size(node)).toBe(2);
});

test("brackets without end do not end the page", () => {
  expect(parse("[".repeat(1_000_000))).toBeNull();
  expect(parse("[".repeat(5000) + "]".repeat(5000))).toBeNull();
  expect(parse("[".repeat(100) + "]".repeat(100))).not.toBeNull();
});

test("a long string is read", () => {
  const long = "x\\n".repeat(300_000);
  expect(parse(`"${long}"`)).toEqual({ kind: "string", value: "x\n".repeat(300_000) });
});
