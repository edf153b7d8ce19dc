// The requests that the page knows, oldest first: bounded, found by id, changed in place. The list is drawn at most once a
// frame however many requests come, so a change only says that there was one.
import type { RequestSummary } from "../api.ts";

/** More than the program keeps by default; some 500 bytes each. */
export const MOST_REQUESTS = 20_000;

export class Ring {
  private list: RequestSummary[] = [];
  private byId = new Map<string, RequestSummary>();

  constructor(private readonly most = MOST_REQUESTS) {}

  /** Takes a request that is new, or what has become of one. */
  put(request: RequestSummary): void {
    const known = this.byId.get(request.id);
    if (known) {
      // An answer that was asked for earlier may come later than the event that tells of the end.
      if (known.state === "open" || request.state !== "open") Object.assign(known, request);
      return;
    }
    this.byId.set(request.id, request);
    // Nearly always the newest; after a pause of the connection some come late.
    let at = this.list.length;
    while (at > 0 && this.list[at - 1]!.at > request.at) at -= 1;
    if (at === this.list.length) this.list.push(request);
    else this.list.splice(at, 0, request);
    // A tenth at a time: cutting off one by one would move the whole list each time.
    if (this.list.length > this.most * 1.1) {
      for (const old of this.list.splice(0, this.list.length - this.most)) this.byId.delete(old.id);
    }
  }

  /** Takes a page of what is older, newest first. */
  putOlder(page: RequestSummary[]): void {
    const fresh = page.filter((request) => !this.byId.has(request.id)).reverse();
    for (const request of fresh) this.byId.set(request.id, request);
    this.list = [...fresh, ...this.list].sort((a, b) => a.at - b.at);
  }

  get(id: string): RequestSummary | undefined {
    return this.byId.get(id);
  }

  get size(): number {
    return this.list.length;
  }

  /** Forgets all others. */
  retain(test: (request: RequestSummary) => boolean): void {
    this.list = this.list.filter((request) => test(request) || !this.byId.delete(request.id));
  }

  clear(): void {
    this.list = [];
    this.byId.clear();
  }

  /** Newest first, those alone that pass. */
  newest(test: (request: RequestSummary) => boolean): RequestSummary[] {
    const out: RequestSummary[] = [];
    for (let at = this.list.length - 1; at >= 0; at -= 1) {
      const request = this.list[at]!;
      if (test(request)) out.push(request);
    }
    return out;
  }
}
