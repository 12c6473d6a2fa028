// server: the server of the HTTP benchmark with better-all, on node's http or on bun's own server.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { resolve } from "node:path";

const { all } = createRequire(resolve(process.argv[2]) + "/")("better-all");

const routes = {
  "/plain": async () => ({ message: "Hello, World!" }),
  "/dashboard": () =>
    all({
      config: async () => "dark",
      user: async () => 7,
      async profile() {
        return "profile " + (await this.$.user);
      },
      async preferences() {
        return "preferences " + (await this.$.user);
      },
      async dashboard() {
        return (await this.$.profile) + ", " + (await this.$.preferences) + ", " + (await this.$.config);
      },
    }),
};

if (globalThis.Bun) {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => Response.json(await routes[new URL(request.url).pathname]()),
  });
  console.log(server.port);
} else {
  const server = createServer(async (request, response) => {
    const body = JSON.stringify(await routes[new URL(request.url, "http://x").pathname]());
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
    response.end(body);
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}
