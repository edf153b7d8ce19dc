// The pages against an interface that says what the test wants: what a real program cannot be brought to say at will.
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { axe, launch, open, PHONE } from "./browser.ts";
import { FakeApi, text } from "./fake-api.ts";
import { clientScene, sample, serverScene } from "./scene.ts";

let browser: Browser;
const opened: { fake: FakeApi; page: Page }[] = [];

beforeAll(async () => {
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
});
afterEach(async () => {
  for (const { fake, page } of opened.splice(0)) {
    await page.context().close();
    await fake.close();
  }
});

async function see(fake: FakeApi, hash = "#/", options = {}): Promise<{ page: Page; faults: string[]; url: string }> {
  const url = await fake.listen();
  const { page, faults } = await open(browser, `${url}/${hash}`, options);
  opened.push({ fake, page });
  return { page, faults, url };
}

test("a token is asked for, a wrong one is refused, and one can log out", async () => {
  const fake = clientScene();
  fake.token = "right";
  const { page } = await see(fake);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("That is not the token.").waitFor();
  expect(await axe(page)).toEqual([]);
  await page.getByLabel("Token").fill("right");
  await page.keyboard.press("Enter");
  await page.getByText("https://shop.example.com/").waitFor();
  // It is kept nowhere; what counts as it is a cookie that no script reads, together with a key of this page.
  expect(await page.evaluate(() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage))).not.toMatch(/right|yes/);
  await page.reload();
  await page.getByText("https://shop.example.com/").waitFor();
  await page.getByRole("button", { name: "Actions", exact: true }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await page.getByLabel("Token").waitFor();
});

test("what changes is asked for twice, then done", async () => {
  const fake = serverScene();
  const { page } = await see(fake, "#/");
  const act = async (menu: string, item: string, confirm: string): Promise<void> => {
    await page.getByRole("button", { name: menu, exact: true }).click();
    await page.getByRole("menuitem", { name: item }).click();
    await page.getByRole("dialog").getByRole("button", { name: confirm, exact: true }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
  };
  await page.getByRole("button", { name: "Actions for shop" }).click();
  await page.getByRole("menuitem", { name: "Pause…" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  expect(fake.done).toEqual([]);
  await act("Actions for shop", "Pause…", "Pause");
  await page.getByRole("row", { name: /shop/ }).getByText("paused").waitFor();
  await act("Actions for shop", "Resume…", "Resume");
  await page.getByRole("row", { name: /shop/ }).getByText("up").waitFor();
  await page.getByRole("link", { name: /Sessions/ }).click();
  await act("Actions for anna", "Close…", "Close session");
  await page.getByRole("row", { name: /anna/ }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "Principals" }).click();
  await act("Actions for jonas", "Revoke…", "Revoke");
  await act("Actions", "Reload settings…", "Reload");
  await page.getByText("`max-tunels` is not a setting").waitFor();
  await act("Actions", "Drain…", "Drain");
  expect(fake.done).toEqual(["tunnels/t0/pause", "tunnels/t0/resume", "sessions/s-7f3a/close", "principals/jonas/revoke", "drain"]);
  // Escape closes, and nothing is done.
  await page.getByRole("button", { name: "Actions", exact: true }).click();
  await page.getByRole("menuitem", { name: "Drain…" }).click();
  // A key that comes before it would be nobody's.
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  expect(fake.done).toHaveLength(5);
});

test("a program that ends is seen to be gone, and to be back", async () => {
  const fake = clientScene();
  const { page } = await see(fake);
  await page.getByText("Live", { exact: true }).waitFor();
  await fake.close();
  await page.getByRole("alert").getByText("Disconnected.").waitFor();
  // What was known stays to be read.
  await page.getByText("https://shop.example.com/").waitFor();
  expect(await axe(page)).toEqual([]);
  fake.tunnels[0]!.public_urls = ["https://new.example.com/"];
  fake.status.started_at = Date.now();
  await fake.listen();
  await page.getByText("https://new.example.com/").waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
});

test("where nothing answers at all, the page says so", async () => {
  const fake = new FakeApi("client");
  const { page, url } = await see(fake);
  await page.getByText("No tunnels yet").waitFor();
  await page.route("**/api/**", (route) => route.abort());
  await page.goto("about:blank");
  await page.goto(url);
  await page.getByText("Nothing answers here").waitFor();
  await page.getByRole("button", { name: "Try now" }).click();
  await page.unroute("**/api/**");
  await page.getByText("No tunnels yet").waitFor();
});

test("ten thousand requests are there, and only what is seen is drawn", async () => {
  const fake = clientScene();
  const from = Date.now() - 1_200_000;
  fake.requests = [];
  for (let n = 0; n < 10_000; n += 1) {
    fake.request({ id: `n${n}`, at: from + n * 90, path: `/item/${n}`, status: n % 100 === 0 ? 500 : 200, method: n % 10 === 0 ? "POST" : "GET" });
  }
  const { page } = await see(fake, "#/requests");
  await page.getByRole("status").filter({ hasText: /^10,000$/ }).waitFor();
  const rows = page.locator("[role=option]");
  expect(await rows.count()).toBeLessThan(60);
  await expect.poll(() => rows.first().textContent()).toContain("/item/9999");
  const list = page.getByRole("listbox");
  await list.focus();
  await page.keyboard.press("End");
  await page.getByText("/item/0", { exact: true }).waitFor();
  expect(await rows.count()).toBeLessThan(60);
  await page.keyboard.press("Home");
  await page.getByText("/item/9999", { exact: true }).waitFor();

  // While one looks further down, two thousand more come in; what is looked at stays where it is.
  await list.evaluate((element) => (element.scrollTop = 20_000));
  const seen = page.getByText("/item/9440", { exact: true });
  await seen.waitFor();
  const place = (): Promise<number | undefined> => seen.boundingBox().then((box) => box?.y);
  const before = await place();
  for (let n = 10_000; n < 12_000; n += 1) fake.request({ id: `n${n}`, at: from + n * 90, path: `/item/${n}` });
  await page.getByRole("status").filter({ hasText: /^12,000$/ }).waitFor();
  expect(await place()).toBe(before);

  await page.getByLabel("Filter requests").fill("status:5xx");
  await page.getByRole("status").filter({ hasText: /^100 of 12,000$/ }).waitFor();
  await page.getByLabel("Method", { exact: true }).selectOption("GET");
  await page.getByText("No request is like that").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();
  await page.getByRole("status").filter({ hasText: /^12,000$/ }).waitFor();

  // Held, the list stands still; then it has all that came meanwhile.
  await page.getByRole("button", { name: "Hold the list" }).click();
  fake.request({ id: "late", path: "/late" });
  await page.getByRole("link", { name: /Requests/ }).getByText("10k+").waitFor();
  expect(await page.getByText("/late", { exact: true }).count()).toBe(0);
  await page.getByRole("button", { name: "Go on" }).click();
  await list.evaluate((element) => (element.scrollTop = 0));
  await page.getByText("/late", { exact: true }).waitFor();
});

test("the keyboard is enough", async () => {
  const fake = clientScene();
  fake.requests = [];
  for (const name of ["one", "two", "three"]) fake.request({ id: name, path: `/${name}` });
  const { page } = await see(fake, "#/requests");
  await page.getByText("/three", { exact: true }).waitFor();
  const selected = page.locator("[role=option][aria-selected=true]");
  await page.keyboard.press("j");
  await expect.poll(() => selected.textContent()).toContain("/three");
  await page.keyboard.press("j");
  await expect.poll(() => selected.textContent()).toContain("/two");
  await page.keyboard.press("Enter");
  await page.locator(".detail-path", { hasText: "/two" }).waitFor();
  await page.keyboard.press("j");
  await page.locator(".detail-path", { hasText: "/one" }).waitFor();
  await page.keyboard.press("k");
  await page.keyboard.press("k");
  await page.locator(".detail-path", { hasText: "/three" }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("two");
  await page.getByRole("status").filter({ hasText: "1 of 3" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("status").filter({ hasText: /^3$/ }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.locator(".detail").waitFor({ state: "detached" });
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys and filter" }).waitFor();
  expect(await axe(page)).toEqual([]);
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  // Whatever has the focus is seen to have it.
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle)).not.toBe("none");
});

const EVIL = `<script>window.hacked=1</script><img src=x onerror="window.hacked=2">"'&{{7*7}}`;

test("what is hostile is text", async () => {
  const fake = clientScene();
  fake.requests = [];
  const headers: [string, string][] = [
    ["content-type", "text/html"],
    [`x-${"<b>".repeat(3)}`, EVIL],
    ["x-long", "A".repeat(1_000_000)],
    ["x-turned", "abc\u202egnp.exe"],
  ];
  const evil = fake.request({
    id: `evil/../"><script>`,
    path: `/${EVIL}?${"q".repeat(50_000)}`,
    host: EVIL,
    tunnel: EVIL,
    method: `GET<script>`,
    visitor: EVIL,
    error: EVIL,
    request_id: EVIL,
    kind: "websocket",
    request: { headers, trailers: [[EVIL, EVIL]], body: text(`${EVIL}${"<p>".repeat(20_000)}`) },
    response: { status: 200, reason: EVIL, headers: [["content-type", "application/json"], ...headers.slice(1)], trailers: [], body: text(JSON.stringify({ [EVIL]: EVIL, __proto__: EVIL })) },
    messages: [{ at: Date.now(), from: "visitor", kind: "text", size: 9, text: EVIL, base64: null, truncated: false }],
  });
  fake.request({
    id: "svg",
    path: "/svg",
    response: {
      status: 200, reason: "OK", headers: [["content-type", "image/svg+xml"]], trailers: [],
      body: text(`<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" onload="window.hacked=3"><script>window.hacked=4;parent.hacked=5</script><rect width="20" height="20"/></svg>`),
    },
  });
  fake.tunnels[0] = { ...fake.tunnels[0]!, name: EVIL, local: EVIL, last_error: EVIL, hosts: [EVIL], public_urls: [`javascript:window.hacked=6//`, `http://a.test/${EVIL}`] };
  fake.sessions[0] = { ...fake.sessions[0]!, software: EVIL, client: EVIL, address: EVIL, last_error: EVIL };
  const { page, faults } = await see(fake, "#/");
  await page.getByText("javascript:window.hacked=6//").waitFor();
  expect(await page.locator("a[href^=javascript]").count()).toBe(0);
  await page.goto(`${page.url().split("#")[0]}#/sessions`);
  await page.getByText(EVIL).first().waitFor();
  await page.goto(`${page.url().split("#")[0]}#/requests`);
  await page.locator("[role=option]").nth(1).click();
  await page.locator(".message").getByText("window.hacked=1").click();
  for (const tab of ["Request", "Response"]) {
    await page.getByRole("group", { name: "What to show" }).getByRole("button", { name: tab, exact: true }).click();
    await page.getByText("x-<b><b><b>").waitFor();
    await page.getByText("abc\\u202egnp.exe").waitFor();
    for (const view of await page.getByRole("group", { name: "How to show the body" }).getByRole("button").all()) await view.click();
  }
  await page.getByRole("button", { name: "Show all 1,000,000 characters" }).first().click();
  await page.getByRole("button", { name: "Edit" }).click();
  await page.getByRole("dialog").getByLabel("Path").waitFor();
  await page.keyboard.press("Escape");
  await page.goto(`${page.url().split("#")[0]}#/requests/svg`);
  await page.locator(".picture img").waitFor();
  await page.goto(`${page.url().split("#")[0]}#/compare/${encodeURIComponent(evil.id)}/svg`);
  await page.getByRole("button", { name: "Requests" }).click();
  await page.locator(".diff").first().waitFor();
  expect(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked)).toBeUndefined();
  expect(await page.locator("#app script, #app img:not(.picture img), #app b, #app iframe").count()).toBe(0);
  expect(faults).toEqual([]);
});

test("secrets are dots until they are asked for, and an edited request sends them", async () => {
  const fake = clientScene();
  const { page } = await see(fake, "#/requests/order");
  await page.getByRole("button", { name: "Request", exact: true }).click();
  await page.getByText("authorization").waitFor();
  expect(await page.getByText("6f1d-shop-session").count()).toBe(0);
  await page.getByRole("button", { name: "Show secrets" }).click();
  await page.getByText("Bearer 6f1d-shop-session").waitFor();
  await page.getByRole("button", { name: "Hide secrets" }).click();
  await page.getByText("6f1d-shop-session").waitFor({ state: "detached" });

  await page.keyboard.press("e");
  const editor = page.getByRole("dialog", { name: "Edit and replay" });
  await editor.getByLabel("Method").fill("PUT");
  await editor.getByLabel("Path").fill("/api/orders/1 2");
  expect(await editor.getByLabel("Value of authorization").getAttribute("type")).toBe("password");
  await editor.getByLabel("Value of accept", { exact: true }).fill("text/plain");
  await editor.getByRole("button", { name: "Leave out user-agent" }).click();
  await editor.getByRole("button", { name: "Add a header" }).click();
  await editor.getByLabel("Name of the header").last().fill("x-added");
  await editor.getByLabel("Value of x-added").fill("yes");
  await editor.getByLabel("Body").fill('{"changed":true}');
  expect(await axe(page)).toEqual([]);
  await editor.getByRole("button", { name: "Send" }).click();
  await editor.getByText("the path has a space").waitFor();
  expect(fake.replays).toEqual([]);
  await editor.getByLabel("Path").fill("/api/orders/12");
  await editor.getByRole("button", { name: "Send" }).click();
  await page.getByRole("heading", { name: "Original and replay" }).waitFor();
  const [sent] = fake.replays;
  expect(sent).toMatchObject({ method: "PUT", path: "/api/orders/12", body_text: '{"changed":true}' });
  const headers = new Map(sent!.headers);
  expect(headers.get("authorization")).toBe("Bearer 6f1d-shop-session");
  expect(headers.get("accept")).toBe("text/plain");
  expect(headers.get("x-added")).toBe("yes");
  expect(headers.has("user-agent")).toBe(false);
  expect(headers.has("content-length")).toBe(false);

  // Beside each other: what differs is marked.
  await page.getByRole("button", { name: "Requests", exact: true }).click();
  await page.locator("td.come", { hasText: "x-added: yes" }).waitFor();
  await page.locator("td.gone", { hasText: "user-agent" }).waitFor();
  await page.locator("td.come", { hasText: '"changed": true' }).waitFor();
  await page.getByLabel("Differences only").check();
  expect(await page.locator("tr.same").count()).toBe(0);
  await page.getByRole("button", { name: "Replay again" }).click();
  await expect.poll(() => fake.replays.length).toBe(2);
  expect(fake.replays[1]).toEqual({});
});

test("a chosen theme stays, and the graphs follow it", async () => {
  const { page } = await see(clientScene(), "#/", { colorScheme: "light" });
  const ground = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.locator(".plot canvas").first().waitFor();
  const light = await ground();
  await page.getByRole("button", { name: "Theme: as the system" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await expect.poll(ground).not.toBe(light);
  const dark = await ground();
  await page.reload();
  await page.locator(".plot canvas").first().waitFor();
  expect(await ground()).toBe(dark);
  await page.getByRole("button", { name: "Theme: dark" }).click();
  await expect.poll(ground).toBe(light);
  await page.emulateMedia({ colorScheme: "dark" });
  await expect.poll(ground).toBe(dark);
});

test("graphs take what comes, and say it to who does not see them", async () => {
  const fake = clientScene();
  const { page } = await see(fake);
  const graph = page.getByRole("img", { name: /^Requests: / });
  await graph.waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  fake.emit("sample", { ...sample(Date.now() + 1000, 1), requests: 4321, errors: 7 });
  await page.getByRole("img", { name: "Requests: requests 4,321/s, errors 7/s" }).waitFor();
});

test("who sees no requests shows none, and a tunnel's are told by their status", async () => {
  const seen = await see(clientScene());
  await seen.page.getByText("2xx 17,903 · 3xx 214 · 4xx 118 · 5xx 4 · no answer 1").waitFor();
  await seen.page.getByRole("img", { name: /^Latency: / }).waitFor();
  const fake = clientScene();
  fake.status.inspecting = false;
  for (const one of fake.samples) Object.assign(one, { requests: null, p50_seconds: null, p90_seconds: null, p99_seconds: null });
  for (const tunnel of fake.tunnels) tunnel.requests = null;
  const { page } = await see(fake);
  await page.getByRole("img", { name: /^Streams: / }).waitFor();
  await page.locator(".summary .stat", { hasText: "Streams a minute" }).waitFor();
  expect(await page.getByText(/Latency|Requests a minute|no answer/).count()).toBe(0);
});

test("graphs move on by themselves", async () => {
  const { page } = await see(clientScene(), "#/", { reducedMotion: "no-preference" });
  const canvas = page.locator(".plot canvas").first();
  await canvas.waitFor();
  await page.getByRole("button", { name: "1 min", exact: true }).click();
  const picture = (): Promise<string> => canvas.evaluate((element) => (element as HTMLCanvasElement).toDataURL());
  const before = await picture();
  await expect.poll(picture).not.toBe(before);
});

test("an address can be copied, and read by a phone", async () => {
  const { page } = await see(clientScene(), "#/", { permissions: ["clipboard-read", "clipboard-write"] });
  await page.getByRole("button", { name: "Copy address" }).first().click();
  await page.getByText("address copied").waitFor();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("https://shop.example.com/");
  await page.getByRole("button", { name: "QR code" }).click();
  await page.getByRole("img", { name: "QR code of https://shop.example.com/" }).waitFor();
  expect(await axe(page)).toEqual([]);
});

test("on a phone the detail takes the place of the list, and gives it back", async () => {
  const { page } = await see(clientScene(), "#/requests", { viewport: PHONE });
  await page.getByText("/api/orders", { exact: true }).first().click();
  await page.locator(".detail").waitFor();
  expect(await page.getByRole("listbox").count()).toBe(0);
  await page.getByRole("button", { name: "Back to the list" }).click();
  await page.getByRole("listbox").waitFor();
});

test("a request that is gone is said to be gone", async () => {
  const { page } = await see(clientScene(), "#/requests/no-such");
  await page.getByText("It is no longer kept").waitFor();
  await page.getByRole("button", { name: "To the list" }).click();
  await page.getByRole("listbox").waitFor();
});
