// Headers as text to write in, and back.
import type { Header } from "../api.ts";

export const isToken = (name: string): boolean => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name);

/** What is wrong with a request as it was edited, or `null`. */
export function wrong(method: string, path: string, headers: Header[]): string | null {
  if (!isToken(method)) return "the method is one word without spaces";
  if (!path.startsWith("/") && path !== "*") return "the path begins with a slash";
  if (/[\s\u0000-\u001f\u007f]/.test(path)) return "the path has a space or a control character in it; write it as %20";
  for (const [name, value] of headers) {
    if (!isToken(name)) return `“${name}” is no name of a header`;
    if (/[\r\n\u0000]/.test(value)) return `the value of ${name} has a line break in it`;
  }
  return null;
}
