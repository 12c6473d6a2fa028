// better-all: a participant of the benchmark, run by node with better-all (npm); the workloads are those
// of workloads.lua. Arguments: MODULES WORKLOAD SIZE, where MODULES is the folder that npm installed into.

import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, workload, size] = process.argv.slice(2);
const { all } = createRequire(resolve(modules) + "/")("better-all");

const LEAST_SECONDS = 0.12;

const keys = (count) => Array.from({ length: count }, (_, i) => "t" + String(i + 1).padStart(7, "0"));
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

function wide(size) {
  const count = Number(size);
  const order = keys(count);
  const tasks = {};
  order.forEach((name, i) => {
    tasks[name] = async function () {
      return i + 1;
    };
  });
  const verify = (results) => order.reduce((sum, name) => sum + results[name], 0) === (count * (count + 1)) / 2;
  return { tasks, units: count, verify };
}

// The last task to start is the first of the chain, so that every wait truly suspends.
function chain(size) {
  const count = Number(size);
  const order = keys(count);
  const tasks = {};
  order.forEach((name, i) => {
    const before = order[i + 1];
    tasks[name] = before
      ? async function () {
          return (await this.$[before]) + 1;
        }
      : async function () {
          return 1;
        };
  });
  return { tasks, units: count, verify: (results) => results[order[0]] === count };
}

function layers(size) {
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
        tasks[key] = async function () {
          return i;
        };
      } else {
        const [a, b, c] = [name(layer - 1, i), name(layer - 1, i + 1), name(layer - 1, i * 7 + 3)];
        expected[key] = (expected[a] + expected[b] + expected[c]) % 1000003;
        tasks[key] = async function () {
          return ((await this.$[a]) + (await this.$[b]) + (await this.$[c])) % 1000003;
        };
      }
    }
  }
  const verify = (results) => order.every((key) => results[key] === expected[key]);
  return { tasks, units: depth * width, verify };
}

function dashboard(...names) {
  const made = {
    async config() {
      return 1;
    },
    async user() {
      return 7;
    },
    async profile() {
      return (await this.$.user) * 10;
    },
    async preferences() {
      return (await this.$.user) * 100;
    },
    async dashboard() {
      return (await this.$.profile) + (await this.$.preferences);
    },
  };
  const tasks = {};
  for (const name of names) tasks[name] = made[name];
  return { tasks, units: 1, verify: (results) => results.dashboard === 770 && results.config === 1 };
}

function sleepers(size) {
  const order = keys(Number(size));
  const tasks = {};
  const task = async function () {
    await sleep(0.01);
    return 1;
  };
  for (const name of order) tasks[name] = task;
  return { tasks, units: 1, verify: (results) => order.every((name) => results[name] === 1) };
}

function resting(size) {
  const graph = sleepers(size);
  const task = async function () {
    await sleep(2);
    return 1;
  };
  for (const name in graph.tasks) graph.tasks[name] = task;
  graph.tasks.observer = async function () {
    await sleep(1);
    graph.resident = process.memoryUsage().rss;
    return 1;
  };
  return graph;
}

const make = {
  wide,
  chain,
  layers,
  "dashboard, leaves first": () => dashboard("config", "user", "profile", "preferences", "dashboard"),
  "dashboard, leaves last": () => dashboard("dashboard", "preferences", "profile", "user", "config"),
  sleepers,
  resting,
};

function check(right) {
  if (!right) throw new Error("wrong result");
}

const graph = make[workload](size);

if (workload === "resting") {
  global.gc();
  const before = process.memoryUsage().rss;
  check(graph.verify(await all(graph.tasks)));
  console.log((graph.resident - before) / Number(size));
} else {
  check(graph.verify(await all(graph.tasks)));
  for (let times = 1; ; ) {
    global.gc();
    let results;
    const began = performance.now();
    const worked = process.cpuUsage();
    for (let i = 0; i < times; i++) results = await all(graph.tasks);
    let took = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(worked);
    if (workload !== "sleepers") took = Math.min(took, (user + system) / 1e6); // less what other programs took
    check(graph.verify(results));
    if (took >= LEAST_SECONDS) {
      console.log((took * 1e9) / (times * graph.units));
      break;
    }
    times = Math.max(times * 2, Math.ceil((times * LEAST_SECONDS * 1.2) / took));
  }
}
