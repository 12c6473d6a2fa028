// Reports in headless Chromium: what a person would see. Arguments: the program, the folder of node_modules, the
// folder for screenshots.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [program, modules, shots] = process.argv.slice(2);
const { chromium } = createRequire(resolve(modules) + "/")("playwright-core");

const report = (name, code) => {
  const path = resolve(shots, name + ".html");
  execFileSync(resolve(program), ["--report", path, "-e", code], { timeout: 60000 });
  return "file://" + path;
};

const graph = report("report", `
  allua.clock.virtual()
  local function work(seconds) return function() allua.sleep(seconds) end end
  pcall(all, {
    user = work(0.06),
    posts = function(self) local _ = self.user allua.trace.span("parse posts", allua.sleep, 0.1) end,
    friends = function(self) local _ = self.user allua.sleep(0.03) end,
    analytics = function(self) local _, _ = self.posts, self.friends allua.sleep(0.04) end,
    avatar = function(self) local _ = self.user all({ small = work(0.02), large = work(0.05) }) end,
  }, { name = "page" })
  pcall(all, {
    bad = function() allua.sleep(0.02) error("the <b>service</b> said no </script>") end,
    reader = function(self) return self.bad end,
    victim = work(5),
  }, { name = "second" })
  pcall(allua.fetch, "http://me:hidden@127.0.0.1:1/x?y=hidden")
  allua.map({ 1, 2, 3, 4, 5, 6 }, function() allua.sleep(0.02) end, { concurrency = 2 })
`);
// Names and errors that would be markup, or turn the text around.
const hostile = report("report-hostile", `
  local names = { "<img src=x onerror='window.hurt=1'>", "</script><script>window.hurt=1</script>", "<svg onload=window.hurt=1>",
    "&lt;b&gt;", "'\\"\\\\", "\\u{202E}back", "<!--", "]]>", ("long "):rep(200), "\\xFF\\0" }
  local tasks = {}
  for _, name in ipairs(names) do
    tasks[name] = function() allua.sleep(0.001) error(name .. "<img src=x onerror='window.hurt=1'>", 0) end
  end
  allua.all_settled(tasks, { name = "<img src=x onerror='window.hurt=1'>" })
  allua.trace.span("</script><img src=x onerror='window.hurt=1'>", allua.sleep, 0.001)
`);
const many = report("report-many", `
  local tasks = {}
  for i = 1, 10000 do tasks["task " .. i] = function() allua.sleep(i % 300 / 1000) end end
  all(tasks)
`);

// A program and its own server, whose task is cancelled when it closes.
const server = report("report-server", `
  local server = allua.serve({ port = 0, routes = { ["/user/:id"] = function() allua.sleep(0.05) return "x" end } })
  all({ user = function() return allua.fetch(server.url .. "/user/7?key=secret") end })
  server:close()
`);

let passed = 0;
let failed = 0;
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const test = async (name, url, options, fn) => {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => request.url() === url || problems.push("asked for " + request.url()));
  try {
    await page.goto(url);
    await fn(page);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${overflow} pixels too wide`);
    assert.deepEqual(problems, []);
    passed++;
    console.log("ok " + name);
  } catch (error) {
    failed++;
    console.log("not ok " + name + "\n" + error.stack);
  }
  await context.close();
};

const shot = (page, name) => page.screenshot({ path: resolve(shots, name + ".png"), fullPage: true });

await test("shows tasks, the critical path, errors and operations", graph, {}, async (page) => {
  // Time was virtual, so that it is the same each time.
  assert.match(await page.textContent("#path"), /page\.user 60 mspage\.posts 100 mspage\.analytics 40 ms/);
  assert.match(await page.textContent("#path"), /second\.bad/);
  assert.match(await page.textContent("#errors"), /the <b>service<\/b> said no <\/script>/);
  assert.match(await page.textContent("#errors"), /reader|bad/);
  assert.match(await page.textContent("#slowest"), /parse posts/);
  assert.match(await page.textContent("#slowest"), /fetch/);
  assert.ok(!(await page.content()).includes('"url":"http://me'));
  assert.ok((await page.locator("#graph g").count()) >= 5);
  assert.ok((await page.locator("#graph path.on").count()) >= 2);
  await shot(page, "report-light");
});

await test("shows names and errors as they are, and no markup of theirs", hostile, {}, async (page) => {
  assert.equal(await page.evaluate(() => window.hurt), undefined);
  assert.equal(await page.locator("img, #rows script, b:not(#details b)").count(), 0);
  assert.equal(await page.locator("script").count(), 2);
  for (const name of ["<img src=x onerror='window.hurt=1'>", "</script><script>window.hurt=1</script>", "&lt;b&gt;"])
    assert.ok((await page.textContent("#errors")).includes(name), name);
  await page.focus("#rows");
  for (let i = 0; i < 12; i++) await page.keyboard.press("ArrowDown");
  assert.match(await page.textContent("#details"), /onerror/);
  assert.match(await page.textContent("#errors"), /\\u\{202E\}back/);
  assert.ok(!/[\u202e\0]/.test(await page.textContent("main")));
  await page.mouse.move(600, 400);
  assert.equal(await page.evaluate(() => window.hurt), undefined);
  assert.equal(await page.locator("img").count(), 0);
  await shot(page, "report-hostile");
});

await test("is used by keyboard", graph, {}, async (page) => {
  await page.focus("#rows");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.match(await page.textContent("#details"), /page\./);
  const before = await page.locator("#chart").screenshot();
  await page.keyboard.press("+");
  await page.waitForTimeout(100);
  assert.notDeepEqual(await page.locator("#chart").screenshot(), before);
  await page.keyboard.press("0");
  await page.keyboard.press("Escape");
  assert.ok(await page.isHidden("#details"));
  await page.fill("#filter", "analytics");
  await page.focus("#rows");
  await page.keyboard.press("Home");
  assert.match(await page.textContent("#details"), /Waited for: .*page\.posts/);
});

await test("tells what is under the pointer", graph, {}, async (page) => {
  const box = await page.locator("#rows").boundingBox();
  await page.mouse.move(box.x + 300, box.y + 36);
  assert.match(await page.textContent("#tip"), /main/);
});

await test("is dark where that is wanted", graph, { colorScheme: "dark" }, async (page) => {
  await shot(page, "report-dark");
});

await test("fits a phone", graph, { viewport: { width: 390, height: 800 } }, async (page) => {
  await shot(page, "report-phone");
});

await test("stays smooth with 10,000 tasks", many, {}, async (page) => {
  // The page's own work, in CPU time, whatever else the machine does.
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const spent = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return metrics.find((each) => each.name === "TaskDuration").value * 1000;
  };
  const FRAMES = 60;
  const each = async (what, act) => {
    const before = await spent();
    const frames = await page.evaluate(async ([source, count]) => {
      const act = new Function("i", "rows", source);
      const rows = document.getElementById("rows");
      const times = [];
      for (let i = 0; i < count; i++) {
        const began = performance.now();
        act(i, rows);
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        times.push((performance.now() - began) / 2);
      }
      return times.sort((a, b) => a - b);
    }, [act, FRAMES]);
    const cost = (await spent() - before) / FRAMES;
    const median = frames[FRAMES / 2];
    console.log(`# ${what}: ${cost.toFixed(1)} ms of CPU a step, a frame each ${median.toFixed(1)} ms`);
    assert.ok(cost < 100, `${what}: ${cost} ms of CPU a step`);
  };
  await each("scrolling", "rows.scrollTop += 3900");
  await each("zooming", `rows.dispatchEvent(new WheelEvent("wheel",
    { deltaY: i < 30 ? -1 : 1, ctrlKey: true, clientX: 700, clientY: 400, bubbles: true, cancelable: true }))`);
  await each("moving the pointer", `rows.dispatchEvent(new PointerEvent("pointermove",
    { clientX: 300 + i * 10, clientY: 400, pointerType: "mouse", bubbles: true }))`);
  assert.ok((await page.locator("#chart .row").count()) < 60, "only what is seen is in the page");
  assert.match(await page.textContent("#summary"), /10,001/);
  await shot(page, "report-many");
});

await test("prints", graph, {}, async (page) => {
  const pdf = await page.pdf({ format: "A4", path: resolve(shots, "report.pdf") });
  assert.ok(pdf.length > 10000);
  assert.equal(await page.locator("#pages svg").count(), 0, "only paper has pages");
  const tasks = await page.locator("#chart .row").count();
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  await page.setViewportSize({ width: 700, height: 1000 });
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
  assert.ok(tasks > 15);
  assert.equal(await page.locator("#pages .row").count(), tasks);
  assert.ok(!(await page.locator("#rows").isVisible()));
  // None is wider than the page, or too high for one.
  for (const picture of await page.locator("#pages > svg, #graph > svg").all()) {
    const { x, width, height } = await picture.boundingBox();
    assert.ok(x >= 0 && x + width <= 700 && height < 900, `${x}, ${width} × ${height}`);
  }
  await shot(page, "report-printed");
});

await test("prints of very many tasks the first, and says so", many, {}, async (page) => {
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  assert.equal(await page.locator("#pages .row").count(), 180);
  assert.match(await page.textContent("#pages"), /and 9,821 more tasks/);
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  assert.equal(await page.locator("#pages .row").count(), 0);
});

await test("calls a request by its name, and leaves the server that waited for it out of the critical path", server, {}, async (page) => {
  assert.match(await page.textContent("#chart"), /GET \/user\/7/);
  assert.match(await page.textContent("#path"), /user \d+/);
  assert.ok(!(await page.content()).includes("secret"));
});

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
