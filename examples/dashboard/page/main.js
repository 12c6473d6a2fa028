// main: draws what useDashboard knows.
import { useDashboard } from "./dashboard.js";

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const day = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: "UTC" });

const milliseconds = (seconds) => Math.round(seconds * 1000) + " ms";

const draw = {
  user: (user) => [element("div", { class: "big" }, user.name), element("div", { class: "quiet" }, user.email)],
  config: (config) => [
    element("dl", {}, element("dt", {}, "Theme"), element("dd", {}, config.theme), element("dt", {}, "Language"), element("dd", {}, config.language)),
  ],
  posts: (posts) => [
    element(
      "ol",
      { class: "posts" },
      ...posts.map((post) => element("li", {}, element("span", {}, post.title), element("time", { datetime: post.created_at }, day.format(new Date(post.created_at))))),
    ),
  ],
  analytics: ({ days, visitors }) => {
    const most = Math.max(...days);
    const chart = svg("svg", {
      class: "bars",
      viewBox: "0 0 " + days.length * 10 + " 100",
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": "visitors a day: " + days.join(", "),
    });
    days.forEach((value, i) => {
      const height = (value / most) * 100;
      const bar = svg("rect", { x: i * 10 + 1, y: 100 - height, width: 8, height, rx: 1 });
      const title = svg("title", {});
      title.append(value + " visitors");
      bar.append(title);
      chart.append(bar);
    });
    const scale = element("div", { class: "scale", "aria-hidden": "true" }, element("span", {}, days.length - 1 + " days ago"), element("span", {}, "today"));
    const most_a_day = element("span", { class: "quiet" }, "at most " + most + " a day");
    return [element("div", { class: "figures" }, element("span", { class: "big" }, visitors.toLocaleString("en")), most_a_day), chart, scale];
  },
};

const skeleton = () => [1, 2, 3].map(() => element("div", { class: "skeleton" }));

const drawCard = (name, card) => {
  const place = document.querySelector(`[data-card="${name}"]`);
  place.dataset.state = card.loading ? "loading" : card.error ? "failed" : "loaded";
  place.setAttribute("aria-busy", card.loading);
  const body = place.querySelector(".body");
  if (card.loading) {
    body.replaceChildren(...skeleton());
  } else if (card.error) {
    const button = element("button", { type: "button", "aria-label": "Try again: " + name }, "Try again");
    button.addEventListener("click", () => {
      place.querySelector("h2").focus(); // for the button goes
      dashboard.retry(name);
    });
    body.replaceChildren(element("p", { class: "failure", role: "alert" }, card.error), button);
  } else {
    body.replaceChildren(...draw[name](card.data));
  }
};

const drawWaterfall = ({ cards }) => {
  const settled = Object.entries(cards).filter(([, card]) => card.times).sort(([, a], [, b]) => a.times.ready - b.times.ready);
  const pending = Object.entries(cards).filter(([, card]) => !card.times && card.loading);
  const end = Math.max(0.001, ...settled.map(([, card]) => card.times.finish));
  const row = (name, bar, time) => element("li", { class: "row" }, element("span", {}, name), bar, element("span", { class: "time" }, time));
  document.querySelector("#waterfall").replaceChildren(
    ...settled.map(([name, { times, error }]) => {
      const part = (kind, from, to) => {
        const span = element("span", { class: kind });
        span.style.left = (from / end) * 100 + "%";
        span.style.width = ((to - from) / end) * 100 + "%";
        return span;
      };
      const took = milliseconds(times.finish - times.start);
      const bar = element("div", { class: error ? "bar failed" : "bar", role: "img" }, part("wait", times.start, times.ready), part("run", times.ready, times.finish));
      bar.setAttribute("aria-label", (times.waited ? "waited for " + times.waited + ", then ran" : "ran") + (error ? ", and failed" : ""));
      return row(name, bar, took);
    }),
    ...pending.map(([name]) => row(name, element("div", { class: "bar pending", role: "img", "aria-label": "under way" }), "…")),
  );
};

const drawStatus = ({ cards, total, lost }) => {
  const all = Object.values(cards);
  const left = all.filter((card) => card.loading).length;
  const failed = all.filter((card) => card.error).length;
  document.querySelector("#status").textContent = left
    ? `Loading, ${left} to come…`
    : lost
      ? "The connection was lost."
      : (total === null ? "Loaded" : "Loaded in " + milliseconds(total)) + (failed ? `, ${failed} failed.` : ".");
};

const dashboard = useDashboard((state, only) => {
  for (const [name, card] of Object.entries(state.cards)) {
    if (!only || only === name) drawCard(name, card);
  }
  drawWaterfall(state);
  drawStatus(state);
});

document.querySelector("#reload").addEventListener("click", dashboard.load);
dashboard.load();
