// The table of all flows.

import { flow as path, get, send } from "./api.js";
import { columns } from "./columns.js";
import { arrange, ask, count, h, heat, menu, rate, say, svg, time, toast } from "./dom.js";

const COLUMNS = [
  { key: "name", label: "Flow", width: 160, sortable: true },
  { key: "status", label: "Status", width: 118, sortable: true },
  { key: "throughput_in", label: "In/s", width: 146, sortable: true, number: true },
  { key: "throughput_out", label: "Out/s", width: 76, sortable: true, number: true },
  { key: "backpressure_percent", label: "Backpressure", width: 138, sortable: true, number: true },
  { key: "runners", label: "Runners", width: 82, sortable: true, number: true },
  { key: "rejected", label: "Rejected", width: 86, sortable: true, number: true },
  { key: "creator", label: "Creator", width: 122, sortable: true },
  { key: "schedule", label: "Schedule", width: 130 },
  { key: "settings", label: "Settings", width: 168 },
];

const WORDS = { deployed: "good", deploying: "warm", partial: "warm", failed: "hot", error: "hot" };
const SAMPLES = 60;

/** Rates of the last minute, by flow. */
const history = new Map();

/** What a flow's status looks like; the word is always there. */
export const badge = (status) =>
  h("span", { class: `badge ${WORDS[status] ?? "calm"}` }, status ?? "unknown");

/** Keeps what sparklines are drawn of. */
export function remember(flows) {
  for (const flow of flows) {
    const samples = history.get(flow.name) ?? [];
    samples.push(flow.throughput_in);
    if (samples.length > SAMPLES) samples.shift();
    history.set(flow.name, samples);
  }
  for (const name of history.keys()) if (!flows.some((flow) => flow.name === name)) history.delete(name);
}

/** The last minute of a flow's rate. */
export function spark(name, width = 56, height = 20) {
  const samples = history.get(name) ?? [];
  const most = Math.max(...samples, 1);
  const at = (sample, n) =>
    `${(width - (samples.length - 1 - n) * (width / (SAMPLES - 1))).toFixed(1)},${(height - 2 - (sample / most) * (height - 4)).toFixed(1)}`;
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    svg("polyline", { points: samples.map(at).join(" ") }));
}

/** A bar for backpressure, with its number. */
export function pressure(percent) {
  const fill = h("span", { class: `fill ${heat(percent)}` });
  fill.style.width = `${Math.min(100, percent)}%`;
  return h("span", { class: "pressure" }, h("span", { class: "track", "aria-hidden": "true" }, fill),
    h("span", { class: `percent ${heat(percent)}` }, `${rate(percent)} %`));
}

/** When a flow runs, if that is not always, and when it last did. */
export function when(flow) {
  if (!flow.schedule) return runs(flow) ? "always" : "";
  const next = flow.next_run && `next ${time(flow.next_run)}`;
  const last = flow.last_run && `last ${time(flow.last_run)} (${flow.last_result ?? "running"})`;
  return [flow.schedule, next, last].filter(Boolean).join(", ");
}

/** Whether it is at work. */
export const runs = (flow) => flow.runners > 0;

const done = (report) => toast(`${report.flows.join(", ") || "flows"}: ${report.action} in ${report.duration_ms} ms`);
const failed = (error) => toast([error.message, ...(error.errors ?? [])].join("\n"), "hot");

/** Obeys a button; `after` is called when it is done. */
export async function change(action, flow, after) {
  const { name } = flow;
  const questions = {
    start: null,
    stop: { title: `Stop ${name}?`, text: "It takes no more in, what is under way is delivered, then its connections are closed.", yes: "Stop flow" },
    delete: { title: `Delete ${name}?`, text: "It is stopped and forgotten, with all its versions. This cannot be undone.", yes: "Delete flow", danger: true },
    clone: { title: `Clone ${name}`, text: "The copy is stored and does not run yet: two flows cannot listen at one address.", yes: "Clone flow",
      fields: { to: { label: "Name of the copy", value: `${name}-copy` } } },
  };
  const answer = questions[action] ? await ask(questions[action]) : {};
  if (!answer) return;
  try {
    const asked = {
      start: () => send("POST", path(name, "/start")),
      stop: () => send("POST", path(name, "/stop")),
      delete: () => send("DELETE", path(name)),
      clone: () => send("POST", path(name, `/clone?to=${encodeURIComponent(answer.to)}`)),
    };
    done(await asked[action]());
    after(action);
  } catch (error) {
    failed(error);
  }
}

/** The page. `live` is called with new figures; `close` when one goes away. */
export function page(refresh) {
  let flows = [];
  let [key, down] = ["name", false];
  const rows = new Map();
  const body = h("tbody", {});
  const table = columns(COLUMNS, (by) => {
    [key, down] = [by, key === by ? !down : typeof flows[0]?.[by] === "number"];
    draw();
  });
  const filter = h("input", { type: "search", placeholder: "Filter flows  ( / )", "aria-label": "Filter flows", oninput: () => draw() });
  const summary = h("span", { class: "soft" });
  const empty = h("p", { class: "empty", hidden: true });

  const row = (flow) => {
    const cells = COLUMNS.map((c) => h(c.key === "name" ? "th" : "td", { scope: c.key === "name" ? "row" : null, class: c.number ? "number" : "", "data-key": c.key }));
    const tr = h("tr", { "data-flow": flow.name }, cells);
    const of = Object.fromEntries(COLUMNS.map((c, at) => [c.key, cells[at]]));
    of.name.append(h("a", { href: `#/flow/${encodeURIComponent(flow.name)}` }, flow.name));
    const button = (label, action, danger) => h("button", { type: "button", class: danger ? "danger" : "",
      "aria-label": `${label} ${flow.name}`, onclick: () => change(action, entry.flow, refresh) }, label);
    const link = (label, tab) => h("a", { class: "button", href: `#/flow/${encodeURIComponent(flow.name)}/${tab}` }, label);
    const toggle = h("button", { type: "button", class: "small", onclick: () => change(runs(entry.flow) ? "stop" : "start", entry.flow, refresh) });
    const edit = h("a", { class: "button small", href: `#/flow/${encodeURIComponent(flow.name)}/definition`, "aria-label": `Edit ${flow.name}` }, "Edit");
    const more = menu(`More of ${flow.name}`, [link("See details", "overview"), link("Tap", "tap"), link("Dead letters", "dead"),
      link("Schedule", "schedule"), button("Clone", "clone"), button("Delete", "delete", true)]);
    of.settings.append(h("div", { class: "buttons" }, toggle, edit, more));
    const rejected = h("a", { href: `#/flow/${encodeURIComponent(flow.name)}/dead`, "aria-label": `Dead letters of ${flow.name}` });
    of.rejected.append(rejected);
    const entry = { tr, of, toggle, rejected, flow };
    return entry;
  };

  const fill = (entry, flow) => {
    const { of, toggle, rejected } = entry;
    entry.flow = flow;
    if (of.status.textContent !== flow.status) of.status.replaceChildren(badge(flow.status));
    of.throughput_in.replaceChildren(spark(flow.name), h("span", {}, rate(flow.throughput_in)));
    say(of.throughput_out, rate(flow.throughput_out));
    of.backpressure_percent.replaceChildren(pressure(flow.backpressure_percent));
    say(of.runners, count(flow.runners));
    say(rejected, count(flow.rejected));
    of.rejected.classList.toggle("warm", flow.rejected > 0);
    say(of.creator, flow.creator);
    say(of.schedule, when(flow));
    of.schedule.title = when(flow);
    say(toggle, runs(flow) ? "Stop" : "Start");
    toggle.setAttribute("aria-label", `${runs(flow) ? "Stop" : "Start"} ${flow.name}`);
    entry.tr.classList.toggle("rests", !runs(flow));
  };

  const compare = (a, b) => {
    const [x, y] = [a[key] ?? "", b[key] ?? ""];
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return (down ? -order : order) || a.name.localeCompare(b.name);
  };

  const draw = () => {
    const wanted = filter.value.trim().toLowerCase();
    const shown = flows.filter((flow) => [flow.name, flow.status, flow.creator].join(" ").toLowerCase().includes(wanted)).sort(compare);
    for (const name of rows.keys()) if (!flows.some((flow) => flow.name === name)) rows.delete(name);
    const trs = shown.map((flow) => {
      if (!rows.has(flow.name)) rows.set(flow.name, row(flow));
      const entry = rows.get(flow.name);
      fill(entry, flow);
      return entry.tr;
    });
    arrange(body, trs);
    table.sorted(key, down);
    const sum = (of) => flows.reduce((total, flow) => total + flow[of], 0);
    say(summary, `${flows.filter(runs).length} of ${flows.length} at work, ${rate(sum("throughput_in"))} messages/s in, ${rate(sum("throughput_out"))} out`);
    empty.hidden = shown.length > 0;
    say(empty, flows.length ? "No flow matches the filter." : "There are no flows yet. Put one in with New flow, or into the daemon's folder of flows.");
  };

  const node = h("section", { "aria-labelledby": "flows-title" },
    h("div", { class: "head" }, h("h1", { id: "flows-title" }, "Flows"), summary, h("span", { class: "grow" }), filter,
      h("a", { class: "button", href: "#/new" }, "New flow")),
    h("div", { class: "card scroll" },
      h("table", { class: "flows" }, h("caption", { class: "hidden" }, "All flows of this daemon"), table.group, table.head, body), empty));
  table.settle();
  const onKey = (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select, dialog")) {
      event.preventDefault();
      filter.focus();
    }
  };
  document.addEventListener("keydown", onKey);
  return {
    node, title: "Flows", update: (all) => { flows = all; draw(); },
    close: () => document.removeEventListener("keydown", onKey),
  };
}

/** All flows, now. */
export const list = () => get("api/v1/flows");
