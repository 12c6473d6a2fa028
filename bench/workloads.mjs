// workloads: what every JavaScript participant of the benchmark runs, and how it is timed; the workloads
// are those of workloads.lua. A participant is an engine: it makes the tasks, of constants and functions,
//
//   value(constant)  reads(name, count)  one(name, fn)  two(a, b, fn)  three(a, b, c, fn)  sleeper(seconds)
//   generates(name, count), cancels()    missing where it cannot
//   run(tasks, order)                    a promise for the results; `order` is the order of start
//
// Arguments of the command line: MODULES ENGINE WORKLOAD SIZE, where npm installed into MODULES.

const LEAST_SECONDS = 0.06; // that one measurement takes

const keys = (count) => Array.from({ length: count }, (_, i) => "t" + String(i + 1).padStart(7, "0"));

function wide(engine, size) {
  const count = Number(size);
  const order = keys(count);
  const tasks = {};
  order.forEach((name, i) => (tasks[name] = engine.value(i + 1)));
  const verify = (results) => order.reduce((sum, name) => sum + results[name], 0) === (count * (count + 1)) / 2;
  return { tasks, order, units: count, verify };
}

// The last task to start is the first of the chain, so that every wait truly suspends.
function chain(engine, size) {
  const count = Number(size);
  const order = keys(count);
  const tasks = {};
  order.forEach((name, i) => {
    tasks[name] = i + 1 < count ? engine.one(order[i + 1], (value) => value + 1) : engine.value(1);
  });
  return { tasks, order, units: count, verify: (results) => results[order[0]] === count };
}

function layers(engine, size) {
  const [depth, width] = size.split("x").map(Number);
  const order = keys(depth * width);
  const name = (layer, i) => order[(depth - layer) * width + (i % width)];
  const tasks = {};
  const expected = {};
  for (const key of order) tasks[key] = undefined; // fixes the order of start
  for (let layer = 1; layer <= depth; layer++) {
    for (let i = 0; i < width; i++) {
      const key = name(layer, i);
      if (layer === 1) {
        expected[key] = i;
        tasks[key] = engine.value(i);
      } else {
        const [a, b, c] = [name(layer - 1, i), name(layer - 1, i + 1), name(layer - 1, i * 7 + 3)];
        expected[key] = (expected[a] + expected[b] + expected[c]) % 1000003;
        tasks[key] = engine.three(a, b, c, (x, y, z) => (x + y + z) % 1000003);
      }
    }
  }
  const verify = (results) => order.every((key) => results[key] === expected[key]);
  return { tasks, order, units: depth * width, verify };
}

function dashboard(engine, ...order) {
  const made = {
    config: engine.value(1),
    user: engine.value(7),
    profile: engine.one("user", (user) => user * 10),
    preferences: engine.one("user", (user) => user * 100),
    dashboard: engine.two("profile", "preferences", (profile, preferences) => profile + preferences),
  };
  const tasks = {};
  for (const name of order) tasks[name] = made[name];
  return { tasks, order, units: 1, verify: (results) => results.dashboard === 770 && results.config === 1 };
}

function reads(engine, size, how) {
  const count = Number(size);
  const tasks = { a: engine.value(3), b: engine[how]("a", count) };
  return { tasks, order: ["a", "b"], units: count, verify: (results) => results.b === 3 * count };
}

function sleepers(engine, size, seconds = 0.01) {
  const order = keys(Number(size));
  const tasks = {};
  const task = engine.sleeper(seconds);
  for (const name of order) tasks[name] = task;
  return { tasks, order, units: 1, verify: (results) => order.every((name) => results[name] === 1) };
}

const make = {
  wide,
  chain,
  layers,
  "dashboard, leaves first": (engine) => dashboard(engine, "config", "user", "profile", "preferences", "dashboard"),
  "dashboard, leaves last": (engine) => dashboard(engine, "dashboard", "preferences", "profile", "user", "config"),
  generators: (engine, size) => reads(engine, size, "generates"),
  "settled read": (engine, size) => reads(engine, size, "reads"),
  cancel: (engine, size) => engine.cancels(Number(size)),
  sleepers,
  resting: (engine, size) => sleepers(engine, size, 2),
};

function check(right) {
  if (!right) throw new Error("wrong result");
}

const collect = () => (globalThis.Bun ? globalThis.Bun.gc(true) : globalThis.gc());

// Measures the workload and prints one number: nanoseconds a unit, or for "resting" bytes a task.
export async function measure(engine, workload, size) {
  const graph = make[workload](engine, size);
  const run = () => engine.run(graph.tasks, graph.order);

  if (workload === "resting") {
    collect();
    const before = process.memoryUsage().rss;
    let resident;
    setTimeout(() => (resident = process.memoryUsage().rss), 1000);
    check(graph.verify(await run()));
    console.log((resident - before) / Number(size));
    return;
  }
  check(graph.verify(await run()));
  for (let times = 1; ; ) {
    collect();
    let results;
    const began = performance.now();
    const worked = process.cpuUsage();
    for (let i = 0; i < times; i++) results = await run();
    let took = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(worked);
    const spent = (user + system) / 1e6;
    if (workload !== "sleepers" && spent > 0) took = Math.min(took, spent); // less what other programs took
    check(graph.verify(results));
    if (took >= LEAST_SECONDS && (times > 1 || took > 0.2)) {
      console.log((took * 1e9) / (times * graph.units));
      return;
    }
    times = Math.max(times * 2, Math.ceil((times * LEAST_SECONDS * 1.2) / took));
  }
}
