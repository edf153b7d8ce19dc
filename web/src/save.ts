// Files for whoever looks at the page. A link cannot show who asks, so they are fetched.
import { notify } from "./notices.ts";

export function save(blob: Blob, name: string): void {
  // Whatever it is, it is not for this page to show.
  const url = URL.createObjectURL(blob.slice(0, blob.size, "application/octet-stream"));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Asks for it and saves it, or says why not. */
export function download(asked: Promise<Blob>, name: string): void {
  asked.then(
    (blob) => save(blob, name),
    (error: unknown) => notify("failed", error instanceof Error ? error.message : String(error)),
  );
}
