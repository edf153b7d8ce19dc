// The browser of the tests: Debian's chromium, or the one that CHROMIUM names.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { shrunk } from "./png.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const HERE = dirname(fileURLToPath(import.meta.url));
/** The files that are built into the program. */
export const ASSETS = join(HERE, "../../ferrotunnel-observability/assets");

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--font-render-hinting=none",
    ],
  });
}

export const WIDE = { width: 1200, height: 720 };
export const PHONE = { width: 375, height: 740 };

export interface Opened {
  page: Page;
  /** What went wrong in the page: faults of its script, and what its policy forbade. */
  faults: string[];
}

export async function open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: WIDE, reducedMotion: "reduce", ...options });
  // With FT_ASSETS=disk the page is that of the working tree, whatever was built into the program.
  if (process.env["FT_ASSETS"] === "disk") {
    await context.route(/^http:\/\/[^/]+\/(assets\/.*)?$/, async (route) => {
      const path = new URL(route.request().url()).pathname;
      await route.fulfill({ path: join(ASSETS, path === "/" ? "index.html" : path) });
    });
  }
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Uncaught|TypeError/.test(message.text())) faults.push(message.text());
  });
  await page.goto(url);
  return { page, faults };
}

/** Where pictures go: beside these files, or with FT_PICTURES=1 those that the documentation shows to `docs/pictures`. */
export const OUT = join(HERE, "out");
export const DOCS = process.env["FT_PICTURES"] === "1" ? join(HERE, "../../docs/pictures") : OUT;

/** Takes a picture of the page, or of a part of it. */
export async function picture(path: string, of: Page | Locator): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, shrunk(await of.screenshot()));
}

/** What axe holds against the page, the serious and critical alone, each in a line. */
export async function axe(page: Page): Promise<string[]> {
  // Through the protocol: the page's own policy lets in no script of others.
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    type Result = { violations: { id: string; impact: string | null; nodes: { target: string[]; failureSummary?: string }[] }[] };
    const run = (globalThis as unknown as { axe: { run: (options: object) => Promise<Result> } }).axe.run;
    const { violations } = await run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary ?? ""}`));
  });
}
