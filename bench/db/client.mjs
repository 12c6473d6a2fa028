// client: point reads or small inserts by a number of tasks, with node's better-sqlite3 or pg.
//
//   node bench/db/client.mjs PEERS URL read|insert TASKS COUNT
//
// Prints the seconds that it took and the seconds of processor time.
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [peers, url, work, tasks, count] = process.argv.slice(2);
const require = createRequire(resolve(peers) + "/");

function sqlite(path) {
  const database = new (require("better-sqlite3"))(path);
  database.pragma("foreign_keys = ON");
  database.pragma("synchronous = NORMAL");
  const read = database.prepare("SELECT id, name, score FROM item WHERE id = ?");
  const insert = database.prepare("INSERT INTO note (item, body) VALUES (?, ?)");
  return {
    read: (id) => read.get(id),
    insert: (item, body) => insert.run(item, body).changes,
    close: () => database.close(),
  };
}

function postgres(connectionString) {
  const pool = new (require("pg").Pool)({ connectionString });
  const read = { name: "read", text: "SELECT id, name, score FROM item WHERE id = $1" };
  const insert = { name: "insert", text: "INSERT INTO note (item, body) VALUES ($1, $2)" };
  return {
    read: async (id) => (await pool.query({ ...read, values: [id] })).rows[0],
    insert: async (item, body) => (await pool.query({ ...insert, values: [item, body] })).rowCount,
    close: () => pool.end(),
  };
}

const database = url.startsWith("sqlite:") ? sqlite(url.slice("sqlite:".length)) : postgres(url);

const works = {
  async read(n) {
    const id = ((n * 7919) % 10000) + 1;
    if ((await database.read(id)).id !== id) throw new Error("not that row");
  },
  async insert(n) {
    if ((await database.insert((n % 10000) + 1, "a note of some words")) !== 1) throw new Error("not inserted");
  },
};

async function run(left) {
  const task = async () => {
    while (left > 0) await works[work](--left);
  };
  await Promise.all(Array.from({ length: Number(tasks) }, task));
}

const processor = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

await run(Math.max(tasks, Math.floor(count / 10)));
const began = process.hrtime.bigint();
const used = processor();
await run(Number(count));
console.log(Number(process.hrtime.bigint() - began) / 1e9, processor() - used);
await database.close();
