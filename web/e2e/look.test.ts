import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, open, PHONE, axe } from "./browser.ts";
import { clientScene, serverScene } from "./scene.ts";
import type { Browser } from "playwright-core";

let browser: Browser;
beforeAll(async () => { browser = await launch(); });
afterAll(async () => { await browser.close(); });

test("look", async () => {
  const client = clientScene();
  const server = serverScene();
  const c = await client.listen();
  const s = await server.listen();
  const shots: [string, string, object][] = [
    ["client-overview", `${c}/#/`, {}],
    ["client-requests", `${c}/#/requests`, {}],
    ["client-order", `${c}/#/requests/order`, {}],
    ["client-order-dark", `${c}/#/requests/order`, { colorScheme: "dark" }],
    ["client-chat", `${c}/#/requests/chat`, {}],
    ["client-compare", `${c}/#/compare/order/form`, {}],
    ["server-overview", `${s}/#/`, {}],
    ["server-overview-dark", `${s}/#/`, { colorScheme: "dark" }],
    ["server-sessions", `${s}/#/sessions`, {}],
    ["server-principals", `${s}/#/principals`, {}],
    ["phone-overview", `${c}/#/`, { viewport: PHONE }],
    ["phone-requests", `${c}/#/requests`, { viewport: PHONE }],
    ["phone-order", `${c}/#/requests/order`, { viewport: PHONE }],
  ];
  const problems: string[] = [];
  for (const [name, url, options] of shots) {
    const { page, faults } = await open(browser, url, options);
    await page.waitForSelector(".state.ok");
    await page.waitForTimeout(1200);
    await page.screenshot({ path: `/tmp/shots/${name}.png` });
    problems.push(...faults.map((f) => `${name}: ${f}`), ...(await axe(page)).map((f) => `${name}: ${f}`));
    await page.context().close();
  }
  await client.close(); await server.close();
  expect(problems).toEqual([]);
});
