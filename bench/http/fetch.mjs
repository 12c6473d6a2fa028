// fetch: 20,000 GETs, 64 at a time, with the fetch of node or bun.
const [url] = process.argv.slice(2);
let left = 20000;
const worker = async () => {
  while (left-- > 0) {
    const { message } = await (await fetch(url)).json();
    if (message !== "Hello, World!") throw new Error(message);
  }
};
await Promise.all(Array.from({ length: 64 }, worker));
