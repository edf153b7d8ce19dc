// What a body is, by its type and by itself, and so how it can be shown. The first way is the one that is shown at first.
import type { Body, Header } from "../api.ts";
import { fromBase64 } from "./hex.ts";
import { parse, type Node } from "./json.ts";

export type View = "tree" | "form" | "image" | "text" | "hex";

export interface Content {
  type: string;
  views: View[];
  tree: Node | null;
  fields: Field[];
  bytes: Uint8Array<ArrayBuffer>;
  text: string | null;
}

export interface Field {
  name: string;
  value: string;
  note: string | null;
}

/** What browsers draw from a blob without running anything of it. */
const IMAGES = /^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml|x-icon|vnd\.microsoft\.icon)$/;

export function header(headers: Header[], name: string): string | null {
  return headers.find(([key]) => key.toLowerCase() === name)?.[1] ?? null;
}

export function content(body: Body, headers: Header[]): Content {
  const given = header(headers, "content-type") ?? "";
  const type = given.split(";")[0]!.trim().toLowerCase();
  const bytes = body.base64 !== null ? fromBase64(body.base64) : new TextEncoder().encode(body.text ?? "");
  const text = body.text;
  const views: View[] = [];
  let tree: Node | null = null;
  let fields: Field[] = [];
  if (text !== null) {
    if (/[/+]json$/.test(type) || type === "" || type === "text/plain" || /^\s*[[{]/.test(text)) tree = parse(text);
    if (tree !== null && (tree.kind === "object" || tree.kind === "array")) views.push("tree");
    if (type === "application/x-www-form-urlencoded") fields = urlencoded(text);
    else if (type === "multipart/form-data") fields = multipart(text, /boundary="?([^";]+)"?/i.exec(given)?.[1] ?? "");
    if (fields.length > 0) views.push("form");
  }
  if (IMAGES.test(type) && !body.truncated && bytes.length > 0) views.push("image");
  if (text !== null) views.push("text");
  views.push("hex");
  return { type, views, tree, fields, bytes, text };
}

export function urlencoded(text: string): Field[] {
  return [...new URLSearchParams(text.trim())].map(([name, value]) => ({ name, value, note: null }));
}

export function multipart(text: string, boundary: string): Field[] {
  if (boundary === "") return [];
  return text
    .split(new RegExp(`(?:^|\\r?\\n)--${boundary.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?:--)?[ \\t]*(?:\\r?\\n|$)`))
    .flatMap((part) => {
      const end = /\r?\n\r?\n/.exec(part);
      if (!end) return [];
      const head = part.slice(0, end.index);
      const name = /name="([^"]*)"/i.exec(head)?.[1] ?? "";
      const file = /filename="([^"]*)"/i.exec(head)?.[1];
      const type = /^content-type:\s*(.+)$/im.exec(head)?.[1]?.trim();
      const note = [file, type].filter((word) => word !== undefined).join(", ");
      return [{ name, value: part.slice(end.index + end[0].length), note: note === "" ? null : note }];
    });
}
