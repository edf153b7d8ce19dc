// The dashboard on the built program: a real server, a real client, a real site behind them and a real visitor.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { PHONE, axe, launch, open } from "./browser.ts";
import { EVIL, answering, client, freePort, hasInspector, raw, server, site, visit, type Program, type RunningServer } from "./program.ts";
import { faults as harFaults } from "../src/lib/har.ts";

let browser: Browser;
let local: Awaited<ReturnType<typeof site>>;
const running: Program[] = [];
const pages: Page[] = [];

beforeAll(async () => {
  browser = await launch();
  local = await site();
});
afterAll(async () => {
  await browser?.close();
  await local?.close();
});
afterEach(async () => {
  for (const page of pages.splice(0)) await page.context().close();
  for (const program of running.splice(0)) await program.kill();
});

async function see(url: string, options = {}): Promise<{ page: Page; faults: string[] }> {
  const seen = await open(browser, url, options);
  pages.push(seen.page);
  return seen;
}

async function serve(more: string[] = []): Promise<RunningServer> {
  const started = await server(more);
  running.push(started.program);
  return started;
}

async function join_(to: RunningServer, name: string, more: string[] = []): Promise<Program> {
  const started = await client(to, name, local.port, more);
  running.push(started);
  return started;
}

/** Opens a menu, chooses from it and confirms. */
async function act(page: Page, menu: string, item: string, confirm: string): Promise<void> {
  await page.getByRole("button", { name: menu, exact: true }).click();
  await page.getByRole("menuitem", { name: item }).click();
  await page.getByRole("dialog").getByRole("button", { name: confirm, exact: true }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

describe("at a server", () => {
  test("a client is seen to come, to go when it is killed, and to come back", async () => {
    const to = await serve();
    const { page, faults } = await see(`${to.admin}/`);
    await page.getByText("No tunnels yet").waitFor();
    const first = await join_(to, "shop");
    const card = page.getByRole("article", { name: "Tunnel shop" });
    await card.getByText("up", { exact: true }).waitFor();
    await card.getByRole("link", { name: /http:\/\/shop\.localhost/ }).waitFor();
    expect((await visit(to, "shop", "/hello")).status).toBe(200);
    await card.locator(".stat", { hasText: "Requests" }).getByText("1", { exact: true }).waitFor();
    expect(await axe(page)).toEqual([]);

    await first.kill();
    await card.getByText("up", { exact: true }).waitFor({ state: "detached" });
    await join_(to, "shop");
    await card.getByText("up", { exact: true }).waitFor();
    await page.getByRole("link", { name: /^Sessions/ }).click();
    await page.getByRole("row", { name: /ferrotunnel/ }).getByText("up", { exact: true }).waitFor();
    expect(faults).toEqual([]);
  });

  test("a paused tunnel turns visitors away, a closed session is dialled again", async () => {
    const to = await serve();
    await join_(to, "shop");
    const { page } = await see(`${to.admin}/`);
    const card = page.getByRole("article", { name: "Tunnel shop" });
    await card.getByText("up", { exact: true }).waitFor();
    await act(page, "Actions for shop", "Pause…", "Pause");
    await card.getByText("paused").waitFor();
    expect((await visit(to, "shop", "/")).status).toBe(503);
    await act(page, "Actions for shop", "Resume…", "Resume");
    await card.getByText("up", { exact: true }).waitFor();
    expect((await visit(to, "shop", "/")).status).toBe(200);

    await page.getByRole("link", { name: /^Sessions/ }).click();
    const id = (): Promise<string | null> => page.locator("tbody th .sub").first().textContent();
    await page.getByRole("row", { name: /ferrotunnel/ }).waitFor();
    const sessions = async (): Promise<string> =>
      ((await (await fetch(`${to.admin}/api/v1/sessions`)).json()) as { sessions: { id: string }[] }).sessions.map((one) => one.id).join();
    const before = await sessions();
    expect(await id()).not.toBeNull();
    await page.getByRole("button", { name: /^Actions for/ }).click();
    await page.getByRole("menuitem", { name: "Close…" }).click();
    await page.getByRole("button", { name: "Close session" }).click();
    await expect.poll(sessions, { timeout: 20_000 }).not.toBe(before);
    await expect.poll(async () => (await visit(to, "shop", "/")).status, { timeout: 20_000 }).toBe(200);
  });

  test("graphs show the requests that pass", async () => {
    const to = await serve();
    await join_(to, "shop");
    const { page } = await see(`${to.admin}/`);
    await page.getByRole("article", { name: "Tunnel shop" }).getByText("up", { exact: true }).waitFor();
    for (let n = 0; n < 5; n += 1) await visit(to, "shop", `/${n}`);
    const stat = page.locator(".summary .stat", { hasText: "Requests a minute" });
    await stat.getByText("5", { exact: true }).waitFor();
    await visit(to, "shop", "/?status=500");
    await page.locator(".summary .stat", { hasText: "Errors a minute" }).getByText("1", { exact: true }).waitFor();
  });

  test("a token opens the page, and nothing else does", async () => {
    const dir = mkdtempSync(join(tmpdir(), "ferrotunnel-dashboard-"));
    const file = join(dir, "token");
    writeFileSync(file, "an-admin-token-of-the-tests", { mode: 0o600 });
    try {
      const to = await serve(["--admin-token-file", file]);
      const { page, faults } = await see(`${to.admin}/`);
      await page.getByLabel("Token").fill("a-wrong-token-of-the-tests");
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByText("That is not the token.").waitFor();
      await page.getByLabel("Token").fill("an-admin-token-of-the-tests");
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByText("No tunnels yet").waitFor();
      await page.getByText("Live", { exact: true }).waitFor();
      await page.reload();
      await page.getByText("Live", { exact: true }).waitFor();
      await page.getByRole("button", { name: "Actions", exact: true }).click();
      await page.getByRole("menuitem", { name: "Log out" }).click();
      await page.getByLabel("Token").waitFor();
      await page.reload();
      await page.getByLabel("Token").waitFor();
      expect(faults).toEqual([]);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test("a drain from the page ends the server, and the page says that it is gone", async () => {
    const to = await serve();
    const { page } = await see(`${to.admin}/`);
    await page.getByText("Live", { exact: true }).waitFor();
    await act(page, "Actions", "Drain…", "Drain");
    await page.getByText("Disconnected", { exact: true }).waitFor();
  });

  test("every page is good to read in both themes and on a phone", async () => {
    const to = await serve();
    await join_(to, "shop");
    for (const options of [{ colorScheme: "light" }, { colorScheme: "dark" }, { viewport: PHONE }]) {
      const { page, faults } = await see(`${to.admin}/`, options);
      await page.getByText("http://shop.localhost").first().waitFor();
      for (const name of [/^Overview/, /^Sessions/, /^Principals/, /^Requests/]) {
        await page.getByRole("navigation").getByRole("link", { name }).click();
        await page.locator("main *").first().waitFor();
        expect(await axe(page)).toEqual([]);
      }
      expect(faults).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    }
  });
});

const inspects = await hasInspector();
if (!inspects) console.warn("SKIPPED: this build of the program has no admin interface with an inspector at the client");

describe.skipIf(!inspects)("at a client", () => {
  /** A server, and a client of it whose dashboard is open at the requests. */
  async function inspect(hash = "#/requests"): Promise<{ to: RunningServer; page: Page; faults: string[]; admin: string; again: () => Promise<Program>; program: Program }> {
    const to = await serve();
    const port = await freePort();
    const again = (): Promise<Program> => join_(to, "shop", ["--admin-bind", `127.0.0.1:${port}`]);
    const program = await again();
    const admin = `http://127.0.0.1:${port}`;
    await answering(`${admin}/healthz`);
    const { page, faults } = await see(`${admin}/${hash}`, { acceptDownloads: true });
    await page.getByText("Live", { exact: true }).waitFor();
    return { to, page, faults, admin, again, program };
  }

  test("a request appears as it comes, is found, opened, replayed, edited and exported", async () => {
    const { to, page, faults } = await inspect();
    await page.getByText("No requests yet").waitFor();
    const sent = { method: "POST", headers: { authorization: "Bearer visitors-secret", "content-type": "application/json" }, body: '{"tea":"pot"}' };
    expect((await visit(to, "shop", "/order?n=1", sent)).status).toBe(200);
    await page.getByText("/order?n=1", { exact: true }).waitFor();
    await visit(to, "shop", "/other?status=404");
    await page.getByText("/other?status=404", { exact: true }).waitFor();

    // By what only the program has: a part of a body, but not a secret.
    const search = page.getByLabel("Filter requests");
    await search.fill('tea":"pot');
    await page.getByText("/other?status=404", { exact: true }).waitFor({ state: "detached" });
    await page.getByText("/order?n=1", { exact: true }).waitFor();
    await search.fill("visitors-secret");
    await page.getByText("/order?n=1", { exact: true }).waitFor({ state: "detached" });
    await search.fill("");
    await page.getByText("/other?status=404", { exact: true }).waitFor();
    await search.blur();

    await page.keyboard.press("/");
    await page.keyboard.type("method:post");
    await page.getByText("/other?status=404", { exact: true }).waitFor({ state: "detached" });
    await page.getByText("/order?n=1", { exact: true }).click();
    await page.locator(".tree").getByText("90071992547409931").waitFor();
    await page.locator(".waterfall").waitFor();
    await page.getByRole("button", { name: "Request", exact: true }).click();
    await page.getByText("authorization").waitFor();
    expect(await page.getByText("visitors-secret").count()).toBe(0);
    await page.locator(".tree").getByText('"pot"').waitFor();
    expect(await axe(page)).toEqual([]);
    await page.getByRole("button", { name: "Show secrets" }).click();
    await page.getByText("Bearer visitors-secret").waitFor();

    // As it was: the site sees the same again.
    await page.getByRole("button", { name: "Replay", exact: true }).click();
    await page.getByRole("heading", { name: "Original and replay" }).waitFor();
    await expect.poll(() => local.seen.at(-1)).toMatchObject({ method: "POST", path: "/order?n=1", body: '{"tea":"pot"}' });
    expect(local.seen.at(-1)!.headers.authorization).toBe("Bearer visitors-secret");
    await page.locator("td.come", { hasText: '"number"' }).waitFor();

    // Changed.
    await page.getByRole("button", { name: "Edit", exact: true }).click();
    const editor = page.getByRole("dialog", { name: "Edit and replay" });
    await editor.getByLabel("Path").fill("/order?n=2&status=418");
    await editor.getByRole("button", { name: "Add a header" }).click();
    await editor.getByLabel("Name of the header").last().fill("x-added");
    await editor.getByLabel("Value of x-added").fill("yes");
    await editor.getByLabel("Body").fill('{"tea":"cup"}');
    await editor.getByRole("button", { name: "Send" }).click();
    await page.locator(".side-card", { hasText: "418" }).waitFor();
    expect(local.seen.at(-1)).toMatchObject({ method: "POST", path: "/order?n=2&status=418", body: '{"tea":"cup"}' });
    expect(local.seen.at(-1)!.headers).toMatchObject({ "x-added": "yes", authorization: "Bearer visitors-secret" });

    await page.getByRole("link", { name: /^Requests/ }).click();
    await page.getByRole("button", { name: "More about the requests" }).click();
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: "Export as HAR", exact: true }).click()]);
    const har = readFileSync(await download.path(), "utf8");
    expect(harFaults(har)).toEqual([]);
    expect(har).not.toContain("visitors-secret");
    expect(har).toContain("/order?n=2&status=418");
    expect(faults).toEqual([]);
  });

  test("a client that is killed is seen to be gone, and to be back", async () => {
    const { to, page, program, again } = await inspect("#/");
    await page.getByText("http://shop.localhost").first().waitFor();
    await program.kill();
    await page.getByRole("alert").getByText("Disconnected.").waitFor();
    await again();
    await page.getByText("Live", { exact: true }).waitFor();
    await page.getByRole("navigation").getByRole("link", { name: /^Requests/ }).click();
    await expect.poll(async () => (await visit(to, "shop", "/back")).status, { timeout: 20_000 }).toBe(200);
    await page.getByText("/back", { exact: true }).first().waitFor();
  });

  test("what hostile visitors and services send is text", async () => {
    const { to, page, faults } = await inspect();
    const path = `/evil?${encodeURIComponent(EVIL)}`;
    await visit(to, "shop", path, { method: "POST", headers: { "x-evil": EVIL, "user-agent": EVIL }, body: EVIL });
    await raw(to, `GET /evil?<script>window.hacked=3</script> HTTP/1.1\r\nhost: shop.localhost\r\nx-long: ${"A".repeat(50_000)}\r\nconnection: close\r\n\r\n`);
    await page.locator("[role=option]").first().waitFor();
    for (const row of await page.locator("[role=option]").all()) {
      await row.click();
      for (const tab of ["Request", "Response"]) {
        await page.getByRole("group", { name: "What to show" }).getByRole("button", { name: tab, exact: true }).click();
        for (const view of await page.getByRole("group", { name: "How to show the body" }).getByRole("button").all()) await view.click();
      }
    }
    await page.getByText(EVIL).first().waitFor();
    expect(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked)).toBeUndefined();
    expect(await page.locator("#app script, #app img").count()).toBe(0);
    expect(faults).toEqual([]);
  });

  test("events of a stream are a list", async () => {
    const { to, page } = await inspect();
    await visit(to, "shop", "/events");
    await page.getByText("/events", { exact: true }).click();
    await page.locator(".message", { hasText: "one" }).waitFor();
    await page.locator(".message", { hasText: "two" }).waitFor();
  });
});
