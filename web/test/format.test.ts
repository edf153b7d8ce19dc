import { describe, expect, test } from "vitest";
import { age, bytes, bytesPerSecond, clock, count, duration, rate, shorten, statusClass, visible, words } from "../src/lib/format.ts";

describe("numbers", () => {
  test("what is not known is a dash", () => {
    for (const format of [count, bytes, bytesPerSecond, duration, age, rate]) {
      expect(format(null)).toBe("–");
      expect(format(undefined)).toBe("–");
      expect(format(Number.NaN)).toBe("–");
      expect(format(Number.POSITIVE_INFINITY)).toBe("–");
    }
  });

  test("bytes have three digits at most", () => {
    expect([0, 1, 999, 1000, 1024, 1536, 10_240, 1_048_576, 123_456_789, 5e12].map(bytes)).toEqual([
      "0 B", "1 B", "999 B", "0.98 KiB", "1 KiB", "1.5 KiB", "10 KiB", "1 MiB", "118 MiB", "4.55 TiB",
    ]);
    expect(bytes(-2048)).toBe("-2 KiB");
    expect(bytesPerSecond(2048)).toBe("2 KiB/s");
  });

  test("durations choose their unit", () => {
    expect([0, 0.000_000_2, 0.000_38, 0.0042, 0.318, 0.9999, 1.236, 12.34, 125].map(duration)).toEqual([
      "0 ms", "1 µs", "380 µs", "4.2 ms", "318 ms", "1.00 s", "1.24 s", "12.3 s", "2 min 5 s",
    ]);
    expect(duration(-0.5)).toBe("-500 ms");
  });

  test("no duration is rounded to a thousand of its unit", () => {
    for (let seconds = 1e-7; seconds < 50; seconds *= 1.013) expect(duration(seconds)).not.toMatch(/^1000/);
  });

  test("ages have two units at most", () => {
    expect([0, 0.9, 59, 60, 61, 3600, 15_132, 86_400, 788_645].map(age)).toEqual([
      "0 s", "0 s", "59 s", "1 min", "1 min 1 s", "1 h", "4 h 12 min", "1 d", "9 d 3 h",
    ]);
  });

  test("rates have a decimal below ten", () => {
    expect([0, 0.25, 3, 3.14, 10.4, 12_345].map(rate)).toEqual(["0", "0.3", "3", "3.1", "10", "12,345"]);
  });

  test("clock and count", () => {
    const at = new Date(2026, 0, 2, 3, 4, 5, 6).getTime();
    expect(clock(at)).toBe("03:04:05");
    expect(clock(at, true)).toBe("03:04:05.006");
    expect(clock(Number.NaN)).toBe("–");
    expect(count(1_234_567)).toBe("1,234,567");
  });
});

test("a status has the class of its first digit", () => {
  expect([101, 200, 304, 404, 502].map((status) => statusClass(status))).toEqual(["info", "ok", "redirect", "client", "server"]);
  expect(statusClass(null, "open")).toBe("none");
  expect(statusClass(null, "failed")).toBe("server");
});

test("characters that hide or turn text around become visible", () => {
  expect(visible("a\u0000b\u001bc\u202Ed\u200be\u007f")).toBe("a␀b␛c\\u202ed\\u200be\\u007f");
  expect(visible("line\n\ttab\r")).toBe("line\n\ttab␍");
  expect(visible("<script>alert(1)</script> é 漢 🙂")).toBe("<script>alert(1)</script> é 漢 🙂");
});

test("words and shortening", () => {
  expect(words("max_streams-per_second")).toBe("max streams per second");
  expect(shorten("abcdef", 4)).toBe("abc…");
  expect(shorten("abcd", 4)).toBe("abcd");
});
