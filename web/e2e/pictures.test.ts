// Every page as it looks, wide and narrow, light and dark, and held to what axe knows of accessibility. Some of the pictures are
// those of the documentation. What else there is to see of the program is in `surfaces.test.ts`.
import { join } from "node:path";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DOCS, OUT, PHONE, WIDE, axe, launch, open, picture } from "./browser.ts";
import type { FakeApi } from "./fake-api.ts";
import { clientScene, serverScene } from "./scene.ts";

let browser: Browser;
let client: FakeApi;
let server: FakeApi;
const at = { client: "", server: "" };

beforeAll(async () => {
  browser = await launch();
  client = clientScene();
  server = serverScene();
  at.client = await client.listen();
  at.server = await server.listen();
});

afterAll(async () => {
  await browser?.close();
  await client?.close();
  await server?.close();
});

const PAGES: [side: "client" | "server", name: string, hash: string, ready: string][] = [
  ["client", "overview", "#/", ".tunnel"],
  ["client", "requests", "#/requests", ".row"],
  ["client", "request", "#/requests/order", ".tree"],
  ["client", "messages", "#/requests/chat", ".message"],
  ["client", "image", "#/requests/image", ".picture img"],
  ["client", "grpc", "#/requests/grpc", ".grpc"],
  ["client", "compare", "#/compare/order/again", ".diff"],
  ["client", "servers", "#/sessions", "tbody tr"],
  ["server", "overview", "#/", "tbody tr"],
  ["server", "requests", "#/requests", ".empty"],
  ["server", "sessions", "#/sessions", "tbody tr"],
  ["server", "principals", "#/principals", ".limits"],
];

const LOOKS: [name: string, options: BrowserContextOptions][] = [
  ["light", { viewport: WIDE, colorScheme: "light" }],
  ["dark", { viewport: WIDE, colorScheme: "dark" }],
  ["phone", { viewport: PHONE, colorScheme: "light", hasTouch: true }],
];

/** What the documentation shows. */
const SHOWN: Record<string, string> = {
  "client-overview-light": "client.png",
  "client-request-light": "request.png",
  "client-compare-light": "compare.png",
  "server-overview-dark": "server.png",
  "client-requests-phone": "phone.png",
};

for (const [look, options] of LOOKS) {
  test.each(PAGES)(`%s %s, ${look}`, async (side, name, hash, ready) => {
    const { page, faults } = await open(browser, `${at[side]}/${hash}`, options);
    await page.locator(ready).first().waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    // The graphs draw at the next second.
    await page.waitForFunction(() => [...document.querySelectorAll(".plot")].every((plot) => plot.querySelector("canvas")));
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    const key = `${side}-${name}-${look}`;
    const shown = SHOWN[key];
    await picture(shown === undefined ? join(OUT, `${key}.png`) : join(DOCS, shown), page);
    expect(await axe(page)).toEqual([]);
    expect(faults).toEqual([]);
    // Nothing is wider than the screen.
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(options.viewport!.width);
    await page.context().close();
  });
}
