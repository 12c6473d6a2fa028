// The dashboard in headless Chromium: what a person would see. Arguments: the program, the folder of
// node_modules, the folder for screenshots.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [program, modules, shots] = process.argv.slice(2);
const { chromium } = createRequire(resolve(modules) + "/")("playwright-core");

// A child whose output is kept; `said` waits for words in it.
const start = (...args) => {
  const child = spawn(resolve(program), args, { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  let changed = () => {};
  child.stdout.on("data", (data) => {
    text += data;
    changed();
  });
  const said = async (pattern, from = 0) => {
    const end = Date.now() + 30000;
    for (;;) {
      const found = text.slice(from).match(pattern);
      if (found) return found;
      assert.ok(Date.now() < end, `${pattern} was not said in: ${text}`);
      await new Promise((done) => {
        changed = done;
        setTimeout(done, 200);
      });
    }
  };
  return { child, said, length: () => text.length };
};

let passed = 0;
let failed = 0;
const test = async (name, fn) => {
  try {
    await fn();
    passed++;
    console.log("ok " + name);
  } catch (error) {
    failed++;
    console.log("not ok " + name + "\n" + error.stack);
  }
};

const analytics = start("examples/dashboard/analytics.lua", "--fail", "2", "--slow", "0");
const [service] = await analytics.said(/http\S+/);
const server = start("examples/dashboard/server.lua", "--analytics", service, "--latency", "1");
const [url] = await server.said(/http\S+/);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

const names = ["user", "config", "analytics", "posts"];

// A page that remembers each state that each card was in, in order, from its first moment.
const open = async (options) => {
  const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.addInitScript(() => {
    window.seen = [];
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const now = target.dataset.card + " " + target.dataset.state + " " + target.getAttribute("aria-busy");
        if (!window.seen.includes(now)) window.seen.push(now);
      }
    }).observe(document, { subtree: true, attributeFilter: ["data-state", "aria-busy"] });
  });
  return { context, page, problems };
};
const state = (page, name) => page.getAttribute(`[data-card="${name}"]`, "data-state");
const settled = (page, name) => page.waitForSelector(`[data-card="${name}"]:not([data-state="loading"])`);
const allSettled = async (page) => {
  for (const name of names) await settled(page, name);
  await page.waitForFunction(() => /^Loaded in \d+ ms/.test(document.querySelector("#status").textContent));
};

// Each text whose contrast with what is behind it is too low to be read by all (WCAG: 4.5 to 1).
const faint = (page) =>
  page.evaluate(() => {
    const numbers = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => {
      const [r, g, b] = numbers(color).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if ((numbers(color)[3] ?? 1) === 1) return color;
      }
      return "rgb(255, 255, 255)";
    };
    return [...document.querySelectorAll("body *")]
      .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && element.checkVisibility())
      .filter((element) => !element.closest("svg, noscript"))
      .map((element) => {
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
        return [element.textContent, (a + 0.05) / (b + 0.05)];
      })
      .filter(([, contrast]) => contrast < 4.5);
  });

try {
  await test("each card shows that it loads, then its data", async () => {
    const { context, page, problems } = await open({ colorScheme: "light" });
    await page.goto(url, { waitUntil: "commit" });
    await page.waitForSelector('[data-card="posts"][data-state="loading"] .skeleton');
    await page.screenshot({ path: resolve(shots, "loading.png"), animations: "disabled" });
    await allSettled(page);
    const seen = await page.evaluate(() => window.seen);
    for (const name of names) {
      const [loading, loaded] = [seen.indexOf(name + " loading true"), seen.indexOf(name + " loaded false")];
      assert.ok(loading >= 0 && loaded > loading, `${name}: ${seen}`);
    }
    assert.ok(seen.indexOf("posts loaded false") > seen.indexOf("user loaded false"), "posts needs the user");
    assert.match(await page.textContent('[data-card="user"]'), /Ada Lovelace/);
    assert.equal(await page.locator('[data-card="posts"] li').count(), 10);
    assert.equal(await page.locator('[data-card="analytics"] rect').count(), 14);
    assert.equal(await page.locator("#waterfall .row").count(), 4);
    assert.equal(await page.locator("#waterfall .pending").count(), 0);
    await page.screenshot({ path: resolve(shots, "light.png"), fullPage: true });
    assert.deepEqual(await faint(page), []);
    assert.deepEqual(problems, []);
    await context.close();
  });

  await test("a card that fails says why, and is loaded again by its button and the keyboard", async () => {
    const { context, page, problems } = await open({ colorScheme: "dark" });
    await page.goto(url); // the service's second request, which fails
    await allSettled(page);
    assert.equal(await state(page, "analytics"), "failed");
    assert.match(await page.textContent('[data-card="analytics"] [role=alert]'), /being counted anew/);
    assert.match(await page.textContent("#status"), /1 failed/);
    for (const name of ["user", "config", "posts"]) assert.equal(await state(page, name), "loaded");
    await page.screenshot({ path: resolve(shots, "dark-failed.png"), fullPage: true });
    assert.deepEqual(await faint(page), []);
    await page.keyboard.press("Tab"); // from the top of the page: load again, then try again
    assert.equal(await page.evaluate(() => document.activeElement.id), "reload");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Try again: analytics");
    await page.keyboard.press("Enter");
    await page.waitForSelector('[data-card="analytics"][data-state="loaded"]');
    const seen = await page.evaluate(() => window.seen);
    assert.ok(seen.indexOf("analytics loaded false") > seen.indexOf("analytics failed false"));
    assert.equal(await page.evaluate(() => document.activeElement.closest("[data-card]")?.dataset.card), "analytics");
    assert.deepEqual(problems, []);
    await context.close();
  });

  await test("a reload in the middle cancels the old request on the server", async () => {
    const { context, page, problems } = await open({ viewport: { width: 390, height: 844 }, colorScheme: "light" });
    await page.goto(url, { waitUntil: "commit" });
    await page.waitForSelector('[data-card="posts"][data-state="loading"]');
    const from = server.length();
    await page.reload();
    await server.said(/events broke off: its client has left/, from);
    await allSettled(page);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    assert.equal(wide, false, "the page is wider than a phone");
    await page.screenshot({ path: resolve(shots, "phone.png"), fullPage: true });
    assert.deepEqual(problems, []);
    await context.close();
  });

  await test("its own button does the same, on a phone in the dark whose user wants no motion", async () => {
    const options = { viewport: { width: 390, height: 844 }, colorScheme: "dark", reducedMotion: "reduce" };
    const { context, page, problems } = await open(options);
    await page.goto(url, { waitUntil: "commit" });
    await page.waitForSelector('[data-card="posts"][data-state="loading"] .skeleton');
    const motion = await page.evaluate(() => getComputedStyle(document.querySelector(".skeleton")).animationName);
    assert.equal(motion, "none");
    const from = server.length();
    await page.click("#reload");
    await server.said(/events broke off: its client has left/, from);
    await allSettled(page);
    await page.screenshot({ path: resolve(shots, "phone-dark.png"), fullPage: true });
    assert.deepEqual(await faint(page), []);
    assert.deepEqual(problems, []);
    await context.close();
  });

  await test("useDashboard gives data and loading for each card", async () => {
    const { context, page, problems } = await open();
    await page.goto(url);
    await allSettled(page);
    const told = await page.evaluate(async () => {
      const { useDashboard } = await import("/page/dashboard.js");
      const told = [];
      await new Promise((done) => {
        const dashboard = useDashboard((state, name) => {
          const { user, posts } = dashboard.cards;
          told.push({ name: name ?? null, user: [user.loading, user.data?.name ?? null], posts: [posts.loading, posts.data?.length ?? null] });
          if (state.total !== null) done();
        });
        dashboard.load();
      });
      return told;
    });
    assert.deepEqual(told[0], { name: null, user: [true, null], posts: [true, null] });
    const user = told.find(({ name }) => name === "user");
    assert.deepEqual(user, { name: "user", user: [false, "Ada Lovelace"], posts: [true, null] });
    assert.deepEqual(told.at(-1), { name: null, user: [false, "Ada Lovelace"], posts: [false, 10] });
    assert.deepEqual(problems, []);
    await context.close();
  });

  await test("a screen reader finds names, roles and news", async () => {
    const { context, page } = await open();
    await page.goto(url);
    await allSettled(page);
    assert.equal(await page.getByRole("heading", { level: 1, name: "Dashboard" }).count(), 1);
    for (const name of ["You", "Settings", "Visitors, last two weeks", "Latest posts"])
      assert.equal(await page.getByRole("article", { name }).count(), 1, name);
    assert.equal(await page.getByRole("status").count(), 1);
    const chart = page.getByRole("img", { name: /visitors a day: \d+/ });
    assert.equal(await chart.or(page.getByRole("alert")).count(), 1);
    assert.equal(await page.getByRole("region", { name: "This request" }).getByRole("listitem").count(), 4);
    assert.equal(await page.getByRole("img", { name: "waited for user, then ran" }).count() >= 1, true);
    await context.close();
  });

  await test("no card has data without the cookie, or with one that was changed", async () => {
    const response = await fetch(url);
    const cookie = response.headers.get("set-cookie");
    assert.match(cookie, /; HttpOnly/);
    assert.match(cookie, /; SameSite=Strict/i);
    const value = cookie.match(/session=(\d+\.[0-9a-f]{64})/)[1];
    const status = async (session) => {
      const headers = session === undefined ? {} : { Cookie: "session=" + session };
      return (await fetch(url + "api/cards/user", { headers })).status;
    };
    assert.equal(await status(value), 200);
    const last = value.at(-1) === "0" ? "1" : "0";
    for (const wrong of [undefined, "", "1", "1.", "2" + value.slice(1), value.slice(0, -1), value.slice(0, -1) + last, value + "0",
      "1." + "0".repeat(64), "01" + value.slice(1), value.toUpperCase() === value ? value + "0" : value.toUpperCase()])
      assert.equal(await status(wrong), 401, wrong);
  });

  await test("SIGTERM in the middle lets the page have its cards, and ends the server in order", async () => {
    const { context, page } = await open();
    await page.goto(url, { waitUntil: "commit" });
    await page.waitForSelector('[data-card="posts"][data-state="loading"]');
    const ended = new Promise((done) => server.child.on("exit", (code, signal) => done({ code, signal })));
    server.child.kill("SIGTERM");
    for (const name of names) await settled(page, name);
    assert.equal(await state(page, "user"), "loaded");
    assert.deepEqual(await ended, { code: 0, signal: null });
    await context.close();
  });
} finally {
  await browser.close();
  for (const { child } of [server, analytics]) child.kill("SIGTERM");
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
