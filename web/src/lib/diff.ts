// What differs between two requests: headers by name, bodies by line.
import type { Header } from "../api.ts";

export interface Pair<T> {
  left: T | null;
  right: T | null;
  same: boolean;
}

/** Headers side by side by name, in the order of the left; several of one name are matched one by one. */
export function headers(left: Header[], right: Header[]): Pair<Header>[] {
  const rest = [...right];
  const pairs: Pair<Header>[] = left.map((header) => {
    const name = header[0].toLowerCase();
    const same = rest.findIndex(([key, value]) => key.toLowerCase() === name && value === header[1]);
    const at = same !== -1 ? same : rest.findIndex(([key]) => key.toLowerCase() === name);
    const other = at === -1 ? null : rest.splice(at, 1)[0]!;
    return { left: header, right: other, same: other !== null && other[1] === header[1] };
  });
  return [...pairs, ...rest.map((header) => ({ left: null, right: header, same: false }))];
}

/** Beyond so many lines that differ, the middle is taken as replaced whole: the table below would be the square of it. */
const MOST = 1500;

/** Lines side by side: a longest common subsequence between equal beginnings and ends. */
export function lines(left: string, right: string): Pair<string>[] {
  const a = left.split("\n");
  const b = right.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const same = (line: string): Pair<string> => ({ left: line, right: line, same: true });
  return [
    ...a.slice(0, start).map(same),
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...a.slice(a.length - end).map(same),
  ];
}

function middle(a: string[], b: string[]): Pair<string>[] {
  if (a.length > MOST || b.length > MOST) return side(a, b);
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  const pairs: Pair<string>[] = [];
  let gone: string[] = [];
  let come: string[] = [];
  const flush = (): void => {
    pairs.push(...side(gone, come));
    gone = [];
    come = [];
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      flush();
      pairs.push({ left: a[i]!, right: b[j]!, same: true });
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!)) {
      gone.push(a[i]!);
      i += 1;
    } else {
      come.push(b[j]!);
      j += 1;
    }
  }
  flush();
  return pairs;
}

function side(a: string[], b: string[]): Pair<string>[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, at) => ({
    left: a[at] ?? null,
    right: b[at] ?? null,
    same: false,
  }));
}
