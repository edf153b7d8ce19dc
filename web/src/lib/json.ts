// JSON as a tree that keeps what was written: long numbers stay as they are, keys keep their order, and a key that is there
// twice is shown twice. `JSON.parse` does none of the three. Nothing recurses: a body of brackets alone must not end the page.

export type Node =
  | { kind: "object"; entries: { key: string; value: Node }[] }
  | { kind: "array"; items: Node[] }
  | { kind: "string"; value: string }
  | { kind: "number"; raw: string }
  | { kind: "literal"; raw: "true" | "false" | "null" };

/** Deeper than people look; what is deeper is shown as text. */
const DEEPEST = 100;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\r\n]*/y;

/** The tree, or `null` where the text is no JSON. */
export function parse(text: string): Node | null {
  let at = 0;
  const stack: Node[] = [];
  const keys: string[] = [];
  const match = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) return null;
    at += found[0].length;
    return found[0];
  };
  const key = (): boolean => {
    match(SPACE);
    const raw = match(STRING);
    if (raw === null) return false;
    match(SPACE);
    if (text[at] !== ":") return false;
    at += 1;
    keys.push(JSON.parse(raw) as string);
    return true;
  };

  for (;;) {
    // A value begins here.
    match(SPACE);
    let value: Node;
    const char = text[at];
    if (char === "{" || char === "[") {
      at += 1;
      match(SPACE);
      const opened: Node = char === "{" ? { kind: "object", entries: [] } : { kind: "array", items: [] };
      if (text[at] === (char === "{" ? "}" : "]")) {
        at += 1;
        value = opened;
      } else {
        if (stack.length >= DEEPEST) return null;
        stack.push(opened);
        if (char === "{" && !key()) return null;
        continue;
      }
    } else if (char === '"') {
      const raw = match(STRING);
      if (raw === null) return null;
      value = { kind: "string", value: JSON.parse(raw) as string };
    } else {
      const literal = ["true", "false", "null"].find((word) => text.startsWith(word, at));
      if (literal) {
        at += literal.length;
        value = { kind: "literal", raw: literal as "true" };
      } else {
        const raw = match(NUMBER);
        if (raw === null) return null;
        value = { kind: "number", raw };
      }
    }
    // It ends here, and with it perhaps what it is in.
    for (;;) {
      const parent = stack.at(-1);
      match(SPACE);
      if (parent === undefined) return at === text.length ? value : null;
      const next = text[at];
      at += 1;
      if (parent.kind === "object") {
        parent.entries.push({ key: keys.pop() ?? "", value });
        if (next === ",") {
          if (!key()) return null;
          break;
        }
        if (next !== "}") return null;
      } else if (parent.kind === "array") {
        parent.items.push(value);
        if (next === ",") break;
        if (next !== "]") return null;
      }
      stack.pop();
      value = parent;
    }
  }
}

/** With two spaces a level, as `JSON.stringify` would, but for the numbers. */
export function pretty(node: Node, indent = ""): string {
  const deeper = `${indent}  `;
  switch (node.kind) {
    case "object":
      if (node.entries.length === 0) return "{}";
      return `{\n${node.entries
        .map(({ key, value }) => `${deeper}${JSON.stringify(key)}: ${pretty(value, deeper)}`)
        .join(",\n")}\n${indent}}`;
    case "array":
      if (node.items.length === 0) return "[]";
      return `[\n${node.items.map((item) => deeper + pretty(item, deeper)).join(",\n")}\n${indent}]`;
    case "string":
      return JSON.stringify(node.value);
    default:
      return node.raw;
  }
}

export function size(node: Node): number {
  if (node.kind === "object") return node.entries.length;
  return node.kind === "array" ? node.items.length : 0;
}
