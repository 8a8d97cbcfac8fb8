// Which page is shown, and new figures for it once a second.

import { get, hasToken, Refused, setToken, whenRefused } from "./api.js";
import { fresh } from "./definition.js";
import { page as detail } from "./detail.js";
import { ask, bytes, h, lasted, rate, say } from "./dom.js";
import { list, page as flows, remember } from "./flows.js";

const EVERY_MS = 1000;
const main = document.getElementById("main");
const link = document.getElementById("link");
const tokenButton = document.getElementById("token");
let shown = null;
let asking = false;
let declined = false;
let timer = 0;

function route() {
  const [kind, name, tab] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  shown?.close();
  shown = kind === "flow" && name ? detail(name, tab, refresh) : kind === "new" ? fresh() : flows(refresh);
  main.replaceChildren(shown.node);
  document.title = `${shown.title} - Ringmain`;
  refresh();
}

/** New figures now, and again in a while. */
async function refresh() {
  clearTimeout(timer);
  if (document.hidden || asking) return;
  const page = shown;
  try {
    const all = await list();
    remember(all);
    await Promise.all([page.update(all), get("api/v1/node").then(node, () => {})]);
    connected(true, "live");
  } catch (error) {
    connected(false, error instanceof Refused ? error.message : "no answer from the daemon");
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, EVERY_MS);
}

function connected(is, text) {
  link.className = `link ${is ? "live" : "broken"}`;
  say(link, text);
}

function node(is) {
  const cores = h("span", { class: "cores" }, is.shards.map((shard) => {
    const bar = h("span", { class: "core" });
    bar.style.height = `${Math.max(8, Math.min(100, shard.cpu_percent))}%`;
    return bar;
  }));
  const busiest = Math.max(0, ...is.shards.map((shard) => shard.cpu_percent));
  const { memory } = is;
  const facts = [
    ["node", [is.name]],
    ["up", [lasted(is.uptime_seconds)]],
    [is.shards.length === 1 ? "1 shard, CPU" : `${is.shards.length} shards, CPU`, [cores, ` ${rate(busiest)} %`]],
    ["memory", [`${bytes(memory.reserved_bytes + memory.grown_bytes)} of ${bytes(memory.budget_bytes)}`]],
    ["version", [is.version]],
  ];
  document.getElementById("node").replaceChildren(...facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));
}

async function enter(why) {
  if (asking) return;
  asking = true;
  tokenButton.hidden = false;
  const answer = await ask({ title: "Token", text: why, yes: "Use it",
    fields: { token: { label: "A token of the daemon's auth file", type: "password", required: false } } });
  asking = false;
  declined = !answer;
  if (answer) setToken(answer.token);
  route();
}

function theme(next) {
  document.documentElement.dataset.theme = next;
  localStorage.setItem("ringmain-theme", next);
}

whenRefused((refused) => declined || enter(hasToken() ? `The token was refused: ${refused.message}` : "The daemon answers only to those who show a token. It is kept until this window is closed."));
tokenButton.addEventListener("click", () => enter("Another token, or none."));
tokenButton.hidden = !hasToken();
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  theme(dark ? "light" : "dark");
});
if (localStorage.getItem("ringmain-theme")) theme(localStorage.getItem("ringmain-theme"));
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
route();
