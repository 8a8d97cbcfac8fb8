// One flow: what it does now, and everything about it in tabs.

import { flow as path, get, Refused } from "./api.js";
import { dead } from "./dead.js";
import { definition } from "./definition.js";
import { arrange, bytes, count, h, rate, say, time } from "./dom.js";
import { badge, change, pressure, runs, spark, when } from "./flows.js";
import { graph } from "./graph.js";
import { schedule } from "./schedule.js";
import { scripts } from "./scripts.js";
import { tap } from "./tap.js";

const TABS = [["overview", "Overview"], ["tap", "Tap"], ["dead", "Dead letters"], ["scripts", "Scripts"], ["schedule", "Schedule"], ["definition", "Definition"]];

const FIGURES = [
  ["Messages in", (c) => count(c.messages_in)],
  ["Messages out", (c) => count(c.messages_out)],
  ["Dropped", (c) => count(c.dropped) + (c.dropped_full ? ` (${count(c.dropped_full)} by a full edge)` : "")],
  ["Refused", (c) => count(c.dead)],
  ["Bytes in", (c) => bytes(c.bytes_in)],
  ["Bytes out", (c) => bytes(c.bytes_out)],
  ["Rate in", (c) => `${rate(c.rate_in)}/s`],
  ["Rate out", (c) => `${rate(c.rate_out)}/s`],
  ["Pull latency", (c) => latency(c)],
];

function latency(component) {
  const us = component.pull_latency_us;
  if (us === undefined || us === null) return "";
  return us >= 1000 ? `${rate(us / 1000)} ms` : `${rate(us)} µs`;
}

/** The page of a flow. */
export function page(name, tab, refresh) {
  let flow = null;
  let picked = null;
  let open = null;
  const badgeAt = h("span", {});
  const facts = h("p", { class: "soft" });
  const toggle = h("button", { type: "button", onclick: () => change(runs(flow) ? "stop" : "start", flow, refresh) });
  const act = (label, action, danger) => h("button", { type: "button", class: danger ? "danger" : "", onclick: () =>
    change(action, flow, (did) => (did === "delete" ? (location.hash = "#/") : refresh())) }, label);
  // Nothing can be done to a flow that has not answered yet.
  const actions = h("div", { class: "row", hidden: true }, toggle, act("Clone", "clone"), act("Delete", "delete", true));
  const errors = h("div", { class: "errors", hidden: true, role: "alert" });
  const tiles = h("div", { class: "tiles" });
  const tabs = h("div", { class: "tabs", role: "tablist", hidden: true, "aria-label": "About the flow" });
  const panel = h("div", { role: "tabpanel", id: "panel", tabindex: "-1" });

  const pick = (component) => {
    picked = picked === component ? null : component;
    draw();
  };
  const picture = graph(pick);
  const body = h("tbody", {});
  const about = h("aside", { class: "card pad about", hidden: true, "aria-label": "Component" });
  const overview = h("div", {},
    h("div", { class: "card" }, picture.node), about,
    h("div", { class: "card scroll spaced" }, h("table", {}, h("caption", { class: "hidden" }, "Components"),
      h("thead", {}, h("tr", {}, ["Component", "Health", "In/s", "Out/s", "In", "Out", "Dropped", "Refused"].map((label, at) =>
        h("th", { scope: "col", class: at > 1 ? "number" : "" }, label)))), body)));

  const show = (next) => {
    open?.close?.();
    open = null;
    tabs.querySelectorAll("[role=tab]").forEach((button) => {
      const is = button.dataset.tab === next;
      button.setAttribute("aria-selected", String(is));
      button.tabIndex = is ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${next}`);
    if (next === "overview") return panel.replaceChildren(overview);
    const make = { tap, dead, scripts, schedule, definition }[next];
    open = make(flow, { component: picked, refresh });
    return panel.replaceChildren(open.node);
  };
  const go = (next) => {
    history.replaceState(null, "", `#/flow/${encodeURIComponent(name)}/${next}`);
    show(next);
  };
  for (const [key, label] of TABS) {
    tabs.append(h("button", { type: "button", role: "tab", id: `tab-${key}`, "data-tab": key, "aria-controls": "panel", onclick: () => go(key) }, label));
  }
  tabs.addEventListener("keydown", (event) => {
    const at = TABS.findIndex(([key]) => key === document.activeElement.dataset.tab);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) {
      const next = TABS[(at + by + TABS.length) % TABS.length][0];
      go(next);
      tabs.querySelector(`[data-tab=${next}]`).focus();
    }
  });

  const rows = new Map();
  const row = (component) => {
    const cells = Array.from({ length: 8 }, (_, at) => h(at ? "td" : "th", { scope: at ? null : "row", class: at > 1 ? "number" : at ? "wrap" : "" }));
    cells[0].append(h("button", { type: "button", class: "plain", onclick: () => pick(component.name) }, component.name), h("span", { class: "role" }, component.role));
    return { cells, tr: h("tr", {}, cells) };
  };

  const draw = () => {
    badgeAt.replaceChildren(badge(flow.status));
    say(facts, [flow.file ? `from ${flow.file}` : "put in over the API", `by ${flow.creator}`, `since ${time(flow.created)}`, when(flow)].filter(Boolean).join(" · "));
    say(toggle, runs(flow) ? "Stop" : "Start");
    errors.hidden = !flow.errors.length;
    say(errors, flow.errors.join("\n"));
    const tile = (label, ...value) => h("div", { class: "card tile" }, h("span", { class: "soft" }, label), h("strong", {}, value));
    tiles.replaceChildren(
      tile("In/s", rate(flow.throughput_in), spark(name, 90, 26)), tile("Out/s", rate(flow.throughput_out)),
      tile("Backpressure", pressure(flow.backpressure_percent)), tile("Runners", count(flow.runners)),
      tile("Rejected", count(flow.rejected)), tile("Memory", bytes(flow.memory_bytes)));
    picture.update(flow, picked);
    for (const key of rows.keys()) if (!flow.components.some((c) => c.name === key)) rows.delete(key);
    const trs = flow.components.map((c) => {
      if (!rows.has(c.name)) rows.set(c.name, row(c));
      const { cells, tr } = rows.get(c.name);
      cells[1].replaceChildren(h("span", { class: `health ${c.health}` }, c.health), c.health_detail ? h("span", { class: "soft detail" }, c.health_detail) : "");
      [c.rate_in, c.rate_out].forEach((n, at) => say(cells[2 + at], rate(n)));
      [c.messages_in, c.messages_out, c.dropped, c.dead].forEach((n, at) => say(cells[4 + at], count(n)));
      tr.classList.toggle("picked", c.name === picked);
      return tr;
    });
    arrange(body, trs);
    detail();
    open?.update?.(flow);
  };

  const detail = () => {
    const c = flow.components.find((component) => component.name === picked);
    about.hidden = !c;
    if (!c) return;
    if (about.dataset.component !== c.name) {
      about.dataset.component = c.name;
      about.replaceChildren(
        h("div", { class: "row" }, h("h2", {}, c.name), h("span", { class: "role" }, c.role), h("span", { class: "grow" }),
          h("button", { type: "button", class: "small", onclick: () => go("tap") }, "Tap here"),
          h("button", { type: "button", class: "small", onclick: () => pick(c.name), "aria-label": "Close details" }, "Close")),
        h("p", { class: "error" }), h("dl", { class: "figures" }));
    }
    say(about.querySelector(".error"), c.health_detail ?? "");
    const reasons = Object.entries(c.dead_by_reason).filter(([, n]) => n).map(([reason, n]) => [`Refused: ${reason}`, count(n)]);
    const list = [...FIGURES.map(([label, of]) => [label, of(c)]).filter(([, value]) => value !== ""), ...reasons];
    about.querySelector("dl").replaceChildren(...list.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));
  };

  const node = h("section", { "aria-labelledby": "flow-title" },
    h("nav", { "aria-label": "Way back" }, h("a", { href: "#/" }, "Flows"), h("span", { class: "soft" }, " / ")),
    h("div", { class: "head" }, h("h1", { id: "flow-title" }, name), badgeAt, h("span", { class: "grow" }), actions),
    facts, errors, tiles, tabs, panel);

  const update = async () => {
    try {
      flow = await get(path(name));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      node.replaceChildren(h("p", { class: "empty" }, `There is no flow '${name}' any more. `, h("a", { href: "#/" }, "All flows")));
      return;
    }
    const first = panel.childElementCount === 0;
    actions.hidden = tabs.hidden = false;
    draw();
    if (first) show(TABS.some(([key]) => key === tab) ? tab : "overview");
  };
  return { node, title: name, update, close: () => open?.close?.() };
}
