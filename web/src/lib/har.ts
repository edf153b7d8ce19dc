// Whether a text is an archive of HTTP 1.2 as other programs read it: <http://www.softwareishard.com/blog/har-12-spec/>.
// The export itself is the program's; this says in words what would be wrong with one.

type Shape = "string" | "number" | "boolean" | "object" | "array";

const ENTRY: Record<string, Shape> = {
  startedDateTime: "string",
  time: "number",
  request: "object",
  response: "object",
  cache: "object",
  timings: "object",
};
const REQUEST: Record<string, Shape> = {
  method: "string",
  url: "string",
  httpVersion: "string",
  cookies: "array",
  headers: "array",
  queryString: "array",
  headersSize: "number",
  bodySize: "number",
};
const RESPONSE: Record<string, Shape> = {
  status: "number",
  statusText: "string",
  httpVersion: "string",
  cookies: "array",
  headers: "array",
  content: "object",
  redirectURL: "string",
  headersSize: "number",
  bodySize: "number",
};

/** What is wrong, each as a sentence; nothing is wrong with an empty list. */
export function faults(text: string): string[] {
  const found: string[] = [];
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (error) {
    return [`not JSON: ${String(error)}`];
  }
  const log = at(root, "log");
  check(found, "log", log, { version: "string", creator: "object", entries: "array" });
  if (at(log, "version") !== "1.2") found.push("log.version is not 1.2");
  check(found, "log.creator", at(log, "creator"), { name: "string", version: "string" });
  const entries = at(log, "entries");
  if (!Array.isArray(entries)) return found;
  entries.forEach((entry: unknown, index) => {
    const name = `log.entries[${index}]`;
    check(found, name, entry, ENTRY);
    if (Number.isNaN(Date.parse(String(at(entry, "startedDateTime"))))) found.push(`${name}.startedDateTime is no time`);
    const request = at(entry, "request");
    check(found, `${name}.request`, request, REQUEST);
    if (!URL.canParse(String(at(request, "url")))) found.push(`${name}.request.url is no absolute URL`);
    pairs(found, `${name}.request.headers`, at(request, "headers"));
    pairs(found, `${name}.request.queryString`, at(request, "queryString"));
    const post = at(request, "postData");
    if (post !== undefined) check(found, `${name}.request.postData`, post, { mimeType: "string", text: "string" });
    const response = at(entry, "response");
    check(found, `${name}.response`, response, RESPONSE);
    pairs(found, `${name}.response.headers`, at(response, "headers"));
    check(found, `${name}.response.content`, at(response, "content"), { size: "number", mimeType: "string" });
    const timings = at(entry, "timings");
    check(found, `${name}.timings`, timings, { send: "number", wait: "number", receive: "number" });
    for (const part of ["send", "wait", "receive"]) {
      if ((at(timings, part) as number) < 0) found.push(`${name}.timings.${part} is negative`);
    }
  });
  return found;
}

function at(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}

function check(found: string[], name: string, value: unknown, shape: Record<string, Shape>): void {
  if (typeof value !== "object" || value === null) {
    found.push(`${name} is not an object`);
    return;
  }
  for (const [key, wanted] of Object.entries(shape)) {
    const is = at(value, key);
    const right = wanted === "array" ? Array.isArray(is) : typeof is === wanted && is !== null;
    if (!right) found.push(`${name}.${key} is not ${wanted === "object" || wanted === "array" ? "an" : "a"} ${wanted}`);
  }
}

function pairs(found: string[], name: string, list: unknown): void {
  if (!Array.isArray(list)) return;
  list.forEach((item: unknown, index) => check(found, `${name}[${index}]`, item, { name: "string", value: "string" }));
}
