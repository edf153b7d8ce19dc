// A request as a command that a shell takes.
import type { RequestDetail } from "../api.ts";

/** What is in single quotes a POSIX shell leaves alone; what cannot be there at all is escaped as `$'..'`, which bash and zsh read. */
export function quote(text: string): string {
  if (/^[A-Za-z0-9_\-+=:,./@%]+$/.test(text)) return text;
  if (!/[\u0000-\u001f\u007f!]/.test(text)) return `'${text.replaceAll("'", `'\\''`)}'`;
  const escaped = text.replace(/[\\'!\u0000-\u001f\u007f]/g, (char) => {
    if (char === "\n") return "\\n";
    if (char === "\r") return "\\r";
    if (char === "\t") return "\\t";
    if (char === "\\" || char === "'") return `\\${char}`;
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return `$'${escaped}'`;
}

/** Headers that curl sets itself from what else it is told, or that belong to the connection alone. */
const LEFT_OUT = new Set(["host", "content-length", "connection", "transfer-encoding", "keep-alive", "upgrade", "te", "expect"]);

export const MASK = "••••";

export function isMasked(value: string): boolean {
  return value.includes(MASK);
}

/** Whether something of it is masked, so that the command would send dots. */
export function hasMasked(request: RequestDetail): boolean {
  return request.request.headers.some(([, value]) => isMasked(value));
}

export function curl(request: RequestDetail, origin: string): string {
  const parts: string[] = [];
  const body = request.request.body;
  const hasBody = body.captured > 0;
  const implied = hasBody ? "POST" : "GET";
  if (request.method === "HEAD") parts.push("--head");
  else if (request.method !== implied) parts.push(`--request ${quote(request.method)}`);
  // A path like `/..` or `/[a]` goes out as it is.
  parts.push("--path-as-is --globoff");
  parts.push(quote(origin.replace(/\/$/, "") + request.path));
  let compressed = false;
  for (const [name, value] of request.request.headers) {
    const lower = name.toLowerCase();
    if (lower.startsWith(":") || LEFT_OUT.has(lower)) continue;
    if (lower === "accept-encoding" && /gzip|deflate|br/.test(value)) {
      compressed = true;
      continue;
    }
    if (lower === "content-encoding" && body.text !== null) continue;
    // An empty header is written with a semicolon, or curl leaves it out.
    parts.push(`--header ${quote(value === "" ? `${name};` : `${name}: ${value}`)}`);
  }
  if (compressed) parts.push("--compressed");
  if (hasBody) {
    const type = request.request.headers.some(([name]) => name.toLowerCase() === "content-type");
    if (!type) parts.push("--header content-type:");
    if (body.text !== null) parts.push(`--data-raw ${quote(body.text)}`);
    else if (body.base64 !== null) {
      const command = `base64 --decode <<< ${quote(body.base64)} | curl ${parts.join(" \\\n  ")} \\\n  --data-binary @-`;
      return body.truncated ? `# only the first ${body.captured} of ${body.size} bytes of the body\n${command}` : command;
    }
  }
  const command = `curl ${parts.join(" \\\n  ")}`;
  return hasBody && body.truncated ? `# only the first ${body.captured} of ${body.size} bytes of the body\n${command}` : command;
}
