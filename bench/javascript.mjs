// javascript: better-all, Effect's Effect.all and promises by hand, participants of the benchmark, run by
// node, bun or deno: see workloads.mjs for the arguments.

import { createRequire } from "node:module";
import { resolve } from "node:path";
import process from "node:process";
import { measure } from "./workloads.mjs";

const [modules, name, workload, size] = process.argv.slice(2);
const load = createRequire(resolve(modules) + "/");

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

function betterAll() {
  const { all } = load("better-all");
  return {
    value: (constant) => async () => constant,
    one: (a, fn) =>
      async function () {
        return fn(await this.$[a]);
      },
    two: (a, b, fn) =>
      async function () {
        return fn(await this.$[a], await this.$[b]);
      },
    three: (a, b, c, fn) =>
      async function () {
        return fn(await this.$[a], await this.$[b], await this.$[c]);
      },
    reads: (a, count) =>
      async function () {
        let sum = 0;
        for (let i = 0; i < count; i++) sum += await this.$[a];
        return sum;
      },
    generates: (a, count) =>
      async function () {
        const read = async function* ($) {
          for (let i = 0; i < count; i++) yield await $[a];
        };
        let sum = 0;
        for await (const value of read(this.$)) sum += value;
        return sum;
      },
    sleeper: (seconds) => async () => {
      await sleep(seconds);
      return 1;
    },
    run: (tasks) => all(tasks),
  };
}

// Written by hand, a promise stands before those that await it: the order of start is that of the graph.
function promises() {
  return {
    value: (constant) => async () => constant,
    one: (a, fn) => async (made) => fn(await made[a]),
    two: (a, b, fn) => async (made) => fn(await made[a], await made[b]),
    three: (a, b, c, fn) => async (made) => fn(await made[a], await made[b], await made[c]),
    reads: (a, count) => async (made) => {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += await made[a];
      return sum;
    },
    generates: (a, count) => async (made) => {
      const read = async function* () {
        for (let i = 0; i < count; i++) yield await made[a];
      };
      let sum = 0;
      for await (const value of read()) sum += value;
      return sum;
    },
    sleeper: (seconds) => async () => {
      await sleep(seconds);
      return 1;
    },
    async run(tasks, order) {
      const made = {};
      const names = order[0] === "t0000001" || order[0] === "dashboard" ? order.toReversed() : order;
      for (const name of names) made[name] = tasks[name](made);
      const results = {};
      for (const name of order) results[name] = await made[name];
      return results;
    },
  };
}

// Effect.all starts effects at once; a Deferred a task is how one waits for another.
function effect() {
  const { Effect, Deferred } = load("effect");
  return {
    value: (constant) => () => Effect.succeed(constant),
    one: (a, fn) => (made) => Effect.map(Deferred.await(made[a]), fn),
    two: (a, b, fn) => (made) =>
      Effect.gen(function* () {
        return fn(yield* Deferred.await(made[a]), yield* Deferred.await(made[b]));
      }),
    three: (a, b, c, fn) => (made) =>
      Effect.gen(function* () {
        return fn(yield* Deferred.await(made[a]), yield* Deferred.await(made[b]), yield* Deferred.await(made[c]));
      }),
    reads: (a, count) => (made) =>
      Effect.gen(function* () {
        let sum = 0;
        for (let i = 0; i < count; i++) sum += yield* Deferred.await(made[a]);
        return sum;
      }),
    sleeper: (seconds) => () => Effect.as(Effect.sleep(seconds * 1000), 1),
    cancels(count) {
      const tasks = {};
      const order = Array.from({ length: count }, (_, i) => "t" + i);
      for (const name of order) tasks[name] = () => Effect.sleep(60000);
      tasks[order[count - 1]] = () => Effect.flatMap(Effect.yieldNow, () => Effect.fail("failure"));
      return { tasks, order, units: count, verify: (results) => results === "failure" };
    },
    run(tasks, order) {
      const effects = {};
      const whole = Effect.gen(function* () {
        const made = {};
        for (const name of order) made[name] = yield* Deferred.make();
        for (const name of order) {
          effects[name] = Effect.tap(tasks[name](made), (value) => Deferred.succeed(made[name], value));
        }
        return yield* Effect.all(effects, { concurrency: "unbounded" });
      });
      return Effect.runPromise(workload === "cancel" ? Effect.flip(whole) : whole);
    },
  };
}

await measure({ "better-all": betterAll, promises, effect }[name](), workload, size);
